/*
 * One sync of the redo log makes the fsync of a small file durable (cache/logged.h). A child saves
 * files and is killed; then everything but the redo log is put back to what it was when the volume
 * was opened: a power cut that took all that was not synced. Attacks P2, and P8 when the index is
 * lost as well.
 */
#include <dlfcn.h>
#include <signal.h>
#include <sys/wait.h>

#include "local_ops.h"

#include "meta/db_priv.h"
#include "meta/redo.h"
#include "meta/schema.h"
#include "unit.h"

#define TEXT_MAX 40000

__attribute__((format(printf, 1, 2))) static void shell(const char *format, ...)
{
	char command[600];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	ok(system(command));
}

static void fill_text(char *text, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		text[i] = (char)('a' + (i * 7 + seed + i / 26) % 26);
}

static struct file *open_at(struct tree_fixture *f, const char *path)
{
	struct tree_attr a = tf_attr(f, path);
	struct file *file;

	ok(file_open(f->v, a.object, a.version, true, &file));
	return file;
}

static void write_synced(struct tree_fixture *f, const char *path, size_t len, unsigned seed)
{
	struct file *file = open_at(f, path);
	char text[TEXT_MAX];

	fill_text(text, len, seed);
	ok(file_write(file, text, len, 0));
	ok(file_sync(file));
	file_unref(file, true);
}

static void assert_holds(struct tree_fixture *f, const char *path, size_t len, unsigned seed)
{
	struct file *file = open_at(f, path);
	char text[TEXT_MAX], have[TEXT_MAX];
	size_t got = 0;

	fill_text(text, len, seed);
	ok(file_read(file, have, sizeof(have), 0, &got));
	assert_int_equal(got, len);
	assert_memory_equal(have, text, len);
	file_unref(file, true);
}

static void init_with_old(struct tree_fixture *f)
{
	tf_init(f);
	ok(tf_create(f, "old"));
	write_synced(f, "old", 4096, 9);
}

static bool older_schema; /* the index is as one of the schema before */

static void set_schema(struct db *db, int version)
{
	char sql[40];

	snprintf(sql, sizeof(sql), "PRAGMA user_version = %d", version);
	ok(db_begin(db));
	ok(db_exec(db, sql));
	ok(db_commit(db));
}

/* What was written after the opening is gone, of all files but index.redo. */
static void cut_power_after(struct tree_fixture *f, void (*work)(struct tree_fixture *f))
{
	char saved[128];
	int status;
	pid_t pid;

	snprintf(saved, sizeof(saved), "%s/saved", f->top);
	if (f->v)
		volume_close(f->v);
	f->v = NULL;
	pid = fork();
	if (!pid) {
		tf_open(f);
		tf_find_store(f);
		if (older_schema)
			set_schema(f->v->db, SCHEMA_VERSION - 1);
		ok(durable_checkpoint(f->v, 0)); /* what work() does first is first in the log */
		shell("cp -a %s %s", f->dir, saved);
		work(f);
		kill(getpid(), SIGKILL);
	}
	waitpid(pid, &status, 0);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	shell("cp %s/" REDO_FILE " %s/", f->dir, saved);
	shell("rm -r %s", f->dir);
}

static void reopen_after_cut(struct tree_fixture *f)
{
	char saved[128];

	snprintf(saved, sizeof(saved), "%s/saved", f->top);
	shell("mv %s %s", saved, f->dir);
	tf_open(f);
	tf_find_store(f);
}

static void save_files(struct tree_fixture *f)
{
	ok(tf_create(f, "new"));
	write_synced(f, "new", 5000, 1);
	write_synced(f, "old", 4096, 2);
	write_synced(f, "old", 8192, 3);
	ok(tf_create(f, "wide"));
	write_synced(f, "wide", 30000, 4);
}

static void assert_saved(struct tree_fixture *f)
{
	assert_holds(f, "new", 5000, 1);
	assert_holds(f, "old", 8192, 3);
	assert_holds(f, "wide", 30000, 4);
}

