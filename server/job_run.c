#include "server/job_run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/child.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/io.h"

#define PIECE 65536
#define LOOK_MS 100 /* how soon a cancellation is seen */

struct worker {
	pid_t pid;
	int in, out; /* our ends; -1 = closed */
	size_t sent;
};

/* A pipe whose ends are ours and the child's. */
static int make_pipe(int *read_end, int *write_end)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	*read_end = fds[0];
	*write_end = fds[1];
	return 0;
}

static int spawn(const struct job *job, int in, int out, pid_t *pid)
{
	const struct child_file files[] = { { in, STDIN_FILENO }, { out, STDOUT_FILENO },
		{ -1, STDERR_FILENO } };
	char id[64], type[96], path[] = "PATH=/usr/local/bin:/usr/bin:/bin";
	char *env[] = { path, id, type, NULL };

	snprintf(id, sizeof(id), "CACHET_JOB_ID=%s", job->id);
	snprintf(type, sizeof(type), "CACHET_JOB_TYPE=%s", job->type->name);
	return child_spawn(
		(const char *const *)job->type->command, env, files, ARRAY_SIZE(files), pid);
}

static int start(const struct job *job, struct worker *w)
{
	_cleanup_fd_ int in = -1, out = -1;
	int r = make_pipe(&in, &w->in);

	if (!r)
		r = make_pipe(&w->out, &out);
	if (!r && (fcntl(w->in, F_SETFL, O_NONBLOCK) < 0 || fcntl(w->out, F_SETFL, O_NONBLOCK) < 0))
		r = -errno;
	return r ? r : spawn(job, in, out, &w->pid);
}

static void close_end(int *fd)
{
	cleanup_fd(fd);
	*fd = -1;
}

/* A worker that does not read all of it may still have a result. */
static void send_some(const struct job *job, struct worker *w)
{
	ssize_t n = write(w->in, job->payload.data + w->sent, job->payload.len - w->sent);

	if (n > 0)
		w->sent += (size_t)n;
	if ((n < 0 && errno != EAGAIN && errno != EINTR) || w->sent == job->payload.len)
		close_end(&w->in);
}

static int receive_some(struct job *job, struct worker *w)
{
	struct job_bytes *b = &job->result;
	ssize_t n;
	int r = server_jobs_grow(job->jobs, b, PIECE, job->type->max_result_bytes + PIECE);

	if (r)
		return r;
	n = read(w->out, b->data + b->len, PIECE);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (!n)
		close_end(&w->out);
	b->len += (size_t)n;
	return b->len > job->type->max_result_bytes ? CE_TOO_LARGE : 0;
}

static int talk(struct job *job, struct worker *w)
{
	int64_t until = clock_boot_ms() + 1000LL * job->type->timeout_s;
	int r = 0;

	if (!job->payload.len)
		close_end(&w->in);
	while (!r && w->out >= 0) {
		struct pollfd fds[2] = { { w->out, POLLIN, 0 }, { w->in, POLLOUT, 0 } };

		if (atomic_load(&job->cancelled))
			return -ECANCELED;
		if (clock_boot_ms() > until)
			return -ETIMEDOUT;
		if (poll(fds, 2, LOOK_MS) < 0 && errno != EINTR)
			return -errno;
		if (w->in >= 0 && fds[1].revents)
			send_some(job, w);
		if (fds[0].revents)
			r = receive_some(job, w);
	}
	return r;
}

/* Ends what is left of its group and takes its status. */
static int reap(const struct worker *w, int r)
{
	siginfo_t info;
	int status = 0;

	if (r)
		kill(-w->pid, SIGKILL);
	else
		/* It closed its output; what it does after that has a moment. */
		for (int i = 0; i < 50; i++) {
			info.si_pid = 0;
			if (waitid(P_PID, (id_t)w->pid, &info, WEXITED | WNOHANG | WNOWAIT) ||
				info.si_pid)
				break;
			usleep(LOOK_MS * 1000 / 5);
		}
	/* Still there, if only as a zombie: its group is not another's. */
	kill(-w->pid, SIGKILL);
	while (waitpid(w->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r)
		return r;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : CE_REFUSED;
}

int server_job_run(struct job *job)
{
	struct worker w = { .in = -1, .out = -1 };
	sigset_t pipe;
	int r;

	/* A worker that goes away while we write is no reason to go, too. */
	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe, NULL);
	r = start(job, &w);
	if (!r)
		r = reap(&w, talk(job, &w));
	close_end(&w.in);
	close_end(&w.out);
	return r;
}
