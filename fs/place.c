#include "fs/place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"

#define FUSE_DEVICE "/dev/fuse"
#define FUSERMOUNT "fusermount3"
#define FUSERMOUNT_PATH "/usr/bin/fusermount3"
#define FUSE_CONF "/etc/fuse.conf"

extern char **environ;

static int say(char **error, int code, const char *fmt, const char *path)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	if (error)
		(void)!bytes_print(error, fmt, path);
#pragma GCC diagnostic pop
	return code;
}

static int check_empty(const char *path, char **error)
{
	DIR *d = opendir(path);
	struct dirent *e;
	bool empty = true;

	if (!d)
		return say(error, -errno, "cannot open the mount point %s", path);
	while (empty && (e = readdir(d)))
		empty = !strcmp(e->d_name, ".") || !strcmp(e->d_name, "..");
	closedir(d);
	return empty ? 0 : say(error, -ENOTEMPTY, "the mount point %s is not empty", path);
}

static bool is_mounted(const char *path)
{
	_cleanup_free_ char *real = realpath(path, NULL);
	char buf[8192];
	struct mntent entry;
	bool found = false;
	FILE *mounts = real ? setmntent("/proc/self/mounts", "re") : NULL;

	while (mounts && !found && getmntent_r(mounts, &entry, buf, sizeof(buf)))
		found = !strcmp(entry.mnt_dir, real);
	if (mounts)
		endmntent(mounts);
	return found;
}

static bool conf_allows_other(void)
{
	char line[256];
	bool yes = false;
	FILE *conf = fopen(FUSE_CONF, "re");

	while (conf && !yes && fgets(line, sizeof(line), conf))
		yes = !strncmp(line, "user_allow_other", strlen("user_allow_other"));
	if (conf)
		fclose(conf);
	return yes;
}

static int check_fuse(const char *path, bool allow_other, char **error)
{
	if (access(FUSE_DEVICE, F_OK))
		return say(error, -ENODEV,
			FUSE_DEVICE
			" is missing: this kernel or container has no FUSE, cannot mount %s",
			path);
	if (geteuid() == 0)
		return 0;
	if (access(FUSERMOUNT_PATH, X_OK))
		return say(error, -ENODEV,
			FUSERMOUNT_PATH " is missing (package fuse3), cannot mount %s", path);
	if (allow_other && !conf_allows_other())
		return say(error, -EPERM,
			"other users can be let in to %s only when " FUSE_CONF
			" has the line user_allow_other",
			path);
	return 0;
}

int place_check(const char *path, bool allow_other, char **error)
{
	struct stat st;
	int r;

	if (stat(path, &st)) {
		r = -errno;
		if (r == -ENOENT)
			return say(error, r, "the mount point %s does not exist", path);
		if (r == -ENOTCONN)
			return say(error, r, "the mount point %s has a dead mount", path);
		return say(error, r, "cannot reach the mount point %s", path);
	}
	if (!S_ISDIR(st.st_mode))
		return say(error, -ENOTDIR, "the mount point %s is not a directory", path);
	if (is_mounted(path))
		return say(error, -EBUSY, "something is already mounted on %s", path);
	r = check_empty(path, error);
	return r ? r : check_fuse(path, allow_other, error);
}

/* fusermount3 as a user may call it; its messages are of no use to the caller. */
static int run_fusermount(const char *path, bool lazy)
{
	char *argv[] = { (char *)FUSERMOUNT, (char *)(lazy ? "-uzq" : "-uq"), (char *)"--",
		(char *)path, NULL };
	posix_spawn_file_actions_t actions;
	int status, r;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	r = posix_spawnp(&pid, FUSERMOUNT, &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (r)
		return -r;
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

int place_unmount(const char *path, bool lazy)
{
	if (umount2(path, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
		return 0;
	return errno == EPERM ? run_fusermount(path, lazy) : -errno;
}

/* The one sign of a dead mount is that nobody reads its device any more. The root's attributes may
 * be in the kernel's cache; the state of the file system never is. */
bool place_is_stale(const char *path)
{
	struct statfs st;

	return statfs(path, &st) < 0 && (errno == ENOTCONN || errno == ECONNABORTED);
}

int place_detach_stale(const char *path, char **error)
{
	int r;

	if (!place_is_stale(path))
		return 0;
	r = place_unmount(path, true);
	return r ? say(error, r, "cannot detach the dead mount on %s", path) : 0;
}
