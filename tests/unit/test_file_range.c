/* Goal: files of which parts are not here, files that are mostly holes, and what a failed disk does
 * to a commit. */
#include "content_fixture.h"

#include "cache/tree.h"
#include "unit.h"

#include <sys/syscall.h>

#define CHUNK 65536u
#define PIECE (UINT32_C(1) << BLOB_SHIFT_LARGE) /* a chunk of a large file */
#define ETAG "\"v1\""
#define PETA UINT64_C(1000000000000000)

/* --- interposed: the next `failing` syncs of blobs fail --- */

static atomic_int failing;

int fdatasync(int fd)
{
	if (unit_is_blob(fd) && atomic_load(&failing) > 0) {
		atomic_fetch_sub(&failing, 1);
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}

/* --- interposed: before the next write into a blob --- */

static void (*before_write)(void *arg);
static void *before_write_arg;

ssize_t pwrite(int fd, const void *buf, size_t n, off_t off)
{
	void (*now)(void *arg) = before_write;

	if (now && unit_is_blob(fd)) {
		before_write = NULL;
		now(before_write_arg);
	}
	return syscall(SYS_pwrite64, fd, buf, n, off);
}

static void test_missing_ranges_are_named(void **state)
{
	struct content_fixture f;
	struct file_range range;
	struct file *file;
	uint8_t b[10];
	size_t got;

	cf_init(&f);
	file = cf_file(&f, cf_remote(&f, 5 * CHUNK + 100, ETAG));
	assert_int_equal(file_read(file, b, 10, 0, &got), CE_ABSENT);
	ok(file_missing(file, 0, UINT64_MAX, UINT64_MAX, &range));
	assert_int_equal(range.off, 0);
	assert_int_equal(range.len, 5 * CHUNK + 100);
	assert_string_equal(range.etag, ETAG);
	ok(cf_fill(file, ETAG, CHUNK, 2 * CHUNK));
	ok(file_missing(file, 0, UINT64_MAX, UINT64_MAX, &range));
	assert_int_equal(range.len, CHUNK);
	ok(file_missing(file, CHUNK + 5, 10, UINT64_MAX, &range));
	assert_int_equal(range.len, 0);
	ok(file_missing(file, CHUNK + 5, UINT64_MAX, CHUNK, &range));
	assert_int_equal(range.off, 3 * CHUNK);
	assert_int_equal(range.len, CHUNK);
	ok(file_missing(file, 5 * CHUNK + 99, 1, UINT64_MAX, &range));
	assert_int_equal(range.off, 5 * CHUNK);
	assert_int_equal(range.len, 100);
	assert_true(cf_holds(file, 2 * CHUNK, CHUNK, 5));
	assert_int_equal(file_read(file, b, 10, 3 * CHUNK, &got), CE_ABSENT);
	file_unref(file, true);
	cf_done(&f);
}

static void test_fill_takes_one_version_only(void **state)
{
	struct content_fixture f;
	struct file *file;

	cf_init(&f);
	file = cf_file(&f, cf_remote(&f, 2 * CHUNK, ETAG));
	assert_int_equal(cf_fill(file, "\"v2\"", 0, CHUNK), CE_STALE);
	assert_int_equal(cf_fill(file, ETAG, 5, CHUNK), -EINVAL);
	assert_int_equal(cf_fill(file, ETAG, 0, CHUNK - 1), -EINVAL);
	assert_int_equal(cf_fill(file, ETAG, CHUNK, 2 * CHUNK), -EINVAL);
	assert_int_equal(f.v->space.used, 0);
	assert_int_equal(f.v->space.reserved, 0);
	file_unref(file, true);
	cf_done(&f);
}

struct renaming {
	struct volume *v;
	uint64_t map;
};

/* As the acknowledgement of a move does it. */
static void rename_version(void *arg)
{
	struct renaming *a = arg;
	struct content_map m;

	ok(db_begin(a->v->db));
	ok(content_map_get(a->v->db, a->map, &m));
	snprintf(m.etag.text, sizeof(m.etag.text), "\"moved\"");
	ok(content_map_update(a->v->db, &m));
	ok(db_commit(a->v->db));
}

/* What the map's row got while a fill was sealing was written over with what it had been: content
 * that is not whole then never came again. */
static void test_a_version_may_be_renamed_during_a_fill(void **state)
{
	struct content_fixture f;
	struct renaming renaming;
	struct content_map m;
	struct file *file;

	cf_init(&f);
	file = cf_file(&f, cf_remote(&f, 3 * CHUNK, ETAG));
	renaming = (struct renaming){ f.v, file->map };
	before_write_arg = &renaming;
	before_write = rename_version;
	ok(cf_fill(file, ETAG, 0, CHUNK));
	assert_null(before_write);
	db_read(f.v->db);
	ok(content_map_get(f.v->db, file->map, &m));
	db_unlock(f.v->db);
	assert_string_equal(m.etag.text, "\"moved\"");
	assert_int_equal(cf_fill(file, ETAG, CHUNK, 2 * CHUNK), CE_STALE);
	ok(cf_fill(file, "\"moved\"", CHUNK, 2 * CHUNK));
	assert_true(cf_holds(file, 3 * CHUNK, 0, 5));
	file_unref(file, true);
	cf_done(&f);
}

static void test_writes_need_a_whole_file(void **state)
{
	struct content_fixture f;
	struct file *file;
	uint64_t object;

	cf_init(&f);
	object = cf_remote(&f, 2 * CHUNK + 10, ETAG);
	file = cf_file(&f, object);
	ok(cf_fill(file, ETAG, 0, CHUNK));
	assert_int_equal(file_write(file, "x", 1, 0), -EBUSY);
	assert_int_equal(file_truncate(file, 5), -EBUSY);
	ok(cf_fill(file, ETAG, CHUNK, CHUNK + 10));
	ok(file_write(file, "x", 1, 2 * CHUNK));
	file_unref(file, true);
	cf_reopen(&f);
	file = cf_file(&f, object);
	assert_true(cf_holds(file, 2 * CHUNK, 0, 5));
	file_unref(file, true);
	cf_done(&f);
}

static void test_truncating_to_nothing_needs_nothing(void **state)
{
	struct content_fixture f;
	struct file *file;

	cf_init(&f);
	file = cf_file(&f, cf_remote(&f, 9 * CHUNK, ETAG));
	ok(file_truncate(file, 0));
	cf_write(file, 100, 0, 2);
	ok(file_commit(file));
	assert_true(cf_holds(file, 100, 0, 2));
	assert_int_equal(file_size(file), 100);
	file_unref(file, true);
	cf_done(&f);
}

static void test_sparse_petabyte_costs_what_is_written(void **state)
{
	struct content_fixture f;
	uint64_t object, at;
	struct file *file;
	uint8_t zero[100] = { 0 }, buf[100];
	size_t got;

	cf_init(&f);
	object = cf_object(&f);
	file = cf_file(&f, object);
	cf_write(file, 100, PETA, 1);
	cf_write(file, 100, PETA / 3, 2);
	ok(file_commit(file));
	ok(file_truncate(file, PETA + 50));
	file_unref(file, true);
	cf_reopen(&f);
	file = cf_file(&f, object);
	assert_int_equal(file_size(file), PETA + 50);
	assert_true(cf_holds(file, 50, PETA, 1));
	assert_true(cf_holds(file, 100, PETA / 3, 2));
	ok(file_read(file, buf, 100, PETA / 2, &got));
	assert_memory_equal(buf, zero, 100);
	ok(file_seek(file, 0, SEEK_DATA, &at));
	assert_int_equal(at, PETA / 3 / PIECE * PIECE);
	ok(file_seek(file, at + PIECE, SEEK_DATA, &at));
	assert_int_equal(at, PETA / PIECE * PIECE);
	ok(file_seek(file, 0, SEEK_HOLE, &at));
	assert_int_equal(at, 0);
	ok(file_fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PETA / 2));
	ok(file_commit(file));
	ok(file_seek(file, 0, SEEK_DATA, &at));
	assert_int_equal(at, PETA / PIECE * PIECE);
	ok(file_truncate(file, PETA / 2));
	ok(file_truncate(file, FILE_SIZE_MAX));
	assert_int_equal(file_seek(file, 0, SEEK_DATA, &at), -ENXIO);
	assert_int_equal(file_truncate(file, (uint64_t)FILE_SIZE_MAX + 1), -EFBIG);
	assert_int_equal(file_write(file, "x", 1, FILE_SIZE_MAX), -EFBIG);
	file_unref(file, true);
	ok(volume_sync(f.v));
	assert_int_equal(f.v->space.used, 0);
	cf_done(&f);
}

