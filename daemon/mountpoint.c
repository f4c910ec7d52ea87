#include "daemon/mountpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/error.h"
#include "daemon/config_priv.h"
#include "fs/fs.h"

#ifndef FUSE_SUPER_MAGIC
#define FUSE_SUPER_MAGIC 0x65735546
#endif

#define DEATHS_MAX 8 /* mounts on top of each other, too */

static int refuse(const char *path, int err, char **error)
{
	switch (err) {
	case ENOENT:
		return config_say(error, CE_USAGE,
			"the mount point %s is not there; make it with mkdir", path);
	case ENOTDIR:
		return config_say(error, CE_USAGE,
			"the mount point %s is not a directory; name another", path);
	case ENOTEMPTY:
		return config_say(error, CE_USAGE,
			"the mount point %s is not empty; name an empty directory, the mount would "
			"hide what is in it",
			path);
	case EBUSY:
		return config_say(error, CE_INUSE,
			"something is mounted at %s already; `cachet umount %s` ends it", path,
			path);
	default:
		return config_say(
			error, -err, "the mount point %s cannot be used: %s", path, strerror(err));
	}
}

/* 0, EBUSY when a FUSE file system is mounted there, or another errno. */
static int is_free(int fd)
{
	struct statx st;
	struct statfs fs;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &st) < 0)
		return errno;
	if (!(st.stx_attributes & STATX_ATTR_MOUNT_ROOT))
		return 0;
	if (fstatfs(fd, &fs) < 0)
		return errno;
	return fs.f_type == FUSE_SUPER_MAGIC ? EBUSY : 0;
}

/* 0 or an errno. Takes `fd`. */
static int look_inside(int fd)
{
	DIR *dir = fdopendir(fd);
	struct dirent *e;
	int err = 0;

	if (!dir) {
		err = errno;
		close(fd);
		return err;
	}
	errno = 0;
	while (!err && (e = readdir(dir)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			err = ENOTEMPTY;
	if (!err)
		err = errno;
	closedir(dir);
	return err;
}

/* 0 or an errno. */
static int check_once(const char *path)
{
	/* O_PATH: a live mount must not be asked for its content before it is known to be one. */
	_cleanup_fd_ int fd = open(path, O_PATH | O_CLOEXEC);
	int dirfd, err;

	if (fd < 0)
		return errno;
	err = is_free(fd);
	if (err)
		return err;
	dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dirfd < 0 ? errno : look_inside(dirfd);
}

int mountpoint_check(const char *path, char **error)
{
	int err = 0, r;

	for (int i = 0; i < DEATHS_MAX; i++) {
		r = fs_detach_stale(path, error);
		if (r && r != -ENOENT && r != -ENOTDIR)
			return r;
		err = check_once(path);
		/* Its daemon died while we looked. */
		if (err != ENOTCONN && err != ECONNABORTED)
			break;
	}
	return err ? refuse(path, err, error) : 0;
}
