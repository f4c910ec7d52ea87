/*
 * Goal: nothing acknowledged is lost by SIGKILL, nothing synced by power loss, a full disk or a
 * failed sync; and the index always opens.
 *
 * More: CACHET_TEST_KILLS (25), CACHET_TEST_POWER (250), CACHET_TEST_SEED (1).
 */
#include "meta_fixture.h"
#include "meta_record.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "meta/db_priv.h"

/* --- SIGKILL --- */

static void child_commits(struct fixture *f, int fd, uint64_t n)
{
	struct db *db;
	struct db_recovery rec;

	if (db_open(&f->options, &db, &rec) < 0)
		_exit(2);
	(void)!db_exec(db, "PRAGMA cache_size = 20"); /* some transactions spill */
	for (n++;; n++) {
		char big[30000];

		if (n % 7 == 0) {
			memset(big, (int)n, sizeof(big));
			if (db_begin(db) < 0 || setting_set(db, "big", big, sizeof(big)) < 0 ||
				db_commit(db) < 0)
				_exit(3);
		}
		if (counter_commit(db, n) < 0)
			_exit(4);
		if (write(fd, &n, sizeof(n)) != sizeof(n))
			_exit(5);
		if (n % 11 == 0 && db_sync(db) < 0)
			_exit(6);
		if (n % 29 == 0 && db_checkpoint(db, n % 2) < 0)
			_exit(7);
	}
}

/* Kills a writer at a random instant; returns the last commit it acknowledged. */
static uint64_t kill_round(struct fixture *f, uint64_t n)
{
	struct timespec t = { .tv_nsec = 1000000 + (long)rand() % 25000000 };
	uint64_t acked = n, got;
	int fds[2], status;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		close(fds[0]);
		child_commits(f, fds[1], n);
	}
	close(fds[1]);
	nanosleep(&t, NULL);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	while (read(fds[0], &got, sizeof(got)) == sizeof(got))
		acked = got;
	close(fds[0]);
	return acked;
}

static void test_sigkill_loses_no_acknowledged_commit(void **state)
{
	unsigned rounds = fixture_times("CACHET_TEST_KILLS", 25);
	uint64_t n = 0, commits = 0;
	struct fixture f;

	fixture_init(&f);
	db_close(fixture_create(&f));
	for (unsigned i = 0; i < rounds; i++) {
		uint64_t acked = kill_round(&f, n);
		struct image killed = fixture_image(&f);
		struct db_recovery rec;
		struct db *db = fixture_open(&f, &rec);
		int64_t there = counter_read(db);

		assert_false(rec.wal_damaged);
		assert_true(there == (int64_t)acked || there == (int64_t)acked + 1);
		db_read(db);
		assert_int_equal(db_integrity_check(db), 0);
		db_unlock(db);
		db_close(db);
		if (i % 2) /* the next writer goes on from the killed one's log, not from a closed
			      one */
			fixture_restore(&f, &killed);
		image_done(&killed);
		commits += (uint64_t)there - n;
		n = (uint64_t)there;
	}
	print_message("%u kills, %llu commits\n", rounds, (unsigned long long)commits);
	fixture_done(&f);
}

static void child_creates(struct fixture *f)
{
	struct db_options o = f->options;
	struct db *db;

	o.create = true;
	_exit(db_open(&o, &db, NULL) < 0);
}

static void test_sigkill_while_it_is_made_leaves_a_whole_index_or_none(void **state)
{
	unsigned rounds = fixture_times("CACHET_TEST_KILLS", 25);

	for (unsigned i = 0; i < rounds; i++) {
		struct timespec t = { .tv_nsec = (long)rand() % 12000000 };
		struct db_options o;
		struct fixture f;
		struct db *db;
		pid_t pid;
		int r;

		fixture_init(&f);
		pid = fork();
		if (pid == 0)
			child_creates(&f);
		nanosleep(&t, NULL);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		r = db_open(&f.options, &db, NULL);
		if (r == -ENOENT) {
			o = f.options;
			o.create = true;
			r = db_open(&o, &db, NULL);
		}
		assert_int_equal(r, 0);
		assert_int_equal(counter_commit(db, 1), 0);
		db_close(db);
		fixture_done(&f);
	}
}

/* --- power loss --- */

struct ack {
	size_t op; /* the record's length when the call returned */
	uint64_t n;
	bool synced;
};

struct story {
	struct fixture f;
	struct image start;
	struct ack acks[400];
	size_t n_acks;
};

static void acknowledge(struct story *s, uint64_t n, bool synced)
{
	s->acks[s->n_acks++] = (struct ack){ record.n, n, synced };
}

/* One life of an index: commits of all sizes, syncs, checkpoints of both kinds, a spilled
 * roll-back. */
