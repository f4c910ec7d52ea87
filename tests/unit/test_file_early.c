/* Goal: a write may be answered before it is sealed. Whoever looks at the file then sees it; what can be
 * refused is refused before; what cannot be sealed afterwards is kept, and told by the commit. */
#include "content_fixture.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "unit.h"

#define PIECE (UINT32_C(1) << BLOB_SHIFT_LARGE)
#define LEN (UINT32_C(1) << 20)
#define LIMIT (UINT64_C(64) << 20)

/* --- interposed: writes of blobs, counted; they fail, or there is no memory for chunks; how often
 * the disk was told to begin --- */

static unsigned writes, starts;
static bool failing, no_memory;

ssize_t pwrite(int fd, const void *buf, size_t n, off_t off)
{
	if (unit_is_blob(fd)) {
		writes++;
		if (failing) {
			errno = EIO;
			return -1;
		}
	}
	return syscall(SYS_pwrite64, fd, buf, n, off);
}

int sync_file_range(int fd, off_t off, off_t n, unsigned flags)
{
	starts++;
	return (int)syscall(SYS_sync_file_range, fd, off, n, flags);
}

void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
	if (no_memory && n == PIECE) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return (void *)syscall(SYS_mmap, at, n, prot, flags, fd, off);
}

/* --- */

struct writer {
	struct content_fixture f;
	struct file *file;
	uint64_t object;
	uint8_t *buf;
	unsigned accepted, written; /* how often; writes of the blob before */
	pthread_t looker;
	bool seen;
};

static void begin(struct writer *w)
{
	*w = (struct writer){ .buf = malloc(LEN) };
	cf_paths(&w->f);
	w->f.limit = LIMIT;
	cf_create(&w->f);
	cf_open(&w->f);
	cf_store(&w->f);
	w->object = cf_object(&w->f);
	w->file = cf_file(&w->f, w->object);
	cf_write(w->file, LEN, 0, 1);
	ok(file_commit(w->file));
	ok(volume_sync(w->f.v));
	writes = 0;
}

static void end(struct writer *w)
{
	file_unref(w->file, true);
	free(w->buf);
	cf_done(&w->f);
}

static void note(void *arg)
{
	struct writer *w = arg;

	w->accepted++;
	w->written = writes;
}

static int write_early(struct writer *w, size_t len, uint64_t off, unsigned tag)
{
	cf_pattern(w->buf, len, off, tag);
	return file_write_early(w->file, w->buf, len, off, note, w);
}

static void *look(void *arg)
{
	struct writer *w = arg;

	w->seen = cf_holds(w->file, LEN, LEN, 2) && file_size(w->file) == 2 * LEN;
	return NULL;
}

static void note_and_look(void *arg)
{
	struct writer *w = arg;

	note(arg);
	assert_int_equal(pthread_create(&w->looker, NULL, look, w), 0);
}

static void test_it_is_answered_before_it_is_sealed(void **state)
{
	struct writer w;

	begin(&w);
	cf_pattern(w.buf, LEN, LEN, 2);
	ok(file_write_early(w.file, w.buf, LEN, LEN, note_and_look, &w));
	assert_int_equal(pthread_join(w.looker, NULL), 0);
	assert_true(w.seen);
	assert_int_equal(w.accepted, 1);
	assert_int_equal(w.written, 0);
	assert_in_range(writes, 1, LEN / PIECE);
	end(&w);
}

/* As a program that is killed does. */
static void close_it(void *arg)
{
	struct writer *w = arg;

	file_unref(w->file, true);
}

static void test_what_is_closed_meanwhile_is_committed(void **state)
{
	struct writer w;

	begin(&w);
	cf_pattern(w.buf, LEN, 0, 2);
	ok(file_write_early(w.file, w.buf, LEN, 0, close_it, &w));
	cf_reopen(&w.f);
	w.file = cf_file(&w.f, w.object);
	assert_true(cf_holds(w.file, LEN, 0, 2));
	end(&w);
}

static void test_what_is_refused_was_not_accepted(void **state)
{
	struct writer w;
	unsigned n = 0;
	int r;

	begin(&w);
	assert_int_equal(write_early(&w, LEN, FILE_SIZE_MAX - 1, 2), -EFBIG);
	assert_int_equal(write_early(&w, 0, 0, 2), -EINVAL);
	assert_int_equal(w.accepted, 0);
	while (!(r = write_early(&w, LEN, (uint64_t)n * LEN, 2)))
		n++;
	assert_int_equal(r, -ENOSPC);
	assert_int_equal(w.accepted, n);
	assert_in_range(n, 1, LIMIT / LEN);
	assert_int_equal(file_size(w.file), (uint64_t)n * LEN);
	assert_true(cf_holds(w.file, LEN, (uint64_t)(n - 1) * LEN, 2));
	assert_int_equal(w.f.v->space.reserved, 0);
	ok(file_sync(w.file));
	end(&w);
}

