/* Goal: P11 and P8. The blocks of the volume never exceed the limit, clean content goes first and
 * by age, unsent content never, and a full volume stays usable. */
#include "content_fixture.h"

#define LIMIT VOLUME_LIMIT_MIN_BYTES
#define MIB (1u << 20)
#define ETAG "\"v1\""

static void small_volume(struct content_fixture *f)
{
	cf_paths(f);
	f->limit = LIMIT;
	cf_create(f);
	cf_open(f);
	cf_store(f);
}

static int fill(struct content_fixture *f, uint64_t object, size_t size, uint32_t seed)
{
	uint8_t *buf = malloc(size);
	struct file *file = cf_file(f, object);
	int r;

	cf_pattern(buf, size, 0, seed);
	r = file_fill(file, ETAG, buf, size, 0);
	file_unref(file, true);
	free(buf);
	return r;
}

static bool is_here(struct content_fixture *f, uint64_t object)
{
	struct file *file = cf_file(f, object);
	struct file_range range;

	ok(file_missing(file, 0, UINT64_MAX, MIB, &range));
	file_unref(file, true);
	return !range.len;
}

static void within_limit(struct content_fixture *f)
{
	uint64_t du = cf_du(f->dir);

	if (du > f->v->space.limit)
		fail_msg("%llu bytes on disk", (unsigned long long)du);
}

/* Until nothing is accepted any more; the number of MiB that were. */
static unsigned write_until_full(struct file *file, uint32_t seed)
{
	uint8_t *buf = malloc(MIB);
	unsigned n = 0;
	int r;

	for (;;) {
		cf_pattern(buf, MIB, (uint64_t)n * MIB, seed);
		r = file_write(file, buf, MIB, (uint64_t)n * MIB);
		if (r)
			break;
		n++;
		assert_true(n < LIMIT / MIB);
	}
	assert_int_equal(r, -ENOSPC);
	free(buf);
	return n;
}

static void test_unsent_work_fills_the_volume_and_stays(void **state)
{
	struct content_fixture f;
	struct file *file;
	unsigned n;

	small_volume(&f);
	file = cf_file(&f, cf_object(&f));
	n = write_until_full(file, 3);
	assert_true(n >= LIMIT / MIB * 3 / 5);
	ok(file_sync(file));
	within_limit(&f);
	for (unsigned i = 0; i < n; i++)
		assert_true(cf_holds(file, MIB, (uint64_t)i * MIB, 3));
	file_unref(file, true);
	cf_reopen(&f);
	file = cf_file(&f, 2);
	for (unsigned i = 0; i < n; i++)
		assert_true(cf_holds(file, MIB, (uint64_t)i * MIB, 3));
	file_unref(file, true);
	assert_true(space_is_tight(f.v));
	cf_done(&f);
}

static void test_full_volume_can_be_emptied_and_used_again(void **state)
{
	struct content_fixture f;
	struct file *file;

	small_volume(&f);
	file = cf_file(&f, cf_object(&f));
	for (unsigned round = 0; round < 3; round++) {
		assert_true(write_until_full(file, round) > 10);
		within_limit(&f);
		ok(file_commit(file));
		ok(file_truncate(file, 0));
		within_limit(&f);
	}
	file_unref(file, true);
	ok(volume_sync(f.v));
	assert_true(f.v->space.used < MIB);
	assert_int_equal(f.v->space.reserved, 0);
	cf_done(&f);
}

static void test_clean_content_goes_by_age(void **state)
{
	struct content_fixture f;
	uint64_t objects[48];

	small_volume(&f);
	for (unsigned i = 0; i < ARRAY_SIZE(objects); i++) {
		objects[i] = cf_remote(&f, MIB, ETAG);
		ok(fill(&f, objects[i], MIB, i));
		within_limit(&f);
	}
	assert_false(is_here(&f, objects[0]));
	assert_false(is_here(&f, objects[1]));
	assert_true(is_here(&f, objects[ARRAY_SIZE(objects) - 1]));
	assert_int_equal(atomic_load(&f.v->damaged), 0);
	cf_done(&f);
}

static void test_unsent_and_pinned_content_is_not_evicted(void **state)
{
	struct content_fixture f;
	uint64_t unsent, pinned, map;
	struct file *file;

	small_volume(&f);
	unsent = cf_object(&f);
	file = cf_file(&f, unsent);
	cf_write(file, 4 * MIB, 0, 1);
	ok(file_commit(file));
	file_unref(file, true);
	pinned = cf_remote(&f, 4 * MIB, ETAG);
	ok(fill(&f, pinned, 4 * MIB, 2));
	map = cf_row(&f, pinned).map;
	ok(db_begin(f.v->db));
	ok(content_map_pin(f.v->db, map, true));
	ok(db_commit(f.v->db));
	for (unsigned i = 0; i < 40; i++) {
		uint64_t o = cf_remote(&f, MIB, ETAG);

		ok(fill(&f, o, MIB, 10 + i));
	}
	within_limit(&f);
	assert_true(is_here(&f, pinned));
	assert_true(cf_is(&f, unsent, 4 * MIB, 1));
	cf_done(&f);
}

