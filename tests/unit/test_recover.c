/* Goal: P2 under SIGKILL, and what recovery cleans up. A writer process acknowledges each commit
 * through a pipe and is killed at random. */
#include "content_fixture.h"

#define CHUNK 65536u
#define PIECE (UINT32_C(1) << BLOB_SHIFT_LARGE) /* a chunk of a large file */

struct ack {
	uint32_t file, seed, size;
};

#define KILL_FILES 6

/* Never returns. Content of file i at commit k is wholly the pattern of seed k. */
static void writer(struct content_fixture *f, const uint64_t *objects, int out)
{
	uint64_t random = (uint64_t)getpid();

	cf_open(f);
	for (uint32_t seed = 1;; seed++) {
		struct ack a = { .seed = seed };
		struct file *file;

		random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
		a.file = (uint32_t)(random >> 33) % KILL_FILES;
		a.size = 1 + (uint32_t)(random >> 20) % 200000;
		file = cf_file(f, objects[a.file]);
		cf_write(file, a.size, 0, seed);
		/* The write alone may be committed too: the size is part of the state. */
		if (file_size(file) > a.size)
			ok(file_truncate(file, a.size));
		if (seed % 7 == 0)
			ok(file_sync(file));
		else
			ok(file_commit(file));
		file_unref(file, true);
		if (write(out, &a, sizeof(a)) != sizeof(a))
			_exit(1);
	}
}

/* Takes what was acknowledged until the writer is gone; kills it after `ms`. */
static void run_writer(
	struct content_fixture *f, const uint64_t *objects, unsigned ms, struct ack *last)
{
	struct ack a;
	int fds[2], status;
	pid_t pid, killer;

	ok(pipe(fds));
	pid = fork();
	if (!pid) {
		close(fds[0]);
		writer(f, objects, fds[1]);
	}
	close(fds[1]);
	killer = fork();
	if (!killer) {
		usleep(ms * 1000);
		kill(pid, SIGKILL);
		_exit(0);
	}
	while (read(fds[0], &a, sizeof(a)) == sizeof(a))
		last[a.file] = a;
	close(fds[0]);
	waitpid(pid, &status, 0);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	waitpid(killer, &status, 0);
}

/* The one that was not acknowledged may be there as well: its pattern is found by trying the next
 * seeds. */
static bool is_one_state(struct file *file, uint32_t from, uint32_t to)
{
	uint32_t size = (uint32_t)file_size(file);

	for (uint32_t seed = from; seed <= to; seed++) {
		if (size && cf_holds(file, size, 0, seed))
			return true;
	}
	return false;
}

static void test_sigkill_loses_nothing_acknowledged(void **state)
{
	const char *n = getenv("CACHET_KILLS");
	unsigned kills = n ? (unsigned)strtoul(n, NULL, 0) : 15;
	uint64_t objects[KILL_FILES];
	struct content_fixture f;

	for (unsigned round = 0; round < kills; round++) {
		struct ack last[KILL_FILES] = { 0 };
		uint32_t newest = 0;

		cf_init(&f);
		for (unsigned i = 0; i < KILL_FILES; i++)
			objects[i] = cf_object(&f);
		cf_close(&f);
		run_writer(&f, objects, 40 + round * 13, last);
		for (unsigned i = 0; i < KILL_FILES; i++)
			newest = MAX_OF(newest, last[i].seed);
		cf_open(&f);
		assert_true(f.v->unclean || newest == 0); /* killed before it was open */
		assert_int_equal(atomic_load(&f.v->rolled_back), 0);
		for (unsigned i = 0; i < KILL_FILES; i++) {
			struct file *file = cf_file(&f, objects[i]);

			if (last[i].seed && !cf_holds(file, last[i].size, 0, last[i].seed) &&
				!cf_holds(file, MIN_OF(last[i].size, 1u), 0, newest + 1))
				fail_msg(
					"round %u: file %u lost commit %u", round, i, last[i].seed);
			if (last[i].seed && file_size(file) == last[i].size)
				assert_true(is_one_state(file, last[i].seed, newest + 1));
			file_unref(file, true);
		}
		cf_done(&f);
	}
}

/* What a power cut does to a chunk that was not synced. */
static void lose_slot(const char *path, unsigned slot)
{
	int fd = open(path, O_WRONLY);

	assert_int_equal(pwrite(fd, "lost", 4, slot * (off_t)CHUNK), 4);
	close(fd);
}

