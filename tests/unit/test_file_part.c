/* Goal: a write of a part of a chunk does not read the rest. It is read when the next write leaves a gap, or when the chunk is
 * sealed; what does not open then costs that write alone, is told once, and leaves the file as it was. */
#include "content_fixture.h"

#include <sys/syscall.h>
#include <sys/uio.h>

#include "unit.h"

#define CHUNK (UINT32_C(1) << BLOB_SHIFT_LARGE)
#define CHUNKS 20u
#define LEN (CHUNKS * CHUNK)
#define PART 4096u
#define ETAG "\"v1\""

/* --- interposed: reads of blobs, counted, or failing --- */

static unsigned reads;
static bool failing;

static bool fails(int fd)
{
	if (!unit_is_blob(fd))
		return false;
	reads++;
	errno = EIO;
	return failing;
}

ssize_t pread(int fd, void *buf, size_t n, off_t off)
{
	return fails(fd) ? -1 : syscall(SYS_pread64, fd, buf, n, off);
}

ssize_t preadv2(int fd, const struct iovec *v, int n, off_t off, int flags)
{
	return fails(fd) ? -1 : syscall(SYS_preadv2, fd, v, n, off, 0, flags);
}

/* --- */

struct part {
	struct content_fixture f;
	struct file *file;
	uint64_t object;
};

/* Content of tag 1: the origin's, or the program's own. */
static void begin(struct part *p, bool clean)
{
	uint8_t *buf = malloc(LEN);

	cf_init(&p->f);
	p->object = clean ? cf_remote(&p->f, LEN, ETAG) : cf_object(&p->f);
	p->file = cf_file(&p->f, p->object);
	cf_pattern(buf, LEN, 0, 1);
	if (clean)
		ok(file_fill(p->file, ETAG, buf, LEN, 0));
	else
		ok(file_write(p->file, buf, LEN, 0));
	free(buf);
	ok(file_sync(p->file));
	reads = 0;
}

static void end(struct part *p)
{
	assert_int_equal(p->f.v->space.reserved, 0);
	file_unref(p->file, true);
	assert_int_equal(atomic_load(&p->f.v->dirty_bytes), 0);
	cf_done(&p->f);
}

static void reopen(struct part *p)
{
	file_unref(p->file, true);
	cf_reopen(&p->f);
	p->file = cf_file(&p->f, p->object);
}

/* [off, off + len) is of tag 2, all else of tag 1. */
static void assert_part(struct part *p, uint64_t off, uint64_t len)
{
	assert_int_equal(file_size(p->file), LEN);
	assert_true(cf_holds(p->file, off, 0, 1));
	assert_true(cf_holds(p->file, len, off, 2));
	assert_true(cf_holds(p->file, LEN - off - len, off + len, 1));
}

/* One byte of what is sealed of the chunk. */
static void flip(struct part *p, uint64_t idx)
{
	char path[512];
	struct chunk_entry e;
	uint8_t b;
	int fd;

	ok(chunkmap_get(&p->file->chunks, idx, &e));
	cf_blob_path(&p->f, p->object, path, sizeof(path));
	fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(syscall(SYS_pread64, fd, &b, 1, e.c.slot * BLOB_PAD + 77), 1);
	b ^= 1;
	assert_int_equal(pwrite(fd, &b, 1, (off_t)(e.c.slot * BLOB_PAD + 77)), 1);
	close(fd);
}

static void test_a_part_is_written_without_reading(void **state)
{
	const uint64_t off = 3 * CHUNK + PART;
	struct part p;

	begin(&p, false);
	cf_write(p.file, PART, off, 2);
	cf_write(p.file, 100, off + PART, 2);
	cf_write(p.file, 100, off - 100, 2);
	assert_int_equal(reads, 0);
	assert_true(cf_holds(p.file, PART + 200, off - 100, 2));
	assert_int_equal(reads, 0);
	assert_part(&p, off - 100, PART + 200);
	ok(file_commit(p.file));
	assert_part(&p, off - 100, PART + 200);
	reopen(&p);
	assert_part(&p, off - 100, PART + 200);
	end(&p);
}

static void test_a_chunk_written_in_parts_is_never_read(void **state)
{
	struct part p;

	begin(&p, false);
	for (uint64_t off = 0; off < LEN; off += PART)
		cf_write(p.file, PART, off, 2);
	for (uint64_t off = CHUNK; off; off -= PART)
		cf_write(p.file, PART, off - PART, 2);
	ok(file_commit(p.file));
	assert_int_equal(reads, 0);
	assert_true(cf_holds(p.file, LEN, 0, 2));
	end(&p);
}

static void test_a_gap_is_read(void **state)
{
	struct part p;

	begin(&p, false);
	cf_write(p.file, 10, CHUNK, 2);
	assert_int_equal(reads, 0);
	cf_write(p.file, 10, CHUNK + 20, 2);
	assert_int_not_equal(reads, 0);
	assert_true(cf_holds(p.file, 10, CHUNK + 10, 1));
	failing = true;
	cf_write(p.file, 10, 2 * CHUNK, 2);
	assert_int_equal(file_write(p.file, "x", 1, 2 * CHUNK + 20), -EIO);
	failing = false;
	ok(file_commit(p.file));
	ok(file_take_lost(p.file));
	assert_true(cf_holds(p.file, 10, 2 * CHUNK, 2) && cf_holds(p.file, 100, 2 * CHUNK + 10, 1));
	end(&p);
}

