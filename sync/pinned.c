/*
 * What is pinned is brought here: a thread of its own that looks at the pins when names may have
 * changed (`names_changed`) and there is a link, marks them (pin_apply) and fetches what is
 * missing, behind all readers (sync_warm). It rests ten times as long as looking took, so that a
 * large pin under a busy directory costs a tenth of a processor at most; new content of a pinned
 * file that arrives meanwhile is marked already.
 *
 * No room, or an origin that does not give a file: tried again after RETRY_MS, or when something
 * changes. Offline: when the link is back.
 */
#include "sync/sync_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/array.h"
#include "base/error.h"
#include "base/log.h"
#include "cache/pin.h"

#define SETTLE_MS 200
#define REST_FACTOR 10
#define REST_MAX_MS 60000
#define RETRY_MS 60000
#define SOON_MS 3000
#define REQUEST_MS 60000
#define LOT 1024

struct lot {
	struct sync_item *items;
	size_t n, cap;
};

static int gather(void *arg, const struct walk_file *f)
{
	struct lot *l = arg;

	if (ARRAY_ROOM(l->items, l->n, l->cap))
		return -ENOMEM;
	l->items[l->n++] = (struct sync_item){ f->object, f->version, f->size, 0 };
	return 0;
}

/* Lot by lot: what changed meanwhile is looked at before the next. */
static int fetch_missing(struct sync *s)
{
	struct lot l = { .n = 0 };
	int r = pin_missing(s->volume, gather, &l), failed = 0;

	for (size_t i = 0; i < l.n && !r && !atomic_load(&s->names_changed); i += LOT) {
		size_t n = MIN_OF(l.n - i, (size_t)LOT);

		r = sync_warm(s, l.items + i, n, REQUEST_MS, NULL);
		for (size_t k = i; k < i + n && !failed; k++)
			failed = l.items[k].code;
	}
	free(l.items);
	return r ? r : failed;
}

static bool may_fetch(const struct sync *s)
{
	return !s->verdict && (s->status.state == SYNC_ONLINE || s->status.state == SYNC_DEGRADED);
}

/* False: the sync ends. */
static bool rest(struct sync *s, uint64_t ms)
{
	struct timespec deadline;
	int r = 0;

	sync_deadline((unsigned)MIN_OF(ms, (uint64_t)REST_MAX_MS), &deadline);
	pthread_mutex_lock(&s->lock);
	while (!r)
		r = sync_wait_change(s, &deadline, NULL);
	pthread_mutex_unlock(&s->lock);
	return r == -ETIMEDOUT;
}

/* Waits until there is something to do; retry_ms 0 = only when something changed. */
static bool wait_for_work(struct sync *s, uint64_t retry_ms)
{
	uint64_t due = retry_ms ? sync_now_ms() + retry_ms : SYNC_NEVER;
	struct timespec tick;
	int r = 0;

	pthread_mutex_lock(&s->lock);
	while (r != CE_OFFLINE &&
		!(may_fetch(s) && (atomic_load(&s->names_changed) || sync_now_ms() >= due))) {
		sync_deadline(RETRY_MS, &tick);
		r = sync_wait_change(s, &tick, NULL);
	}
	pthread_mutex_unlock(&s->lock);
	return r != CE_OFFLINE;
}

static void *pinned_main(void *arg)
{
	struct sync *s = arg;
	uint64_t retry_ms = 0, began;
	struct pin_state state;
	bool any = true;
	int r;

	while (wait_for_work(s, retry_ms) && rest(s, SETTLE_MS)) {
		began = sync_now_ms();
		atomic_store(&s->names_changed, false);
		r = pin_apply(s->volume, &state, &any);
		if (!any)
			continue;
		began = sync_now_ms() - began;
		if (!r && state.missing_files)
			r = fetch_missing(s);
		retry_ms = r ? RETRY_MS : 0;
		if (r == CE_OFFLINE || r == CE_AUTH)
			retry_ms = SOON_MS;
		if (r)
			log_debug("pins: not all could be fetched: %s", error_text(r));
		if (!rest(s, began * REST_FACTOR))
			break;
	}
	return NULL;
}

void sync_pins_changed(struct sync *s)
{
	atomic_store(&s->names_changed, true);
	pthread_mutex_lock(&s->lock);
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

int pinned_start(struct sync *s)
{
	int r;

	atomic_store(&s->names_changed, true);
	r = worker_thread(&s->pinned, pinned_main, s);
	s->pinned_runs = !r;
	return r;
}

/* `stop` is set. */
void pinned_stop(struct sync *s)
{
	if (!s->pinned_runs)
		return;
	pthread_join(s->pinned, NULL);
	s->pinned_runs = false;
}
