/* Goal: rows of blob, map, chunk and undo: copies, what may be evicted, and the way back after
 * power loss. */
#include "meta_fixture.h"

#include "meta/content.h"
#include "meta/op.h"

struct env {
	struct fixture f;
	struct db *db;
};

static int setup(void **state)
{
	struct env *e = calloc(1, sizeof(*e));

	fixture_init(&e->f);
	e->db = fixture_create(&e->f);
	assert_int_equal(db_begin(e->db), 0);
	*state = e;
	return 0;
}

static int teardown(void **state)
{
	struct env *e = *state;

	db_rollback(e->db);
	db_close(e->db);
	fixture_done(&e->f);
	free(e);
	return 0;
}

static uint64_t make_blob(struct db *db, bool pack, uint64_t alloc_bytes)
{
	struct content_blob b = {
		.store = 1, .alg = 1, .shift = 16, .pack = pack, .alloc_bytes = alloc_bytes
	};

	memset(b.uuid, 0x11, sizeof(b.uuid));
	assert_int_equal(content_blob_insert(db, &b), 0);
	return b.id;
}

static uint64_t make_map(struct db *db, uint64_t blob, uint64_t object, const char *etag)
{
	struct content_map m = { .blob = blob, .object = object, .size = 10, .whole = true };

	strcpy(m.etag.text, etag);
	assert_int_equal(content_map_insert(db, &m), 0);
	return m.id;
}

static struct content_chunk chunk(uint64_t idx, uint64_t slot)
{
	struct content_chunk c = { .idx = idx, .slot = slot, .len = 4096, .seq = slot + 100 };

	memset(c.nonce, (int)slot + 1, 12);
	c.n_tags = 1 + (unsigned)(slot % CONTENT_TAGS_MAX);
	memset(c.tags, (int)slot + 2, (size_t)c.n_tags * CONTENT_TAG_LEN);
	return c;
}

static void put(struct db *db, uint64_t map, uint64_t idx, uint64_t slot)
{
	struct content_chunk c = chunk(idx, slot);

	assert_int_equal(content_chunk_put(db, map, &c), 0);
}

static void assert_chunk(struct db *db, uint64_t map, uint64_t idx, uint64_t slot)
{
	struct content_chunk c, want = chunk(idx, slot);

	memset(&c, 0xee, sizeof(c));
	assert_int_equal(content_chunk_get(db, map, idx, &c), 0);
	assert_int_equal(c.slot, want.slot);
	assert_int_equal(c.seq, want.seq);
	assert_memory_equal(c.nonce, want.nonce, sizeof(c.nonce));
	assert_int_equal(c.n_tags, want.n_tags);
	assert_memory_equal(c.tags, want.tags, sizeof(c.tags));
}

static void assert_no_chunk(struct db *db, uint64_t map, uint64_t idx)
{
	struct content_chunk c;

	assert_int_equal(content_chunk_get(db, map, idx, &c), -ENOENT);
}

static void test_blob_round_trips(void **state)
{
	struct env *e = *state;
	struct content_blob b = { .store = 2,
		.alg = 2,
		.shift = 14,
		.epoch = 3,
		.seals = UINT64_C(1) << 28,
		.alloc_bytes = 8192,
		.pack = true },
			    got;
	uint64_t n = 0;

	for (uint8_t i = 0; i < CONTENT_UUID_LEN; i++)
		b.uuid[i] = i;
	assert_int_equal(content_blob_insert(e->db, &b), 0);
	memset(&got, 0, sizeof(got));
	assert_int_equal(content_blob_get(e->db, b.id, &got), 0);
	assert_memory_equal(got.uuid, b.uuid, sizeof(b.uuid));
	assert_int_equal(got.seals, b.seals);
	assert_true(got.pack);
	b.alloc_bytes = 5;
	assert_int_equal(content_blob_update(e->db, &b), 0);
	make_blob(e->db, false, 100);
	assert_int_equal(content_blob_total(e->db, &n), 0);
	assert_int_equal(n, 105);
	assert_int_equal(content_blob_delete(e->db, b.id), 0);
	assert_int_equal(content_blob_get(e->db, b.id, &got), -ENOENT);
	assert_int_equal(content_blob_update(e->db, &b), -ENOENT);
}

