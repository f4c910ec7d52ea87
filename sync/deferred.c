/*
 * Entries of the feed that wait for their object: for a writer, for operations on their way, for a
 * place that is taken. They are tried every two seconds, when something was acknowledged, and once
 * more when all else is through and somebody waits for that (sync_wait_idle): by then only a
 * program that holds a file open can be in the way.
 */
#include "sync/sync_priv.h"

#include <stdlib.h>

#define EVERY_MS 2000

struct deferred_run {
	struct worker_job job;
	struct sync *s;
	struct remote_report report;
	uint64_t gen; /* all was through before it began, as asked for then; 0: it was not */
	int r;
};

static void work(struct worker_job *j)
{
	struct deferred_run *run = (struct deferred_run *)j;

	run->r = remote_retry_deferred(run->s->volume, &run->report);
}

static bool moved_on(const struct deferred_run *run)
{
	const struct remote_report *r = &run->report;

	return r->applied || r->echoes || r->conflicts || r->removed ||
	       r->deferred != run->s->deferred.left;
}

static void done(struct worker_job *j, bool dropped)
{
	struct deferred_run *run = (struct deferred_run *)j;
	struct sync *s = run->s;
	const bool moved = !run->r && moved_on(run);

	s->deferred.run = NULL;
	s->deferred.any = run->r || run->report.deferred > 0;
	if (run->report.applied)
		atomic_store(&s->names_changed, true);
	if (!run->r)
		s->deferred.left = run->report.deferred;
	if (moved)
		sync_moved_on(s); /* what gave way may have to be sent */
	else
		sync_calm(s, &s->deferred.calm_gen, run->gen);
	free(run);
}

bool deferred_is_quiet(const struct sync *s)
{
	return !s->deferred.run;
}

uint64_t deferred_step(struct sync *s, uint64_t now_ms)
{
	const uint64_t gen = sync_through_gen(s);
	struct deferred_run *run;

	if (s->deferred.run)
		return SYNC_NEVER;
	if (!s->deferred.any) {
		sync_calm(s, &s->deferred.calm_gen, gen);
		return SYNC_NEVER;
	}
	if (s->deferred.due_ms > now_ms && s->deferred.calm_gen >= gen)
		return s->deferred.due_ms;
	s->deferred.due_ms = now_ms + EVERY_MS;
	run = calloc(1, sizeof(*run));
	if (!run)
		return s->deferred.due_ms;
	*run = (struct deferred_run){ .job = { .work = work, .done = done }, .s = s, .gen = gen };
	s->deferred.run = run;
	worker_run(s->index, &run->job);
	return SYNC_NEVER;
}
