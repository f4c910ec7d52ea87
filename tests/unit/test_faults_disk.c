/*
 * Goal: ENOSPC, EIO, EDQUOT, EMFILE, short writes and short reads of the disk below, at the first
 * call, the second, ... of every story (faults/faults.h). The functions of libc are defined anew in
 * the executable, so that shared libraries, SQLite first, find these before those.
 */
#include "faults/faults.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHORT (-1)

enum may { MAY_OPEN = 1, MAY_GROW = 2, MAY_BE_SHORT = 4 };

/* 0, or what this call fails with. A short one of a call that cannot be short is an error. */
static int due(const char *call, enum may may)
{
	int code = fault_kind() ? fault_kind()->code : 0;

	if (!code || (code == EMFILE && !(may & MAY_OPEN)) ||
		((code == ENOSPC || code == EDQUOT) && !(may & MAY_GROW)) ||
		(code == SHORT && !(may & MAY_BE_SHORT)))
		return 0;
	return fault_due(call) ? code : 0;
}

/* The names a program compiled with 64-bit offsets calls, and those of other libraries. */
#undef open
#undef openat
#undef pread
#undef pwrite
#undef ftruncate
#undef fallocate

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define CALL(type, name, params, args, may, bad)                                                   \
	type name params                                                                           \
	{                                                                                          \
		static __typeof__(&name) real;                                                     \
		int e = due(#name, may);                                                           \
		real = real ? real : REAL(name);                                                   \
		if (e) {                                                                           \
			errno = e;                                                                 \
			return bad;                                                                \
		}                                                                                  \
		return real args;                                                                  \
	}
#define OPEN(name, params, args)                                                                   \
	int name params                                                                            \
	{                                                                                          \
		static __typeof__(&name) real;                                                     \
		int e = due(#name, MAY_OPEN | (flags & O_CREAT ? MAY_GROW : 0));                   \
		mode_t mode = 0;                                                                   \
		va_list ap;                                                                        \
		va_start(ap, flags);                                                               \
		mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;                     \
		va_end(ap);                                                                        \
		real = real ? real : REAL(name);                                                   \
		if (e) {                                                                           \
			errno = e;                                                                 \
			return -1;                                                                 \
		}                                                                                  \
		return real args;                                                                  \
	}
#define MOVE(name, params, args, shorter, may)                                                     \
	ssize_t name params                                                                        \
	{                                                                                          \
		static __typeof__(&name) real;                                                     \
		int e = due(#name, may);                                                           \
		real = real ? real : REAL(name);                                                   \
		if (e == SHORT && len > 1)                                                         \
			return real shorter;                                                       \
		if (e && e != SHORT) {                                                             \
			errno = e;                                                                 \
			return -1;                                                                 \
		}                                                                                  \
		return real args;                                                                  \
	}

OPEN(open64, (const char *path, int flags, ...), (path, flags, mode))
OPEN(openat64, (int dir, const char *path, int flags, ...), (dir, path, flags, mode))
MOVE(pwrite64, (int fd, const void *buf, size_t len, off64_t off), (fd, buf, len, off),
	(fd, buf, len / 2, off), MAY_GROW | MAY_BE_SHORT)
MOVE(write, (int fd, const void *buf, size_t len), (fd, buf, len), (fd, buf, len / 2),
	MAY_GROW | MAY_BE_SHORT)
MOVE(pread64, (int fd, void *buf, size_t len, off64_t off), (fd, buf, len, off),
	(fd, buf, len / 2, off), MAY_BE_SHORT)
MOVE(read, (int fd, void *buf, size_t len), (fd, buf, len), (fd, buf, len / 2), MAY_BE_SHORT)
CALL(int, ftruncate64, (int fd, off64_t len), (fd, len), MAY_GROW, -1)
CALL(int, fallocate64, (int fd, int mode, off64_t off, off64_t len), (fd, mode, off, len), MAY_GROW,
	-1)
CALL(int, fsync, (int fd), (fd), MAY_GROW, -1)
CALL(int, fdatasync, (int fd), (fd), MAY_GROW, -1)
CALL(int, renameat, (int from, const char *a, int to, const char *b), (from, a, to, b), MAY_GROW,
	-1)
CALL(int, renameat2, (int from, const char *a, int to, const char *b, unsigned flags),
	(from, a, to, b, flags), MAY_GROW, -1)
CALL(int, linkat, (int from, const char *a, int to, const char *b, int flags),
	(from, a, to, b, flags), MAY_GROW, -1)
CALL(int, mkdirat, (int dir, const char *path, mode_t mode), (dir, path, mode), MAY_GROW, -1)
CALL(int, unlink, (const char *path), (path), 0, -1)
CALL(int, unlinkat, (int dir, const char *path, int flags), (dir, path, flags), 0, -1)
CALL(int, dup, (int fd), (fd), MAY_OPEN, -1)
CALL(ssize_t, copy_file_range,
	(int in, off64_t *from, int out, off64_t *to, size_t len, unsigned flags),
	(in, from, out, to, len, flags), MAY_GROW, -1)

int main(void)
{
	static const struct fault_kind kinds[] = {
		{ .name = "EIO", .code = EIO },
		{ .name = "ENOSPC", .code = ENOSPC },
		{ .name = "EDQUOT", .code = EDQUOT },
		{ .name = "EMFILE", .code = EMFILE },
		{ .name = "short", .code = SHORT },
		{ 0 },
	};

	return faults_run("disk", kinds);
}