static void test_open_content_is_not_evicted(void **state)
{
	struct content_fixture f;
	struct file *reader;
	uint64_t object;

	small_volume(&f);
	object = cf_remote(&f, 4 * MIB, ETAG);
	ok(fill(&f, object, 4 * MIB, 1));
	ok(file_open(f.v, object, 0, false, &reader));
	for (unsigned i = 0; i < 40; i++) {
		uint64_t o = cf_remote(&f, MIB, ETAG);

		ok(fill(&f, o, MIB, 10 + i));
	}
	assert_true(cf_holds(reader, 4 * MIB, 0, 1));
	file_unref(reader, false);
	cf_done(&f);
}

static int fill_part(struct file *file, uint64_t off, uint32_t seed)
{
	uint8_t *buf = malloc(MIB);
	int r;

	cf_pattern(buf, MIB, off, seed);
	r = file_fill(file, ETAG, buf, MIB, off);
	free(buf);
	return r;
}

/* Closed, flushed by the keeper and opened again: used twice. */
static void use_again(struct content_fixture *f, uint64_t object)
{
	uint64_t map = cf_row(f, object).map;

	ok(db_begin(f->v->db));
	ok(content_map_used(f->v->db, map, clock_wall_ns() / NS_PER_SEC));
	ok(db_commit(f->v->db));
}

static void test_a_file_larger_than_the_bound_is_read_through(void **state)
{
	struct content_fixture f;
	struct file *reader;
	uint64_t object, used;

	small_volume(&f);
	used = cf_remote(&f, 4 * MIB, ETAG);
	ok(fill(&f, used, 4 * MIB, 2));
	object = cf_remote(&f, 3 * LIMIT, ETAG);
	ok(file_open(f.v, object, 0, false, &reader));
	for (uint64_t off = 0; off < 3 * LIMIT; off += MIB) {
		ok(fill_part(reader, off, 1));
		assert_true(cf_holds(reader, MIB, off, 1));
		within_limit(&f);
	}
	/* What came first has gone, what came last is here, and it cost nobody else. */
	assert_false(is_here(&f, object));
	assert_true(cf_holds(reader, 2 * MIB, 3 * LIMIT - 2 * MIB, 1));
	assert_true(is_here(&f, used));
	ok(fill_part(reader, 0, 1));
	assert_true(cf_holds(reader, MIB, 0, 1));
	file_unref(reader, false);
	cf_reopen(&f);
	ok(file_open(f.v, object, 0, false, &reader));
	assert_true(cf_holds(reader, MIB, 0, 1));
	file_unref(reader, false);
	assert_int_equal(atomic_load(&f.v->damaged), 0);
	cf_done(&f);
}

/* Who opened for writing has it whole: what is written never needs the network. */
static void test_content_with_a_writer_stays_whole(void **state)
{
	struct content_fixture f;
	struct file *writer, *reader;
	uint64_t object, freed = 0, size = LIMIT / 2;

	small_volume(&f);
	object = cf_remote(&f, size, ETAG);
	writer = cf_file(&f, object);
	for (uint64_t off = 0; off < size; off += MIB)
		ok(fill_part(writer, off, 1));
	ok(volume_sync(f.v));
	ok(space_evict_fill(writer, true, size, &freed));
	assert_int_equal(freed, 0);
	assert_true(cf_holds(writer, size, 0, 1));
	ok(file_open(f.v, object, 0, false, &reader));
	file_unref(writer, true);
	ok(space_evict_fill(reader, true, MIB, &freed));
	assert_true(freed >= MIB);
	file_unref(reader, false);
	cf_done(&f);
}

static void test_what_was_used_again_outlives_a_scan(void **state)
{
	struct content_fixture f;
	uint64_t again, once;

	small_volume(&f);
	again = cf_remote(&f, 4 * MIB, ETAG);
	ok(fill(&f, again, 4 * MIB, 1));
	use_again(&f, again);
	once = cf_remote(&f, 4 * MIB, ETAG);
	ok(fill(&f, once, 4 * MIB, 2));
	for (unsigned i = 0; i < 60; i++)
		ok(fill(&f, cf_remote(&f, MIB, ETAG), MIB, 10 + i));
	assert_true(is_here(&f, again));
	assert_false(is_here(&f, once));
	cf_done(&f);
}

static void test_evicted_content_can_be_filled_again(void **state)
{
	struct content_fixture f;
	uint64_t object, freed;

	small_volume(&f);
	object = cf_remote(&f, MIB + 777, ETAG);
	ok(fill(&f, object, MIB + 777, 1));
	ok(volume_sync(f.v));
	ok(space_evict(f.v, 1, &freed));
	assert_true(freed >= MIB);
	assert_false(is_here(&f, object));
	assert_int_equal(f.v->space.used, 0);
	ok(fill(&f, object, MIB + 777, 1));
	assert_true(is_here(&f, object));
	assert_true(cf_is(&f, object, MIB + 777, 1));
	cf_done(&f);
}

