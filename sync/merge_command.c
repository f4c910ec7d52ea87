#include "sync/merge_command.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/bytes.h"
#include "base/child.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/io.h"
#include "base/secret.h"
#include "cache/merge.h"

#define POLL_MS 20
#define FILES 4
#define RESULT 3

struct run {
	int fds[FILES];
	char paths[FILES][40];
	char **env;
	char *name;
};

static void run_done(struct run *run)
{
	for (int i = 0; i < FILES; i++)
		if (run->fds[i] >= 0)
			close(run->fds[i]);
	free(run->env);
	free(run->name);
}

static int make_file(struct run *run, int i, const struct json_text *content)
{
	run->fds[i] = memfd_create("cachet-merge", MFD_CLOEXEC);
	if (run->fds[i] < 0)
		return -errno;
	snprintf(run->paths[i], sizeof(run->paths[i]), "/proc/self/fd/%d", run->fds[i]);
	return content ? io_write_full(run->fds[i], content->text, content->len) : 0;
}

/* Ours, and the two above. */
static int make_env(struct run *run, const char *name)
{
	static char tmp[] = "TMPDIR=/dev/shm";
	size_t n = 0, kept = 0;

	while (environ[n])
		n++;
	run->env = calloc(n + 3, sizeof(char *));
	if (!run->env || bytes_print(&run->name, "CACHET_NAME=%s", name))
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		if (strncmp(environ[i], "TMPDIR=", 7) != 0)
			run->env[kept++] = environ[i];
	run->env[kept++] = run->name;
	if (access("/dev/shm", W_OK) == 0)
		run->env[kept] = tmp;
	return 0;
}

static int spawn(struct run *run, const char *command, pid_t *pid)
{
	const char *const argv[] = { "/bin/sh", "-c", command, "merge", run->paths[0],
		run->paths[1], run->paths[2], run->paths[3], NULL };
	struct child_file files[STDERR_FILENO + 1 + FILES];
	size_t n = 0;

	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		files[n++] = (struct child_file){ -1, fd };
	for (int i = 0; i < FILES; i++)
		files[n++] = (struct child_file){ run->fds[i], run->fds[i] };
	return child_spawn(argv, run->env, files, n, pid);
}

/* Whether it has ended; it is not reaped: while it is not, its group is nobody else's. */
static bool has_ended(pid_t pid)
{
	siginfo_t info = { 0 };

	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	       info.si_pid == pid;
}

/* 0: it ended by itself, with *status. What it left behind is killed, too: it has the plaintext
 * open. */
static int await(pid_t pid, const struct merge_rule *rule, const atomic_bool *stop, int *status)
{
	const int64_t deadline_ms = clock_boot_ms() + (int64_t)rule->timeout_ms;
	int r = 0;

	while (!r && !has_ended(pid)) {
		if (atomic_load(stop))
			r = -EAGAIN;
		else if (clock_boot_ms() >= deadline_ms)
			r = CE_CONFLICT;
		else
			poll(NULL, 0, POLL_MS);
	}
	kill(-pid, SIGKILL);
	while (waitpid(pid, status, 0) < 0 && errno == EINTR)
		;
	return r;
}

static int take_result(int fd, char **out, size_t *len)
{
	char *text;
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!st.st_size || st.st_size > MERGE_MAX_BYTES)
		return CE_CONFLICT;
	text = calloc(1, (size_t)st.st_size + 1);
	if (!text)
		return -ENOMEM;
	r = io_pread_full(fd, text, (size_t)st.st_size, 0);
	if (r) {
		free(text);
		return r;
	}
	*out = text;
	*len = (size_t)st.st_size;
	return 0;
}

int merge_command_run(const struct merge_rule *rule, const char *name,
	const struct json_text sides[3], const atomic_bool *stop, char **out, size_t *len)
{
	_cleanup_(run_done) struct run run = { .fds = { -1, -1, -1, -1 } };
	int status = 0, r = make_env(&run, name);
	pid_t pid;

	for (int i = 0; !r && i < FILES; i++)
		r = make_file(&run, i, i == RESULT ? NULL : &sides[i]);
	if (!r)
		r = spawn(&run, rule->command, &pid);
	if (!r)
		r = await(pid, rule, stop, &status);
	if (!r && (!WIFEXITED(status) || WEXITSTATUS(status)))
		r = CE_CONFLICT;
	return r ? r : take_result(run.fds[RESULT], out, len);
}
