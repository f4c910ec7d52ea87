#include "cli/view_extract.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/io.h"
#include "base/secret.h"

#define COPY_LEN 65536

int view_extract_parent(int dirfd, char *path, int *out, const char **name)
{
	_cleanup_fd_ int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char *slash;

	while (fd >= 0 && (slash = strchr(path, '/'))) {
		int next;

		*slash = '\0';
		if (mkdirat(fd, path, 0777) < 0 && errno != EEXIST)
			return -errno;
		next = openat(fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0)
			return -errno;
		close(fd);
		fd = next;
		path = slash + 1;
	}
	if (fd < 0)
		return -errno;
	*name = path;
	*out = steal_fd(&fd);
	return 0;
}

int view_copy(struct sealed_content *c, int fd)
{
	_cleanup_free_ char *buf = malloc(COPY_LEN);
	ssize_t n;
	int r = 0;

	if (!buf)
		return -ENOMEM;
	while (!r && (n = sealed_file_read(c, buf, COPY_LEN)) != 0)
		r = n < 0 ? (int)n : io_write_full(fd, buf, (size_t)n);
	secret_wipe(buf, COPY_LEN);
	return r;
}

static int extract_file(
	int dir, const char *name, const struct tar_entry *e, struct sealed_content *c)
{
	const struct timespec times[] = { { .tv_nsec = UTIME_OMIT },
		{ .tv_sec = e->mtime_ns / 1000000000, .tv_nsec = e->mtime_ns % 1000000000 } };
	_cleanup_fd_ int fd = openat(dir, name,
		O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, (mode_t)e->mode & 0777);
	int r;

	if (fd < 0)
		return -errno;
	r = view_copy(c, fd);
	/* A time that the file system cannot hold is not worth the file. */
	if (!r && e->mtime_ns > 0 && futimens(fd, times) < 0 && errno != EINVAL)
		r = -errno;
	if (!r && close(steal_fd(&fd)) < 0)
		r = -errno;
	if (r)
		unlinkat(dir, name, 0);
	return r;
}

/* Directories stay writable for their owner: the entries below follow. */
static int extract_dir(int dir, const char *name, const struct tar_entry *e)
{
	struct stat st;

	if (mkdirat(dir, name, (e->mode & 0777) | 0700) == 0)
		return 0;
	if (errno == EEXIST && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		S_ISDIR(st.st_mode))
		return 0;
	return -EEXIST;
}

int view_extract(int dirfd, const struct tar_entry *e, struct sealed_content *c)
{
	_cleanup_free_ char *path = strdup(e->path);
	_cleanup_fd_ int dir = -1;
	const char *name = NULL;
	int r = path ? view_extract_parent(dirfd, path, &dir, &name) : -ENOMEM;

	if (r)
		return r;
	if (e->type == TAR_DIR)
		return extract_dir(dir, name, e);
	if (e->type == TAR_SYMLINK)
		return symlinkat(e->target, dir, name) < 0 ? -errno : 0;
	return extract_file(dir, name, e, c);
}
