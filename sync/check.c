/*
 * Is our version of a record still the origin's? One conditional GET: 304 says yes. A record that changed is not applied here: the
 * feed brings it, in its order; it is only asked to be quick.
 *
 * A question is in the list of its sync from sync_check() until both sides are through with it: the asker may leave at his deadline
 * while the request is on its way; then the loop frees it. Lock: sync->lock guards the list and what is not marked as the loop's.
 */
#include "sync/sync_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/error.h"

struct check {
	struct check *next;
	struct sync *s;
	char store[256], rid[65], etag[65];
	struct origin_call *call; /* the loop's */
	bool started;             /* the loop's */
	bool done, left;          /* answered; the asker is gone */
	int code;
};

/* Lock held. */
static void unlink_check(struct sync *s, struct check *c)
{
	struct check **at = &s->checks;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	free(c);
}

static void answer(struct check *c, int code)
{
	struct sync *s = c->s;

	pthread_mutex_lock(&s->lock);
	c->done = true;
	c->code = code;
	pthread_cond_broadcast(&s->changed);
	if (c->left)
		unlink_check(s, c);
	pthread_mutex_unlock(&s->lock);
}

static void on_answer(void *arg, const struct origin_result *r)
{
	struct check *c = arg;

	c->call = NULL;
	sync_judge(c->s, r);
	if (r->code == CE_STALE || r->code == CE_GONE)
		c->s->hurry_feeds = true;
	answer(c, r->code);
}

/* The next one that `want` is true for; the loop alone changes what it looks at. */
static struct check *find(struct sync *s, bool (*want)(const struct check *c))
{
	struct check *c;

	pthread_mutex_lock(&s->lock);
	for (c = s->checks; c && !want(c); c = c->next)
		;
	pthread_mutex_unlock(&s->lock);
	return c;
}

static bool is_new(const struct check *c)
{
	return !c->started;
}

static bool is_open(const struct check *c)
{
	return !c->done;
}

uint64_t check_step(struct sync *s, uint64_t now_ms)
{
	struct check *c;
	int r;

	if (link_verdict(&s->link)) {
		check_abandon(s);
		return SYNC_NEVER;
	}
	if (!sync_may_call(s, now_ms))
		return SYNC_NEVER;
	while ((c = find(s, is_new))) {
		c->started = true;
		r = s->origin->ops->check(s->origin, c->store, c->rid, c->etag, on_answer, c, &c->call);
		if (r)
			answer(c, r);
	}
	return SYNC_NEVER;
}

void check_abandon(struct sync *s)
{
	int verdict = link_verdict(&s->link);
	struct check *c;

	while ((c = find(s, is_open))) {
		c->started = true;
		origin_abort(s->origin, &c->call);
		answer(c, verdict ? verdict : CE_OFFLINE);
	}
}

void check_free_all(struct sync *s)
{
	struct check *c;

	while ((c = s->checks)) {
		s->checks = c->next;
		free(c);
	}
}

/* Lock held. */
static int wait_answer(struct sync *s, struct check *c, unsigned deadline_ms, const struct sync_cancel *cancel)
{
	struct timespec deadline;
	int r = 0;

	sync_deadline(deadline_ms, &deadline);
	while (!c->done && !r)
		r = sync_wait_change(s, &deadline, cancel);
	if (c->done) {
		r = c->code;
		unlink_check(s, c);
		return r;
	}
	c->left = true;
	return r == -ETIMEDOUT ? CE_OFFLINE : r;
}

int sync_check(struct sync *s, const char *store, const char *rid, const char *etag, unsigned deadline_ms,
	struct sync_cancel *cancel)
{
	struct check *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->s = s;
	snprintf(c->store, sizeof(c->store), "%s", store);
	snprintf(c->rid, sizeof(c->rid), "%s", rid);
	snprintf(c->etag, sizeof(c->etag), "%s", etag);
	pthread_mutex_lock(&s->lock);
	r = s->verdict;
	s->waiters++;
	if (r) {
		free(c);
	} else {
		c->next = s->checks;
		s->checks = c;
		http_wake(s->http);
		r = wait_answer(s, c, deadline_ms, cancel);
	}
	pthread_mutex_unlock(&s->lock);
	sync_left(s);
	return r;
}
