/* Goal: a file that grows out of a pack, where it is one chunk, into a blob of its own, whose
 * chunks are smaller, is the same file at every moment, and so are its snapshots. */
#include "content_fixture.h"

#include "unit.h"

#define PACK (UINT32_C(1) << BLOB_SHIFT_PACK)
#define PIECE (UINT32_C(1) << BLOB_SHIFT_LARGE)
#define SMALL 50000u /* three chunks and a part */
#define FAR (3 * PACK)

struct rig {
	struct content_fixture f;
	uint64_t object;
	struct file *file;
};

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	assert_non_null(r);
	cf_init(&r->f);
	r->object = cf_object(&r->f);
	r->file = cf_file(&r->f, r->object);
	*state = r;
	return 0;
}

/* Everything that was set aside is settled, and nothing is left behind. */
static int teardown(void **state)
{
	struct rig *r = *state;
	char blobs[512];

	file_unref(r->file, true);
	ok(volume_sync(r->f.v));
	ok(volume_sync(r->f.v));
	assert_int_equal(r->f.v->space.reserved, 0);
	assert_int_equal(atomic_load(&r->f.v->dirty_bytes), 0);
	snprintf(blobs, sizeof(blobs), "%s/blobs", r->f.dir);
	assert_int_equal(r->f.v->space.used, cf_du(blobs));
	cf_done(&r->f);
	free(r);
	return 0;
}

static bool holds_both(struct file *file)
{
	return cf_holds(file, SMALL, 0, 1) && cf_holds(file, 10, FAR, 2) &&
	       file_size(file) == FAR + 10;
}

static void reopen(struct rig *r)
{
	file_unref(r->file, true);
	cf_reopen(&r->f);
	r->file = cf_file(&r->f, r->object);
}

static void grow(struct rig *r)
{
	cf_write(r->file, 10, FAR, 2);
	assert_true(file_is_large(r->file));
	assert_int_equal(file_shift(r->file), BLOB_SHIFT_LARGE);
	assert_true(holds_both(r->file));
	ok(file_commit(r->file));
	assert_true(holds_both(r->file));
}

static void grow_and_look_again(struct rig *r)
{
	grow(r);
	reopen(r);
	assert_true(holds_both(r->file));
}

static void what_was_committed_comes_along(void **state)
{
	struct rig *r = *state;

	cf_write(r->file, SMALL, 0, 1);
	ok(file_commit(r->file));
	assert_false(file_is_large(r->file));
	grow_and_look_again(r);
}

static void what_was_only_written_comes_along(void **state)
{
	struct rig *r = *state;

	cf_write(r->file, SMALL - 20000, 20000, 1);
	cf_write(r->file, 20000, 0, 1);
	grow_and_look_again(r);
}

/* Sealed into a pack by a commit that then failed. */
static void what_was_sealed_comes_along(void **state)
{
	struct rig *r = *state;

	cf_write(r->file, SMALL, 0, 1);
	ok(file_commit_prepare(r->file));
	grow_and_look_again(r);
}

static void what_was_cut_does_not_come_back(void **state)
{
	struct rig *r = *state;
	uint8_t zeros[PIECE] = { 0 }, buf[PIECE];
	uint64_t at;
	size_t got;

	cf_write(r->file, SMALL, 0, 3);
	ok(file_commit(r->file));
	ok(file_truncate(r->file, 100));
	cf_write(r->file, 10, FAR, 2);
	ok(file_commit(r->file));
	ok(file_read(r->file, buf, PIECE, PIECE, &got));
	assert_memory_equal(buf, zeros, PIECE);
	ok(file_seek(r->file, 0, SEEK_HOLE, &at));
	assert_int_equal(at, PIECE);
	ok(file_truncate(r->file, 0));
	assert_int_equal(file_size(r->file), 0);
}

/* Where nothing is in the pack any more, nothing is in the blob. */
static void a_hole_stays_a_hole(void **state)
{
	struct rig *r = *state;
	uint64_t at;

	cf_write(r->file, SMALL, 0, 1);
	ok(file_commit(r->file));
	ok(file_fallocate(r->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PACK));
	cf_write(r->file, 10, FAR, 2);
	ok(file_commit(r->file));
	ok(file_seek(r->file, 0, SEEK_DATA, &at));
	assert_int_equal(at, FAR);
	ok(volume_sync(r->f.v));
	ok(volume_sync(r->f.v));
	assert_int_equal(r->file->blob->n_taken, 1);
}

static void a_snapshot_of_the_small_file_stays(void **state)
{
	struct rig *r = *state;
	struct file *shot;
	uint64_t map;

	cf_write(r->file, SMALL, 0, 1);
	ok(file_commit(r->file));
	ok(db_begin(r->f.v->db));
	ok(content_map_clone(r->f.v->db, r->file->map, CONTENT_MAP_SNAPSHOT, &map));
	ok(db_commit(r->f.v->db));
	grow(r);
	cf_write(r->file, SMALL, 0, 9);
	ok(file_sync(r->file));
	ok(volume_sync(r->f.v));
	ok(file_open_map(r->f.v, map, &shot));
	assert_true(cf_holds(shot, SMALL, 0, 1));
	file_unref(shot, false);
	assert_true(cf_holds(r->file, SMALL, 0, 9));
}

/* One written in order is sealed as it goes; what it began with is not left in memory for long. */
static void a_file_written_in_order_is_whole(void **state)
{
	struct rig *r = *state;
	uint32_t step = 5000;

	for (uint32_t at = 0; at < 4 * PACK; at += step)
		cf_write(r->file, step, at, 1);
	assert_true(cf_holds(r->file, 4 * PACK, 0, 1));
	ok(file_sync(r->file));
	reopen(r);
	assert_true(cf_holds(r->file, 4 * PACK, 0, 1));
}

/* Blobs of earlier versions have chunks as large as those of packs: they stay as they are. */
static void a_blob_of_larger_chunks_is_written_on(void **state)
{
	struct rig *r = *state;

	cf_write(r->file, SMALL, 0, 1);
	ok(file_dirty_enlarge(r->file, &(uint64_t){ 0 }));
	for (struct dirty *d = r->file->dirty, *next; d; d = next) {
		next = d->hh.next;
		file_dirty_drop(r->file, d);
	}
	r->file->blob->shift = BLOB_SHIFT_PACK;
	cf_write(r->file, 5 * PACK, 0, 4);
	ok(file_sync(r->file));
	reopen(r);
	assert_int_equal(file_shift(r->file), BLOB_SHIFT_PACK);
	cf_write(r->file, 100, PACK - 50, 5);
	ok(file_commit(r->file));
	assert_true(cf_holds(r->file, PACK - 50, 0, 4));
	assert_true(cf_holds(r->file, 100, PACK - 50, 5));
	assert_true(cf_holds(r->file, 4 * PACK - 50, PACK + 50, 4));
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(what_was_committed_comes_along),
		T(what_was_only_written_comes_along),
		T(what_was_sealed_comes_along),
		T(what_was_cut_does_not_come_back),
		T(a_hole_stays_a_hole),
		T(a_snapshot_of_the_small_file_stays),
		T(a_file_written_in_order_is_whole),
		T(a_blob_of_larger_chunks_is_written_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
