/* Goal: small files share packs and know nothing of each other: P9, P11 and the invariants of
 * cache/durable.c hold for each of them as for a blob of its own. */
#include "content_fixture.h"

#include "cache/packs.h"

#define CHUNK 65536u
#define SMALL 5000u
#define ETAG "\"v1\""

static int read_error(struct content_fixture *f, uint64_t object)
{
	struct file *file = cf_file(f, object);
	uint8_t buf[SMALL];
	size_t got;
	int r = file_read(file, buf, sizeof(buf), 0, &got);

	file_unref(file, true);
	return r;
}

static struct content_map map_of(struct content_fixture *f, uint64_t object)
{
	struct content_map m;
	uint64_t id = cf_row(f, object).map;

	db_read(f->v->db);
	ok(content_map_get(f->v->db, id, &m));
	db_unlock(f->v->db);
	return m;
}

static struct content_chunk first_chunk(struct content_fixture *f, uint64_t object)
{
	struct content_map m = map_of(f, object);
	struct content_chunk c;

	db_read(f->v->db);
	ok(content_chunk_get(f->v->db, m.id, 0, &c));
	db_unlock(f->v->db);
	return c;
}

static bool is_packed(struct content_fixture *f, uint64_t object)
{
	struct content_map m = map_of(f, object);
	struct content_blob b = { .pack = false };

	db_read(f->v->db);
	if (m.blob)
		ok(content_blob_get(f->v->db, m.blob, &b));
	db_unlock(f->v->db);
	return b.pack;
}

static unsigned files_seen;

static int count_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	files_seen += type == FTW_F;
	return 0;
}

static unsigned blob_files(struct content_fixture *f)
{
	char blobs[256];

	snprintf(blobs, sizeof(blobs), "%s/blobs", f->dir);
	files_seen = 0;
	nftw(blobs, count_one, 16, FTW_PHYS);
	return files_seen;
}

static void copy_units(struct content_fixture *f, uint64_t object, uint64_t from, uint64_t to)
{
	uint8_t buf[2 * BLOB_PAD];
	char path[512];
	int fd;

	cf_blob_path(f, object, path, sizeof(path));
	fd = open(path, O_RDWR);
	assert_int_equal(pread(fd, buf, sizeof(buf), (off_t)from * BLOB_PAD), sizeof(buf));
	assert_int_equal(pwrite(fd, buf, sizeof(buf), (off_t)to * BLOB_PAD), sizeof(buf));
	close(fd);
}

static void test_many_small_files_are_one_file_of_the_disk(void **state)
{
	struct content_fixture f;
	uint64_t objects[200];

	cf_init(&f);
	for (unsigned i = 0; i < ARRAY_SIZE(objects); i++)
		objects[i] = cf_make(&f, 1 + i * 321, i);
	assert_int_equal(blob_files(&f), 1);
	ok(volume_sync(f.v));
	cf_reopen(&f);
	for (unsigned i = 0; i < ARRAY_SIZE(objects); i++)
		assert_true(cf_is(&f, objects[i], 1 + i * 321, i));
	cf_make(&f, 100, 1);
	assert_int_equal(blob_files(&f), 1);
	cf_done(&f);
}

/* P9: all chunks of a pack have the same key and index. */
static void test_chunks_of_two_files_cannot_stand_for_each_other(void **state)
{
	struct content_fixture f;
	uint64_t a, b, c;

	cf_init(&f);
	a = cf_make(&f, SMALL, 1);
	b = cf_make(&f, SMALL, 1);
	c = cf_make(&f, SMALL, 3);
	copy_units(&f, a, first_chunk(&f, a).slot, first_chunk(&f, b).slot);
	assert_int_equal(read_error(&f, b), CE_TAMPER);
	assert_true(cf_is(&f, a, SMALL, 1));
	assert_true(cf_is(&f, c, SMALL, 3));
	cf_done(&f);
}

