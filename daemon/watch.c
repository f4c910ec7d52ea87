#include "daemon/watch.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

#define KEEP_MS 120000 /* after the last request */

struct watch {
	struct volume *volume;
	pthread_mutex_t lock; /* leaf: all below */
	pthread_cond_t more;
	struct watch_entry *ring; /* NULL: nobody watches */
	uint64_t last;            /* number of the latest; the ring has those before it */
	uint64_t first;           /* number of the oldest that is kept */
	int64_t asked_ms;
};

static void note(struct watch *w, const struct volume_change *c)
{
	struct watch_entry *e = &w->ring[++w->last % WATCH_MAX];

	*e = (struct watch_entry){ .entry = c->what == CHANGE_ENTRY,
		.parent = c->parent,
		.object = c->object,
		.time_ns = clock_wall_ns() };
	if (e->entry && c->name_len < sizeof(e->name))
		memcpy(e->name, c->name, c->name_len);
	if (w->last - w->first >= WATCH_MAX)
		w->first = w->last - WATCH_MAX + 1;
}

static void watch_push(void *arg, const struct volume_change *changes, size_t n)
{
	struct watch *w = arg;

	pthread_mutex_lock(&w->lock);
	if (w->ring && clock_boot_ms() - w->asked_ms > KEEP_MS) {
		free(w->ring);
		w->ring = NULL;
	}
	for (size_t i = 0; w->ring && i < n; i++)
		note(w, &changes[i]);
	if (!w->ring)
		w->first = ++w->last + 1; /* a gap, should somebody come back */
	pthread_cond_broadcast(&w->more);
	pthread_mutex_unlock(&w->lock);
}

int watch_new(struct volume *v, struct watch **out)
{
	struct watch *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->volume = v;
	w->first = 1;
	pthread_mutex_init(&w->lock, NULL);
	clock_cond_init(&w->more);
	volume_observe(v, VOLUME_WATCH, watch_push, w);
	*out = w;
	return 0;
}

void watch_free(struct watch *w)
{
	if (!w)
		return;
	volume_observe(w->volume, VOLUME_WATCH, NULL, NULL);
	pthread_cond_destroy(&w->more);
	pthread_mutex_destroy(&w->lock);
	free(w->ring);
	free(w);
}

/* Lock held. */
static int attend(struct watch *w)
{
	w->asked_ms = clock_boot_ms();
	if (w->ring)
		return 0;
	w->ring = calloc(WATCH_MAX, sizeof(*w->ring));
	w->first = w->last + 1;
	return w->ring ? 0 : -ENOMEM;
}

uint64_t watch_now(struct watch *w)
{
	uint64_t last;

	pthread_mutex_lock(&w->lock);
	(void)!attend(w); /* without memory the next request sees a gap */
	last = w->last;
	pthread_mutex_unlock(&w->lock);
	return last;
}

static void wait_more(struct watch *w, uint64_t after, unsigned wait_ms)
{
	const struct timespec until = clock_cond_in(wait_ms * NS_PER_MS);
	int err = 0;

	while (w->last == after && !err)
		err = pthread_cond_timedwait(&w->more, &w->lock, &until);
}

int watch_take(struct watch *w, uint64_t *after, unsigned wait_ms, struct watch_entry *out,
	size_t max, size_t *n)
{
	int r;

	*n = 0;
	pthread_mutex_lock(&w->lock);
	r = attend(w);
	if (!r)
		wait_more(w, *after, wait_ms);
	if (!r && (*after > w->last || *after + 1 < w->first || !w->ring)) {
		*after = w->last;
		r = -EOVERFLOW;
	}
	for (; !r && *n < max && *after < w->last; (*n)++)
		out[*n] = w->ring[++*after % WATCH_MAX];
	pthread_mutex_unlock(&w->lock);
	return r;
}
