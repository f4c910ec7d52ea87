/*
 * The operation cannot be done where it was to be: the place is taken, the parent is unknown, or
 * the record it replaces is another by now.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/settle_priv.h"
#include "cache/tree_priv.h"

#define NO_PARENT_TRIES 8

/* Deleted here since: what was never made need not be; what stands there is news to us. */
static int deleted_since(struct settle *s, const struct remote_record *standing)
{
	int r = fold_row_is_make(&s->op) ? settle_clear(s) : fold_row_delete(s->v, &s->op);

	return r || !standing ? r : remote_apply_one(&s->pass, standing);
}

static bool has_later(const struct settle *s, enum op_kind kind)
{
	for (size_t i = 0; i < s->rows.n; i++)
		if (s->rows.rows[i].kind == kind && s->rows.rows[i].seq != s->op.seq)
			return true;
	return false;
}

/* Both sides made the same: ours is that record. */
static int adopt(struct settle *s)
{
	bool later = has_later(s, OP_PUT) || has_later(s, OP_ATTR);
	struct name_row *n = &s->name;
	int r;

	if (S_ISDIR(s->object.mode)) {
		r = fold_adopt(s->v, n, s->standing->id);
		s->pass.any_deferred = true;
		if (!r)
			r = remote_pass_arrived(&s->pass, s->standing->id);
	} else {
		r = settle_clear(s);
		memcpy(n->rid.text, s->standing->id, sizeof(n->rid.text));
	}
	remote_record_onto_name(s->standing, n);
	n->seen = s->pass.store.listing;
	if (!r)
		r = name_update(s->v->db, n);
	if (r || (later && !S_ISDIR(s->object.mode)))
		return r ? r : fold_put_record(s->v, n);
	r = tree_row_map_etag(s->v, &s->object, "", s->standing->etag);
	return r ? r : remote_update_object(&s->pass, s->standing, n);
}

/* Renamed since it was sent: it is made where it stands now, behind everything. */
static int make_here(struct settle *s)
{
	struct row_rid parent;
	int r = tree_row_rid(s->v, s->name.store, s->name.parent, &parent);

	if (!r)
		r = fold_rows_clear(s->v, s->op.store, s->op.rid.text);
	if (r)
		return r;
	if (!parent.text[0]) {
		fold_forget(&s->name);
		return name_update(s->v->db, &s->name);
	}
	return fold_make_again(s->v, &s->name, &s->object, s->name.rid.text, &parent);
}

/* It will replace a record by a row behind this one: it waits under a name nobody has. */
static int make_apart(struct settle *s)
{
	int r = fold_row_renew(s->v, &s->op);

	if (!r)
		r = fold_row_nowhere(&s->op.r_name, "new");
	return r ? r : op_update(s->v->db, &s->op);
}

static int make_taken(struct settle *s, bool in_place)
{
	struct name_row other;
	bool leaving = false; /* what stands there is deleted here, and that is still to be sent */
	int known = name_by_rid(s->v->db, s->op.store, s->standing->id, &other), r;

	if (known && known != -ENOENT)
		return known;
	r = known ? fold_pending(s->v, s->op.store, s->standing->id, &leaving) : 0;
	if (r)
		return r;
	/* An origin that folds names has it under another: then there are two. */
	if (in_place && s->equal && known == -ENOENT && !leaving &&
		!strcmp(s->standing->name, (const char *)s->name.name.bytes) &&
		s->standing->kind == (S_ISDIR(s->object.mode)          ? REMOTE_DIR
					     : S_ISLNK(s->object.mode) ? REMOTE_SYMLINK
								       : REMOTE_FILE))
		return adopt(s);
	if (s->doubled)
		r = make_apart(s);
	else if (!in_place)
		r = make_here(s);
	else
		r = fold_row_renew(s->v, &s->op);
	if (!r && in_place && !s->doubled)
		r = conflict_step_aside(&s->pass, &s->name, CONFLICT_CREATE_CREATE);
	return r ? r : remote_apply_one(&s->pass, s->standing);
}

