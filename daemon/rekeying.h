/*
 * The request `rekey` and what `status` says of it.
 *
 *     rekey {start?, force?, wait_ms?}   "active", "epoch", "last_rotated_at", "done_bytes",
 *                                        "total_bytes", "damaged", "error"
 *
 * Without a daemon it waits for the end, whatever `wait_ms` says.
 */
#ifndef CACHET_DAEMON_REKEYING_H
#define CACHET_DAEMON_REKEYING_H

#include "base/json.h"
#include "base/macros.h"
#include "daemon/requests.h"

struct volume;

void rekeying_report(struct volume *v, struct json *out);
/* *error: a sentence (the caller frees). */
int rekeying_answer(struct daemon_state *d, const struct json *in,
	const struct requests_caller *caller, struct json *out, char **error) MUST_CHECK;

#endif
