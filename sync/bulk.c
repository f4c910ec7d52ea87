/*
 * Many small files in one request (POST get): for warm and pins, and ahead of a reader that goes
 * through a directory (sync/ahead.c).
 *
 *   any thread    bulk_make + bulk_add + bulk_submit, then bulk_wait or bulk_leave
 *   the loop      one call each, at most BULKS_MAX at once and never in the place of a reader's
 *   fill worker   file_fill of each, and the last reference to its file
 *
 * A reader that wants a file which is in a bulk on its way waits for that (bulk_covers); if the
 * bulk fails it is served alone, and for PAUSE_MS there are no others: an origin, or what stands
 * before it, that cannot do this costs speed and not the link. A bulk is in the list of its sync
 * from bulk_submit until it is done and nobody waits for it. Lock: sync->lock guards the list,
 * `done`, `left` and `started`; `files` belong to the loop and then the worker until `done`.
 */
#include "sync/sync_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"

#define BULKS_MAX 2
#define PAUSE_MS 30000

struct bulk_file {
	struct sync_item *item; /* told at the end, if somebody waits */
	uint64_t object, version, size;
	char rid[65], etag[65];
	struct file *file;
	void *data;
	size_t len;
	int code;
};

struct bulk {
	struct worker_job job; /* first */
	struct bulk *next;
	struct sync *s;
	uint64_t store;
	struct bulk_file files[BULK_FILES_MAX];
	size_t n;
	uint64_t bytes;
	struct origin_call *call;
	bool started, done, left;
};

static void bulk_free(struct bulk *b)
{
	for (size_t i = 0; i < b->n; i++) {
		if (b->files[i].file)
			file_unref(b->files[i].file, false);
		free(b->files[i].data);
	}
	free(b);
}

/* Lock held. */
static void unlink_bulk(struct bulk *b)
{
	struct bulk **at = &b->s->fetch.bulks;

	while (*at != b)
		at = &(*at)->next;
	*at = b->next;
}

/* --- the end --- */

static void store_work(struct worker_job *j)
{
	struct bulk *b = (struct bulk *)j;

	for (size_t i = 0; i < b->n; i++) {
		struct bulk_file *f = &b->files[i];

		if (!f->code)
			f->code = file_fill(f->file, f->etag, f->data, f->len, 0);
		file_unref(steal_ptr(&f->file), false);
		free(steal_ptr(&f->data));
	}
}

static void store_done(struct worker_job *j, bool dropped)
{
	struct bulk *b = (struct bulk *)j;
	struct sync *s = b->s;
	bool left;

	for (size_t i = 0; i < b->n; i++) {
		if (dropped && !b->files[i].code)
			b->files[i].code = CE_OFFLINE;
		if (!b->files[i].code)
			fetch_answer(s, b->files[i].object, b->files[i].version);
	}
	pthread_mutex_lock(&s->lock);
	b->done = true;
	left = b->left;
	if (left)
		unlink_bulk(b);
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	if (left)
		bulk_free(b);
}

/* What has no code yet gets this one. */
static void finish(struct bulk *b, int code)
{
	for (size_t i = 0; i < b->n && code; i++)
		if (!b->files[i].code)
			b->files[i].code = code;
	b->job.work = store_work;
	b->job.done = store_done;
	worker_run(b->s->fill, &b->job);
}

static int take(struct bulk_file *f, const struct origin_content *c)
{
	if (c->code)
		return c->code;
	if (strcmp(c->record.id, f->rid))
		return CE_PROTOCOL;
	if (strcmp(c->record.etag, f->etag))
		return CE_STALE;
	if (c->len != f->size)
		return CE_PROTOCOL;
	f->data = malloc(c->len);
	if (!f->data)
		return -ENOMEM;
	memcpy(f->data, c->data, c->len);
	f->len = c->len;
	return 0;
}

static void on_contents(
	void *arg, const struct origin_result *r, const struct origin_content *contents, size_t n)
{
	struct bulk *b = arg;
	struct sync *s = b->s;

	b->call = NULL;
	s->fetch.active_bulks--;
	if (!r->code || s->fetch.no_bulks_ms <= sync_now_ms())
		sync_judge(s, r);
	if (r->code)
		s->fetch.no_bulks_ms = sync_now_ms() + PAUSE_MS;
	for (size_t i = 0; i < n && !r->code; i++) {
		struct bulk_file *f = &b->files[i];

		f->code = take(f, &contents[i]);
		if (f->code == CE_STALE || f->code == CE_GONE)
			s->hurry_feeds = true;
		s->fetch.bytes += f->len;
	}
	finish(b, r->code);
}

/* --- the loop's part --- */

static int start(struct bulk *b)
{
	const struct feed *feed = feed_find(b->s, b->store);
	const char *rids[BULK_FILES_MAX];
	int r;

	if (!feed)
		return CE_REFUSED;
	for (size_t i = 0; i < b->n; i++)
		rids[i] = b->files[i].rid;
	r = b->s->origin->ops->get_small(
		b->s->origin, feed->name, rids, b->n, on_contents, b, &b->call);
	if (!r)
		b->s->fetch.active_bulks++;
	return r;
}

static struct bulk *next_bulk(struct sync *s)
{
	struct bulk *b;

