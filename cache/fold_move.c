/* Renames in the journal: rules 4 to 6 of fold.c, and what comes into or leaves the origin's sight.
 */
#include "cache/fold_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "cache/tree_priv.h"

#define SCAN_MAX 256 /* rows looked at before a place is changed in place */

/* Everything below and `n` itself becomes records. Only n's row is left to the caller. */
static int make_tree(struct volume *v, struct name_row *n, const struct object_row *o,
	const struct row_rid *parent, const struct row_filename *name)
{
	_cleanup_free_ struct name_row *children = NULL;
	struct object_row child;
	size_t count = 0;
	int r = fold_make_at(v, n, o, parent, name);

	if (r || !S_ISDIR(o->mode))
		return r;
	r = tree_row_entries(v, o->id, &children, &count);
	for (size_t i = 0; !r && i < count; i++) {
		r = object_get(v->db, children[i].object, &child);
		if (r || !fold_can_stand(&child, &children[i].name))
			continue;
		r = make_tree(v, &children[i], &child, &n->rid, &children[i].name);
		if (!r)
			r = name_update(v->db, &children[i]);
	}
	return r;
}

/* Everything below and `n` itself leaves the origin: content that is not here would be lost
 * (CE_ABSENT). */
static int leave_tree(struct volume *v, struct name_row *n, const struct object_row *o)
{
	_cleanup_free_ struct name_row *children = NULL;
	struct object_row child;
	size_t count = 0;
	bool whole;
	int r = tree_row_whole(v, o, &whole);

	if (!r && !whole)
		return CE_ABSENT;
	if (!r && S_ISDIR(o->mode))
		r = tree_row_entries(v, o->id, &children, &count);
	for (size_t i = 0; !r && i < count; i++) {
		r = object_get(v->db, children[i].object, &child);
		if (r || !children[i].rid.text[0])
			continue;
		r = leave_tree(v, &children[i], &child);
		if (!r)
			r = name_update(v->db, &children[i]);
	}
	if (!r)
		r = fold_delete(v, n, o);
	if (!r)
		r = tree_row_own_content(v, o);
	if (!r)
		fold_forget(n);
	return r;
}

/* Rule 5. */
static int take_over(struct volume *v, struct name_row *n, const struct object_row *o,
	const struct name_row *over, const struct object_row *over_object,
	const struct fold_rows *own)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	int r = fold_rows_delete(v, own);

	if (!r)
		r = fold_rows_get(v, over->store, over->rid.text, &rows);
	for (size_t i = 0; !r && i < rows.n; i++) {
		rows.rows[i].object = o->id;
		r = op_update(v->db, &rows.rows[i]);
	}
	if (r)
		return r;
	n->rid = over->rid;
	n->etag = over->etag;
	n->has_sha256 = over->has_sha256;
	memcpy(n->sha256, over->sha256, sizeof(n->sha256));
	n->r_parent = over->r_parent;
	n->r_name = over->r_name;
	r = fold_put_record(v, n);
	return r || o->mode == over_object->mode ? r : fold_mode_record(v, n);
}

/* True when the origin can delete `over` in the step that moves another record to its place:
 * nothing else is to be done to it. */
static int may_replace(struct volume *v, const struct name_row *over, bool *out)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	int r = fold_rows_get(v, over->store, over->rid.text, &rows);
	bool plain = over->etag.text[0];

	for (size_t i = 0; !r && i < rows.n; i++)
		plain &= rows.rows[i].state == OP_QUEUED &&
			 (rows.rows[i].kind == OP_PUT || rows.rows[i].kind == OP_ATTR);
	if (!r && plain)
		r = fold_rows_delete(v, &rows);
	if (!r)
		*out = plain;
	return r;
}

struct scan {
	const struct row_rid *parent;
	const struct row_filename *name;
	unsigned seen;
	bool touches;
};

static int scan_row(void *arg, const struct op_row *op)
{
	struct scan *s = arg;

	if (op->kind == OP_MOVE || op->kind == OP_SWAP || ++s->seen > SCAN_MAX)
		s->touches = true;
	else if (op->r_name.len && !strcmp(op->r_parent.text, s->parent->text) &&
		 tree_row_same_name(&op->r_name, s->name))
		s->touches = true;
	else if (fold_row_is_make(op) && !strcmp(op->rid.text, s->parent->text))
		s->touches = true;
	return s->touches ? 1 : 0;
}

static int any_row(void *arg, const struct op_row *op)
{
	*(bool *)arg = true;
	return 1;
}

