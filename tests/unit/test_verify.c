/*
 * Goal: verify (cache/verify.h) finds what a reader would find, before he does: clean content that
 * does not open is dropped and fetched again, unsent content stays, is named and not sent; nothing
 * else is touched.
 */
#include "content_fixture.h"

#include "cache/verify.h"
#include "unit.h"

#define CHUNK (UINT32_C(1) << BLOB_SHIFT_LARGE)
#define SIZE (5 * CHUNK + 5000)
#define CHUNKS 6
#define ETAG "\"v1\""

static uint64_t make_clean(struct content_fixture *f, uint32_t seed)
{
	uint64_t object = cf_remote(f, SIZE, ETAG);
	struct file *file = cf_file(f, object);
	uint8_t *buf = malloc(SIZE);

	cf_pattern(buf, SIZE, 0, seed);
	ok(file_fill(file, ETAG, buf, SIZE, 0));
	free(buf);
	file_unref(file, true);
	return object;
}

static uint64_t make_unsent(struct content_fixture *f, uint32_t seed)
{
	struct op_row op = { .kind = OP_PUT, .state = OP_QUEUED, .store = f->store };
	struct file *file;

	op.object = cf_object(f);
	snprintf(op.rid.text, sizeof(op.rid.text), "rid%u", seed);
	file = cf_file(f, op.object);
	cf_write(file, SIZE, 0, seed);
	ok(file_commit(file));
	file_unref(file, true);
	ok(db_begin(f->v->db));
	ok(op_insert(f->v->db, &op));
	ok(db_commit(f->v->db));
	return op.object;
}

/* Of the second chunk. */
static void damage(struct content_fixture *f, uint64_t object)
{
	char path[512];
	int fd;

	cf_blob_path(f, object, path, sizeof(path));
	cf_close(f);
	fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, "damage", 6, CHUNK + 100), 6);
	close(fd);
	cf_open(f);
}

static struct verify_report verify(struct content_fixture *f, uint64_t object)
{
	struct verify_report report = { 0 };
	struct verify_at at = { 0 };
	bool over = false;

	while (!over)
		ok(verify_slice(f->v, object, &at, UINT64_MAX, &over, &report));
	return report;
}

static int last_put(void *arg, const struct op_row *op)
{
	*(struct op_row *)arg = *op;
	return 0;
}

static struct op_row put_of(struct content_fixture *f, uint64_t object)
{
	struct op_row op = { 0 };

	db_read(f->v->db);
	ok(op_each_of_object(f->v->db, object, last_put, &op));
	db_unlock(f->v->db);
	return op;
}

static bool holds(struct content_fixture *f, uint64_t object, uint32_t seed)
{
	struct file *file = cf_file(f, object);
	bool same = cf_holds(file, SIZE, 0, seed);

	file_unref(file, true);
	return same;
}

