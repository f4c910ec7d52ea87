#include "meta/content.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "meta/content_priv.h"

static int blob_read(struct stmt *s, struct content_blob *out)
{
	struct content_blob b;

	b.id = stmt_u64(s);
	stmt_blob(s, b.uuid, CONTENT_UUID_LEN);
	b.store = stmt_u64(s);
	b.alg = (uint32_t)stmt_u64(s);
	b.shift = (uint32_t)stmt_u64(s);
	b.epoch = stmt_u64(s);
	b.seals = stmt_u64(s);
	b.alloc_bytes = stmt_u64(s);
	b.pack = stmt_u64(s) != 0;
	if (s->error)
		return s->error;
	*out = b;
	return 0;
}

static void blob_bind(struct stmt *s, const struct content_blob *b)
{
	stmt_bind_blob(s, b->uuid, CONTENT_UUID_LEN);
	stmt_bind_u64(s, b->store);
	stmt_bind_u64(s, b->alg);
	stmt_bind_u64(s, b->shift);
	stmt_bind_u64(s, b->epoch);
	stmt_bind_u64(s, b->seals);
	stmt_bind_u64(s, b->alloc_bytes);
	stmt_bind_u64(s, b->pack);
}

int content_blob_insert(struct db *db, struct content_blob *b)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_BLOB_INSERT);
	int r;

	blob_bind(&s, b);
	r = stmt_run(&s);
	if (r == 0)
		b->id = stmt_last_id(&s);
	return r;
}

static int query_blob(struct db *db, uint64_t id, struct content_blob *out)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_BLOB_GET);
	int r;

	stmt_bind_u64(&s, id);
	r = stmt_one(&s);
	if (r == 0)
		r = blob_read(&s, out);
	if (r == 0)
		memo_put_blob(db_memo(db), out);
	return r;
}

int content_blob_get(struct db *db, uint64_t id, struct content_blob *out)
{
	db_assert_locked(db);
	return memo_blob(db_memo(db), id, out) ? 0 : query_blob(db, id, out);
}

int content_blob_list(
	struct db *db, uint64_t after, struct content_blob *rows, size_t max, size_t *n)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_BLOB_LIST);
	size_t count = 0;
	int r;

	stmt_bind_u64(&s, after);
	stmt_bind_u64(&s, max);
	while ((r = stmt_row(&s)) == 1 && count < max) {
		r = blob_read(&s, &rows[count++]);
		if (r < 0)
			return r;
	}
	if (r < 0)
		return r;
	*n = count;
	return 0;
}

int content_blob_update(struct db *db, const struct content_blob *b)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_BLOB_UPDATE);

	memo_drop_blob(db->memo, b->id);
	stmt_bind_u64(&s, b->seals);
	stmt_bind_u64(&s, b->alloc_bytes);
	stmt_bind_u64(&s, b->id);
	return stmt_run_one(&s);
}

int content_blob_delete(struct db *db, uint64_t id)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_BLOB_DELETE);

	memo_drop_blob(db->memo, id);
	stmt_bind_u64(&s, id);
	return stmt_run_one(&s);
}

int content_blob_is_used(struct db *db, uint64_t id, bool *out)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_BLOB_USERS);
	uint64_t n;
	int r;

	stmt_bind_u64(&s, id);
	r = stmt_count(&s, &n);
	if (!r)
		*out = n;
	return r;
}

int content_blob_total(struct db *db, uint64_t *alloc_bytes)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_BLOB_TOTAL);

	return stmt_count(&s, alloc_bytes);
}

int content_blob_pack(struct db *db, uint64_t store, uint64_t less_alloc_bytes, uint64_t less_seals,
	struct content_blob *out)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_BLOB_PACK);
	int r;

	stmt_bind_u64(&s, store);
	stmt_bind_u64(&s, less_alloc_bytes);
	stmt_bind_u64(&s, less_seals);
	r = stmt_one(&s);
	return r < 0 ? r : blob_read(&s, out);
}

