/* Steps shared by outbox*.c. For cache/ only. */
#ifndef CACHET_CACHE_OUTBOX_PRIV_H
#define CACHET_CACHE_OUTBOX_PRIV_H

#include "cache/fold_priv.h"
#include "cache/outbox.h"

/*
 * A row in flight is frozen, and so are the attributes that were sent with it: kind, mode and time
 * stand as text in other_etag of PUT and ATTR rows, which name no other record; behind them the mark
 * of fold_row_has_mode().
 */
struct outbox_frozen {
	uint32_t mode; /* with S_IFMT */
	int64_t mtime_ns;
};
void outbox_freeze(struct op_row *row, const struct object_row *o);
bool outbox_thaw(const struct op_row *row, struct outbox_frozen *out);

/* The operation as it would be sent now (QUEUED) or was (INFLIGHT). */
int outbox_fill(struct volume *v, const struct op_row *row, struct outbox_op *op) MUST_CHECK;

/* The origin has done `row` and now has `record` (NULL for DELETE). Inside the transaction. */
int outbox_ack_row(
	struct volume *v, const struct op_row *row, const struct remote_record *record) MUST_CHECK;
/* The other record of a swap of ours, as the feed has it. */
int outbox_ack_shadow(struct volume *v, const struct op_row *shadow,
	const struct remote_record *record) MUST_CHECK;
/* Later rows of the record are based on `etag` now. */
int outbox_rebase(struct volume *v, uint64_t store, const char *rid, const char *etag) MUST_CHECK;

/* A deletion that the brake held (outbox_brake.c) is queued again and passes. */
int outbox_brake_confirm(struct volume *v, struct op_row *row) MUST_CHECK;

#endif