/* Ends the process of the volume without closing it: what fork leaves is copied by a child that
 * dies. */
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

static void write_and_commit(struct content_fixture *f, uint64_t object)
{
	cf_write(cf_file(f, object), 3 * CHUNK, 0, 2);
	ok(file_commit(filetab_get(f->v, object, 0)));
}

/* Data of a commit that was not synced is damaged, as a power cut would: the file falls back as a
 * whole. */
static void test_lost_data_falls_back_whole(void **state)
{
	struct content_fixture f;
	struct chunk_entry e;
	struct file *file;
	uint64_t object;
	char path[512];

	cf_init(&f);
	object = cf_object(&f);
	file = cf_file(&f, object);
	cf_write(file, 5 * CHUNK, 0, 1);
	ok(file_sync(file));
	file_unref(file, true);
	cf_blob_path(&f, object, path, sizeof(path));
	cf_close(&f);
	die_after(&f, write_and_commit, object);
	/* Of the three new chunks the middle one is lost: they took the slots behind the old ones.
	 */
	lose_slot(path, 6);
	cf_open(&f);
	assert_int_equal(atomic_load(&f.v->rolled_back), 1);
	file = cf_file(&f, object);
	assert_true(cf_holds(file, 5 * CHUNK, 0, 1));
	ok(chunkmap_get(&file->chunks, 1, &e));
	assert_int_equal(e.c.slot, PIECE / BLOB_PAD);
	file_unref(file, true);
	cf_done(&f);
}

static void commit_begin_commit(struct content_fixture *f, uint64_t object)
{
	struct op_row op = { .store = f->store,
		.kind = OP_PUT,
		.state = OP_INFLIGHT,
		.object = object,
		.rid = { "r1" } };
	struct file *file = cf_file(f, object);

	cf_write(file, 3 * CHUNK, 0, 2);
	ok(file_commit(file));
	ok(db_begin(f->v->db));
	ok(content_map_clone(f->v->db, file->map, CONTENT_MAP_SNAPSHOT, &op.map));
	ok(op_insert(f->v->db, &op));
	ok(db_commit(f->v->db));
	cf_write(file, 3 * CHUNK, 0, 3);
	ok(file_commit(file));
}

/* What was being sent lost a chunk, what was written over it since did not: the content stands, and
 * what was being sent is not taken for damaged, but made anew. */
static void test_lost_data_of_a_snapshot_alone(void **state)
{
	struct content_fixture f;
	struct op_row op;
	struct file *file;
	uint64_t object;
	char path[512];

	cf_init(&f);
	object = cf_object(&f);
	file = cf_file(&f, object);
	cf_write(file, 3 * CHUNK, 0, 1);
	ok(file_sync(file));
	file_unref(file, true);
	cf_blob_path(&f, object, path, sizeof(path));
	cf_close(&f);
	die_after(&f, commit_begin_commit, object);
	lose_slot(path, 4);
	cf_open(&f);
	assert_int_equal(atomic_load(&f.v->rolled_back), 0);
	assert_true(cf_is(&f, object, 3 * CHUNK, 3));
	db_read(f.v->db);
	ok(op_get(f.v->db, 1, &op));
	db_unlock(f.v->db);
	assert_int_equal(op.state, OP_QUEUED);
	assert_int_equal(op.map, 0);
	cf_done(&f);
}

static void test_intact_data_stands(void **state)
{
	struct content_fixture f;
	uint64_t object;

	cf_init(&f);
	object = cf_object(&f);
	cf_close(&f);
	die_after(&f, write_and_commit, object);
	cf_open(&f);
	assert_true(f.v->unclean);
	assert_int_equal(atomic_load(&f.v->rolled_back), 0);
	assert_true(cf_is(&f, object, 3 * CHUNK, 2));
	cf_done(&f);
}

static void write_and_die(struct content_fixture *f, uint64_t object)
{
	struct file *file = cf_file(f, object);

	keeper_stop(f->v);
	cf_write(file, 20 * CHUNK, 0, 2);
}

static unsigned count_blobs(struct content_fixture *f)
{
	char cmd_dir[256];

	snprintf(cmd_dir, sizeof(cmd_dir), "%s/blobs", f->dir);
	return (unsigned)(cf_du(cmd_dir) / BLOB_PAD);
}

