/*
 * The commit queue: one writer for all changes, and few helpers that sync uploads before it.
 *
 *     server_commit_start(&options, &queue);
 *     r = server_commit_submit(queue, job);     // any thread; job->done is called once, later,
 * from the writer server_commit_stop(queue);                // finishes everything submitted, then
 * refuses server_commit_free(queue);
 *
 * A job is a list of changes (a single request, or a batch) or a function. Jobs whose bodies are
 * files go to a helper first (sync, rename, directory sync). The writer then takes all jobs that
 * wait, applies them in one transaction, and COMMITs once, which syncs the log: all of them become
 * durable together, and only then is `done` called. While it syncs, the next ones gather; the
 * busier the server, the more changes share a sync.
 *
 * When the transaction fails, every job is tried alone, so one bad job cannot take others with it.
 * A job that fails alone has job->result < 0 and nothing of it is stored.
 *
 * Files released by a transaction are unlinked after it, by a helper. A crash before that leaves
 * rubbish, removed at start.
 *
 * Threads: submit from any. `done` must not block and must not submit.
 */
#ifndef CACHET_SERVER_COMMIT_H
#define CACHET_SERVER_COMMIT_H

#include <stdbool.h>
#include <stddef.h>

#include "server/body.h"
#include "server/change.h"
#include "server/tx.h"

struct commit_job {
	struct commit_job *next; /* of the queue it is in */
	struct change *changes;
	size_t n_changes;
	int (*run)(struct tx *tx, void *arg); /* instead of changes */
	void *arg;
	void (*done)(struct commit_job *job);
	int result;
};

struct commit_options {
	const char *dir; /* of the database */
	const struct body_dirs *dirs;
	const char *instance;
	uint32_t tag;
	unsigned helpers;
	/* After each commit, before `done`: the stores it changed. */
	void (*changed)(void *arg, const struct store_row *stores, size_t n);
	void *changed_arg;
};

struct commit_queue;

int server_commit_start(const struct commit_options *o, struct commit_queue **out) MUST_CHECK;
/* -ESHUTDOWN after stop, -EBUSY when too much waits already. */
int server_commit_submit(struct commit_queue *q, struct commit_job *job) MUST_CHECK;
void server_commit_stop(struct commit_queue *q);
void server_commit_free(struct commit_queue *q);

#endif
