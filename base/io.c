/*
 * io_publish() writes to one fixed temporary name beside the target, so that a crash leaves at most
 * one stray file, which the next call overwrites. Two writers of the same target exclude each other
 * by flock() on that temporary. Between open() and flock() the file may have been renamed away or
 * removed by the other writer, so the name is looked at again once the lock is held.
 */
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/failpoint.h"

int io_pread_full(int fd, void *buf, size_t len, off_t off)
{
	uint8_t *p = buf;

	while (len) {
		ssize_t n = pread(fd, p, len, off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		p += n;
		len -= (size_t)n;
		off += n;
	}
	return 0;
}

static _Thread_local void (*before_wait)(void);

void io_on_wait(void (*fn)(void))
{
	before_wait = fn;
}

int io_pread_slow(int fd, void *buf, size_t len, off_t off)
{
	struct iovec all = { .iov_base = buf, .iov_len = len };
	ssize_t n;

	if (!before_wait)
		return io_pread_full(fd, buf, len, off);
	n = preadv2(fd, &all, 1, off, RWF_NOWAIT);
	if (n == (ssize_t)len)
		return 0;
	before_wait();
	n = n > 0 ? n : 0;
	return io_pread_full(fd, (uint8_t *)buf + n, len - (size_t)n, off + n);
}

int io_pwrite_full(int fd, const void *buf, size_t len, off_t off)
{
	const uint8_t *p = buf;

	while (len) {
		ssize_t n = pwrite(fd, p, len, off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		p += n;
		len -= (size_t)n;
		off += n;
	}
	return 0;
}

int io_write_full(int fd, const void *buf, size_t len)
{
	const uint8_t *p = buf;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Grows *data to hold `cap` bytes and a NUL. */
static int read_reserve(char **data, size_t cap)
{
	char *grown = realloc(*data, cap + 1);

	if (!grown)
		return -ENOMEM;
	*data = grown;
	return 0;
}

/* Until the end of the file: its size is only a first guess (pipes and /proc have none). */
static int read_to_end(int fd, size_t first_cap, size_t max, char **out, size_t *out_len)
{
	_cleanup_free_ char *data = NULL;
	size_t cap = first_cap, len = 0;
	int r = read_reserve(&data, cap);

	while (!r) {
		ssize_t n = read(fd, data + len, cap - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
		if (len > max)
			return -EFBIG;
		if (len == cap) {
			cap = MIN_OF(cap * 2, max + 1);
			r = read_reserve(&data, cap);
		}
	}
	if (r)
		return r;
	data[len] = '\0';
	*out = steal_ptr(&data);
	*out_len = len;
	return 0;
}

int io_read_file(int dirfd, const char *path, size_t max, char **out, size_t *out_len)
{
	_cleanup_fd_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct stat st;
	size_t guess = 4096;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (max > SSIZE_MAX - 2)
		return -EINVAL;
	if (S_ISREG(st.st_mode)) {
		if ((uint64_t)st.st_size > max)
			return -EFBIG;
		guess = (size_t)st.st_size + 1;
	}
	return read_to_end(fd, MIN_OF(guess, max + 1), max, out, out_len);
}

/* Opens and locks the temporary `tmp` in `dirfd`; it is empty then and the name is ours. */
static int open_temporary(int dirfd, const char *tmp, mode_t mode, int *out_fd)
{
	for (;;) {
		_cleanup_fd_ int fd = openat(
			dirfd, tmp, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
		struct stat locked, named;
		int n;

		if (fd < 0)
			return -errno;
		do
			n = flock(fd, LOCK_EX);
		while (n < 0 && errno == EINTR);
		if (n < 0 || fstat(fd, &locked) < 0)
			return -errno;
		if (fstatat(dirfd, tmp, &named, AT_SYMLINK_NOFOLLOW) < 0) {
			if (errno == ENOENT)
				continue;
			return -errno;
		}
		if (locked.st_ino != named.st_ino || locked.st_dev != named.st_dev)
			continue;
		if (ftruncate(fd, 0) < 0 || fchmod(fd, mode) < 0)
			return -errno;
		*out_fd = steal_fd(&fd);
		return 0;
	}
}

static int fill_and_rename(
	int dirfd, int fd, const char *tmp, const char *name, const void *data, size_t len)
{
	int r = FAILPOINT("publish-write");

	if (!r)
		r = io_write_full(fd, data, len);
	if (!r)
		r = FAILPOINT("publish-fsync");
	if (!r && fsync(fd) < 0)
		r = -errno;
	if (!r)
		r = FAILPOINT("publish-rename");
	if (!r && renameat(dirfd, tmp, dirfd, name) < 0)
		r = -errno;
	return r;
}

static int publish_in(int dirfd, const char *name, const void *data, size_t len, mode_t mode)
{
	_cleanup_fd_ int fd = -1;
	char tmp[NAME_MAX + 1];
	int r;

	if (!*name || (size_t)snprintf(tmp, sizeof(tmp), ".%s.tmp", name) >= sizeof(tmp))
		return *name ? -ENAMETOOLONG : -EINVAL;
	r = open_temporary(dirfd, tmp, mode, &fd);
	if (r)
		return r;
	r = fill_and_rename(dirfd, fd, tmp, name, data, len);
	if (r) {
		unlinkat(dirfd, tmp, 0);
		return r;
	}
	r = FAILPOINT("publish-dirsync");
	return r ? r : io_fsync_dir(dirfd);
}

int io_publish(int dirfd, const char *name, const void *data, size_t len, mode_t mode)
{
	const char *slash = strrchr(name, '/');
	_cleanup_free_ char *parent = NULL;
	_cleanup_fd_ int fd = -1;

	if (slash)
		parent = strndup(name, (size_t)MAX_OF(slash - name, 1));
	else
		parent = strdup(".");
	if (!parent)
		return -ENOMEM;
	fd = openat(dirfd, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return publish_in(fd, slash ? slash + 1 : name, data, len, mode);
}

int io_fsync_dir(int dirfd)
{
	return fsync(dirfd) < 0 ? -errno : 0;
}

/* One level; its entry in the parent is synced, so what is synced inside it can be found again. */
static int make_level(const char *path, mode_t mode)
{
	_cleanup_free_ char *copy = NULL;
	_cleanup_fd_ int fd = -1;
	char *slash;

	if (mkdir(path, mode) < 0)
		return -errno;
	copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	slash = strrchr(copy, '/');
	if (slash)
		slash[slash == copy ? 1 : 0] = '\0';
	fd = open(slash ? copy : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* A parent that may be entered but not read cannot be synced by us. */
	if (fd < 0)
		return errno == EACCES ? 0 : -errno;
	return io_fsync_dir(fd);
}

static int make_level_or_accept(const char *path, mode_t mode)
{
	struct stat st;
	int r = make_level(path, mode);

	if (r != -EEXIST)
		return r;
	if (stat(path, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int io_mkdir_p(const char *path, mode_t mode)
{
	_cleanup_free_ char *copy = strdup(path);
	struct stat st;
	size_t len;
	int r;

	if (!copy)
		return -ENOMEM;
	for (len = strlen(copy); len > 1 && copy[len - 1] == '/'; len--)
		copy[len - 1] = '\0';
	if (!*copy)
		return -EINVAL;
	if (stat(copy, &st) == 0)
		return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
	for (char *p = copy + 1; *p; p++) {
		if (*p != '/' || p[-1] == '/')
			continue;
		*p = '\0';
		/* A parent on a read-only or foreign file system exists and cannot be made. */
		r = stat(copy, &st) == 0 && S_ISDIR(st.st_mode) ? 0
								: make_level_or_accept(copy, mode);
		*p = '/';
		if (r)
			return r;
	}
	return make_level_or_accept(copy, mode);
}

int io_lock_file(int dirfd, const char *name, int *out_fd)
{
	_cleanup_fd_ int fd =
		openat(dirfd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
	int n;

	if (fd < 0)
		return -errno;
	do
		n = flock(fd, LOCK_EX | LOCK_NB);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EWOULDBLOCK ? CE_INUSE : -errno;
	*out_fd = steal_fd(&fd);
	return 0;
}