/* Of the first and the last chunk the rest waits. */
static void test_one_of_parts_is_answered_before(void **state)
{
	struct writer w;

	begin(&w);
	ok(write_early(&w, LEN / 2, 100, 2));
	assert_int_equal(w.accepted, 1);
	assert_int_equal(w.written, 0);
	ok(file_commit(w.file));
	assert_true(cf_holds(w.file, 100, 0, 1) && cf_holds(w.file, LEN / 2, 100, 2));
	end(&w);
}

/* A gap to what was written before has to be read, which may fail. */
static void test_one_that_must_read_is_answered_afterwards(void **state)
{
	struct writer w;

	begin(&w);
	cf_write(w.file, 10, 0, 1);
	ok(write_early(&w, LEN / 2, 100, 2));
	assert_int_equal(w.accepted, 1);
	assert_int_not_equal(w.written, 0);
	ok(file_commit(w.file));
	cf_write(w.file, 10, 0, 1);
	failing = true;
	assert_int_equal(write_early(&w, LEN / 2, 100, 3), -EIO);
	failing = false;
	assert_int_equal(w.accepted, 1);
	assert_true(cf_holds(w.file, LEN / 2 - PIECE, PIECE, 2)); /* what came before the error is there */
	ok(file_take_lost(w.file));
	end(&w);
}

static void test_what_cannot_be_sealed_waits_for_the_commit(void **state)
{
	struct writer w;

	begin(&w);
	failing = true;
	ok(write_early(&w, LEN, 0, 2));
	assert_int_equal(w.accepted, 1);
	assert_true(cf_holds(w.file, LEN, 0, 2));
	/* It is one that is kept in memory, not all that a program has. */
	assert_int_equal(write_early(&w, LEN, LEN, 2), -EIO);
	assert_int_equal(w.accepted, 1);
	assert_int_equal(file_commit(w.file), -EIO);
	assert_int_equal(file_sync(w.file), -EIO);
	failing = false;
	ok(file_sync(w.file));
	ok(write_early(&w, LEN, LEN, 2));
	assert_int_equal(w.accepted, 2);
	assert_true(w.written < writes);
	ok(file_take_lost(w.file));
	assert_int_equal(w.f.v->space.reserved, 0);
	file_unref(w.file, true);
	cf_reopen(&w.f);
	w.file = cf_file(&w.f, w.object);
	assert_true(cf_holds(w.file, LEN, 0, 2));
	end(&w);
}

static void test_what_cannot_even_wait_is_told_once(void **state)
{
	struct writer w;

	begin(&w);
	failing = no_memory = true;
	ok(write_early(&w, LEN, 0, 2));
	failing = no_memory = false;
	assert_int_equal(w.accepted, 1);
	ok(file_commit(w.file));
	assert_int_equal(file_take_lost(w.file), -ENOMEM);
	ok(file_take_lost(w.file));
	assert_int_equal(w.f.v->space.reserved, 0);
	ok(write_early(&w, LEN, 0, 3));
	ok(file_sync(w.file));
	assert_true(cf_holds(w.file, LEN, 0, 3));
	end(&w);
}

/* Who writes much is not to wait for all of it in the end. */
static void test_the_disk_begins_meanwhile(void **state)
{
	struct writer w;
	const unsigned n = 32;

	begin(&w);
	starts = 0;
	for (unsigned i = 0; i < n; i++)
		ok(write_early(&w, LEN, (uint64_t)i * LEN, 2));
	assert_in_range(starts, 2, n / 4);
	starts = 0;
	for (unsigned i = 0; i < n; i++)
		ok(write_early(&w, 4096, (uint64_t)i * LEN + 100, 3));
	assert_int_equal(starts, 0);
	ok(file_sync(w.file));
	end(&w);
}

static void test_only_whole_chunks_of_large_files_are_worth_it(void **state)
{
	assert_true(file_write_seals(PIECE, UINT64_C(1) << BLOB_SHIFT_PACK));
	assert_true(file_write_seals((UINT32_C(1) << BLOB_SHIFT_PACK) + 1, 0));
	assert_false(file_write_seals(UINT32_C(1) << BLOB_SHIFT_PACK, 0));
	assert_false(file_write_seals(PIECE - 1, LEN));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_is_answered_before_it_is_sealed),
		cmocka_unit_test(test_what_is_closed_meanwhile_is_committed),
		cmocka_unit_test(test_what_is_refused_was_not_accepted),
		cmocka_unit_test(test_one_of_parts_is_answered_before),
		cmocka_unit_test(test_one_that_must_read_is_answered_afterwards),
		cmocka_unit_test(test_what_cannot_be_sealed_waits_for_the_commit),
		cmocka_unit_test(test_what_cannot_even_wait_is_told_once),
		cmocka_unit_test(test_the_disk_begins_meanwhile),
		cmocka_unit_test(test_only_whole_chunks_of_large_files_are_worth_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