static void a_sync_of_the_log_keeps_small_files(void **state)
{
	struct tree_fixture f;

	init_with_old(&f);
	cut_power_after(&f, save_files);
	reopen_after_cut(&f);
	assert_saved(&f);
	tf_reopen(&f);
	tf_find_store(&f);
	assert_saved(&f);
	tf_done(&f);
}

/* What was only closed falls back to what was synced, although that is in the log alone. */
static void sync_then_close(struct tree_fixture *f)
{
	struct file *file;

	save_files(f);
	file = open_at(f, "old");
	ok(file_write(file, "closed", 6, 100));
	ok(file_commit(file));
	file_unref(file, true);
	write_synced(f, "new", 5000, 7);
}

static void what_was_only_closed_falls_back_to_the_log(void **state)
{
	struct tree_fixture f;

	init_with_old(&f);
	cut_power_after(&f, sync_then_close);
	reopen_after_cut(&f);
	assert_holds(&f, "old", 8192, 3);
	assert_holds(&f, "new", 5000, 7);
	tf_done(&f);
}

/* Saved as an editor does without fsync: the name never has less than the old or the new content.
 */
static void rename_over(struct tree_fixture *f)
{
	struct file *file;
	char text[TEXT_MAX];

	ok(tf_create(f, "tmp"));
	file = open_at(f, "tmp");
	fill_text(text, 6000, 5);
	ok(file_write(file, text, 6000, 0));
	ok(file_commit(file));
	file_unref(file, true);
	ok(tree_rename(f->v, f->root, "tmp", f->root, "old", 0));
	ok(tf_create(f, "other"));
	write_synced(f, "other", 10, 6);
}

static void a_rename_brings_its_content_along(void **state)
{
	struct tree_fixture f;

	init_with_old(&f);
	cut_power_after(&f, rename_over);
	reopen_after_cut(&f);
	assert_holds(&f, "old", 6000, 5);
	assert_holds(&f, "other", 10, 6);
	tf_done(&f);
}

/* --- the kernel writes back as it likes --- */

static char synced_log[160]; /* a copy of the log as of its last sync; "": none is kept */
static enum { BLOBS_WELL, BLOBS_FAIL, BLOBS_DIE } blobs; /* what a sync of a blob does */

int fdatasync(int fd)
{
	int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
	char path[512];
	int r = real(fd);

	unit_fd_path(fd, path);
	if (*synced_log && strstr(path, "/" REDO_FILE))
		shell("cp %s %s", path, synced_log);
	if (blobs == BLOBS_WELL || !strstr(path, "/blobs/"))
		return r;
	if (blobs == BLOBS_DIE)
		kill(getpid(), SIGKILL);
	errno = EIO;
	return -1;
}

/* Too long for a record: SQLite commits it, with all that was in the log. */
static void commit_unlogged(struct tree_fixture *f)
{
	static uint8_t value[60000];

	ok(db_begin(f->v->db));
	for (unsigned i = 0; i < 20; i++) {
		char key[16];

		snprintf(key, sizeof(key), "long %u", i);
		ok(setting_set(f->v->db, key, value, sizeof(value)));
	}
	ok(db_commit(f->v->db));
}

static void rename_then_commit_unlogged(struct tree_fixture *f)
{
	struct file *file;
	char text[TEXT_MAX];

	snprintf(synced_log, sizeof(synced_log), "%s/redo", f->top);
	shell("cp %s/" REDO_FILE " %s", f->dir, synced_log);
	ok(tf_create(f, "tmp"));
	file = open_at(f, "tmp");
	fill_text(text, 6000, 5);
	ok(file_write(file, text, 6000, 0));
	ok(file_commit(file));
	file_unref(file, true);
	ok(tree_rename(f->v, f->root, "tmp", f->root, "old", 0));
	commit_unlogged(f);
	shell("cp %s/" DB_WAL_FILE " %s/wal", f->dir, f->top);
}

