/*
 * The origin has done it. What it answered is what the record is now: later rows are based on it,
 * and content that is wholly there may be evicted (its map gets the ETag).
 */
#include "cache/outbox_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/merge_base.h"
#include "cache/remote_priv.h"
#include "cache/tree_priv.h"

int outbox_rebase(struct volume *v, uint64_t store, const char *rid, const char *etag)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	int r = fold_rows_get(v, store, rid, &rows);

	if (!r)
		r = merge_base_renamed(v, store, rid, etag);
	for (size_t i = 0; !r && i < rows.n; i++) {
		struct op_row *op = &rows.rows[i];

		if (fold_row_is_shadow(op) || op->state == OP_INFLIGHT)
			continue;
		snprintf(op->base_etag.text, sizeof(op->base_etag.text), "%s", etag);
		r = op_update(v->db, op);
	}
	return r;
}

static int find_put(void *arg, const struct op_row *op)
{
	bool *found = arg;

	*found |= op->kind == OP_PUT;
	return *found ? 1 : 0;
}

/* Content without a PUT that is still to come is the origin's, too. */
static int content_is_there(
	struct volume *v, const struct name_row *n, const char *old_etag, bool put)
{
	struct object_row o;
	bool pending = false;
	int r = object_get(v->db, n->object, &o);

	if (r)
		return r == -ENOENT ? 0 : r;
	if (*old_etag)
		r = tree_row_map_etag(v, &o, old_etag, n->etag.text);
	if (r || !put)
		return r;
	r = op_each_of_object(v->db, o.id, find_put, &pending);
	if (r < 0 || pending)
		return MIN_OF(r, 0);
	return tree_row_map_etag(v, &o, "", n->etag.text);
}

/* It still waits for its place, and the deferred entry that would bring it there is overtaken;
 * unless it is of what somebody did since. */
static int wait_for_place(struct volume *v, const struct op_row *row,
	const struct remote_record *rec, struct name_row *n)
{
	_cleanup_free_ char *text = NULL;
	uint64_t seq = 0;
	int r = remote_stale_seq(v, row->store, rec->id, &seq);

	if (r && r != -ENOENT)
		return r;
	remote_record_unplaced(n);
	r = name_update(v->db, n);
	if (r || (seq > rec->seq && seq != REMOTE_PARK_SEQ))
		return r;
	r = remote_record_print(rec, &text);
	return r ? r : deferred_put(v->db, row->store, rec->id, DEFERRED_BUSY, rec->parent, text);
}

static int ack_name(struct volume *v, const struct op_row *row, const struct remote_record *rec)
{
	struct store_row s;
	struct name_row n;
	struct row_etag old;
	bool unplaced;
	int r = name_by_rid(v->db, row->store, row->rid.text, &n);

	if (r)
		return r == -ENOENT ? 0 : r;
	r = store_get(v->db, row->store, &s);
	if (r)
		return r;
	/* Of a name that waits for its place the ETag says only that: its content has that of the
	 * state the row was based on. */
	old = remote_record_is_unplaced(&n) ? row->base_etag : n.etag;
	unplaced = n.parent == TREE_NOWHERE ||
		   (remote_record_is_unplaced(&n) && (row->kind == OP_PUT || row->kind == OP_ATTR));
	remote_record_onto_name(rec, &n);
	n.seen = s.listing;
	r = name_update(v->db, &n);
	if (!r)
		r = content_is_there(v, &n, old.text, row->kind == OP_PUT);
	return r || !unplaced ? r : wait_for_place(v, row, rec, &n);
}

/* Of a swap the answer has one record. The other's place is known; its shadow waits for the feed,
 * unless that was faster. */
static int ack_swap(struct volume *v, const struct op_row *row, const struct remote_record *rec)
{
	bool newer = false;
	struct op_row shadow;
	struct name_row other;
	int r = op_get(v->db, row->seq + 1, &shadow);

	if (r)
		return r == -ENOENT ? 0 : r;
	r = name_by_rid(v->db, row->store, row->other_rid.text, &other);
	if (!r) {
		other.r_parent = shadow.r_parent;
		other.r_name = shadow.r_name;
		r = name_update(v->db, &other);
	}
	if (r && r != -ENOENT)
		return r;
	r = remote_stale_newer(v, row->store, row->other_rid.text, rec->seq, &newer);
	if (r || newer)
		return r ? r : op_delete(v->db, shadow.seq);
	memcpy(shadow.key, row->key, sizeof(shadow.key));
	shadow.state = OP_INFLIGHT;
	return op_update(v->db, &shadow);
}

int outbox_ack_shadow(
	struct volume *v, const struct op_row *shadow, const struct remote_record *rec)
{
	int r = op_delete(v->db, shadow->seq);

	if (r)
		return r;
	remote_stale_note(v, shadow->store, shadow->rid.text, rec->seq);
	/* The feed's word of the time before the swap would undo it after a restart. */
	r = remote_stale_drop(v, shadow->store, shadow->rid.text, rec->seq);
	if (!r)
		r = ack_name(v, shadow, rec);
	return r ? r : outbox_rebase(v, shadow->store, shadow->rid.text, rec->etag);
}

/* The record that was replaced went with this step: what the feed said of it before is no news. */
static int other_went(struct volume *v, const struct op_row *row, const struct remote_record *rec)
{
	if (row->kind != OP_MOVE || !fold_row_is_double(row))
		return 0;
	remote_stale_note(v, row->store, row->other_rid.text, rec->seq);
	return remote_stale_drop(v, row->store, row->other_rid.text, rec->seq);
}

static int remove_row(struct volume *v, const struct op_row *row, const struct remote_record *rec)
{
	struct op_row gone = *row;
	int r = 0;

	if (row->kind == OP_SWAP)
		r = ack_swap(v, row, rec);
	else if (row->kind == OP_PUT)
		r = merge_base_sent(v, &gone, rec->etag);
	if (r)
		return r;
	return row->kind == OP_SWAP ? op_delete(v->db, row->seq) : fold_row_delete(v, &gone);
}

int outbox_ack_row(struct volume *v, const struct op_row *row, const struct remote_record *rec)
{
	int r;

	if (!rec && row->kind != OP_DELETE)
		return -EINVAL;
	r = remove_row(v, row, rec);
	if (r)
		return r;
	if (rec)
		remote_stale_note(v, row->store, row->rid.text, rec->seq);
	/* What waits in `deferred` is older than the deletion; left there it would bring the record
	 * back after a restart. */
	if (row->kind == OP_DELETE)
		return remote_stale_drop(v, row->store, row->rid.text, rec ? rec->seq : UINT64_MAX);
	r = remote_stale_drop(v, row->store, row->rid.text, rec->seq);
	if (!r)
		r = ack_name(v, row, rec);
	if (!r)
		r = outbox_rebase(v, row->store, row->rid.text, rec->etag);
	return r ? r : other_went(v, row, rec);
}

static int ack_one(struct volume *v, const struct outbox_answer *a)
{
	struct op_row row;
	int r = op_get(v->db, a->seq, &row);

	/* The feed may have told us before the answer came. */
	if (r)
		return r == -ENOENT ? 0 : r;
	return outbox_ack_row(v, &row, a->record);
}

int outbox_ack(struct volume *v, const struct outbox_answer *answers, size_t n)
{
	int r = db_begin(v->db);

	if (r)
		return r;
	for (size_t i = 0; !r && i < n; i++)
		r = ack_one(v, &answers[i]);
	return tree_row_end(v, r);
}
