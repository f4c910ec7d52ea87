/*
 * An exchange that cannot be done: one of the two records is another by now. Both go back to where
 * the origin has them, and what else is to be done to them is settled one by one when it is sent.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/settle_priv.h"
#include "cache/tree_priv.h"

static int drop_moves(struct settle *s, const char *rid)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	int r = fold_rows_get(s->v, s->op.store, rid, &rows);

	for (size_t i = 0; !r && i < rows.n; i++) {
		const struct op_row *row = &rows.rows[i];

		if (row->kind == OP_SWAP || (row->kind == OP_MOVE && !fold_row_is_double(row)))
			r = fold_row_delete(s->v, row);
	}
	return r;
}

/* Out of every directory, so that the other can take its place. */
static int lift(struct settle *s, const char *rid, struct name_row *n, struct remote_record *home)
{
	struct object_row o;
	struct row_filename nowhere;
	int r = name_by_rid(s->v->db, s->op.store, rid, n);

	if (r)
		return r;
	r = object_get(s->v->db, n->object, &o);
	if (r)
		return r;
	*home = (struct remote_record){ .kind = S_ISDIR(o.mode) ? REMOTE_DIR : REMOTE_FILE };
	memcpy(home->id, n->rid.text, sizeof(home->id));
	memcpy(home->parent, n->r_parent.text, sizeof(home->parent));
	memcpy(home->name, n->r_name.bytes, n->r_name.len);
	if (!row_filename_set(&nowhere, rid, strlen(rid)))
		return -EINVAL;
	r = remote_update_move(&s->pass, n, TREE_NOWHERE, &nowhere);
	return r ? r : name_update(s->v->db, n);
}

static int put_home(struct settle *s, struct name_row *n, const struct remote_record *home)
{
	struct row_filename old = n->name;
	uint64_t parent;
	bool done;
	int r = remote_place_move(&s->pass, home, n, &done);

	if (!r && done)
		return name_update(s->v->db, n);
	if (r)
		return r;
	/* Its place is another's now: where it can stand until its own entry comes. */
	r = remote_place_parent(&s->pass, home, &parent);
	if (r == -ENOENT)
		parent = s->pass.store.root;
	else if (r)
		return r;
	old = n->r_name;
	r = conflict_name(s->v, parent, &n->r_name, s->pass.now, &old);
	if (!r)
		r = remote_update_move(&s->pass, n, parent, &old);
	return r ? r : name_update(s->v->db, n);
}

int settle_swap(struct settle *s)
{
	struct name_row a = { 0 }, b = { 0 };
	struct remote_record home_a, home_b;
	struct op_row op = s->op;
	int ra, rb, r = drop_moves(s, op.rid.text);

	if (!r)
		r = drop_moves(s, op.other_rid.text);
	if (r)
		return r;
	ra = lift(s, op.rid.text, &a, &home_a);
	rb = lift(s, op.other_rid.text, &b, &home_b);
	if ((ra && ra != -ENOENT) || (rb && rb != -ENOENT))
		return ra && ra != -ENOENT ? ra : rb;
	if (!ra)
		r = put_home(s, &a, &home_a);
	if (!r && !rb)
		r = put_home(s, &b, &home_b);
	if (!r)
		r = conflict_note(&s->pass, CONFLICT_MOVE, s->name.object, op.rid.text,
			(const char *)op.r_name.bytes, (const char *)op.r_name.bytes);
	if (r || !s->current)
		return r;
	return remote_apply_one(&s->pass, s->current);
}
