/* Goal: the contract of meta/db.h: opening, transactions, locks, keys, schema versions, syncs. */
#include "meta_fixture.h"

#include <pthread.h>
#include <sqlite3.h>
#include <sys/wait.h>

#include "meta/db_priv.h"
#include "meta/schema.h"

static void test_new_index_has_the_root_directory(void **state)
{
	struct fixture f;
	struct object_row o;
	struct db *db;

	fixture_init(&f);
	db = fixture_create(&f);
	db_read(db);
	assert_int_equal(object_get(db, OBJECT_ROOT, &o), 0);
	db_unlock(db);
	assert_int_equal(o.mode, 0040755);
	assert_int_equal(o.nlink, 2);
	db_close(db);
	fixture_done(&f);
}

static void test_create_refuses_an_existing_index(void **state)
{
	struct fixture f;
	struct db *db;
	struct db_options o;

	fixture_init(&f);
	db_close(fixture_create(&f));
	o = f.options;
	o.create = true;
	assert_int_equal(db_open(&o, &db, NULL), -EEXIST);
	fixture_done(&f);
}

static void test_create_refuses_a_log_without_its_index(void **state)
{
	struct fixture f;
	struct db *db;
	struct db_options o;

	fixture_init(&f);
	fixture_write(&f, DB_WAL_FILE, "unsent work", 11);
	o = f.options;
	o.create = true;
	assert_int_equal(db_open(&o, &db, NULL), -EEXIST);
	assert_int_equal(unlink(fixture_path(&f, DB_WAL_FILE)), 0);
	fixture_write(&f, REDO_FILE, "unsent work", 11);
	assert_int_equal(db_open(&o, &db, NULL), -EEXIST);
	fixture_done(&f);
}

static void test_create_survives_what_a_crash_left(void **state)
{
	struct fixture f;

	fixture_init(&f);
	fixture_write(&f, "index.db.new", "half", 4);
	fixture_write(&f, "index.db.new-wal", "half", 4);
	db_close(fixture_create(&f));
	assert_int_equal(access(fixture_path(&f, "index.db.new"), F_OK), -1);
	assert_int_equal(access(fixture_path(&f, "index.db.new-wal"), F_OK), -1);
	fixture_done(&f);
}

static void test_open_of_nothing_is_enoent_and_makes_nothing(void **state)
{
	struct fixture f;
	struct db *db;

	fixture_init(&f);
	assert_int_equal(db_open(&f.options, &db, NULL), -ENOENT);
	assert_int_equal(rmdir(f.dir), 0);
	assert_int_equal(mkdir(f.dir, 0700), 0);
	fixture_done(&f);
}

static void test_commit_is_there_after_reopening(void **state)
{
	struct fixture f;
	struct db *db;

	fixture_init(&f);
	db = fixture_create(&f);
	assert_int_equal(counter_commit(db, 7), 0);
	db_close(db);
	db = fixture_open(&f, NULL);
	assert_int_equal(counter_read(db), 7);
	db_close(db);
	fixture_done(&f);
}

static void test_rollback_leaves_the_state_before_begin(void **state)
{
	struct fixture f;
	struct db *db;

	fixture_init(&f);
	db = fixture_create(&f);
	assert_int_equal(counter_commit(db, 1), 0);
	assert_int_equal(db_begin(db), 0);
	assert_int_equal(setting_set_u64(db, "counter", 2), 0);
	db_rollback(db);
	assert_int_equal(counter_read(db), 1);
	db_close(db);
	fixture_done(&f);
}

