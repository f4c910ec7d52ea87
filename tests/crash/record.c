/*
 * A recorder of what a process asks of its disk: the input of powercut.py and disk.c, which make
 * from the log the states a disk may be in after a power cut. Preloaded, or linked (record.h):
 *
 *     CACHET_RECORD=LOG CACHET_RECORD_ROOT=DIR LD_PRELOAD=librecord.so cachet mount …
 *
 * Only what happens below DIR is recorded. Real call and log entry are one step under one lock, so
 * the order in the log is an order in which the calls took effect. An entry is one line of text,
 * `OP field …`, then, for writes, the bytes; each entry is one append to LOG, so that other
 * processes may append entries of their own (`ack …`).
 *
 *     create  DIR-INODE INODE NAME     a file appeared            mkdir  DIR-INODE INODE NAME
 *     rename  DIR-INODE NAME DIR-INODE NAME                       unlink DIR-INODE NAME
 *     write   INODE OFFSET LENGTH \n bytes                        trunc  INODE LENGTH
 *     punch   INODE OFFSET LENGTH                                 sync   INODE (file or directory)
 *     note    LENGTH \n bytes          of who linked it
 *
 * Names must not contain spaces; the volume's do not. pwritev, mmap and io_uring are not recorded:
 * cachet uses none of them.
 */
#undef _FILE_OFFSET_BITS /* both names of each call are defined here */
#undef _FORTIFY_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "record.h"

