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
};

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

struct claim {
	const char *path;
	bool claimed;
};

/* conflict_fn: stops at the row that is of this path. */
static int claims(void *arg, const struct conflict_row *c)
{
	struct claim *k = arg;

	k->claimed = c->path && !strcmp(c->path, k->path);
	return k->claimed;
}

/* Whether an open row is of the copy at `path`. Hard links have one object, and their copies may be
 * called alike. */
static int is_claimed(struct volume *v, uint64_t object, const char *path, bool *out)
{
	struct claim k = { .path = path };
	int r = conflict_each_of(v->db, object, claims, &k);

	*out = k.claimed;
	return MIN_OF(r, 0);
}

static int add(struct renewal *l, const struct name_row *n, const struct row_filename *original,
	const char *path)
{
	struct conflict_row c = {
		.store = n->store,
		.kind = CONFLICT_ELSEWHERE,
		.object = n->object,
		.rid = n->rid,
		.path = strdup(path),
		.created_ns = l->now,
	};
	int r = c.path ? conflict_path(l->v, n->parent, original, &c.other_path) : -ENOMEM;

	if (!r)
		r = conflict_add(l->v, &c);
	conflict_row_done(&c);
	return r;
}

static int see_copy(void *arg, const struct name_row *n, const struct object_row *o)
{
	_cleanup_free_ char *path = NULL;
	struct row_filename original;
	struct renewal *l = arg;
	bool claimed;
	int r;

	if (n->parent == TREE_NOWHERE || !conflict_is_copy(&n->name, &original))
		return 0;
	r = conflict_path(l->v, n->parent, &n->name, &path);
	if (!r)
		r = is_claimed(l->v, n->object, path, &claimed);
	if (r || claimed)
		return r;
	l->wanted = true;
	return l->write ? add(l, n, &original, path) : 0;
}

/* The other file may have stayed behind. */
static int follow(struct renewal *l, const struct conflict_row *c, const struct name_row *n,
	const struct row_filename *original, const char *path)
{
	_cleanup_free_ char *other = NULL;
	struct name_row there;
	int r;

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

/* Where it is, or was moved to: a name that is called so and is no other row's. */
static int find_copy(struct renewal *l, const struct conflict_row *c, const struct name_row *names,
	size_t n, const struct name_row **out, char **at)
{
	int r = 0;

	*out = NULL;
	for (size_t i = 0; !r && i < n; i++) {
		_cleanup_free_ char *path = NULL;
		bool claimed = false, here;

		if (strcmp(last_part(c->path), (const char *)names[i].name.bytes))
			continue;
		r = conflict_path(l->v, names[i].parent, &names[i].name, &path);
		here = !r && !strcmp(path, c->path);
		if (!r && !here)
			r = is_claimed(l->v, c->object, path, &claimed);
		if (r || claimed || (*out && !here))
			continue;
		*out = &names[i];
		free(*at);
		*at = steal_ptr(&path);
	}
	return r;
}

static int see_row(void *arg, const struct conflict_row *c)
{
	_cleanup_free_ struct name_row *names = NULL;
	_cleanup_free_ char *path = NULL;
	struct row_filename name, original;
	const struct name_row *copy;
	struct renewal *l = arg;
	size_t n;
	int r;

	if (!c->object || !c->path ||
		!row_filename_set(&name, last_part(c->path), strlen(last_part(c->path))) ||
		!conflict_is_copy(&name, &original))
		return 0;
	r = tree_row_names_of(l->v, c->object, &names, &n);
	for (size_t i = 0; !r && i < n; i++)
		if (names[i].parent == TREE_NOWHERE)
			return 0; /* on its way to another place */
	if (!r)
		r = find_copy(l, c, names, n, &copy, &path);
	if (r || (copy && !strcmp(path, c->path)))
		return r;
	if (copy)
		return follow(l, c, copy, &original, path);
	l->wanted = true;
	return l->write ? conflict_close(l->v, c, l->now, MERGE_PICK_ELSEWHERE) : 0;
}

/* Rows first, so that they are where their copies are. */
static int look(struct renewal *l)
{
	int r = conflict_each(l->v->db, true, see_row, l);

	return r < 0 ? r : name_each_copy(l->v->db, see_copy, l);
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