/* It ends within the chunk, so that zeros follow what the slot has. */
static void test_what_grows_and_shrinks_meanwhile(void **state)
{
	const uint64_t size = 5 * CHUNK + 5000;
	struct part p;

	begin(&p, false);
	ok(file_truncate(p.file, size));
	cf_write(p.file, 10, 5 * CHUNK + 100, 2);
	ok(file_fallocate(p.file, 0, 0, LEN));
	cf_write(p.file, 10, 5 * CHUNK + 9000, 2);
	assert_true(cf_holds(p.file, 4890, 5 * CHUNK + 110, 1));
	for (uint64_t at = size; at < LEN; at++) {
		uint8_t b = 0xff, want;
		size_t got;

		cf_pattern(&want, 1, at, 2);
		ok(file_read(p.file, &b, 1, at, &got));
		assert_int_equal(b, at >= 5 * CHUNK + 9000 && at < 5 * CHUNK + 9010 ? want : 0);
	}
	cf_write(p.file, 10, 4 * CHUNK + 100, 2);
	ok(file_truncate(p.file, 4 * CHUNK + 50));
	ok(file_truncate(p.file, 4 * CHUNK + 200));
	assert_true(cf_holds(p.file, 50, 4 * CHUNK, 1));
	for (uint64_t at = 4 * CHUNK + 50; at < 4 * CHUNK + 200; at++) {
		uint8_t b = 0xff;
		size_t got;

		ok(file_read(p.file, &b, 1, at, &got));
		assert_int_equal(b, 0);
	}
	end(&p);
}

static void lose_one(struct part *p)
{
	flip(p, 3);
	cf_write(p->file, PART, 3 * CHUNK, 2);
	assert_true(cf_holds(p->file, PART, 3 * CHUNK, 2));
}

/* The origin has what does not open here, as long as nothing else was changed. */
static void test_damage_found_late_leaves_the_file_clean(void **state)
{
	struct file_range range;
	uint8_t *buf = malloc(CHUNK);
	struct part p;
	size_t got;

	begin(&p, true);
	lose_one(&p);
	ok(file_sync(p.file));
	assert_int_equal(file_take_lost(p.file), CE_TAMPER);
	ok(file_take_lost(p.file));
	assert_false(file_is_dirty(p.file));
	assert_int_equal(file_read(p.file, buf, CHUNK, 3 * CHUNK, &got), CE_ABSENT);
	ok(file_missing(p.file, 0, UINT64_MAX, LEN, &range));
	assert_string_equal(range.etag, ETAG);
	assert_int_equal(range.off, 3 * CHUNK);
	assert_int_equal(range.len, CHUNK);
	cf_pattern(buf, CHUNK, range.off, 1);
	ok(file_fill(p.file, ETAG, buf, CHUNK, range.off));
	assert_true(cf_holds(p.file, LEN, 0, 1));
	free(buf);
	end(&p);
}

static void test_damage_found_late_costs_nothing_else(void **state)
{
	uint8_t byte;
	struct part p;
	size_t got;

	begin(&p, false);
	cf_write(p.file, PART, 2 * CHUNK, 2);
	lose_one(&p);
	cf_write(p.file, PART, 4 * CHUNK, 2);
	ok(file_commit(p.file));
	assert_int_equal(file_take_lost(p.file), CE_TAMPER);
	reopen(&p);
	assert_true(cf_holds(p.file, PART, 2 * CHUNK, 2) && cf_holds(p.file, PART, 4 * CHUNK, 2));
	assert_int_equal(file_read(p.file, &byte, 1, 3 * CHUNK, &got), CE_TAMPER);
	/* Who writes the whole chunk has it back. */
	cf_write(p.file, CHUNK, 3 * CHUNK, 2);
	ok(file_sync(p.file));
	assert_true(cf_holds(p.file, CHUNK, 3 * CHUNK, 2));
	end(&p);
}

/* More than is kept in memory: the writer seals it. */
static void test_many_parts_do_not_gather(void **state)
{
	const unsigned n = FILE_DIRTY_MAX_BYTES / CHUNK + 100;
	struct part p;

	begin(&p, false);
	ok(file_write(p.file, "x", 1, (uint64_t)n * CHUNK));
	for (unsigned i = CHUNKS; i < n; i++)
		cf_write(p.file, CHUNK, (uint64_t)i * CHUNK, 1);
	ok(file_sync(p.file));
	for (unsigned i = 0; i < n; i++) {
		cf_write(p.file, 100, (uint64_t)i * CHUNK + 1000, 2);
		assert_in_range(atomic_load(&p.f.v->dirty_bytes), 0, FILE_DIRTY_MAX_BYTES + CHUNK);
	}
	ok(file_sync(p.file));
	for (unsigned i = 0; i < n; i += 7) {
		assert_true(cf_holds(p.file, 1000, (uint64_t)i * CHUNK, 1));
		assert_true(cf_holds(p.file, 100, (uint64_t)i * CHUNK + 1000, 2));
		assert_true(cf_holds(p.file, CHUNK - 1100, (uint64_t)i * CHUNK + 1100, 1));
	}
	end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_part_is_written_without_reading),
		cmocka_unit_test(test_a_chunk_written_in_parts_is_never_read),
		cmocka_unit_test(test_a_gap_is_read),
		cmocka_unit_test(test_what_grows_and_shrinks_meanwhile),
		cmocka_unit_test(test_damage_found_late_leaves_the_file_clean),
		cmocka_unit_test(test_damage_found_late_costs_nothing_else),
		cmocka_unit_test(test_many_parts_do_not_gather),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
