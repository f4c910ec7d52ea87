/* QUEUED → INFLIGHT: frozen, with a snapshot of the content, before anything is sent. */
#include "cache/outbox_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/tree_priv.h"

/* Local changes since outbox_next may have folded the row into something else. */
static bool still_the_same(const struct op_row *row, const struct outbox_op *op)
{
	return (int)row->kind == (int)op->kind && (int)row->state == (int)op->state &&
	       !strcmp(row->rid.text, op->rid) && !strcmp(row->r_parent.text, op->parent) &&
	       strlen(op->name) == row->r_name.len &&
	       !memcmp(op->name, row->r_name.bytes, row->r_name.len);
}

/* The other record's latest ETag: its name's; when it was deleted since, its DELETE row was kept up
 * to date. */
static int refresh_other(struct volume *v, struct op_row *row)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	struct name_row n;
	int r = name_by_rid(v->db, row->store, row->other_rid.text, &n);

	if (!r && n.etag.text[0])
		row->other_etag = n.etag;
	if (r != -ENOENT)
		return r;
	r = fold_rows_get(v, row->store, row->other_rid.text, &rows);
	for (size_t i = 0; !r && i < rows.n; i++)
		if (!fold_row_is_double(&rows.rows[i]) && rows.rows[i].base_etag.text[0])
			row->other_etag = rows.rows[i].base_etag;
	return r;
}

/*
 * Content that is not here. A record that was never sent and has no name any more was deleted while
 * this row was about to go, and its object is another record's by now (a conflict that was settled
 * for ours): neither this nor its deletion is to be sent, and row->seq is 0.
 */
static int refuse_partial(struct volume *v, struct op_row *row)
{
	struct name_row n;
	int r = fold_row_is_make(row) && !row->attempts
			? name_by_rid(v->db, row->store, row->rid.text, &n)
			: 0;

	if (r == -ENOENT) {
		row->seq = 0;
		return fold_rows_clear(v, row->store, row->rid.text);
	}
	if (r)
		return r;
	row->state = OP_REFUSED;
	snprintf(row->error, sizeof(row->error), "the content is not on this machine");
	return 0;
}

static int snapshot(struct volume *v, struct op_row *row, const struct object_row *o)
{
	bool whole;
	int r = tree_row_whole(v, o, &whole);

	row->map = 0;
	if (r || !S_ISREG(o->mode) || !o->map)
		return r;
	if (!whole)
		return refuse_partial(v, row);
	return content_map_clone(v->db, o->map, CONTENT_MAP_SNAPSHOT, &row->map);
}

static int freeze(struct volume *v, struct op_row *row)
{
	struct object_row o = { .mode = S_IFDIR | 0755, .mtime_ns = row->created_ns };
	int r;

	row->state = OP_INFLIGHT;
	if (fold_row_is_double(row))
		return refresh_other(v, row);
	if (row->kind != OP_PUT && row->kind != OP_ATTR)
		return 0;
	r = object_get(v->db, row->object, &o);
	if (r && r != -ENOENT)
		return r;
	outbox_freeze(row, &o);
	return row->kind == OP_PUT ? snapshot(v, row, &o) : 0;
}

static int begin_one(struct volume *v, struct outbox_op *op, const struct outbox_op *ops)
{
	struct outbox_op sent;
	struct op_row row;
	int16_t after = op->after;
	int r = op_get(v->db, op->seq, &row);

	if (r == -ENOENT || (!r && !still_the_same(&row, op)) || (after >= 0 && !ops[after].seq)) {
		op->seq = 0;
		return 0;
	}
	if (!r && row.state == OP_QUEUED)
		r = freeze(v, &row);
	if (!r && !row.seq) { /* not wanted any more */
		op->seq = 0;
		return 0;
	}
	row.attempts++;
	if (!r)
		r = op_update(v->db, &row);
	if (!r)
		r = outbox_fill(v, &row, &sent);
	if (r)
		return r;
	outbox_op_done(op);
	*op = sent;
	op->after = after;
	if (row.state != OP_INFLIGHT)
		op->seq = 0;
	return 0;
}

int outbox_begin(struct volume *v, struct outbox_op *ops, size_t n)
{
	int r = db_begin(v->db);

	if (r)
		return r;
	for (size_t i = 0; !r && i < n; i++)
		r = begin_one(v, &ops[i], ops);
	return tree_row_end(v, r);
}
