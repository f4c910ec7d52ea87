/*
 * Answers of queries: asked for when somebody looks one up, put into the volume by the index
 * worker.
 *
 * A question is in the list of its sync until it is answered and nobody waits for it; who asks the
 * same meanwhile joins it. Lock: sync->lock guards the list and what is not marked as the loop's.
 */
#include "sync/sync_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"

struct question {
	struct worker_job job; /* first; the loop's */
	struct question *next;
	struct sync *s;
	struct queries_one q;
	struct origin_call *call; /* the loop's, as what follows */
	bool started, working;
	char etag[65];
	void *data;
	size_t len;
	int judged; /* what the origin said */

	bool done;
	unsigned waiting;
	int code;
};

/* Lock held. */
static void release(struct question *c)
{
	struct question **at = &c->s->questions;

	if (!c->done || c->waiting)
		return;
	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	free(c->data);
	free(c);
}

static void answer(struct question *c, int code)
{
	struct sync *s = c->s;

	pthread_mutex_lock(&s->lock);
	c->done = true;
	c->code = code;
	pthread_cond_broadcast(&s->changed);
	release(c);
	pthread_mutex_unlock(&s->lock);
}

static void put_work(struct worker_job *j)
{
	struct question *c = (struct question *)j;

	if (c->judged == -ENOENT) {
		int r = queries_gone(c->s->volume, &c->q);

		c->judged = r ? r : -ENOENT;
	} else {
		c->judged = queries_put(c->s->volume, &c->q, c->etag, c->data, c->len);
	}
}

static void put_done(struct worker_job *j, bool dropped)
{
	struct question *c = (struct question *)j;

	answer(c, dropped ? CE_OFFLINE : c->judged);
}

static void put(struct question *c)
{
	c->working = true;
	c->job.work = put_work;
	c->job.done = put_done;
	worker_run(c->s->index, &c->job);
}

/* 400 and 404: this query has no such answer. Anything else is not about it. */
static int judge(const struct origin_result *r)
{
	if (r->code == CE_GONE || (r->code == CE_REFUSED && r->status == 400))
		return -ENOENT;
	return r->code == -EAGAIN || r->code == -EBUSY ? CE_OFFLINE : r->code;
}

static void on_answer(
	void *arg, const struct origin_result *r, const char *etag, const void *data, size_t len)
{
	struct question *c = arg;

	c->call = NULL;
	sync_judge(c->s, r);
	c->judged = judge(r);
	if (!r->code && data) {
		c->data = malloc(len + 1);
		if (!c->data) {
			answer(c, -ENOMEM);
			return;
		}
		memcpy(c->data, data, len);
		c->len = len;
		memcpy(c->etag, etag, strlen(etag) + 1);
		put(c);
	} else if (c->judged == -ENOENT) {
		put(c);
	} else {
		answer(c, c->judged);
	}
}

static struct question *find(struct sync *s, bool (*want)(const struct question *c))
{
	struct question *c;

	pthread_mutex_lock(&s->lock);
	for (c = s->questions; c && !want(c); c = c->next)
		;
	pthread_mutex_unlock(&s->lock);
	return c;
}

static bool is_new(const struct question *c)
{
	return !c->started;
}

static bool is_open(const struct question *c)
{
	return !c->done && !c->working;
}

uint64_t question_step(struct sync *s, uint64_t now_ms)
{
	struct question *c;
	int r;

	if (link_verdict(&s->link)) {
		question_abandon(s);
		return SYNC_NEVER;
	}
	if (!sync_may_call(s, now_ms))
		return SYNC_NEVER;
	while ((c = find(s, is_new))) {
		c->started = true;
		r = s->origin->ops->query(s->origin, c->q.store_name, c->q.address, c->q.etag,
			on_answer, c, &c->call);
		if (r)
			answer(c, r);
	}
	return SYNC_NEVER;
}

void question_abandon(struct sync *s)
{
	int verdict = link_verdict(&s->link);
	struct question *c;

	while ((c = find(s, is_open))) {
		c->started = true;
		origin_abort(s->origin, &c->call);
		answer(c, verdict ? verdict : CE_OFFLINE);
	}
}

void question_free_all(struct sync *s)
{
	struct question *c;

	while ((c = s->questions)) {
		s->questions = c->next;
		free(c->data);
		free(c);
	}
}

/* Lock held: the question of this address, a new one unless one is on its way. */
static struct question *take(struct sync *s, const struct queries_one *q)
{
	struct question *c;

	for (c = s->questions; c; c = c->next)
		if (!c->done && c->q.store == q->store && !strcmp(c->q.address, q->address))
			return c;
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->s = s;
	c->q = *q;
	c->next = s->questions;
	s->questions = c;
	http_wake(s->http);
	return c;
}

/* Lock held. */
static int wait_answer(
	struct sync *s, struct question *c, unsigned deadline_ms, const struct sync_cancel *cancel)
{
	struct timespec deadline;
	int r = 0;

	sync_deadline(deadline_ms, &deadline);
	c->waiting++;
	while (!c->done && !r)
		r = sync_wait_change(s, &deadline, cancel);
	if (c->done)
		r = c->code;
	c->waiting--;
	release(c);
	return r == -ETIMEDOUT ? CE_OFFLINE : r;
}

int sync_query(struct sync *s, uint64_t dir, const char *name, bool wait, unsigned deadline_ms,
	struct sync_cancel *cancel)
{
	struct queries_one q;
	struct question *c;
	int r = queries_find(s->volume, dir, name, &q);

	if (r)
		return r;
	pthread_mutex_lock(&s->lock);
	r = wait ? s->verdict : 0;
	s->waiters++;
	if (!r && !s->verdict) {
		c = take(s, &q);
		if (!c)
			r = -ENOMEM;
		else if (wait)
			r = wait_answer(s, c, deadline_ms, cancel);
	}
	pthread_mutex_unlock(&s->lock);
	sync_left(s);
	return r;
}
