/* Goal: what is read of a file before it is committed counts only for a snapshot that has these very
 * chunks; and what is still in motion is not read at all. */
#include "content_fixture.h"

#include "cache/blob.h"
#include "cache/file_reader.h"
#include "crypto/kdf.h"

#define CHUNK ((size_t)1 << BLOB_SHIFT_LARGE)
#define CHUNKS 8
#define SIZE (CHUNKS * CHUNK + 1000)
#define READ (4 * CHUNK)

struct rig {
	struct content_fixture f;
	uint64_t object;
	struct file *file, *shot;
	struct file_reader *reader;
	uint8_t *want, *got;
};

static void read_some(struct rig *r, size_t len)
{
	size_t got = 0, off = (size_t)file_reader_offset(r->reader);

	ok(file_reader_next(r->reader, r->got + off, len, &got));
	assert_int_equal(got, len);
}

/* A file that is written and not committed, of which READ bytes were read. */
static void start(struct rig *r)
{
	struct file *f;

	memset(r, 0, sizeof(*r));
	cf_init(&r->f);
	r->want = malloc(SIZE);
	r->got = calloc(1, SIZE);
	cf_pattern(r->want, SIZE, 0, 7);
	r->object = cf_object(&r->f);
	r->file = cf_file(&r->f, r->object);
	ok(file_write(r->file, r->want, SIZE, 0));
	ok(file_open(r->f.v, r->object, 0, false, &f));
	ok(file_reader_new_ahead(f, &r->reader));
	read_some(r, READ);
}

static void write_at(struct rig *r, size_t off, size_t len)
{
	memset(r->want + off, 0x5a, len);
	ok(file_write(r->file, r->want + off, len, off));
}

/* What the journal does. */
static void commit_and_take_snapshot(struct rig *r)
{
	uint64_t map;

	ok(file_commit(r->file));
	ok(db_begin(r->f.v->db));
	ok(content_map_clone(r->f.v->db, r->file->map, CONTENT_MAP_SNAPSHOT, &map));
	ok(db_commit(r->f.v->db));
	ok(file_open_map(r->f.v, map, &r->shot));
}

static int follow(struct rig *r)
{
	int e = file_reader_follow(r->reader, r->shot);

	if (!e)
		r->shot = NULL;
	return e;
}

static void stop(struct rig *r)
{
	file_reader_free(r->reader);
	if (r->shot)
		file_unref(r->shot, false);
	file_unref(r->file, true);
	free(r->want);
	free(r->got);
	cf_done(&r->f);
}

static void what_was_read_ahead_and_the_rest_are_what_was_committed(void **state)
{
	uint8_t digest[32], want[32];
	struct rig r;

	start(&r);
	commit_and_take_snapshot(&r);
	ok(file_reader_peek_sha256(r.reader, digest));
	ok(kdf_sha256(r.want, READ, want));
	assert_memory_equal(digest, want, 32);
	ok(follow(&r));
	write_at(&r, 0, SIZE); /* later, and no longer of this content */
	cf_pattern(r.want, SIZE, 0, 7);
	read_some(&r, SIZE - READ);
	assert_memory_equal(r.got, r.want, SIZE);
	ok(file_reader_sha256(r.reader, digest));
	ok(kdf_sha256(r.want, SIZE, want));
	assert_memory_equal(digest, want, 32);
	ok(file_reader_rewind(r.reader));
	read_some(&r, SIZE);
	assert_memory_equal(r.got, r.want, SIZE);
	stop(&r);
}

static void one_byte_written_anew_makes_it_another_content(void **state)
{
	static const size_t places[] = { 0, CHUNK, READ - 1 };

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		struct rig r;

		start(&r);
		write_at(&r, places[i], 1);
		commit_and_take_snapshot(&r);
		assert_int_equal(follow(&r), CE_STALE);
		stop(&r);
	}
}

/* The same bytes once more: the seal says no, though the content would do. What matters is that it is
 * never the other way round. */
static void a_chunk_that_was_sealed_again_is_not_believed(void **state)
{
	struct rig r;

	start(&r);
	ok(file_write(r.file, r.want + CHUNK, CHUNK, CHUNK));
	commit_and_take_snapshot(&r);
	assert_int_equal(follow(&r), CE_STALE);
	stop(&r);
}

static void what_is_written_behind_it_does_not_matter(void **state)
{
	struct rig r;

	start(&r);
	write_at(&r, READ, 10);
	commit_and_take_snapshot(&r);
	ok(follow(&r));
	read_some(&r, SIZE - READ);
	assert_memory_equal(r.got, r.want, SIZE);
	stop(&r);
}

static void a_snapshot_that_is_shorter_or_has_a_hole_is_another_content(void **state)
{
	for (unsigned hole = 0; hole < 2; hole++) {
		struct rig r;

		start(&r);
		if (hole)
			ok(file_fallocate(r.file, 3, CHUNK, CHUNK)); /* punched */
		else
			ok(file_truncate(r.file, READ - 1));
		commit_and_take_snapshot(&r);
		assert_int_equal(follow(&r), CE_STALE);
		stop(&r);
	}
}

static void another_file_is_another_content(void **state)
{
	struct file *other;
	struct rig r;

	start(&r);
	commit_and_take_snapshot(&r);
	file_unref(r.shot, false);
	r.shot = NULL;
	other = cf_file(&r.f, cf_object(&r.f));
	ok(file_write(other, r.want, SIZE, 0)); /* the same bytes */
	ok(file_commit(other));
	r.shot = other;
	assert_int_equal(follow(&r), CE_STALE);
	r.shot = NULL;
	file_unref(other, true);
	stop(&r);
}

static void what_is_not_full_or_waits_in_memory_is_not_settled(void **state)
{
	struct rig r;
	uint64_t end = 0;
	size_t got;

	start(&r);
	ok(file_reader_settled(r.reader, UINT64_C(1) << 30, &end));
	assert_int_equal(end, CHUNKS * CHUNK);
	ok(file_reader_settled(r.reader, CHUNK, &end));
	assert_int_equal(end, READ + CHUNK);
	write_at(&r, 5 * CHUNK, 1);
	ok(file_reader_settled(r.reader, UINT64_C(1) << 30, &end));
	assert_int_equal(end, 5 * CHUNK);
	assert_int_equal(file_reader_next(r.reader, r.got, 2 * CHUNK, &got), CE_STALE);
	stop(&r);
}

static void a_front_that_was_written_anew_is_told(void **state)
{
	struct rig r;
	uint64_t end = 0;

	start(&r);
	write_at(&r, 0, CHUNK);
	assert_int_equal(file_reader_settled(r.reader, CHUNK, &end), CE_STALE);
	stop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_read_ahead_and_the_rest_are_what_was_committed),
		cmocka_unit_test(one_byte_written_anew_makes_it_another_content),
		cmocka_unit_test(a_chunk_that_was_sealed_again_is_not_believed),
		cmocka_unit_test(what_is_written_behind_it_does_not_matter),
		cmocka_unit_test(a_snapshot_that_is_shorter_or_has_a_hole_is_another_content),
		cmocka_unit_test(another_file_is_another_content),
		cmocka_unit_test(what_is_not_full_or_waits_in_memory_is_not_settled),
		cmocka_unit_test(a_front_that_was_written_anew_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
