/*
 * The patterns are one setting: SET NUL PATTERN NUL, again and again. Whoever changes them reads,
 * changes and writes in one transaction; the bound is looked at before, on the patterns as they
 * were a moment ago: two people who pin at the same instant can pin too much together, which the
 * fetch then reports.
 */
#include "cache/pin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/bytes.h"
#include "base/error.h"
#include "cache/space.h"
#include "cache/tree_priv.h"

#define SETTING "pins"
#define MARK_BATCH 256

/* --- the patterns --- */

/* Index lock held. */
static int load(struct volume *v, struct buffer *out)
{
	_cleanup_free_ char *text = malloc(PIN_TEXT_MAX);
	size_t len;
	int r = text ? setting_get(v->db, SETTING, text, PIN_TEXT_MAX, &len) : -ENOMEM;

	if (r)
		return r == -ENOENT ? 0 : r;
	if (len && text[len - 1])
		return CE_CORRUPT;
	return buffer_append(out, text, len);
}

static int load_now(struct volume *v, struct buffer *out)
{
	int r;

	db_read(v->db);
	r = load(v, out);
	db_unlock(v->db);
	return r;
}

/* Moves on to the next one; false at the end. */
static bool next(const struct buffer *b, size_t *at, const char **set, const char **pattern)
{
	if (*at >= b->len)
		return false;
	*set = b->data + *at;
	*at += strlen(*set) + 1;
	*pattern = *at < b->len ? b->data + *at : "";
	*at += strlen(*pattern) + 1;
	return true;
}

static bool has(const struct buffer *b, const char *set, const char *pattern)
{
	const char *s, *p;
	size_t at = 0;

	while (next(b, &at, &s, &p))
		if (!strcmp(s, set) && !strcmp(p, pattern))
			return true;
	return false;
}

static int append(struct buffer *b, const char *set, const char *pattern)
{
	int r = buffer_append(b, set, strlen(set) + 1);

	return r ? r : buffer_append(b, pattern, strlen(pattern) + 1);
}

/* Those of `in` but the pattern (NULL: any) of the set. */
static int without(const struct buffer *in, const char *set, const char *pattern,
	struct buffer *out, bool *found)
{
	const char *s, *p;
	size_t at = 0;
	int r = 0;

	*found = false;
	while (!r && next(in, &at, &s, &p)) {
		if (!strcmp(s, set) && (!pattern || !strcmp(p, pattern)))
			*found = true;
		else
			r = append(out, s, p);
	}
	return r;
}

static int store(struct volume *v, const struct buffer *b)
{
	if (b->len > PIN_TEXT_MAX)
		return CE_TOO_LARGE;
	return setting_set(v->db, SETTING, b->data, b->len);
}

int pin_each(struct volume *v, pin_fn *fn, void *arg)
{
	_cleanup_(buffer_done) struct buffer b = { 0 };
	const char *set, *pattern;
	size_t at = 0;
	int r = load_now(v, &b);

	while (!r && next(&b, &at, &set, &pattern))
		r = fn(arg, set, pattern);
	return MIN_OF(r, 0);
}

/* --- the files under them --- */

struct found {
	uint64_t object, map, size;
	bool whole;
};

struct gather {
	struct volume *v;
	struct found *files;
	size_t n, cap;
	uint64_t idle;
	const char *set, *pattern; /* these alone; NULL: all */
};

static int gather_file(void *arg, const struct walk_file *f)
{
	struct gather *g = arg;

	if (!f->map)
		return 0;
	if (ARRAY_ROOM(g->files, g->n, g->cap))
		return -ENOMEM;
	g->files[g->n++] = (struct found){ f->object, f->map, f->size, f->whole };
	return 0;
}

static int gather_pattern(void *arg, const char *set, const char *pattern)
{
	struct gather *g = arg;
	uint64_t matched = 0;
	int r;

	if ((g->set && strcmp(g->set, set)) || (g->pattern && strcmp(g->pattern, pattern)))
		return 0;
	r = walk_pattern(g->v, pattern, gather_file, g, &matched);
	if (r == CE_ABSENT)
		r = 0;
	g->idle += !r && !matched;
	return r;
}

