/*
 * Whether a request is let in: what can be said from its header alone. In this order: form of the
 * header (sizes, duplicates, framing), token, address, method, store and right, declared length.
 */
#ifndef CACHET_SERVER_ADMIT_H
#define CACHET_SERVER_ADMIT_H

#include "server/http.h"

#define ADMIT_LENGTH_UNKNOWN UINT64_MAX

/*
 * Sets r->route, r->headers, r->access, r->store, r->id, or refuses r. *length: the declared length
 * of the body, 0 when there is none, ADMIT_LENGTH_UNKNOWN when it is chunked.
 */
void server_admit(struct request *r, const char *method, const char *url, uint64_t *length);

#endif
