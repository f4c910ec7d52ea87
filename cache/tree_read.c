/* Reading the namespace: directories, symlinks, paths. */
#include "cache/tree_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/error.h"

int tree_readlink(struct volume *v, uint64_t object, char **out)
{
	struct object_row o;
	size_t len;
	int r;

	db_read(v->db);
	r = object_get(v->db, object, &o);
	if (!r)
		r = S_ISLNK(o.mode) ? object_target(v->db, object, out, &len) : -EINVAL;
	db_unlock(v->db);
	return r;
}

struct listing {
	struct volume *v;
	tree_dirent_fn *fn;
	void *arg;
};

static int list_entry(void *arg, const struct name_row *n, const struct object_row *o)
{
	struct listing *l = arg;
	struct tree_attr a;

	tree_row_attr(l->v, o, &a);
	return l->fn(l->arg, (const char *)n->name.bytes, n->id, &a);
}

/* A directory of a store never listed is not empty but unknown. */
static int listable(struct volume *v, uint64_t dir)
{
	struct object_row o;
	struct store_row s;
	int r = object_get(v->db, dir, &o);

	if (r)
		return r;
	if (!S_ISDIR(o.mode))
		return -ENOTDIR;
	if (!o.store)
		return 0;
	r = store_get(v->db, o.store, &s);
	if (r)
		return r;
	/* What is here of answers (cache/queries.h) is all there is to list. */
	return s.listed || s.mode == STORE_LOCAL || strchr(s.name, '/') ? 0 : CE_ABSENT;
}

int tree_readdir(struct volume *v, uint64_t dir, uint64_t after, tree_dirent_fn *fn, void *arg)
{
	struct listing l = { .v = v, .fn = fn, .arg = arg };
	int r;

	db_read(v->db);
	r = listable(v, dir);
	if (!r)
		r = name_each(v->db, dir, after, list_entry, &l);
	db_unlock(v->db);
	return r < 0 ? r : 0;
}

static uint64_t shown_root(struct volume *v)
{
	struct store_row s;

	if (v->only_store && !store_by_name(v->db, v->only_store, &s))
		return s.root;
	return OBJECT_ROOT;
}

static int prepend(char **path, const struct row_filename *name)
{
	char *longer;

	if (bytes_print(&longer, "%s%s%s", (const char *)name->bytes, *path && **path ? "/" : "",
		    *path ? *path : ""))
		return -ENOMEM;
	free(*path);
	*path = longer;
	return 0;
}

int tree_path_locked(struct volume *v, uint64_t object, char **out)
{
	_cleanup_free_ char *path = strdup("");
	uint64_t root = shown_root(v);
	struct name_row n;
	int r;

	if (!path)
		return -ENOMEM;
	for (unsigned depth = 0; object != root; depth++) {
		if (object == TREE_NOWHERE || object == OBJECT_ROOT || depth == TREE_DEPTH_MAX)
			return -ENOENT;
		r = tree_row_name_of(v, object, &n);
		if (!r)
			r = prepend(&path, &n.name);
		if (r)
			return r;
		object = n.parent;
	}
	*out = steal_ptr(&path);
	return 0;
}

int tree_path(struct volume *v, uint64_t object, char **out)
{
	int r;

	db_read(v->db);
	r = tree_path_locked(v, object, out);
	db_unlock(v->db);
	return r;
}

int tree_resolve(struct volume *v, const char *path, struct tree_attr *out)
{
	char part[ROW_NAME_MAX + 1];
	struct tree_attr a;
	int r = tree_root(v, &a);

	while (!r) {
		size_t len;

		path += strspn(path, "/");
		len = strcspn(path, "/");
		if (!len)
			break;
		if (len > ROW_NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(part, path, len);
		part[len] = 0;
		path += len;
		if (!strcmp(part, "."))
			continue;
		if (!S_ISDIR(a.mode))
			return -ENOTDIR;
		r = tree_lookup(v, a.object, part, &a);
	}
	if (!r)
		*out = a;
	return r;
}
