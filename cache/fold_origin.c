/* What the origin did to records that have rows of ours: made again, adopted, set aside. */
#include "cache/fold_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/tree_priv.h"

/* The rows in a directory, and whether others may be about a place. */
struct inside {
	const char *parent;
	uint64_t store;
	uint64_t *seq;
	size_t n;
	const struct row_rid *at; /* the place, or NULL */
	const struct row_filename *name;
	bool busy;
};

static int collect_in(void *arg, const struct op_row *op)
{
	struct inside *s = arg;
	void *p;

	if (op->store != s->store)
		return 0;
	if (s->at) /* where a move leaves from is not looked up */
		s->busy |= op->kind == OP_MOVE || op->kind == OP_SWAP ||
			   (tree_row_same_name(&op->r_name, s->name) &&
				   !strcmp(op->r_parent.text, s->at->text));
	if (strcmp(op->r_parent.text, s->parent))
		return 0;
	if (!(s->n & (s->n - 1))) {
		p = reallocarray(s->seq, s->n ? 2 * s->n : 1, sizeof(*s->seq));
		if (!p)
			return -ENOMEM;
		s->seq = p;
	}
	s->seq[s->n++] = op->seq;
	return 0;
}

/* The rows in the directory name another id for it; those in flight are frozen and meet it as an
 * unknown parent. */
static int reparent_row(struct volume *v, uint64_t seq, const struct row_rid *parent)
{
	struct op_row op;
	int r = op_get(v->db, seq, &op);

	if (r || op.state == OP_INFLIGHT)
		return r;
	op.r_parent = *parent;
	return op_update(v->db, &op);
}

static int reparent_all(struct volume *v, const struct inside *s, const struct row_rid *to)
{
	int r = 0;

	for (size_t i = 0; !r && i < s->n; i++)
		r = reparent_row(v, s->seq[i], to);
	return r;
}

static int reparent(struct volume *v, uint64_t store, const char *from, const struct row_rid *to)
{
	struct inside s = { .parent = from, .store = store };
	int r = op_each(v->db, 0, collect_in, &s);

	r = r < 0 ? r : reparent_all(v, &s, to);
	free(s.seq);
	return r;
}

/*
 * A directory is made behind the rows of what lies in it, which wait for it. If it waited in turn
 * for its place, and that for one of them (which leaves the place, say), none would ever go: so it
 * is made where nobody is, and moves.
 */
static int put_again(struct volume *v, const struct name_row *n, const struct inside *s)
{
	const struct row_rid root = { "root" };
	struct row_filename apart;
	struct op_row op;
	int r;

	fold_row_init(&op, OP_PUT, n->store, n->rid.text, n->object, NULL);
	fold_row_place(&op, s->at, s->name);
	if (!s->n || !s->busy)
		return op_insert(v->db, &op);
	r = fold_row_nowhere(&apart, "new");
	if (r)
		return r;
	fold_row_place(&op, &root, &apart);
	r = op_insert(v->db, &op);
	return r ? r : fold_move_row(v, n, s->at, s->name);
}

int fold_make_again(struct volume *v, const struct name_row *n, const struct object_row *o,
	const char *old, const struct row_rid *parent)
{
	struct inside s = { .parent = old, .store = n->store, .at = parent, .name = &n->name };
	int r = S_ISDIR(o->mode) ? op_each(v->db, 0, collect_in, &s) : 0;

	if (r >= 0)
		r = put_again(v, n, &s);
	if (!r)
		r = reparent_all(v, &s, &n->rid);
	free(s.seq);
	return r;
}

int fold_revive(struct volume *v, struct name_row *n, const struct object_row *o)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	struct row_rid old = n->rid, parent;
	int r = tree_row_rid(v, n->store, n->parent, &parent);

	if (!r)
		r = fold_rows_get(v, n->store, old.text, &rows);
	if (!r)
		r = fold_rows_give_up(v, &rows);
	if (!r && !parent.text[0]) {
		fold_forget(n);
	} else if (!r) {
		fold_fresh(n);
		r = fold_make_again(v, n, o, old.text, &parent);
	}
	if (!r)
		r = tree_row_own_content(v, o);
	return r ? r : name_update(v->db, n);
}

/* Without a look at the whole journal: who left the directory is marked on its row (fold.c). */
static int reparent_children(struct volume *v, const struct name_row *n, const struct row_rid *to)
{
	_cleanup_free_ struct name_row *children = NULL;
	size_t count = 0;
	int r = tree_row_entries(v, n->object, &children, &count);

	for (size_t i = 0; !r && i < count; i++) {
		_cleanup_rows_ struct fold_rows rows = { 0 };

		if (!children[i].rid.text[0])
			continue;
		r = fold_rows_get(v, n->store, children[i].rid.text, &rows);
		for (size_t k = 0; !r && k < rows.n; k++)
			if (!strcmp(rows.rows[k].r_parent.text, n->rid.text))
				r = reparent_row(v, rows.rows[k].seq, to);
	}
	return r;
}

int fold_adopt(struct volume *v, struct name_row *n, const char *rid)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	struct row_rid to = { "" };
	bool marked = false;
	int r = fold_rows_get(v, n->store, n->rid.text, &rows);

	snprintf(to.text, sizeof(to.text), "%s", rid);
	for (size_t i = 0; !r && i < rows.n; i++) {
		marked |= fold_row_is_make(&rows.rows[i]) && rows.rows[i].other_rid.text[0];
		r = fold_row_delete(v, &rows.rows[i]);
	}
	if (!r)
		r = marked ? reparent(v, n->store, n->rid.text, &to) : reparent_children(v, n, &to);
	if (!r)
		n->rid = to;
	return r;
}

int fold_aside(struct volume *v, struct name_row *n)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	struct row_rid parent;
	struct op_row op;
	int r;

	if (!n->rid.text[0])
		return 0;
	r = tree_row_rid(v, n->store, n->parent, &parent);
	if (!r)
		r = fold_rows_get(v, n->store, n->rid.text, &rows);
	if (r)
		return r;
	for (size_t i = rows.n; i-- > 0;) {
		op = rows.rows[i];
		if (!op.r_name.len)
			continue;
		if (op.state == OP_INFLIGHT || fold_row_is_double(&op))
			break;
		fold_row_place(&op, &parent, &n->name);
		return op.state == OP_REFUSED ? fold_row_renew(v, &op) : op_update(v->db, &op);
	}
	return fold_move_row(v, n, &parent, &n->name);
}
