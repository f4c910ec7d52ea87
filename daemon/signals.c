#include "daemon/signals.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

#include "base/log.h"

struct signals {
	struct signals_calls calls;
	int signal_fd, wake_fd;
	pthread_t thread;
};

static void signal_set(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
}

int signals_block(void)
{
	sigset_t set;

	signal_set(&set);
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return -errno;
	return -pthread_sigmask(SIG_BLOCK, &set, NULL);
}

int signals_wait(bool *hangup)
{
	sigset_t set;
	int which, r;

	signal_set(&set);
	r = -sigwait(&set, &which);
	if (!r)
		*hangup = which == SIGHUP;
	return r;
}

static void handle(struct signals *s)
{
	struct signalfd_siginfo info;

	if (read(s->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGHUP && s->calls.poke)
		s->calls.poke(s->calls.arg);
	else
		s->calls.stop(s->calls.arg);
}

static void *signals_main(void *arg)
{
	struct signals *s = arg;
	struct pollfd p[] = { { .fd = s->signal_fd, .events = POLLIN },
		{ .fd = s->wake_fd, .events = POLLIN } };

	for (;;) {
		if (poll(p, ARRAY_SIZE(p), -1) < 0)
			continue;
		if (p[1].revents)
			return NULL;
		if (p[0].revents)
			handle(s);
	}
}

static void signals_free(struct signals *s)
{
	if (s->signal_fd >= 0)
		close(s->signal_fd);
	if (s->wake_fd >= 0)
		close(s->wake_fd);
	free(s);
}

int signals_start(const struct signals_calls *calls, struct signals **out)
{
	struct signals *s = calloc(1, sizeof(*s));
	sigset_t set;
	int r = 0;

	if (!s)
		return -ENOMEM;
	signal_set(&set);
	s->calls = *calls;
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	s->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (s->signal_fd < 0 || s->wake_fd < 0)
		r = -errno;
	if (!r)
		r = -pthread_create(&s->thread, NULL, signals_main, s);
	if (r) {
		signals_free(s);
		return r;
	}
	*out = s;
	return 0;
}

void signals_stop(struct signals *s)
{
	const uint64_t one = 1;

	if (!s)
		return;
	if (write(s->wake_fd, &one, sizeof(one)) < 0)
		log_warning("the signal thread could not be woken");
	pthread_join(s->thread, NULL);
	signals_free(s);
}
