/* The commit queue with real threads, files and database: groups, failures, order of sync and
 * answer, stop. */
#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/secret.h"
#include "server/commit.h"
#include "server/server.h"

#define INSTANCE "00112233445566778899aabbccddeeff"
#define JOBS 200

struct one {
	struct commit_job job;
	struct change c;
	struct fixture *f;
};

struct fixture {
	struct unit_dir dir;
	struct body_dirs dirs;
	struct store_db *db;
	int64_t store;
	struct commit_queue *q;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	unsigned done;
	struct one one[JOBS];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct commit_options o = {
		.dir = f->dir.path, .dirs = &f->dirs, .instance = INSTANCE, .tag = 1, .helpers = 3
	};
	struct store_row row;
	char *error = NULL;

	unit_dir_init(&f->dir);
	assert_int_equal(server_store_add(f->dir.path, "s", &error), 0);
	assert_int_equal(server_body_open_dirs(f->dir.fd, &f->dirs), 0);
	assert_int_equal(server_store_open(f->dir.path, &f->db), 0);
	assert_int_equal(server_records_store_by_id(f->db, "s", &row), 0);
	f->store = row.n;
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->wake, NULL);
	assert_int_equal(server_commit_start(&o, &f->q), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	server_commit_free(f->q);
	for (unsigned i = 0; i < JOBS; i++)
		if (f->one[i].f)
			server_change_done(&f->one[i].c);
	server_store_close(f->db);
	server_body_close_dirs(&f->dirs);
	unit_dir_done(&f->dir);
	free(f);
	return 0;
}

static void on_done(struct commit_job *job)
{
	struct fixture *f = ((struct one *)job->arg)->f;

	pthread_mutex_lock(&f->lock);
	f->done++;
	pthread_cond_broadcast(&f->wake);
	pthread_mutex_unlock(&f->lock);
}

static void wait_done(struct fixture *f, unsigned n)
{
	pthread_mutex_lock(&f->lock);
	while (f->done < n)
		pthread_cond_wait(&f->wake, &f->lock);
	pthread_mutex_unlock(&f->lock);
}

static struct one *prepare(struct fixture *f, unsigned i, size_t size)
{
	struct one *o = &f->one[i];
	_cleanup_free_ char *data = calloc(1, size + 1);

	o->f = f;
	server_change_init(&o->c, &f->dirs, UINT64_MAX);
	o->c.account = 1;
	o->c.store = f->store;
	o->c.create = o->c.has_key = o->c.has_parent = o->c.has_name = true;
	store_le32(o->c.key, i);
	snprintf(o->c.id, sizeof(o->c.id), "r%u", i);
	snprintf(o->c.name, sizeof(o->c.name), "n%u", i);
	snprintf(o->c.parent, sizeof(o->c.parent), "root");
	if (size)
		assert_int_equal(server_body_write(&o->c.body, data, size), 0);
	assert_int_equal(server_body_finish(&o->c.body), 0);
	assert_int_equal(server_change_seal(&o->c), 0);
	o->job = (struct commit_job){ .changes = &o->c, .n_changes = 1, .done = on_done, .arg = o };
	return o;
}

static uint64_t records(struct fixture *f)
{
	struct store_row row;

	assert_int_equal(server_records_store_by_n(f->db, f->store, &row), 0);
	return row.records;
}

static void every_job_is_done_once_and_is_there(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < JOBS; i++)
		assert_int_equal(
			server_commit_submit(f->q, &prepare(f, i, i % 3 ? 100 : 20000)->job), 0);
	wait_done(f, JOBS);
	for (unsigned i = 0; i < JOBS; i++) {
		assert_int_equal(f->one[i].job.result, 0);
		assert_int_equal(f->one[i].c.out.status, 201);
	}
	assert_int_equal(f->done, JOBS);
	assert_int_equal(records(f), JOBS);
}

static int failing(struct tx *tx, void *arg)
{
	(void)tx;
	(void)arg;
	return -EIO;
}

