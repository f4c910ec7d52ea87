/*
 * The record is alive at the origin, in another state than our operation was based on:
 *
 * - deleted here: it comes back, for a deletion does not beat an edit;
 * - content differs on both sides: ours becomes a conflict copy, a record of its own, and the name
 *   gets the origin's version; but equal content is adopted;
 * - content differs there only: it is taken;
 * - moved there: the origin's place counts, and it is noted if we moved it, too; our replacing of
 *   another record goes on.
 *
 * Whatever of ours remains is based anew and queued again.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "cache/merge_base.h"
#include "cache/settle_priv.h"
#include "cache/tree_priv.h"

static int come_back(struct settle *s)
{
	int r = settle_clear(s);

	if (!r)
		r = remote_apply_one(&s->pass, s->current);
	return r ? r : settle_note(s, CONFLICT_DELETE_EDIT, 0, s->current->name);
}

static bool content_changed(const struct settle *s)
{
	if (s->current->kind == REMOTE_DIR)
		return false;
	return !s->name.etag.text[0] || !s->name.has_sha256 || !s->current->has_sha256 ||
	       memcmp(s->name.sha256, s->current->sha256, ROW_SHA256_LEN) != 0;
}

/* The origin's state becomes what the name is based on. What cannot be placed now comes with the
 * deferred entry. */
static int take_place(struct settle *s, struct name_row *n)
{
	bool done;
	int r = remote_place_move(&s->pass, s->current, n, &done);

	if (r)
		return r;
	remote_record_onto_name(s->current, n);
	n->seen = s->pass.store.listing;
	if (!done)
		remote_record_unplaced(n);
	r = name_update(s->v->db, n);
	return r || done ? r : remote_pass_late(&s->pass, s->current);
}

static int note_copy(struct settle *s, const struct name_row *copy)
{
	_cleanup_free_ char *path = NULL;
	int r = settle_path(s, copy, &path);

	return r ? r : settle_note(s, CONFLICT_EDIT_EDIT, copy->object, path);
}

#define MERGE_PATIENCE_MS 10000

/* The object stays what open handles know, under the new name; the old name gets an object for the
 * origin's version. */
static int make_copy(struct settle *s, struct name_row *copy)
{
	struct row_rid parent;
	int r = conflict_name(s->v, s->name.parent, &s->name.name, s->pass.now, &copy->name);

	if (!r)
		r = tree_row_rid(s->v, s->name.store, s->name.parent, &parent);
	if (!r && parent.text[0])
		r = fold_make_at(s->v, copy, &s->object, &parent, &copy->name);
	if (!r)
		r = name_insert(s->v->db, copy);
	s->object.nlink++;
	if (!r)
		r = object_update(s->v->db, &s->object);
	if (!r)
		r = tree_row_own_content(s->v, &s->object);
	return r ? r : remote_pass_entry(&s->pass, copy->parent, &copy->name, &s->object);
}

/* A rule may make it one file again: until then the copy is not sent, but not for long. */
static int put_off_copy(struct settle *s, const struct name_row *copy)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	const struct merge_rule *rule;
	int r = merge_base_rule(s->v, &s->name, &rule);

	if (!r && rule)
		r = fold_rows_get(s->v, copy->store, copy->rid.text, &rows);
	for (size_t i = 0; !r && i < rows.n; i++) {
		rows.rows[i].next_try_ms = s->pass.now / NS_PER_MS + MERGE_PATIENCE_MS;
		r = op_update(s->v->db, &rows.rows[i]);
	}
	return r;
}

static int keep_both(struct settle *s)
{
	struct name_row copy = {
		.store = s->name.store, .parent = s->name.parent, .object = s->name.object
	};
	int r = merge_base_take(
		s->v, s->name.store, s->name.rid.text, s->name.etag.text, &s->pass.base);

	if (!r)
		r = settle_clear(s);
	if (!r)
		r = make_copy(s, &copy);
	if (!r)
		r = put_off_copy(s, &copy);
	if (!r)
		r = remote_update_replace(&s->pass, s->current, &s->name, &s->object);
	if (!r)
		r = take_place(s, &s->name);
	return r ? r : note_copy(s, &copy);
}

static int adopt_put(struct settle *s)
{
	if (!s->has_mode || s->object.mode == remote_record_mode(s->current))
		return fold_row_delete(s->v, &s->op);
	s->op.kind = OP_ATTR; /* the mode that was set with it is not there */
	s->has_attr = true;
	return fold_row_renew(s->v, &s->op);
}

/* What was sent is there already. Later rows of the record stay. */
static int adopt(struct settle *s)
{
	bool later = false;
	int r = 0;

	for (size_t i = 0; i < s->rows.n; i++)
		later |= s->rows.rows[i].kind == OP_PUT && s->rows.rows[i].seq != s->op.seq;
	if (s->op.kind == OP_PUT)
		r = later ? fold_row_delete(s->v, &s->op) : adopt_put(s);
	if (r || later)
		return r;
	s->has_put = false;
	s->name.has_sha256 = s->current->has_sha256;
	memcpy(s->name.sha256, s->current->sha256, sizeof(s->name.sha256));
	return tree_row_map_etag(s->v, &s->object, "", s->current->etag);
}

static bool is_place(
	const struct remote_record *rec, const char *parent, const struct row_filename *name)
{
	return !strcmp(rec->parent, parent) && name->len == strlen(rec->name) &&
	       !memcmp(name->bytes, rec->name, name->len);
}

/* Of those that replace another record only when `all`: the other is deleted nevertheless, as its
 * name was taken here. */
