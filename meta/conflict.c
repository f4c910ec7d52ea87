#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "meta/stmt_priv.h"
#include "meta/store.h"

void conflict_row_done(struct conflict_row *c)
{
	free(steal_ptr(&c->path));
	free(steal_ptr(&c->other_path));
}

static void bind_path(struct stmt *s, const char *path)
{
	stmt_bind_blob(s, path, path ? strlen(path) : 0);
}

int conflict_insert(struct db *db, struct conflict_row *c)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_CONFLICT_INSERT);
	int r;

	stmt_bind_u64(&s, c->store);
	stmt_bind_u64(&s, c->kind);
	stmt_bind_u64(&s, c->object);
	stmt_bind_text_or_null(&s, c->rid.text);
	bind_path(&s, c->path);
	bind_path(&s, c->other_path);
	stmt_bind_i64(&s, c->created_ns);
	stmt_bind_i64(&s, c->resolved_ns);
	stmt_bind_u64(&s, c->base);
	stmt_bind_u64(&s, c->outcome);
	r = stmt_run(&s);
	if (r == 0)
		c->id = stmt_last_id(&s);
	return r;
}

int conflict_resolve(struct db *db, uint64_t id, int64_t now_ns, uint32_t outcome)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_CONFLICT_RESOLVE);

	stmt_bind_u64(&s, id);
	stmt_bind_i64(&s, now_ns);
	stmt_bind_u64(&s, outcome);
	return stmt_run_one(&s);
}

static int conflict_read(struct stmt *s, struct conflict_row *c)
{
	c->id = stmt_u64(s);
	c->store = stmt_u64(s);
	c->kind = (uint32_t)stmt_u64(s);
	c->object = stmt_u64(s);
	stmt_rid(s, &c->rid);
	c->path = stmt_dup(s, NULL);
	c->other_path = stmt_dup(s, NULL);
	c->created_ns = stmt_i64(s);
	c->resolved_ns = stmt_i64(s);
	c->base = stmt_u64(s);
	c->outcome = (uint32_t)stmt_u64(s);
	return s->error;
}

int conflict_get(struct db *db, uint64_t id, struct conflict_row *out)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_CONFLICT_GET);
	struct conflict_row c = { 0 };
	int r;

	stmt_bind_u64(&s, id);
	r = stmt_row(&s);
	if (r != 1)
		return r ? r : -ENOENT;
	r = conflict_read(&s, &c);
	if (r)
		conflict_row_done(&c);
	else
		*out = c;
	return r;
}

int conflict_moved(struct db *db, uint64_t id, const char *path, const char *other_path)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_CONFLICT_MOVED);

	stmt_bind_u64(&s, id);
	bind_path(&s, path);
	bind_path(&s, other_path);
	return stmt_run_one(&s);
}

static int each_row(struct stmt *s, conflict_fn *fn, void *arg)
{
	int r;

	while ((r = stmt_row(s)) == 1) {
		_cleanup_(conflict_row_done) struct conflict_row c = { 0 };

		r = conflict_read(s, &c);
		if (r == 0)
			r = fn(arg, &c);
		if (r != 0)
			return r < 0 ? r : 0;
	}
	return r;
}

int conflict_each(struct db *db, bool open_only, conflict_fn *fn, void *arg)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_CONFLICT_EACH);

	stmt_bind_u64(&s, open_only);
	return each_row(&s, fn, arg);
}

int conflict_each_of(struct db *db, uint64_t object, conflict_fn *fn, void *arg)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_CONFLICT_EACH_OF);

	stmt_bind_u64(&s, object);
	return each_row(&s, fn, arg);
}

static void bind_record(struct stmt *s, uint64_t store, const char *rid)
{
	stmt_bind_u64(s, store);
	stmt_bind_text(s, rid);
}

int conflict_base_put(struct db *db, uint64_t store, const char *rid, uint64_t map)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_BASE_PUT);

	bind_record(&s, store, rid);
	stmt_bind_u64(&s, map);
	return stmt_run(&s);
}

int conflict_base_get(struct db *db, uint64_t store, const char *rid, uint64_t *map)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_BASE_GET);
	int r;

	bind_record(&s, store, rid);
	r = stmt_row(&s);
	if (r == 1)
		*map = stmt_u64(&s);
	return r == 1 ? s.error : r ? r : -ENOENT;
}

int conflict_base_delete(struct db *db, uint64_t store, const char *rid)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_BASE_DELETE);

	bind_record(&s, store, rid);
	return stmt_run(&s);
}

int conflict_base_tidy(struct db *db)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_BASE_STRAY);

	return stmt_run(&s);
}
