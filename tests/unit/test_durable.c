/*
 * Goal: who syncs, how often, and what is given back after it (cache/durable.c): those who wait for
 * a sync share the next one, what is only closed is synced by the keeper, and a blob most of which
 * is dead takes what is live. Syncs of the redo log are counted, and held up, by an fdatasync of
 * the test's own.
 */
#include "content_fixture.h"

#include <sys/syscall.h>

#include "meta/redo.h"
#include "unit.h"

#define WAITERS 8
#define DEADLINE_S 120
#define CHUNK 65536u
#define CHUNKS 64u

/* --- the syncs of the redo log --- */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t opened;
	bool shut;
	unsigned begun, ended;
} syncs = { .lock = PTHREAD_MUTEX_INITIALIZER, .opened = PTHREAD_COND_INITIALIZER };

static bool is_redo(int fd)
{
	char path[512];

	return strstr(unit_fd_path(fd, path), "/" REDO_FILE);
}

int fdatasync(int fd)
{
	int r;

	if (!is_redo(fd))
		return (int)syscall(SYS_fdatasync, fd);
	pthread_mutex_lock(&syncs.lock);
	syncs.begun++;
	while (syncs.shut)
		pthread_cond_wait(&syncs.opened, &syncs.lock);
	pthread_mutex_unlock(&syncs.lock);
	r = (int)syscall(SYS_fdatasync, fd);
	pthread_mutex_lock(&syncs.lock);
	syncs.ended++;
	pthread_mutex_unlock(&syncs.lock);
	return r;
}

static void shut(bool on)
{
	pthread_mutex_lock(&syncs.lock);
	syncs.shut = on;
	syncs.begun = syncs.ended = 0;
	pthread_cond_broadcast(&syncs.opened);
	pthread_mutex_unlock(&syncs.lock);
}

static unsigned ended(void)
{
	unsigned n;

	pthread_mutex_lock(&syncs.lock);
	n = syncs.ended;
	pthread_mutex_unlock(&syncs.lock);
	return n;
}

/* --- many who wait --- */

struct waiter {
	struct content_fixture *f;
	uint64_t object;
	atomic_int tid; /* once it is committed */
	unsigned syncs; /* that had ended when it was answered */
	int result;
};

static void *commit_and_sync(void *arg)
{
	struct waiter *w = arg;
	struct file *file = cf_file(w->f, w->object);

	cf_write(file, 5000, 0, (uint32_t)w->object);
	w->result = file_commit(file);
	atomic_store(&w->tid, gettid());
	if (!w->result)
		w->result = file_sync(file);
	w->syncs = ended();
	file_unref(file, true);
	return NULL;
}

/* In a system call that waits. */
static bool sleeps(int tid)
{
	char path[64], text[256] = "";
	const char *state;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	state = strrchr(text, ')');
	return state && state[2] == 'S';
}

static void wait_until_all_sleep(struct waiter *w)
{
	const int64_t end = clock_boot_ns() + DEADLINE_S * NS_PER_SEC;

	for (unsigned i = 0; i < WAITERS; i++)
		while (!atomic_load(&w[i].tid) || !sleeps(atomic_load(&w[i].tid))) {
			assert_true(clock_boot_ns() < end);
			usleep(1000);
		}
}

static void wait_until_one_syncs(void)
{
	const int64_t end = clock_boot_ns() + DEADLINE_S * NS_PER_SEC;
	bool one = false;

	while (!one) {
		assert_true(clock_boot_ns() < end);
		usleep(1000);
		pthread_mutex_lock(&syncs.lock);
		one = syncs.begun;
		pthread_mutex_unlock(&syncs.lock);
	}
}

static void *sync_alone(void *arg)
{
	struct waiter *w = arg;

	w->result = volume_sync(w->f->v);
	return NULL;
}

/* A sync is under way when they come: it may miss what they wrote, so nobody is answered by it; one
 * more, or two if one of them was late, is enough for all: by durable_sync_only(), and by
 * db_sync(), which leaves the log alone when it has no new record. */
static void test_those_who_wait_share_the_next_sync(void **state)
{
	struct waiter w[WAITERS + 1] = { 0 };
	pthread_t threads[WAITERS + 1];
	struct content_fixture f;

	cf_init(&f);
	for (unsigned i = 0; i <= WAITERS; i++) {
		w[i].f = &f;
		w[i].object = cf_make(&f, 100, i);
	}
	shut(true);
	ok(pthread_create(&threads[WAITERS], NULL, sync_alone, &w[WAITERS]));
	wait_until_one_syncs();
	for (unsigned i = 0; i < WAITERS; i++)
		ok(pthread_create(&threads[i], NULL, commit_and_sync, &w[i]));
	wait_until_all_sleep(w);
	assert_int_equal(ended(), 0);
	shut(false);
	for (unsigned i = 0; i <= WAITERS; i++) {
		ok(pthread_join(threads[i], NULL));
		ok(w[i].result);
		assert_true(i == WAITERS || w[i].syncs >= 2);
	}
	assert_in_range(ended(), 2, 3);
	cf_done(&f);
}

