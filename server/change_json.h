/* Changes out of JSON: the members of a PATCH body and of an operation in a batch. What is wrong
 * refuses the change. */
#ifndef CACHET_SERVER_CHANGE_JSON_H
#define CACHET_SERVER_CHANGE_JSON_H

#include "base/json.h"
#include "server/change.h"

/* parent, name, mode, mtime_ns, replaces, swap. */
void server_change_json_attributes(struct change *c, const struct json *object);

/* A whole operation; c is initialised, `device` known. Its content is taken into c->body and
 * finished. */
int server_change_json_operation(struct change *c, const struct json *op, size_t index) MUST_CHECK;

#endif