/* Sealed early, never committed: a file that no row names. */
static void test_orphans_of_a_crash_are_removed(void **state)
{
	struct content_fixture f;
	uint64_t object;

	cf_init(&f);
	object = cf_object(&f);
	cf_close(&f);
	die_after(&f, write_and_die, object);
	assert_int_equal(count_blobs(&f), 20 * CHUNK / BLOB_PAD);
	cf_open(&f);
	for (unsigned i = 0; i < 100 && count_blobs(&f); i++)
		usleep(50000);
	assert_int_equal(count_blobs(&f), 0);
	assert_int_equal(cf_row(&f, object).size, 0);
	cf_done(&f);
}

/* The same in a blob that has a row: its slots are punched and the count is right again. */
static void test_orphaned_slots_are_punched(void **state)
{
	struct content_fixture f;
	struct file *file;
	uint64_t object;

	cf_init(&f);
	object = cf_object(&f);
	file = cf_file(&f, object);
	cf_write(file, 4 * CHUNK, 0, 1);
	ok(file_sync(file));
	file_unref(file, true);
	cf_close(&f);
	die_after(&f, write_and_die, object);
	cf_open(&f);
	for (unsigned i = 0; i < 100 && count_blobs(&f) > 4 * CHUNK / BLOB_PAD; i++)
		usleep(50000);
	assert_int_equal(count_blobs(&f), 4 * CHUNK / BLOB_PAD);
	assert_int_equal(f.v->space.used, 4 * CHUNK);
	assert_true(cf_is(&f, object, 4 * CHUNK, 1));
	cf_done(&f);
}

