#include "cli/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/bytes.h"
#include "base/io.h"

/* A child writes: opening a FIFO waits for the other side, which opens it when it is asked to. */
static int feed(const char *path, const struct secret *secret, pid_t *child)
{
	if (mkfifo(path, 0600) < 0)
		return -errno;
	*child = fork();
	if (*child == 0) {
		int fd = open(path, O_WRONLY | O_CLOEXEC);

		alarm(TARGET_TIMEOUT_MS / 1000);
		_exit(fd < 0 || io_write_full(fd, secret_cbytes(secret), secret_len(secret)));
	}
	if (*child > 0)
		return 0;
	unlink(path);
	return -EAGAIN;
}

int handover_ask(const struct command_common *common, const struct target *t, struct json *request,
	const char *member, const struct secret *secret, struct json **reply)
{
	_cleanup_free_ char *path = NULL;
	pid_t child = -1;
	int r = bytes_print(&path, "%s.%d.key", t->socket, getpid());

	if (!r)
		r = feed(path, secret, &child);
	if (r)
		return command_failed(common, r, NULL);
	json_set_string(request, member, path);
	r = target_ask(common, t, request, TARGET_DAEMON, TARGET_TIMEOUT_MS, reply);
	unlink(path);
	kill(child, SIGTERM); /* if nobody came to read */
	waitpid(child, NULL, 0);
	return r;
}