/* Of what nobody asked to be synced SQLite's log is on the disk, and the redo log is not. */
static void the_log_is_on_the_disk_before_what_names_its_content(void **state)
{
	struct tree_fixture f;

	init_with_old(&f);
	cut_power_after(&f, rename_then_commit_unlogged);
	shell("cd %s && mv wal saved/" DB_WAL_FILE " && mv redo saved/" REDO_FILE, f.top);
	reopen_after_cut(&f);
	assert_holds(&f, "old", 6000, 5);
	tf_done(&f);
}

/* Of an index that was lost, with all that save_files wrote. */
static void assert_made_anew(struct tree_fixture *f)
{
	struct volume_status s;

	ok(volume_status(f->v, &s));
	assert_true(s.index_lost);
	assert_int_equal(s.restored_damaged, 0);
	assert_saved(f);
}

static void unsent_frames_are_in_the_log_too(void **state)
{
	struct tree_fixture f;

	init_with_old(&f);
	cut_power_after(&f, save_files);
	shell("rm %s/saved/" DB_FILE "; rm -f %s/saved/" DB_WAL_FILE, f.top, f.top);
	reopen_after_cut(&f);
	assert_made_anew(&f);
	tf_done(&f);
}

/* No blob can be opened, some times over: whoever tries must leave the log as it is. */
static void fail_to_open(struct tree_fixture *f)
{
	const struct volume_options o = { .dir = f->dir, .key_source = f->source };

	shell("cd %s/blobs && for b in $(find . -type f); do mv $b $b.away && mkdir $b; done",
		f->dir);
	for (int i = 0; i < 3; i++) {
		struct volume *v;

		assert_true(volume_open(&o, &v, NULL) < 0);
	}
	shell("cd %s/blobs && for b in $(find . -name '*.away'); do rmdir ${b%%.away} && "
	      "mv $b ${b%%.away}; done",
		f->dir);
}

static void reopen_at_the_fourth_try(struct tree_fixture *f)
{
	char saved[128];

	snprintf(saved, sizeof(saved), "%s/saved", f->top);
	shell("mv %s %s", saved, f->dir);
	fail_to_open(f);
	tf_open(f);
	tf_find_store(f);
}

static void save_one(struct tree_fixture *f)
{
	write_synced(f, "old", 8192, 3);
}

static void openings_that_fail_lose_nothing(void **state)
{
	struct tree_fixture f;

	init_with_old(&f);
	cut_power_after(&f, save_one);
	reopen_at_the_fourth_try(&f);
	assert_holds(&f, "old", 8192, 3);
	tf_done(&f);
}

static void nor_do_they_while_a_lost_index_is_made_anew(void **state)
{
	struct tree_fixture f;

	init_with_old(&f);
	cut_power_after(&f, save_files);
	shell("rm -f %s/saved/" DB_FILE " %s/saved/" DB_WAL_FILE, f.top, f.top);
	reopen_at_the_fourth_try(&f);
	assert_made_anew(&f);
	tf_done(&f);
}

/* The next opening brings the schema up while content is in the log alone. */
static void a_step_of_the_schema_keeps_what_the_log_has(void **state)
{
	struct tree_fixture f;

	init_with_old(&f);
	older_schema = true;
	cut_power_after(&f, save_one);
	older_schema = false;
	reopen_at_the_fourth_try(&f);
	assert_holds(&f, "old", 8192, 3);
	tf_done(&f);
}

static void rename_and_die(struct tree_fixture *f)
{
	char text[TEXT_MAX];
	struct file *file;

	ok(tf_create(f, "tmp"));
	file = open_at(f, "tmp");
	fill_text(text, 6000, 5);
	ok(file_write(file, text, 6000, 0));
	ok(file_commit(file));
	file_unref(file, true);
	shell("cp %s/" REDO_FILE " %s/redo", f->dir, f->top);
	ok(tree_rename(f->v, f->root, "tmp", f->root, "old", 0));
}

