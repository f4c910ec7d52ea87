/*
 * Promise P8: unsent work survives the index. The index is removed, cut, changed or put back old at
 * random moments while two sides change a tree; what nobody sent must still reach the origin, what
 * was sent must not be sent as new. Then unsent.log itself is damaged.
 */
#include "local_ops.h"

#include "cache/blob.h"
#include "cache/unsent.h"
#include "cache/unsent_format.h"
#include "meta/redo.h"

#define RUNS 10 /* CACHET_TEST_RUNS: the last seed, CACHET_TEST_SEED: the first or only one */

static void path_of(const struct tree_fixture *f, const char *name, char out[static 256])
{
	snprintf(out, 256, "%s/%s", f->dir, name);
}

static size_t read_whole(const char *path, uint8_t **data)
{
	int fd = open(path, O_RDONLY);
	struct stat st;

	assert_true(fd >= 0);
	ok(fstat(fd, &st));
	*data = malloc((size_t)st.st_size + 1);
	assert_int_equal(read(fd, *data, (size_t)st.st_size), st.st_size);
	close(fd);
	return (size_t)st.st_size;
}

static void write_whole(const char *path, const uint8_t *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	close(fd);
}

static void flip(const char *path, size_t from, size_t to)
{
	uint8_t *data;
	size_t len = read_whole(path, &data);

	for (size_t i = from; i < MIN_OF(to, len); i++)
		data[i] ^= 0x40;
	write_whole(path, data, len);
	free(data);
}

static void remove_index(const struct tree_fixture *f)
{
	char path[256];

	path_of(f, DB_FILE, path);
	ok(unlink(path));
	path_of(f, DB_WAL_FILE, path);
	unlink(path);
	path_of(f, REDO_FILE, path); /* it has copies of frames: test_logged.c */
	unlink(path);
}

static void find_again(struct tree_fixture *f, const char *store)
{
	struct tree_attr a;

	/* Not known any more when nothing in it was unsent: the origin tells it. */
	ok(remote_store_add(f->v, store, false, &f->store));
	ok(tree_lookup(f->v, OBJECT_ROOT, store, &a));
	f->root = a.object;
}

static struct volume_status status_of(struct tree_fixture *f)
{
	struct volume_status s;

	ok(volume_status(f->v, &s));
	return s;
}

/* --- the property --- */

static int has_record(void *arg, const struct name_row *n, const struct object_row *o)
{
	*(bool *)arg |= n->rid.text[0] != 0;
	return 0;
}

/* What no origin can have stands in no journal, and is not in the log. */
static void forget_local_only(struct tree_fixture *f, struct origin_model *m, struct tokens *t)
{
	struct walk *w = walk_all(f);

	for (size_t k = 0; k < w->n; k++) {
		char text[OM_CONTENT];
		bool known = false;

		if (!S_ISREG(w->e[k].a.mode))
			continue;
		db_read(f->v->db);
		assert_true(name_each_of(f->v->db, w->e[k].a.object, has_record, &known) >= 0);
		db_unlock(f->v->db);
		if (known)
			continue;
		om_read(f, m, w->e[k].a.object, text);
		tokens_drop(t, text);
	}
	free(w);
}

static void lose(
	struct tree_fixture *f, struct origin_model *m, struct tokens *t, const char *store)
{
	char path[256];

	forget_local_only(f, m, t);
	volume_close(f->v);
	path_of(f, DB_FILE, path);
	switch (om_rand(m) % 3) {
	case 0:
		remove_index(f);
		break;
	case 1:
		flip(path, 0, 4096);
		break;
	default:
		ok(truncate(path, 100));
	}
	tf_open(f);
	assert_true(status_of(f).index_lost);
	assert_int_equal(status_of(f).restored_damaged, 0);
	find_again(f, store);
}

