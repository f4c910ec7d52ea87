#include "meta/object.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "meta/db_priv.h"
#include "meta/object_priv.h"

void object_read(struct stmt *s, struct object_row *o)
{
	o->id = stmt_u64(s);
	o->store = stmt_u64(s);
	o->version = stmt_u64(s);
	o->mode = (uint32_t)stmt_u64(s);
	o->uid = (uint32_t)stmt_u64(s);
	o->gid = (uint32_t)stmt_u64(s);
	o->rdev = stmt_u64(s);
	o->nlink = (uint32_t)stmt_u64(s);
	o->size = stmt_u64(s);
	o->atime_ns = stmt_i64(s);
	o->mtime_ns = stmt_i64(s);
	o->ctime_ns = stmt_i64(s);
	o->btime_ns = stmt_i64(s);
	o->map = stmt_u64(s);
}

int object_insert(struct db *db, struct object_row *o, const void *target, size_t target_len)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_OBJECT_INSERT);
	int r;

	stmt_bind_u64(&s, o->store);
	stmt_bind_u64(&s, o->version);
	stmt_bind_u64(&s, o->mode);
	stmt_bind_u64(&s, o->uid);
	stmt_bind_u64(&s, o->gid);
	stmt_bind_u64(&s, o->rdev);
	stmt_bind_u64(&s, o->nlink);
	stmt_bind_u64(&s, o->size);
	stmt_bind_i64(&s, o->atime_ns);
	stmt_bind_i64(&s, o->mtime_ns);
	stmt_bind_i64(&s, o->ctime_ns);
	stmt_bind_i64(&s, o->btime_ns);
	stmt_bind_u64(&s, o->map);
	stmt_bind_blob(&s, target, target_len);
	r = stmt_run(&s);
	if (r)
		return r;
	o->id = stmt_last_id(&s);
	memo_made_object(db_memo(db), o);
	return 0;
}

static int query_object(struct db *db, uint64_t id, struct object_row *out)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_OBJECT_GET);
	int r;

	stmt_bind_u64(&s, id);
	r = stmt_one(&s);
	if (r)
		return r;
	object_read(&s, out);
	memo_put_object(db_memo(db), out);
	return 0;
}

int object_get(struct db *db, uint64_t id, struct object_row *out)
{
	db_assert_locked(db);
	if (memo_object(db_memo(db), id, out))
		return 0;
	return query_object(db, id, out);
}

int object_update(struct db *db, const struct object_row *o)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_OBJECT_UPDATE);
	int r;

	stmt_bind_u64(&s, o->version);
	stmt_bind_u64(&s, o->mode);
	stmt_bind_u64(&s, o->uid);
	stmt_bind_u64(&s, o->gid);
	stmt_bind_u64(&s, o->rdev);
	stmt_bind_u64(&s, o->nlink);
	stmt_bind_u64(&s, o->size);
	stmt_bind_i64(&s, o->atime_ns);
	stmt_bind_i64(&s, o->mtime_ns);
	stmt_bind_i64(&s, o->ctime_ns);
	stmt_bind_u64(&s, o->map);
	stmt_bind_u64(&s, o->id);
	r = stmt_run_one(&s);
	if (r)
		memo_drop_object(db->memo, o->id);
	else
		memo_update_object(db->memo, o);
	return r;
}

int object_set_target(struct db *db, uint64_t id, const void *target, size_t len)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_OBJECT_SET_TARGET);

	stmt_bind_u64(&s, id);
	stmt_bind_blob(&s, target, len);
	return stmt_run_one(&s);
}

int object_target(struct db *db, uint64_t id, char **out, size_t *len)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_OBJECT_TARGET);
	size_t n = 0;
	char *target;
	int r;

	stmt_bind_u64(&s, id);
	r = stmt_one(&s);
	if (r < 0)
		return r;
	target = stmt_dup(&s, &n);
	if (!target)
		return s.error ? s.error : -ENOENT;
	*out = target;
	*len = n;
	return 0;
}

int object_delete(struct db *db, uint64_t id)
{
	_cleanup_stmt_ struct stmt xattrs = stmt_use(db, STMT_XATTR_REMOVE_ALL);
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_OBJECT_DELETE);
	int r;

	memo_drop_object(db->memo, id);
	stmt_bind_u64(&xattrs, id);
	r = stmt_run(&xattrs);
	if (r < 0)
		return r;
	stmt_bind_u64(&s, id);
	return stmt_run_one(&s);
}

int object_unlinked(struct db *db, uint64_t *ids, size_t max)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_OBJECT_UNLINKED);
	size_t n = 0;
	int r;

	stmt_bind_u64(&s, max);
	while ((r = stmt_row(&s)) == 1 && n < max)
		ids[n++] = stmt_u64(&s);
	return r < 0 ? r : (int)n;
}

int object_count(struct db *db, uint64_t store, uint64_t *out)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_OBJECT_COUNT);

	stmt_bind_u64(&s, store);
	return stmt_count(&s, out);
}

int object_xattr_set(struct db *db, uint64_t id, const char *name, const void *value, size_t len)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_XATTR_SET);

	stmt_bind_u64(&s, id);
	stmt_bind_blob(&s, name, strlen(name));
	stmt_bind_blob(&s, value ? value : "", len);
	return stmt_run(&s);
}

int object_xattr_get(struct db *db, uint64_t id, const char *name, void **out, size_t *len)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_XATTR_GET);
	size_t n = 0;
	char *value;
	int r;

	stmt_bind_u64(&s, id);
	stmt_bind_blob(&s, name, strlen(name));
	r = stmt_one(&s);
	if (r < 0)
		return r;
	value = stmt_dup(&s, &n);
	if (!value)
		return s.error ? s.error : CE_CORRUPT;
	*out = value;
	*len = n;
	return 0;
}

int object_xattr_remove(struct db *db, uint64_t id, const char *name)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_XATTR_REMOVE);

	stmt_bind_u64(&s, id);
	stmt_bind_blob(&s, name, strlen(name));
	return stmt_run_one(&s);
}

int object_xattr_list(struct db *db, uint64_t id, char **out, size_t *len)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_XATTR_LIST);
	struct buffer b = { 0 };
	int r;

	stmt_bind_u64(&s, id);
	while ((r = stmt_row(&s)) == 1) {
		char name[ROW_NAME_MAX + 1];
		size_t n = stmt_blob(&s, name, ROW_NAME_MAX);

		name[n] = 0;
		r = s.error ? s.error : buffer_append(&b, name, n + 1);
		if (r < 0)
			break;
	}
	if (r < 0) {
		buffer_done(&b);
		return r;
	}
	*len = b.len;
	*out = b.data ? b.data : calloc(1, 1);
	return *out ? 0 : -ENOMEM;
}