/* What stat says of the file in units of 64 KiB, rounded up. */
static uint64_t stat_chunks(struct content_fixture *f, uint64_t object)
{
	struct tree_attr a;

	ok(tree_getattr(f->v, object, 0, &a));
	return (a.blocks * 512 + CHUNK - 1) / CHUNK;
}

/* A stat does not count all chunks of a large file: no holes in what is full, none missed in what
 * is not. */
static void test_blocks_of_a_file_of_many_chunks(void **state)
{
	const uint64_t n = 300;
	struct content_fixture f;
	uint64_t object;
	struct file *file;

	cf_init(&f);
	object = cf_object(&f);
	file = cf_file(&f, object);
	for (uint64_t i = 0; i < n; i++)
		cf_write(file, CHUNK, i * CHUNK, 1);
	file_unref(file, true);
	ok(volume_sync(f.v));
	assert_int_equal(stat_chunks(&f, object), n);
	file = cf_file(&f, object);
	ok(file_truncate(file, 1000 * CHUNK));
	file_unref(file, true);
	ok(volume_sync(f.v));
	assert_int_equal(stat_chunks(&f, object), n);
	file = cf_file(&f, object);
	ok(file_fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 100 * CHUNK));
	file_unref(file, true);
	ok(volume_sync(f.v));
	assert_int_equal(stat_chunks(&f, object), n - 100);
	cf_done(&f);
}

