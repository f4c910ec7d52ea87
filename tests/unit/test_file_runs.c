/* Goal: chunks that follow each other are sealed with one write and opened with one read; where they
 * cannot be, content is the same, and a write that fails takes nothing. */
#include "content_fixture.h"

#include <sys/syscall.h>

#include "unit.h"

#define PIECE (UINT32_C(1) << BLOB_SHIFT_LARGE)
#define RUN (UINT32_C(1) << BLOB_RUN_SHIFT)
#define LEN (4 * RUN)

/* --- interposed: writes and reads of blobs, counted; the `failing`th write from now on fails, and
 * a read of the byte before bad_at --- */

static unsigned writes, reads, failing;
static uint64_t bad_at;

ssize_t pwrite(int fd, const void *buf, size_t n, off_t off)
{
	if (unit_is_blob(fd)) {
		writes++;
		if (failing && !--failing) {
			errno = EIO;
			return -1;
		}
	}
	return syscall(SYS_pwrite64, fd, buf, n, off);
}

ssize_t pread(int fd, void *buf, size_t n, off_t off)
{
	if (unit_is_blob(fd)) {
		reads++;
		if (bad_at && (uint64_t)off < bad_at && (uint64_t)off + n >= bad_at) {
			errno = EIO;
			return -1;
		}
	}
	return syscall(SYS_pread64, fd, buf, n, off);
}

static void commit(struct content_fixture *f, struct file *file)
{
	ok(file_commit(file));
	ok(volume_sync(f->v));
	writes = reads = 0;
}

static void test_a_run_is_one_write_and_one_read(void **state)
{
	struct content_fixture f;
	struct file *file;
	uint64_t object;

	cf_init(&f);
	object = cf_object(&f);
	file = cf_file(&f, object);
	cf_write(file, 2 * RUN, 0, 1); /* what a file begins with waits for its blob */
	commit(&f, file);
	cf_write(file, LEN, 2 * RUN, 1);
	assert_int_equal(writes, LEN / RUN);
	assert_true(cf_holds(file, LEN, 2 * RUN, 1));
	assert_int_equal(reads, LEN / (64 * PIECE));
	commit(&f, file);
	file_unref(file, true);
	cf_reopen(&f);
	file = cf_file(&f, object);
	assert_true(cf_holds(file, LEN + 2 * RUN, 0, 1));
	file_unref(file, true);
	cf_done(&f);
}

/* Whole chunks in the middle of an odd write, and one that somebody has begun to write. */
static void test_what_is_begun_is_not_passed_by(void **state)
{
	struct content_fixture f;
	struct file *file;

	cf_init(&f);
	file = cf_file(&f, cf_object(&f));
	cf_write(file, LEN, 0, 1);
	commit(&f, file);
	cf_write(file, 100, 7 * PIECE + 50, 2);
	cf_write(file, LEN - 2 * PIECE, PIECE - 3, 3);
	assert_true(cf_holds(file, PIECE - 3, 0, 1));
	assert_true(cf_holds(file, LEN - 2 * PIECE, PIECE - 3, 3));
	assert_true(cf_holds(file, PIECE + 3, LEN - PIECE - 3, 1));
	commit(&f, file);
	assert_true(cf_holds(file, LEN - 2 * PIECE, PIECE - 3, 3));
	file_unref(file, true);
	cf_done(&f);
}

/* Every second chunk is written over: the blob has holes of one chunk. What comes then fills them,
 * and is no run; it reads as it was written all the same. */
static void test_holes_are_filled_first(void **state)
{
	struct content_fixture f;
	struct file *file;
	uint64_t taken;

	cf_init(&f);
	file = cf_file(&f, cf_object(&f));
	cf_write(file, LEN, 0, 1);
	commit(&f, file);
	for (uint64_t at = 0; at < LEN; at += 2 * PIECE)
		cf_write(file, PIECE, at, 2);
	commit(&f, file);
	pthread_mutex_lock(&file->blob->lock);
	taken = file->blob->hint;
	pthread_mutex_unlock(&file->blob->lock);
	assert_in_range(taken, 0, LEN / BLOB_PAD / 2);
	cf_write(file, LEN / 4, LEN, 3);
	assert_int_equal(writes, LEN / 4 / PIECE);
	cf_write(file, LEN, LEN + LEN / 4, 3);
	for (uint64_t at = 0; at < LEN; at += PIECE)
		assert_true(cf_holds(file, PIECE, at, at % (2 * PIECE) ? 1 : 2));
	assert_true(cf_holds(file, LEN + LEN / 4, LEN, 3));
	commit(&f, file);
	assert_true(cf_holds(file, LEN + LEN / 4, LEN, 3));
	file_unref(file, true);
	cf_done(&f);
}

static void test_a_run_that_fails_takes_nothing(void **state)
{
	uint8_t *buf = malloc(LEN);
	struct content_fixture f;
	struct file *file;
	uint64_t used, n_taken;

	cf_init(&f);
	file = cf_file(&f, cf_object(&f));
	cf_write(file, LEN, 0, 1);
	commit(&f, file);
	used = f.v->space.used;
	n_taken = file->blob->n_taken;
	cf_pattern(buf, LEN, 0, 2);
	failing = 3;
	assert_int_equal(file_write(file, buf, LEN, 0), -EIO);
	assert_int_equal(writes, 3);
	assert_int_equal(f.v->space.reserved, 0);
	assert_int_equal(file->blob->n_taken, n_taken + 2 * RUN / BLOB_PAD);
	/* As write(2): what was taken before the error is there. */
	assert_true(cf_holds(file, 2 * RUN, 0, 2));
	assert_true(cf_holds(file, LEN - 2 * RUN, 2 * RUN, 1));
	commit(&f, file);
	assert_in_range(f.v->space.used, used, used + 2 * RUN);
	assert_true(cf_holds(file, 2 * RUN, 0, 2));
	assert_true(cf_holds(file, LEN - 2 * RUN, 2 * RUN, 1));
	file_unref(file, true);
	free(buf);
	cf_done(&f);
}

/* A disk that cannot read may take its time to say so: it is asked for the run, and then for each
 * chunk up to the bad one; not for what is left of the run again and again. */
static void test_a_run_that_cannot_be_read_is_tried_once(void **state)
{
	struct content_fixture f;
	struct file *file;
	uint8_t *buf = malloc(RUN);
	uint64_t bad_idx;

	cf_init(&f);
	file = cf_file(&f, cf_object(&f));
	cf_write(file, RUN, 0, 1);
	commit(&f, file);
	bad_at = RUN;
	pthread_rwlock_rdlock(&file->lock);
	assert_int_equal(file_read_locked(file, buf, RUN, 0, &bad_idx), -EIO);
	pthread_rwlock_unlock(&file->lock);
	assert_int_equal(bad_idx, RUN / PIECE - 1);
	assert_int_equal(reads, 1 + RUN / PIECE);
	bad_at = 0;
	assert_true(cf_holds(file, RUN, 0, 1));
	file_unref(file, true);
	free(buf);
	cf_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_run_is_one_write_and_one_read),
		cmocka_unit_test(test_what_is_begun_is_not_passed_by),
		cmocka_unit_test(test_holes_are_filled_first),
		cmocka_unit_test(test_a_run_that_fails_takes_nothing),
		cmocka_unit_test(test_a_run_that_cannot_be_read_is_tried_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
