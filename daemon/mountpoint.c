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

static bool is_fuse_mount(int fd)
{
	struct statx st;
	struct statfs fs;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &st) < 0)
		return false;
	return (st.stx_attributes & STATX_ATTR_MOUNT_ROOT) && fstatfs(fd, &fs) == 0 &&
	       fs.f_type == FUSE_SUPER_MAGIC;
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
	while (!err && (e = readdir(dir)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			err = ENOTEMPTY;
	closedir(dir);
	return err;
}

int mountpoint_check(const char *path, char **error)
{
	_cleanup_fd_ int fd = -1;
	int dirfd, err, r = fs_detach_stale(path, error);

	if (r && r != -ENOENT && r != -ENOTDIR)
		return r;
	/* O_PATH: a live mount must not be asked anything before it is known to be one. */
	fd = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return refuse(path, errno, error);
	if (is_fuse_mount(fd))
		return refuse(path, EBUSY, error);
	dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return refuse(path, errno, error);
	err = look_inside(dirfd);
	return err ? refuse(path, err, error) : 0;
}
