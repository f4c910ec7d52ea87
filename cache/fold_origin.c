/* What the origin did to records that have rows of ours: made again, adopted, set aside. */
#include "cache/fold_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/tree_priv.h"

struct seqs {
	const char *parent;
	uint64_t store;
	uint64_t *seq;
	size_t n;
};

static int collect_in(void *arg, const struct op_row *op)
{
	struct seqs *s = arg;
	void *p;

	if (op->store != s->store || strcmp(op->r_parent.text, s->parent))
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

static int reparent(struct volume *v, uint64_t store, const char *from, const struct row_rid *to)
{
	struct seqs s = { .parent = from, .store = store };
	int r = op_each(v->db, 0, collect_in, &s);

	r = MIN_OF(r, 0);
	for (size_t i = 0; !r && i < s.n; i++)
		r = reparent_row(v, s.seq[i], to);
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
	if (!r && parent.text[0])
		r = fold_make_at(v, n, o, &parent, &n->name);
	else if (!r)
		fold_forget(n);
	if (!r && S_ISDIR(o->mode))
		r = reparent(v, n->store, old.text, &n->rid);
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
	fold_row_init(&op, OP_MOVE, n->store, n->rid.text, n->object, &n->etag);
	fold_row_place(&op, &parent, &n->name);
	return op_insert(v->db, &op);
}