static void one_failing_job_takes_no_other_with_it(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < 50; i++) {
		struct one *o = prepare(f, i, 10);

		if (i == 20) {
			o->job.n_changes = 0;
			o->job.run = failing;
		}
		assert_int_equal(server_commit_submit(f->q, &o->job), 0);
	}
	wait_done(f, 50);
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(f->one[i].job.result, i == 20 ? -EIO : 0);
	assert_int_equal(records(f), 49);
}

static void a_body_that_cannot_be_synced_fails_its_job_alone(void **state)
{
	struct fixture *f = *state;
	struct one *bad = prepare(f, 0, 20000), *good = prepare(f, 1, 20000);
	char name[2 * RECORD_FILE_LEN + 1];

	/* Its temporary file is gone: the rename fails. */
	bytes_to_hex(bad->c.body.file, RECORD_FILE_LEN, name);
	assert_int_equal(unlinkat(f->dirs.tmp_fd, name, 0), 0);
	assert_int_equal(server_commit_submit(f->q, &bad->job), 0);
	assert_int_equal(server_commit_submit(f->q, &good->job), 0);
	wait_done(f, 2);
	assert_int_equal(bad->job.result, -ENOENT);
	assert_int_equal(good->job.result, 0);
	assert_int_equal(records(f), 1);
}

static void a_refused_change_leaves_no_file(void **state)
{
	struct fixture *f = *state;
	struct one *a = prepare(f, 0, 20000), *b = prepare(f, 1, 20000);
	uint8_t file[RECORD_FILE_LEN];
	int fd;

	snprintf(b->c.name, sizeof(b->c.name), "n0");
	memcpy(file, b->c.body.file, sizeof(file));
	assert_int_equal(server_commit_submit(f->q, &a->job), 0);
	wait_done(f, 1);
	assert_int_equal(server_commit_submit(f->q, &b->job), 0);
	wait_done(f, 2);
	assert_int_equal(b->c.out.status, 409);
	server_change_done(&b->c);
	b->f = NULL;
	assert_int_equal(server_body_open(&f->dirs, file, &fd), -ENOENT);
	assert_int_equal(server_body_open(&f->dirs, a->c.body.file, &fd), 0);
	close(fd);
}

static void stop_finishes_what_was_submitted_and_refuses_more(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < 60; i++)
		assert_int_equal(
			server_commit_submit(f->q, &prepare(f, i, i % 2 ? 10 : 30000)->job), 0);
	server_commit_stop(f->q);
	assert_int_equal(f->done, 60);
	assert_int_equal(records(f), 60);
	assert_int_equal(server_commit_submit(f->q, &prepare(f, 60, 1)->job), -ESHUTDOWN);
}

static void the_sweep_keeps_what_rows_name_and_nothing_else(void **state)
{
	struct fixture *f = *state;
	uint64_t removed = 99;
	int fd;

	assert_int_equal(server_commit_submit(f->q, &prepare(f, 0, 20000)->job), 0);
	wait_done(f, 1);
	fd = openat(f->dirs.tmp_fd, "00112233445566778899aabbccddeeff", O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
	fd = openat(f->dirs.content_fd, "00/00112233445566778899aabbccddeeff", O_CREAT | O_WRONLY,
		0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(server_body_sweep(&f->dirs, f->db, &removed), 0);
	assert_int_equal(removed, 2);
	assert_int_equal(server_body_open(&f->dirs, f->one[0].c.body.file, &fd), 0);
	close(fd);
}

static int group_setup(void **state)
{
	return secret_init(false);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_job_is_done_once_and_is_there),
		TEST(one_failing_job_takes_no_other_with_it),
		TEST(a_body_that_cannot_be_synced_fails_its_job_alone),
		TEST(a_refused_change_leaves_no_file),
		TEST(stop_finishes_what_was_submitted_and_refuses_more),
		TEST(the_sweep_keeps_what_rows_name_and_nothing_else),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
