/*
 * The rules of the protocol: what a change does to a store (docs/protocol.md, "Calls" and "Rules").
 *
 * server_apply() first looks whether the idempotency key was answered before. Otherwise it checks
 * everything, and writes only when nothing can refuse the change any more: a refused change has
 * written nothing, so no savepoint is needed.
 *
 * Returns 0 with c->out filled, also when the change was refused. A negative code means the
 * transaction cannot go on (no space, I/O error): the caller rolls it back.
 */
#ifndef CACHET_SERVER_APPLY_H
#define CACHET_SERVER_APPLY_H

#include "server/change.h"
#include "server/tx.h"

int server_apply(struct tx *tx, struct change *c) MUST_CHECK;

/* All in order; a change that comes `after` a failed one is answered 424 and not tried. */
int server_apply_list(struct tx *tx, struct change *changes, size_t n) MUST_CHECK;

/* Fills c->out with a problem. */
int server_apply_refuse(const char *instance, struct change *c, enum problem p, const char *detail,
	const struct record *record) MUST_CHECK;

#endif