static void test_long_nonces_and_those_ending_in_zeros_come_back_whole(void **state)
{
	struct env *e = *state;
	struct content_chunk c = chunk(3, 4), got;

	for (int i = 0; i < CONTENT_NONCE_MAX; i++)
		c.nonce[i] = (uint8_t)(i < 20 ? 200 + i : 0);
	assert_int_equal(content_chunk_put(e->db, 1, &c), 0);
	assert_int_equal(content_chunk_get(e->db, 1, 3, &got), 0);
	assert_memory_equal(got.nonce, c.nonce, sizeof(c.nonce));
	memset(c.nonce, 0, sizeof(c.nonce));
	assert_int_equal(content_chunk_put(e->db, 1, &c), 0);
	assert_int_equal(content_chunk_get(e->db, 1, 3, &got), 0);
	assert_memory_equal(got.nonce, c.nonce, sizeof(c.nonce));
}

static int count_chunk(void *arg, const struct content_chunk *c)
{
	++*(int *)arg;
	return c->idx == 5;
}

static void test_chunks_are_replaced_walked_and_cut(void **state)
{
	struct env *e = *state;
	uint64_t map = make_map(e->db, 1, 2, ""), n = 0;
	int walked = 0;

	for (uint64_t i = 0; i < 8; i++)
		put(e->db, map, i, i);
	put(e->db, map + 1, 3, 99);
	put(e->db, map, 3, 30);
	assert_chunk(e->db, map, 3, 30);
	assert_int_equal(content_chunk_each(e->db, map, 2, count_chunk, &walked), 0);
	assert_int_equal(walked, 4);
	assert_int_equal(content_chunk_delete_from(e->db, map, 4), 0);
	assert_int_equal(content_chunk_count(e->db, map, INT64_MAX, &n), 0);
	assert_int_equal(n, 4);
	assert_int_equal(content_chunk_count(e->db, map, 3, &n), 0);
	assert_int_equal(n, 3);
	assert_int_equal(content_chunk_delete(e->db, map, 0), 0);
	assert_int_equal(content_chunk_delete(e->db, map, 0), -ENOENT);
	assert_chunk(e->db, map + 1, 3, 99);
}

static void test_clone_shares_slots_and_lives_apart(void **state)
{
	struct env *e = *state;
	uint64_t map = make_map(e->db, 7, 2, "\"v\""), copy = 0, ids[4];
	struct content_map m;
	size_t n = 0;

	put(e->db, map, 0, 1);
	put(e->db, map, 1, 2);
	assert_int_equal(content_map_clone(e->db, map, CONTENT_MAP_SNAPSHOT, &copy), 0);
	put(e->db, map, 1, 3);
	assert_chunk(e->db, copy, 1, 2);
	assert_int_equal(content_map_get(e->db, copy, &m), 0);
	assert_int_equal(m.blob, 7);
	assert_int_equal(m.state, CONTENT_MAP_SNAPSHOT);
	assert_string_equal(m.etag.text, "\"v\"");
	assert_int_equal(content_map_sharing(e->db, 7, 2, ids, 4, &n), 0);
	assert_int_equal(n, 2);
	make_map(e->db, 7, 3, "");
	assert_int_equal(content_map_sharing(e->db, 7, 2, ids, 4, &n), 0);
	assert_int_equal(n, 2); /* another object in the pack shares nothing */
	assert_int_equal(content_map_delete(e->db, map), 0);
	assert_no_chunk(e->db, map, 0);
	assert_chunk(e->db, copy, 0, 1);
	assert_int_equal(content_map_clone(e->db, 4711, CONTENT_MAP_SNAPSHOT, &copy), -ENOENT);
}

static void test_stray_maps_are_those_no_op_names(void **state)
{
	struct env *e = *state;
	uint64_t map = make_map(e->db, 7, 2, ""), sent, lost, ids[4];
	struct op_row op = { .kind = OP_PUT };

	assert_int_equal(content_map_clone(e->db, map, CONTENT_MAP_SNAPSHOT, &sent), 0);
	assert_int_equal(content_map_clone(e->db, map, CONTENT_MAP_SUPERSEDED, &lost), 0);
	op.map = sent;
	assert_int_equal(op_insert(e->db, &op), 0);
	assert_int_equal(content_map_stray(e->db, ids, 4), 1);
	assert_int_equal(ids[0], lost);
}

