/* Extended attributes: local, no origin keeps them. */
#include "cache/tree_priv.h"

#include <errno.h>
#include <limits.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/xattr.h>

#include "base/clock.h"

static int check_name(const char *name)
{
	size_t len = strlen(name);

	if (!len || len > XATTR_NAME_MAX)
		return -ERANGE;
	/* ACLs and labels mean something to the kernel only where a file system keeps them for it.
	 */
	return strncmp(name, "system.", 7) ? 0 : -EOPNOTSUPP;
}

static int open_object(struct volume *v, uint64_t object, struct object_row *o)
{
	struct store_row s;
	int r = object_get(v->db, object, o);

	if (r)
		return r;
	if (!o->store)
		return -EPERM;
	r = store_get(v->db, o->store, &s);
	if (r)
		return r;
	return s.mode == STORE_RO ? -EROFS : 0;
}

static int check_flags(struct volume *v, uint64_t object, const char *name, int flags)
{
	_cleanup_free_ void *old = NULL;
	size_t len;
	int r;

	if (!(flags & (XATTR_CREATE | XATTR_REPLACE)))
		return 0;
	r = object_xattr_get(v->db, object, name, &old, &len);
	if (!r)
		return flags & XATTR_CREATE ? -EEXIST : 0;
	if (r != -ENOENT && r != -ENODATA)
		return r;
	return flags & XATTR_REPLACE ? -ENODATA : 0;
}

static int changed(struct volume *v, struct object_row *o)
{
	o->ctime_ns = clock_file_ns();
	return object_update(v->db, o);
}

int tree_setxattr(struct volume *v, uint64_t object, const char *name, const void *value,
	size_t len, int flags)
{
	struct object_row o;
	int r = check_name(name);

	if (r)
		return r;
	if (len > XATTR_SIZE_MAX)
		return -E2BIG;
	r = space_begin(v, true);
	if (r)
		return r;
	r = db_begin(v->db);
	if (!r) {
		r = open_object(v, object, &o);
		if (!r)
			r = check_flags(v, object, name, flags);
		if (!r)
			r = object_xattr_set(v->db, object, name, value, len);
		if (!r)
			r = changed(v, &o);
		r = tree_row_end(v, r);
	}
	space_end(v);
	return r;
}

int tree_getxattr(struct volume *v, uint64_t object, const char *name, void **out, size_t *len)
{
	int r = check_name(name);

	if (r)
		return r == -ERANGE ? -ENODATA : r;
	db_read(v->db);
	r = object_xattr_get(v->db, object, name, out, len);
	db_unlock(v->db);
	return r == -ENOENT ? -ENODATA : r;
}

int tree_listxattr(struct volume *v, uint64_t object, char **out, size_t *len)
{
	int r;

	db_read(v->db);
	r = object_xattr_list(v->db, object, out, len);
	db_unlock(v->db);
	return r;
}

int tree_removexattr(struct volume *v, uint64_t object, const char *name)
{
	_cleanup_free_ void *old = NULL;
	struct object_row o;
	size_t len;
	int r = check_name(name);

	space_relieve(v);
	if (!r)
		r = db_begin(v->db);
	if (r)
		return r;
	r = open_object(v, object, &o);
	if (!r)
		r = object_xattr_get(v->db, object, name, &old, &len);
	if (!r)
		r = object_xattr_remove(v->db, object, name);
	if (!r)
		r = changed(v, &o);
	r = tree_row_end(v, r);
	return r == -ENOENT ? -ENODATA : r;
}
