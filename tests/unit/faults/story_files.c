/* Stories of names and content. */
#include "stories.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/error.h"
#include "base/macros.h"
#include "cache/space.h"
#include "meta/object.h"

static const struct tree_cred cred = { 1000, 1000 };

/* --- files: made, saved, replaced, removed --- */

static int tell_files(struct told *t)
{
	TRY(told_put(t, 0, 100, false));
	TRY(told_put(t, 1, 5000, true));
	TRY(told_put(t, 2, 70000, false));
	TRY(told_put(t, 0, 150000, true));
	TRY(told_put(t, 3, 9000, true));
	TRY(told_move(t, 3, 1));
	TRY(told_put(t, 4, 4096, false));
	TRY(told_gone(t, 4));
	TRY(volume_sync(t->v));
	TRY(told_put(t, 2, 300, false));
	return 0;
}

static void prepare_files(struct told *t)
{
	assert_int_equal(told_put(t, 0, 3000, true), 0);
}

const struct story story_files = { .name = "files", .prepare = prepare_files, .tell = tell_files };

/* --- shapes: a large file is cut, grown, punched, zeroed, preallocated, sought --- */

#define LARGE (36 * ORACLE_PAGE)

static void prepare_shapes(struct told *t)
{
	assert_int_equal(told_put(t, 0, LARGE, true), 0);
}

static int change(struct told *t, struct file *f, int what, struct state *s)
{
	unsigned from = what == 1 ? 3 : 17, to = what == 1 ? 20 : 19;
	uint64_t at;

	*s = t->files[0].may[t->files[0].n - 1];
	if (what == 0) {
		s->size = 25 * ORACLE_PAGE + 123;
		for (unsigned p = 26; p < ORACLE_PAGES; p++)
			s->pages[p] = 0;
		told_begin(t, 0, s);
		return file_truncate(f, s->size);
	}
	if (what == 3) {
		s->size = LARGE;
		/* The page that was cut has two contents: it is written anew. */
		s->pages[25] = ++t->tag;
		told_begin(t, 0, s);
		TRY(file_truncate(f, s->size));
		return told_write(f, s, 25, 26);
	}
	for (unsigned p = from; p < to; p++)
		s->pages[p] = 0;
	told_begin(t, 0, s);
	if (what == 1)
		return file_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			from * (uint64_t)ORACLE_PAGE, (to - from) * (uint64_t)ORACLE_PAGE);
	TRY(file_fallocate(f, FALLOC_FL_ZERO_RANGE, from * (uint64_t)ORACLE_PAGE,
		(to - from) * (uint64_t)ORACLE_PAGE));
	return file_seek(f, 0, SEEK_HOLE, &at);
}

static int tell_shapes(struct told *t)
{
	/* What is cut stays cut when it is told again: written whole first. */
	TRY(told_put(t, 0, LARGE, false));
	for (int what = 0; what < 4; what++) {
		struct state s;
		struct file *f;
		int r;

		TRY(told_file(t, 0, &f));
		t->files[0].split = true;
		r = change(t, f, what, &s);
		if (!r)
			r = what % 2 ? file_sync(f) : file_commit(f);
		if (!r)
			r = file_take_lost(f);
		file_unref(f, true);
		TRY(r);
		if (what) /* of 0 the last page is a part of what it was */
			told_end(t, 0);
	}
	return 0;
}

const struct story story_shapes = {
	.name = "shapes", .prepare = prepare_shapes, .tell = tell_shapes
};

/* --- parts: pages here and there, whose chunks are read when they are sealed --- */

static int write_parts(struct told *t, struct file *f, struct state *s)
{
	static const unsigned pages[] = { 2, 7, 8, 15, 13, 22, 33, 35 };

	for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
		s->pages[pages[i]] = ++t->tag;
	told_begin(t, 0, s);
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
		TRY(told_write(f, s, pages[i], pages[i] + 1));
	return 0;
}

