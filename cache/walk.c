/* Depth first, with a stack of its own: directories nest as deep as they like. */
#include "cache/walk.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/array.h"
#include "base/error.h"
#include "cache/tree_priv.h"

#define BATCH 128
#define WILDCARDS "*?[\\"

/* A directory whose entries are to be looked at; rest NULL: all below it. */
struct todo {
	uint64_t dir;
	const char *rest;
};

struct entry {
	struct walk_file file;
	bool dir, regular;
	char name[ROW_NAME_MAX + 1];
};

struct walk {
	struct volume *v;
	walk_fn *fn;
	void *arg;
	struct todo *stack;
	size_t n, cap;
	uint64_t matched;
	struct entry batch[BATCH];
	size_t batch_n;
	uint64_t after;
};

static int push(struct walk *w, uint64_t dir, const char *rest)
{
	if (ARRAY_ROOM(w->stack, w->n, w->cap))
		return -ENOMEM;
	w->stack[w->n++] = (struct todo){ dir, rest && *rest ? rest : NULL };
	return 0;
}

/* Index lock held. */
static int describe(struct walk *w, const struct object_row *o, struct entry *e)
{
	struct content_map m;
	int r;

	e->file = (struct walk_file){ .object = o->id,
		.version = o->version,
		.store = o->store,
		.size = o->size,
		.map = o->map,
		.whole = true };
	e->dir = S_ISDIR(o->mode);
	e->regular = S_ISREG(o->mode);
	if (!e->regular || !o->map)
		return 0;
	r = content_map_get(w->v->db, o->map, &m);
	if (!r)
		e->file.whole = m.whole;
	return r;
}

static int take_entry(void *arg, const struct name_row *n, const struct object_row *o)
{
	struct walk *w = arg;
	struct entry *e = &w->batch[w->batch_n];
	int r = describe(w, o, e);

	if (r)
		return r;
	memcpy(e->name, n->name.bytes, n->name.len);
	e->name[n->name.len] = 0;
	w->after = n->id;
	return ++w->batch_n == BATCH;
}

static int read_batch(struct walk *w, uint64_t dir)
{
	int r;

	w->batch_n = 0;
	db_read(w->v->db);
	r = name_each(w->v->db, dir, w->after, take_entry, w);
	db_unlock(w->v->db);
	return r;
}

static int read_one(struct walk *w, uint64_t dir, const char *name, size_t len)
{
	struct object_row o;
	int r;

	w->batch_n = 0;
	db_read(w->v->db);
	r = name_lookup(w->v->db, dir, name, len, &o);
	if (!r)
		r = describe(w, &o, &w->batch[0]);
	db_unlock(w->v->db);
	if (r)
		return r == -ENOENT ? 0 : r;
	memcpy(w->batch[0].name, name, len);
	w->batch[0].name[len] = 0;
	w->batch_n = 1;
	return 0;
}

static const char *after_component(const char *rest)
{
	rest += strcspn(rest, "/");
	return rest + strspn(rest, "/");
}

/* The entry and all below it. */
static int take_all(struct walk *w, const struct entry *e)
{
	if (e->dir)
		return push(w, e->file.object, NULL);
	return e->regular ? w->fn(w->arg, &e->file) : 0;
}

static int match(struct walk *w, const struct entry *e, const char *rest)
{
	char component[ROW_NAME_MAX * 2 + 1];
	size_t len = strcspn(rest, "/");
	const char *next = after_component(rest);

	if (len >= sizeof(component))
		return 0;
	memcpy(component, rest, len);
	component[len] = 0;
	if (fnmatch(component, e->name, FNM_PERIOD))
		return 0;
	if (*next)
		return e->dir ? push(w, e->file.object, next) : 0;
	w->matched++;
	return take_all(w, e);
}

static bool is_any_depth(const char *rest)
{
	return rest[0] == '*' && rest[1] == '*' && (rest[2] == '/' || !rest[2]);
}

static int look_at(struct walk *w, const struct entry *e, const char *rest)
{
	const char *next;
	int r;

	if (!rest)
		return take_all(w, e);
	if (!is_any_depth(rest))
		return match(w, e, rest);
	next = after_component(rest);
	if (!*next) {
		w->matched++;
		return take_all(w, e);
	}
	r = match(w, e, next);
	return !r && e->dir ? push(w, e->file.object, rest) : r;
}

static int look_at_batch(struct walk *w, const char *rest)
{
	int r = 0;

	for (size_t i = 0; i < w->batch_n && !r; i++)
		r = look_at(w, &w->batch[i], rest);
	return r;
}

