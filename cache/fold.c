/*
 * Folding: the journal says what has to be done, not what was done.
 *
 * Invariant (FOLD): replaying the rows in order on the origin's state gives the local tree. Every rule below keeps it:
 *   1  content and attributes are read when a row is sent, so a QUEUED PUT takes all later writes in; an INFLIGHT row
 *      is frozen and a new row goes behind it.
 *   2  a record that was never sent and is deleted: its rows vanish.
 *   3  a deleted record: its PUT and ATTR rows vanish. A MOVE may have made room for a row behind it, so
 *      the first MOVE becomes the DELETE where it stands; a directory is deleted at the end, when it is empty.
 *   4  a record never sent and renamed: its place is changed where its row stands, if no row behind it has to do with the new place;
 *      else a MOVE row is appended.
 *   5  a file never sent that is renamed over a record becomes the content of that record.
 *   6  a MOVE that is the last row of the journal is changed when its record moves on; when it moves back, it vanishes.
 *   7  an ATTR row is taken in by a QUEUED PUT, and becomes a PUT when content follows.
 * Where a rule does not apply, a row is appended: always right, only longer.
 *
 * Rule 2 needs one thing more. A record that left a never-sent directory by an appended MOVE is still made inside it, so the directory's
 * rows must stay: its PUT is marked (other_rid) and the deletion of the directory is appended.
 */
#include "cache/fold_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/secret.h"
#include "cache/tree_priv.h"

#define SCAN_MAX 256 /* rows looked at before a place is changed in place */

static void fresh_rid(struct row_rid *rid)
{
	uint8_t id[16];

	secret_random(id, sizeof(id));
	bytes_to_hex(id, sizeof(id), rid->text);
}

static bool can_be_record(const struct object_row *o, const struct row_filename *name)
{
	return (S_ISREG(o->mode) || S_ISDIR(o->mode) || S_ISLNK(o->mode)) && bytes_is_utf8(name->bytes, name->len);
}

/* The parent's id when a record at that place is seen by an origin, else "". */
static int place_parent(struct volume *v, const struct object_row *o, uint64_t parent, const struct row_filename *name,
	struct row_rid *out)
{
	struct store_row s;
	int r;

	out->text[0] = 0;
	if (!can_be_record(o, name))
		return 0;
	r = store_get(v->db, o->store, &s);
	if (r || s.mode != STORE_RW)
		return r;
	return tree_row_rid(v, o->store, parent, out);
}

void fold_forget(struct name_row *n)
{
	n->rid.text[0] = 0;
	n->etag.text[0] = 0;
	n->has_sha256 = false;
	n->r_parent.text[0] = 0;
	n->r_name.len = 0;
}

int fold_make_at(struct volume *v, struct name_row *n, const struct object_row *o, const struct row_rid *parent,
	const struct row_filename *name)
{
	struct op_row op;

	fold_forget(n);
	fresh_rid(&n->rid);
	fold_row_init(&op, OP_PUT, n->store, n->rid.text, o->id, NULL);
	fold_row_place(&op, parent, name);
	return op_insert(v->db, &op);
}

int fold_make(struct volume *v, struct name_row *n, const struct object_row *o)
{
	struct row_rid parent;
	int r = place_parent(v, o, n->parent, &n->name, &parent);

	fold_forget(n);
	if (r || !parent.text[0])
		return r;
	return fold_make_at(v, n, o, &parent, &n->name);
}

/* Rules 1 and 7. A refused PUT is worth another try when there is something else to send. */
int fold_put_record(struct volume *v, const struct name_row *n)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	struct op_row op;
	int r = fold_rows_get(v, n->store, n->rid.text, &rows);

	if (r)
		return r;
	for (size_t i = 0; i < rows.n; i++) {
		struct op_row *row = &rows.rows[i];

		if (row->state == OP_INFLIGHT || (row->kind != OP_PUT && row->kind != OP_ATTR))
			continue;
		if (row->kind == OP_PUT && row->state == OP_QUEUED)
			return 0;
		row->kind = OP_PUT;
		return fold_row_renew(v, row);
	}
	fold_row_init(&op, OP_PUT, n->store, n->rid.text, n->object, &n->etag);
	return op_insert(v->db, &op);
}

