/* The XDG base directories (freedesktop.org, XDG Base Directory Specification 0.8). */
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"

/* The specification: a relative path is to be ignored. */
static const char *absolute_env(const char *name)
{
	const char *value = getenv(name);

	return value && *value == '/' ? value : NULL;
}

static int home_dir(char **out)
{
	const char *home = absolute_env("HOME");
	struct passwd entry, *found = NULL;
	char buf[4096];

	if (!home && getpwuid_r(geteuid(), &entry, buf, sizeof(buf), &found) == 0 && found)
		home = found->pw_dir;
	if (!home || *home != '/')
		return -ENOENT;
	return bytes_print(out, "%s", home);
}

static int xdg_dir(const char *variable, const char *below_home, char **out)
{
	const char *base = absolute_env(variable);
	_cleanup_free_ char *home = NULL, *path = NULL;
	int r;

	if (base) {
		r = bytes_print(&path, "%s/cachet", base);
	} else {
		r = home_dir(&home);
		if (!r)
			r = bytes_print(&path, "%s/%s/cachet", home, below_home);
	}
	if (!r)
		r = io_mkdir_p(path, 0700);
	if (r)
		return r;
	*out = steal_ptr(&path);
	return 0;
}

int io_dir_config(char **out)
{
	return xdg_dir("XDG_CONFIG_HOME", ".config", out);
}

int io_dir_state(char **out)
{
	return xdg_dir("XDG_STATE_HOME", ".local/state", out);
}

/* /tmp is everybody's: a directory there may have been made by somebody else, or be a link. */
static int check_own_dir(const char *path)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return errno == ELOOP || errno == ENOTDIR ? -EPERM : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	return st.st_uid == geteuid() && !(st.st_mode & 077) ? 0 : -EPERM;
}

int io_dir_runtime(char **out)
{
	const char *base = absolute_env("XDG_RUNTIME_DIR");
	_cleanup_free_ char *path = NULL;
	int r;

	if (base)
		r = bytes_print(&path, "%s/cachet", base);
	else if (geteuid() == 0)
		r = bytes_print(&path, "/run/cachet");
	else
		r = bytes_print(&path, "/tmp/cachet-%u", (unsigned int)geteuid());
	if (!r)
		r = io_mkdir_p(path, 0700);
	if (!r)
		r = check_own_dir(path);
	if (r)
		return r;
	*out = steal_ptr(&path);
	return 0;
}
