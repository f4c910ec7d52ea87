/* Goal: making, opening and closing a volume: each thing that can be wrong is one clear error, and
 * nothing is deleted. */
#include "content_fixture.h"

#include "cache/setup_priv.h"

/* Opens and expects `code` and a sentence that has `words`. */
static void refuses(struct content_fixture *f, int code, const char *words)
{
	const struct volume_options o = {
		.dir = f->dir, .key_source = f->source, .limit_bytes = f->limit
	};
	struct volume *v = NULL;
	char *error = NULL;
	int r = volume_open(&o, &v, &error);

	if (r != code || !error || !strstr(error, words))
		fail_msg("%d (%s): %s", r, error_text(r), error ? error : "no sentence");
	assert_null(v);
	free(error);
}

static void path_in(struct content_fixture *f, const char *name, char path[256])
{
	snprintf(path, 256, "%s/%s", f->dir, name);
}

static void damage(struct content_fixture *f, const char *name, off_t at)
{
	char path[256];
	uint8_t b;
	int fd;

	path_in(f, name, path);
	fd = open(path, O_RDWR);
	assert_int_equal(pread(fd, &b, 1, at), 1);
	b ^= 0x55;
	assert_int_equal(pwrite(fd, &b, 1, at), 1);
	close(fd);
}

static void test_settings_come_back(void **state)
{
	struct content_fixture f;
	struct secret *token, *got = NULL;
	char *origin = NULL, *store = NULL, *error = NULL, id[33];
	struct volume_create_options o;

	cf_paths(&f);
	ok(secret_new_copy("s3cret", 6, &token));
	o = (struct volume_create_options){ .dir = f.dir,
		.key_source = f.source,
		.origin = "https://records.example/a",
		.token = token,
		.store = "notes" };
	ok(volume_create(&o, &error));
	cf_open(&f);
	ok(volume_origin(f.v, &origin));
	ok(volume_token(f.v, &got));
	ok(volume_only_store(f.v, &store));
	assert_string_equal(origin, "https://records.example/a");
	assert_string_equal(store, "notes");
	assert_true(secret_equal(token, got));
	assert_false(f.v->unclean);
	snprintf(id, sizeof(id), "%s", volume_device_id(f.v));
	assert_int_equal(strlen(id), 32);
	cf_reopen(&f);
	assert_string_equal(volume_device_id(f.v), id);
	assert_false(f.v->unclean);
	secret_free(token);
	secret_free(got);
	free(origin);
	free(store);
	cf_done(&f);
}

static void test_volume_without_token_has_none(void **state)
{
	struct content_fixture f;
	struct secret *token = (void *)1;
	char *store = (void *)1;

	cf_init(&f);
	ok(volume_token(f.v, &token));
	assert_null(token);
	ok(volume_only_store(f.v, &store));
	assert_null(store);
	cf_done(&f);
}

static void test_no_volume_there(void **state)
{
	struct content_fixture f;

	cf_paths(&f);
	refuses(&f, -ENOENT, "no volume here");
	ok(mkdir(f.dir, 0700));
	refuses(&f, -ENOENT, "no volume here");
	cf_done(&f);
}

static void test_second_opener_is_refused(void **state)
{
	struct content_fixture f;

	cf_init(&f);
	refuses(&f, CE_INUSE, "another process");
	cf_done(&f);
}

static void test_wrong_key_deletes_nothing(void **state)
{
	struct content_fixture f;
	char other[100], keep[160];
	uint64_t object;
	struct file *file;
	int fd;

	cf_init(&f);
	object = cf_object(&f);
	file = cf_file(&f, object);
	cf_write(file, 1000, 0, 1);
	ok(file_commit(file));
	file_unref(file, true);
	cf_close(&f);
	snprintf(other, sizeof(other), "%.60s/other", f.top);
	fd = open(other, O_WRONLY | O_CREAT, 0600);
	for (int i = 0; i < 8; i++)
		assert_int_equal(write(fd, "0123abcd", 8), 8);
	close(fd);
	memcpy(keep, f.source, sizeof(keep));
	snprintf(f.source, sizeof(f.source), "file:%s", other);
	refuses(&f, CE_WRONG_KEY, "does not open this volume");
	memcpy(f.source, keep, sizeof(keep));
	cf_open(&f);
	file = cf_file(&f, object);
	assert_true(cf_holds(file, 1000, 0, 1));
	file_unref(file, true);
	cf_done(&f);
}

static void test_damaged_keyring_is_named(void **state)
{
	struct content_fixture f;
	char path[256], kept[260];

	cf_init(&f);
	cf_close(&f);
	damage(&f, KEYRING_FILE, 0);
	refuses(&f, CE_FORMAT, "is damaged");
	damage(&f, KEYRING_FILE, 0);
	path_in(&f, KEYRING_FILE, path);
	snprintf(kept, sizeof(kept), "%s.k", path);
	ok(rename(path, kept));
	refuses(&f, -ENOENT, "no volume here");
	ok(rename(kept, path));
	cf_open(&f);
	cf_done(&f);
}

