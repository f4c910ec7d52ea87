/*
 * An exchange that cannot be done: one of the two records is another by now. Both go back to where
 * the origin has them, and what else is to be done to them is settled one by one when it is sent.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/settle_priv.h"
#include "cache/tree_priv.h"

/* *ours: by a later rename it replaces another record; that goes on, and so it stays where it is.
 */
static int drop_moves(struct settle *s, const char *rid, bool *ours)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	int r = fold_rows_get(s->v, s->op.store, rid, &rows);

	*ours = false;
	for (size_t i = 0; i < rows.n; i++)
		*ours |= rows.rows[i].kind == OP_MOVE && fold_row_is_double(&rows.rows[i]);
	for (size_t i = 0; !r && i < rows.n; i++) {
		const struct op_row *row = &rows.rows[i];

		if (row->kind == OP_SWAP || (row->kind == OP_MOVE && !*ours))
			r = fold_row_delete(s->v, row);
	}
	return r;
}

/* Out of every directory, so that the other can take its place. n->id stays 0 when it was deleted
 * here. */
static int lift(struct settle *s, const char *rid, struct name_row *n)
{
	struct row_filename nowhere;
	int r = name_by_rid(s->v->db, s->op.store, rid, n);

	if (r)
		return r == -ENOENT ? 0 : r;
	if (!row_filename_set(&nowhere, rid, strlen(rid)))
		return -EINVAL;
	r = remote_update_move(&s->pass, n, TREE_NOWHERE, &nowhere);
	return r ? r : name_update(s->v->db, n);
}

/*
 * Home, or as near as there is room: it may be another's by now, or lie inside of what comes home.
 * Then the origin is told to follow.
 */
static int put_home(struct settle *s, struct name_row *n)
{
	struct row_rid rid;
	struct op_row op;
	int r = remote_park_near_home(&s->pass, n);

	if (!r)
		r = tree_row_rid(s->v, n->store, n->parent, &rid);
	if (r || (!strcmp(rid.text, n->r_parent.text) && tree_row_same_name(&n->name, &n->r_name)))
		return r;
	fold_row_init(&op, OP_MOVE, n->store, n->rid.text, n->object, &n->etag);
	fold_row_place(&op, &rid, &n->name);
	return op_insert(s->v->db, &op);
}

int settle_swap(struct settle *s)
{
	struct name_row a = { 0 }, b = { 0 };
	const struct op_row op = s->op;
	bool a_stays, b_stays;
	int r = drop_moves(s, op.rid.text, &a_stays);

	if (!r)
		r = drop_moves(s, op.other_rid.text, &b_stays);
	if (!r && !a_stays)
		r = lift(s, op.rid.text, &a);
	if (!r && !b_stays)
		r = lift(s, op.other_rid.text, &b);
	if (!r && a.id)
		r = put_home(s, &a);
	if (!r && b.id)
		r = put_home(s, &b);
	if (!r)
		r = conflict_note(&s->pass, CONFLICT_MOVE, s->name.object, op.rid.text,
			(const char *)op.r_name.bytes, (const char *)op.r_name.bytes);
	if (r || !s->current)
		return r;
	return remote_apply_one(&s->pass, s->current);
}
