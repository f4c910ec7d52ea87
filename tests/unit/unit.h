/* What unit tests of several folders need: cmocka with its headers, hex, a directory, a full disk.
 */
#ifndef CACHET_TESTS_UNIT_H
#define CACHET_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* The path of an open descriptor, "" if it has none: for calls that a test interposes. */
static inline const char *unit_fd_path(int fd, char path[static 512])
{
	char link[64];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, 511);
	path[n > 0 ? n : 0] = 0;
	return path;
}

/* Whether it is a file of content. */
static inline bool unit_is_blob(int fd)
{
	char path[512];

	return strstr(unit_fd_path(fd, path), "/blobs/");
}

/* `hex` without spaces to `out`; the number of bytes. Fails the test on anything else. */
static inline size_t unit_hex(const char *hex, uint8_t *out)
{
	size_t n = strlen(hex) / 2;

	assert_int_equal(strlen(hex) % 2, 0);
	for (size_t i = 0; i < n; i++) {
		unsigned int byte;

		assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
		out[i] = (uint8_t)byte;
	}
	return n;
}

#ifdef CACHET_COVERAGE
void __gcov_dump(void);
#endif

/* Ends a forked child. In a build with coverage what it did counts, too. */
static inline _Noreturn void unit_exit(int status)
{
#ifdef CACHET_COVERAGE
	__gcov_dump();
#endif
	_exit(status);
}

/* A fresh directory under $TMPDIR or /tmp and a descriptor of it. */
struct unit_dir {
	char path[256];
	int fd;
};

static inline void unit_dir_init(struct unit_dir *d)
{
	const char *base = getenv("TMPDIR");

	snprintf(d->path, sizeof(d->path), "%s/cachet-unit-XXXXXX", base ? base : "/tmp");
	assert_non_null(mkdtemp(d->path));
	d->fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(d->fd >= 0);
}

static inline void unit_dir_done(struct unit_dir *d)
{
	pid_t pid;
	int status;

	close(d->fd);
	pid = fork();
	if (pid == 0) {
		execlp("rm", "rm", "-rf", "--", d->path, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* Between these two no file of this process takes a byte more; returns what the other one wants. */
static inline struct rlimit unit_disk_fill(void)
{
	struct rlimit before, none;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	none = before;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	return before;
}

static inline void unit_disk_free(struct rlimit before)
{
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
}

#endif
