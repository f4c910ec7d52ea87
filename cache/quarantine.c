#include "cache/quarantine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/io.h"
#include "cache/volume_priv.h"

#define DIR_NAME "quarantine"

int quarantine_make(struct volume *v, char *path, size_t size, int *fd)
{
	time_t now = time(NULL);
	struct tm tm;
	char stamp[32];
	int n = 0, made;

	if (mkdirat(v->dirfd, DIR_NAME, 0700) < 0 && errno != EEXIST)
		return -errno;
	gmtime_r(&now, &tm);
	strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &tm);
	do
		snprintf(path, size, DIR_NAME "/index-%s-%d", stamp, n);
	while (mkdirat(v->dirfd, path, 0700) < 0 && errno == EEXIST && n++ < 1000);
	made = openat(v->dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (made < 0)
		return -errno;
	*fd = made;
	return 0;
}

int quarantine_sync(struct volume *v, int fd)
{
	_cleanup_fd_ int parent = openat(v->dirfd, DIR_NAME, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = parent < 0 ? -errno : io_fsync_dir(fd);

	if (!r)
		r = io_fsync_dir(parent);
	return r ? r : io_fsync_dir(v->dirfd);
}

static uint64_t dir_bytes(int at, const char *name, int depth)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	uint64_t sum = 0;
	struct dirent *e;
	struct stat st;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	while ((e = readdir(dir))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") ||
			fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		sum += (uint64_t)st.st_blocks * 512;
		if (S_ISDIR(st.st_mode) && depth)
			sum += dir_bytes(fd, e->d_name, depth - 1);
	}
	closedir(dir);
	return sum;
}

uint64_t quarantine_bytes(struct volume *v)
{
	return dir_bytes(v->dirfd, DIR_NAME, 1);
}