static void live(struct story *s)
{
	struct db *db;
	char big[20000];

	fixture_init(&s->f);
	s->n_acks = 0;
	db_close(fixture_create(&s->f));
	s->start = fixture_image(&s->f);
	s->f.options.base_vfs = "record";
	record_start();
	db = fixture_open(&s->f, NULL);
	assert_int_equal(db_exec(db, "PRAGMA cache_size = 20"), 0);
	for (uint64_t n = 1; n <= 60; n++) {
		int dice = rand() % 100;

		if (dice < 15) {
			memset(big, (int)n, sizeof(big));
			assert_int_equal(db_begin(db), 0);
			assert_int_equal(
				setting_set(db, dice % 2 ? "big" : "huge", big, sizeof(big)), 0);
			if (dice % 3)
				assert_int_equal(db_commit(db), 0);
			else
				db_rollback(db);
		}
		assert_int_equal(counter_commit(db, n), 0);
		acknowledge(s, n, false);
		if (dice == 5) { /* too long for the redo log */
			char *huge = calloc(1, REDO_PAYLOAD_MAX);

			assert_int_equal(db_begin(db), 0);
			assert_int_equal(setting_set(db, "giant", huge, REDO_PAYLOAD_MAX), 0);
			assert_int_equal(setting_set_u64(db, "counter", n), 0);
			assert_int_equal(db_commit(db), 0);
			free(huge);
		}
		if (dice % 4 == 0) {
			assert_int_equal(db_sync(db), 0);
			acknowledge(s, n, true);
		}
		if (dice % 10 == 1) {
			assert_int_equal(db_checkpoint(db, dice % 20 == 1), 0);
			acknowledge(s, n, true);
		}
	}
	/* No orderly close: the record ends as the machine does. */
	record.on = false;
	db_close(db);
	s->f.options.base_vfs = NULL;
}

static void story_done(struct story *s)
{
	record_stop();
	image_done(&s->start);
	fixture_done(&s->f);
}

static struct bytes copy_of(const struct bytes *b)
{
	struct bytes c = { malloc(b->len + 1), b->len };

	if (b->len)
		memcpy(c.data, b->data, b->len);
	return c;
}

static struct image start_of(const struct story *s)
{
	return (struct image){ copy_of(&s->start.main), copy_of(&s->start.wal),
		copy_of(&s->start.redo) };
}

static void replay_all(struct image *i, size_t crash, unsigned percent)
{
	record_replay(&i->main, RECORD_MAIN, crash, percent);
	record_replay(&i->wal, RECORD_WAL, crash, percent);
	record_replay(&i->redo, RECORD_REDO, crash, percent);
}

static void assert_survives(struct story *s, size_t crash, unsigned percent)
{
	struct image i = start_of(s);
	uint64_t synced = 0, begun = 1;
	struct db_recovery rec;
	int64_t there;
	struct db *db;

	replay_all(&i, crash, percent);
	for (size_t a = 0; a < s->n_acks && s->acks[a].op <= crash; a++) {
		if (s->acks[a].synced)
			synced = s->acks[a].n;
		begun = s->acks[a].n + 1;
	}
	fixture_restore(&s->f, &i);
	db = fixture_open(&s->f, &rec);
	there = counter_read(db);
	if (there < (int64_t)synced || there > (int64_t)begun)
		print_error("crash %zu percent %u: %lld not in [%llu, %llu]\n", crash, percent,
			(long long)there, (unsigned long long)synced, (unsigned long long)begun);
	assert_true(there >= (int64_t)synced && there <= (int64_t)begun);
	assert_false(rec.durable_lost);
	db_read(db);
	assert_int_equal(db_integrity_check(db), 0);
	db_unlock(db);
	db_close(db);
	image_done(&i);
}

static void test_power_loss_loses_no_synced_commit_and_never_the_index(void **state)
{
	static const unsigned percents[] = { 0, 30, 60, 90, 100 };
	unsigned states = fixture_times("CACHET_TEST_POWER", 250), done = 0;
	struct story s;

	while (done < states) {
		live(&s);
		for (unsigned i = 0; i < 100 && done < states; i++, done++)
			assert_survives(&s, (size_t)rand() % (record.n + 1),
				percents[done % ARRAY_SIZE(percents)]);
		story_done(&s);
	}
	print_message("%u states\n", done);
}

