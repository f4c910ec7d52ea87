#include "meta/name.h"

#include <errno.h>
#include <string.h>

#include "meta/db_priv.h"
#include "meta/object_priv.h"
#include "meta/stmt_priv.h"

static int name_read(struct stmt *s, struct name_row *n)
{
	n->id = stmt_u64(s);
	n->store = stmt_u64(s);
	n->parent = stmt_u64(s);
	stmt_filename(s, &n->name);
	n->object = stmt_u64(s);
	stmt_rid(s, &n->rid);
	stmt_etag(s, &n->etag);
	n->has_sha256 = !stmt_is_null(s);
	stmt_blob(s, n->sha256, ROW_SHA256_LEN);
	stmt_rid(s, &n->r_parent);
	stmt_filename(s, &n->r_name);
	n->seen = stmt_u64(s);
	return s->error;
}

static void name_bind(struct stmt *s, const struct name_row *n)
{
	stmt_bind_u64(s, n->store);
	stmt_bind_u64(s, n->parent);
	stmt_bind_filename(s, &n->name);
	stmt_bind_u64(s, n->object);
	stmt_bind_text_or_null(s, n->rid.text);
	stmt_bind_text_or_null(s, n->etag.text);
	stmt_bind_blob(s, n->has_sha256 ? n->sha256 : NULL, ROW_SHA256_LEN);
	stmt_bind_text_or_null(s, n->r_parent.text);
	stmt_bind_filename(s, &n->r_name);
	stmt_bind_u64(s, n->seen);
}

/* The one row of a query, untouched output on failure. */
static int name_one(struct stmt *s, struct name_row *out)
{
	struct name_row n;
	int r = stmt_one(s);

	if (r == 0)
		r = name_read(s, &n);
	if (r)
		return r;
	memo_put_name(db_memo(s->db), &n, false);
	*out = n;
	return 0;
}

int name_insert(struct db *db, struct name_row *n)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_NAME_INSERT);
	int r;

	name_bind(&s, n);
	r = stmt_run(&s);
	if (r) {
		memo_drop_name(db->memo, 0, n->object);
		return r;
	}
	n->id = stmt_last_id(&s);
	memo_add_name(db_memo(db), n);
	return 0;
}

int name_update(struct db *db, const struct name_row *n)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_NAME_UPDATE);
	int r;

	name_bind(&s, n);
	stmt_bind_u64(&s, n->id);
	r = stmt_run_one(&s);
	if (r)
		memo_drop_name(db->memo, n->id, n->object);
	else
		memo_update_name(db_memo(db), n);
	return r;
}

int name_get(struct db *db, uint64_t id, struct name_row *out)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_NAME_GET);

	stmt_bind_u64(&s, id);
	return name_one(&s, out);
}

static int query_at(
	struct db *db, uint64_t parent, const void *name, size_t len, struct name_row *out)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_NAME_FIND);

	stmt_bind_u64(&s, parent);
	stmt_bind_blob(&s, name, len);
	return name_one(&s, out);
}

int name_find(struct db *db, uint64_t parent, const void *name, size_t len, struct name_row *out)
{
	db_assert_locked(db);
	return memo_name_at(db_memo(db), parent, name, len, out)
		       ? 0
		       : query_at(db, parent, name, len, out);
}

static int query_rid(struct db *db, uint64_t store, const char *rid, struct name_row *out)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_NAME_BY_RID);

	stmt_bind_u64(&s, store);
	stmt_bind_text_or_null(&s, rid);
	return name_one(&s, out);
}

int name_by_rid(struct db *db, uint64_t store, const char *rid, struct name_row *out)
{
	db_assert_locked(db);
	if (memo_name_by_rid(db_memo(db), store, rid, out))
		return 0;
	return query_rid(db, store, rid, out);
}

int name_lookup(
	struct db *db, uint64_t parent, const void *name, size_t len, struct object_row *out)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_NAME_LOOKUP);
	int r;

	stmt_bind_u64(&s, parent);
	stmt_bind_blob(&s, name, len);
	r = stmt_one(&s);
	if (r)
		return r;
	object_read(&s, out);
	memo_put_object(db_memo(db), out);
	return 0;
}

int name_delete(struct db *db, uint64_t id)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_NAME_DELETE);

	memo_drop_name(db->memo, id, 0);
	stmt_bind_u64(&s, id);
	return stmt_run_one(&s);
}

static int name_each_row(struct stmt *s, bool with_object, name_each_fn *fn, void *arg)
{
	struct name_row n;
	struct object_row o;
	int r;

	while ((r = stmt_row(s)) == 1) {
		r = name_read(s, &n);
		if (r < 0)
			return r;
		if (with_object)
			object_read(s, &o);
		r = fn(arg, &n, with_object ? &o : NULL);
		if (r != 0)
			return r < 0 ? r : 0;
	}
	return r;
}

int name_each(struct db *db, uint64_t parent, uint64_t after, name_each_fn *fn, void *arg)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_NAME_EACH);

	stmt_bind_u64(&s, parent);
	stmt_bind_u64(&s, after);
	return name_each_row(&s, true, fn, arg);
}

int name_each_by_name(
	struct db *db, uint64_t parent, const void *after, size_t len, name_each_fn *fn, void *arg)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_NAME_EACH_BY_NAME);

	stmt_bind_u64(&s, parent);
	stmt_bind_blob(&s, after, len);
	return name_each_row(&s, true, fn, arg);
}

static int query_names_of(struct db *db, uint64_t object, name_each_fn *fn, void *arg)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_NAME_EACH_OF);
	struct name_row n;
	int r, more;

	stmt_bind_u64(&s, object);
	r = stmt_row(&s);
	if (r == 1)
		r = name_read(&s, &n) ? s.error : 1;
	if (r <= 0)
		return r;
	more = stmt_row(&s);
	if (more == 0)
		memo_put_name(db_memo(db), &n, true);
	while ((r = fn(arg, &n, NULL)) == 0 && more == 1) {
		r = name_read(&s, &n);
		if (r)
			break;
		more = stmt_row(&s);
	}
	if (r)
		return r < 0 ? r : 0;
	return more;
}

int name_each_of(struct db *db, uint64_t object, name_each_fn *fn, void *arg)
{
	struct name_row n;
	int r;

	db_assert_locked(db);
	if (!memo_name_of(db_memo(db), object, &n))
		return query_names_of(db, object, fn, arg);
	r = fn(arg, &n, NULL);
	return r < 0 ? r : 0;
}

int name_each_copy(struct db *db, name_each_fn *fn, void *arg)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_NAME_EACH_COPY);

	return name_each_row(&s, false, fn, arg);
}

int name_unseen(struct db *db, uint64_t store, uint64_t generation, uint64_t after,
	struct name_row *rows, size_t max, size_t *n)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_NAME_UNSEEN);
	size_t count = 0;
	int r;

	stmt_bind_u64(&s, after);
	stmt_bind_u64(&s, store);
	stmt_bind_u64(&s, generation);
	stmt_bind_u64(&s, max);
	while ((r = stmt_row(&s)) == 1 && count < max) {
		r = name_read(&s, &rows[count]);
		if (r < 0)
			return r;
		count++;
	}
	if (r < 0)
		return r;
	*n = count;
	return 0;
}

int name_any(struct db *db, uint64_t parent)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_NAME_ANY);

	stmt_bind_u64(&s, parent);
	return stmt_row(&s);
}

int name_count(struct db *db, uint64_t store, uint64_t *out)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_NAME_COUNT);

	stmt_bind_u64(&s, store);
	return stmt_count(&s, out);
}
