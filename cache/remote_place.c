/*
 * Where a record goes.
 *
 * Its parent is named by id and may not be known yet: the entry is deferred until the directory
 * comes. Its place may be taken by
 *
 * - a record of the origin that has no rows here: it has moved or gone, too, but its entry comes
 *   later (swaps, chains). It is parked, out of every directory, until then;
 * - a record with unsent content or attributes: it will meet its 412 and learn where it stands
 *   now; the entry waits;
 * - a record that we moved here: it steps aside under the conflict name;
 * - a directory never sent, for a directory: they become one;
 * - a file never sent that may be equal: the entry waits for the upload, which compares
 *   (outbox_settle);
 * - anything else never sent: it steps aside under the conflict name.
 *
 * A directory that would come to lie below itself waits for the end of the pass: its parent will
 * move.
 */
#include "cache/remote_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/tree_priv.h"

int remote_place_parent(struct remote_pass *p, const struct remote_record *rec, uint64_t *out)
{
	struct object_row o;
	struct name_row n;
	int r;

	if (!strcmp(rec->parent, "root")) {
		*out = p->store.root;
		return 0;
	}
	if (!strcmp(rec->parent, p->parent_rid.text)) {
		*out = p->parent;
		return 0;
	}
	r = name_by_rid(p->v->db, p->store.id, rec->parent, &n);
	if (!r)
		r = object_get(p->v->db, n.object, &o);
	if (r)
		return r;
	if (!S_ISDIR(o.mode))
		return -ENOENT;
	snprintf(p->parent_rid.text, sizeof(p->parent_rid.text), "%s", rec->parent);
	*out = p->parent = o.id;
	return 0;
}

static bool may_be_equal(const struct remote_record *rec, const struct object_row *o)
{
	return (remote_record_mode(rec) & S_IFMT) == (o->mode & S_IFMT) && rec->size == o->size;
}

static int vacate_unsent(struct remote_pass *p, const struct remote_record *rec, struct name_row *m,
	const struct object_row *o, const struct fold_rows *rows, uint64_t self, bool *is_free)
{
	bool inflight = false, stuck = false;
	int r;

	for (size_t i = 0; i < rows->n; i++) {
		inflight |= rows->rows[i].state == OP_INFLIGHT;
		stuck |= rows->rows[i].state == OP_REFUSED || rows->rows[i].state == OP_HELD;
	}
	if (rec->kind == REMOTE_DIR && S_ISDIR(o->mode) && !self && !inflight) {
		r = fold_adopt(p->v, m, rec->id);
		return r ? r : name_update(p->v->db, m);
	}
	if (!self && (rec->kind == REMOTE_DIR ? S_ISDIR(o->mode) : may_be_equal(rec, o)) &&
		!stuck) {
		*is_free = false;
		return 0;
	}
	return conflict_step_aside(p, m, CONFLICT_CREATE_CREATE);
}

int remote_place_vacate(struct remote_pass *p, const struct remote_record *rec, uint64_t parent,
	uint64_t self, bool *is_free)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	struct object_row o;
	struct name_row m;
	int r = name_find(p->v->db, parent, rec->name, strlen(rec->name), &m);

	*is_free = true;
	if (r == -ENOENT || (!r && m.id == self))
		return 0;
	if (!r)
		r = object_get(p->v->db, m.object, &o);
	if (!r && m.rid.text[0])
		r = fold_rows_get(p->v, p->store.id, m.rid.text, &rows);
	if (r)
		return r;
	if (m.store != p->store.id)
		return queries_step_aside(p, &m, &o);
	if (!m.rid.text[0])
		return conflict_step_aside(p, &m, CONFLICT_CREATE_CREATE);
	if (!m.etag.text[0])
		return vacate_unsent(p, rec, &m, &o, &rows, self, is_free);
	if (!rows.n)
		return remote_park_name(p, &m, &o);
	if (strcmp(m.r_parent.text, rec->parent) || m.r_name.len != strlen(rec->name) ||
		memcmp(m.r_name.bytes, rec->name, m.r_name.len))
		return conflict_step_aside(p, &m, CONFLICT_MOVE);
	*is_free = false;
	return 0;
}

int remote_place_move(
	struct remote_pass *p, const struct remote_record *rec, struct name_row *n, bool *done)
{
	struct row_filename name;
	uint64_t parent;
	bool below = false;
	int r = remote_place_parent(p, rec, &parent);