/* The control: a log whose syncs do nothing must fail the same judgement. */
static void test_the_power_loss_model_notices_a_missing_sync(void **state)
{
	unsigned lost = 0;
	struct story s;

	live(&s);
	for (size_t i = 0; i < record.n; i++)
		if (record.ops[i].kind == RECORD_SYNC)
			record.ops[i].kind = RECORD_WRITE; /* of no bytes */
	for (size_t a = 0; a < s.n_acks; a++) {
		struct db *db = NULL;
		struct image i;

		if (!s.acks[a].synced)
			continue;
		i = start_of(&s);
		replay_all(&i, s.acks[a].op, 0);
		fixture_restore(&s.f, &i);
		if (db_open(&s.f.options, &db, NULL) < 0 || counter_read(db) < (int64_t)s.acks[a].n)
			lost++;
		db_close(db);
		image_done(&i);
	}
	assert_true(lost > 0);
	story_done(&s);
}

/* --- failing disks --- */

static void test_after_a_failed_sync_the_log_is_written_again(void **state)
{
	struct story s = { .n_acks = 0 };
	struct db *db;

	fixture_init(&s.f);
	db_close(fixture_create(&s.f));
	s.start = fixture_image(&s.f);
	s.f.options.base_vfs = "record";
	record_start();
	db = fixture_open(&s.f, NULL);
	assert_int_equal(counter_commit(db, 1), 0);
	assert_int_equal(db_sync(db), 0);
	assert_int_equal(counter_commit(db, 2), 0);
	record.fail_wal_syncs = 1;
	assert_int_equal(db_sync(db), -EIO);
	assert_int_equal(counter_commit(db, 3), 0);
	assert_int_equal(db_sync(db), 0);
	acknowledge(&s, 3, true);
	record.on = false;
	s.f.options.base_vfs = NULL;
	db_close(db);
	assert_survives(&s, record.n, 0);
	story_done(&s);
}

static void test_after_a_failed_sync_a_checkpoint_writes_the_log_again(void **state)
{
	struct story s = { .n_acks = 0 };
	struct db *db;

	fixture_init(&s.f);
	db_close(fixture_create(&s.f));
	s.start = fixture_image(&s.f);
	s.f.options.base_vfs = "record";
	record_start();
	db = fixture_open(&s.f, NULL);
	assert_int_equal(counter_commit(db, 1), 0);
	record.fail_wal_syncs = 1;
	assert_true(db_checkpoint(db, true) < 0);
	assert_true(db_wal_bytes(db) > 0);
	assert_int_equal(counter_read(db), 1);
	assert_int_equal(db_checkpoint(db, true), 0);
	acknowledge(&s, 1, true);
	record.on = false;
	s.f.options.base_vfs = NULL;
	db_close(db);
	for (size_t crash = 0; crash <= record.n; crash++)
		assert_survives(&s, crash, 0);
	story_done(&s);
}

static void test_full_disk_fails_the_commit_and_keeps_all_before_it(void **state)
{
	struct fixture f;
	struct db *db;

	for (int64_t room = 0; room < 60000; room += 1777) {
		uint64_t n = 0;
		int r;

		fixture_init(&f);
		f.options.base_vfs = "record";
		db = fixture_create(&f);
		record.budget = room;
		do
			r = counter_commit(db, ++n);
		while (r == 0);
		assert_int_equal(r, -ENOSPC);
		assert_int_equal(counter_read(db), n - 1);
		assert_true(
			db_checkpoint(db, true) == -ENOSPC || room == 0 || db_wal_bytes(db) == 0);
		assert_int_equal(counter_read(db), n - 1);
		record.budget = -1; /* somebody made room */
		assert_int_equal(counter_commit(db, 99), 0);
		db_read(db);
		assert_int_equal(db_integrity_check(db), 0);
		db_unlock(db);
		db_close(db);
		db = fixture_open(&f, NULL);
		assert_int_equal(counter_read(db), 99);
		db_close(db);
		fixture_done(&f);
	}
}

static void test_full_disk_in_a_large_transaction_ends_it_whole(void **state)
{
	struct fixture f;
	struct db *db;
	char big[8000], key[16];
	int r = 0;

	fixture_init(&f);
	f.options.base_vfs = "record";
	db = fixture_create(&f);
	assert_int_equal(counter_commit(db, 1), 0);
	assert_int_equal(db_exec(db, "PRAGMA cache_size = 10"), 0);
	memset(big, 'x', sizeof(big));
	record.budget = 200000;
	assert_int_equal(db_begin(db), 0);
	for (int i = 0; i < 200; i++) {
		snprintf(key, sizeof(key), "big-%d", i);
		r = setting_set(db, key, big, sizeof(big));
		if (r < 0)
			break;
	}
	assert_int_equal(r, -ENOSPC);
	/* A careless caller goes on: nothing of it may become a transaction of its own. */
	assert_true(setting_set_u64(db, "counter", 5) < 0);
	assert_true(db_commit(db) < 0);
	record.budget = -1;
	assert_int_equal(counter_read(db), 1);
	assert_int_equal(counter_commit(db, 2), 0);
	db_close(db);
	f.options.base_vfs = NULL;
	db = fixture_open(&f, NULL);
	assert_int_equal(counter_read(db), 2);
	db_close(db);
	fixture_done(&f);
}