/* What it was to replace is not there: it is deleted on its own. */
static int move_taken(struct settle *s, bool in_place)
{
	const struct op_row was = s->op;
	int r = 0;

	if (fold_row_is_double(&s->op)) {
		r = fold_row_single(s->v, &s->op);
		if (!r)
			r = fold_row_delete_other(s->v, &was);
	} else if (in_place) {
		r = fold_row_renew(s->v, &s->op);
	}
	if (!r && in_place)
		r = conflict_step_aside(&s->pass, &s->name, CONFLICT_MOVE);
	else if (!r)
		r = fold_row_delete(s->v, &s->op);
	return r ? r : remote_apply_one(&s->pass, s->standing);
}

int settle_place_taken(struct settle *s)
{
	bool in_place;
	int r;

	if (!s->name.id)
		return deleted_since(s, s->standing);
	r = settle_in_place(s, &in_place);
	if (r)
		return r;
	if (fold_row_is_make(&s->op))
		return make_taken(s, in_place);
	return move_taken(s, in_place);
}

/* The record that was to be replaced is another by now: it stays. Is it gone, the move is a plain
 * one. */
int settle_other(struct settle *s)
{
	bool in_place = false;
	int r = s->name.id ? settle_in_place(s, &in_place) : 0;

	if (!r)
		r = fold_row_single(s->v, &s->op);
	if (r || s->current->deleted)
		return r;
	if (in_place)
		r = conflict_step_aside(&s->pass, &s->name, CONFLICT_EDIT_EDIT);
	return r ? r : remote_apply_one(&s->pass, s->current);
}

static int refuse(struct settle *s)
{
	int r = fold_row_renew(s->v, &s->op);

	s->op.state = OP_REFUSED;
	s->op.status = 409;
	snprintf(s->op.error, sizeof(s->op.error), "its directory is unknown at the origin");
	return r ? r : op_update(s->v->db, &s->op);
}

/* Said before, that is by the answer before this one. From the first of them on attempts count
 * these answers: those that failed on the way before say nothing. */
static bool said_before(const struct settle *s)
{
	return s->op.status == 409;
}

/* As often as it takes, but not for ever. */
static int try_again(struct settle *s)
{
	const uint32_t attempts = said_before(s) ? s->op.attempts : 1;
	int r = fold_row_renew(s->v, &s->op);

	s->op.attempts = attempts;
	s->op.status = 409;
	return r ? r : op_update(s->v->db, &s->op);
}

int settle_no_parent(struct settle *s)
{
	struct object_row dir;
	struct name_row parent;
	struct row_rid rid;
	/* Said once, it may have been said before the directory was made: two requests crossed. */
	const bool again = said_before(s);
	int r;

	if (!s->name.id)
		return deleted_since(s, NULL);
	if (!strcmp(s->op.r_parent.text, "root"))
		return refuse(s);
	r = tree_row_rid(s->v, s->name.store, s->name.parent, &rid);
	if (r)
		return r;
	if (strcmp(rid.text, s->op.r_parent.text)) {
		/* It has moved on, or its directory has been made again already. */
		if (fold_row_is_make(&s->op) && !s->doubled)
			return make_here(s);
		r = try_again(s);
		fold_row_place(&s->op, &rid, &s->name.name);
		return r ? r : op_update(s->v->db, &s->op);
	}
	r = tree_row_name_of(s->v, s->name.parent, &parent);
	if (!r)
		r = object_get(s->v->db, parent.object, &dir);
	if (!r && again && s->op.attempts > NO_PARENT_TRIES)
		return refuse(s);
	if (!r)
		r = try_again(s);
	if (r || !parent.etag.text[0] || !again)
		return r;
	return remote_park_revive(&s->pass, &parent, &dir);
}