static size_t evictable(struct db *db, uint64_t *first)
{
	struct content_evictable rows[8];
	size_t n = 99;

	assert_int_equal(content_map_evictable(db, INT64_MIN, 0, rows, 8, &n), 0);
	if (n)
		*first = rows[0].map;
	return n;
}

static void test_only_clean_unpinned_content_is_evictable(void **state)
{
	struct env *e = *state;
	uint64_t blob = make_blob(e->db, true, 50), first = 0, copy;
	uint64_t map = make_map(e->db, blob, 2, "\"v\"");
	struct content_map m;
	struct content_undo u = { .map = map, .gen = 1 };
	struct op_row op = { .kind = OP_ATTR, .object = 2 };
	struct content_evictable one;

	assert_int_equal(evictable(e->db, &first), 1);
	assert_int_equal(first, map);

	assert_int_equal(op_insert(e->db, &op), 0);
	assert_int_equal(evictable(e->db, &first), 0);
	assert_int_equal(op_delete(e->db, op.seq), 0);

	assert_int_equal(content_undo_put(e->db, &u), 0);
	assert_int_equal(evictable(e->db, &first), 0);
	assert_int_equal(content_undo_forget(e->db, 1), 0);

	assert_int_equal(content_map_clone(e->db, map, CONTENT_MAP_SNAPSHOT, &copy), 0);
	assert_int_equal(evictable(e->db, &first), 0);
	assert_int_equal(content_map_delete(e->db, copy), 0);

	assert_int_equal(content_map_get(e->db, map, &m), 0);
	assert_int_equal(content_map_pin(e->db, map, true), 0);
	assert_int_equal(evictable(e->db, &first), 0);
	assert_int_equal(content_map_may_go(e->db, map, &one), -ENOENT);
	/* Whoever writes back a row he read before keeps the pin. */
	assert_int_equal(content_map_update(e->db, &m), 0);
	assert_int_equal(evictable(e->db, &first), 0);
	assert_int_equal(content_map_pin(e->db, map, false), 0);
	assert_int_equal(evictable(e->db, &first), 1);
	assert_int_equal(content_map_may_go(e->db, map, &one), 0);
	assert_int_equal(one.map, map);

	m.etag.text[0] = 0;
	assert_int_equal(content_map_update(e->db, &m), 0);
	assert_int_equal(evictable(e->db, &first), 0);
}

static void test_least_recently_used_goes_first_and_paging_misses_none(void **state)
{
	struct env *e = *state;
	struct content_evictable rows[2];
	uint64_t blob = make_blob(e->db, true, 9 * 4096), id = 0, seen = 0;
	int64_t used = INT64_MIN;
	size_t n;

	for (uint64_t i = 0; i < 9; i++) {
		uint64_t map = make_map(e->db, blob, 10 + i, "\"v\"");

		put(e->db, map, 0, i);
		assert_int_equal(content_map_used(e->db, map, 1000 + (int64_t)(i * 5) % 3), 0);
	}
	for (;;) {
		assert_int_equal(content_map_evictable(e->db, used, id, rows, 2, &n), 0);
		if (n == 0)
			break;
		for (size_t i = 0; i < n; i++) {
			assert_true(rows[i].used_s > used ||
				    (rows[i].used_s == used && rows[i].map > id));
			assert_int_equal(rows[i].bytes, 4096);
			used = rows[i].used_s;
			id = rows[i].map;
			seen++;
		}
	}
	assert_int_equal(seen, 9);
}

static void test_the_fullest_pack_with_room_is_found(void **state)
{
	struct env *e = *state;
	struct content_blob b;
	uint64_t fuller;

	assert_int_equal(content_blob_pack(e->db, 1, 1000, 9, &b), -ENOENT);
	make_blob(e->db, true, 100);
	fuller = make_blob(e->db, true, 900);
	make_blob(e->db, true, 1000);
	make_blob(e->db, false, 950);
	assert_int_equal(content_blob_pack(e->db, 1, 1000, 9, &b), 0);
	assert_int_equal(b.id, fuller);
	assert_int_equal(content_blob_pack(e->db, 2, 1000, 9, &b), -ENOENT);
	assert_int_equal(content_blob_pack(e->db, 1, 1000, 0, &b), -ENOENT);
}

