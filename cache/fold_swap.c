/*
 * RENAME_EXCHANGE in the journal. Two records of the origin without other rows swap in one step;
 * else each moves, the first by way of a name nobody has. Where one of the two is no record, or
 * would be none at its new place, it leaves the origin before the other comes.
 */
#include "cache/fold_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/tree_priv.h"

static int one_step(struct volume *v, const struct name_row *a, const struct name_row *b, bool *out)
{
	bool a_pending, b_pending;
	int r = fold_pending(v, a->store, a->rid.text, &a_pending);

	if (!r)
		r = fold_pending(v, b->store, b->rid.text, &b_pending);
	if (!r)
		*out = !a_pending && !b_pending && a->etag.text[0] && b->etag.text[0];
	return r;
}

static int swap_row(struct volume *v, const struct name_row *a, const struct name_row *b,
	const struct row_rid *a_parent, const struct row_rid *b_parent)
{
	struct op_row op;

	fold_row_init(&op, OP_SWAP, a->store, a->rid.text, a->object, &a->etag);
	fold_row_place(&op, b_parent, &b->name);
	op.other_rid = b->rid;
	op.other_etag = b->etag;
	return fold_row_double(v, &op, b->object, a_parent, &a->name);
}

static int three_steps(struct volume *v, const struct name_row *a, const struct name_row *b,
	const struct row_rid *a_parent, const struct row_rid *b_parent)
{
	struct row_filename name;
	int r = fold_row_nowhere(&name, "swap");

	if (!r)
		r = fold_move_row(v, a, a_parent, &name);
	if (!r)
		r = fold_move_row(v, b, a_parent, &a->name);
	return r ? r : fold_move_row(v, a, b_parent, &b->name);
}

/* A record that keeps its place free for the other: never-sent directories around them must stay
 * (rule 2). */
static int keep_parents(struct volume *v, const struct name_row *n, const struct row_rid *parent)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	int r = fold_rows_get(v, n->store, parent->text, &rows);

	for (size_t i = 0; !r && i < rows.n; i++) {
		if (!fold_row_is_make(&rows.rows[i]) || rows.rows[i].other_rid.text[0])
			continue;
		rows.rows[i].other_rid = n->rid;
		r = op_update(v->db, &rows.rows[i]);
	}
	return r;
}

static int swap_records(struct volume *v, const struct name_row *a, const struct name_row *b,
	const struct row_rid *a_parent, const struct row_rid *b_parent)
{
	bool one;
	int r = one_step(v, a, b, &one);

	if (r)
		return r;
	if (one)
		return swap_row(v, a, b, a_parent, b_parent);
	r = keep_parents(v, a, a_parent);
	if (!r)
		r = keep_parents(v, b, b_parent);
	return r ? r : three_steps(v, a, b, a_parent, b_parent);
}

int fold_swap(struct volume *v, struct name_row *a, struct name_row *b, const struct object_row *ao,
	const struct object_row *bo)
{
	struct row_rid a_parent = { "" }, b_parent = { "" };
	const struct name_row was_a = *a;
	struct store_row s;
	bool a_stays, b_stays;
	int r = store_get(v->db, a->store, &s);

	if (r || s.mode != STORE_RW)
		return r;
	r = tree_row_rid(v, a->store, a->parent, &a_parent);
	if (!r)
		r = tree_row_rid(v, b->store, b->parent, &b_parent);
	if (r)
		return r;
	a_stays = a->rid.text[0] && b_parent.text[0] && fold_can_stand(ao, &b->name);
	b_stays = b->rid.text[0] && a_parent.text[0] && fold_can_stand(bo, &a->name);
	if (a_stays && b_stays)
		return swap_records(v, a, b, &a_parent, &b_parent);
	if (a->rid.text[0] && !a_stays) {
		r = fold_move(v, a, ao, b->parent, &b->name, NULL, NULL);
		return r ? r : fold_move(v, b, bo, was_a.parent, &was_a.name, NULL, NULL);
	}
	if (b->rid.text[0]) {
		r = fold_move(v, b, bo, a->parent, &a->name, NULL, NULL);
		return r ? r : fold_move(v, a, ao, b->parent, &b->name, NULL, NULL);
	}
	r = fold_move(v, a, ao, b->parent, &b->name, NULL, NULL);
	return r ? r : fold_move(v, b, bo, was_a.parent, &was_a.name, NULL, NULL);
}

int fold_swap_alone(struct volume *v, const struct op_row *op)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	struct name_row n;
	struct row_rid parent;
	int r = name_by_rid(v->db, op->store, op->other_rid.text, &n);

	if (!r)
		r = tree_row_rid(v, n.store, n.parent, &parent);
	if (!r)
		r = fold_rows_get(v, n.store, n.rid.text, &rows);
	if (r)
		return r == -ENOENT ? 0 : r;
	for (size_t i = 0; i < rows.n; i++)
		if (rows.rows[i].kind == OP_MOVE)
			return 0;
	if (!parent.text[0] ||
		(!strcmp(parent.text, n.r_parent.text) && tree_row_same_name(&n.name, &n.r_name)))
		return 0;
	return fold_move_row(v, &n, &parent, &n.name);
}
