/* Goal: what is fetched of a large file is sealed without its lock: who reads what is here goes on
 * meanwhile, and whatever happens to the file before the lock is taken, content is right and no space
 * is lost. */
#include "content_fixture.h"

#include <sys/syscall.h>

#include "unit.h"

#define PIECE (UINT32_C(1) << BLOB_SHIFT_LARGE)
#define STEP (8 * PIECE)
#define SIZE (4 * STEP + 1000)
#define ETAG "\"v1\""

/* --- interposed: before the next write into a blob; that of number `failing` fails --- */

struct scene {
	struct content_fixture f;
	struct file *file;
	bool done;
};

typedef void callback(struct scene *s);

static callback *_Atomic before_write;
static struct scene *scene;
static atomic_uint failing;

ssize_t pwrite(int fd, const void *buf, size_t n, off_t off)
{
	callback *now;

	if (!unit_is_blob(fd))
		return syscall(SYS_pwrite64, fd, buf, n, off);
	now = atomic_exchange(&before_write, NULL);
	if (now) {
		now(scene);
		scene->done = true;
	}
	if (atomic_load(&failing) && atomic_fetch_sub(&failing, 1) == 1) {
		errno = EIO;
		return -1;
	}
	return syscall(SYS_pwrite64, fd, buf, n, off);
}

/* Its first part is here. */
static void begin(struct scene *s)
{
	*s = (struct scene){ .done = false };
	cf_init(&s->f);
	ok(file_open(s->f.v, cf_remote(&s->f, SIZE, ETAG), 0, false, &s->file));
	ok(cf_fill(s->file, ETAG, 0, STEP));
	scene = s;
}

static uint64_t units_taken(struct blob *b)
{
	uint64_t n;

	pthread_mutex_lock(&b->lock);
	n = b->n_taken;
	pthread_mutex_unlock(&b->lock);
	return n;
}

/* The units of what is here and no other are taken, and nothing is set aside any more. */
static void end(struct scene *s, uint64_t units)
{
	assert_null(before_write);
	assert_true(s->done);
	assert_int_equal(units_taken(s->file->blob), units);
	assert_int_equal(s->f.v->space.reserved, 0);
	file_unref(s->file, false);
	cf_done(&s->f);
}

static void fill_the_rest(struct scene *s)
{
	struct file_range range;

	for (;;) {
		ok(file_missing(s->file, 0, UINT64_MAX, STEP, &range));
		if (!range.len)
			break;
		ok(cf_fill(s->file, ETAG, range.off, range.len));
	}
	assert_true(cf_holds(s->file, SIZE, 0, 5));
}

static void read_what_is_here(struct scene *s)
{
	assert_true(cf_holds(s->file, STEP, 0, 5));
}

static void test_readers_go_on_while_it_is_sealed(void **state)
{
	struct scene s;

	begin(&s);
	before_write = read_what_is_here;
	ok(cf_fill(s.file, ETAG, STEP, STEP));
	assert_true(cf_holds(s.file, 2 * STEP, 0, 5));
	fill_the_rest(&s);
	end(&s, SIZE / BLOB_PAD + 1);
}

static void fill_the_same(struct scene *s)
{
	ok(cf_fill(s->file, ETAG, STEP + PIECE, STEP));
}

static void test_another_may_bring_a_part_of_it(void **state)
{
	struct scene s;

	begin(&s);
	before_write = fill_the_same;
	ok(cf_fill(s.file, ETAG, STEP, STEP));
	assert_int_equal(units_taken(s.file->blob), (2 * STEP + PIECE) / BLOB_PAD);
	fill_the_rest(&s);
	end(&s, SIZE / BLOB_PAD + 1);
}

static void cut_it(struct scene *s)
{
	ok(file_truncate(s->file, 0));
	cf_write(s->file, STEP + 100, 0, 9);
	ok(file_commit(s->file));
	ok(volume_sync(s->f.v));
}

static void test_it_may_be_written_anew(void **state)
{
	struct scene s;

	begin(&s);
	before_write = cut_it;
	ok(cf_fill(s.file, ETAG, STEP, STEP)); /* nothing is missing any more */
	assert_int_equal(file_size(s.file), STEP + 100);
	assert_true(cf_holds(s.file, STEP + 100, 0, 9));
	ok(volume_sync(s.f.v));
	end(&s, STEP / BLOB_PAD + 1);
}

static void evict_it(struct scene *s)
{
	uint64_t freed = 0;

	ok(volume_sync(s->f.v)); /* what was fetched since the last one is not clean yet */
	ok(file_evict(s->file, STEP, &freed));
	assert_int_equal(freed, STEP);
}

static void test_what_is_here_may_go(void **state)
{
	struct scene s;

	begin(&s);
	before_write = evict_it;
	ok(cf_fill(s.file, ETAG, STEP, STEP));
	assert_true(cf_holds(s.file, STEP, STEP, 5));
	ok(volume_sync(s.f.v));
	assert_int_equal(units_taken(s.file->blob), STEP / BLOB_PAD);
	fill_the_rest(&s);
	end(&s, SIZE / BLOB_PAD + 1);
}