static int tell_parts(struct told *t)
{
	TRY(told_put(t, 0, LARGE, true));
	for (int sync = 0; sync < 2; sync++) {
		struct state s = t->files[0].may[t->files[0].n - 1];
		struct file *f;
		int r;

		TRY(told_file(t, 0, &f));
		t->files[0].split = true;
		r = write_parts(t, f, &s);
		if (!r)
			r = sync ? file_sync(f) : file_commit(f);
		if (!r)
			r = file_take_lost(f);
		file_unref(f, true);
		TRY(r);
		told_end(t, 0);
	}
	return 0;
}

const struct story story_parts = { .name = "parts", .prepare = prepare_shapes, .tell = tell_parts };

/* --- names --- */

static int lookup(struct told *t, const char *path, struct tree_attr *a)
{
	char whole[64];

	snprintf(whole, sizeof(whole), "records/%s", path);
	return tree_resolve(t->v, whole, a);
}

static int may(int r, int also)
{
	return r == also ? 0 : r;
}

static int tell_attributes(struct told *t)
{
	struct tree_attr a, set = { .mode = 0600, .mtime_ns = 12345 };
	char *list = NULL;
	void *value = NULL;
	size_t len;

	TRY(lookup(t, "canary-dir/canary-fifo", &a));
	TRY(tree_setattr(t->v, a.object, a.version, &set, TREE_SET_MODE | TREE_SET_MTIME, &a));
	TRY(tree_setxattr(t->v, a.object, "user.canary-x", "canary-value", 12, 0));
	TRY(tree_setxattr(t->v, a.object, "user.canary-y", "canary-other", 12, 0));
	TRY(tree_getxattr(t->v, a.object, "user.canary-x", &value, &len));
	free(value);
	TRY(tree_listxattr(t->v, a.object, &list, &len));
	free(list);
	TRY(tree_removexattr(t->v, a.object, "user.canary-y"));
	TRY(tree_getattr(t->v, a.object, a.version, &a));
	return 0;
}

static int tell_links(struct told *t, uint64_t dir)
{
	struct tree_attr a;
	char *text = NULL;

	TRY(may(tree_unlink(t->v, dir, "canary-link"), -ENOENT));
	TRY(may(tree_unlink(t->v, dir, "canary-symlink"), -ENOENT));
	TRY(told_put(t, 0, 100, false));
	TRY(told_find(t, t->files[0].name, &a));
	TRY(tree_link(t->v, a.object, dir, "canary-link", &a));
	TRY(tree_path(t->v, a.object, &text));
	free(text);
	text = NULL;
	TRY(tree_symlink(t->v, dir, "canary-symlink", "canary-target", &cred, &a));
	TRY(tree_readlink(t->v, a.object, &text));
	free(text);
	TRY(tree_rename(t->v, dir, "canary-link", dir, "canary-symlink", RENAME_EXCHANGE));
	return 0;
}

static int count_entry(void *arg, const char *name, uint64_t cookie, const struct tree_attr *a)
{
	++*(unsigned *)arg;
	return 0;
}

static int tell_names(struct told *t)
{
	struct tree_attr a, b;
	unsigned n = 0;

	TRY(may(tree_mkdir(t->v, t->root, "canary-dir", 0755, &cred, &a), -EEXIST));
	TRY(lookup(t, "canary-dir", &a));
	TRY(may(tree_mknod(t->v, a.object, "canary-fifo", S_IFIFO | 0644, 0, &cred, &b), -EEXIST));
	TRY(tell_attributes(t));
	TRY(tell_links(t, a.object));
	TRY(may(tree_mkdir(t->v, a.object, "canary-sub", 0700, &cred, &b), -EEXIST));
	/* There and back, or what the last telling left. */
	TRY(may(tree_rename(t->v, a.object, "canary-sub", t->root, "canary-moved", 0), -ENOENT));
	TRY(lookup(t, "canary-moved", &b));
	TRY(tree_readdir(t->v, t->root, 0, count_entry, &n));
	TRY(tree_rmdir(t->v, t->root, "canary-moved"));
	return 0;
}

