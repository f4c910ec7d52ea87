/* Goal: P11 with names. Rows and the WAL count as well as content: the WAL stays short whoever
 * writes, ENOSPC comes when nothing can go, and the limit holds at every instant while several
 * threads create, write, fetch, remove and evict. */
#include "tree_fixture.h"

#include <pthread.h>
#include <unistd.h>

#include "cache/blob.h"
#include "cache/file_priv.h"

#define LIMIT VOLUME_LIMIT_MIN_BYTES
#define WAL_BOUND (LIMIT / 8 + SPACE_ROWS_BYTES)
#define WRITERS 4
#define ROUNDS 400
#define SIZE_MAX_BYTES (200u << 10)

static void small(struct tree_fixture *f)
{
	struct volume_options o = { .dir = f->dir,
		.key_source = f->source,
		.uid = 1000,
		.gid = 1000,
		.host = "test",
		.limit_bytes = LIMIT };
	char *error = NULL;

	volume_close(f->v);
	ok(volume_open(&o, &f->v, &error));
}

static uint64_t du_sum;

static int du_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	du_sum += type == FTW_F ? (uint64_t)st->st_blocks * 512 : 0;
	return 0;
}

static uint64_t du(const char *path)
{
	du_sum = 0;
	nftw(path, du_one, 16, FTW_PHYS);
	return du_sum;
}

static int create(struct tree_fixture *f, const char *name, uint64_t *object)
{
	struct tree_attr a;
	int r = tree_mknod(f->v, f->root, name, S_IFREG | 0600, 0, &tf_cred, &a);

	if (!r)
		*object = a.object;
	return r;
}

static int put(struct tree_fixture *f, uint64_t object, size_t len, uint8_t fill)
{
	uint8_t *buf = malloc(len + 1);
	struct file *file;
	int r;

	assert_non_null(buf);
	memset(buf, fill, len);
	r = file_open(f->v, object, 1, true, &file);
	if (!r) {
		r = file_write(file, buf, len, 0);
		if (!r)
			r = file_commit(file);
		file_unref(file, true);
	}
	free(buf);
	return r;
}

static void test_many_empty_files_do_not_fill_the_volume(void **state)
{
	struct tree_fixture *f = *state;
	uint64_t object, wal_max = 0;
	char name[32];

	small(f);
	for (unsigned i = 0; i < 4000; i++) {
		snprintf(name, sizeof(name), "file-%u", i);
		ok(create(f, name, &object));
		wal_max = wal_max > db_wal_bytes(f->v->db) ? wal_max : db_wal_bytes(f->v->db);
	}
	assert_true(wal_max <= WAL_BOUND);
	assert_true(du(f->dir) <= LIMIT);
}

static void test_many_small_files_fill_it_with_what_they_take(void **state)
{
	struct tree_fixture *f = *state;
	uint64_t object = 0;
	unsigned n = 0;
	char name[32];
	int r = 0;

	small(f);
	for (; !r; n++) {
		assert_true(n < LIMIT / BLOB_PAD);
		snprintf(name, sizeof(name), "file-%u", n);
		r = create(f, name, &object);
		if (!r)
			r = put(f, object, 1000, (uint8_t)n);
	}
	assert_int_equal(r, -ENOSPC);
	assert_true(n > (LIMIT - (8u << 20)) / (2 * BLOB_PAD));
	assert_true(du(f->dir) <= LIMIT);
	for (unsigned i = 0; i < n / 2; i++) {
		snprintf(name, sizeof(name), "file-%u", i);
		ok(tree_unlink(f->v, f->root, name));
	}
	for (unsigned i = 0; i < n / 4; i++) {
		snprintf(name, sizeof(name), "file-%u", i);
		ok(create(f, name, &object));
		ok(put(f, object, 1000, (uint8_t)i));
	}
	assert_true(du(f->dir) <= LIMIT);
}

static void test_a_short_volume_lets_names_be_changed_and_removed(void **state)
{
	struct tree_fixture *f = *state;
	struct tree_attr a = { .mode = 0400 };
	uint64_t object = 0, big = 0;
	int r = 0;

	small(f);
	ok(create(f, "small", &object));
	ok(create(f, "big", &big));
	for (size_t len = 8u << 20; len >= BLOB_PAD; len /= 2) {
		struct file *file;
		uint8_t *buf = calloc(1, len);

		ok(file_open(f->v, big, 1, true, &file));
		for (r = 0; !r;) {
			struct tree_attr now;

			ok(file_commit(file));
			ok(tree_getattr(f->v, big, 1, &now));
			r = file_write(file, buf, len, now.size);
		}
		assert_int_equal(r, -ENOSPC);
		file_unref(file, true);
		free(buf);
	}
	assert_int_equal(tree_mknod(f->v, f->root, "no", S_IFREG | 0600, 0, &tf_cred, &a), -ENOSPC);
	ok(tree_rename(f->v, f->root, "small", f->root, "other", 0));
	ok(tree_unlink(f->v, f->root, "other"));
	ok(tree_unlink(f->v, f->root, "big"));
	ok(create(f, "again", &object));
	ok(put(f, object, 8u << 20, 1));
	assert_true(du(f->dir) <= LIMIT);
}

