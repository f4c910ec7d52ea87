/* Goal: readers, writers, syncs and eviction at once: each file always reads as one of its writers
 * left it. Meant for the thread and address sanitizers. */
#include "content_fixture.h"

#define FILES 6
#define THREADS 4
#define LEN 100000u

struct shared {
	struct content_fixture f;
	uint64_t objects[FILES];
	atomic_bool stop;
};

/* Each write covers the whole file in one call, so that a reader sees one seed throughout. */
static bool one_seed(const uint8_t *buf, size_t len)
{
	for (size_t i = 1; i < len; i++) {
		if (buf[i] != buf[0])
			return false;
	}
	return true;
}

static void *work(void *arg)
{
	struct shared *s = arg;
	uint8_t *buf = malloc(LEN);
	unsigned random = (unsigned)(uintptr_t)buf ^ (unsigned)(uintptr_t)&random;
	size_t got;

	while (!atomic_load(&s->stop)) {
		struct file *file = cf_file(&s->f, s->objects[rand_r(&random) % FILES]);

		switch (rand_r(&random) % 6) {
		case 0:
		case 1:
			memset(buf, rand_r(&random), LEN);
			ok(file_write(file, buf, LEN, 0));
			break;
		case 2:
			ok(file_sync(file));
			break;
		case 3:
			ok(file_commit(file));
			break;
		default:
			ok(file_read(file, buf, LEN, 0, &got));
			assert_true(one_seed(buf, got));
		}
		file_unref(file, true);
	}
	free(buf);
	return NULL;
}

static void *fetch_and_evict(void *arg)
{
	struct shared *s = arg;
	uint8_t *buf = malloc(LEN);

	for (unsigned i = 0; !atomic_load(&s->stop); i++) {
		struct file *file = cf_file(&s->f, cf_remote(&s->f, LEN, "\"e\""));
		uint64_t freed;

		cf_pattern(buf, LEN, 0, i);
		ok(file_fill(file, "\"e\"", buf, LEN, 0));
		assert_true(cf_holds(file, LEN, 0, i));
		file_unref(file, true);
		if (i % 8 == 0)
			ok(space_evict(s->f.v, 1 << 20, &freed));
	}
	free(buf);
	return NULL;
}

static void test_threads_see_whole_writes(void **state)
{
	pthread_t threads[THREADS + 1];
	struct shared s = { .stop = false };
	uint8_t *buf = malloc(LEN);
	size_t got;

	cf_init(&s.f);
	for (unsigned i = 0; i < FILES; i++)
		s.objects[i] = cf_object(&s.f);
	for (unsigned i = 0; i < THREADS; i++)
		ok(pthread_create(&threads[i], NULL, work, &s));
	ok(pthread_create(&threads[THREADS], NULL, fetch_and_evict, &s));
	sleep(4);
	atomic_store(&s.stop, true);
	for (unsigned i = 0; i <= THREADS; i++)
		pthread_join(threads[i], NULL);
	cf_reopen(&s.f);
	for (unsigned i = 0; i < FILES; i++) {
		struct file *file = cf_file(&s.f, s.objects[i]);

		ok(file_read(file, buf, LEN, 0, &got));
		assert_true(one_seed(buf, got));
		file_unref(file, true);
	}
	assert_int_equal(atomic_load(&s.f.v->damaged), 0);
	free(buf);
	cf_done(&s.f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads_see_whole_writes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