static void list_again(struct tree_fixture *f, struct origin_model *m, uint64_t *cursor)
{
	struct remote_report report;

	*cursor = 0;
	ok(remote_listing_begin(f->v, f->store));
	om_pull(f, m, cursor, 7);
	ok(remote_listing_end(f->v, f->store, false, &report));
}

static void nothing_is_lost(
	struct tree_fixture *f, struct origin_model *m, const struct tokens *t, uint64_t seed)
{
	char(*have)[OM_CONTENT] = calloc(512, OM_CONTENT);
	struct walk *w = walk_all(f);

	assert_non_null(have);
	for (size_t k = 0; k < w->n; k++)
		if (S_ISREG(w->e[k].a.mode))
			om_read(f, m, w->e[k].a.object, have[k]);
	for (size_t i = 0; i < t->n; i++) {
		bool found = false;

		for (size_t k = 0; k < w->n && !found; k++)
			found = !strcmp(have[k], t->word[i]);
		if (!found)
			print_error(
				"seed %llu: %s is lost\n", (unsigned long long)seed, t->word[i]);
		assert_true(found);
	}
	free(w);
	free(have);
}

static void one_run(uint64_t seed)
{
	struct tree_fixture f;
	struct origin_model *m = om_new(seed);
	struct tokens t = { 0 };
	uint64_t cursor = 0;
	int steps = 5 + (int)(om_rand(m) % 60);
	unsigned eager = (unsigned)(om_rand(m) % 40);

	m->lossy = om_rand(m) % 3 ? 0 : 30;
	tf_init(&f);
	for (int i = 0; i < steps; i++) {
		local_op(&f, m, &t);
		if (om_rand(m) % 100 < eager)
			om_push_once(&f, m, 1 + om_rand(m) % 8);
		if (om_rand(m) % 100 < eager)
			om_pull_once(&f, m, &cursor, 1 + om_rand(m) % 8);
		if (om_rand(m) % 20 == 0) {
			lose(&f, m, &t, "records");
			list_again(&f, m, &cursor);
		}
	}
	lose(&f, m, &t, "records");
	list_again(&f, m, &cursor);
	om_sync(&f, m, &cursor, 20);
	om_compare(&f, m);
	check_links(&f);
	nothing_is_lost(&f, m, &t, seed);
	free(t.word);
	om_free(m);
	tf_done(&f);
}

static void unsent_work_outlives_the_index(void **state)
{
	const char *only = getenv("CACHET_TEST_SEED");
	const char *runs = getenv("CACHET_TEST_RUNS");
	uint64_t first = only ? strtoull(only, NULL, 10) : 1,
		 last = runs ? strtoull(runs, NULL, 10) : RUNS;

	if (only && !runs)
		last = first;
	for (uint64_t seed = first; seed <= last; seed++) {
		if (getenv("CACHET_TEST_VERBOSE"))
			print_message("seed %llu\n", (unsigned long long)seed);
		one_run(seed);
	}
}

/* --- the log damaged --- */

static void read_text(struct tree_fixture *f, const char *path, char *out, size_t max)
{
	struct tree_attr a = tf_attr(f, path);
	struct file *file;
	size_t got = 0;

	memset(out, 0, max);
	ok(file_open(f->v, a.object, a.version, false, &file));
	ok(file_read(file, out, max - 1, 0, &got));
	file_unref(file, false);
}

static void assert_text(struct tree_fixture *f, const char *path, const char *text)
{
	char have[128];

	read_text(f, path, have, sizeof(have));
	assert_string_equal(have, text);
}

/* The log is there as a kill would leave it: three files, each of its own commits. */
static void three_files(struct tree_fixture *f)
{
	tf_init(f);
	ok(tf_mkdir(f, "dir"));
	ok(tf_write(f, "dir/one", "first"));
	ok(tf_write(f, "two", "second"));
	ok(tf_write(f, "three", "third"));
	volume_close(f->v);
	f->v = NULL;
}

static size_t log_of(struct tree_fixture *f, uint8_t **data)
{
	char path[256];

	path_of(f, UNSENT_FILE, path);
	return read_whole(path, data);
}