/* --- several at once --- */

struct writer {
	struct tree_fixture *f;
	unsigned number, made, full;
	int result;
};

static atomic_uint running;

/* Clean content, which may go. */
static int fetch(struct tree_fixture *f, uint32_t size)
{
	struct object_row o = {
		.store = f->store, .mode = S_IFREG | 0644, .nlink = 1, .size = size
	};
	struct content_map m = { .size = size, .etag = { "\"1\"" } };
	uint8_t *buf = calloc(1, size);
	struct file *file;
	int r = db_begin(f->v->db);

	if (!r) {
		r = object_insert(f->v->db, &o, NULL, 0);
		m.object = o.id;
		if (!r)
			r = content_map_insert(f->v->db, &m);
		o.map = m.id;
		if (!r)
			r = object_update(f->v->db, &o);
		if (r)
			db_rollback(f->v->db);
		else
			r = db_commit(f->v->db);
	}
	if (!r)
		r = file_open(f->v, o.id, 0, true, &file);
	if (!r) {
		r = file_fill(file, "\"1\"", buf, size, 0);
		file_unref(file, true);
	}
	free(buf);
	return r;
}

static int unlink_half(struct writer *w, unsigned from, unsigned to)
{
	char name[32];
	int r = 0;

	for (unsigned i = from; i < to && !r; i += 2) {
		snprintf(name, sizeof(name), "w%u-%u", w->number, i);
		r = tree_unlink(w->f->v, w->f->root, name);
		if (r == -ENOENT)
			r = 0;
	}
	return r;
}

static int step(struct writer *w, unsigned i)
{
	uint64_t object;
	char name[32];
	int r;

	if (i % 5 == w->number % 5)
		return fetch(w->f, 1 + i * 7919 % SIZE_MAX_BYTES);
	snprintf(name, sizeof(name), "w%u-%u", w->number, i);
	r = create(w->f, name, &object);
	if (!r)
		r = put(w->f, object, i * 104729 % SIZE_MAX_BYTES + 1, (uint8_t)i);
	if (!r && i % 16 == 0)
		r = i % 32 ? volume_sync(w->f->v) : durable_checkpoint(w->f->v, 0);
	return r;
}

static void *write_files(void *arg)
{
	struct writer *w = arg;
	unsigned kept = 0;
	int r = 0;

	for (unsigned i = 0; i < ROUNDS && !r; i++) {
		r = step(w, i);
		if (r == -ENOSPC) {
			w->full++;
			r = unlink_half(w, kept, i + 1);
			kept = w->full % 2 ? kept : i / 2;
		} else if (!r) {
			w->made++;
		}
	}
	w->result = r;
	atomic_fetch_sub(&running, 1);
	return NULL;
}

static void test_the_limit_holds_while_four_write(void **state)
{
	struct tree_fixture *f = *state;
	struct writer w[WRITERS];
	pthread_t threads[WRITERS];
	uint64_t most = 0;
	unsigned full = 0;

	small(f);
	atomic_store(&running, WRITERS);
	for (unsigned i = 0; i < WRITERS; i++) {
		w[i] = (struct writer){ .f = f, .number = i };
		ok(pthread_create(&threads[i], NULL, write_files, &w[i]));
	}
	while (atomic_load(&running)) {
		uint64_t now = du(f->dir);

		most = most > now ? most : now;
		usleep(1000);
	}
	for (unsigned i = 0; i < WRITERS; i++) {
		pthread_join(threads[i], NULL);
		ok(w[i].result);
		assert_true(w[i].made > 50);
		full += w[i].full;
	}
	print_message("most %llu of %llu, full %u times\n", (unsigned long long)most,
		(unsigned long long)LIMIT, full);
	assert_true(full > 0);
	assert_true(most <= LIMIT);
	assert_true(most > LIMIT / 2);
	assert_int_equal(f->v->space.reserved, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tf_test(test_many_empty_files_do_not_fill_the_volume),
		tf_test(test_many_small_files_fill_it_with_what_they_take),
		tf_test(test_a_short_volume_lets_names_be_changed_and_removed),
		tf_test(test_the_limit_holds_while_four_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
