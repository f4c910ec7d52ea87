/*
 * One call in another thread while its caller does another: two disk syncs take the time of
 * one.
 *
 *     beside_start(&b, fn, arg);  ... other work ...;  r = beside_wait(&b);
 *
 * `fn` has run when beside_wait() returns its result. If no thread can be had it runs there, in the
 * caller's. It must not wait for anything the caller holds.
 */
#ifndef CACHET_BASE_BESIDE_H
#define CACHET_BASE_BESIDE_H

#include <pthread.h>
#include <stdbool.h>

#include "base/macros.h"

struct beside {
	int (*fn)(void *arg);
	void *arg;
	pthread_cond_t ended;
	bool started, done;
	int result;
};

void beside_start(struct beside *b, int (*fn)(void *arg), void *arg);
int beside_wait(struct beside *b) MUST_CHECK;

#endif