static bool names_hold(struct told *t)
{
	struct tree_attr a;
	size_t len = 0;
	char *value = NULL;
	bool same = !lookup(t, "canary-dir/canary-fifo", &a) && (a.mode & 07777) == 0600 &&
		    a.mtime_ns == 12345 &&
		    !tree_getxattr(t->v, a.object, "user.canary-x", (void **)&value, &len) &&
		    len == 12 && !memcmp(value, "canary-value", 12);

	free(value);
	return same && !lookup(t, "canary-dir/canary-link", &a) && S_ISLNK(a.mode) &&
	       !lookup(t, "canary-dir/canary-symlink", &a) && S_ISREG(a.mode) && a.nlink == 2 &&
	       lookup(t, "canary-moved", &a) == -ENOENT;
}

const struct story story_names = { .name = "names", .tell = tell_names, .holds = names_hold };

/* --- opening: clean, after a kill, without the index --- */

static int tell_opening(struct told *t)
{
	TRY(told_open(t));
	TRY(told_store(t));
	TRY(told_put(t, 1, 9000, true));
	TRY(told_put(t, 0, 100, false));
	TRY(told_gone(t, 1));
	told_close(t);
	return 0;
}

static void prepare_opening(struct told *t)
{
	assert_int_equal(told_put(t, 0, 70000, true), 0);
	assert_int_equal(told_put(t, 2, 700, false), 0);
}

const struct story story_opening = {
	.name = "opening", .prepare = prepare_opening, .tell = tell_opening, .closed = true
};

/* In a child that dies with the volume open. */
static void die_with(struct told *t, void (*fn)(struct told *t))
{
	struct told *shared =
		mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;
	pid_t pid;

	assert_ptr_not_equal(shared, MAP_FAILED);
	told_close(t);
	*shared = *t;
	pid = fork();
	if (!pid) {
		if (told_open(shared) || told_store(shared))
			_exit(1);
		fn(shared);
		shared->v = NULL;
		kill(getpid(), SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	*t = *shared;
	munmap(shared, sizeof(*t));
}

static void work_and_die(struct told *t)
{
	if (told_put(t, 0, 5000, true) || told_put(t, 1, 100000, false) ||
		told_put(t, 2, 700, false) || told_move(t, 2, 3) || told_put(t, 0, 9000, false))
		_exit(1);
}

static void prepare_unclean(struct told *t)
{
	prepare_opening(t);
	die_with(t, work_and_die);
}

const struct story story_unclean = {
	.name = "unclean", .prepare = prepare_unclean, .tell = tell_opening, .closed = true
};

static void remove_file(struct told *t, const char *name)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", t->dir, name);
	(void)!unlink(path);
}

static void prepare_lost(struct told *t)
{
	struct tree_attr a;

	assert_int_equal(tree_mkdir(t->v, t->root, "canary-dir", 0755, &cred, &a), 0);
	assert_int_equal(tree_symlink(t->v, a.object, "canary-sym", "canary-to", &cred, &a), 0);
	prepare_opening(t);
	told_close(t);
	remove_file(t, "index.db");
	remove_file(t, "index.db-wal");
}

const struct story story_lost = { .name = "lost",
	.prepare = prepare_lost,
	.tell = tell_opening,
	.closed = true,
	.damaged = true };

/* --- the volume made --- */

static int tell_making(struct told *t)
{
	if (access(t->dir, F_OK) || told_open(t)) {
		TRY(told_create(t));
		TRY(told_open(t));
	}
	TRY(told_store(t));
	return told_put(t, 0, 300, true);
}

const struct story story_making = { .name = "making", .tell = tell_making, .from_nothing = true };