static void test_an_old_chunk_is_not_served(void **state)
{
	struct content_fixture f;
	struct content_chunk old;
	uint64_t a;

	cf_init(&f);
	a = cf_make(&f, SMALL, 1);
	old = first_chunk(&f, a);
	cf_rewrite(&f, a, SMALL, 2);
	assert_int_not_equal(first_chunk(&f, a).slot, old.slot);
	copy_units(&f, a, old.slot, first_chunk(&f, a).slot);
	assert_int_equal(read_error(&f, a), CE_TAMPER);
	cf_done(&f);
}

static void test_clean_damage_in_a_pack_heals_and_touches_nothing_else(void **state)
{
	struct content_fixture f;
	uint8_t buf[SMALL];
	uint64_t a, b;
	struct file *file;

	cf_init(&f);
	a = cf_remote(&f, SMALL, ETAG);
	file = cf_file(&f, a);
	cf_pattern(buf, SMALL, 0, 9);
	ok(file_fill(file, ETAG, buf, SMALL, 0));
	file_unref(file, true);
	b = cf_make(&f, SMALL, 2);
	copy_units(&f, a, first_chunk(&f, b).slot, first_chunk(&f, a).slot);
	assert_int_equal(read_error(&f, a), CE_ABSENT);
	assert_true(cf_is(&f, b, SMALL, 2));
	file = cf_file(&f, a);
	ok(file_fill(file, ETAG, buf, SMALL, 0));
	file_unref(file, true);
	assert_true(cf_is(&f, a, SMALL, 9));
	cf_done(&f);
}

/* I3: the row that names the old units could come back until the sync. */
static void test_units_are_used_again_only_after_the_sync(void **state)
{
	struct content_fixture f;
	struct content_chunk old;
	struct file *file;
	uint64_t a, b;

	cf_init(&f);
	a = cf_make(&f, SMALL, 1);
	ok(volume_sync(f.v));
	cf_reopen(&f); /* nothing of the pack is derived */
	old = first_chunk(&f, a);
	file = cf_file(&f, a);
	cf_write(file, SMALL, 0, 2);
	file_lock(file);
	ok(file_commit_locked(file, true)); /* without undo rows, which would name them too */
	file_unlock(file);
	file_unref(file, true);
	b = cf_make(&f, SMALL, 3);
	assert_true(first_chunk(&f, b).slot > old.slot + 1);
	ok(volume_sync(f.v));
	b = cf_make(&f, SMALL, 4);
	assert_int_equal(first_chunk(&f, b).slot, old.slot);
	cf_done(&f);
}

/* I3, when the row that names the old units now names another blob, and nothing of the pack was
 * derived before: they are not free until the sync, and not freed a second time by it. */
static void test_units_of_a_file_that_moves_out_wait_for_the_sync(void **state)
{
	struct content_fixture f;
	uint64_t a, b, c, slot;
	struct file *file;

	cf_init(&f);
	a = cf_make(&f, SMALL, 1);
	ok(volume_sync(f.v));
	cf_reopen(&f);
	slot = first_chunk(&f, a).slot;
	file = cf_file(&f, a);
	cf_write(file, 3 * CHUNK, 0, 2);
	file_lock(file);
	ok(file_commit_locked(file, true));
	file_unlock(file);
	file_unref(file, true);
	assert_false(is_packed(&f, a));
	b = cf_make(&f, SMALL, 3);
	assert_int_not_equal(first_chunk(&f, b).slot, slot);
	ok(volume_sync(f.v));
	c = cf_make(&f, SMALL, 4);
	assert_true(cf_is(&f, b, SMALL, 3));
	assert_true(cf_is(&f, c, SMALL, 4));
	cf_done(&f);
}

static void unlink_object(struct content_fixture *f, uint64_t object)
{
	struct object_row o = cf_row(f, object);

	ok(db_begin(f->v->db));
	ok(gc_drop_map(f->v, o.map));
	ok(object_delete(f->v->db, object));
	ok(db_commit(f->v->db));
	gc_run(f->v, true);
}