static void put_log(struct tree_fixture *f, const uint8_t *data, size_t len)
{
	char path[256];

	path_of(f, UNSENT_FILE, path);
	write_whole(path, data, len);
}

static size_t log_end(const uint8_t *data, size_t len)
{
	while (len && !data[len - 1])
		len--;
	return len;
}

static void reopen_listed(struct tree_fixture *f)
{
	struct remote_report report;

	tf_open(f);
	find_again(f, "records");
	ok(remote_listing_begin(f->v, f->store));
	ok(remote_listing_end(f->v, f->store, false, &report));
}

static void a_place_and_content_are_back(void **state)
{
	struct tree_fixture f;
	struct outbox_counts n;

	three_files(&f);
	remove_index(&f);
	reopen_listed(&f);
	assert_int_equal(status_of(&f).restored, 4);
	assert_false(status_of(&f).log_damaged);
	assert_text(&f, "dir/one", "first");
	assert_text(&f, "two", "second");
	assert_text(&f, "three", "third");
	ok(outbox_counts(f.v, &n));
	assert_int_equal(n.queued, 4);
	tf_done(&f);
}

/* Two names of one file, one of them in a directory, are one file again. */
static void names_of_one_file_are_of_one_file_again(void **state)
{
	struct tree_fixture f;

	tf_init(&f);
	ok(tf_mkdir(&f, "dir"));
	ok(tf_write(&f, "one", "first"));
	ok(tf_link(&f, "one", "dir/two"));
	ok(tf_write(&f, "dir/two", "second"));
	volume_close(f.v);
	remove_index(&f);
	reopen_listed(&f);
	assert_int_equal(tf_at(&f, "one"), tf_at(&f, "dir/two"));
	assert_int_equal(tf_attr(&f, "one").nlink, 2);
	assert_text(&f, "one", "second");
	assert_text(&f, "dir/two", "second");
	tf_done(&f);
}

/* What no origin is told of is not in the log (docs/format-unsent.md); nothing else goes with it.
 */
static void what_no_origin_sees_goes_with_the_index(void **state)
{
	struct tree_fixture f;
	struct tree_attr a;
	void *value = NULL;
	size_t len;

	tf_init(&f);
	ok(tf_write(&f, "file", "text"));
	ok(tree_setxattr(f.v, tf_at(&f, "file"), "user.a", "1", 1, 0));
	ok(tf_create(&f, "not \xff text"));
	ok(tree_mknod(f.v, f.root, "fifo", S_IFIFO | 0600, 0, &tf_cred, &a));
	volume_close(f.v);
	remove_index(&f);
	reopen_listed(&f);
	assert_int_equal(status_of(&f).restored_damaged, 0);
	assert_text(&f, "file", "text");
	assert_int_equal(tree_getxattr(f.v, tf_at(&f, "file"), "user.a", &value, &len), -ENODATA);
	assert_int_equal(tf_at(&f, "not \xff text"), 0);
	assert_int_equal(tf_at(&f, "fifo"), 0);
	tf_done(&f);
}

static void numbers_are_not_given_twice(void **state)
{
	struct tree_fixture f;
	uint64_t before, after;

	tf_init(&f);
	ok(tf_write(&f, "gone", "x"));
	ok(tf_write(&f, "kept", "x"));
	for (int i = 0; i < 5; i++)
		ok(tf_mkdir(&f, "d")), ok(tf_rmdir(&f, "d"));
	ok(volume_last_seq(f.v, &before));
	volume_close(f.v);
	remove_index(&f);
	tf_open(&f);
	ok(volume_last_seq(f.v, &after));
	assert_true(after >= before);
	tf_done(&f);
}