static void test_full_disk_while_it_is_made_leaves_nothing(void **state)
{
	struct db_options o;
	struct fixture f;
	struct db *db;

	for (int64_t room = 0; room < 140000; room += 20011) {
		fixture_init(&f);
		o = f.options;
		o.create = true;
		o.base_vfs = "record";
		record.budget = room;
		assert_int_equal(db_open(&o, &db, NULL), -ENOSPC);
		record.budget = -1;
		assert_int_equal(rmdir(f.dir), 0);
		assert_int_equal(mkdir(f.dir, 0700), 0);
		fixture_done(&f);
	}
}

/* Ten commits with syncs and checkpoints between; returns the last that was acknowledged. */
static uint64_t ten_commits(struct db *db)
{
	uint64_t acked = 0;
	char big[30000];

	for (uint64_t n = 1; n <= 10; n++) {
		memset(big, (int)n, sizeof(big));
		if (n % 4 == 0 && db_begin(db) == 0) {
			if (setting_set(db, "big", big, sizeof(big)) < 0)
				db_rollback(db);
			else
				(void)!db_commit(db);
		}
		if (counter_commit(db, n) == 0)
			acked = n;
		if (n % 3 == 0)
			(void)!db_sync(db);
		if (n % 5 == 0)
			(void)!db_checkpoint(db, n == 5);
	}
	return acked;
}

static void test_any_one_call_that_fails_costs_no_acknowledged_commit(void **state)
{
	int calls = 0;
	bool fired = true;

	for (; fired; calls++) {
		struct fixture f;
		struct db *db = NULL;
		uint64_t acked = 0;

		fixture_init(&f);
		db_close(fixture_create(&f));
		f.options.base_vfs = "record";
		record.fail_in = calls + 1;
		if (db_open(&f.options, &db, NULL) == 0) {
			(void)!db_exec(db, "PRAGMA cache_size = 8");
			acked = ten_commits(db);
			fired = record.fail_in == 0;
			record.fail_in = 0;
			assert_int_equal(counter_read(db), acked);
			assert_true(acked >= 8);
			db_close(db);
		}
		record.fail_in = 0;
		f.options.base_vfs = NULL;
		db = fixture_open(&f, NULL);
		assert_int_equal(counter_read(db), acked);
		db_read(db);
		assert_int_equal(db_integrity_check(db), 0);
		db_unlock(db);
		db_close(db);
		fixture_done(&f);
	}
	print_message("%d calls\n", calls - 1);
	assert_true(calls > 50);
}

static int setup(void **state)
{
	int r = secret_init(false);
	struct fixture f;

	srand(fixture_times("CACHET_TEST_SEED", 1));
	if (r < 0)
		return r;
	/* The first index sets SQLite's page cache up; only then may SQLite be started by the
	 * record. */
	fixture_init(&f);
	db_close(fixture_create(&f));
	fixture_done(&f);
	record_register();
	return 0;
}

static int setup_log(void **state)
{
	fixture_log_bytes = 64 << 10;
	return setup(state);
}

/* Everything twice: each commit one of SQLite's; commits in the redo log. */
int main(void)
{
#define BOTH                                                                                       \
	cmocka_unit_test(test_sigkill_loses_no_acknowledged_commit),                               \
	cmocka_unit_test(test_sigkill_while_it_is_made_leaves_a_whole_index_or_none),              \
	cmocka_unit_test(test_power_loss_loses_no_synced_commit_and_never_the_index),              \
	cmocka_unit_test(test_the_power_loss_model_notices_a_missing_sync),                        \
	cmocka_unit_test(test_after_a_failed_sync_the_log_is_written_again),                       \
	cmocka_unit_test(test_after_a_failed_sync_a_checkpoint_writes_the_log_again),              \
	cmocka_unit_test(test_any_one_call_that_fails_costs_no_acknowledged_commit),               \
	cmocka_unit_test(test_full_disk_fails_the_commit_and_keeps_all_before_it),                 \
	cmocka_unit_test(test_full_disk_in_a_large_transaction_ends_it_whole)
	const struct CMUnitTest without[] = { BOTH,
		cmocka_unit_test(test_full_disk_while_it_is_made_leaves_nothing) };
	const struct CMUnitTest with[] = { BOTH };
	int r = cmocka_run_group_tests(without, setup, NULL);

	return cmocka_run_group_tests(with, setup_log, NULL) + r;
}