static int by_map(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return x->map < y->map ? -1 : x->map > y->map;
}

/* Each file once, by map. */
static void sort(struct gather *g)
{
	size_t n = 0;

	if (g->n)
		qsort(g->files, g->n, sizeof(*g->files), by_map);
	for (size_t i = 0; i < g->n; i++)
		if (!n || g->files[n - 1].map != g->files[i].map)
			g->files[n++] = g->files[i];
	g->n = n;
}

static uint64_t blocks_of(uint64_t size)
{
	return (size + 4095) / 4096 * 4096;
}

static void sum(const struct gather *g, struct pin_state *out)
{
	*out = (struct pin_state){ .files = g->n, .idle = g->idle };
	for (size_t i = 0; i < g->n; i++) {
		out->bytes += blocks_of(g->files[i].size);
		if (g->files[i].whole)
			continue;
		out->missing_files++;
		out->missing_bytes += g->files[i].size;
	}
}

static int gather_all(struct gather *g)
{
	int r = pin_each(g->v, gather_pattern, g);

	sort(g);
	return r;
}

int pin_look(struct volume *v, const char *set, const char *pattern, struct pin_state *out)
{
	struct gather g = { .v = v, .set = set, .pattern = pattern };
	int r = gather_all(&g);

	if (!r)
		sum(&g, out);
	free(g.files);
	return r;
}

int pin_missing(struct volume *v, walk_fn *fn, void *arg)
{
	struct gather g = { .v = v };
	struct object_row o;
	int r = gather_all(&g);

	for (size_t i = 0; i < g.n && !r; i++) {
		if (g.files[i].whole)
			continue;
		db_read(v->db);
		r = object_get(v->db, g.files[i].object, &o);
		db_unlock(v->db);
		if (!r && o.map == g.files[i].map)
			r = fn(arg, &(struct walk_file){
					    o.id, o.version, o.store, o.size, o.map, false });
		if (r == -ENOENT)
			r = 0;
	}
	free(g.files);
	return MIN_OF(r, 0);
}

/* --- marks --- */

/* A map that is gone meanwhile needs none. */
static int mark(struct volume *v, uint64_t map, bool pinned)
{
	struct content_map m;
	int r = content_map_get(v->db, map, &m);

	if (!r && m.pinned != pinned)
		r = content_map_pin(v->db, map, pinned);
	return r == -ENOENT ? 0 : r;
}

struct marks {
	uint64_t maps[MARK_BATCH];
	size_t n;
	bool pinned;
};

static int flush(struct volume *v, struct marks *k)
{
	int r = k->n ? db_begin(v->db) : 0;

	if (r || !k->n)
		return r;
	for (size_t i = 0; i < k->n && !r; i++)
		r = mark(v, k->maps[i], k->pinned);
	k->n = 0;
	return tree_row_end(v, r);
}

static int note(struct volume *v, struct marks *k, uint64_t map)
{
	k->maps[k->n++] = map;
	return k->n == MARK_BATCH ? flush(v, k) : 0;
}

/* Ids of marked maps, by id. */
static int marked(struct volume *v, uint64_t **ids, size_t *n)
{
	uint64_t *grown;
	int got;

	do {
		grown = realloc(*ids, (*n + MARK_BATCH) * sizeof(**ids));
		if (!grown)
			return -ENOMEM;
		*ids = grown;
		db_read(v->db);
		got = content_map_pinned(v->db, *n ? grown[*n - 1] : 0, grown + *n, MARK_BATCH);
		db_unlock(v->db);
		*n += (size_t)MAX_OF(got, 0);
	} while (got == MARK_BATCH);
	return MIN_OF(got, 0);
}

/* Two sorted lists against each other. */
static int follow(struct gather *g, const uint64_t *old, size_t old_n)
{
	struct marks set = { .pinned = true }, clear = { .pinned = false };
	size_t i = 0, k = 0;
	int r = 0;

	while (!r && (i < g->n || k < old_n)) {
		if (k == old_n || (i < g->n && g->files[i].map < old[k]))
			r = note(g->v, &set, g->files[i++].map);
		else if (i == g->n || g->files[i].map > old[k])
			r = note(g->v, &clear, old[k++]);
		else
			i++, k++;
	}
	if (!r)
		r = flush(g->v, &set);
	return r ? r : flush(g->v, &clear);
}