static void test_units_of_a_deleted_file_wait_for_the_sync(void **state)
{
	struct content_fixture f;
	struct content_chunk old;
	uint64_t a, b;

	cf_init(&f);
	a = cf_make(&f, SMALL, 1);
	ok(volume_sync(f.v));
	cf_reopen(&f);
	old = first_chunk(&f, a);
	unlink_object(&f, a);
	b = cf_make(&f, SMALL, 2);
	assert_true(first_chunk(&f, b).slot > old.slot + 1);
	ok(volume_sync(f.v));
	b = cf_make(&f, SMALL, 3);
	assert_int_equal(first_chunk(&f, b).slot, old.slot);
	cf_done(&f);
}

static void test_a_second_chunk_means_a_blob_of_its_own(void **state)
{
	struct content_fixture f;
	struct file *file;
	uint64_t a;

	cf_init(&f);
	a = cf_make(&f, CHUNK, 1);
	assert_true(is_packed(&f, a));
	file = cf_file(&f, a);
	cf_write(file, 10, CHUNK, 1);
	assert_true(cf_holds(file, CHUNK + 8, 0, 1));
	ok(file_commit(file));
	assert_true(cf_holds(file, CHUNK + 8, 0, 1));
	file_unref(file, true);
	assert_false(is_packed(&f, a));
	ok(durable_reclaim(f.v));
	assert_int_equal(f.v->space.used, CHUNK + BLOB_PAD);
	cf_reopen(&f);
	file = cf_file(&f, a);
	assert_true(cf_holds(file, CHUNK + 8, 0, 1));
	file_unref(file, true);
	cf_done(&f);
}

/* A write that finds no space for what has to move leaves the file as it was. */
static void test_enlarging_without_the_first_chunk_fails_whole(void **state)
{
	struct content_fixture f;
	struct file *file;
	uint64_t a, b;

	cf_init(&f);
	a = cf_make(&f, SMALL, 1);
	b = cf_make(&f, SMALL, 2);
	copy_units(&f, a, first_chunk(&f, b).slot, first_chunk(&f, a).slot);
	file = cf_file(&f, a);
	assert_int_equal(file_write(file, "x", 1, 2 * CHUNK), CE_TAMPER);
	assert_int_equal(file_size(file), SMALL);
	file_unref(file, true);
	assert_true(is_packed(&f, a));
	cf_done(&f);
}

static void test_a_file_without_content_leaves_its_pack(void **state)
{
	struct content_fixture f;
	struct file *file;
	uint64_t a;

	cf_init(&f);
	a = cf_make(&f, SMALL, 1);
	file = cf_file(&f, a);
	ok(file_truncate(file, 0));
	assert_int_equal(map_of(&f, a).blob, 0);
	ok(durable_reclaim(f.v));
	assert_int_equal(f.v->space.used, 0);
	ok(file_truncate(file, 3 * CHUNK));
	cf_write(file, SMALL, 0, 2);
	ok(file_commit(file));
	assert_true(is_packed(&f, a));
	assert_true(cf_holds(file, SMALL, 0, 2));
	assert_int_equal(file_size(file), 3 * CHUNK);
	file_unref(file, true);
	cf_done(&f);
}

static void test_a_full_pack_is_followed_by_another_and_goes_when_it_is_empty(void **state)
{
	enum { FILES = BLOB_PACK_UNITS * BLOB_PAD / CHUNK + 3 };
	struct content_fixture f;
	uint64_t objects[FILES], first;

	cf_init(&f);
	for (unsigned i = 0; i < FILES; i++)
		objects[i] = cf_make(&f, CHUNK, i);
	assert_int_equal(blob_files(&f), 2);
	first = map_of(&f, objects[0]).blob;
	assert_int_not_equal(map_of(&f, objects[FILES - 1]).blob, first);
	ok(volume_sync(f.v));
	for (unsigned i = 0; i < FILES - 3; i++)
		unlink_object(&f, objects[i]);
	ok(durable_reclaim(f.v));
	ok(volume_sync(f.v));
	ok(volume_sync(f.v));
	assert_int_equal(blob_files(&f), 1);
	assert_true(cf_is(&f, objects[FILES - 1], CHUNK, FILES - 1));
	assert_int_equal(f.v->space.used, 3 * CHUNK);
	cf_done(&f);
}