/* Cut anywhere in its last frame, only what that frame said is missing. */
static void a_torn_tail_costs_the_last_frame(void **state)
{
	struct tree_fixture f;
	uint8_t *data;
	size_t len, end;

	tf_init(&f);
	ok(tf_write(&f, "two", "second"));
	volume_close(f.v);
	tf_open(&f); /* one frame for all there is */
	find_again(&f, "records");
	ok(tf_create(&f, "three"));
	len = log_of(&f, &data);
	end = log_end(data, len);
	volume_close(f.v);
	f.v = NULL;
	for (size_t cut = 1; cut < 200; cut += 40) {
		put_log(&f, data, end - cut);
		remove_index(&f);
		reopen_listed(&f);
		assert_false(status_of(&f).log_damaged);
		assert_text(&f, "two", "second");
		assert_int_equal(tf_at(&f, "three"), 0);
		volume_close(f.v);
	}
	f.v = NULL;
	free(data);
	tf_done(&f);
}

/* One byte of the log changed: it says so, unless nothing whole stands behind; what does not open
 * is not made up. False: the log is not that long. */
static bool change_at(size_t at)
{
	const struct volume_options o = { .uid = 1000, .gid = 1000 };
	struct volume_options with = o;
	struct tree_fixture f;
	char *error = NULL;
	uint8_t *data;
	size_t len, end;

	three_files(&f);
	len = log_of(&f, &data);
	end = log_end(data, len);
	if (at < end) {
		data[at] ^= 1;
		put_log(&f, data, len);
		remove_index(&f);
		with.dir = f.dir;
		with.key_source = f.source;
		if (volume_open(&with, &f.v, &error)) {
			/* The first frame, which tells the origin: nothing was touched. */
			assert_true(at < UNSENT_HEADER_LEN + 512);
			data[at] ^= 1;
			put_log(&f, data, len);
			tf_open(&f);
			assert_int_equal(status_of(&f).restored, 4);
		} else {
			struct volume_status s = status_of(&f);

			assert_true(s.log_damaged || s.restored == 4 || at + 1024 > end);
			assert_int_equal(s.restored_damaged, 0);
		}
	}
	free(error);
	free(data);
	tf_done(&f);
	return at < end;
}

static void a_changed_byte_is_reported(void **state)
{
	for (size_t at = UNSENT_HEADER_LEN + 20; change_at(at); at += 5 * UNSENT_ALIGN)
		;
}

static void without_a_log_nothing_is_touched(void **state)
{
	struct tree_fixture f;
	struct volume_options o = { 0 };
	char path[256], *error = NULL;

	three_files(&f);
	path_of(&f, UNSENT_FILE, path);
	ok(unlink(path));
	remove_index(&f);
	o.dir = f.dir;
	o.key_source = f.source;
	assert_int_equal(volume_open(&o, &f.v, &error), -ENOENT);
	assert_non_null(strstr(error, "missing"));
	free(error);
	path_of(&f, "quarantine", path);
	assert_int_equal(rmdir(path), 0); /* empty */
	f.v = NULL;
	tf_done(&f);
}

static void a_lost_log_is_made_anew_from_the_index(void **state)
{
	struct tree_fixture f;
	char path[256];

	three_files(&f);
	path_of(&f, UNSENT_FILE, path);
	ok(unlink(path));
	tf_open(&f);
	assert_false(status_of(&f).index_lost);
	volume_close(f.v);
	remove_index(&f);
	reopen_listed(&f);
	assert_text(&f, "dir/one", "first");
	tf_done(&f);
}

/* An old copy of the index beside the log of today. */
static void an_old_index_is_not_believed(void **state)
{
	struct tree_fixture f;
	char path[256];
	uint8_t *old;
	size_t len;

	tf_init(&f);
	ok(tf_write(&f, "one", "old"));
	volume_close(f.v);
	path_of(&f, DB_FILE, path);
	len = read_whole(path, &old);
	tf_open(&f);
	find_again(&f, "records");
	ok(tf_write(&f, "one", "new"));
	ok(tf_write(&f, "two", "more"));
	volume_close(f.v);
	write_whole(path, old, len);
	free(old);
	path_of(&f, DB_WAL_FILE, path);
	unlink(path);
	path_of(&f, REDO_FILE, path); /* with it the old index would be brought up to date */
	unlink(path);
	reopen_listed(&f);
	assert_true(status_of(&f).index_lost);
	assert_text(&f, "one", "new");
	assert_text(&f, "two", "more");
	tf_done(&f);
}