static int look_into(struct walk *w, const struct todo *t)
{
	size_t len = t->rest ? strcspn(t->rest, "/") : 0;
	int r;

	if (len && strcspn(t->rest, WILDCARDS) >= len) {
		r = len > ROW_NAME_MAX ? 0 : read_one(w, t->dir, t->rest, len);
		return r || len > ROW_NAME_MAX ? r : look_at_batch(w, t->rest);
	}
	w->after = 0;
	do {
		r = read_batch(w, t->dir);
		if (!r)
			r = look_at_batch(w, t->rest);
	} while (!r && w->batch_n == BATCH);
	return r;
}

int walk_pattern(struct volume *v, const char *pattern, walk_fn *fn, void *arg, uint64_t *matched)
{
	struct walk *w = calloc(1, sizeof(*w));
	struct tree_attr root;
	struct todo t;
	int r = w ? tree_root(v, &root) : -ENOMEM;

	if (r) {
		free(w);
		return r;
	}
	*w = (struct walk){ .v = v, .fn = fn, .arg = arg };
	pattern += strspn(pattern, "/");
	w->matched = !*pattern;
	r = push(w, root.object, pattern);
	while (!r && w->n) {
		t = w->stack[--w->n];
		r = look_into(w, &t);
	}
	if (matched && r >= 0)
		*matched = w->matched;
	free(w->stack);
	free(w);
	return MIN_OF(r, 0);
}

static int name_of(struct volume *v, uint64_t object, struct name_row *n)
{
	int r;

	db_read(v->db);
	r = tree_row_name_of(v, object, n);
	db_unlock(v->db);
	return r;
}

int walk_parent(struct volume *v, uint64_t object, uint64_t *dir)
{
	struct name_row n;
	int r = name_of(v, object, &n);

	if (!r)
		*dir = n.parent;
	return r;
}

static int read_batch_by_name(struct walk *w, uint64_t dir, const struct row_filename *after)
{
	int r;

	w->batch_n = 0;
	db_read(w->v->db);
	r = name_each_by_name(w->v->db, dir, after->bytes, after->len, take_entry, w);
	db_unlock(w->v->db);
	return r;
}

/* *more: there may be others after the batch. */
static int tell_batch(struct walk *w, const struct name_row *n, bool *more)
{
	int r = 0;

	for (size_t i = 0; i < w->batch_n && !r; i++)
		if (w->batch[i].regular && w->batch[i].file.object != n->object)
			r = w->fn(w->arg, &w->batch[i].file);
	*more = !r && w->batch_n == BATCH;
	return r;
}

/* Entries after w->after, at most up to `end`. */
static int tell_by_age(struct walk *w, const struct name_row *n, uint64_t end)
{
	bool more;
	int r;

	do {
		r = read_batch(w, n->parent);
		if (!r)
			r = tell_batch(w, n, &more);
	} while (!r && more && w->after < end);
	return r;
}

/* Entries after `after`; after none, up to n itself. */
static int tell_by_name(struct walk *w, const struct name_row *n, struct row_filename after)
{
	const bool before = !after.len;
	bool more;
	int r;

	do {
		r = read_batch_by_name(w, n->parent, &after);
		if (!r)
			r = tell_batch(w, n, &more);
		if (r || !more)
			break;
		after.len = strlen(w->batch[BATCH - 1].name);
		memcpy(after.bytes, w->batch[BATCH - 1].name, after.len + 1);
	} while (!before || strcmp((char *)after.bytes, (const char *)n->name.bytes) < 0);
	return r;
}

int walk_siblings(
	struct volume *v, uint64_t object, enum walk_order order, walk_fn *fn, void *arg)
{
	struct walk *w = calloc(1, sizeof(*w));
	struct name_row n;
	int r = w ? name_of(v, object, &n) : -ENOMEM;

	if (!r) {
		*w = (struct walk){ .v = v, .fn = fn, .arg = arg, .after = n.id };
		r = order == WALK_BY_NAME ? tell_by_name(w, &n, n.name)
					  : tell_by_age(w, &n, UINT64_MAX);
	}
	if (!r) {
		w->after = 0;
		r = order == WALK_BY_NAME ? tell_by_name(w, &n, (struct row_filename){ .len = 0 })
					  : tell_by_age(w, &n, n.id);
	}
	free(w);
	return MIN_OF(r, 0);
}

char *walk_escape(const char *path)
{
	char *out = malloc(2 * strlen(path) + 1), *to = out;

	if (!out)
		return NULL;
	for (; *path; path++) {
		if (strchr(WILDCARDS, *path))
			*to++ = '\\';
		*to++ = *path;
	}
	*to = 0;
	return out;
}