#define LATE_US 4000

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static char root[PATH_MAX];
static size_t root_len;
static unsigned long calls, kill_at;
static const char *late;
static __thread int inside; /* the recorder's own calls are not recorded */

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void record_begin(const char *log, const char *dir)
{
	if (!realpath(dir, root))
		return;
	root_len = strlen(root);
	inside = 1;
	log_fd = REAL(open)(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	inside = 0;
}

void record_kill_at(unsigned long call)
{
	kill_at = call;
}

void record_delay(const char *part)
{
	late = part;
}

__attribute__((constructor)) static void start(void)
{
	const char *log = getenv("CACHET_RECORD");
	const char *dir = getenv("CACHET_RECORD_ROOT");

	if (log && dir)
		record_begin(log, dir);
}

static _Noreturn void die(void)
{
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

static int below_root(const char *path)
{
	return log_fd >= 0 && !strncmp(path, root, root_len) &&
	       (path[root_len] == '/' || !path[root_len]);
}

/* Absolute path of dirfd/path with its directory resolved; 0 when it is below the root. */
static int locate(int dirfd, const char *path, char out[PATH_MAX])
{
	char dir[PATH_MAX], link[64];
	const char *slash = strrchr(path, '/');
	ssize_t n;

	if (log_fd < 0 || inside)
		return -1;
	if (path[0] == '/' || dirfd == AT_FDCWD) {
		char parent[PATH_MAX];

		snprintf(parent, sizeof(parent), "%.*s", slash ? (int)(slash - path) : 1,
			slash ? path : ".");
		if (!realpath(parent[0] ? parent : "/", dir))
			return -1;
	} else {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", dirfd);
		n = readlink(link, dir, sizeof(dir) - 1);
		if (n < 0)
			return -1;
		dir[n] = 0;
		if (slash && (size_t)n + (size_t)(slash - path) + 2 < sizeof(dir)) {
			dir[n] = '/';
			memcpy(dir + n + 1, path, (size_t)(slash - path));
			dir[n + 1 + (slash - path)] = 0;
		}
	}
	if (snprintf(out, PATH_MAX, "%s/%s", dir, slash ? slash + 1 : path) >= PATH_MAX)
		return -1;
	return below_root(out) ? 0 : -1;
}

static unsigned long long inode_of(const char *path)
{
	struct stat st;

	return lstat(path, &st) ? 0 : (unsigned long long)st.st_ino;
}

static unsigned long long parent_inode(const char *path)
{
	char dir[PATH_MAX];

	snprintf(dir, sizeof(dir), "%s", path);
	*strrchr(dir, '/') = 0;
	return inode_of(dir);
}

static const char *base(const char *path)
{
	return strrchr(path, '/') + 1;
}

/* The inode of a descriptor below the root, or 0. */
static unsigned long long fd_inode(int fd)
{
	char link[64], path[PATH_MAX];
	struct stat st;
	ssize_t n;

	if (log_fd < 0 || inside || fd == log_fd || fstat(fd, &st) ||
		!(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return 0;
	path[n] = 0;
	return below_root(path) ? (unsigned long long)st.st_ino : 0;
}

static void put(const void *data, size_t len, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void put(const void *data, size_t len, const char *fmt, ...)
{
	char line[PATH_MAX];
	char *all;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	all = malloc((size_t)n + len);
	if (!all)
		abort();
	memcpy(all, line, (size_t)n);
	if (len)
		memcpy(all + n, data, len);
	if (REAL(write)(log_fd, all, (size_t)n + len) != (ssize_t)((size_t)n + len))
		abort();
	free(all);
}

void record_die(void)
{
	pthread_mutex_lock(&lock);
	die();
}

void record_note(const void *data, size_t len)
{
	pthread_mutex_lock(&lock);
	put(data, len, "note %zu\n", len);
	pthread_mutex_unlock(&lock);
}

#define STEP_BEGIN                                                                                 \
	pthread_mutex_lock(&lock);                                                                 \
	inside++;                                                                                  \
	if (++calls == kill_at)                                                                    \
	die()
#define STEP_END                                                                                   \
	do {                                                                                       \
		int saved_ = errno;                                                                \
		inside--;                                                                          \
		pthread_mutex_unlock(&lock);                                                       \
		errno = saved_;                                                                    \
	} while (0)

static int open_step(int dirfd, const char *path, int flags, mode_t mode)
{
	int (*real)(int, const char *, int, ...) = REAL(openat);
	char abs[PATH_MAX];
	struct stat before;
	int fd, existed;

	if (!(flags & (O_CREAT | O_TRUNC)) || locate(dirfd, path, abs))
		return real(dirfd, path, flags, mode);
	STEP_BEGIN;
	existed = !lstat(abs, &before);
	fd = real(dirfd, path, flags, mode);
	if (fd >= 0 && !existed)
		put(NULL, 0, "create %llu %llu %s\n", parent_inode(abs), inode_of(abs), base(abs));
	else if (fd >= 0 && (flags & O_TRUNC))
		put(NULL, 0, "trunc %llu 0\n", inode_of(abs));
	STEP_END;
	return fd;
}

#define OPEN_MODE(flags)                                                                           \
	mode_t mode = 0;                                                                           \
	if ((flags) & (O_CREAT | O_TMPFILE)) {                                                     \
		va_list ap;                                                                        \
		va_start(ap, flags);                                                               \
		mode = va_arg(ap, mode_t);                                                         \
		va_end(ap);                                                                        \
	}

int open(const char *path, int flags, ...)
{
	OPEN_MODE(flags)
	return open_step(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	OPEN_MODE(flags)
	return open_step(AT_FDCWD, path, flags, mode);
}

int openat(int dirfd, const char *path, int flags, ...)
{
	OPEN_MODE(flags)
	return open_step(dirfd, path, flags, mode);
}

int openat64(int dirfd, const char *path, int flags, ...)
{
	OPEN_MODE(flags)
	return open_step(dirfd, path, flags, mode);
}

static ssize_t write_step(int fd, const void *buf, size_t len, off_t off, int at)
{
	unsigned long long ino = fd_inode(fd);
	ssize_t n;

	if (!ino)
		return at ? REAL(pwrite)(fd, buf, len, off) : REAL(write)(fd, buf, len);
	pthread_mutex_lock(&lock);
	inside++;
	if (++calls == kill_at)
		len /= 2; /* torn */
	if (!at)
		off = lseek(fd, 0, SEEK_CUR);
	n = at ? REAL(pwrite)(fd, buf, len, off) : REAL(write)(fd, buf, len);
	if (n > 0)
		put(buf, (size_t)n, "write %llu %lld %zd\n", ino, (long long)off, n);
	if (calls == kill_at)
		die();
	STEP_END;
	return n;
}

ssize_t write(int fd, const void *buf, size_t len)
{
	return write_step(fd, buf, len, 0, 0);
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t off)
{
	return write_step(fd, buf, len, off, 1);
}

ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t off)
{
	return write_step(fd, buf, len, off, 1);
}

static int truncate_step(int fd, off_t len)
{
	unsigned long long ino = fd_inode(fd);
	int r;

	if (!ino)
		return REAL(ftruncate)(fd, len);
	STEP_BEGIN;
	r = REAL(ftruncate)(fd, len);
	if (!r)
		put(NULL, 0, "trunc %llu %lld\n", ino, (long long)len);
	STEP_END;
	return r;
}

int ftruncate(int fd, off_t len)
{
	return truncate_step(fd, len);
}

int ftruncate64(int fd, off64_t len)
{
	return truncate_step(fd, len);
}

static int fallocate_step(int fd, int mode, off_t off, off_t len)
{
	unsigned long long ino = fd_inode(fd);
	int r;

	if (!ino)
		return REAL(fallocate)(fd, mode, off, len);
	STEP_BEGIN;
	r = REAL(fallocate)(fd, mode, off, len);
	if (!r && (mode & FALLOC_FL_PUNCH_HOLE))
		put(NULL, 0, "punch %llu %lld %lld\n", ino, (long long)off, (long long)len);
	STEP_END;
	return r;
}

int fallocate(int fd, int mode, off_t off, off_t len)
{
	return fallocate_step(fd, mode, off, len);
}

int fallocate64(int fd, int mode, off64_t off, off64_t len)
{
	return fallocate_step(fd, mode, off, len);
}

/*
 * The entry says what was on its way before the call began: a write that another thread makes
 * during the sync may miss it, so the sync holds the lock and no such write exists.
 */
static void delay(int fd)
{
	char link[64], path[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = 0;
	if (strstr(path, late))
		usleep(LATE_US);
}

static int sync_step(int fd, int data_only)
{
	unsigned long long ino = fd_inode(fd);

	if (!ino)
		return data_only ? REAL(fdatasync)(fd) : REAL(fsync)(fd);
	if (late)
		delay(fd);
	STEP_BEGIN;
	put(NULL, 0, "sync %llu\n", ino);
	STEP_END;
	return 0; /* the disk of the model is the log: the real one need not be waited for */
}

int fsync(int fd)
{
	return sync_step(fd, 0);
}

int fdatasync(int fd)
{
	return sync_step(fd, 1);
}

int syncfs(int fd)
{
	(void)fd;
	return 0; /* promises nothing in the model: a product that relies on it is caught */
}

static int rename_step(int da, const char *a, int db, const char *b, unsigned flags)
{
	char from[PATH_MAX], to[PATH_MAX];
	int r;

	if (locate(da, a, from) || locate(db, b, to))
		return REAL(renameat2)(da, a, db, b, flags);
	STEP_BEGIN;
	r = REAL(renameat2)(da, a, db, b, flags);
	if (!r)
		put(NULL, 0, "rename %llu %s %llu %s\n", parent_inode(from), base(from),
			parent_inode(to), base(to));
	STEP_END;
	return r;
}

int rename(const char *a, const char *b)
{
	return rename_step(AT_FDCWD, a, AT_FDCWD, b, 0);
}

int renameat(int da, const char *a, int db, const char *b)
{
	return rename_step(da, a, db, b, 0);
}

int renameat2(int da, const char *a, int db, const char *b, unsigned flags)
{
	return rename_step(da, a, db, b, flags);
}

static int unlink_step(int dirfd, const char *path, int flags)
{
	char abs[PATH_MAX];
	int r;

	if (locate(dirfd, path, abs))
		return REAL(unlinkat)(dirfd, path, flags);
	STEP_BEGIN;
	r = REAL(unlinkat)(dirfd, path, flags);
	if (!r)
		put(NULL, 0, "unlink %llu %s\n", parent_inode(abs), base(abs));
	STEP_END;
	return r;
}

int unlink(const char *path)
{
	return unlink_step(AT_FDCWD, path, 0);
}

int unlinkat(int dirfd, const char *path, int flags)
{
	return unlink_step(dirfd, path, flags);
}

static int mkdir_step(int dirfd, const char *path, mode_t mode)
{
	char abs[PATH_MAX];
	int r;

	if (locate(dirfd, path, abs))
		return REAL(mkdirat)(dirfd, path, mode);
	STEP_BEGIN;
	r = REAL(mkdirat)(dirfd, path, mode);
	if (!r)
		put(NULL, 0, "mkdir %llu %llu %s\n", parent_inode(abs), inode_of(abs), base(abs));
	STEP_END;
	return r;
}

int mkdir(const char *path, mode_t mode)
{
	return mkdir_step(AT_FDCWD, path, mode);
}

int mkdirat(int dirfd, const char *path, mode_t mode)
{
	return mkdir_step(dirfd, path, mode);
}