static void evictable_read(struct stmt *s, struct content_evictable *e)
{
	e->map = stmt_u64(s);
	e->used_s = stmt_i64(s);
	e->blob = stmt_u64(s);
	e->bytes = stmt_u64(s);
}

int content_map_may_go(struct db *db, uint64_t id, struct content_evictable *out)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_MAP_MAY_GO);
	struct content_evictable e;
	int r;

	stmt_bind_u64(&s, id);
	r = stmt_one(&s);
	if (r < 0)
		return r;
	evictable_read(&s, &e);
	if (!s.error)
		*out = e;
	return s.error;
}

int content_map_evictable(struct db *db, int64_t after_used_s, uint64_t after_id,
	struct content_evictable *rows, size_t max, size_t *n)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_MAP_EVICTABLE);
	size_t count = 0;
	int r;

	stmt_bind_i64(&s, after_used_s);
	stmt_bind_u64(&s, after_id);
	stmt_bind_u64(&s, max);
	while ((r = stmt_row(&s)) == 1 && count < max) {
		evictable_read(&s, &rows[count++]);
		if (s.error)
			return s.error;
	}
	if (r < 0)
		return r;
	*n = count;
	return 0;
}

int content_map_used(struct db *db, uint64_t id, int64_t used_s)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_MAP_USED);

	memo_drop_map(db->memo, id);
	stmt_bind_u64(&s, id);
	stmt_bind_i64(&s, used_s);
	return stmt_run(&s);
}

static void map_bind(struct stmt *s, const struct content_map *m)
{
	stmt_bind_u64(s, m->blob);
	stmt_bind_u64(s, m->object);
	stmt_bind_u64(s, m->size);
	stmt_bind_u64(s, m->whole);
	stmt_bind_u64(s, m->state);
	stmt_bind_text_or_null(s, m->etag.text);
	stmt_bind_i64(s, m->used_s);
}

int content_map_insert(struct db *db, struct content_map *m)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_MAP_INSERT);
	int r;

	map_bind(&s, m);
	stmt_bind_u64(&s, m->pinned);
	r = stmt_run(&s);
	if (r)
		return r;
	m->id = stmt_last_id(&s);
	memo_put_map(db_memo(db), m);
	return 0;
}

static int query_map(struct db *db, uint64_t id, struct content_map *out)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_MAP_GET);
	struct content_map m;
	int r;

	stmt_bind_u64(&s, id);
	r = stmt_one(&s);
	if (r < 0)
		return r;
	m.id = stmt_u64(&s);
	m.blob = stmt_u64(&s);
	m.object = stmt_u64(&s);
	m.size = stmt_u64(&s);
	m.whole = stmt_u64(&s) != 0;
	m.whole = content_map_is_whole(&m);
	m.state = (enum content_map_state)stmt_u64(&s);
	stmt_etag(&s, &m.etag);
	m.used_s = stmt_i64(&s);
	m.pinned = stmt_u64(&s) != 0;
	if (s.error)
		return s.error;
	*out = m;
	memo_put_map(db_memo(db), &m);
	return 0;
}

int content_map_get(struct db *db, uint64_t id, struct content_map *out)
{
	db_assert_locked(db);
	return memo_map(db_memo(db), id, out) ? 0 : query_map(db, id, out);
}

int content_map_update(struct db *db, const struct content_map *m)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_MAP_UPDATE);
	int r;

	map_bind(&s, m);
	stmt_bind_u64(&s, m->id);
	r = stmt_run_one(&s);
	if (r)
		memo_drop_map(db->memo, m->id);
	else
		memo_update_map(db_memo(db), m);
	return r;
}

static int run_for(struct db *db, enum stmt_id id, uint64_t a)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, id);

	stmt_bind_u64(&s, a);
	return stmt_run(&s);
}

