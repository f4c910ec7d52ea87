/*
 * flock(2) does not say who has a lock; /proc/locks does, by device and inode. A killed process
 * keeps its descriptors until its last thread has left the kernel: a thread in an fsync may take a
 * while.
 */
#include "daemon/holder.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/macros.h"

#define FILES_MAX 64
#define PF_EXITING 0x4 /* include/linux/sched.h; the flags stand in /proc/PID/stat */

struct file_id {
	unsigned major, minor;
	unsigned long long inode;
};

static size_t list_files(const char *dir, struct file_id out[static FILES_MAX])
{
	DIR *d = opendir(dir);
	struct dirent *e;
	struct stat st;
	size_t n = 0;

	while (d && n < FILES_MAX && (e = readdir(d)))
		if (!fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) && S_ISREG(st.st_mode))
			out[n++] =
				(struct file_id){ major(st.st_dev), minor(st.st_dev), st.st_ino };
	if (d)
		closedir(d);
	return n;
}

static bool is_listed(const struct file_id *files, size_t n, const struct file_id *f)
{
	for (size_t i = 0; i < n; i++)
		if (files[i].major == f->major && files[i].minor == f->minor &&
			files[i].inode == f->inode)
			return true;
	return false;
}

/* State Z or X, or on its way there. */
static bool stat_says_ending(int pid)
{
	char path[64], line[1024] = "", state = '?';
	const char *rest;
	unsigned flags = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return true; /* gone since */
	if (!fgets(line, sizeof(line), f))
		line[0] = '\0';
	fclose(f);
	rest = strrchr(line, ')'); /* behind the name, which may hold anything */
	if (!rest || sscanf(rest + 1, " %c %*d %*d %*d %*d %*d %u", &state, &flags) != 2)
		return false;
	return state == 'Z' || state == 'X' || (flags & PF_EXITING);
}

/* Killed, but not yet woken. */
static bool kill_is_pending(int pid)
{
	char path[64], line[256];
	unsigned long long mask;
	bool pending = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "SigPnd: %llx", &mask) == 1 ||
			sscanf(line, "ShdPnd: %llx", &mask) == 1)
			pending = pending || (mask >> (SIGKILL - 1) & 1);
	if (f)
		fclose(f);
	return pending;
}

bool holder_is_ending(const char *dir)
{
	struct file_id files[FILES_MAX], one;
	size_t n = list_files(dir, files);
	FILE *locks = n ? fopen("/proc/locks", "re") : NULL;
	bool ending = false;
	char line[256];
	int pid;

	while (locks && !ending && fgets(line, sizeof(line), locks))
		if (sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%llu", &pid, &one.major, &one.minor,
			    &one.inode) == 4 &&
			pid > 0 && is_listed(files, n, &one))
			ending = stat_says_ending(pid) || kill_is_pending(pid);
	if (locks)
		fclose(locks);
	return ending;
}