static void test_unknown_fallocate_modes_are_refused(void **state)
{
	struct content_fixture f;
	struct file *file;

	cf_init(&f);
	file = cf_file(&f, cf_object(&f));
	assert_int_equal(file_fallocate(file, FALLOC_FL_COLLAPSE_RANGE, 0, CHUNK), -EOPNOTSUPP);
	assert_int_equal(file_fallocate(file, FALLOC_FL_PUNCH_HOLE, 0, CHUNK), -EOPNOTSUPP);
	assert_int_equal(file_fallocate(file, 0, 0, 0), -EINVAL);
	file_unref(file, true);
	cf_done(&f);
}

static struct content_chunk chunk_row(struct content_fixture *f, struct file *file, uint64_t idx)
{
	struct content_chunk c;

	db_read(f->v->db);
	ok(content_chunk_get(f->v->db, file->map, idx, &c));
	db_unlock(f->v->db);
	return c;
}

/* I6: what the kernel may have dropped is written again before a sync is believed. */
static void test_failed_sync_writes_the_chunks_again(void **state)
{
	struct content_fixture f;
	struct file *file;
	uint64_t object;

	cf_init(&f);
	object = cf_object(&f);
	file = cf_file(&f, object);
	cf_write(file, 3 * CHUNK, 0, 1);
	ok(file_commit(file));
	atomic_store(&failing, 1);
	ok(volume_sync(f.v));
	assert_int_equal(atomic_load(&failing), 0);
	assert_null(file->blob->unsynced);
	assert_int_equal(file->blob->synced, file->blob->written);
	assert_true(cf_holds(file, 3 * CHUNK, 0, 1));
	cf_write(file, 3 * CHUNK, 0, 2);
	ok(file_sync(file));
	file_unref(file, true);
	ok(volume_sync(f.v));
	assert_int_equal(f.v->space.used, 3 * CHUNK);
	cf_reopen(&f);
	assert_true(cf_is(&f, object, 3 * CHUNK, 2));
	cf_done(&f);
}

