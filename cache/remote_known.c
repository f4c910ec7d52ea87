/* What the origin is known to have of an object. */
#include <errno.h>
#include <stdio.h>

#include "base/bytes.h"
#include "cache/remote.h"
#include "cache/tree_priv.h"

static int first_sent(void *arg, const struct name_row *n, const struct object_row *o)
{
	struct name_row *out = arg;

	if (!n->rid.text[0] || !n->etag.text[0])
		return 0;
	*out = *n;
	return 1;
}

int remote_known(struct volume *v, uint64_t object, struct remote_known *out)
{
	struct store_row s;
	struct name_row n = { .id = 0 };
	int r;

	db_read(v->db);
	r = name_each_of(v->db, object, first_sent, &n);
	if (r >= 0)
		r = n.id ? store_get(v->db, n.store, &s) : -ENODATA;
	db_unlock(v->db);
	if (r)
		return r;
	snprintf(out->store, sizeof(out->store), "%s", s.name);
	snprintf(out->rid, sizeof(out->rid), "%s", n.rid.text);
	snprintf(out->etag, sizeof(out->etag), "%s", n.etag.text);
	return 0;
}

static int find(
	struct volume *v, const char *store, const char *rid, char **path, struct name_row *n)
{
	_cleanup_free_ char *dir = NULL;
	struct store_row s;
	int r = store_by_name(v->db, store, &s);

	if (!r)
		r = name_by_rid(v->db, s.id, rid, n);
	if (!r)
		r = tree_path_locked(v, n->parent, &dir);
	if (r)
		return r;
	return bytes_print(path, "%s%s%s", dir, *dir ? "/" : "", (const char *)n->name.bytes);
}

int remote_find(
	struct volume *v, const char *store, const char *rid, char **path, char etag[static 65])
{
	struct name_row n;
	int r;

	db_read(v->db);
	r = find(v, store, rid, path, &n);
	db_unlock(v->db);
	if (!r)
		snprintf(etag, 65, "%s", n.etag.text);
	return r;
}
