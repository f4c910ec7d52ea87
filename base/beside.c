/*
 * Theory of operation: helpers wait for work in a list and leave it after HELPER_IDLE_S, so that
 * one sync after the other starts no threads. What a child of fork() finds in the list are threads
 * it does not have: the list belongs to the process that made it.
 */
#include "base/beside.h"

#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define STACK_BYTES (256 * 1024)
#define HELPER_IDLE_S 5

struct helper {
	struct beside *job;
	pthread_cond_t wake;
	struct helper *next;
};

static pthread_mutex_t helpers_lock = PTHREAD_MUTEX_INITIALIZER; /* leaf: all below */
static struct helper *helpers;                                   /* without work */
static pid_t helpers_pid;

/* Lock held. */
static void helper_leave(struct helper *h)
{
	struct helper **link = &helpers;

	while (*link != h)
		link = &(*link)->next;
	*link = h->next;
}

/* Lock held. NULL when there was nothing to do for long. */
static struct beside *helper_rest(struct helper *h)
{
	struct timespec until;
	int r = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += HELPER_IDLE_S;
	h->next = helpers;
	helpers = h;
	while (!h->job && r == 0)
		r = pthread_cond_timedwait(&h->wake, &helpers_lock, &until);
	if (!h->job)
		helper_leave(h);
	return h->job;
}

static void *helper_main(void *arg)
{
	struct helper *h = arg;

	pthread_mutex_lock(&helpers_lock);
	for (struct beside *b = h->job; b; b = helper_rest(h)) {
		pthread_mutex_unlock(&helpers_lock);
		b->result = b->fn(b->arg);
		pthread_mutex_lock(&helpers_lock);
		h->job = NULL;
		b->done = true;
		pthread_cond_signal(&b->ended);
	}
	pthread_mutex_unlock(&helpers_lock);
	pthread_cond_destroy(&h->wake);
	free(h);
	return NULL;
}

static bool helper_start(struct beside *b)
{
	struct helper *h = calloc(1, sizeof(*h));
	sigset_t all, before;
	pthread_attr_t attr;
	pthread_t thread;
	bool ok;

	if (!h)
		return false;
	h->job = b;
	pthread_cond_init(&h->wake, NULL);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ok = !pthread_create(&thread, &attr, helper_main, h);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	if (!ok) {
		pthread_cond_destroy(&h->wake);
		free(h);
	}
	return ok;
}

/* Lock held. */
static bool helper_hand_over(struct beside *b)
{
	struct helper *h;

	if (helpers_pid != getpid()) {
		helpers_pid = getpid();
		helpers = NULL;
	}
	h = helpers;
	if (!h)
		return false;
	helpers = h->next;
	h->job = b;
	pthread_cond_signal(&h->wake);
	return true;
}

void beside_start(struct beside *b, int (*fn)(void *arg), void *arg)
{
	*b = (struct beside){ .fn = fn, .arg = arg };
	pthread_cond_init(&b->ended, NULL);
	pthread_mutex_lock(&helpers_lock);
	b->started = helper_hand_over(b);
	pthread_mutex_unlock(&helpers_lock);
	if (!b->started)
		b->started = helper_start(b);
}

int beside_wait(struct beside *b)
{
	if (b->started) {
		pthread_mutex_lock(&helpers_lock);
		while (!b->done)
			pthread_cond_wait(&b->ended, &helpers_lock);
		pthread_mutex_unlock(&helpers_lock);
	} else {
		b->result = b->fn(b->arg);
	}
	pthread_cond_destroy(&b->ended);
	return b->result;
}
