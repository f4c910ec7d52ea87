/*
 * A key from the standard output of a command. It runs in a process group of its own, without a
 * standard input, so that at the time limit it can be ended with everything it started.
 */
#include "crypto/keysource_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "base/child.h"
#include "base/clock.h"
#include "base/error.h"

#ifndef LIMIT_MS /* its test is not that patient */
#define LIMIT_MS 60000
#endif
#define POLL_MS 10

extern char **environ;

static int spawn(const char *const *argv, int out_fd, pid_t *pid)
{
	const struct child_file files[] = { { -1, STDIN_FILENO }, { out_fd, STDOUT_FILENO } };

	return child_spawn(argv, environ, files, ARRAY_SIZE(files), pid);
}

/* Until the end of the output, `max` bytes, or the deadline (-ETIMEDOUT). */
static int read_output(int fd, int64_t deadline_ms, uint8_t *out, size_t max, size_t *len)
{
	*len = 0;
	while (*len < max) {
		int64_t left = deadline_ms - clock_boot_ms();
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int n = left > 0 ? poll(&p, 1, (int)left) : 0;
		ssize_t got;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ETIMEDOUT;
		got = read(fd, out + *len, max - *len);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		*len += (size_t)got;
	}
	return 0;
}

/* The wait status, or -ETIMEDOUT with the whole group killed and reaped. */
static int reap(pid_t pid, int64_t deadline_ms, int *status)
{
	for (;;) {
		pid_t done = waitpid(pid, status, WNOHANG);

		if (done == pid)
			return 0;
		if (done < 0 && errno != EINTR)
			return -errno;
		if (clock_boot_ms() >= deadline_ms)
			break;
		poll(NULL, 0, POLL_MS);
	}
	kill(-pid, SIGKILL);
	while (waitpid(pid, status, 0) < 0 && errno == EINTR)
		;
	return -ETIMEDOUT;
}

int keysource_command_run(const char *const *argv, struct secret *text, size_t *len, int *status)
{
	int64_t deadline_ms = clock_boot_ms() + LIMIT_MS;
	int pipe_fds[2], r, reaped;
	pid_t pid;

	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return -errno;
	r = spawn(argv, pipe_fds[1], &pid);
	close(pipe_fds[1]);
	if (r) {
		close(pipe_fds[0]);
		return r;
	}
	r = read_output(pipe_fds[0], deadline_ms, secret_bytes(text), secret_len(text), len);
	close(pipe_fds[0]);
	reaped = reap(pid, r ? 0 : deadline_ms, status);
	return r ? r : reaped;
}

int keysource_command_fetch(
	const char *command, const struct json *params, struct secret **kek, char **error)
{
	const char *const argv[] = { "/bin/sh", "-c", command, NULL };
	_cleanup_secret_ struct secret *text = NULL;
	size_t len = 0;
	int status = 0, r;

	r = secret_new(KEYSOURCE_KEY_TEXT_MAX, &text);
	if (r)
		return keysource_fail(error, r, "no locked memory for the key (%s)", error_text(r));
	r = keysource_command_run(argv, text, &len, &status);
	if (r == -ETIMEDOUT)
		return keysource_fail(
			error, r, "the key command did not end within %d seconds", LIMIT_MS / 1000);
	if (r)
		return keysource_fail(
			error, r, "the key command cannot be run (%s)", error_text(r));
	if (WIFSIGNALED(status) && len < secret_len(text))
		return keysource_fail(error, CE_USAGE, "the key command was ended by signal %d",
			WTERMSIG(status));
	if (WIFEXITED(status) && WEXITSTATUS(status))
		return keysource_fail(error, CE_USAGE, "the key command failed with exit status %d",
			WEXITSTATUS(status));
	r = keysource_decode(text, len, kek);
	if (r == CE_FORMAT)
		return keysource_fail(error, CE_USAGE,
			"the key command printed neither 32 bytes nor 64 hexadecimal digits");
	if (r)
		return keysource_fail(error, r, "no locked memory for the key (%s)", error_text(r));
	return 0;
}