int content_map_delete(struct db *db, uint64_t id)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_MAP_DELETE);
	int r = content_chunk_delete_from(db, id, 0);

	if (r == 0)
		r = run_for(db, STMT_UNDO_DROP_MAPS_ALL, id);
	if (r == 0)
		r = run_for(db, STMT_UNDO_DROP_CHUNKS_ALL, id);
	if (r < 0)
		return r;
	memo_drop_map(db->memo, id);
	stmt_bind_u64(&s, id);
	return stmt_run_one(&s);
}

struct clone {
	struct db *db;
	uint64_t map;
};

static int clone_chunk(void *arg, const struct content_chunk *c)
{
	const struct clone *to = arg;

	return content_chunk_put(to->db, to->map, c);
}

/* Row by row: an INSERT from a SELECT of the same table goes through a temporary one, which costs
 * three times as much for the few rows that most files have. */
int content_map_clone(struct db *db, uint64_t id, enum content_map_state state, uint64_t *out)
{
	struct content_map m;
	struct clone to = { .db = db };
	int r = content_map_get(db, id, &m);

	if (r)
		return r;
	m.state = state;
	m.pinned = false;
	r = content_map_insert(db, &m);
	to.map = m.id;
	if (!r)
		r = content_undo_clone(db, id, to.map);
	if (!r)
		r = content_chunk_each(db, id, 0, clone_chunk, &to);
	if (r < 0)
		return r;
	*out = to.map;
	return 0;
}

static int read_ids(struct stmt *s, uint64_t *ids, size_t max)
{
	size_t n = 0;
	int r;

	while ((r = stmt_row(s)) == 1 && n < max)
		ids[n++] = stmt_u64(s);
	return r < 0 ? r : (int)n;
}

int content_map_stray(struct db *db, uint64_t *ids, size_t max)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_MAP_STRAY);

	stmt_bind_u64(&s, max);
	return read_ids(&s, ids, max);
}

int content_map_pin(struct db *db, uint64_t id, bool pinned)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_MAP_PIN);

	memo_drop_map(db->memo, id);
	stmt_bind_u64(&s, id);
	stmt_bind_u64(&s, pinned);
	return stmt_run_one(&s);
}

int content_map_pinned(struct db *db, uint64_t after, uint64_t *ids, size_t max)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_MAP_PINNED);

	stmt_bind_u64(&s, after);
	stmt_bind_u64(&s, max);
	return read_ids(&s, ids, max);
}

int content_map_after(struct db *db, uint64_t after, uint64_t *ids, size_t max)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_MAP_AFTER);

	stmt_bind_u64(&s, after);
	stmt_bind_u64(&s, max);
	return read_ids(&s, ids, max);
}

int content_map_after_any(struct db *db, uint64_t after, uint64_t *ids, size_t max)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_MAP_AFTER_ANY);

	stmt_bind_u64(&s, after);
	stmt_bind_u64(&s, max);
	return read_ids(&s, ids, max);
}

int content_map_sharing(
	struct db *db, uint64_t blob, uint64_t object, uint64_t *ids, size_t max, size_t *n)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_MAP_SHARING);
	int r;

	stmt_bind_u64(&s, blob);
	stmt_bind_u64(&s, object);
	stmt_bind_u64(&s, max);
	r = read_ids(&s, ids, max);
	if (r < 0)
		return r;
	*n = (size_t)r;
	return 0;
}

int content_slots(struct db *db, uint64_t blob, content_slot_fn *fn, void *arg)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_SLOTS);
	int r;

	stmt_bind_u64(&s, blob);
	while ((r = stmt_row(&s)) == 1) {
		uint64_t slot = stmt_u64(&s);
		uint32_t len = (uint32_t)stmt_u64(&s);

		r = fn(arg, slot, len, stmt_u64(&s));
		if (r != 0)
			return r < 0 ? r : 0;
	}
	return r;
}
