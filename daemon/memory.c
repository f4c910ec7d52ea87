#include "daemon/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>

#include "base/bytes.h"
#include "base/error.h"
#include "cache/volume.h"
#include "daemon/config_priv.h"
#include "daemon/control.h"

#define MEMORY_DIR "/dev/shm"
#define TRUST_CHECK_S 60
#define OPEN_DIRS_MAX 16

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static int remove_tree(const char *path)
{
	if (nftw(path, remove_one, OPEN_DIRS_MAX, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) == 0)
		return 0;
	return errno == ENOENT ? 0 : -errno;
}

/* What a killed daemon left. A directory of somebody else under this name is not touched. */
static int make_room(const char *path)
{
	struct stat st;
	int r;

	if (lstat(path, &st) == 0) {
		if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid())
			return -EPERM;
		r = remove_tree(path);
		if (r)
			return r;
	}
	return mkdir(path, 0700) < 0 ? -errno : 0;
}

static bool is_served(const struct config *c)
{
	_cleanup_json_ struct json *request = json_new_object(), *reply = NULL;
	_cleanup_free_ char *socket = NULL;

	json_set_string(request, "do", "ping");
	return !config_socket(c, &socket) &&
	       control_call(socket, request, 5000, &reply) != CE_OFFLINE;
}

int memory_prepare(struct config *c, char **error)
{
	struct statfs fs;

	if (statfs(MEMORY_DIR, &fs) < 0 || fs.f_type != TMPFS_MAGIC)
		return config_say(error, -ENOTSUP,
			"%s is no memory file system here; a memory-only mount needs one",
			MEMORY_DIR);
	if (is_served(c))
		return config_say(error, CE_INUSE, "the volume '%s' is mounted already", c->name);
	if (bytes_print(&c->volume_dir, "%s/cachet-%u-%s", MEMORY_DIR, (unsigned)geteuid(), c->id))
		return -ENOMEM;
	c->lock_idle_ms = 0; /* nothing could unlock it */
	free(steal_ptr(&c->lock_on));
	return 0;
}

int memory_make(
	const struct config *c, const struct secret *token, struct secret **kek, char **error)
{
	_cleanup_secret_ struct secret *key = NULL;
	struct volume_create_options o = {
		.dir = c->volume_dir,
		.origin = c->origin,
		.token = token,
		.store = c->store,
	};
	int r = make_room(c->volume_dir);

	if (r)
		return config_say(error, r, "%s cannot be made: %s", c->volume_dir, error_text(r));
	r = secret_new_random(32, &key);
	o.with_kek = key;
	if (!r)
		r = volume_create(&o, error);
	if (r)
		memory_remove(c);
	else
		*kek = steal_ptr(&key);
	return r;
}

void memory_remove(const struct config *c)
{
	(void)!remove_tree(c->volume_dir);
}

static _Noreturn void run_check(const char *command)
{
	int null = open("/dev/null", O_RDWR);

	/* Its own limit: the signal stays set behind the exec. */
	alarm(TRUST_CHECK_S);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
		_exit(127);
	execl("/bin/sh", "sh", "-c", command, (char *)NULL);
	_exit(127);
}

bool memory_machine_is_trusted(const struct config *c)
{
	int status = 0;
	pid_t pid;

	if (!c->trust_check)
		return true;
	pid = fork();
	if (pid == 0)
		run_check(c->trust_check);
	if (pid < 0)
		return false;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
