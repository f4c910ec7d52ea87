/* io.c is compiled here with its failpoints, so that a kill can be put at each step. */
#ifndef CACHET_FAILPOINTS
#define CACHET_FAILPOINTS 1
#endif
#include "base/failpoint.c" /* NOLINT */
#include "base/io.c"        /* NOLINT */

#include "unit.h"

static int setup(void **state)
{
	struct unit_dir *d = calloc(1, sizeof(*d));

	unit_dir_init(d);
	*state = d;
	return 0;
}

static int teardown(void **state)
{
	unit_dir_done(*state);
	free(*state);
	return 0;
}

/* In a child, so that failpoints and the environment are fresh; the wait status. */
static int in_child(int (*body)(struct unit_dir *), struct unit_dir *d, const char *failpoints)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (failpoints) {
			setenv("CACHET_FAILPOINTS", failpoints, 1);
			once = PTHREAD_ONCE_INIT; /* the parent has read its list: read ours */
		}
		_exit(body(d));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void assert_content(struct unit_dir *d, const char *name, const char *expected)
{
	_cleanup_free_ char *text = NULL;
	size_t len;

	assert_int_equal(io_read_file(d->fd, name, 100, &text, &len), 0);
	assert_string_equal(text, expected);
	assert_int_equal(len, strlen(expected));
}

static void publish_replaces_content_and_mode(void **state)
{
	struct unit_dir *d = *state;
	struct stat st;

	umask(077);
	assert_int_equal(io_publish(d->fd, "f", "old content", 11, 0600), 0);
	assert_int_equal(io_publish(d->fd, "f", "new", 3, 0644), 0);
	assert_content(d, "f", "new");
	assert_int_equal(fstatat(d->fd, "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_int_equal(faccessat(d->fd, ".f.tmp", F_OK, 0), -1);
}

static void publish_takes_a_path(void **state)
{
	struct unit_dir *d = *state;
	char path[300];

	snprintf(path, sizeof(path), "%s/sub", d->path);
	assert_int_equal(io_mkdir_p(path, 0700), 0);
	assert_int_equal(io_publish(d->fd, "sub/f", "x", 1, 0600), 0);
	assert_content(d, "sub/f", "x");
	strcat(path, "/g");
	assert_int_equal(io_publish(AT_FDCWD, path, "y", 1, 0600), 0);
	assert_content(d, "sub/g", "y");
	assert_int_equal(io_publish(d->fd, "none/f", "x", 1, 0600), -ENOENT);
	assert_int_equal(io_publish(d->fd, "sub/", "x", 1, 0600), -EINVAL);
	assert_int_equal(io_publish(d->fd, "", "x", 1, 0600), -EINVAL);
}

static int publish_new(struct unit_dir *d)
{
	return io_publish(d->fd, "f", "new", 3, 0600) ? 1 : 0;
}

static void a_kill_at_each_step_leaves_old_or_new(void **state)
{
	static const struct {
		const char *at, *left;
	} steps[] = {
		{ "publish-write=1:kill", "old" },
		{ "publish-fsync=1:kill", "old" },
		{ "publish-rename=1:kill", "old" },
		{ "publish-dirsync=1:kill", "new" },
	};
	struct unit_dir *d = *state;

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		assert_int_equal(io_publish(d->fd, "f", "old", 3, 0600), 0);
		assert_true(WIFSIGNALED(in_child(publish_new, d, steps[i].at)));
		assert_content(d, "f", steps[i].left);
		assert_int_equal(publish_new(d), 0); /* over what the dead one left */
		assert_content(d, "f", "new");
	}
}

static void a_failure_before_the_rename_keeps_the_old_and_cleans_up(void **state)
{
	static const char *const steps[] = { "publish-write=1:28", "publish-fsync=1:5",
		"publish-rename=1:5" };
	struct unit_dir *d = *state;

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		assert_int_equal(io_publish(d->fd, "f", "old", 3, 0600), 0);
		assert_int_equal(WEXITSTATUS(in_child(publish_new, d, steps[i])), 1);
		assert_content(d, "f", "old");
		assert_int_equal(faccessat(d->fd, ".f.tmp", F_OK, 0), -1);
	}
}