static int attr_record(struct volume *v, const struct name_row *n)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	struct op_row op;
	int r = fold_rows_get(v, n->store, n->rid.text, &rows);

	if (r)
		return r;
	for (size_t i = 0; i < rows.n; i++)
		if (rows.rows[i].state != OP_INFLIGHT &&
			(rows.rows[i].kind == OP_PUT || rows.rows[i].kind == OP_ATTR))
			return 0;
	fold_row_init(&op, OP_ATTR, n->store, n->rid.text, n->object, &n->etag);
	return op_insert(v->db, &op);
}

static int each_record(struct volume *v, const struct object_row *o,
	int (*fn)(struct volume *v, const struct name_row *n))
{
	_cleanup_free_ struct name_row *names = NULL;
	size_t n = 0;
	int r = tree_row_names_of(v, o->id, &names, &n);

	for (size_t i = 0; !r && i < n; i++)
		if (names[i].rid.text[0])
			r = fn(v, &names[i]);
	return r;
}

int fold_put(struct volume *v, const struct object_row *o)
{
	return each_record(v, o, fold_put_record);
}

int fold_attr(struct volume *v, const struct object_row *o)
{
	return each_record(v, o, attr_record);
}

/* What the rows of a record say about it. */
struct summary {
	bool inflight, doubled, moved;
	const struct op_row *make; /* not in flight */
};

static void summarize(const struct fold_rows *rows, struct summary *s)
{
	*s = (struct summary){ 0 };
	for (size_t i = 0; i < rows->n; i++) {
		const struct op_row *op = &rows->rows[i];

		s->inflight |= op->state == OP_INFLIGHT && !fold_row_is_shadow(op);
		s->doubled |= fold_row_is_double(op);
		s->moved |= op->kind == OP_MOVE || op->kind == OP_SWAP;
		if (fold_row_is_make(op) && op->state != OP_INFLIGHT)
			s->make = op;
	}
}

static bool never_sent(const struct name_row *n, const struct summary *s)
{
	return !n->etag.text[0] && !s->inflight;
}

static int clear(struct volume *v, const struct fold_rows *rows)
{
	int r = 0;

	for (size_t i = 0; !r && i < rows->n; i++)
		r = fold_row_delete(v, &rows->rows[i]);
	return r;
}

/* Where the record stands at the origin when its rows in flight are done. */
static void place_before(const struct name_row *n, const struct fold_rows *rows, struct op_row *into)
{
	if (n->r_name.len)
		fold_row_place(into, &n->r_parent, &n->r_name);
	for (size_t i = 0; i < rows->n; i++) {
		const struct op_row *op = &rows->rows[i];

		if (op->r_name.len && (op->state == OP_INFLIGHT || fold_row_is_make(op)))
			fold_row_place(into, &op->r_parent, &op->r_name);
	}
}

static int append_delete(struct volume *v, const struct name_row *n, const struct object_row *o,
	const struct fold_rows *rows, bool moved)
{
	struct row_rid parent;
	struct op_row op;
	int r = 0;

	fold_row_init(&op, OP_DELETE, n->store, n->rid.text, o->id, &n->etag);
	place_before(n, rows, &op);
	if (moved || !op.r_name.len) {
		r = tree_row_rid(v, n->store, n->parent, &parent);
		if (!r)
			fold_row_place(&op, &parent, &n->name);
	}
	return r ? r : op_insert(v->db, &op);
}

/* Rule 3. */
static int delete_sent(struct volume *v, const struct name_row *n, const struct object_row *o,
	const struct fold_rows *rows, const struct summary *s)
{
	const bool convert = !S_ISDIR(o->mode) && !s->doubled;
	bool deleted = false, moved = s->doubled;
	int r = 0;

	for (size_t i = 0; !r && i < rows->n; i++) {
		struct op_row op = rows->rows[i];

		if (op.state == OP_INFLIGHT)
			continue;
		if (op.kind == OP_PUT || op.kind == OP_ATTR || (op.kind == OP_MOVE && convert && deleted)) {
			r = fold_row_delete(v, &op);
		} else if (op.kind == OP_MOVE && convert) {
			op.kind = OP_DELETE;
			place_before(n, rows, &op);
			r = fold_row_renew(v, &op);
			deleted = true;
		} else if (op.kind == OP_MOVE) {
			moved = true;
		}
	}
	if (r || deleted)
		return r;
	return append_delete(v, n, o, rows, moved);
}

