/*
 * The origin has done it. What it answered is what the record is now: later rows are based on it, and content that is wholly there
 * may be evicted (its map gets the ETag).
 */
#include "cache/outbox_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/remote_priv.h"
#include "cache/tree_priv.h"

int outbox_rebase(struct volume *v, uint64_t store, const char *rid, const char *etag)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	int r = fold_rows_get(v, store, rid, &rows);

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
static int content_is_there(struct volume *v, const struct name_row *n, const char *old_etag, bool put)
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

static int ack_name(struct volume *v, const struct op_row *row, const struct remote_record *rec)
{
	struct store_row s;
	struct name_row n;
	struct row_etag old;
	int r = name_by_rid(v->db, row->store, row->rid.text, &n);

	if (r)
		return r == -ENOENT ? 0 : r;
	r = store_get(v->db, row->store, &s);
	if (r)
		return r;
	old = n.etag;
	remote_record_onto_name(rec, &n);
	n.seen = s.listing;
	r = name_update(v->db, &n);
	return r ? r : content_is_there(v, &n, old.text, row->kind == OP_PUT);
}

/* Of a swap the answer has one record. The other's place is known, its ETag comes with the feed. */
static int ack_other(struct volume *v, const struct op_row *row, const struct name_row *before)
{
	struct name_row other;
	int r = name_by_rid(v->db, row->store, row->other_rid.text, &other);

	if (r)
		return r == -ENOENT ? 0 : r;
	other.r_parent = before->r_parent;
	other.r_name = before->r_name;
	return name_update(v->db, &other);
}

int outbox_ack_row(struct volume *v, const struct op_row *row, const struct remote_record *rec)
{
	struct name_row before;
	int r;

	if (row->kind == OP_SWAP && !name_by_rid(v->db, row->store, row->rid.text, &before)) {
		r = ack_other(v, row, &before);
		if (r)
			return r;
	}
	if (!rec && row->kind != OP_DELETE)
		return -EINVAL;
	r = fold_row_delete(v, row);
	if (r)
		return r;
	if (rec)
		remote_stale_note(v, row->store, row->rid.text, rec->seq);
	if (row->kind == OP_DELETE)
		return 0;
	r = ack_name(v, row, rec);
	if (!r)
		r = outbox_rebase(v, row->store, row->rid.text, rec->etag);
	return r ? r : remote_stale_drop(v, row->store, row->rid.text, rec->seq);
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
	r = tree_row_end(v, r);
	if (!r)
		volume_tell_outbox(v);
	return r;
}
