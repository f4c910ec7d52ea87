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
	r = stmt_run(&s);
	if (r == 0)
		c->id = stmt_last_id(&s);
	return r;
}

int conflict_resolve(struct db *db, uint64_t id, int64_t now_ns)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_CONFLICT_RESOLVE);

	stmt_bind_u64(&s, id);
	stmt_bind_i64(&s, now_ns);
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
	return s->error;
}

int conflict_each(struct db *db, bool open_only, conflict_fn *fn, void *arg)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_CONFLICT_EACH);
	int r;

	stmt_bind_u64(&s, open_only);
	while ((r = stmt_row(&s)) == 1) {
		_cleanup_(conflict_row_done) struct conflict_row c = { 0 };

		r = conflict_read(&s, &c);
		if (r == 0)
			r = fn(arg, &c);
		if (r != 0)
			return r < 0 ? r : 0;
	}
	return r;
}