/* What of the redo log has records. */
static size_t redo_end(const struct tree_fixture *f)
{
	char path[256];
	uint8_t *data;
	size_t len;

	path_of(f, REDO_FILE, path);
	len = read_whole(path, &data);
	while (len && !data[len - 1])
		len--;
	free(data);
	return len;
}

/* Synced work, in a record of the redo log that is damaged then. */
static void write_and_die(struct tree_fixture *f)
{
	static const char *const texts[] = { "old", "new", "newer" };
	char path[256];
	size_t ends[3];

	tf_open(f);
	find_again(f, "records");
	for (int i = 0; i < 3; i++) {
		ok(tf_write(f, "one", texts[i]));
		ok(volume_sync(f->v));
		ends[i] = redo_end(f);
	}
	path_of(f, REDO_FILE, path);
	flip(path, (ends[0] + ends[1]) / 2, ends[1]);
	kill(getpid(), SIGKILL);
}

/* Opens the index alone, and dies before anything follows from what that found. */
static void open_and_die(struct tree_fixture *f, const struct secret *key)
{
	const struct db_options o = { .dir = f->dir, .key = key, .log_bytes = 1 << 20 };
	struct db_recovery rec;
	struct db *db;

	if (db_open(&o, &db, &rec) || !rec.durable_lost)
		_exit(1);
	kill(getpid(), SIGKILL);
}

