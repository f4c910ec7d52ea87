/* Rows of `undo_map` and `undo_chunk`: what content was before commits that are not durable yet. */
#include "meta/content.h"

#include <errno.h>

#include "base/error.h"
#include "meta/content_priv.h"

int content_undo_put(struct db *db, const struct content_undo *u)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_UNDO_PUT);

	stmt_bind_u64(&s, u->map);
	stmt_bind_u64(&s, u->gen);
	stmt_bind_u64(&s, u->blob);
	stmt_bind_u64(&s, u->size);
	stmt_bind_u64(&s, u->whole);
	stmt_bind_i64(&s, u->mtime_ns);
	return stmt_run(&s);
}

static int save(struct db *db, enum stmt_id id, uint64_t map, uint64_t gen, uint64_t idx)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, id);

	stmt_bind_u64(&s, map);
	stmt_bind_u64(&s, gen);
	stmt_bind_u64(&s, idx);
	return stmt_run(&s);
}

int content_undo_partial(struct db *db, uint64_t map, bool *out)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_UNDO_PARTIAL);
	uint64_t n;
	int r;

	stmt_bind_u64(&s, map);
	r = stmt_count(&s, &n);
	if (!r)
		*out = n;
	return r;
}

int content_undo_chunk(struct db *db, uint64_t map, uint64_t gen, uint64_t idx)
{
	return save(db, STMT_UNDO_CHUNK, map, gen, idx);
}

int content_undo_chunks_from(struct db *db, uint64_t map, uint64_t gen, uint64_t from)
{
	return save(db, STMT_UNDO_CHUNKS_FROM, map, gen, from);
}

static int run_gen(struct db *db, enum stmt_id id, uint64_t gen)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, id);

	stmt_bind_u64(&s, gen);
	return stmt_run(&s);
}

int content_undo_forget(struct db *db, uint64_t gen)
{
	int r = run_gen(db, STMT_UNDO_FORGET_MAPS, gen);

	return r < 0 ? r : run_gen(db, STMT_UNDO_FORGET_CHUNKS, gen);
}

int content_undo_list(struct db *db, struct content_undo *rows, size_t max, size_t *n)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_UNDO_LIST);
	size_t count = 0;
	int r;

	stmt_bind_u64(&s, max);
	while ((r = stmt_row(&s)) == 1 && count < max) {
		struct content_undo *u = &rows[count++];

		u->map = stmt_u64(&s);
		u->gen = stmt_u64(&s);
		u->blob = stmt_u64(&s);
		u->size = stmt_u64(&s);
		u->whole = stmt_u64(&s) != 0;
		u->mtime_ns = stmt_i64(&s);
	}
	if (r < 0)
		return r;
	*n = count;
	return 0;
}

int content_undo_each(struct db *db, uint64_t map, uint64_t gen, content_undo_fn *fn, void *arg)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_UNDO_EACH);
	struct content_chunk c;
	int r;

	stmt_bind_u64(&s, map);
	stmt_bind_u64(&s, gen);
	while ((r = stmt_row(&s)) == 1) {
		bool present = stmt_u64(&s) != 0;

		content_chunk_read(&s, &c);
		r = s.error ? s.error : fn(arg, present, &c);
		if (r != 0)
			return r < 0 ? r : 0;
	}
	return r;
}

static int next_gen(struct db *db, uint64_t map, uint64_t *gen)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_UNDO_NEXT);
	int r;

	stmt_bind_u64(&s, map);
	stmt_bind_u64(&s, *gen);
	r = stmt_one(&s);
	if (r == 0)
		*gen = stmt_u64(&s);
	return r;
}

struct clone {
	struct db *db;
	struct content_undo u;
};

static int clone_chunk(void *arg, bool present, const struct content_chunk *c)
{
	const struct clone *to = arg;

	return content_undo_chunk(to->db, to->u.map, to->u.gen, c->idx);
}

int content_undo_clone(struct db *db, uint64_t from, uint64_t map)
{
	struct clone to = { .db = db, .u = { .map = map, .whole = true } };
	int r;

	while ((r = next_gen(db, from, &to.u.gen)) == 0) {
		r = content_undo_put(db, &to.u);
		if (r == 0)
			r = content_undo_each(db, from, to.u.gen, clone_chunk, &to);
		if (r < 0)
			return r;
	}
	return r == -ENOENT ? 0 : r;
}

static int run_map_gen(struct db *db, enum stmt_id id, uint64_t map, uint64_t gen)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, id);

	stmt_bind_u64(&s, map);
	stmt_bind_u64(&s, gen);
	return stmt_run(&s);
}

static int apply_map(struct db *db, uint64_t map, uint64_t gen)
{
	_cleanup_stmt_ struct stmt get = stmt_use(db, STMT_UNDO_GET);
	_cleanup_stmt_ struct stmt set = stmt_use(db, STMT_UNDO_APPLY_MAP);
	int r;

	memo_drop_map(db->memo, map);
	stmt_bind_u64(&get, map);
	stmt_bind_u64(&get, gen);
	r = stmt_one(&get);
	if (r < 0)
		return r;
	stmt_bind_u64(&set, map);
	stmt_bind_u64(&set, stmt_u64(&get));
	stmt_bind_u64(&set, stmt_u64(&get));
	stmt_bind_u64(&set, stmt_u64(&get));
	return stmt_run_one(&set);
}

int content_undo_apply(struct db *db, uint64_t map, uint64_t gen)
{
	static const enum stmt_id order[] = { STMT_UNDO_APPLY_ABSENT, STMT_UNDO_APPLY_CHUNKS,
		STMT_UNDO_DROP_CHUNKS, STMT_UNDO_DROP_MAP };
	int r = apply_map(db, map, gen);

	for (size_t i = 0; i < ARRAY_SIZE(order) && r == 0; i++)
		r = run_map_gen(db, order[i], map, gen);
	return r;
}
