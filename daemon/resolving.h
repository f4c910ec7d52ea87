/* `resolve`: a person settles a conflict (cache/merge.h). Inside the requests of an open volume. */
#ifndef CACHET_DAEMON_RESOLVING_H
#define CACHET_DAEMON_RESOLVING_H

#include "base/json.h"
#include "base/macros.h"

struct daemon_state;

/* {id, pick?, content?}: pick is both (the default), ours, theirs or merged; content is the base64
 * of the last. *sentence is set where the code alone does not say it. */
int resolving_run(struct daemon_state *d, const struct json *in, const char **sentence) MUST_CHECK;

#endif