/* Copy on write keeps both sides until the sync: they are counted, and found when the limit is
 * near. */
static void test_rewriting_counts_both_sides(void **state)
{
	struct content_fixture f;
	struct file *file;

	small_volume(&f);
	file = cf_file(&f, cf_object(&f));
	cf_write(file, 8 * MIB, 0, 1);
	ok(file_commit(file));
	for (unsigned i = 2; i < 30; i++) {
		cf_write(file, 8 * MIB, 0, i);
		ok(file_commit(file));
		within_limit(&f);
	}
	assert_true(cf_holds(file, 8 * MIB, 0, 29));
	file_unref(file, true);
	cf_done(&f);
}

static void test_small_files_take_a_page(void **state)
{
	struct content_fixture f;
	char blobs[256];

	small_volume(&f);
	for (unsigned i = 0; i < 100; i++) {
		struct file *file = cf_file(&f, cf_object(&f));

		cf_write(file, 1 + i * 40, 0, i);
		ok(file_commit(file));
		file_unref(file, true);
	}
	ok(volume_sync(f.v));
	snprintf(blobs, sizeof(blobs), "%s/blobs", f.dir);
	/* And what is laid out ahead of the next. */
	assert_in_range(cf_du(blobs), 100 * BLOB_PAD, 164 * BLOB_PAD);
	assert_int_equal(f.v->space.used, cf_du(blobs));
	cf_done(&f);
}

/* --- content in the log as well (cache/logged.h) --- */

#define WRITERS 8
#define FILES 24
#define ROUNDS 60
#define LEAVES_LITTLE (21 * MIB)

struct writer {
	struct file *files[FILES];
	unsigned seed, logged, full;
	int failed;
};

static void *save_and_sync(void *arg)
{
	struct writer *w = arg;
	uint8_t buf[31000];

	for (unsigned i = 0; i < ROUNDS && !w->failed; i++) {
		struct file *file = w->files[(i * 7 + w->seed) % FILES];
		size_t size = 3000 + i * 977 % 28000;
		int r;

		cf_pattern(buf, size, 0, w->seed + i);
		r = file_write(file, buf, size, 0);
		if (!r)
			r = file_sync(file);
		w->full += r == -ENOSPC;
		w->failed = r == -ENOSPC ? 0 : r;
		w->logged += !r && file->logged;
	}
	return NULL;
}

static void open_files(struct content_fixture *f, struct writer *w, unsigned seed)
{
	*w = (struct writer){ .seed = seed };
	for (unsigned i = 0; i < FILES; i++)
		w->files[i] = cf_file(f, cf_object(f));
}

/* Near the limit, the log full of content at times: neither it nor what has it grows beyond. */
static void test_what_fsync_puts_in_the_log_is_counted(void **state)
{
	struct writer w[WRITERS];
	struct content_fixture f;
	pthread_t threads[WRITERS];
	unsigned logged = 0, full = 0;
	struct file *file;

	small_volume(&f);
	file = cf_file(&f, cf_object(&f));
	cf_write(file, LEAVES_LITTLE, 0, 1);
	ok(file_commit(file));
	for (unsigned i = 0; i < WRITERS; i++)
		open_files(&f, &w[i], i * 1000);
	for (unsigned i = 0; i < WRITERS; i++)
		ok(pthread_create(&threads[i], NULL, save_and_sync, &w[i]));
	for (unsigned i = 0; i < WRITERS; i++) {
		while (pthread_tryjoin_np(threads[i], NULL) == EBUSY)
			within_limit(&f);
		assert_int_equal(w[i].failed, 0);
		logged += w[i].logged;
		full += w[i].full;
	}
	within_limit(&f);
	print_message("%u logged, %u times full\n", logged, full);
	assert_true(logged > 0 && full > 0);
	for (unsigned i = 0; i < WRITERS; i++)
		for (unsigned j = 0; j < FILES; j++)
			file_unref(w[i].files[j], true);
	file_unref(file, true);
	cf_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unsent_work_fills_the_volume_and_stays),
		cmocka_unit_test(test_full_volume_can_be_emptied_and_used_again),
		cmocka_unit_test(test_clean_content_goes_by_age),
		cmocka_unit_test(test_unsent_and_pinned_content_is_not_evicted),
		cmocka_unit_test(test_open_content_is_not_evicted),
		cmocka_unit_test(test_a_file_larger_than_the_bound_is_read_through),
		cmocka_unit_test(test_content_with_a_writer_stays_whole),
		cmocka_unit_test(test_what_was_used_again_outlives_a_scan),
		cmocka_unit_test(test_evicted_content_can_be_filled_again),
		cmocka_unit_test(test_rewriting_counts_both_sides),
		cmocka_unit_test(test_small_files_take_a_page),
		cmocka_unit_test(test_what_fsync_puts_in_the_log_is_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
