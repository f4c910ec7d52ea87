/*
 * Jobs: payloads that wait in the volume (cache/jobs.h) are sent one after another, oldest first,
 * under the key they got when they were handed in; results are asked for when somebody wants one.
 *
 * Everything of `send` is the loop's. A question for a result is in the list of its sync until both
 * sides are through with it, as in check.c. Lock: sync->lock guards the list and what is not marked
 * as the loop's.
 */
#include "sync/sync_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/json.h"
#include "cache/jobs.h"

#define RETRY_MS 5000

struct job_ask {
	struct job_ask *next;
	struct sync *s;
	char job_id[JOBS_KEY_SIZE];
	struct origin_call *call; /* the loop's */
	bool started;             /* the loop's */
	bool done, left;
	int code;
	void *data;
	size_t len;
};

/* ---- sending ---- */

static int settle(struct sync *s, const struct origin_result *r, const void *data, size_t len)
{
	_cleanup_json_ struct json *job = NULL;
	const char *id;

	switch (r->code) {
	case 0:
		if (json_parse(data, len, &job) || json_get_string(job, "job_id", &id) ||
			strlen(id) >= JOBS_KEY_SIZE)
			return CE_PROTOCOL;
		return jobs_settle(s->volume, s->jobs.key, id, NULL);
	case CE_REFUSED:
	case CE_TOO_LARGE:
	case CE_GONE:
	case CE_CONFLICT:
		return jobs_settle(s->volume, s->jobs.key, NULL, r->text);
	default:
		return r->code;
	}
}

static void on_sent(
	void *arg, const struct origin_result *r, const char *etag, const void *data, size_t len)
{
	struct sync *s = arg;

	(void)etag;
	s->jobs.call = NULL;
	sync_judge(s, r);
	if (settle(s, r, data, len))
		s->jobs.next_ms = sync_now_ms() + MAX_OF(r->retry_after_ms, (uint64_t)RETRY_MS);
}

static void send_next(struct sync *s)
{
	struct jobs_waiting w;
	struct origin_job job;
	int r = jobs_next(s->volume, &w);

	if (r) {
		s->jobs.none = r == -ENOENT;
		s->jobs.next_ms = sync_now_ms() + RETRY_MS;
		return;
	}
	memcpy(s->jobs.key, w.key, sizeof(s->jobs.key));
	job = (struct origin_job){ .type = w.type, .key = w.key, .data = w.data, .len = w.len };
	if (s->origin->ops->job(s->origin, &job, on_sent, s, &s->jobs.call))
		s->jobs.next_ms = sync_now_ms() + RETRY_MS;
}

void sync_jobs_changed(struct sync *s)
{
	atomic_store(&s->jobs_changed, true);
	http_wake(s->http);
}

/* ---- results ---- */

/* Lock held. */
static void unlink_ask(struct sync *s, struct job_ask *a)
{
	struct job_ask **at = &s->job_asks;

	while (*at != a)
		at = &(*at)->next;
	*at = a->next;
	free(a->data);
	free(a);
}

static void answer(struct job_ask *a, int code)
{
	struct sync *s = a->s;

	pthread_mutex_lock(&s->lock);
	a->done = true;
	a->code = code;
	pthread_cond_broadcast(&s->changed);
	if (a->left)
		unlink_ask(s, a);
	pthread_mutex_unlock(&s->lock);
}

static void on_result(
	void *arg, const struct origin_result *r, const char *etag, const void *data, size_t len)
{
	struct job_ask *a = arg;

	(void)etag;
	a->call = NULL;
	sync_judge(a->s, r);
	if (!r->code) {
		a->data = malloc(len + 1);
		if (a->data)
			memcpy(a->data, data, len);
		a->len = len;
	}
	/* 409: it is not there yet. */
	answer(a, r->status == 409 ? -EAGAIN : r->code ? r->code : a->data ? 0 : -ENOMEM);
}

static struct job_ask *find(struct sync *s, bool started)
{
	struct job_ask *a;

	pthread_mutex_lock(&s->lock);
	for (a = s->job_asks; a && (a->done || a->started > started); a = a->next)
		;
	pthread_mutex_unlock(&s->lock);
	return a;
}

static void ask(struct job_ask *a)
{
	const struct origin_job job = { .result_of = a->job_id };
	int r;

	a->started = true;
	r = a->s->origin->ops->job(a->s->origin, &job, on_result, a, &a->call);
	if (r)
		answer(a, r);
}

uint64_t job_step(struct sync *s, uint64_t now_ms)
{
	struct job_ask *a;

	if (link_verdict(&s->link)) {
		job_abandon(s);
		return SYNC_NEVER;
	}
	if (!sync_may_call(s, now_ms))
		return SYNC_NEVER;
	while ((a = find(s, false)))
		ask(a);
	if (atomic_exchange(&s->jobs_changed, false)) {
		s->jobs.none = false;
		s->jobs.next_ms = 0;
	}
	if (s->jobs.call || s->jobs.none)
		return SYNC_NEVER;
	if (s->jobs.next_ms <= now_ms)
		send_next(s);
	return s->jobs.call || s->jobs.none ? SYNC_NEVER : s->jobs.next_ms;
}

void job_abandon(struct sync *s)
{
	int verdict = link_verdict(&s->link);
	struct job_ask *a;

	origin_abort(s->origin, &s->jobs.call);
	while ((a = find(s, true))) {
		a->started = true;
		origin_abort(s->origin, &a->call);
		answer(a, verdict ? verdict : CE_OFFLINE);
	}
}

void job_free_all(struct sync *s)
{
	struct job_ask *a;

	while ((a = s->job_asks)) {
		s->job_asks = a->next;
		free(a->data);
		free(a);
	}
}

/* Lock held. */
static int wait_answer(
	struct sync *s, struct job_ask *a, unsigned deadline_ms, void **data, size_t *len)
{
	struct timespec deadline;
	int r = 0;

	sync_deadline(deadline_ms, &deadline);
	while (!a->done && !r)
		r = sync_wait_change(s, &deadline, NULL);
	if (!a->done) {
		a->left = true;
		return r == -ETIMEDOUT ? CE_OFFLINE : r;
	}
	r = a->code;
	if (!r) {
		*data = steal_ptr(&a->data);
		*len = a->len;
	}
	unlink_ask(s, a);
	return r;
}

int sync_job_result(
	struct sync *s, const char *job_id, unsigned deadline_ms, void **data, size_t *len)
{
	struct job_ask *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	a->s = s;
	snprintf(a->job_id, sizeof(a->job_id), "%s", job_id);
	pthread_mutex_lock(&s->lock);
	r = s->verdict;
	s->waiters++;
	if (r) {
		free(a);
	} else {
		a->next = s->job_asks;
		s->job_asks = a;
		http_wake(s->http);
		r = wait_answer(s, a, deadline_ms, data, len);
	}
	pthread_mutex_unlock(&s->lock);
	sync_left(s);
	return r;
}
