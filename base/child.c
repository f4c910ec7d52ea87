#include "base/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>

static int set_attributes(posix_spawnattr_t *attr)
{
	sigset_t none, all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	r = posix_spawnattr_setsigmask(attr, &none);
	if (!r)
		r = posix_spawnattr_setsigdefault(attr, &all);
	if (!r)
		r = posix_spawnattr_setpgroup(attr, 0);
	if (!r)
		r = posix_spawnattr_setflags(attr,
			POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	return -r;
}

static int set_files(
	posix_spawn_file_actions_t *actions, const struct child_file *files, size_t n_files)
{
	int r = 0;

	for (const struct child_file *f = files; !r && f < files + n_files; f++)
		r = f->from < 0 ? posix_spawn_file_actions_addopen(
					  actions, f->to, "/dev/null", O_RDWR, 0)
				: posix_spawn_file_actions_adddup2(actions, f->from, f->to);
	return -r;
}

int child_spawn(const char *const *argv, char *const *env, const struct child_file *files,
	size_t n_files, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	int r;

	if (posix_spawn_file_actions_init(&actions))
		return -ENOMEM;
	if (posix_spawnattr_init(&attr)) {
		posix_spawn_file_actions_destroy(&actions);
		return -ENOMEM;
	}
	r = set_attributes(&attr);
	if (!r)
		r = set_files(&actions, files, n_files);
	if (!r) /* its prototype is older than const */
		r = -posix_spawn(pid, argv[0], &actions, &attr, (char *const *)argv, env);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return r;
}