/* The kernel forgot the pages: what the disk has instead is not called durable. */
static void test_failed_sync_that_lost_data_is_reported(void **state)
{
	struct content_fixture f;
	struct content_chunk c;
	struct file *file;
	int fd;

	cf_init(&f);
	file = cf_file(&f, cf_object(&f));
	cf_write(file, 3 * CHUNK, 0, 1);
	ok(file_commit(file));
	c = chunk_row(&f, file, CHUNK / PIECE);
	ok(blob_fd(file->blob, false, &fd));
	assert_int_equal(pwrite(fd, "lost", 4, (off_t)c.slot * BLOB_PAD), 4);
	atomic_store(&failing, 1);
	assert_int_equal(volume_sync(f.v), -EIO);
	assert_false(cf_holds(file, CHUNK, CHUNK, 1));
	assert_true(cf_holds(file, CHUNK, 2 * CHUNK, 1));
	ok(volume_sync(f.v));
	file_unref(file, true);
	cf_done(&f);
}

static void test_failed_fsync_is_repaired_or_reported(void **state)
{
	struct content_fixture f;
	struct file *file;
	uint64_t object;

	cf_init(&f);
	object = cf_object(&f);
	file = cf_file(&f, object);
	cf_write(file, 3 * CHUNK, 0, 1);
	atomic_store(&failing, 1);
	ok(file_sync(file));
	assert_int_equal(atomic_load(&failing), 0);
	cf_write(file, 3 * CHUNK, 0, 2);
	atomic_store(&failing, 50);
	assert_int_equal(file_sync(file), -EIO);
	atomic_store(&failing, 0);
	assert_true(cf_holds(file, 3 * CHUNK, 0, 2));
	ok(file_sync(file));
	file_unref(file, true);
	cf_reopen(&f);
	assert_true(cf_is(&f, object, 3 * CHUNK, 2));
	cf_done(&f);
}

/* I3: a slot released by a blob that was not written to since it was opened is not free before the
 * sync. */
static void test_slots_released_first_are_not_reused_early(void **state)
{
	struct content_fixture f;
	struct content_chunk c;
	struct file *file;
	uint64_t object;

	cf_init(&f);
	object = cf_object(&f);
	file = cf_file(&f, object);
	cf_write(file, 4 * CHUNK, 0, 1);
	ok(file_sync(file));
	file_unref(file, true);
	cf_reopen(&f);
	file = cf_file(&f, object);
	ok(file_fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2 * CHUNK));
	/* As in a rename over another file: the data is synced, so there are no undo rows to name
	 * the slots. */
	file_lock(file);
	ok(file_commit_locked(file, true));
	file_unlock(file);
	cf_write(file, CHUNK, 0, 2);
	ok(file_commit(file));
	c = chunk_row(&f, file, 0);
	assert_true(c.slot >= 4 * CHUNK / BLOB_PAD);
	ok(volume_sync(f.v));
	assert_true(cf_holds(file, CHUNK, 0, 2));
	assert_true(cf_holds(file, 2 * CHUNK, 2 * CHUNK, 1));
	file_unref(file, true);
	cf_done(&f);
}

/* On a disk that takes no byte more. */
static int write_on_a_full_disk(struct file *file, const void *buf, size_t len)
{
	const struct rlimit before = unit_disk_fill();
	int r = file_write(file, buf, len, 0);

	unit_disk_free(before);
	return r;
}