static int give_up_moves(struct settle *s, bool all)
{
	_cleanup_free_ char *path = NULL;
	struct row_rid parent;
	int r = settle_path(s, &s->name, &path);

	if (!r)
		r = tree_row_rid(s->v, s->name.store, s->name.parent, &parent);
	for (size_t i = 0; !r && i < s->rows.n; i++) {
		const struct op_row *row = &s->rows.rows[i];
		bool two = fold_row_is_double(row);

		if (row->kind != OP_MOVE || fold_row_is_shadow(row) || (two && !all))
			continue;
		r = fold_row_delete(s->v, row);
		if (!r && two)
			r = fold_row_delete_other(s->v, row);
	}
	/* Both moved it to one place. */
	if (r || is_place(s->current, parent.text, &s->name.name))
		return r;
	return conflict_note(
		&s->pass, CONFLICT_MOVE, s->name.object, s->name.rid.text, path, s->current->name);
}

static bool moved_there(const struct settle *s)
{
	return !is_place(s->current, s->name.r_parent.text, &s->name.r_name);
}

/* The record is where the move was to bring it, whoever did it: ours was done and its answer lost,
 * or another had the same wish. What we did since goes on from there. */
static int take_arrival(struct settle *s, bool *arrived)
{
	if (s->op.kind != OP_MOVE || fold_row_is_double(&s->op) ||
		!is_place(s->current, s->op.r_parent.text, &s->op.r_name))
		return 0;
	*arrived = true;
	s->has_move = false;
	for (size_t i = 0; i < s->rows.n; i++) {
		const struct op_row *row = &s->rows.rows[i];

		s->has_move |=
			row->kind == OP_MOVE && row->seq != s->op.seq && !fold_row_is_double(row);
	}
	return fold_row_delete(s->v, &s->op);
}

/* Everything that is left is sent again, based on the origin's state. */
static int requeue(struct settle *s)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	int r = fold_rows_get(s->v, s->op.store, s->op.rid.text, &rows);

	for (size_t i = 0; !r && i < rows.n; i++) {
		struct op_row *row = &rows.rows[i];

		if (fold_row_is_shadow(row))
			continue;
		memcpy(row->base_etag.text, s->current->etag, sizeof(row->base_etag.text));
		row->object = s->name.object; /* a link may have been broken */
		if (row->kind == OP_PUT)
			row->r_name.len = 0;
		r = row->seq == s->op.seq ? fold_row_renew(s->v, row) : op_update(s->v->db, row);
	}
	return r;
}

/* What is still to be sent brings a mode as well; unless it was set here, it is the origin's. Not
 * that of a hard link, which has one mode for several records. */
static int take_mode(struct settle *s)
{
	const uint32_t mode = remote_record_mode(s->current);
	int r;

	if (s->has_mode || s->object.mode == mode ||
		(!S_ISDIR(s->object.mode) && s->object.nlink > 1))
		return 0;
	s->object.mode = mode;
	s->object.ctime_ns = s->pass.now;
	r = object_update(s->v->db, &s->object);
	return r ? r : remote_pass_object(&s->pass, CHANGE_ATTR, &s->object);
}

/* Mode and time of ours are still to be sent, or the origin's count. */
static int take_attributes(struct settle *s, bool changed)
{
	const uint32_t mode = s->object.mode;
	int r;

	if (s->has_put)
		return take_mode(s);
	if (s->has_attr && !changed) {
		r = take_mode(s);
		return r ? r : remote_update_kept(s->v, &s->object, &s->name, s->current->etag);
	}
	r = remote_update_object(&s->pass, s->current, &s->name);
	if (r || !s->has_mode)
		return r;
	r = object_get(s->v->db, s->name.object, &s->object);
	s->object.mode = (s->object.mode & S_IFMT) | (mode & 07777);
	return r ? r : object_update(s->v->db, &s->object);
}

static int rebase(struct settle *s, bool changed)
{
	/* The state it was based on stands: it is the move itself that cannot be (a loop, no
	 * directory). */
	const bool impossible =
		s->op.kind == OP_MOVE && !strcmp(s->op.base_etag.text, s->current->etag);
	bool arrived = false, moved;
	int r = 0;

	if (changed && !s->has_put && filetab_busy(s->v, s->object.id))
		return settle_later(s);
	if (!impossible)
		r = take_arrival(s, &arrived);
	moved = !arrived && moved_there(s);
	if (!r && s->has_put && changed)
		r = adopt(s);
	else if (!r && s->has_put)
		r = merge_base_renamed(s->v, s->name.store, s->name.rid.text, s->current->etag);
	if (!r)
		r = take_attributes(s, changed);
	if (!r && (impossible || (moved && s->has_move && !s->doubled)))
		r = give_up_moves(s, impossible);
	if (r)
		return r;
	if (!impossible && (s->doubled || (s->has_move && !moved))) {
		remote_record_onto_name(s->current, &s->name);
		r = name_update(s->v->db, &s->name);
	} else {
		r = take_place(s, &s->name);
	}
	return r ? r : requeue(s);
}

int settle_live(struct settle *s)
{
	bool changed;

	if (!s->name.id)
		return come_back(s);
	if (((s->object.mode ^ remote_record_mode(s->current)) & S_IFMT) != 0)
		return S_ISDIR(s->object.mode) ? settle_gone(s) : keep_both(s);
	changed = content_changed(s);
	if (s->has_put && changed && !s->equal)
		return keep_both(s);
	return rebase(s, changed);
}