int fold_delete(struct volume *v, const struct name_row *n, const struct object_row *o)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	struct summary s;
	int r;

	if (!n->rid.text[0])
		return 0;
	r = fold_rows_get(v, n->store, n->rid.text, &rows);
	if (r)
		return r;
	summarize(&rows, &s);
	if (!never_sent(n, &s))
		return delete_sent(v, n, o, &rows, &s);
	if (!s.doubled && !(s.make && s.make->other_rid.text[0]))
		return clear(v, &rows);
	return append_delete(v, n, o, &rows, true);
}

/* Everything below and `n` itself becomes records. Only n's row is left to the caller. */
static int make_tree(struct volume *v, struct name_row *n, const struct object_row *o, const struct row_rid *parent,
	const struct row_filename *name)
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
		if (r || !can_be_record(&child, &children[i].name))
			continue;
		r = make_tree(v, &children[i], &child, &n->rid, &children[i].name);
		if (!r)
			r = name_update(v->db, &children[i]);
	}
	return r;
}

/* Everything below and `n` itself leaves the origin: content that is not here would be lost (CE_ABSENT). */
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
static int take_over(struct volume *v, struct name_row *n, const struct object_row *o, const struct name_row *over,
	const struct fold_rows *own)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	int r = clear(v, own);

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
	return fold_put_record(v, n);
}

/* True when the origin can delete `over` in the step that moves another record to its place: nothing else is to be done to it. */
static int may_replace(struct volume *v, const struct name_row *over, bool *out)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	int r = fold_rows_get(v, over->store, over->rid.text, &rows);
	bool plain = over->etag.text[0];

	for (size_t i = 0; !r && i < rows.n; i++)
		plain &= rows.rows[i].state == OP_QUEUED && (rows.rows[i].kind == OP_PUT || rows.rows[i].kind == OP_ATTR);
	if (!r && plain)
		r = clear(v, &rows);
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
	return op.state == OP_QUEUED ? op_update(v->db, &op) : fold_row_renew(v, &op);
}

/* The place the record has before row `last` of it. */
static bool place_of(const struct name_row *n, const struct fold_rows *rows, const struct row_rid **parent,
	const struct row_filename **name)
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

/* Directories that were never sent and in which the rows of this record still make or move it: see the top. */
static int mark_parents(struct volume *v, const struct fold_rows *rows)
{
	int r = 0;

	for (size_t i = 0; !r && i < rows->n; i++) {
		_cleanup_rows_ struct fold_rows of_parent = { 0 };

		if (!rows->rows[i].r_name.len || !strcmp(rows->rows[i].r_parent.text, "root"))
			continue;
		r = fold_rows_get(v, rows->rows[i].store, rows->rows[i].r_parent.text, &of_parent);
		for (size_t k = 0; !r && k < of_parent.n; k++) {
			struct op_row *op = &of_parent.rows[k];

			if (!fold_row_is_make(op) || op->other_rid.text[0])
				continue;
			op->other_rid = rows->rows[i].rid;
			r = op_update(v->db, op);
		}
	}
	return r;
}

static int append_move(struct volume *v, const struct name_row *n, const struct row_rid *parent,
	const struct row_filename *name, const struct name_row *over, const struct fold_rows *rows)
{
	struct op_row op;
	int r = mark_parents(v, rows);

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
	const struct row_filename *name, const struct fold_rows *rows, const struct summary *s)
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

static int move_seen(struct volume *v, struct name_row *n, const struct object_row *o, const struct row_rid *parent,
	const struct row_filename *name, const struct name_row *over, const struct object_row *over_object)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	struct summary s;
	bool replaces = false;
	int r = fold_rows_get(v, n->store, n->rid.text, &rows);

	if (r)
		return r;
	summarize(&rows, &s);
	if (!over || !over->rid.text[0])
		return move_record(v, n, parent, name, &rows, &s);
	if (never_sent(n, &s)) {
		if (!s.doubled && !S_ISDIR(o->mode) && (o->mode & S_IFMT) == (over_object->mode & S_IFMT))
			return take_over(v, n, o, over, &rows);
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
	const struct row_filename *new_name, const struct name_row *over, const struct object_row *over_object)
{
	struct row_rid parent;
	int r = place_parent(v, o, new_parent, new_name, &parent);

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