/* It held more than the size said; the next short write never ended. */
static void test_a_chunk_that_cannot_be_sealed_is_as_long_as_the_file(void **state)
{
	uint8_t *buf = malloc(3 * CHUNK);
	struct content_fixture f;
	struct file *file;
	uint64_t object;

	cf_init(&f);
	object = cf_object(&f);
	file = cf_file(&f, object);
	cf_pattern(buf, 3 * CHUNK, 0, 5);
	ok(file_write(file, buf, 100, 0));
	ok(file_commit(file));
	assert_int_equal(write_on_a_full_disk(file, buf, 3 * CHUNK), -EFBIG);
	assert_int_equal(file_size(file), PIECE);
	file_unref(file, true);
	cf_reopen(&f);
	file = cf_file(&f, object);
	assert_true(cf_holds(file, PIECE, 0, 5));
	alarm(60);
	ok(file_write(file, buf, 100, 0));
	alarm(0);
	assert_true(cf_holds(file, PIECE, 0, 5));
	file_unref(file, true);
	cf_done(&f);
	free(buf);
}

/* Says of a file what an earlier version said after a seal that failed: less than its chunk has. */
static void shorten_rows(struct content_fixture *f, uint64_t object, uint64_t size)
{
	struct object_row o = cf_row(f, object);
	struct content_map m;

	ok(db_begin(f->v->db));
	ok(content_map_get(f->v->db, o.map, &m));
	o.size = m.size = size;
	ok(content_map_update(f->v->db, &m));
	ok(object_update(f->v->db, &o));
	ok(db_commit(f->v->db));
}

static void test_a_chunk_longer_than_its_file_is_cut(void **state)
{
	uint8_t want[300] = { 0 }, got[300];
	struct content_fixture f;
	struct file *file;
	uint64_t object;
	size_t n;

	cf_init(&f);
	object = cf_make(&f, 3 * CHUNK, 5);
	cf_reopen(&f);
	shorten_rows(&f, object, 2 * CHUNK + 100);
	file = cf_file(&f, object);
	alarm(60);
	ok(file_write(file, "x", 1, 2 * CHUNK + 299));
	alarm(0);
	ok(file_commit(file));
	cf_pattern(want, 100, 2 * CHUNK, 5);
	want[299] = 'x';
	ok(file_read(file, got, sizeof(got), 2 * CHUNK, &n));
	assert_int_equal(n, sizeof(got));
	assert_memory_equal(got, want, sizeof(got));
	assert_true(cf_holds(file, 2 * CHUNK, 0, 5));
	file_unref(file, true);
	cf_done(&f);
}

/* Nobody calls commit. */
static void test_stray_writes_commit_within_seconds(void **state)
{
	struct content_fixture f;
	struct file *file;
	uint64_t object;

	cf_init(&f);
	object = cf_object(&f);
	file = cf_file(&f, object);
	cf_write(file, 10, 0, 1);
	for (unsigned i = 0; i < 600 && cf_row(&f, object).size == 0; i++)
		usleep(50000);
	assert_int_equal(cf_row(&f, object).size, 10);
	file_unref(file, true);
	cf_done(&f);
}

static void test_explicit_times_stand(void **state)
{
	const struct tree_attr set = { .mtime_ns = 99, .mode = 0640 };
	struct content_fixture f;
	struct tree_attr a;
	struct file *file;
	uint64_t object;

	cf_init(&f);
	object = cf_object(&f);
	file = cf_file(&f, object);
	/* While a write waits. */
	cf_write(file, 10, 0, 2);
	ok(tree_setattr(f.v, object, 0, &set, TREE_SET_MTIME, &a));
	assert_int_equal(a.mtime_ns, 99);
	ok(file_commit(file));
	assert_int_equal(cf_row(&f, object).mtime_ns, 99);
	assert_int_equal(cf_row(&f, object).size, 10);
	/* A write behind it, within the same tick, has a time of its own again. */
	cf_write(file, 10, 0, 3);
	ok(file_commit(file));
	assert_int_not_equal(cf_row(&f, object).mtime_ns, 99);
	file_unref(file, true);
	cf_done(&f);
}

