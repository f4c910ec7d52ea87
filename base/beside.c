#include "base/beside.h"

#include <signal.h>

#define STACK_BYTES (256 * 1024)

static void *run(void *arg)
{
	struct beside *b = arg;

	b->result = b->fn(b->arg);
	return NULL;
}

void beside_start(struct beside *b, int (*fn)(void *arg), void *arg)
{
	sigset_t all, before;
	pthread_attr_t attr;

	*b = (struct beside){ .fn = fn, .arg = arg };
	if (pthread_attr_init(&attr))
		return;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	b->started = !pthread_attr_setstacksize(&attr, STACK_BYTES) &&
		     !pthread_create(&b->thread, &attr, run, b);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
}

int beside_wait(struct beside *b)
{
	if (b->started)
		pthread_join(b->thread, NULL);
	else
		run(b);
	return b->result;
}