static void rename_version(struct scene *s)
{
	struct content_map m;

	ok(db_begin(s->f.v->db));
	ok(content_map_get(s->f.v->db, s->file->map, &m));
	snprintf(m.etag.text, sizeof(m.etag.text), "\"v2\"");
	ok(content_map_update(s->f.v->db, &m));
	ok(db_commit(s->f.v->db));
}

static void test_of_another_version_it_is_refused(void **state)
{
	struct scene s;

	begin(&s);
	before_write = rename_version;
	assert_int_equal(cf_fill(s.file, ETAG, STEP, STEP), CE_STALE);
	assert_true(cf_holds(s.file, STEP, 0, 5));
	end(&s, STEP / BLOB_PAD);
}

static void nothing(struct scene *s)
{
}

/* Each write fails once: it is tried again under the lock. When that fails too it is told. */
static void test_a_write_that_fails_is_tried_once_more(void **state)
{
	struct scene s;

	for (unsigned n = 1; n <= 2; n++) {
		begin(&s);
		before_write = nothing;
		failing = n;
		ok(cf_fill(s.file, ETAG, STEP, SIZE - STEP));
		assert_int_equal(failing, 0);
		assert_true(cf_holds(s.file, SIZE, 0, 5));
		end(&s, SIZE / BLOB_PAD + 1);
	}
	begin(&s);
	before_write = nothing;
	assert_int_equal(cf_fill(s.file, ETAG, STEP + 1, STEP), -EINVAL);
	assert_int_equal(cf_fill(s.file, ETAG, STEP, 2 * SIZE), -EINVAL);
	ok(cf_fill(s.file, ETAG, STEP, STEP));
	end(&s, 2 * STEP / BLOB_PAD);
}

/* --- several at once --- */

#define ROUNDS 6

struct crowd {
	struct content_fixture f;
	struct file *file;
	atomic_bool stop;
	atomic_uint read;
};

/* Whatever is here is right. */
static void *read_all(void *arg)
{
	struct crowd *c = arg;
	uint8_t *buf = malloc(STEP), *want = malloc(STEP);
	unsigned random = (unsigned)(uintptr_t)buf;

	while (!atomic_load(&c->stop)) {
		uint64_t off = (uint64_t)rand_r(&random) % SIZE;
		size_t len = 1 + (size_t)rand_r(&random) % STEP, got = 0;
		int r = file_read(c->file, buf, len, off, &got);

		assert_true(!r || r == CE_ABSENT);
		cf_pattern(want, got, off, 5);
		assert_memory_equal(buf, want, got);
		atomic_fetch_add(&c->read, !r);
	}
	free(want);
	free(buf);
	return NULL;
}

static void *fetch_all(void *arg)
{
	struct crowd *c = arg;
	struct file_range range;

	while (!atomic_load(&c->stop)) {
		ok(file_missing(c->file, 0, UINT64_MAX, STEP / 2, &range));
		if (range.len)
			ok(cf_fill(c->file, ETAG, range.off, range.len));
	}
	return NULL;
}

static void test_fetching_reading_and_evicting_at_once(void **state)
{
	void *(*const work[])(void *) = { read_all, read_all, fetch_all, fetch_all };
	pthread_t threads[ARRAY_SIZE(work)];
	struct crowd c = { .read = 0 };
	struct file_range range;

	cf_init(&c.f);
	ok(file_open(c.f.v, cf_remote(&c.f, SIZE, ETAG), 0, false, &c.file));
	for (size_t i = 0; i < ARRAY_SIZE(work); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, work[i], &c), 0);
	for (unsigned i = 0; i < ROUNDS; i++) {
		unsigned read = atomic_load(&c.read);
		uint64_t freed;

		while (atomic_load(&c.read) < read + 50)
			usleep(1000);
		ok(volume_sync(c.f.v));
		ok(file_evict(c.file, (1 + i % 3) * STEP, &freed));
	}
	atomic_store(&c.stop, true);
	for (size_t i = 0; i < ARRAY_SIZE(work); i++)
		pthread_join(threads[i], NULL);
	do {
		ok(file_missing(c.file, 0, UINT64_MAX, UINT64_MAX, &range));
		if (range.len)
			ok(cf_fill(c.file, ETAG, range.off, range.len));
	} while (range.len);
	assert_true(cf_holds(c.file, SIZE, 0, 5));
	ok(volume_sync(c.f.v));
	assert_int_equal(units_taken(c.file->blob), SIZE / BLOB_PAD + 1);
	file_unref(c.file, false);
	cf_done(&c.f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_readers_go_on_while_it_is_sealed),
		cmocka_unit_test(test_another_may_bring_a_part_of_it),
		cmocka_unit_test(test_it_may_be_written_anew),
		cmocka_unit_test(test_what_is_here_may_go),
		cmocka_unit_test(test_of_another_version_it_is_refused),
		cmocka_unit_test(test_a_write_that_fails_is_tried_once_more),
		cmocka_unit_test(test_fetching_reading_and_evicting_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
