/*
 * Goal: a file is what a plain buffer is, whatever is done to it in whatever order: writes,
 * truncations, holes, commits, syncs, reopening. CACHET_SEED repeats a run, CACHET_STEPS makes it
 * longer.
 */
#include "content_fixture.h"

#define MODEL_MAX (1u << 20)
/* A little more than fits into a pack: files that grow out of it in all ways. */
#define MODEL_SMALL 90000u

struct model {
	struct content_fixture f;
	uint64_t object;
	struct file *file;
	uint8_t *bytes;
	size_t size, max; /* at most */
	uint64_t random;
	unsigned step;
};

static uint64_t next_random(struct model *m)
{
	m->random = m->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return m->random >> 33;
}

/* Near chunk and page edges more often than not. */
static size_t place(struct model *m, size_t max)
{
	size_t x = (size_t)(next_random(m) % (max + 1));

	switch (next_random(m) % 4) {
	case 0:
		x &= ~(size_t)16383;
		break;
	case 1:
		x = (x & ~(size_t)4095) + (size_t)(next_random(m) % 3);
		break;
	}
	return MIN_OF(x, max);
}

static void compare(struct model *m)
{
	uint8_t *buf = malloc(m->max);
	size_t off = place(m, m->size), got = 0, len = place(m, m->max - off);
	size_t want = MIN_OF(len, m->size - off);

	assert_non_null(buf);
	ok(file_read(m->file, buf, len, off, &got));
	if (got != want || memcmp(buf, m->bytes + off, want))
		fail_msg("step %u: read %zu at %zu differs", m->step, len, off);
	free(buf);
	assert_int_equal(file_size(m->file), m->size);
}

static void step_write(struct model *m)
{
	size_t off = place(m, m->max - 1), len = 1 + place(m, m->max - off - 1);

	if (next_random(m) % 3) {
		size_t short_len = 1 + next_random(m) % 9000;

		len = MIN_OF(len, short_len);
	}
	cf_pattern(m->bytes + off, len, off, m->step);
	if (off > m->size)
		memset(m->bytes + m->size, 0, off - m->size);
	m->size = MAX_OF(m->size, off + len);
	ok(file_write(m->file, m->bytes + off, len, off));
}

static void step_truncate(struct model *m)
{
	size_t size = next_random(m) % 8 ? place(m, m->max) : 0;

	if (size > m->size)
		memset(m->bytes + m->size, 0, size - m->size);
	m->size = size;
	ok(file_truncate(m->file, size));
}

static void step_punch(struct model *m)
{
	static const int modes[] = { FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0,
		FALLOC_FL_KEEP_SIZE };
	int mode = modes[next_random(m) % ARRAY_SIZE(modes)];
	size_t off = place(m, m->max - 1), len = 1 + place(m, m->max - off - 1);

	ok(file_fallocate(m->file, mode, off, len));
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE) && off < m->size)
		memset(m->bytes + off, 0, MIN_OF(off + len, m->size) - off);
	if (!(mode & FALLOC_FL_KEEP_SIZE) && off + len > m->size) {
		memset(m->bytes + m->size, 0, off + len - m->size);
		m->size = off + len;
	}
}

/* Data may be called a hole only where the model has zeros. */
static void step_seek(struct model *m)
{
	uint64_t hole, data;
	size_t off = place(m, m->max);

	if (off >= m->size) {
		assert_int_equal(file_seek(m->file, off, SEEK_HOLE, &hole), -ENXIO);
		return;
	}
	ok(file_seek(m->file, off, SEEK_HOLE, &hole));
	assert_true(hole >= off && hole <= m->size);
	if (file_seek(m->file, off, SEEK_DATA, &data) == -ENXIO)
		data = m->size;
	for (size_t i = off; i < data; i++)
		assert_int_equal(m->bytes[i], 0);
}

static void step_open(struct model *m)
{
	file_unref(m->file, true);
	if (next_random(m) % 4 == 0)
		cf_reopen(&m->f);
	if (next_random(m) % 2) {
		m->object = cf_object(&m->f);
		m->size = 0;
		m->max = next_random(m) % 2 ? MODEL_MAX : MODEL_SMALL;
		memset(m->bytes, 0, MODEL_MAX);
	}
	m->file = cf_file(&m->f, m->object);
}

static void step(struct model *m)
{
	switch (next_random(m) % 16) {
	case 0:
		step_truncate(m);
		break;
	case 1:
		step_punch(m);
		break;
	case 2:
		ok(file_commit(m->file));
		break;
	case 3:
		if (next_random(m) % 4 == 0)
			ok(file_sync(m->file));
		break;
	case 4:
		step_seek(m);
		break;
	case 5:
		if (next_random(m) % 4 == 0)
			step_open(m);
		break;
	case 6:
	case 7:
	case 8:
		compare(m);
		break;
	default:
		step_write(m);
	}
}

/* What is counted is what is there. */
static void assert_counted(struct content_fixture *f)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/blobs", f->dir);
	assert_int_equal(f->v->space.used, cf_du(path));
}

static void run_model(enum aead_alg alg)
{
	const char *seed = getenv("CACHET_SEED"), *steps = getenv("CACHET_STEPS");
	unsigned n = steps ? (unsigned)strtoul(steps, NULL, 0) : 3000;
	struct model m = { .bytes = calloc(1, MODEL_MAX), .max = MODEL_SMALL };

	m.random = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL);
	print_message("CACHET_SEED=%llu\n", (unsigned long long)m.random);
	cf_paths(&m.f);
	m.f.alg = alg;
	cf_create(&m.f);
	cf_open(&m.f);
	cf_store(&m.f);
	m.object = cf_object(&m.f);
	m.file = cf_file(&m.f, m.object);
	for (m.step = 1; m.step <= n; m.step++)
		step(&m);
	compare(&m);
	file_unref(m.file, true);
	ok(volume_sync(m.f.v));
	ok(volume_sync(m.f.v));
	assert_counted(&m.f);
	cf_reopen(&m.f); /* the current pack gives back what it had laid out ahead */
	assert_counted(&m.f);
	assert_int_equal(m.f.v->space.reserved, 0);
	assert_int_equal(atomic_load(&m.f.v->dirty_bytes), 0);
	cf_done(&m.f);
	free(m.bytes);
}

static void test_behaves_like_a_buffer_with_gcm(void **state)
{
	run_model(AEAD_AES256GCM);
}

static void test_behaves_like_a_buffer_with_xchacha(void **state)
{
	run_model(AEAD_XCHACHA20POLY1305);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_behaves_like_a_buffer_with_gcm),
		cmocka_unit_test(test_behaves_like_a_buffer_with_xchacha),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
