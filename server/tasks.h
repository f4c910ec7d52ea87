/*
 * Threads for what takes long: a query, an export, a job's worker. A thread that serves connections
 * must not do it itself, for others wait behind it.
 *
 *     server_tasks_new(threads, queued, &t);
 *     r = server_tasks_submit(t, &task);   // -EBUSY: the queue is full, or it is stopping
 *     server_tasks_stop(t);                // what waits is dropped, what runs is awaited
 *     server_tasks_free(t);
 *
 * A task ends exactly once by its `run` with code 0, in a thread of the pool, or with -EBUSY when
 * it is dropped; afterwards the pool does not touch it. The struct belongs to whoever submitted it.
 */
#ifndef CACHET_SERVER_TASKS_H
#define CACHET_SERVER_TASKS_H

#include "base/macros.h"

struct tasks;

struct task {
	struct task *next;
	void (*run)(struct task *t, int code);
};

int server_tasks_new(unsigned threads, unsigned queued, struct tasks **out) MUST_CHECK;
int server_tasks_submit(struct tasks *t, struct task *task) MUST_CHECK;
void server_tasks_stop(struct tasks *t);
/* NULL-safe; after server_tasks_stop. */
void server_tasks_free(struct tasks *t);

#endif
