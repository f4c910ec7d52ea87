/* Goal: P9. A changed, moved, cut or old byte is never served: clean content is dropped and fetched
 * again, unsent content fails with CE_TAMPER, and nothing else is affected. */
#include "content_fixture.h"

#define CHUNK 65536u
#define SIZE (3 * CHUNK + 5000)
#define ETAG "\"v1\""

struct tamper {
	struct content_fixture f;
	uint64_t object, other;
	char path[512];
	bool clean;
};

static void fill_clean(struct content_fixture *f, uint64_t object)
{
	struct file *file = cf_file(f, object);
	uint8_t *buf = malloc(SIZE);

	cf_pattern(buf, SIZE, 0, 7);
	ok(file_fill(file, ETAG, buf, SIZE, 0));
	free(buf);
	file_unref(file, true);
}

static void write_unsent(struct content_fixture *f, uint64_t object)
{
	struct file *file = cf_file(f, object);

	cf_write(file, SIZE, 0, 7);
	ok(file_commit(file));
	file_unref(file, true);
}

/* Closed when it returns, so that nothing is in memory. */
static void tamper_init(struct tamper *t, bool clean)
{
	cf_init(&t->f);
	t->clean = clean;
	t->object = clean ? cf_remote(&t->f, SIZE, ETAG) : cf_object(&t->f);
	if (clean)
		fill_clean(&t->f, t->object);
	else
		write_unsent(&t->f, t->object);
	t->other = cf_object(&t->f);
	write_unsent(&t->f, t->other);
	cf_blob_path(&t->f, t->object, t->path, sizeof(t->path));
	cf_close(&t->f);
}

/* Every byte of the file reads as before or not at all; the other file is as it was. */
static unsigned check_reads(struct tamper *t)
{
	uint8_t buf[4096], want[4096];
	struct file *file;
	unsigned bad = 0;

	cf_open(&t->f);
	file = cf_file(&t->f, t->object);
	for (uint64_t off = 0; off < SIZE; off += sizeof(buf)) {
		size_t len = MIN_OF(sizeof(buf), SIZE - off), got = 0;
		int r = file_read(file, buf, len, off, &got);

		cf_pattern(want, len, off, 7);
		if (!r) {
			assert_int_equal(got, len);
			assert_memory_equal(buf, want, len);
			continue;
		}
		assert_int_equal(r, t->clean ? CE_ABSENT : CE_TAMPER);
		bad++;
	}
	file_unref(file, true);
	file = cf_file(&t->f, t->other);
	assert_true(cf_holds(file, SIZE, 0, 7));
	file_unref(file, true);
	return bad;
}

/* What was dropped can be fetched again and is then whole. */
static void heal(struct tamper *t)
{
	struct file *file = cf_file(&t->f, t->object);
	struct file_range range;
	uint8_t *buf = malloc(SIZE);

	for (;;) {
		ok(file_missing(file, 0, UINT64_MAX, 1 << 20, &range));
		if (!range.len)
			break;
		assert_string_equal(range.etag, ETAG);
		assert_int_equal(range.off % CHUNK, 0);
		cf_pattern(buf, range.len, range.off, 7);
		ok(file_fill(file, range.etag, buf, range.len, range.off));
	}
	free(buf);
	assert_true(cf_holds(file, SIZE, 0, 7));
	file_unref(file, true);
}

static uint64_t count_events(struct content_fixture *f)
{
	uint64_t bad_id;

	db_read(f->v->db);
	ok(event_verify(f->v->db, &bad_id));
	db_unlock(f->v->db);
	return atomic_load(&f->v->damaged);
}

static void flip(const char *path, off_t at)
{
	int fd = open(path, O_RDWR);
	uint8_t b;

	assert_int_equal(pread(fd, &b, 1, at), 1);
	b ^= 1u << at % 8;
	assert_int_equal(pwrite(fd, &b, 1, at), 1);
	close(fd);
}

/* Every 97th byte of every slot, some at a time, so that each chunk is hit alone too. */
static void run_flips(bool clean)
{
	struct tamper t;

	tamper_init(&t, clean);
	for (off_t at = 0; at < SIZE; at += 97 * 61) {
		unsigned bad;

		flip(t.path, at);
		bad = check_reads(&t);
		assert_true(bad >= 1 && bad <= CHUNK / 4096);
		assert_true(count_events(&t.f) >= 1);
		if (clean)
			heal(&t);
		cf_blob_path(&t.f, t.object, t.path, sizeof(t.path));
		cf_close(&t.f);
		if (!clean)
			flip(t.path, at);
		else
			break; /* its slots moved: each round would begin anew */
	}
	cf_done(&t.f);
}

static void test_flipped_bytes_of_clean_content_heal(void **state)
{
	run_flips(true);
}

static void test_flipped_bytes_of_unsent_content_are_reported(void **state)
{
	run_flips(false);
}