/* write, fchmod, close: the mode must not cost the time of the write. */
static void test_a_mode_set_while_a_write_waits_leaves_its_mtime(void **state)
{
	const struct tree_attr set = { .mode = 0640 }, old = { .mtime_ns = 99 };
	struct content_fixture f;
	struct tree_attr a;
	struct file *file;
	uint64_t object;

	cf_init(&f);
	object = cf_object(&f);
	file = cf_file(&f, object);
	ok(tree_setattr(f.v, object, 0, &old, TREE_SET_MTIME, &a));
	cf_write(file, 10, 0, 1);
	ok(tree_setattr(f.v, object, 0, &set, TREE_SET_MODE, &a));
	assert_int_not_equal(a.mtime_ns, 99);
	ok(file_commit(file));
	assert_int_equal(cf_row(&f, object).mtime_ns, a.mtime_ns);
	assert_int_equal(cf_row(&f, object).ctime_ns, a.ctime_ns);
	file_unref(file, true);
	cf_done(&f);
}

static void test_stale_version_cannot_be_opened(void **state)
{
	struct content_fixture f;
	struct file *file;

	cf_init(&f);
	assert_int_equal(file_open(f.v, cf_object(&f), 1, false, &file), CE_STALE);
	assert_int_equal(file_open(f.v, 4711, 0, false, &file), CE_STALE);
	assert_int_equal(file_open_map(f.v, 4711, &file), CE_STALE);
	assert_int_equal(file_open(f.v, OBJECT_ROOT, cf_row(&f, OBJECT_ROOT).version, false, &file),
		-EISDIR);
	cf_done(&f);
}

static void test_superseded_version_stays_readable_while_open(void **state)
{
	struct content_fixture f;
	struct file *old, *new;
	struct object_row o;
	uint64_t object;

	cf_init(&f);
	object = cf_remote(&f, CHUNK, ETAG);
	ok(file_open(f.v, object, 0, false, &old));
	ok(cf_fill(old, ETAG, 0, CHUNK));
	o = cf_row(&f, object);
	ok(db_begin(f.v->db));
	ok(gc_drop_map(f.v, o.map));
	o.map = 0;
	o.size = 0;
	o.version = 1;
	ok(object_update(f.v->db, &o));
	ok(db_commit(f.v->db));
	gc_run(f.v, true);
	ok(file_open(f.v, object, 1, false, &new));
	assert_int_equal(file_size(new), 0);
	assert_true(cf_holds(old, CHUNK, 0, 5));
	ok(volume_sync(f.v));
	assert_true(cf_holds(old, CHUNK, 0, 5));
	file_unref(old, false);
	file_unref(new, false);
	ok(durable_reclaim(f.v));
	assert_int_equal(f.v->space.used, 0);
	cf_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_missing_ranges_are_named),
		cmocka_unit_test(test_fill_takes_one_version_only),
		cmocka_unit_test(test_a_version_may_be_renamed_during_a_fill),
		cmocka_unit_test(test_writes_need_a_whole_file),
		cmocka_unit_test(test_truncating_to_nothing_needs_nothing),
		cmocka_unit_test(test_sparse_petabyte_costs_what_is_written),
		cmocka_unit_test(test_blocks_of_a_file_of_many_chunks),
		cmocka_unit_test(test_unknown_fallocate_modes_are_refused),
		cmocka_unit_test(test_failed_sync_writes_the_chunks_again),
		cmocka_unit_test(test_failed_sync_that_lost_data_is_reported),
		cmocka_unit_test(test_failed_fsync_is_repaired_or_reported),
		cmocka_unit_test(test_slots_released_first_are_not_reused_early),
		cmocka_unit_test(test_a_chunk_that_cannot_be_sealed_is_as_long_as_the_file),
		cmocka_unit_test(test_a_chunk_longer_than_its_file_is_cut),
		cmocka_unit_test(test_stray_writes_commit_within_seconds),
		cmocka_unit_test(test_explicit_times_stand),
		cmocka_unit_test(test_a_mode_set_while_a_write_waits_leaves_its_mtime),
		cmocka_unit_test(test_stale_version_cannot_be_opened),
		cmocka_unit_test(test_superseded_version_stays_readable_while_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