static void test_snapshot_pins_its_units(void **state)
{
	struct content_fixture f;
	struct file *shot;
	uint64_t a, map;

	cf_init(&f);
	a = cf_make(&f, SMALL, 1);
	map = map_of(&f, a).id;
	ok(db_begin(f.v->db));
	ok(content_map_clone(f.v->db, map, CONTENT_MAP_SNAPSHOT, &map));
	ok(db_commit(f.v->db));
	for (unsigned i = 2; i < 6; i++) {
		cf_rewrite(&f, a, SMALL, i);
		ok(volume_sync(f.v));
	}
	cf_rewrite(&f, a, 2 * CHUNK, 6);
	ok(volume_sync(f.v));
	ok(file_open_map(f.v, map, &shot));
	assert_true(cf_holds(shot, SMALL, 0, 1));
	file_unref(shot, false);
	ok(db_begin(f.v->db));
	ok(gc_drop_map(f.v, map));
	ok(db_commit(f.v->db));
	gc_run(f.v, true);
	ok(durable_reclaim(f.v));
	assert_int_equal(f.v->space.used, 2 * CHUNK);
	assert_true(cf_is(&f, a, 2 * CHUNK, 6));
	cf_done(&f);
}

/* P11, and the files of a pack go one by one: the oldest first. */
static void test_eviction_takes_single_files_of_a_pack(void **state)
{
	enum { FILES = 700 };
	struct content_fixture f;
	uint8_t *buf = malloc(CHUNK);
	uint64_t objects[FILES];
	struct file_range range;
	unsigned gone = 0;

	cf_paths(&f);
	f.limit = VOLUME_LIMIT_MIN_BYTES;
	cf_create(&f);
	cf_open(&f);
	cf_store(&f);
	for (unsigned i = 0; i < FILES; i++) {
		struct file *file = cf_file(&f, objects[i] = cf_remote(&f, CHUNK, ETAG));

		cf_pattern(buf, CHUNK, 0, i);
		ok(file_fill(file, ETAG, buf, CHUNK, 0));
		file_unref(file, true);
		assert_true(cf_du(f.dir) <= f.limit);
	}
	for (unsigned i = 0; i < FILES; i++) {
		struct file *file = cf_file(&f, objects[i]);

		ok(file_missing(file, 0, UINT64_MAX, CHUNK, &range));
		gone += range.len > 0;
		assert_true(range.len || cf_holds(file, CHUNK, 0, i));
		assert_true(i || range.len);
		assert_false(i == FILES - 1 && range.len);
		file_unref(file, true);
	}
	assert_true(gone > FILES * CHUNK / f.limit && gone < FILES - 100);
	free(buf);
	cf_done(&f);
}

/* Ends the process of the volume without closing it. */
static void die_after(struct content_fixture *f,
	void (*fn)(struct content_fixture *f, uint64_t object), uint64_t object)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		cf_open(f);
		fn(f, object);
		kill(getpid(), SIGKILL);
	}
	waitpid(pid, &status, 0);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void enlarge(struct content_fixture *f, uint64_t object)
{
	keeper_stop(f->v);
	cf_rewrite(f, object, 3 * CHUNK, 2);
}