static void test_another_process_is_told_in_use(void **state)
{
	struct fixture f;
	struct db *db;
	int status;
	pid_t pid;

	fixture_init(&f);
	db = fixture_create(&f);
	pid = fork();
	if (pid == 0) {
		struct db *other = NULL;

		_exit(db_open(&f.options, &other, NULL) == CE_INUSE ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_int_equal(counter_commit(db, 1), 0);
	db_close(db);
	fixture_done(&f);
}

static void test_the_vfs_beneath_locks_out_other_processes_too(void **state)
{
	struct fixture f;
	struct db *db;
	int status;
	pid_t pid;

	fixture_init(&f);
	db = fixture_create(&f);
	pid = fork();
	if (pid == 0) {
		int fd = open(fixture_path(&f, DB_FILE), O_RDWR);
		struct flock l = { .l_type = F_WRLCK, .l_start = 0x40000000, .l_len = 512 };

		_exit(fd >= 0 && fcntl(fd, F_SETLK, &l) < 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	db_close(db);
	fixture_done(&f);
}

static void test_wrong_key_is_told_and_touches_nothing(void **state)
{
	struct fixture f;
	struct image before, after;
	struct db *db, *other;

	fixture_init(&f);
	db = fixture_create(&f);
	assert_int_equal(counter_commit(db, 3), 0);
	before = fixture_image(&f);
	db_close(db);
	fixture_restore(&f, &before);
	secret_bytes(f.key)[0] ^= 1;
	assert_int_equal(db_open(&f.options, &other, NULL), CE_WRONG_KEY);
	after = fixture_image(&f);
	assert_int_equal(after.wal.len, before.wal.len);
	assert_memory_equal(after.wal.data, before.wal.data, before.wal.len);
	assert_memory_equal(after.main.data, before.main.data, before.main.len);
	secret_bytes(f.key)[0] ^= 1;
	db = fixture_open(&f, NULL);
	assert_int_equal(counter_read(db), 3);
	db_close(db);
	image_done(&before);
	image_done(&after);
	fixture_done(&f);
}

static void test_newer_schema_is_refused_and_kept(void **state)
{
	struct fixture f;
	struct db *db, *other;

	fixture_init(&f);
	db = fixture_create(&f);
	assert_int_equal(db_exec(db, "PRAGMA user_version = 7"), 0);
	db_close(db);
	assert_int_equal(SCHEMA_VERSION, 6);
	assert_int_equal(db_open(&f.options, &other, NULL), CE_FORMAT);
	assert_int_equal(db_open(&f.options, &other, NULL), CE_FORMAT);
	fixture_done(&f);
}

static void test_format_is_fixed_against_pragmas(void **state)
{
	struct fixture f;
	struct db *db;

	fixture_init(&f);
	db = fixture_create(&f);
	assert_true(db_exec(db, "PRAGMA mmap_size = 1000000") < 0);
	assert_true(db_exec(db, "PRAGMA page_size = 8192") < 0);
	db_close(db);
	fixture_done(&f);
}

static void test_temporary_files_are_refused(void **state)
{
	struct fixture f;
	struct db *db;

	fixture_init(&f);
	db = fixture_create(&f);
	for (uint64_t n = 1; n <= 9; n++)
		assert_int_equal(counter_commit(db, n), 0);
	assert_int_equal(db_exec(db, "PRAGMA temp_store = FILE; PRAGMA cache_size = 4"), 0);
	assert_true(db_exec(db, "VACUUM") < 0);
	assert_int_equal(db_exec(db, "PRAGMA temp_store = MEMORY"), 0);
	assert_int_equal(db_exec(db, "VACUUM"), 0);
	assert_int_equal(counter_read(db), 9);
	db_close(db);
	fixture_done(&f);
}

static void test_no_other_file_appears_beside_index_and_log(void **state)
{
	struct fixture f;
	struct db *db;
	char command[200];

	fixture_init(&f);
	db = fixture_create(&f);
	assert_int_equal(counter_commit(db, 1), 0);
	assert_int_equal(db_checkpoint(db, false), 0);
	snprintf(command, sizeof(command),
		"test \"$(ls %s | sort | tr '\\n' ' ')\" = 'index.db index.db-wal '", f.dir);
	assert_int_equal(system(command), 0);
	db_close(db);
	fixture_done(&f);
}

static void test_files_are_private_to_their_owner(void **state)
{
	struct fixture f;
	struct stat st;
	struct db *db;

	fixture_init(&f);
	umask(0);
	db = fixture_create(&f);
	assert_int_equal(counter_commit(db, 1), 0);
	assert_int_equal(stat(fixture_path(&f, DB_FILE), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(stat(fixture_path(&f, DB_WAL_FILE), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	db_close(db);
	fixture_done(&f);
}

static void test_a_journal_put_there_by_somebody_is_not_seen(void **state)
{
	struct fixture f;
	struct db *db;

	fixture_init(&f);
	db = fixture_create(&f);
	assert_int_equal(counter_commit(db, 4), 0);
	db_close(db);
	fixture_write(
		&f, "index.db-journal", "\xd9\xd5\x05\xf9\x20\xa1\x63\xd7 and more of it", 24);
	db = fixture_open(&f, NULL);
	assert_int_equal(counter_read(db), 4);
	db_close(db);
	fixture_done(&f);
}

static void test_checkpoint_with_truncate_empties_the_log(void **state)
{
	struct fixture f;
	struct db *db;

	fixture_init(&f);
	db = fixture_create(&f);
	assert_int_equal(counter_commit(db, 5), 0);
	assert_true(db_wal_bytes(db) > 4120);
	assert_int_equal(db_checkpoint(db, true), 0);
	assert_int_equal(db_wal_bytes(db), 0);
	assert_int_equal(counter_read(db), 5);
	assert_int_equal(counter_commit(db, 6), 0);
	assert_int_equal(counter_read(db), 6);
	db_close(db);
	fixture_done(&f);
}

static void test_bytes_are_those_of_the_files(void **state)
{
	struct fixture f;
	struct image i;
	struct db *db;

	fixture_init(&f);
	db = fixture_create(&f);
	for (uint64_t n = 1; n < 50; n++)
		assert_int_equal(counter_commit(db, n), 0);
	i = fixture_image(&f);
	assert_int_equal(db_bytes(db), i.main.len + i.wal.len);
	assert_int_equal(db_wal_bytes(db), i.wal.len);
	image_done(&i);
	db_close(db);
	fixture_done(&f);
}

struct hook {
	int calls, result;
};

static int hook_run(void *arg)
{
	struct hook *h = arg;

	h->calls++;
	return h->result;
}

static void test_hook_runs_before_each_sync_but_that_of_a_fresh_log(void **state)
{
	struct hook h = { 0 };
	struct fixture f;
	struct db *db;

	fixture_init(&f);
	f.options.before_sync = hook_run;
	f.options.before_sync_arg = &h;
	db = fixture_create(&f);
	assert_int_equal(db_sync(db), 0);
	h.calls = 0;
	assert_int_equal(counter_commit(db, 1), 0);
	assert_int_equal(h.calls, 0);
	assert_int_equal(db_sync(db), 0);
	assert_int_equal(h.calls, 1);
	assert_int_equal(counter_commit(db, 2), 0);
	assert_int_equal(db_checkpoint(db, true), 0);
	assert_int_equal(h.calls, 2);
	/* The first commit of a new log syncs the log's header: nothing of ours is in it. */
	assert_int_equal(counter_commit(db, 3), 0);
	assert_int_equal(h.calls, 2);
	db_close(db);
	assert_int_equal(h.calls, 3);
	fixture_done(&f);
}

static void test_failing_hook_stops_sync_and_checkpoint(void **state)
{
	struct hook h = { .result = -EDQUOT };
	struct fixture f;
	struct image i;
	struct db *db;

	fixture_init(&f);
	f.options.before_sync = hook_run;
	f.options.before_sync_arg = &h;
	db = fixture_create(&f);
	assert_int_equal(counter_commit(db, 1), 0);
	assert_int_equal(db_sync(db), -EDQUOT);
	assert_int_equal(db_checkpoint(db, true), -EDQUOT);
	i = fixture_image(&f);
	assert_true(i.wal.len > 0);
	image_done(&i);
	h.result = 0;
	assert_int_equal(db_checkpoint(db, true), 0);
	assert_int_equal(db_wal_bytes(db), 0);
	db_close(db);
	fixture_done(&f);
}

struct party {
	struct db *db;
	_Atomic bool stop;
	int result;
};

static void *sync_and_checkpoint(void *arg)
{
	struct party *p = arg;

	for (unsigned i = 0; !p->stop && p->result == 0; i++)
		p->result = i % 5 ? db_sync(p->db) : db_checkpoint(p->db, i % 2);
	return NULL;
}

static void test_syncs_and_checkpoints_run_beside_commits(void **state)
{
	struct party p[2] = { { 0 }, { 0 } };
	pthread_t t[2];
	struct fixture f;
	struct db *db;

	fixture_init(&f);
	db = fixture_create(&f);
	for (int i = 0; i < 2; i++) {
		p[i].db = db;
		assert_int_equal(pthread_create(&t[i], NULL, sync_and_checkpoint, &p[i]), 0);
	}
	for (uint64_t n = 1; n <= 400; n++) {
		assert_int_equal(counter_commit(db, n), 0);
		assert_int_equal(counter_read(db), n);
	}
	for (int i = 0; i < 2; i++) {
		p[i].stop = true;
		pthread_join(t[i], NULL);
		assert_int_equal(p[i].result, 0);
	}
	db_read(db);
	assert_int_equal(db_integrity_check(db), 0);
	db_unlock(db);
	db_close(db);
	db = fixture_open(&f, NULL);
	assert_int_equal(counter_read(db), 400);
	db_close(db);
	fixture_done(&f);
}

/* Runs `what` in a child whose standard error is shut; true when it aborted. */
static bool aborts(struct db *db, void (*what)(struct db *))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		close(2);
		what(db);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void without_lock(struct db *db)
{
	uint64_t v;

	(void)!setting_get_u64(db, "x", &v);
}

static void write_outside_a_transaction(struct db *db)
{
	db_read(db);
	(void)!setting_set_u64(db, "x", 1);
}

static void lock_twice(struct db *db)
{
	db_read(db);
	db_read(db);
}

static void sync_with_the_lock(struct db *db)
{
	db_read(db);
	(void)!db_sync(db);
}

static void test_misuse_of_the_lock_aborts(void **state)
{
	struct fixture f;
	struct db *db;

	fixture_init(&f);
	db = fixture_create(&f);
	assert_true(aborts(db, without_lock));
	assert_true(aborts(db, write_outside_a_transaction));
	assert_true(aborts(db, lock_twice));
	assert_true(aborts(db, sync_with_the_lock));
	db_close(db);
	fixture_done(&f);
}

static int setup(void **state)
{
	return secret_init(false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_index_has_the_root_directory),
		cmocka_unit_test(test_create_refuses_an_existing_index),
		cmocka_unit_test(test_create_refuses_a_log_without_its_index),
		cmocka_unit_test(test_create_survives_what_a_crash_left),
		cmocka_unit_test(test_open_of_nothing_is_enoent_and_makes_nothing),
		cmocka_unit_test(test_commit_is_there_after_reopening),
		cmocka_unit_test(test_rollback_leaves_the_state_before_begin),
		cmocka_unit_test(test_another_process_is_told_in_use),
		cmocka_unit_test(test_the_vfs_beneath_locks_out_other_processes_too),
		cmocka_unit_test(test_wrong_key_is_told_and_touches_nothing),
		cmocka_unit_test(test_newer_schema_is_refused_and_kept),
		cmocka_unit_test(test_format_is_fixed_against_pragmas),
		cmocka_unit_test(test_temporary_files_are_refused),
		cmocka_unit_test(test_no_other_file_appears_beside_index_and_log),
		cmocka_unit_test(test_files_are_private_to_their_owner),
		cmocka_unit_test(test_a_journal_put_there_by_somebody_is_not_seen),
		cmocka_unit_test(test_checkpoint_with_truncate_empties_the_log),
		cmocka_unit_test(test_bytes_are_those_of_the_files),
		cmocka_unit_test(test_hook_runs_before_each_sync_but_that_of_a_fresh_log),
		cmocka_unit_test(test_failing_hook_stops_sync_and_checkpoint),
		cmocka_unit_test(test_syncs_and_checkpoints_run_beside_commits),
		cmocka_unit_test(test_misuse_of_the_lock_aborts),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
