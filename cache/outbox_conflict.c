/*
 * The list of conflicts, for people.
 *
 * The rows of `conflict` are what this device met. A conflict copy is a file on all devices, and
 * any of them may settle it, so the names in the tree have the last word: before the list is told,
 * a copy without a row gets one (CONFLICT_ELSEWHERE), a row whose copy has gone or has another name
 * is resolved, a row whose copy stands elsewhere follows it. Both are found by indexes, and nothing
 * is written unless something is to change. When it cannot be (no space), the list is as it was.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cache/outbox_priv.h"
#include "cache/remote_priv.h"
#include "cache/space.h"
#include "cache/tree_priv.h"

struct renewal {
	struct volume *v;
	int64_t now;
	bool write, wanted; /* not write: only whether something is to change */
	const struct name_row *copy;
	bool known;
};

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* conflict_fn: stops at the row that is of this very name. */
static int is_of_copy(void *arg, const struct conflict_row *c)
{
	struct renewal *l = arg;

	l->known = c->path && !strcmp(last_part(c->path), (const char *)l->copy->name.bytes);
	return l->known;
}

static int add(struct renewal *l, const struct name_row *n, const struct row_filename *original)
{
	struct conflict_row c = {
		.store = n->store,
		.kind = CONFLICT_ELSEWHERE,
		.object = n->object,
		.rid = n->rid,
		.created_ns = l->now,
	};
	int r = conflict_path(l->v, n->parent, &n->name, &c.path);

	if (!r)
		r = conflict_path(l->v, n->parent, original, &c.other_path);
	if (!r)
		r = conflict_add(l->v, &c);
	conflict_row_done(&c);
	return r;
}

static int see_copy(void *arg, const struct name_row *n, const struct object_row *o)
{
	struct renewal *l = arg;
	struct row_filename original;
	int r;

	if (n->parent == TREE_NOWHERE || !conflict_is_copy(&n->name, &original))
		return 0;
	l->copy = n;
	l->known = false;
	r = conflict_each_of(l->v->db, n->object, is_of_copy, l);
	if (r || l->known)
		return r;
	l->wanted = true;
	return l->write ? add(l, n, &original) : 0;
}

/* The other file may have stayed behind. */
static int follow(struct renewal *l, const struct conflict_row *c, const struct name_row *n,
	const struct row_filename *original)
{
	_cleanup_free_ char *path = NULL, *other = NULL;
	struct name_row there;
	int r = conflict_path(l->v, n->parent, &n->name, &path);

	if (r || !strcmp(path, c->path))
		return r;
	l->wanted = true;
	if (!l->write)
		return 0;
	r = name_find(l->v->db, n->parent, original->bytes, original->len, &there);
	if (r && r != -ENOENT)
		return r;
	if (!r)
		r = conflict_path(l->v, n->parent, original, &other);
	else
		r = 0;
	return r ? r : conflict_moved(l->v->db, c->id, path, other ? other : c->other_path);
}

static int see_row(void *arg, const struct conflict_row *c)
{
	_cleanup_free_ struct name_row *names = NULL;
	struct row_filename name, original;
	struct renewal *l = arg;
	size_t n;
	int r;

	if (!c->object || !c->path ||
		!row_filename_set(&name, last_part(c->path), strlen(last_part(c->path))) ||
		!conflict_is_copy(&name, &original))
		return 0;
	r = tree_row_names_of(l->v, c->object, &names, &n);
	for (size_t i = 0; !r && i < n; i++) {
		if (names[i].parent == TREE_NOWHERE)
			return 0; /* on its way to another place */
		if (tree_row_same_name(&names[i].name, &name))
			return follow(l, c, &names[i], &original);
	}
	l->wanted = true;
	return r || !l->write ? r : conflict_close(l->v, c, l->now, MERGE_PICK_ELSEWHERE);
}

static int look(struct renewal *l)
{
	int r = name_each_copy(l->v->db, see_copy, l);

	return r ? r : conflict_each(l->v->db, true, see_row, l);
}

static int renew(struct volume *v)
{
	struct renewal l = { .v = v, .now = clock_wall_ns() };
	int r;

	db_read(v->db);
	r = look(&l);
	db_unlock(v->db);
	if (r || !l.wanted)
		return r;
	r = space_begin(v, false);
	if (r)
		return r == -ENOSPC || r == -EROFS ? 0 : r;
	l.write = true;
	r = db_begin(v->db);
	if (!r)
		r = tree_row_end(v, look(&l));
	space_end(v);
	return r;
}

struct telling {
	outbox_conflict_fn *fn;
	void *arg;
};

static int tell(void *arg, const struct conflict_row *row)
{
	struct telling *t = arg;
	struct outbox_conflict c = {
		.id = row->id,
		.kind = conflict_kind_text(row->kind),
		.path = row->path ? row->path : "",
		.other_path = row->other_path ? row->other_path : "",
		.created_ns = row->created_ns,
		.resolved_ns = row->resolved_ns,
		.outcome = row->resolved_ns ? merge_pick_name(row->outcome) : NULL,
		.has_base = row->base != 0,
	};

	return t->fn(t->arg, &c);
}

int outbox_conflicts(struct volume *v, bool open_only, outbox_conflict_fn *fn, void *arg)
{
	struct telling t = { fn, arg };
	int r = renew(v);

	if (r)
		return r;
	db_read(v->db);
	r = conflict_each(v->db, open_only, tell, &t);
	db_unlock(v->db);
	return MIN_OF(r, 0);
}
