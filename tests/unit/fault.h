/*
 * Faults of the disk below: every system call that touches files, made by the program and its
 * libraries (SQLite included), passes here, and while armed the n-th of them fails.
 *
 *     fault_arm(n, FAULT_EIO);  ... calls ...;  fired = fault_disarm();
 *
 * The functions of libc are defined anew in the executable, so that shared libraries find these
 * first. FAULT_SHORT: a write takes half; calls that cannot be short fail with EIO instead.
 */
#ifndef CACHET_TESTS_UNIT_FAULT_H
#define CACHET_TESTS_UNIT_FAULT_H

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum fault_kind { FAULT_ENOSPC, FAULT_EIO, FAULT_EDQUOT, FAULT_EMFILE, FAULT_SHORT, FAULT_KINDS };

static atomic_long fault_left; /* calls until the fault; <= 0: none comes */
static atomic_bool fault_armed, fault_fired;
static enum fault_kind fault_how;
static const char *fault_where;

static inline void fault_arm(long n, enum fault_kind how)
{
	fault_how = how;
	fault_where = "";
	atomic_store(&fault_fired, false);
	atomic_store(&fault_left, n);
	atomic_store(&fault_armed, true);
}

static inline bool fault_disarm(void)
{
	atomic_store(&fault_armed, false);
	return atomic_load(&fault_fired);
}

/* 0, or the errno this call fails with. `opens`: EMFILE is possible; `grows`: ENOSPC and EDQUOT
 * are. */
static inline int fault_now(const char *where, bool opens, bool grows)
{
	static const int numbers[] = { ENOSPC, EIO, EDQUOT, EMFILE, EIO };

	if (!atomic_load(&fault_armed))
		return 0;
	if ((fault_how == FAULT_EMFILE && !opens) ||
		((fault_how == FAULT_ENOSPC || fault_how == FAULT_EDQUOT) && !grows))
		return 0;
	if (atomic_fetch_sub(&fault_left, 1) != 1)
		return 0;
	fault_where = where;
	atomic_store(&fault_fired, true);
	return numbers[fault_how];
}

#define FAULT_REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAULT_IF(name, opens, grows, bad)                                                          \
	do {                                                                                       \
		int fault_errno = fault_now(#name, opens, grows);                                  \
		if (fault_errno) {                                                                 \
			errno = fault_errno;                                                       \
			return bad;                                                                \
		}                                                                                  \
	} while (0)

#define FAULT_OPEN(name)                                                                           \
	int name(const char *path, int flags, ...)                                                 \
	{                                                                                          \
		static __typeof__(&name) real;                                                     \
		va_list ap;                                                                        \
		mode_t mode;                                                                       \
		va_start(ap, flags);                                                               \
		mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;                     \
		va_end(ap);                                                                        \
		FAULT_IF(name, true, flags &O_CREAT, -1);                                          \
		real = real ? real : FAULT_REAL(name);                                             \
		return real(path, flags, mode);                                                    \
	}
#define FAULT_OPENAT(name)                                                                         \
	int name(int dir, const char *path, int flags, ...)                                        \
	{                                                                                          \
		static __typeof__(&name) real;                                                     \
		va_list ap;                                                                        \
		mode_t mode;                                                                       \
		va_start(ap, flags);                                                               \
		mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;                     \
		va_end(ap);                                                                        \
		FAULT_IF(name, true, flags &O_CREAT, -1);                                          \
		real = real ? real : FAULT_REAL(name);                                             \
		return real(dir, path, flags, mode);                                               \
	}
#define FAULT_PWRITE(name, offset_type)                                                            \
	ssize_t name(int fd, const void *buf, size_t len, offset_type off)                         \
	{                                                                                          \
		static __typeof__(&name) real;                                                     \
		int e = fault_now(#name, false, true);                                             \
		real = real ? real : FAULT_REAL(name);                                             \
		if (e && fault_how == FAULT_SHORT && len > 1)                                      \
			return real(fd, buf, len / 2, off);                                        \
		if (e) {                                                                           \
			errno = e;                                                                 \
			return -1;                                                                 \
		}                                                                                  \
		return real(fd, buf, len, off);                                                    \
	}
#define FAULT_PREAD(name, offset_type)                                                             \
	ssize_t name(int fd, void *buf, size_t len, offset_type off)                               \
	{                                                                                          \
		static __typeof__(&name) real;                                                     \
		FAULT_IF(name, false, false, -1);                                                  \
		real = real ? real : FAULT_REAL(name);                                             \
		return real(fd, buf, len, off);                                                    \
	}
#define FAULT_CALL(type, name, params, args, grows)                                                \
	type name params                                                                           \
	{                                                                                          \
		static __typeof__(&name) real;                                                     \
		FAULT_IF(name, false, grows, -1);                                                  \
		real = real ? real : FAULT_REAL(name);                                             \
		return real args;                                                                  \
	}

#endif