/* One byte of each chunk in turn, at every 97th place, against the primitive itself. */
static void test_every_97th_byte_is_bound(void **state)
{
	uint8_t *buf = malloc(CHUNK);
	struct chunk_entry e;
	struct file *file;
	struct tamper t;

	tamper_init(&t, false);
	cf_open(&t.f);
	file = cf_file(&t.f, t.object);
	for (uint64_t idx = 0; idx < 4; idx++) {
		ok(chunkmap_get(&file->chunks, idx, &e));
		for (uint32_t at = 0; at < e.c.len; at += 97) {
			flip(t.path, (off_t)(e.c.slot * BLOB_PAD + at));
			assert_int_equal(blob_open(file->blob, &e.c, buf), CE_TAMPER);
			for (uint32_t i = 0; i < e.c.len; i += 509)
				assert_int_equal(buf[i], 0);
			flip(t.path, (off_t)(e.c.slot * BLOB_PAD + at));
		}
		ok(blob_open(file->blob, &e.c, buf));
	}
	file_unref(file, true);
	free(buf);
	cf_done(&t.f);
}

static void swap_slots(const char *path, off_t a, off_t b)
{
	uint8_t *x = malloc(CHUNK), *y = malloc(CHUNK);
	int fd = open(path, O_RDWR);

	assert_int_equal(pread(fd, x, CHUNK, a * CHUNK), CHUNK);
	assert_int_equal(pread(fd, y, CHUNK, b * CHUNK), CHUNK);
	assert_int_equal(pwrite(fd, y, CHUNK, a * CHUNK), CHUNK);
	assert_int_equal(pwrite(fd, x, CHUNK, b * CHUNK), CHUNK);
	close(fd);
	free(x);
	free(y);
}

static void test_exchanged_slots_are_seen(void **state)
{
	struct tamper t;

	tamper_init(&t, true);
	swap_slots(t.path, 0, 1);
	assert_int_equal(check_reads(&t), 2 * CHUNK / 4096);
	heal(&t);
	cf_done(&t.f);
}

static void test_truncated_blob_is_seen(void **state)
{
	struct tamper t;

	tamper_init(&t, true);
	ok(truncate(t.path, CHUNK + 100));
	assert_int_equal(check_reads(&t), 2 * CHUNK / 4096 + 2);
	heal(&t);
	cf_done(&t.f);
}

static void test_missing_blob_is_fetched_again(void **state)
{
	struct tamper t;

	tamper_init(&t, true);
	ok(unlink(t.path));
	assert_int_equal(check_reads(&t), 3 * CHUNK / 4096 + 2);
	heal(&t);
	ok(volume_sync(t.f.v));
	cf_reopen(&t.f);
	assert_int_equal(atomic_load(&t.f.v->damaged), 0);
	cf_done(&t.f);
}

static void test_missing_blob_of_unsent_work_is_reported(void **state)
{
	struct tamper t;

	tamper_init(&t, false);
	ok(unlink(t.path));
	assert_int_equal(check_reads(&t), 3 * CHUNK / 4096 + 2);
	ok(volume_sync(t.f.v));
	cf_done(&t.f);
}

static void copy_file(const char *from, const char *to)
{
	uint8_t *buf = malloc(8 * CHUNK);
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	ssize_t n = read(in, buf, 8 * CHUNK);

	assert_true(n > 0);
	assert_int_equal(write(out, buf, (size_t)n), n);
	close(in);
	close(out);
	free(buf);
}

static void test_old_blob_put_back_is_seen(void **state)
{
	char old[600];
	struct tamper t;
	struct file *file;

	tamper_init(&t, false);
	snprintf(old, sizeof(old), "%s/old", t.f.top);
	copy_file(t.path, old);
	cf_open(&t.f);
	file = cf_file(&t.f, t.object);
	cf_write(file, SIZE, 0, 8);
	ok(file_sync(file));
	/* Back to what check_reads expects, in slots that the copy does not have right. */
	cf_write(file, SIZE, 0, 7);
	ok(file_sync(file));
	file_unref(file, true);
	cf_close(&t.f);
	copy_file(old, t.path);
	assert_int_equal(check_reads(&t), 3 * CHUNK / 4096 + 2);
	cf_done(&t.f);
}

/* A zeroed slot is not a hole. */
static void test_zeroed_slot_is_seen(void **state)
{
	struct tamper t;
	int fd;

	tamper_init(&t, true);
	fd = open(t.path, O_RDWR);
	ok(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, CHUNK));
	close(fd);
	assert_int_equal(check_reads(&t), CHUNK / 4096);
	heal(&t);
	cf_done(&t.f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flipped_bytes_of_clean_content_heal),
		cmocka_unit_test(test_flipped_bytes_of_unsent_content_are_reported),
		cmocka_unit_test(test_every_97th_byte_is_bound),
		cmocka_unit_test(test_exchanged_slots_are_seen),
		cmocka_unit_test(test_truncated_blob_is_seen),
		cmocka_unit_test(test_missing_blob_is_fetched_again),
		cmocka_unit_test(test_missing_blob_of_unsent_work_is_reported),
		cmocka_unit_test(test_old_blob_put_back_is_seen),
		cmocka_unit_test(test_zeroed_slot_is_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