/* --- what is dead --- */

static uint64_t blocks_of(struct content_fixture *f, uint64_t object)
{
	char path[512];
	struct stat st;

	cf_blob_path(f, object, path, sizeof(path));
	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* And some of the file system's own, on some. */
static void assert_takes(struct content_fixture *f, uint64_t object, uint64_t live)
{
	assert_in_range(blocks_of(f, object), live, live + 4 * BLOB_PAD);
}

/* Scattered, so that no cut of the file's end would do. */
static void test_a_blob_of_which_most_is_dead_takes_what_is_live(void **state)
{
	const uint64_t chunk = blob_bytes(CHUNK);
	struct content_fixture f;
	struct file *file;
	uint64_t object;

	cf_init(&f);
	object = cf_make(&f, CHUNKS * CHUNK, 1);
	ok(volume_sync(f.v));
	assert_true(blocks_of(&f, object) >= CHUNKS * chunk);
	file = cf_file(&f, object);
	for (unsigned i = 0; i < CHUNKS; i++)
		if (i % 16)
			ok(file_fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				(uint64_t)i * CHUNK, CHUNK));
	ok(file_commit(file));
	file_unref(file, true);
	ok(volume_sync(f.v));
	assert_takes(&f, object, CHUNKS / 16 * chunk);
	cf_done(&f);
}

/* What was rewritten again and again stands in the blob once. */
static void test_a_blob_rewritten_takes_one_copy(void **state)
{
	struct content_fixture f;
	uint64_t object;

	cf_init(&f);
	object = cf_make(&f, CHUNKS * CHUNK, 1);
	for (uint32_t i = 2; i < 5; i++)
		cf_rewrite(&f, object, CHUNKS * CHUNK, i);
	ok(volume_sync(f.v));
	assert_takes(&f, object, CHUNKS * blob_bytes(CHUNK));
	assert_true(cf_is(&f, object, CHUNKS * CHUNK, 4));
	cf_done(&f);
}

/* A pack keeps some blocks to write to, until room is needed. */
static void test_a_pack_of_which_most_is_dead_takes_what_is_live(void **state)
{
	uint64_t objects[160], live = 0;
	struct content_fixture f;
	struct object_row o;

	cf_init(&f);
	for (unsigned i = 0; i < ARRAY_SIZE(objects); i++)
		objects[i] = cf_make(&f, 5000, i);
	ok(db_begin(f.v->db));
	for (unsigned i = 0; i < ARRAY_SIZE(objects); i++) {
		if (i % 16 == 0) {
			live += blob_bytes(5000);
			continue;
		}
		ok(object_get(f.v->db, objects[i], &o));
		ok(gc_drop_map(f.v, o.map));
		ok(object_delete(f.v->db, o.id));
	}
	ok(db_commit(f.v->db));
	gc_run(f.v, true);
	ok(durable_reclaim(f.v));
	assert_takes(&f, objects[0], live);
	cf_done(&f);
}

/* --- what is only closed --- */

static struct content_fixture closed; /* from the beginning of all tests on */

static int close_one(void **state)
{
	cf_init(&closed);
	ok(volume_sync(closed.v));
	cf_make(&closed, 5000, 1);
	cf_make(&closed, 3 * CHUNK, 2);
	return 0;
}

static void test_what_is_only_closed_is_synced_by_and_by(void **state)
{
	const int64_t end = clock_boot_ns() + DEADLINE_S * NS_PER_SEC;

	while (durable_needed(closed.v)) {
		assert_true(clock_boot_ns() < end);
		usleep(10000);
	}
	cf_done(&closed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_those_who_wait_share_the_next_sync),
		cmocka_unit_test(test_a_blob_of_which_most_is_dead_takes_what_is_live),
		cmocka_unit_test(test_a_blob_rewritten_takes_one_copy),
		cmocka_unit_test(test_a_pack_of_which_most_is_dead_takes_what_is_live),
		cmocka_unit_test(test_what_is_only_closed_is_synced_by_and_by),
	};

	return cmocka_run_group_tests(tests, close_one, NULL);
}