static void test_damaged_index_is_named_and_kept(void **state)
{
	struct content_fixture f;
	char path[256], log[256];
	struct stat before, after;

	cf_init(&f);
	cf_close(&f);
	path_in(&f, DB_FILE, path);
	ok(stat(path, &before));
	for (off_t at = 100; at < before.st_size; at += 4096)
		damage(&f, DB_FILE, at);
	path_in(&f, "unsent.log", log);
	ok(unlink(log)); /* or the index would be made anew: test_unsent.c */
	refuses(&f, CE_TAMPER, "damaged");
	ok(stat(path, &after));
	assert_int_equal(before.st_size, after.st_size);
	for (off_t at = 100; at < before.st_size; at += 4096)
		damage(&f, DB_FILE, at);
	cf_open(&f);
	cf_done(&f);
}

static void test_limit_has_a_minimum(void **state)
{
	struct content_fixture f;

	cf_init(&f);
	cf_close(&f);
	f.limit = VOLUME_LIMIT_MIN_BYTES - 1;
	refuses(&f, CE_USAGE, "limit");
	cf_done(&f);
}

static int create(struct content_fixture *f)
{
	const struct volume_create_options o = {
		.dir = f->dir, .key_source = f->source, .origin = "https://records.example/"
	};
	char *error = NULL;
	int r = volume_create(&o, &error);

	assert_true(!r == !error);
	free(error);
	return r;
}

static void test_directory_with_something_in_it_is_refused(void **state)
{
	struct content_fixture f;
	char path[256];

	cf_paths(&f);
	ok(mkdir(f.dir, 0700));
	path_in(&f, "thesis.txt", path);
	close(open(path, O_WRONLY | O_CREAT, 0600));
	assert_int_equal(create(&f), -EEXIST);
	ok(access(path, F_OK));
	ok(unlink(path));
	ok(create(&f));
	assert_int_equal(create(&f), -EEXIST);
	cf_open(&f);
	cf_done(&f);
}

/* The child is killed after a while; at whatever step, the directory is a volume or can be made
 * one. */
static void test_killed_creation_starts_over(void **state)
{
	struct content_fixture f;
	char marker[256];
	int status;

	for (unsigned us = 0; us < 30000; us += 1500) {
		pid_t pid;

		cf_paths(&f);
		path_in(&f, SETUP_MARKER, marker);
		pid = fork();
		if (!pid)
			_exit(create(&f) != 0);
		usleep(us);
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		if (!access(marker, F_OK))
			refuses(&f, CE_FORMAT, "interrupted");
		if (create(&f) == -EEXIST)
			assert_int_not_equal(access(marker, F_OK), 0);
		cf_open(&f);
		cf_done(&f);
	}
}

static void test_open_files_are_committed_by_close(void **state)
{
	struct content_fixture f;
	struct file *file;
	uint64_t object;

	cf_init(&f);
	object = cf_object(&f);
	file = cf_file(&f, object);
	cf_write(file, 100000, 0, 1);
	cf_reopen(&f);
	file = cf_file(&f, object);
	assert_true(cf_holds(file, 100000, 0, 1));
	file_unref(file, true);
	cf_done(&f);
}

/* P1 for blobs: content is nowhere in the volume. */
static int find_canary(const char *path, const struct stat *st, int type, struct FTW *at)
{
	static const char canary[] = "CANARY-in-the-clear";
	char *buf;
	int fd;

	if (type != FTW_F || !st->st_size)
		return 0;
	buf = malloc((size_t)st->st_size);
	fd = open(path, O_RDONLY);
	assert_int_equal(read(fd, buf, (size_t)st->st_size), st->st_size);
	close(fd);
	assert_null(memmem(buf, (size_t)st->st_size, canary, sizeof(canary) - 1));
	free(buf);
	return 0;
}

static void test_content_is_sealed(void **state)
{
	struct content_fixture f;
	struct file *file;

	cf_init(&f);
	file = cf_file(&f, cf_object(&f));
	for (unsigned i = 0; i < 20000; i++)
		ok(file_write(file, "CANARY-in-the-clear", 19, i * 19));
	nftw(f.top, find_canary, 16, FTW_PHYS);
	ok(file_sync(file));
	nftw(f.top, find_canary, 16, FTW_PHYS);
	file_unref(file, true);
	cf_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_settings_come_back),
		cmocka_unit_test(test_volume_without_token_has_none),
		cmocka_unit_test(test_no_volume_there),
		cmocka_unit_test(test_second_opener_is_refused),
		cmocka_unit_test(test_wrong_key_deletes_nothing),
		cmocka_unit_test(test_damaged_keyring_is_named),
		cmocka_unit_test(test_damaged_index_is_named_and_kept),
		cmocka_unit_test(test_limit_has_a_minimum),
		cmocka_unit_test(test_directory_with_something_in_it_is_refused),
		cmocka_unit_test(test_killed_creation_starts_over),
		cmocka_unit_test(test_open_files_are_committed_by_close),
		cmocka_unit_test(test_content_is_sealed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