static int setup(void **state)
{
	struct content_fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	cf_init(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	cf_done(*state);
	free(*state);
	return 0;
}

static void a_whole_volume_is_looked_at_and_left_alone(void **state)
{
	struct content_fixture *f = *state;
	uint64_t clean = make_clean(f, 1), unsent = make_unsent(f, 2);
	struct verify_report r = verify(f, 0);

	assert_int_equal(r.files, 2);
	assert_int_equal(r.chunks, 2 * CHUNKS);
	assert_int_equal(r.bytes, 2 * SIZE);
	assert_int_equal(r.healed + r.damaged, 0);
	assert_true(holds(f, clean, 1) && holds(f, unsent, 2));
	ok(verify_index(f->v));
}

static void damaged_clean_content_is_dropped_and_the_rest_of_it_stays(void **state)
{
	struct content_fixture *f = *state;
	uint64_t object = make_clean(f, 1), other = make_clean(f, 2);
	struct file_range range;
	struct verify_report r;
	struct file *file;
	uint8_t *buf;

	damage(f, object);
	r = verify(f, 0);
	assert_int_equal(r.healed, 1);
	assert_int_equal(r.damaged, 0);
	file = cf_file(f, object);
	ok(file_missing(file, 0, UINT64_MAX, UINT64_MAX, &range));
	assert_int_equal(range.off, CHUNK);
	assert_int_equal(range.len, CHUNK);
	buf = malloc(CHUNK);
	cf_pattern(buf, CHUNK, CHUNK, 1);
	ok(file_fill(file, range.etag, buf, CHUNK, CHUNK));
	free(buf);
	file_unref(file, true);
	assert_true(holds(f, object, 1) && holds(f, other, 2));
	assert_int_equal(verify(f, 0).healed, 0);
}

static void damaged_unsent_content_is_named_kept_and_not_sent(void **state)
{
	struct content_fixture *f = *state;
	uint64_t object = make_unsent(f, 1), other = make_unsent(f, 2);
	struct verify_report r;
	struct op_row op;

	damage(f, object);
	r = verify(f, 0);
	assert_int_equal(r.damaged, 1);
	assert_int_equal(r.healed, 0);
	op = put_of(f, object);
	assert_int_equal(op.state, OP_REFUSED);
	assert_string_equal(op.error, VERIFY_DAMAGED_TEXT);
	assert_int_equal(put_of(f, other).state, OP_QUEUED);
	assert_int_equal(cf_row(f, object).size, SIZE);
	assert_true(holds(f, other, 2));
	assert_int_equal(verify(f, 0).damaged, 1); /* it is still there */
}

/* An operation in flight sends its own snapshot. */
static void what_is_on_its_way_is_not_refused(void **state)
{
	struct content_fixture *f = *state;
	uint64_t object = make_unsent(f, 1);
	struct op_row op = put_of(f, object);

	op.state = OP_INFLIGHT;
	ok(db_begin(f->v->db));
	ok(op_update(f->v->db, &op));
	ok(db_commit(f->v->db));
	damage(f, object);
	assert_int_equal(verify(f, object).damaged, 1);
	assert_int_equal(put_of(f, object).state, OP_INFLIGHT);
}

static void one_file_is_looked_at_alone(void **state)
{
	struct content_fixture *f = *state;
	uint64_t object = make_clean(f, 1), other = make_clean(f, 2);
	struct verify_report r;

	damage(f, other);
	r = verify(f, object);
	assert_int_equal(r.files, 1);
	assert_int_equal(r.bytes, SIZE);
	assert_int_equal(r.healed, 0);
	assert_int_equal(verify(f, other).healed, 1);
	r = (struct verify_report){ 0 };
	assert_int_equal(
		verify_slice(f->v, 99999, &(struct verify_at){ 0 }, 1, &(bool){ false }, &r),
		-ENOENT);
}

/* Slice by slice each chunk is looked at once, and no slice is longer than it was asked to be. */
static void slices_go_on_where_the_last_one_ended(void **state)
{
	struct content_fixture *f = *state;
	struct verify_report r = { 0 };
	unsigned slices = 0;
	struct verify_at at = { 0 };
	bool over = false;

	for (uint32_t i = 0; i < 5; i++)
		make_clean(f, i);
	while (!over) {
		ok(verify_slice(f->v, 0, &at, 1, &over, &r));
		assert_true(r.chunks <= ++slices);
	}
	assert_int_equal(r.chunks, 5 * CHUNKS);
	assert_int_equal(r.files, 5);
	assert_int_equal(r.bytes, 5 * SIZE);
}

/* Clean content that could not be dropped, here since the index cannot be written, is not called
 * unsent: verify ends with the reason, and does it the next time. */
static void a_healing_that_fails_is_no_damage_to_unsent_content(void **state)
{
	struct content_fixture *f = *state;
	uint64_t object = make_clean(f, 1);
	struct verify_report r = { 0 };
	struct verify_at at = { 0 };
	struct rlimit before;
	bool over;
	int failed;

	damage(f, object);
	before = unit_disk_fill();
	failed = verify_slice(f->v, 0, &at, UINT64_MAX, &over, &r);
	unit_disk_free(before);
	assert_true(failed && failed != CE_TAMPER);
	assert_int_equal(r.damaged + r.healed, 0);
	r = verify(f, 0);
	assert_int_equal(r.healed, 1);
	assert_int_equal(r.damaged, 0);
}

/* The whole blob is gone: nothing opens, all of it is fetched again. */
static void a_blob_that_is_gone_is_fetched_again(void **state)
{
	struct content_fixture *f = *state;
	uint64_t object = make_clean(f, 1);
	struct file_range range;
	struct file *file;
	char path[512];

	cf_blob_path(f, object, path, sizeof(path));
	cf_close(f);
	ok(unlink(path));
	cf_open(f);
	assert_int_equal(verify(f, 0).healed, CHUNKS);
	file = cf_file(f, object);
	ok(file_missing(file, 0, UINT64_MAX, UINT64_MAX, &range));
	assert_int_equal(range.off, 0);
	file_unref(file, true);
}

/* What the scrub has looked at, in chunks; the files are of CHUNKS each, in the order of their
 * maps. */
static uint64_t scrubbed(struct content_fixture *f)
{
	const struct verify_at *at = &f->v->scrub_at;
	struct verify_at look = { 0 };
	struct verify_report r = { 0 };
	bool over = false;

	while (!over && (look.map < at->map || (look.map == at->map && look.chunk < at->chunk)))
		ok(verify_slice(f->v, 0, &look, 1, &over, &r));
	return r.chunks;
}

static void scrub(struct content_fixture *f, int64_t age_ms)
{
	f->v->scrub_rate = CHUNK;
	verify_scrub(f->v, age_ms);
	f->v->scrub_rate = 0; /* the keeper is not to go on */
}

/* One large file, and the time that a suspended machine was away, are no reason to read on. */
static void the_scrub_reads_no_more_than_its_rate_allows(void **state)
{
	struct content_fixture *f = *state;

	make_clean(f, 1);
	make_clean(f, 2);
	scrub(f, 0);
	assert_int_equal(scrubbed(f), 0);
	scrub(f, 1000);
	assert_int_equal(scrubbed(f), 1);
	scrub(f, 2000);
	assert_int_equal(scrubbed(f), 3);
	scrub(f, 2000);
	assert_int_equal(scrubbed(f), 5);
	scrub(f, 3600 * 1000);
	assert_int_equal(scrubbed(f), 8); /* the short one at the end of the first file, and two */
	verify_scrub(f->v, 1000);
	assert_int_equal(scrubbed(f), 8);
}

static void the_scrub_waits_for_who_writes(void **state)
{
	struct content_fixture *f = *state;
	struct file *file;

	make_clean(f, 1);
	file = cf_file(f, cf_object(f));
	cf_write(file, SIZE, 0, 2);
	scrub(f, 1000);
	assert_int_equal(scrubbed(f), 0);
	ok(file_commit(file));
	file_unref(file, true);
	scrub(f, 1000);
	assert_int_equal(scrubbed(f), 1);
}

static void the_scrub_goes_round(void **state)
{
	struct content_fixture *f = *state;
	uint64_t object = make_clean(f, 1);
	const uint64_t seen = atomic_load(&f->v->damaged);

	scrub(f, 2000);
	scrub(f, 2000);
	assert_int_not_equal(f->v->scrub_at.map, 0);
	scrub(f, 2000);
	assert_int_equal(f->v->scrub_at.map, 0);
	damage(f, object);
	scrub(f, 2000);
	assert_true(atomic_load(&f->v->damaged) > seen);
	assert_int_equal(verify(f, 0).healed, 0); /* it has been */
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_whole_volume_is_looked_at_and_left_alone),
		T(damaged_clean_content_is_dropped_and_the_rest_of_it_stays),
		T(damaged_unsent_content_is_named_kept_and_not_sent),
		T(what_is_on_its_way_is_not_refused),
		T(one_file_is_looked_at_alone),
		T(slices_go_on_where_the_last_one_ended),
		T(a_healing_that_fails_is_no_damage_to_unsent_content),
		T(a_blob_that_is_gone_is_fetched_again),
		T(the_scrub_reads_no_more_than_its_rate_allows),
		T(the_scrub_waits_for_who_writes),
		T(the_scrub_goes_round),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