static void test_a_blob_that_only_undo_rows_name_is_used(void **state)
{
	struct env *e = *state;
	uint64_t blob = make_blob(e->db, true, 100), map = make_map(e->db, blob, 2, "");
	const struct content_undo u = { .map = map, .gen = 1, .blob = blob };
	struct content_map m;
	bool used;

	assert_int_equal(content_undo_put(e->db, &u), 0);
	assert_int_equal(content_map_get(e->db, map, &m), 0);
	m.blob = blob + 1;
	assert_int_equal(content_map_update(e->db, &m), 0);
	assert_int_equal(content_blob_is_used(e->db, blob, &used), 0);
	assert_true(used);
	assert_int_equal(content_undo_apply(e->db, map, 1), 0);
	assert_int_equal(content_map_get(e->db, map, &m), 0);
	assert_int_equal(m.blob, blob);
	assert_int_equal(content_map_delete(e->db, map), 0);
	assert_int_equal(content_blob_is_used(e->db, blob, &used), 0);
	assert_false(used);
}

struct undo_seen {
	int present, absent;
};

static int see_undo(void *arg, bool present, const struct content_chunk *c)
{
	struct undo_seen *s = arg;

	if (present)
		s->present++;
	else
		s->absent++;
	return 0;
}

static void test_undo_brings_back_the_start_of_the_generation(void **state)
{
	struct env *e = *state;
	uint64_t map = make_map(e->db, 7, 2, "");
	struct content_undo u = { .map = map,
		.gen = 4,
		.size = 10,
		.whole = false,
		.mtime_ns = 123 },
			    rows[4];
	struct content_map m;
	struct undo_seen seen = { 0 };
	size_t n;

	put(e->db, map, 0, 1);
	put(e->db, map, 1, 2);
	put(e->db, map, 2, 3);

	assert_int_equal(content_undo_put(e->db, &u), 0);
	assert_int_equal(content_undo_chunk(e->db, map, 4, 0), 0);
	put(e->db, map, 0, 50);
	assert_int_equal(content_undo_chunk(e->db, map, 4, 0), 0); /* the first stays */
	put(e->db, map, 0, 51);
	assert_int_equal(content_undo_chunk(e->db, map, 4, 9), 0); /* a new chunk */
	put(e->db, map, 9, 52);
	assert_int_equal(content_undo_chunk(e->db, map, 4, 9), 0);
	assert_int_equal(content_undo_chunks_from(e->db, map, 4, 1), 0); /* 1, 2; not 9 again */
	assert_int_equal(content_chunk_delete_from(e->db, map, 1), 0);
	u.size = 999;
	assert_int_equal(content_undo_put(e->db, &u), 0); /* ignored */
	assert_int_equal(content_map_get(e->db, map, &m), 0);
	m.size = 999;
	assert_int_equal(content_map_update(e->db, &m), 0);

	assert_int_equal(content_undo_each(e->db, map, 4, see_undo, &seen), 0);
	assert_int_equal(seen.present, 3);
	assert_int_equal(seen.absent, 1);
	assert_int_equal(content_undo_list(e->db, rows, 4, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(rows[0].size, 10);
	assert_int_equal(rows[0].mtime_ns, 123);

	assert_int_equal(content_undo_apply(e->db, map, 4), 0);
	assert_chunk(e->db, map, 0, 1);
	assert_chunk(e->db, map, 1, 2);
	assert_chunk(e->db, map, 2, 3);
	assert_no_chunk(e->db, map, 9);
	assert_int_equal(content_map_get(e->db, map, &m), 0);
	assert_int_equal(m.size, 10);
	assert_false(m.whole);
	assert_int_equal(content_undo_list(e->db, rows, 4, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(content_undo_apply(e->db, map, 4), -ENOENT);
}

static void test_generations_undo_newest_first_down_to_the_oldest(void **state)
{
	struct env *e = *state;
	uint64_t map = make_map(e->db, 7, 2, "");
	struct content_undo u = { .map = map, .whole = true }, rows[4];
	size_t n;

	for (uint64_t gen = 1; gen <= 3; gen++) {
		u.gen = gen;
		u.size = gen;
		assert_int_equal(content_undo_put(e->db, &u), 0);
		assert_int_equal(content_undo_chunk(e->db, map, gen, 0), 0);
		put(e->db, map, 0, gen);
	}
	assert_int_equal(content_undo_forget(e->db, 1), 0);
	assert_int_equal(content_undo_list(e->db, rows, 4, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(rows[0].gen, 3);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(content_undo_apply(e->db, map, rows[i].gen), 0);
	assert_chunk(e->db, map, 0, 1); /* durable since generation 1 was forgotten */
}

static int collect_slot(void *arg, uint64_t slot, uint32_t len, uint64_t seq)
{
	*(uint64_t *)arg |= UINT64_C(1) << slot;
	return 0;
}

static void test_slots_are_those_of_all_maps_and_undo_rows_of_the_blob(void **state)
{
	struct env *e = *state;
	uint64_t map = make_map(e->db, 7, 2, ""), other = make_map(e->db, 8, 3, ""), copy,
		 slots = 0;
	const struct content_undo u = { .map = map, .gen = 1, .blob = 7 },
				  elsewhere = { .map = map, .gen = 2, .blob = 8 };

	assert_int_equal(content_undo_put(e->db, &u), 0);
	assert_int_equal(content_undo_put(e->db, &elsewhere), 0);
	put(e->db, map, 0, 1);
	put(e->db, other, 0, 20);
	assert_int_equal(content_map_clone(e->db, map, CONTENT_MAP_SNAPSHOT, &copy), 0);
	assert_int_equal(content_undo_chunk(e->db, map, 1, 0), 0);
	assert_int_equal(content_undo_chunk(e->db, map, 1, 5), 0);
	put(e->db, map, 0, 9);
	assert_int_equal(content_undo_chunk(e->db, map, 2, 0), 0);
	put(e->db, map, 0, 3);
	put(e->db, copy, 1, 4);
	assert_int_equal(content_slots(e->db, 7, collect_slot, &slots), 0);
	assert_int_equal(slots, 1 << 1 | 1 << 3 | 1 << 4);
}

static void test_deleting_a_map_takes_chunks_and_undo_rows(void **state)
{
	struct env *e = *state;
	uint64_t map = make_map(e->db, 7, 2, ""), n = 9;
	struct content_undo u = { .map = map, .gen = 1 }, rows[2];
	size_t found;
	bool used;

	put(e->db, map, 0, 1);
	assert_int_equal(content_undo_put(e->db, &u), 0);
	assert_int_equal(content_undo_chunk(e->db, map, 1, 0), 0);
	assert_int_equal(content_map_delete(e->db, map), 0);
	assert_int_equal(content_undo_list(e->db, rows, 2, &found), 0);
	assert_int_equal(found, 0);
	assert_int_equal(content_chunk_count(e->db, map, INT64_MAX, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(content_map_delete(e->db, map), -ENOENT);
	assert_int_equal(content_blob_is_used(e->db, 7, &used), 0);
	assert_false(used);
}

static int group_setup(void **state)
{
	return secret_init(false);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_blob_round_trips),
		T(test_long_nonces_and_those_ending_in_zeros_come_back_whole),
		T(test_chunks_are_replaced_walked_and_cut),
		T(test_clone_shares_slots_and_lives_apart),
		T(test_stray_maps_are_those_no_op_names),
		T(test_only_clean_unpinned_content_is_evictable),
		T(test_the_fullest_pack_with_room_is_found),
		T(test_a_blob_that_only_undo_rows_name_is_used),
		T(test_least_recently_used_goes_first_and_paging_misses_none),
		T(test_undo_brings_back_the_start_of_the_generation),
		T(test_generations_undo_newest_first_down_to_the_oldest),
		T(test_slots_are_those_of_all_maps_and_undo_rows_of_the_blob),
		T(test_deleting_a_map_takes_chunks_and_undo_rows),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