/* Rule 4. *done says whether the row could be changed. */
static int replace_make(struct volume *v, const struct op_row *make, const struct row_rid *parent,
	const struct row_filename *name, bool *done)
{
	struct scan s = { .parent = parent, .name = name };
	struct op_row op = *make;
	int r = op_each(v->db, make->seq, scan_row, &s);

	if (r < 0 || s.touches)
		return MIN_OF(r, 0);
	*done = true;
	fold_row_place(&op, parent, name);
	return op.state == OP_REFUSED ? fold_row_renew(v, &op) : op_update(v->db, &op);
}

/* The place the record has before row `last` of it. */
static bool place_of(const struct name_row *n, const struct fold_rows *rows,
	const struct row_rid **parent, const struct row_filename **name)
{
	*parent = &n->r_parent;
	*name = &n->r_name;
	for (size_t i = 0; i + 1 < rows->n; i++) {
		if (rows->rows[i].r_name.len) {
			*parent = &rows->rows[i].r_parent;
			*name = &rows->rows[i].r_name;
		}
	}
	return (*name)->len != 0;
}

/* Rule 6. */
static int replace_move(struct volume *v, const struct name_row *n, const struct fold_rows *rows,
	const struct row_rid *parent, const struct row_filename *name, bool *done)
{
	struct op_row op = rows->rows[rows->n - 1];
	const struct row_rid *old_parent;
	const struct row_filename *old_name;
	bool later = false;
	int r;

	if (op.kind != OP_MOVE || op.state != OP_QUEUED || fold_row_is_double(&op))
		return 0;
	r = op_each(v->db, op.seq, any_row, &later);
	if (r < 0 || later)
		return MIN_OF(r, 0);
	*done = true;
	if (place_of(n, rows, &old_parent, &old_name) && !strcmp(old_parent->text, parent->text) &&
		tree_row_same_name(old_name, name))
		return fold_row_delete(v, &op);
	fold_row_place(&op, parent, name);
	return op_update(v->db, &op);
}

static int append_move(struct volume *v, const struct name_row *n, const struct row_rid *parent,
	const struct row_filename *name, const struct name_row *over, const struct fold_rows *rows)
{
	struct op_row op;
	int r = fold_mark_parents(v, rows);

	if (r)
		return r;
	fold_row_init(&op, OP_MOVE, n->store, n->rid.text, n->object, &n->etag);
	fold_row_place(&op, parent, name);
	if (!over)
		return op_insert(v->db, &op);
	op.other_rid = over->rid;
	op.other_etag = over->etag;
	return fold_row_double(v, &op, over->object, NULL, NULL);
}

static int move_record(struct volume *v, const struct name_row *n, const struct row_rid *parent,
	const struct row_filename *name, const struct fold_rows *rows, const struct fold_summary *s)
{
	bool done = false;
	int r = 0;

	if (s->make && !s->moved)
		r = replace_make(v, s->make, parent, name, &done);
	else if (rows->n)
		r = replace_move(v, n, rows, parent, name, &done);
	if (r || done)
		return r;
	return append_move(v, n, parent, name, NULL, rows);
}

static int move_seen(struct volume *v, struct name_row *n, const struct object_row *o,
	const struct row_rid *parent, const struct row_filename *name, const struct name_row *over,
	const struct object_row *over_object)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	struct fold_summary s;
	bool replaces = false;
	int r = fold_rows_get(v, n->store, n->rid.text, &rows);

	if (r)
		return r;
	fold_summarize(&rows, &s);
	if (!over || !over->rid.text[0])
		return move_record(v, n, parent, name, &rows, &s);
	if (fold_never_sent(n, &s)) {
		if (!s.doubled && !S_ISDIR(o->mode) &&
			(o->mode & S_IFMT) == (over_object->mode & S_IFMT))
			return take_over(v, n, o, over, over_object, &rows);
	} else {
		r = may_replace(v, over, &replaces);
	}
	if (!r && replaces)
		return append_move(v, n, parent, name, over, &rows);
	if (!r)
		r = fold_delete(v, over, over_object);
	return r ? r : move_record(v, n, parent, name, &rows, &s);
}

int fold_move(struct volume *v, struct name_row *n, const struct object_row *o, uint64_t new_parent,
	const struct row_filename *new_name, const struct name_row *over,
	const struct object_row *over_object)
{
	struct row_rid parent;
	int r = fold_place_parent(v, o, new_parent, new_name, &parent);

	if (r)
		return r;
	if (n->rid.text[0] && parent.text[0])
		return move_seen(v, n, o, &parent, new_name, over, over_object);
	if (over)
		r = fold_delete(v, over, over_object);
	if (r)
		return r;
	if (parent.text[0])
		return make_tree(v, n, o, &parent, new_name);
	return n->rid.text[0] ? leave_tree(v, n, o) : 0;
}