/* Two kinds of content, of different length: a mixture would show. */
static int publish_often(struct unit_dir *d)
{
	char big[20000];

	memset(big, 'b', sizeof(big));
	for (int i = 0; i < 200; i++)
		if (io_publish(d->fd, "f", big, i % 2 ? sizeof(big) : 10, 0600))
			return 1;
	return 0;
}

static void two_publishers_never_mix(void **state)
{
	struct unit_dir *d = *state;
	int status;
	pid_t pid;

	assert_int_equal(io_publish(d->fd, "f", "bbbbbbbbbb", 10, 0600), 0);
	pid = fork();
	if (pid == 0)
		_exit(publish_often(d));
	for (int i = 0; i < 200; i++) {
		_cleanup_free_ char *text = NULL;
		size_t len;

		assert_int_equal(io_publish(d->fd, "f", "bbbbbbbbbb", 10, 0600), 0);
		assert_int_equal(io_read_file(d->fd, "f", 30000, &text, &len), 0);
		assert_true(len == 10 || len == 20000);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void publish_does_not_follow_a_planted_link(void **state)
{
	struct unit_dir *d = *state;

	assert_int_equal(io_publish(d->fd, "victim", "precious", 8, 0600), 0);
	assert_int_equal(symlinkat("victim", d->fd, ".f.tmp"), 0);
	assert_int_equal(io_publish(d->fd, "f", "x", 1, 0600), -ELOOP);
	assert_content(d, "victim", "precious");
}

static void a_file_at_the_limit_is_read_and_beyond_it_refused(void **state)
{
	struct unit_dir *d = *state;
	char *text = NULL;
	size_t len;

	assert_int_equal(io_publish(d->fd, "f", "12345", 5, 0600), 0);
	assert_int_equal(io_read_file(d->fd, "f", 5, &text, &len), 0);
	assert_int_equal(len, 5);
	assert_int_equal(text[5], '\0');
	free(text);
	text = NULL;
	assert_int_equal(io_read_file(d->fd, "f", 4, &text, &len), -EFBIG);
	assert_int_equal(io_read_file(d->fd, "none", 4, &text, &len), -ENOENT);
	assert_int_equal(io_read_file(AT_FDCWD, "/dev/zero", 100000, &text, &len), -EFBIG);
	assert_null(text);
}

static void reading_beyond_the_end_says_so(void **state)
{
	struct unit_dir *d = *state;
	_cleanup_fd_ int fd = openat(d->fd, "f", O_RDWR | O_CREAT, 0600);
	char b[4];

	assert_int_equal(io_pwrite_full(fd, "abcdef", 6, 2), 0);
	assert_int_equal(io_pread_full(fd, b, 4, 4), 0);
	assert_memory_equal(b, "cdef", 4);
	assert_int_equal(io_pread_full(fd, b, 4, 5), -ENODATA);
	assert_int_equal(io_pread_full(fd, b, 0, 100), 0);
	assert_int_equal(io_pread_full(-1, b, 1, 0), -EBADF);
}

static void mkdir_p_makes_what_is_missing_only(void **state)
{
	struct unit_dir *d = *state;
	char path[300];

	snprintf(path, sizeof(path), "%s/a//b/c/", d->path);
	assert_int_equal(io_mkdir_p(path, 0700), 0);
	assert_int_equal(io_mkdir_p(path, 0700), 0);
	assert_int_equal(faccessat(d->fd, "a/b/c", X_OK, 0), 0);
	assert_int_equal(io_publish(d->fd, "file", "", 0, 0600), 0);
	snprintf(path, sizeof(path), "%s/file", d->path);
	assert_int_equal(io_mkdir_p(path, 0700), -ENOTDIR);
	snprintf(path, sizeof(path), "%s/file/x", d->path);
	assert_int_equal(io_mkdir_p(path, 0700), -ENOTDIR);
	assert_int_equal(io_mkdir_p("/", 0700), 0);
	assert_int_equal(io_mkdir_p("", 0700), -EINVAL);
}

static int try_lock(struct unit_dir *d)
{
	int fd, r = io_lock_file(d->fd, "lock", &fd);

	return r == 0 ? 0 : r == CE_INUSE ? 1 : 2;
}

static void a_lock_keeps_other_processes_out_until_released(void **state)
{
	struct unit_dir *d = *state;
	int fd;

	assert_int_equal(io_lock_file(d->fd, "lock", &fd), 0);
	assert_int_equal(WEXITSTATUS(in_child(try_lock, d, NULL)), 1);
	close(fd);
	assert_int_equal(in_child(try_lock, d, NULL), 0);
	/* The child that had it is dead: the kernel let go. */
	assert_int_equal(io_lock_file(d->fd, "lock", &fd), 0);
	close(fd);
}

static void xdg_directories_are_made_private(void **state)
{
	struct unit_dir *d = *state;
	char *path;
	struct stat st;

	setenv("HOME", d->path, 1);
	unsetenv("XDG_CONFIG_HOME");
	setenv("XDG_STATE_HOME", "relative/is/ignored", 1);
	assert_int_equal(io_dir_config(&path), 0);
	assert_int_equal(strncmp(path, d->path, strlen(d->path)), 0);
	assert_string_equal(path + strlen(d->path), "/.config/cachet");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	free(path);
	assert_int_equal(io_dir_state(&path), 0);
	assert_string_equal(path + strlen(d->path), "/.local/state/cachet");
	free(path);
}

static void a_runtime_directory_of_others_is_refused(void **state)
{
	struct unit_dir *d = *state;
	char *path = NULL;

	setenv("XDG_RUNTIME_DIR", d->path, 1);
	assert_int_equal(io_dir_runtime(&path), 0);
	free(path);
	path = NULL;
	assert_int_equal(fchmodat(d->fd, "cachet", 0770, 0), 0);
	assert_int_equal(io_dir_runtime(&path), -EPERM);
	assert_int_equal(unlinkat(d->fd, "cachet", AT_REMOVEDIR), 0);
	assert_int_equal(symlinkat("/tmp", d->fd, "cachet"), 0);
	assert_int_equal(io_dir_runtime(&path), -EPERM);
	assert_null(path);
}

static unsigned waits;

static void count_wait(void)
{
	waits++;
}

/* Whatever of it the kernel has: nothing is read twice or left out, and memory is no wait. */
static void a_slow_read_is_whole_and_tells_before_it_waits(void **state)
{
	struct unit_dir *d = *state;
	const size_t len = 64 * 4096 + 100;
	_cleanup_free_ uint8_t *data = malloc(len), *got = malloc(len);
	int fd = openat(d->fd, "f", O_RDWR | O_CREAT, 0600);

	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 31 + i / 4096);
	assert_int_equal(io_pwrite_full(fd, data, len, 0), 0);
	assert_int_equal(fsync(fd), 0);
	io_on_wait(count_wait);
	for (off_t cached = 0; cached <= 64; cached += 8) {
		posix_fadvise(fd, cached * 4096, 0, POSIX_FADV_DONTNEED);
		memset(got, 0, len);
		assert_int_equal(io_pread_slow(fd, got, len, 0), 0);
		assert_memory_equal(got, data, len);
		posix_fadvise(fd, cached * 4096, 0, POSIX_FADV_DONTNEED);
		waits = 0;
		assert_int_equal(io_pread_slow(fd, got, 200, (off_t)len - 100), -ENODATA);
		assert_int_equal(waits, 1);
	}
	assert_int_equal(io_pread_slow(-1, got, 1, 0), -EBADF);
	io_on_wait(NULL);
	waits = 0;
	assert_int_equal(io_pread_slow(fd, got, 4096, 4096), 0);
	assert_memory_equal(got, data + 4096, 4096);
	assert_int_equal(waits, 0);
	close(fd);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_slow_read_is_whole_and_tells_before_it_waits),
		TEST(publish_replaces_content_and_mode),
		TEST(publish_takes_a_path),
		TEST(a_kill_at_each_step_leaves_old_or_new),
		TEST(a_failure_before_the_rename_keeps_the_old_and_cleans_up),
		TEST(two_publishers_never_mix),
		TEST(publish_does_not_follow_a_planted_link),
		TEST(a_file_at_the_limit_is_read_and_beyond_it_refused),
		TEST(reading_beyond_the_end_says_so),
		TEST(mkdir_p_makes_what_is_missing_only),
		TEST(a_lock_keeps_other_processes_out_until_released),
		TEST(xdg_directories_are_made_private),
		TEST(a_runtime_directory_of_others_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