static void wait_for_kill(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* The opening that finds synced work gone strikes the damage out. Killed then, the next must know.
 */
static void a_loss_is_not_forgotten_by_a_kill(void **state)
{
	struct secret *key = NULL;
	struct tree_fixture f;
	pid_t pid;

	tf_init(&f);
	ok(keyring_get(f.v->keyring, KEYRING_PURPOSE_INDEX, "", &key));
	volume_close(f.v);
	pid = fork();
	if (!pid)
		write_and_die(&f);
	wait_for_kill(pid);
	pid = fork();
	if (!pid)
		open_and_die(&f, key);
	wait_for_kill(pid);
	reopen_listed(&f);
	assert_true(status_of(&f).index_lost);
	assert_text(&f, "one", "newer");
	tf_reopen(&f);
	assert_false(status_of(&f).index_lost);
	secret_free(key);
	tf_done(&f);
}

/* An old copy of the log beside the index of today: the index is right, and the log is made anew.
 */
static void an_old_log_changes_nothing(void **state)
{
	struct tree_fixture f;
	uint8_t *old;
	size_t len;

	tf_init(&f);
	ok(tf_write(&f, "one", "old"));
	volume_close(f.v);
	f.v = NULL;
	len = log_of(&f, &old);
	tf_open(&f);
	find_again(&f, "records");
	ok(tf_write(&f, "one", "new"));
	volume_close(f.v);
	put_log(&f, old, len);
	free(old);
	tf_open(&f);
	find_again(&f, "records");
	assert_false(status_of(&f).index_lost);
	assert_text(&f, "one", "new");
	volume_close(f.v);
	remove_index(&f);
	reopen_listed(&f);
	assert_text(&f, "one", "new");
	tf_done(&f);
}

/* A large file is told once; then only what changes. */
static void changes_of_a_large_file_are_small(void **state)
{
	const size_t chunk = 1 << BLOB_SHIFT_LARGE, chunks = 40;
	uint8_t *data = calloc(chunks, chunk), *have = calloc(chunks, chunk);
	struct tree_fixture f;
	struct file *file;
	struct tree_attr a;
	size_t got = 0, before, after;
	uint8_t *log;

	assert_non_null(data);
	assert_non_null(have);
	tf_init(&f);
	ok(tf_create(&f, "large"));
	a = tf_attr(&f, "large");
	ok(file_open(f.v, a.object, a.version, true, &file));
	for (size_t i = 0; i < chunks * chunk; i++)
		data[i] = (uint8_t)(i >> 8);
	ok(file_write(file, data, chunks * chunk, 0));
	ok(file_commit(file));
	before = log_end(log, log_of(&f, &log));
	free(log);
	for (unsigned i = 0; i < 10; i++) {
		memset(data + i * 3 * chunk + 5, (int)i, 100);
		ok(file_write(file, data + i * 3 * chunk + 5, 100, i * 3 * chunk + 5));
		ok(file_commit(file));
	}
	ok(file_truncate(file, chunks * chunk - chunk / 2));
	ok(file_commit(file));
	after = log_end(log, log_of(&f, &log));
	free(log);
	assert_true(after - before < 11 * 1024);
	file_unref(file, true);
	volume_close(f.v);
	remove_index(&f);
	reopen_listed(&f);
	a = tf_attr(&f, "large");
	assert_int_equal(a.size, chunks * chunk - chunk / 2);
	ok(file_open(f.v, a.object, a.version, false, &file));
	ok(file_read(file, have, chunks * chunk, 0, &got));
	assert_int_equal(got, a.size);
	assert_memory_equal(have, data, got);
	file_unref(file, false);
	free(data);
	free(have);
	tf_done(&f);
}

static int spoil_blob(const char *path, const struct stat *st, int type, struct FTW *at)
{
	if (type == FTW_F && strstr(path, "/blobs/")) {
		flip(path, 1, 2);
		return 1;
	}
	return 0;
}

/* One blob changed as well: its file is named and not sent, the others are. */
static void damaged_content_is_refused_and_named(void **state)
{
	struct tree_fixture f;
	struct outbox_counts n;

	three_files(&f);
	assert_int_equal(nftw(f.dir, spoil_blob, 16, FTW_PHYS), 1);
	remove_index(&f);
	reopen_listed(&f);
	assert_int_equal(status_of(&f).restored_damaged, 1);
	ok(outbox_counts(f.v, &n));
	assert_int_equal(n.refused, 1);
	assert_int_equal(n.queued, 3);
	tf_done(&f);
}

/* The log does not grow without bound while a file is saved again and again. */
static void the_log_stays_bounded(void **state)
{
	struct tree_fixture f;

	tf_init(&f);
	for (int i = 0; i < 4000; i++)
		ok(tf_write(&f, "same", i % 2 ? "a" : "b"));
	unsent_tidy(f.v);
	assert_true(unsent_bytes(f.v) < UINT64_C(1600) << 10); /* 5 MB were written */
	volume_close(f.v);
	remove_index(&f);
	reopen_listed(&f);
	assert_text(&f, "same", "a");
	tf_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unsent_work_outlives_the_index),
		cmocka_unit_test(a_place_and_content_are_back),
		cmocka_unit_test(names_of_one_file_are_of_one_file_again),
		cmocka_unit_test(what_no_origin_sees_goes_with_the_index),
		cmocka_unit_test(numbers_are_not_given_twice),
		cmocka_unit_test(a_torn_tail_costs_the_last_frame),
		cmocka_unit_test(a_changed_byte_is_reported),
		cmocka_unit_test(without_a_log_nothing_is_touched),
		cmocka_unit_test(a_lost_log_is_made_anew_from_the_index),
		cmocka_unit_test(an_old_index_is_not_believed),
		cmocka_unit_test(a_loss_is_not_forgotten_by_a_kill),
		cmocka_unit_test(an_old_log_changes_nothing),
		cmocka_unit_test(changes_of_a_large_file_are_small),
		cmocka_unit_test(damaged_content_is_refused_and_named),
		cmocka_unit_test(the_log_stays_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