static int one_is_there(void *arg, const char *set, const char *pattern)
{
	*(bool *)arg = true;
	return 1;
}

int pin_apply(struct volume *v, struct pin_state *out, bool *any)
{
	_cleanup_free_ uint64_t *old = NULL;
	struct gather g = { .v = v };
	bool had = *any;
	size_t n = 0;
	int r;

	*any = false;
	*out = (struct pin_state){ .files = 0 };
	r = pin_each(v, one_is_there, any);
	if (r || (!*any && !had))
		return r;
	r = gather_all(&g);
	if (!r)
		r = marked(v, &old, &n);
	if (!r)
		r = follow(&g, old, n);
	if (!r)
		sum(&g, out);
	free(g.files);
	return r;
}

bool pin_is(struct volume *v, uint64_t object)
{
	struct content_map m = { .pinned = false };
	struct object_row o;

	db_read(v->db);
	if (object_get(v->db, object, &o) || !o.map || content_map_get(v->db, o.map, &m))
		m.pinned = false;
	db_unlock(v->db);
	return m.pinned;
}

/* --- changes --- */

/* With the patterns as they will be. */
static int fits(struct volume *v, const struct buffer *b, uint64_t *need)
{
	struct gather g = { .v = v };
	const char *set, *pattern;
	struct pin_state state;
	size_t at = 0;
	int r = 0;

	while (!r && next(b, &at, &set, &pattern))
		r = gather_pattern(&g, set, pattern);
	sort(&g);
	sum(&g, &state);
	free(g.files);
	if (r || state.bytes <= space_content_max(v))
		return r;
	if (need)
		*need = state.bytes;
	return -ENOSPC;
}

static int compose(const struct buffer *old, const char *set, bool replace,
	const char *const *patterns, size_t n, struct buffer *out)
{
	bool found;
	int r = replace    ? without(old, set, NULL, out, &found)
		: old->len ? buffer_append(out, old->data, old->len)
			   : 0;

	for (size_t i = 0; i < n && !r; i++)
		if (replace || !has(out, set, patterns[i]))
			r = append(out, set, patterns[i]);
	return r;
}

static int change(struct volume *v, const char *set, bool replace, const char *const *patterns,
	size_t n, uint64_t *need)
{
	_cleanup_(buffer_done) struct buffer old = { 0 }, new = { 0 };
	int r = strlen(set) > PIN_SET_MAX ? -EINVAL : load_now(v, &old);

	if (!r)
		r = compose(&old, set, replace, patterns, n, &new);
	if (!r)
		r = fits(v, &new, need);
	if (r)
		return r;
	buffer_done(&old);
	buffer_done(&new);
	old = new = (struct buffer){ 0 };
	r = db_begin(v->db);
	if (r)
		return r;
	r = load(v, &old);
	if (!r)
		r = compose(&old, set, replace, patterns, n, &new);
	if (!r)
		r = store(v, &new);
	return tree_row_end(v, r);
}

int pin_add(
	struct volume *v, const char *set, const char *const *patterns, size_t n, uint64_t *need)
{
	return change(v, set, false, patterns, n, need);
}

int pin_replace(
	struct volume *v, const char *set, const char *const *patterns, size_t n, uint64_t *need)
{
	return change(v, set, true, patterns, n, need);
}

int pin_remove(struct volume *v, const char *set, const char *pattern)
{
	_cleanup_(buffer_done) struct buffer old = { 0 }, new = { 0 };
	bool found = false;
	int r = db_begin(v->db);

	if (r)
		return r;
	r = load(v, &old);
	if (!r)
		r = without(&old, set, pattern, &new, &found);
	if (!r && !found)
		r = -ENOENT;
	if (!r)
		r = store(v, &new);
	return tree_row_end(v, r);
}
