/*
 * Journal rows, one record's at a time. For fold*.c, outbox*.c and remote*.c. Inside the
 * transaction.
 *
 * A row about two records (a MOVE that replaces another, a SWAP) has a shadow behind it (seq + 1):
 * a row of the same kind under the other record's id, never sent, with the seq of its row in `name`
 * (0 in all others). It makes the other record pending, and goes with its row. That of a SWAP has
 * the place the other record goes to, and outlives its row: the answer to a swap tells one record's
 * ETag, the other's comes with the feed, and until then nothing that is based on it can be sent.
 */
#ifndef CACHET_CACHE_FOLD_PRIV_H
#define CACHET_CACHE_FOLD_PRIV_H

#include "cache/volume_priv.h"

struct fold_rows {
	struct op_row *rows;
	size_t n;
};
void fold_rows_done(struct fold_rows *rows);
#define _cleanup_rows_ _cleanup_(fold_rows_done)
/* All rows of a record, in order. */
int fold_rows_get(
	struct volume *v, uint64_t store, const char *rid, struct fold_rows *out) MUST_CHECK;

bool fold_row_is_shadow(const struct op_row *op);
/* A PUT that makes its record (its place is in r_parent, r_name). */
bool fold_row_is_make(const struct op_row *op);
/* Has another record, or is the shadow of a row that has. */
bool fold_row_is_double(const struct op_row *op);

/* Of a PUT or ATTR: the mode was set here since the state it is based on, and is part of what it
 * brings. Otherwise it is sent as it was, and the origin's counts. The mark ends other_etag, behind
 * what the row was frozen with. */
bool fold_row_has_mode(const struct op_row *op);
void fold_row_mark_mode(struct op_row *op);

/* A fresh row, key drawn, not inserted. */
void fold_row_init(struct op_row *op, enum op_kind kind, uint64_t store, const char *rid,
	uint64_t object, const struct row_etag *base);
/* QUEUED with a new key, as if never sent; the snapshot goes. */
int fold_row_renew(struct volume *v, struct op_row *op) MUST_CHECK;
/* The row, its snapshot and its shadow (given the shadow, its row). */
int fold_row_delete(struct volume *v, const struct op_row *op) MUST_CHECK;
/* A row about two records becomes a plain one of its own, as if never sent. */
int fold_row_single(struct volume *v, struct op_row *op) MUST_CHECK;
/* The other record of a row that is given up is deleted all the same: its name here was replaced.
 */
int fold_row_delete_other(struct volume *v, const struct op_row *op) MUST_CHECK;
/* All rows of a record go, and of those about two the other record gets what is left for it: what was replaced is
 * deleted, what was exchanged moves alone. */
int fold_rows_give_up(struct volume *v, const struct fold_rows *rows) MUST_CHECK;
/* The exchange is off (its row is gone): the other record moves to its place here alone. */
int fold_swap_alone(struct volume *v, const struct op_row *op) MUST_CHECK;
/* All rows of a record go. */
int fold_rows_clear(struct volume *v, uint64_t store, const char *rid) MUST_CHECK;
/* A row and its shadow. op->seq is that of the row. */
int fold_row_double(struct volume *v, struct op_row *op, uint64_t other_object,
	const struct row_rid *other_parent, const struct row_filename *other_name) MUST_CHECK;

void fold_row_place(
	struct op_row *op, const struct row_rid *parent, const struct row_filename *name);

/* A name that nobody has, for a record that waits for its place: `.cachet-WHY-…` */
int fold_row_nowhere(struct row_filename *out, const char *why) MUST_CHECK;
/* Queues a MOVE. */
int fold_move_row(struct volume *v, const struct name_row *n, const struct row_rid *parent,
	const struct row_filename *name) MUST_CHECK;

/* Whether an origin may have such a thing under such a name. */
bool fold_can_stand(const struct object_row *o, const struct row_filename *name);
/* The parent's id when a record at that place is seen by an origin, else "". */
int fold_place_parent(struct volume *v, const struct object_row *o, uint64_t parent,
	const struct row_filename *name, struct row_rid *out) MUST_CHECK;

/* What the rows of a record say about it. */
struct fold_summary {
	bool inflight, doubled, moved;
	const struct op_row *make; /* not in flight */
};

void fold_summarize(const struct fold_rows *rows, struct fold_summary *s);
bool fold_never_sent(const struct name_row *n, const struct fold_summary *s);
int fold_rows_delete(struct volume *v, const struct fold_rows *rows) MUST_CHECK;
/* Directories that were never sent and in which these rows make or move their record: they must
 * stay when they are deleted (rule 2). */
int fold_mark_parents(struct volume *v, const struct fold_rows *rows) MUST_CHECK;

/* Queues PUT `n` as a new record at its place; its id is drawn, its origin columns are cleared. The
 * row of n is the caller's to write. */
int fold_make_at(struct volume *v, struct name_row *n, const struct object_row *o,
	const struct row_rid *parent, const struct row_filename *name) MUST_CHECK;
/* What an origin does not see. */
void fold_forget(struct name_row *n);
/* A record of its own, with a new id, that the origin has not seen yet. */
void fold_fresh(struct name_row *n);
/* Content, mode of one record. */
int fold_mode_record(struct volume *v, const struct name_row *n) MUST_CHECK;
int fold_put_record(struct volume *v, const struct name_row *n) MUST_CHECK;

/*
 * The record of directory or file `n` is gone at the origin, and stays here: it is made again under
 * a new id, and what is queued inside refers to that. Writes the name row.
 */
int fold_revive(struct volume *v, struct name_row *n, const struct object_row *o) MUST_CHECK;
/* Record `n`, which has no rows, is made where it stands, behind everything; what is queued inside
 * of `old`, its former id or its own, goes into it. */
int fold_make_again(struct volume *v, const struct name_row *n, const struct object_row *o,
	const char *old, const struct row_rid *parent) MUST_CHECK;
/* The never-sent directory `n` is record `rid` of the origin: its rows go, what is queued inside
 * refers to that. The name row is the caller's. */
int fold_adopt(struct volume *v, struct name_row *n, const char *rid) MUST_CHECK;
/* `n` was renamed in its directory to a name nobody has (a conflict copy): its rows follow. n->name
 * is the new one. */
int fold_aside(struct volume *v, struct name_row *n) MUST_CHECK;

#endif
