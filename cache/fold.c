/*
 * Folding: the journal says what has to be done, not what was done.
 *
 * Invariant (FOLD): replaying the rows in order on the origin's state gives the local tree. Every
 * rule keeps it:
 *
 * 1. Content and attributes are read when a row is sent, so a QUEUED PUT takes all later writes
 *    in; an INFLIGHT row is frozen and a new row goes behind it.
 *
 * 2. A record that was never sent and is deleted: its rows vanish.
 *
 * 3. A deleted record: its PUT and ATTR rows vanish. A MOVE may have made room for a row behind
 *    it, so the first MOVE becomes the DELETE where it stands; a directory is deleted at the end,
 *    when it is empty.
 *
 * 4. A record never sent and renamed: its place is changed where its row stands, if no row behind
 *    it has to do with the new place; else a MOVE row is appended.
 *
 * 5. A file never sent that is renamed over a record becomes the content of that record.
 *
 * 6. A MOVE that is the last row of the journal is changed when its record moves on; when it moves
 *    back, it vanishes.
 *
 * 7. An ATTR row is taken in by a QUEUED PUT, and becomes a PUT when content follows. Whether it
 *    was the mode that was set is marked on the row.
 *
 * Where a rule does not apply, a row is appended: always right, only longer.
 *
 * Rule 2 needs one thing more. A record that left a never-sent directory by an appended MOVE is
 * still made inside it, and a directory that moved into one and was deleted there still goes there,
 * so the directory's rows must stay: its PUT is marked (other_rid) and its deletion is appended,
 * which marks the directory it is made in.
 */
#include "cache/fold_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/secret.h"
#include "cache/tree_priv.h"
#include "cache/unsent.h"

bool fold_can_stand(const struct object_row *o, const struct row_filename *name)
{
	return (S_ISREG(o->mode) || S_ISDIR(o->mode) || S_ISLNK(o->mode)) &&
	       bytes_is_utf8(name->bytes, name->len);
}

int fold_place_parent(struct volume *v, const struct object_row *o, uint64_t parent,
	const struct row_filename *name, struct row_rid *out)
{
	struct store_row s;
	int r;

	out->text[0] = 0;
	if (!fold_can_stand(o, name))
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

void fold_fresh(struct name_row *n)
{
	uint8_t id[16];

	fold_forget(n);
	secret_random(id, sizeof(id));
	bytes_to_hex(id, sizeof(id), n->rid.text);
}

int fold_make_at(struct volume *v, struct name_row *n, const struct object_row *o,
	const struct row_rid *parent, const struct row_filename *name)
{
	struct op_row op;

	fold_fresh(n);
	fold_row_init(&op, OP_PUT, n->store, n->rid.text, o->id, NULL);
	fold_row_place(&op, parent, name);
	return op_insert(v->db, &op);
}

int fold_make(struct volume *v, struct name_row *n, const struct object_row *o)
{
	struct row_rid parent;
	int r = fold_place_parent(v, o, n->parent, &n->name, &parent);

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
		if (row->kind == OP_PUT && row->state != OP_REFUSED)
			return 0;
		row->kind = OP_PUT;
		return fold_row_renew(v, row);
	}
	fold_row_init(&op, OP_PUT, n->store, n->rid.text, n->object, &n->etag);
	return op_insert(v->db, &op);
}

static int attr_row(struct volume *v, const struct name_row *n, bool mode)
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
		if (!mode)
			return 0;
		fold_row_mark_mode(row);
		return op_update(v->db, row);
	}
	fold_row_init(&op, OP_ATTR, n->store, n->rid.text, n->object, &n->etag);
	if (mode)
		fold_row_mark_mode(&op);
	return op_insert(v->db, &op);
}

static int time_record(struct volume *v, const struct name_row *n)
{
	return attr_row(v, n, false);
}

int fold_mode_record(struct volume *v, const struct name_row *n)
{
	return attr_row(v, n, true);
}

static int each_record(struct volume *v, const struct object_row *o,
	int (*fn)(struct volume *v, const struct name_row *n))
{
	_cleanup_free_ struct name_row *names = NULL;
	size_t n = 0;
	int r = tree_row_names_of(v, o->id, &names, &n);

	for (size_t i = 0; !r && i < n; i++)
		if (names[i].rid.text[0]) {
			unsent_note(v, names[i].store, names[i].rid.text);
			r = fn(v, &names[i]);
		}
	return r;
}

int fold_put(struct volume *v, const struct object_row *o)
{
	return each_record(v, o, fold_put_record);
}

int fold_attr(struct volume *v, const struct object_row *o, bool mode)
{
	return each_record(v, o, mode ? fold_mode_record : time_record);
}

void fold_summarize(const struct fold_rows *rows, struct fold_summary *s)
{
	*s = (struct fold_summary){ 0 };
	for (size_t i = 0; i < rows->n; i++) {
		const struct op_row *op = &rows->rows[i];

		s->inflight |= op->state == OP_INFLIGHT && !fold_row_is_shadow(op);
		s->doubled |= fold_row_is_double(op);
		s->moved |= op->kind == OP_MOVE || op->kind == OP_SWAP;
		if (fold_row_is_make(op) && op->state != OP_INFLIGHT)
			s->make = op;
	}
}

bool fold_never_sent(const struct name_row *n, const struct fold_summary *s)
{
	return !n->etag.text[0] && !s->inflight;
}

int fold_rows_delete(struct volume *v, const struct fold_rows *rows)
{
	int r = 0;

	for (size_t i = 0; !r && i < rows->n; i++)
		r = fold_row_delete(v, &rows->rows[i]);
	return r;
}

/* Where the record stands at the origin when its rows in flight are done. */
static void place_before(
	const struct name_row *n, const struct fold_rows *rows, struct op_row *into)
{
	if (n->r_name.len)
		fold_row_place(into, &n->r_parent, &n->r_name);
	for (size_t i = 0; i < rows->n; i++) {
		const struct op_row *op = &rows->rows[i];

		if (op->r_name.len && (op->state == OP_INFLIGHT || fold_row_is_make(op)))
			fold_row_place(into, &op->r_parent, &op->r_name);
	}
}

int fold_mark_parents(struct volume *v, const struct fold_rows *rows)
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
	if (!r)
		r = fold_mark_parents(v, rows);
	return r ? r : op_insert(v->db, &op);
}

/* Rule 3. */
static int delete_sent(struct volume *v, const struct name_row *n, const struct object_row *o,
	const struct fold_rows *rows, const struct fold_summary *s)
{
	const bool convert = !S_ISDIR(o->mode) && !s->doubled;
	bool deleted = false, moved = s->doubled;
	int r = 0;

	for (size_t i = 0; !r && i < rows->n; i++) {
		struct op_row op = rows->rows[i];

		if (op.state == OP_INFLIGHT)
			continue;
		if (op.kind == OP_PUT || op.kind == OP_ATTR ||
			(op.kind == OP_MOVE && convert && deleted)) {
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
	struct fold_summary s;
	int r;

	if (!n->rid.text[0])
		return 0;
	r = fold_rows_get(v, n->store, n->rid.text, &rows);
	if (r)
		return r;
	fold_summarize(&rows, &s);
	if (!fold_never_sent(n, &s))
		return delete_sent(v, n, o, &rows, &s);
	if (!s.doubled && !(s.make && s.make->other_rid.text[0]))
		return fold_rows_delete(v, &rows);
	return append_delete(v, n, o, &rows, true);
}
