/*
 * The readers' part of fetching (fetch.c): a want is hung into the list, the loop woken, and waited
 * for. Any thread; wants stand on their readers' stacks.
 */
#include "sync/sync_priv.h"

#include <errno.h>
#include <time.h>

#include "base/error.h"

#define ROOM_WAIT_MS 200
#define ROOM_WAITS 25 /* for all of a read */

void fetch_fail_all(struct sync *s, int code)
{
	pthread_mutex_lock(&s->lock);
	for (struct fetch_want *w = s->fetch.wants; w; w = w->next) {
		if (w->done)
			continue;
		w->done = true;
		w->code = code;
	}
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

/* Lock held. Until the want is met, or the caller has to go. */
static int wait_for(struct sync *s, struct fetch_want *w, const struct timespec *deadline,
	const struct sync_cancel *cancel)
{
	int r = 0;

	while (!w->done && !r)
		r = sync_wait_change(s, deadline, cancel);
	if (w->done)
		return w->code;
	return r == -ETIMEDOUT ? CE_OFFLINE : r;
}

static int want(struct sync *s, struct fetch_want *w, const struct timespec *deadline,
	const struct sync_cancel *cancel)
{
	struct fetch_want **at = &s->fetch.wants;
	struct file *left;
	int r;

	pthread_mutex_lock(&s->lock);
	r = s->verdict;
	s->waiters++;
	if (!r) {
		while (*at)
			at = &(*at)->next;
		*at = w;
		http_wake(s->http);
		r = wait_for(s, w, deadline, cancel);
		for (at = &s->fetch.wants; *at != w; at = &(*at)->next)
			;
		*at = w->next;
	}
	left = steal_ptr(&w->file);
	pthread_mutex_unlock(&s->lock);
	if (left)
		file_unref(left, false);
	sync_left(s);
	return r;
}

/* A volume full of unsent work has room again when some of it is sent. */
static int wait_for_room(struct sync *s, const struct sync_cancel *cancel)
{
	struct timespec soon;
	int r;

	sync_deadline(ROOM_WAIT_MS, &soon);
	pthread_mutex_lock(&s->lock);
	s->waiters++;
	r = s->verdict;
	while (!r)
		r = sync_wait_change(s, &soon, cancel);
	pthread_mutex_unlock(&s->lock);
	sync_left(s);
	return r == -ETIMEDOUT ? 0 : r;
}

static int want_missing(struct sync *s, struct file *f, uint64_t demand,
	const struct file_range *missing, bool behind, bool frugal, const struct timespec *deadline,
	const struct sync_cancel *cancel)
{
	struct fetch_want w = { .behind = behind,
		.frugal = frugal,
		.object = file_object(f),
		.version = file_version(f),
		.size = file_size(f),
		.off = missing->off,
		.demand = demand,
		.range = *missing };
	int r = file_open(s->volume, w.object, w.version, false, &w.file);

	return r ? r : want(s, &w, deadline, cancel);
}

static int fetch(struct sync *s, struct file *f, uint64_t off, uint64_t len, bool behind,
	unsigned deadline_ms, struct sync_cancel *cancel)
{
	uint64_t size = file_size(f), end = len > size - MIN_OF(off, size) ? size : off + len;
	struct file_range missing;
	unsigned waits = 0; /* for room */
	struct timespec deadline;
	int r;

	sync_deadline(deadline_ms, &deadline);
	for (;;) {
		uint64_t ask = MAX_OF(end > off ? end - off : 0, WINDOW_MAX);

		r = file_missing(f, off, ask, WINDOW_MAX, &missing);
		if (r || !missing.len || missing.off >= end)
			return r;
		r = want_missing(s, f, end, &missing, behind, waits, &deadline, cancel);
		if (r == -ENOSPC && waits++ < ROOM_WAITS && !behind)
			r = wait_for_room(s, cancel);
		if (r)
			return r;
	}
}

int sync_fetch(struct sync *s, struct file *f, uint64_t off, uint64_t len, unsigned deadline_ms,
	struct sync_cancel *cancel)
{
	if (file_size(f) <= BULK_FILE_BYTES_MAX)
		ahead_missed(s, f);
	return fetch(s, f, off, len, false, deadline_ms, cancel);
}

void sync_read_on(struct sync *s, struct file *f, uint64_t off)
{
	struct fetch_reader r = { .object = file_object(f),
		.version = file_version(f),
		.size = file_size(f),
		.off = off };
	bool fits;

	pthread_mutex_lock(&s->lock);
	fits = s->fetch.readers_n < FETCH_READERS;
	if (fits)
		s->fetch.readers[s->fetch.readers_n++] = r;
	pthread_mutex_unlock(&s->lock);
	if (fits)
		http_wake(s->http);
}

int fetch_behind(struct sync *s, struct file *f, uint64_t off, uint64_t len, unsigned deadline_ms,
	struct sync_cancel *cancel)
{
	return fetch(s, f, off, len, true, deadline_ms, cancel);
}