	pthread_mutex_lock(&s->lock);
	for (b = s->fetch.bulks; b && b->started; b = b->next)
		;
	if (b)
		b->started = true;
	pthread_mutex_unlock(&s->lock);
	return b;
}

uint64_t bulk_step(struct sync *s, uint64_t now_ms)
{
	struct bulk *b;
	int r;

	if (link_verdict(&s->link)) {
		bulk_abandon(s);
		return SYNC_NEVER;
	}
	if (!sync_may_call(s, now_ms))
		return SYNC_NEVER;
	while (s->fetch.active_bulks < BULKS_MAX && s->fetch.active < s->parallel &&
		(b = next_bulk(s))) {
		r = s->fetch.no_bulks_ms > now_ms ? CE_REFUSED : start(b);
		if (r)
			finish(b, r);
	}
	return SYNC_NEVER;
}

/* The loop alone starts bulks, so what it sees here stays. */
void bulk_abandon(struct sync *s)
{
	int verdict = link_verdict(&s->link);
	struct bulk *b;

	if (!verdict)
		verdict = CE_OFFLINE;
	pthread_mutex_lock(&s->lock);
	for (b = s->fetch.bulks; b && !b->call; b = b->next)
		;
	pthread_mutex_unlock(&s->lock);
	while (b) {
		origin_abort(s->origin, &b->call);
		s->fetch.active_bulks--;
		finish(b, verdict);
		pthread_mutex_lock(&s->lock);
		for (b = s->fetch.bulks; b && !b->call; b = b->next)
			;
		pthread_mutex_unlock(&s->lock);
	}
	while ((b = next_bulk(s)))
		finish(b, verdict);
}

bool bulk_covers(const struct sync *s, uint64_t object, uint64_t version, bool started)
{
	for (const struct bulk *b = s->fetch.bulks; b; b = b->next) {
		if ((started && !b->started) || b->done)
			continue;
		for (size_t i = 0; i < b->n; i++)
			if (b->files[i].object == object && b->files[i].version == version)
				return true;
	}
	return false;
}

/* --- the callers' part --- */

struct bulk *bulk_make(struct sync *s)
{
	struct bulk *b = calloc(1, sizeof(*b));

	if (b)
		b->s = s;
	return b;
}

bool bulk_has_room(const struct bulk *b, uint64_t size)
{
	return b->n < BULK_FILES_MAX && (!b->n || b->bytes + size <= BULK_BYTES_MAX);
}

size_t bulk_count(const struct bulk *b)
{
	return b->n;
}

/* 1: nothing of it is missing; 0: added. */
int bulk_add(struct bulk *b, struct sync_item *item)
{
	struct bulk_file *f = &b->files[b->n];
	struct file_range range;
	struct file *file;
	int r = file_open(b->s->volume, item->object, item->version, false, &file);

	if (r)
		return r;
	r = file_missing(file, 0, UINT64_MAX, UINT64_MAX, &range);
	if (!r && !range.len)
		r = 1;
	if (!r && (!*range.rid || !*range.etag || file_size(file) > BULK_FILE_BYTES_MAX))
		r = CE_REFUSED;
	if (!r && b->n && range.store != b->store)
		r = CE_REFUSED;
	if (r) {
		file_unref(file, false);
		return r;
	}
	*f = (struct bulk_file){ .item = item,
		.object = item->object,
		.version = item->version,
		.size = file_size(file),
		.file = file };
	memcpy(f->rid, range.rid, sizeof(f->rid));
	memcpy(f->etag, range.etag, sizeof(f->etag));
	b->store = range.store;
	b->bytes += f->size;
	b->n++;
	return 0;
}

int bulk_submit(struct bulk *b, bool leave)
{
	struct sync *s = b->s;
	struct bulk **at = &s->fetch.bulks;
	int r;

	pthread_mutex_lock(&s->lock);
	r = atomic_load(&s->stop) ? CE_OFFLINE : s->verdict;
	if (!r) {
		b->left = leave;
		/* What runs ahead of a reader goes before what nobody waits for. */
		while (!leave && *at)
			at = &(*at)->next;
		b->next = *at;
		*at = b;
	}
	pthread_mutex_unlock(&s->lock);
	if (r)
		bulk_free(b);
	else
		http_wake(s->http);
	return r;
}

void bulk_drop(struct bulk *b)
{
	if (b)
		bulk_free(b);
}

static void tell_items(const struct bulk *b)
{
	for (size_t i = 0; i < b->n; i++)
		b->files[i].item->code = b->files[i].code;
}

int bulk_wait(struct bulk *b, const struct timespec *deadline, const struct sync_cancel *cancel)
{
	struct sync *s = b->s;
	bool done;
	int r = 0;

	pthread_mutex_lock(&s->lock);
	while (!b->done && !r)
		r = sync_wait_change(s, deadline, cancel);
	done = b->done;
	if (done)
		unlink_bulk(b);
	else
		b->left = true;
	pthread_mutex_unlock(&s->lock);
	if (!done)
		return r == -ETIMEDOUT ? CE_OFFLINE : r;
	tell_items(b);
	bulk_free(b);
	return 0;
}

void bulk_free_all(struct sync *s)
{
	struct bulk *b;

	while ((b = s->fetch.bulks)) {
		s->fetch.bulks = b->next;
		bulk_free(b);
	}
}
