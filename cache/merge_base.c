#include "cache/merge_base.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "cache/fold_priv.h"
#include "cache/merge.h"
#include "cache/tree_priv.h"

int merge_base_rule(struct volume *v, const struct name_row *n, const struct merge_rule **out)
{
	_cleanup_free_ char *dir = NULL, *path = NULL;
	const char *inside;
	struct store_row s;
	int r;

	*out = NULL;
	if (!v->rules || !v->rules->n)
		return 0;
	r = store_get(v->db, n->store, &s);
	if (!r)
		r = tree_path_locked(v, n->parent, &dir);
	if (r)
		return r == -ENOENT ? 0 : r;
	/* The path begins at the mount's root: with the store's directory, unless it is that. */
	inside = v->only_store ? dir : dir + strcspn(dir, "/");
	inside += *inside == '/';
	if (bytes_print(&path, "%s%s%s", inside, *inside ? "/" : "", (const char *)n->name.bytes))
		return -ENOMEM;
	*out = merge_rule_find(v->rules, s.name, path);
	return 0;
}

static bool may_merge(const struct merge_rule *rule)
{
	return rule && (rule->policy == MERGE_FIELDS || rule->policy == MERGE_COMMAND);
}

static int keep_name(struct volume *v, const struct name_row *n, const struct content_map *m)
{
	const struct merge_rule *rule;
	uint64_t map;
	int r;

	if (!n->rid.text[0] || !n->etag.text[0] || strcmp(n->etag.text, m->etag.text))
		return 0;
	r = merge_base_rule(v, n, &rule);
	if (r || !may_merge(rule))
		return r;
	r = merge_base_drop(v, n->store, n->rid.text);
	if (!r)
		r = content_map_clone(v->db, m->id, CONTENT_MAP_SNAPSHOT, &map);
	return r ? r : conflict_base_put(v->db, n->store, n->rid.text, map);
}

int merge_base_keep(struct volume *v, const struct object_row *o)
{
	_cleanup_free_ struct name_row *names = NULL;
	struct content_map m;
	size_t n = 0;
	int r;

	if (!v->rules || !v->rules->n || !o->map)
		return 0;
	r = content_map_get(v->db, o->map, &m);
	if (r || !m.etag.text[0] || !m.whole || m.size > MERGE_MAX_BYTES)
		return r;
	r = tree_row_names_of(v, o->id, &names, &n);
	for (size_t i = 0; !r && i < n; i++)
		r = keep_name(v, &names[i], &m);
	return r;
}

/* *map 0: there is none. */
static int find(struct volume *v, uint64_t store, const char *rid, struct content_map *m)
{
	uint64_t map;
	int r = conflict_base_get(v->db, store, rid, &map);

	m->id = 0;
	if (!r)
		r = content_map_get(v->db, map, m);
	return r == -ENOENT ? 0 : r;
}

int merge_base_drop(struct volume *v, uint64_t store, const char *rid)
{
	struct content_map m;
	int r = find(v, store, rid, &m);

	if (r || !m.id)
		return r;
	r = conflict_base_delete(v->db, store, rid);
	return r ? r : gc_drop_map(v, m.id);
}

int merge_base_take(
	struct volume *v, uint64_t store, const char *rid, const char *etag, uint64_t *map)
{
	struct content_map m;
	int r = find(v, store, rid, &m);

	if (r || !m.id)
		return r;
	if (strcmp(m.etag.text, etag))
		return merge_base_drop(v, store, rid);
	r = conflict_base_delete(v->db, store, rid);
	if (!r)
		*map = m.id;
	return r;
}

static int rename_map(struct volume *v, struct content_map *m, const char *etag)
{
	snprintf(m->etag.text, sizeof(m->etag.text), "%s", etag);
	return content_map_update(v->db, m);
}

int merge_base_renamed(struct volume *v, uint64_t store, const char *rid, const char *etag)
{
	struct content_map m;
	int r = find(v, store, rid, &m);

	return r || !m.id ? r : rename_map(v, &m, etag);
}

static bool has_later_put(const struct fold_rows *rows, const struct op_row *put)
{
	for (size_t i = 0; i < rows->n; i++)
		if (rows->rows[i].kind == OP_PUT && rows->rows[i].seq != put->seq)
			return true;
	return false;
}

int merge_base_sent(struct volume *v, struct op_row *put, const char *etag)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	struct content_map m;
	int r = find(v, put->store, put->rid.text, &m);

	if (r || !m.id)
		return r;
	r = merge_base_drop(v, put->store, put->rid.text);
	if (!r)
		r = fold_rows_get(v, put->store, put->rid.text, &rows);
	if (r || !put->map || !has_later_put(&rows, put))
		return r;
	r = content_map_get(v->db, put->map, &m);
	if (!r)
		r = rename_map(v, &m, etag);
	if (!r)
		r = conflict_base_put(v->db, put->store, put->rid.text, m.id);
	if (!r)
		put->map = 0;
	return r;
}