/* Opened by a program with another schema, killed before content is written back. */
static void bring_up_and_die(struct tree_fixture *f)
{
	pid_t pid = fork();

	if (!pid) {
		snprintf(synced_log, sizeof(synced_log), "%s/redo", f->top);
		blobs = BLOBS_DIE;
		tf_open(f);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

/* A killed process synced nothing; then the WAL gets to the disk and the log does not. */
static void a_step_of_the_schema_is_not_before_the_log(void **state)
{
	struct tree_fixture f;
	char saved[128];

	init_with_old(&f);
	older_schema = true;
	cut_power_after(&f, rename_and_die);
	older_schema = false;
	snprintf(saved, sizeof(saved), "%s/saved", f.top);
	shell("cp -a %s/blobs %s/blobs", saved, f.top);
	shell("cp -a %s %s", saved, f.dir);
	bring_up_and_die(&f);
	shell("cd %s && cp %s/" DB_FILE " %s/" DB_WAL_FILE " saved/ && mv redo saved/" REDO_FILE,
		f.top, f.dir, f.dir);
	shell("cd %s && rm -r saved/blobs && mv blobs saved/ && rm -r %s", f.top, f.dir);
	reopen_after_cut(&f);
	assert_holds(&f, "old", 6000, 5);
	tf_done(&f);
}

/* The disk refuses what a pack has, and the kernel forgets it. */
static void lose_the_pack(struct tree_fixture *f)
{
	write_synced(f, "old", 8192, 3);
	shell("find %s/blobs -type f -exec dd if=/dev/zero of={} bs=4096 count=64 conv=notrunc "
	      "status=none \\;",
		f->dir);
	blobs = BLOBS_FAIL;
	assert_true(durable_sync(f->v) < 0);
	blobs = BLOBS_WELL;
	assert_true(durable_sync(f->v) < 0);
	assert_true(durable_checkpoint(f->v, 0) < 0);
}

static void what_a_pack_has_lost_stays_in_the_log(void **state)
{
	struct tree_fixture f;

	init_with_old(&f);
	cut_power_after(&f, lose_the_pack);
	reopen_after_cut(&f);
	assert_holds(&f, "old", 8192, 3);
	tf_done(&f);
}

/* Long after, units of what the log tells belong to others: they are left alone. */
static void reuse(struct tree_fixture *f)
{
	save_files(f);
	for (unsigned i = 0; i < 20; i++) {
		struct file *file = open_at(f, i % 2 ? "old" : "new");
		char text[TEXT_MAX];

		fill_text(text, 8192, 100 + i);
		ok(file_write(file, text, 8192, 0));
		ok(file_commit(file));
		file_unref(file, true);
		ok(durable_sync_only(f->v)); /* undo rows stay a while */
	}
}

static void old_notes_do_not_come_back(void **state)
{
	struct tree_fixture f;
	pid_t pid;

	tf_init(&f);
	ok(tf_create(&f, "old"));
	volume_close(f.v);
	f.v = NULL;
	pid = fork();
	if (!pid) {
		tf_open(&f);
		tf_find_store(&f);
		reuse(&f);
		kill(getpid(), SIGKILL);
	}
	waitpid(pid, NULL, 0);
	tf_open(&f);
	tf_find_store(&f);
	assert_holds(&f, "old", 8192, 119);
	assert_holds(&f, "new", 8192, 118);
	assert_holds(&f, "wide", 30000, 4);
	tf_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_sync_of_the_log_keeps_small_files),
		cmocka_unit_test(what_was_only_closed_falls_back_to_the_log),
		cmocka_unit_test(a_rename_brings_its_content_along),
		cmocka_unit_test(the_log_is_on_the_disk_before_what_names_its_content),
		cmocka_unit_test(unsent_frames_are_in_the_log_too),
		cmocka_unit_test(openings_that_fail_lose_nothing),
		cmocka_unit_test(nor_do_they_while_a_lost_index_is_made_anew),
		cmocka_unit_test(a_step_of_the_schema_keeps_what_the_log_has),
		cmocka_unit_test(a_step_of_the_schema_is_not_before_the_log),
		cmocka_unit_test(what_a_pack_has_lost_stays_in_the_log),
		cmocka_unit_test(old_notes_do_not_come_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
