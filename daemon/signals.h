/*
 * Signals as calls of an ordinary thread.
 *
 *     signals_block() before any thread is started → signals_start → … → signals_stop
 *
 * SIGTERM and SIGINT call `stop`, SIGHUP calls `poke` (in the foreground it is the terminal going
 * away: `stop`). SIGPIPE is ignored. Both callbacks run on the thread made here.
 */
#ifndef CACHET_DAEMON_SIGNALS_H
#define CACHET_DAEMON_SIGNALS_H

#include <stdbool.h>

#include "base/macros.h"

struct signals;

int signals_block(void) MUST_CHECK;

struct signals_calls {
	void (*stop)(void *arg);
	void (*poke)(void *arg);
	void *arg;
};
int signals_start(const struct signals_calls *calls, struct signals **out) MUST_CHECK;
/* Joins the thread. NULL-safe. */
void signals_stop(struct signals *s);

/* For a program without other work: returns at SIGTERM, SIGINT or SIGHUP (blocked before);
 * *hangup: it was SIGHUP. */
int signals_wait(bool *hangup) MUST_CHECK;

#endif
