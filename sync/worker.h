/*
 * A thread that does disk work for the network thread, one job after another.
 *
 *     worker_new → worker_run (network thread) → job->work (worker) → worker_reap (network thread:
 * job->done) → worker_free
 *
 * A job is embedded in its owner's struct; until `done` it belongs to the worker: the owner reads
 * what `work` wrote only in `done`. Jobs that had not begun when worker_free() is called are given
 * to `done` with `dropped` set, in the thread that calls it.
 */
#ifndef CACHET_SYNC_WORKER_H
#define CACHET_SYNC_WORKER_H

#include <pthread.h>
#include <stdbool.h>

#include "base/macros.h"

struct worker;

struct worker_job {
	void (*work)(struct worker_job *j);
	void (*done)(struct worker_job *j, bool dropped);
	struct worker_job *next;
};

/* `wake` is called from the worker when a job has ended. */
int worker_new(void (*wake)(void *arg), void *arg, struct worker **out) MUST_CHECK;
void worker_run(struct worker *w, struct worker_job *j);
/* Calls `done` of the jobs that ended. */
void worker_reap(struct worker *w);
/* A thread in which no signal is handled: signals are the main thread's, and SIGPIPE of a lost TLS
 * connection nobody's. */
int worker_thread(pthread_t *thread, void *(*main)(void *arg), void *arg) MUST_CHECK;
/* Lets the job under way end and drops the others. NULL-safe. */
void worker_free(struct worker *w);

#endif