	*done = false;
	if (r)
		return r == -ENOENT ? 0 : r;
	if (!row_filename_set(&name, rec->name, strlen(rec->name)))
		return -EINVAL;
	*done = n->parent == parent && tree_row_same_name(&n->name, &name);
	if (*done)
		return 0;
	r = rec->kind == REMOTE_DIR ? tree_row_below(p->v, parent, n->object, &below) : 0;
	if (r || below)
		return r;
	r = remote_place_vacate(p, rec, parent, n->id, done);
	return r || !*done ? r : remote_update_move(p, n, parent, &name);
}

static int unchanged(struct remote_pass *p, struct name_row *n)
{
	if (n->seen == p->store.listing)
		return 0;
	n->seen = p->store.listing;
	return name_update(p->v->db, n);
}

static int place_new(struct remote_pass *p, const struct remote_record *rec, uint64_t parent)
{
	struct name_row n = { .store = p->store.id, .parent = parent, .seen = p->store.listing };
	int r;

	snprintf(n.rid.text, sizeof(n.rid.text), "%s", rec->id);
	remote_record_onto_name(rec, &n);
	n.name = n.r_name;
	r = remote_update_insert(p, rec, &n);
	return r || rec->kind != REMOTE_DIR ? r : remote_pass_arrived(p, rec->id);
}

static int place_known(
	struct remote_pass *p, const struct remote_record *rec, struct name_row *n, uint64_t parent)
{
	struct row_filename name;
	int r = remote_update_object(p, rec, n);

	if (r)
		return r;
	if (!row_filename_set(&name, rec->name, strlen(rec->name)))
		return -EINVAL;
	if (n->parent != parent || !tree_row_same_name(&n->name, &name))
		r = remote_update_move(p, n, parent, &name);
	remote_record_onto_name(rec, n);
	n->seen = p->store.listing;
	if (!r)
		r = name_update(p->v->db, n);
	return r || rec->kind != REMOTE_DIR ? r : remote_pass_arrived(p, rec->id);
}

/* *ready false: the entry is dealt with for now. */
static int ready_known(struct remote_pass *p, const struct remote_record *rec,
	const struct name_row *n, uint64_t parent, bool *ready)
{
	struct object_row o;
	bool below = false;
	int r;

	*ready = false;
	if (filetab_busy(p->v, n->object))
		return remote_pass_defer(p, rec, DEFERRED_BUSY);
	/* A directory that became something else: what is in it has to go first. */
	r = rec->kind != REMOTE_DIR ? object_get(p->v->db, n->object, &o) : 0;
	if (!r && rec->kind != REMOTE_DIR && S_ISDIR(o.mode) && name_any(p->v->db, o.id) > 0)
		return remote_pass_late(p, rec);
	if (r)
		return r;
	r = rec->kind == REMOTE_DIR && n->parent != parent
		    ? tree_row_below(p->v, parent, n->object, &below)
		    : 0;
	if (r || below)
		return r ? r : remote_pass_late(p, rec);
	*ready = true;
	return 0;
}

int remote_place_record(struct remote_pass *p, const struct remote_record *rec)
{
	struct name_row n = { 0 };
	uint64_t parent;
	bool known, ready = true;
	int r = name_by_rid(p->v->db, p->store.id, rec->id, &n);

	known = !r;
	if (r && r != -ENOENT)
		return r;
	if (known && !strcmp(n.etag.text, rec->etag) && n.parent != TREE_NOWHERE)
		return unchanged(p, &n);
	if (rec->seq == REMOTE_PARK_SEQ)
		return known ? remote_park_return(p, rec, &n) : 0;
	r = remote_place_parent(p, rec, &parent);
	if (r)
		return r == -ENOENT ? remote_pass_defer(p, rec, DEFERRED_PARENT) : r;
	if (known)
		r = ready_known(p, rec, &n, parent, &ready);
	if (r || !ready)
		return r;
	r = remote_place_vacate(p, rec, parent, n.id, &ready);
	if (r || !ready)
		return r ? r : remote_pass_late(p, rec);
	/* A directory of ours may have become this record. */
	if (!known) {
		r = name_by_rid(p->v->db, p->store.id, rec->id, &n);
		known = !r;
		if (r && r != -ENOENT)
			return r;
	}
	r = known ? place_known(p, rec, &n, parent) : place_new(p, rec, parent);
	if (!r)
		p->report.applied++;
	return r;
}