/* So many other orphans that the scan is not over when the volume is open. */
static void make_orphans(struct content_fixture *f)
{
	char name[320];

	snprintf(name, sizeof(name), "%s/blobs/00", f->dir);
	if (mkdir(name, 0700))
		assert_int_equal(errno, EEXIST);
	for (unsigned i = 0; i < 3000; i++) {
		int fd;

		snprintf(name, sizeof(name), "%s/blobs/00/%030x", f->dir, i);
		fd = open(name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
		assert_true(fd >= 0);
		close(fd);
	}
}

/* P11: what was written and not counted could be as much as the bound. */
static void test_no_space_is_given_before_what_a_crash_left_is_counted(void **state)
{
	struct content_fixture f;
	uint64_t object;

	cf_init(&f);
	object = cf_object(&f);
	cf_close(&f);
	die_after(&f, write_and_die, object);
	make_orphans(&f);
	cf_open(&f);
	ok(space_reserve(f.v, BLOB_PAD));
	assert_int_equal(count_blobs(&f), 0);
	space_release(f.v, BLOB_PAD);
	cf_done(&f);
}

static void test_slots_that_a_crash_left_in_a_blob_in_use_are_counted(void **state)
{
	struct content_fixture f;
	struct file *file;
	uint64_t object;

	cf_init(&f);
	object = cf_object(&f);
	file = cf_file(&f, object);
	cf_write(file, 4 * CHUNK, 0, 1);
	ok(file_sync(file));
	file_unref(file, true);
	cf_close(&f);
	die_after(&f, write_and_die, object);
	make_orphans(&f);
	cf_open(&f);
	keeper_stop(f.v); /* in the middle of the scan */
	file = cf_file(&f, object);
	assert_true(cf_holds(file, 4 * CHUNK, 0, 1));
	ok(keeper_start(f.v));
	ok(space_reserve(f.v, BLOB_PAD));
	assert_int_equal(f.v->space.used, (uint64_t)count_blobs(&f) * BLOB_PAD);
	space_release(f.v, BLOB_PAD);
	file_unref(file, true);
	cf_done(&f);
}

static void unlink_open(struct content_fixture *f, uint64_t object)
{
	struct object_row o = cf_row(f, object);

	o.nlink = 0;
	ok(db_begin(f->v->db));
	ok(object_update(f->v->db, &o));
	ok(db_commit(f->v->db));
}

static void test_unlinked_objects_go_at_the_next_open(void **state)
{
	struct content_fixture f;
	struct object_row o;
	struct file *file;
	uint64_t object;

	cf_init(&f);
	object = cf_object(&f);
	file = cf_file(&f, object);
	cf_write(file, CHUNK, 0, 1);
	ok(file_sync(file));
	file_unref(file, true);
	cf_close(&f);
	die_after(&f, unlink_open, object);
	cf_open(&f);
	db_read(f.v->db);
	assert_int_equal(object_get(f.v->db, object, &o), -ENOENT);
	db_unlock(f.v->db);
	assert_int_equal(count_blobs(&f), 0);
	assert_int_equal(f.v->space.used, 0);
	cf_done(&f);
}

/* A snapshot shares slots: they stay when the file is rewritten, and go with the snapshot. */
static void test_snapshot_pins_its_slots(void **state)
{
	struct content_fixture f;
	struct file *file, *shot;
	uint64_t object, map;

	cf_init(&f);
	object = cf_object(&f);
	file = cf_file(&f, object);
	cf_write(file, 4 * CHUNK, 0, 1);
	ok(file_commit(file));
	ok(db_begin(f.v->db));
	ok(content_map_clone(f.v->db, file->map, CONTENT_MAP_SNAPSHOT, &map));
	ok(db_commit(f.v->db));
	cf_write(file, 4 * CHUNK, 0, 2);
	ok(file_sync(file));
	cf_write(file, 4 * CHUNK, 0, 3);
	ok(file_sync(file));
	ok(file_open_map(f.v, map, &shot));
	assert_true(cf_holds(shot, 4 * CHUNK, 0, 1));
	assert_int_equal(file_write(shot, "x", 1, 0), -EROFS);
	file_unref(shot, false);
	ok(durable_reclaim(f.v));
	assert_int_equal(f.v->space.used, 8 * CHUNK);
	ok(db_begin(f.v->db));
	ok(gc_drop_map(f.v, map));
	ok(db_commit(f.v->db));
	gc_run(f.v, true);
	ok(durable_reclaim(f.v));
	assert_int_equal(f.v->space.used, 4 * CHUNK);
	assert_true(cf_holds(file, 4 * CHUNK, 0, 3));
	file_unref(file, true);
	cf_done(&f);
}

#define ETAG "\"v1\""

static void fill(struct file *file, uint64_t off, size_t len)
{
	uint8_t *buf = malloc(len);

	assert_non_null(buf);
	cf_pattern(buf, len, off, 1);
	ok(file_fill(file, ETAG, buf, len, off));
	free(buf);
}

static void fill_rest(struct content_fixture *f, uint64_t object)
{
	keeper_stop(f->v);
	fill(cf_file(f, object), CHUNK, 4 * CHUNK);
}

/* Content of the origin has no older state: what was lost of it is fetched again, and only that. */
static void test_lost_clean_chunks_are_missing_and_nothing_else(void **state)
{
	struct content_fixture f;
	struct file_range range;
	struct file *file;
	uint64_t object;
	char path[512];

	cf_init(&f);
	object = cf_remote(&f, 5 * CHUNK, ETAG);
	file = cf_file(&f, object);
	fill(file, 0, CHUNK);
	file_unref(file, true);
	cf_blob_path(&f, object, path, sizeof(path));
	cf_close(&f);
	die_after(&f, fill_rest, object);
	lose_slot(path, 2);
	cf_open(&f);
	assert_int_equal(atomic_load(&f.v->rolled_back), 0);
	file = cf_file(&f, object);
	ok(file_missing(file, 0, UINT64_MAX, UINT64_MAX, &range));
	assert_int_equal(range.off, 2 * CHUNK);
	assert_int_equal(range.len, PIECE);
	assert_true(cf_holds(file, 2 * CHUNK, 0, 1));
	assert_true(cf_holds(file, 3 * CHUNK - PIECE, 2 * CHUNK + PIECE, 1));
	fill(file, 2 * CHUNK, PIECE);
	assert_true(cf_holds(file, 5 * CHUNK, 0, 1));
	file_unref(file, true);
	cf_done(&f);
}

static const uint8_t sent_key[ROW_KEY_LEN] = "first";

static void write_and_send(struct content_fixture *f, uint64_t object)
{
	struct op_row op = { .kind = OP_PUT, .state = OP_INFLIGHT, .object = object };
	struct file *file = cf_file(f, object);

	keeper_stop(f->v);
	cf_write(file, 3 * CHUNK, 0, 2);
	ok(file_commit(file));
	op.store = f->store;
	memcpy(op.key, sent_key, sizeof(op.key));
	strcpy(op.rid.text, "record");
	ok(db_begin(f->v->db));
	ok(content_map_clone(f->v->db, file->map, CONTENT_MAP_SNAPSHOT, &op.map));
	ok(op_insert(f->v->db, &op));
	ok(db_commit(f->v->db));
}

static int take_op(void *arg, const struct op_row *op)
{
	*(struct op_row *)arg = *op;
	return 0;
}

static void is_queued_anew(struct content_fixture *f)
{
	struct op_row op = { 0 };

	db_read(f->v->db);
	ok(op_each(f->v->db, 0, take_op, &op));
	db_unlock(f->v->db);
	assert_int_equal(op.state, OP_QUEUED);
	assert_int_equal(op.map, 0);
	assert_memory_not_equal(op.key, sent_key, sizeof(op.key));
}

/* What was being sent shares the lost chunk: it cannot be sent again as it was, and what is sent instead has
 * another key, or the origin would take it for the same. */
static void test_an_upload_of_lost_data_is_queued_anew(void **state)
{
	struct content_fixture f;
	struct file *file;
	uint64_t object;
	char path[512];

	cf_init(&f);
	object = cf_object(&f);
	file = cf_file(&f, object);
	cf_write(file, 5 * CHUNK, 0, 1);
	ok(file_sync(file));
	file_unref(file, true);
	cf_blob_path(&f, object, path, sizeof(path));
	cf_close(&f);
	die_after(&f, write_and_send, object);
	lose_slot(path, 6);
	cf_open(&f);
	assert_int_equal(atomic_load(&f.v->rolled_back), 1);
	file = cf_file(&f, object);
	assert_true(cf_holds(file, 5 * CHUNK, 0, 1));
	file_unref(file, true);
	is_queued_anew(&f);
	cf_done(&f);
}

/* Another file was renamed over the one that is being sent: the operation is of that now. */
static void send_and_replace(struct content_fixture *f, uint64_t object)
{
	struct object_row o;
	struct op_row op;

	write_and_send(f, object);
	file_unref(filetab_get(f->v, object, 0), true);
	file_unref(filetab_get(f->v, object, 0), true);
	ok(db_begin(f->v->db));
	ok(op_by_key(f->v->db, sent_key, &op));
	op.object = object + 1;
	ok(op_update(f->v->db, &op));
	ok(object_get(f->v->db, object, &o));
	ok(gc_drop_map(f->v, o.map));
	ok(object_delete(f->v->db, object));
	ok(db_commit(f->v->db));
	gc_run(f->v, true);
}

static void test_lost_data_of_an_upload_that_another_was_renamed_over(void **state)
{
	struct content_fixture f;
	struct content_blob blob;
	uint64_t object;
	char path[512];
	size_t n;

	cf_init(&f);
	object = cf_make(&f, 5 * CHUNK, 1);
	cf_blob_path(&f, object, path, sizeof(path));
	cf_close(&f);
	die_after(&f, send_and_replace, object);
	lose_slot(path, 6);
	cf_open(&f);
	is_queued_anew(&f);
	db_read(f.v->db);
	ok(content_blob_list(f.v->db, 0, &blob, 1, &n));
	assert_int_equal(n, 0);
	db_unlock(f.v->db);
	assert_int_equal(access(path, F_OK), -1);
	cf_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sigkill_loses_nothing_acknowledged),
		cmocka_unit_test(test_lost_data_falls_back_whole),
		cmocka_unit_test(test_lost_data_of_a_snapshot_alone),
		cmocka_unit_test(test_intact_data_stands),
		cmocka_unit_test(test_orphans_of_a_crash_are_removed),
		cmocka_unit_test(test_orphaned_slots_are_punched),
		cmocka_unit_test(test_no_space_is_given_before_what_a_crash_left_is_counted),
		cmocka_unit_test(test_slots_that_a_crash_left_in_a_blob_in_use_are_counted),
		cmocka_unit_test(test_unlinked_objects_go_at_the_next_open),
		cmocka_unit_test(test_snapshot_pins_its_slots),
		cmocka_unit_test(test_lost_clean_chunks_are_missing_and_nothing_else),
		cmocka_unit_test(test_an_upload_of_lost_data_is_queued_anew),
		cmocka_unit_test(test_lost_data_of_an_upload_that_another_was_renamed_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