/* I2: what the map was includes where it was. */
static void test_lost_data_of_an_enlarged_file_falls_back_into_the_pack(void **state)
{
	struct content_fixture f;
	char cmd[400];
	uint64_t a, b;

	cf_init(&f);
	a = cf_make(&f, SMALL, 1);
	b = cf_make(&f, SMALL, 7);
	ok(volume_sync(f.v));
	cf_close(&f);
	die_after(&f, enlarge, a);
	/* The new blob, not the pack. */
	snprintf(cmd, sizeof(cmd), "find %s/blobs -type f -size +100k -exec truncate -s 70000 {} +",
		f.dir);
	ok(system(cmd));
	cf_open(&f);
	assert_int_equal(atomic_load(&f.v->rolled_back), 1);
	assert_true(is_packed(&f, a));
	assert_true(cf_is(&f, a, SMALL, 1));
	assert_true(cf_is(&f, b, SMALL, 7));
	ok(volume_sync(f.v));
	for (unsigned i = 0; i < 100 && blob_files(&f) > 1; i++)
		usleep(50000);
	assert_int_equal(blob_files(&f), 1);
	cf_done(&f);
}

static void write_many_and_seal(struct content_fixture *f, uint64_t object)
{
	struct blob *b;
	uint64_t slot;
	struct content_chunk c;
	uint8_t buf[SMALL] = { 1 };

	keeper_stop(f->v);
	for (unsigned i = 0; i < 50; i++) {
		ok(packs_take(f->v, f->store, SMALL, &b, &slot));
		ok(blob_seal(b, 0, buf, SMALL, &slot, &c));
	}
	cf_rewrite(f, object, SMALL, 2);
}

/* Nobody named them; what the crash left is free, and its blocks are counted or given back. */
static void test_units_orphaned_by_a_crash_are_free_and_counted(void **state)
{
	struct content_fixture f;
	char blobs[256];
	uint64_t a;

	cf_init(&f);
	snprintf(blobs, sizeof(blobs), "%s/blobs", f.dir);
	a = cf_make(&f, SMALL, 1);
	ok(volume_sync(f.v));
	cf_close(&f);
	die_after(&f, write_many_and_seal, a);
	cf_open(&f);
	assert_true(f.v->space.used >= cf_du(blobs));
	assert_true(cf_is(&f, a, SMALL, 2));
	for (unsigned i = 0; i < 100 && cf_du(blobs) > 4 * BLOB_PAD; i++)
		usleep(50000);
	assert_true(cf_du(blobs) <= 4 * BLOB_PAD || f.v->space.used >= cf_du(blobs));
	assert_true(first_chunk(&f, cf_make(&f, SMALL, 3)).slot < 10);
	assert_true(cf_is(&f, a, SMALL, 2));
	cf_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many_small_files_are_one_file_of_the_disk),
		cmocka_unit_test(test_chunks_of_two_files_cannot_stand_for_each_other),
		cmocka_unit_test(test_an_old_chunk_is_not_served),
		cmocka_unit_test(test_clean_damage_in_a_pack_heals_and_touches_nothing_else),
		cmocka_unit_test(test_units_are_used_again_only_after_the_sync),
		cmocka_unit_test(test_units_of_a_file_that_moves_out_wait_for_the_sync),
		cmocka_unit_test(test_units_of_a_deleted_file_wait_for_the_sync),
		cmocka_unit_test(test_a_second_chunk_means_a_blob_of_its_own),
		cmocka_unit_test(test_enlarging_without_the_first_chunk_fails_whole),
		cmocka_unit_test(test_a_file_without_content_leaves_its_pack),
		cmocka_unit_test(test_a_full_pack_is_followed_by_another_and_goes_when_it_is_empty),
		cmocka_unit_test(test_snapshot_pins_its_units),
		cmocka_unit_test(test_eviction_takes_single_files_of_a_pack),
		cmocka_unit_test(test_lost_data_of_an_enlarged_file_falls_back_into_the_pack),
		cmocka_unit_test(test_units_orphaned_by_a_crash_are_free_and_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
