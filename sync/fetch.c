/*
 * Content on its way here.
 *
 *   a reader (any thread)      struct fetch_want on its stack: "the byte at `off` of this version"
 *   the loop                   transfers: one ranged GET each, up to 8 MiB, cut into pieces of at
 * most SYNC_FETCH_UNIT_BYTES the fill worker            seals a piece (file_fill), then the wants
 * in it are met
 *
 * A want is not tied to a transfer: whichever transfer of its version covers its offset serves it,
 * so readers of one range share one request, and a want that no transfer covers makes one. A reader
 * that comes where the last transfer ended is sequential: its window (window.h) grows, and
 * when it has got half-way through a large one the next is fetched ahead.
 *
 * Everything of a transfer is of one version: Range with If-Match; 412 or another ETag is CE_STALE.
 * What a transfer that breaks off has brought in whole chunks is kept; the rest is asked for again
 * as long as somebody wants it.
 *
 * Memory: at most PENDING_MAX pieces of a transfer wait for the fill worker; then the transfer
 * pauses. Lock: wants (list and members, but for `file`, which the loop takes) under sync->lock;
 * transfers belong to the loop.
 */
#include "sync/sync_priv.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "sync/backoff.h"

#define PENDING_MAX 4
#define ROOM_WAIT_MS 200
#define ROOM_WAITS 25 /* for all of a read */
#define TRIES_MAX 4
#define RETRY_FIRST_MS 250
#define RETRY_MAX_MS 5000

struct fetch_want {
	struct fetch_want *next;
	uint64_t object, version, size;
	uint64_t off;    /* of the missing byte that the reader waits for */
	uint64_t demand; /* how far it will read on for certain */
	bool frugal;     /* there was no room for more: a chunk at a time */
	struct file_range range;
	struct file *file; /* a reference for the transfer; NULL when taken */
	bool behind;       /* readers go before */
	bool done, seen;   /* seen: the loop has found its transfer */
	int code;
};

struct fetch_piece {
	struct worker_job job;
	struct fetch_transfer *t;
	uint64_t off;
	size_t len, cap;
	int r;
	uint8_t data[];
};

struct fetch_transfer {
	struct fetch_transfer *next;
	struct worker_job close_job;
	struct sync *s;
	struct file *file;
	uint64_t object, version, size;
	char store[256];
	char rid[QUERIES_ADDRESS_MAX], etag[65];
	uint64_t asked, submitted, filled,
		end; /* this call's start; up to where pieces are whole, are sealed */
	struct origin_call *call;
	struct fetch_piece *piece;
	unsigned pending;
	bool paused, over, closing, behind;
	int code; /* when over */
	unsigned tries;
	uint64_t retry_ms;
};

/* --- wants --- */

static bool is_of(const struct fetch_want *w, const struct fetch_transfer *t)
{
	return w->object == t->object && w->version == t->version;
}

static bool in_range(
	const struct fetch_want *w, const struct fetch_transfer *t, uint64_t from, uint64_t to)
{
	return is_of(w, t) && w->off >= from && w->off < to;
}

/* Tells every want in [from, to) of the transfer's version. */
static void answer(const struct fetch_transfer *t, uint64_t from, uint64_t to, int code)
{
	struct sync *s = t->s;
	bool any = false;

	pthread_mutex_lock(&s->lock);
	for (struct fetch_want *w = s->fetch.wants; w; w = w->next) {
		if (w->done || !in_range(w, t, from, to))
			continue;
		w->done = any = true;
		w->code = code;
	}
	if (any)
		pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

static bool is_wanted(const struct fetch_transfer *t)
{
	bool wanted = false;

	pthread_mutex_lock(&t->s->lock);
	for (struct fetch_want *w = t->s->fetch.wants; w && !wanted; w = w->next)
		wanted = !w->done && in_range(w, t, t->filled, t->end);
	pthread_mutex_unlock(&t->s->lock);
	return wanted;
}

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

void fetch_answer(struct sync *s, uint64_t object, uint64_t version)
{
	const struct fetch_transfer t = { .s = s, .object = object, .version = version };

	answer(&t, 0, UINT64_MAX, 0);
}

/* --- the end of a transfer --- */

/* The last reference to a file may have work to do: not here. */
static void close_work(struct worker_job *j)
{
	struct fetch_transfer *t =
		(struct fetch_transfer *)((char *)j - offsetof(struct fetch_transfer, close_job));

	file_unref(t->file, false);
	t->file = NULL;
}

static void close_done(struct worker_job *j, bool dropped)
{
	struct fetch_transfer *t =
		(struct fetch_transfer *)((char *)j - offsetof(struct fetch_transfer, close_job));
	struct fetch_transfer **at = &t->s->fetch.transfers;

	if (dropped)
		file_unref(t->file, false);
	while (*at != t)
		at = &(*at)->next;
	*at = t->next;
	free(t);
}

static void close_transfer(struct fetch_transfer *t)
{
	if (t->closing)
		return;
	t->closing = true;
	free(steal_ptr(&t->piece));
	t->close_job.work = close_work;
	t->close_job.done = close_done;
	worker_run(t->s->fill, &t->close_job);
}

static void stop_call(struct fetch_transfer *t)
{
	if (!t->call)
		return;
	origin_abort(t->s->origin, &t->call);
	t->s->fetch.active--;
}

/* Nothing more comes: when the pieces under way are sealed, whoever still waits hears `code`. */
static void end_transfer(struct fetch_transfer *t, int code)
{
	stop_call(t);
	if (!t->over)
		t->code = code;
	t->over = true;
	t->paused = false;
	if (t->pending)
		return;
	if (t->code)
		answer(t, t->filled, t->end, t->code);
	close_transfer(t);
}

/* --- pieces --- */

static void piece_work(struct worker_job *j)
{
	struct fetch_piece *p = (struct fetch_piece *)j;

	p->r = file_fill(p->t->file, p->t->etag, p->data, p->len, p->off);
}

static void piece_done(struct worker_job *j, bool dropped)
{
	struct fetch_piece *p = (struct fetch_piece *)j;
	struct fetch_transfer *t = p->t;

	t->pending--;
	if (!dropped && !p->r && t->filled == p->off) {
		t->filled = p->off + p->len;
		answer(t, p->off, t->filled, 0);
	} else if (!t->over) {
		end_transfer(t, p->r ? p->r : CE_OFFLINE);
	}
	free(p);
	if (t->over && !t->pending)
		end_transfer(t, t->code);
	if (t->paused && t->call && t->pending <= PENDING_MAX / 2) {
		t->paused = false;
		t->s->origin->ops->resume(t->call);
	}
}

static struct fetch_piece *piece_new(struct fetch_transfer *t)
{
	uint64_t unit_end = (t->submitted / SYNC_FETCH_UNIT_BYTES + 1) * SYNC_FETCH_UNIT_BYTES;
	size_t cap = MIN_OF(unit_end, t->end) - t->submitted;
	struct fetch_piece *p = malloc(sizeof(*p) + cap);

	if (!p)
		return NULL;
	p->t = t;
	p->off = t->submitted;
	p->len = 0;
	p->cap = cap;
	p->r = 0;
	p->job.work = piece_work;
	p->job.done = piece_done;
	return p;
}

static void submit_piece(struct fetch_transfer *t)
{
	t->pending++;
	t->submitted += t->piece->len;
	worker_run(t->s->fill, &steal_ptr(&t->piece)->job);
}

static int on_data(void *arg, const void *data, size_t len)
{
	struct fetch_transfer *t = arg;
	size_t n;

	if (t->pending >= PENDING_MAX) {
		t->paused = true;
		return HTTP_PAUSE;
	}
	t->s->fetch.bytes += len;
	for (; len; data = (const uint8_t *)data + n, len -= n) {
		if (!t->piece)
			t->piece = piece_new(t);
		if (!t->piece)
			return -ENOMEM;
		n = MIN_OF(len, t->piece->cap - t->piece->len);
		memcpy(t->piece->data + t->piece->len, data, n);
		t->piece->len += n;
		if (t->piece->len == t->piece->cap)
			submit_piece(t);
	}
	return 0;
}

/* --- transfers --- */

static bool may_retry(const struct fetch_transfer *t, const struct origin_result *r)
{
	if (t->tries >= TRIES_MAX || !is_wanted(t))
		return false;
	return r->code == CE_OFFLINE || r->code == CE_PROTOCOL || r->code == -EAGAIN ||
	       r->code == -EBUSY;
}

/* What the reader is told: the contract in sync.h knows no "later". */
static int code_for_reader(int code)
{
	if (code == -EAGAIN || code == -EBUSY)
		return CE_OFFLINE;
	return code == CE_REFUSED || code == CE_TOO_LARGE || code == CE_CONFLICT ? CE_PROTOCOL
										 : code;
}

/* What has come in whole chunks stays: on a link that breaks all the time each try gets further. */
static void keep_part(struct fetch_transfer *t)
{
	if (!t->piece)
		return;
	t->piece->len -= t->piece->len % file_chunk_bytes(t->file);
	if (t->piece->len)
		submit_piece(t);
	else
		free(steal_ptr(&t->piece));
}

static void broke_off(struct fetch_transfer *t, const struct origin_result *r)
{
	t->tries = t->submitted > t->asked ? 1 : t->tries + 1;
	if (!may_retry(t, r)) {
		end_transfer(t, code_for_reader(r->code));
		return;
	}
	t->retry_ms = sync_now_ms() +
		      (r->retry_after_ms ? r->retry_after_ms
					 : backoff_ms(t->tries, RETRY_FIRST_MS, RETRY_MAX_MS));
}

static void on_end(void *arg, const struct origin_result *r)
{
	struct fetch_transfer *t = arg;
	bool broke = r->code == CE_OFFLINE || r->code == CE_PROTOCOL;

	t->call = NULL;
	t->paused = false;
	t->s->fetch.active--;
	if (broke)
		keep_part(t);
	free(steal_ptr(&t->piece));
	/* What brought something is a bad link, and no sign of none. */
	if (broke && t->submitted > t->asked)
		link_trouble(&t->s->link, r->code, r->text);
	else
		sync_judge(t->s, r);
	if (r->code == CE_STALE || r->code == CE_GONE)
		t->s->hurry_feeds = true; /* it has news of this record */
	if (r->code)
		broke_off(t, r);
	else
		end_transfer(t, 0);
}

static void start_call(struct fetch_transfer *t)
{
	struct origin_range range = { .store = t->store,
		.rid = t->rid,
		.etag = t->etag,
		.off = t->submitted,
		.len = t->end - t->submitted,
		.size = t->size };
	int r;

	t->asked = t->submitted;
	r = t->s->origin->ops->get(t->s->origin, &range, on_data, on_end, t, &t->call);
	if (r)
		end_transfer(t, r);
	else
		t->s->fetch.active++;
}

/* Who the origin calls it. */
static bool name_transfer(struct fetch_transfer *t, const struct fetch_want *w)
{
	const struct feed *feed = feed_find(t->s, w->range.store);
	struct queries_one q;

	if (feed) {
		snprintf(t->store, sizeof(t->store), "%s", feed->name);
		snprintf(t->rid, sizeof(t->rid), "%s", w->range.rid);
		return true;
	}
	if (queries_of(t->s->volume, w->object, &q))
		return false;
	memcpy(t->store, q.store_name, sizeof(t->store));
	memcpy(t->rid, q.address, sizeof(t->rid));
	return true;
}

/* Takes the reference to the file. */
static void add_transfer(
	struct sync *s, const struct fetch_want *w, struct file *file, uint64_t off, uint64_t end)
{
	struct fetch_transfer *t = calloc(1, sizeof(*t)), **at = &s->fetch.transfers;

	if (t)
		t->s = s;
	if (!t || !name_transfer(t, w)) {
		free(t);
		file_unref(file, false);
		return;
	}
	t->file = file;
	t->object = w->object;
	t->version = w->version;
	t->size = w->size;
	snprintf(t->etag, sizeof(t->etag), "%s", w->range.etag);
	t->asked = t->submitted = t->filled = off;
	t->end = end;
	t->behind = w->behind;
	while (*at)
		at = &(*at)->next;
	*at = t;
}

static struct fetch_transfer *covering(
	const struct sync *s, const struct fetch_want *w, uint64_t off)
{
	struct fetch_transfer *t = s->fetch.transfers;

	while (t && !(!t->closing && !t->code && is_of(w, t) && off >= t->filled && off < t->end))
		t = t->next;
	return t;
}

/* Where the next transfer of this version begins, at most `end`. */
static uint64_t clip(const struct sync *s, const struct fetch_want *w, uint64_t off, uint64_t end)
{
	for (const struct fetch_transfer *t = s->fetch.transfers; t; t = t->next)
		if (is_of(w, t) && !t->closing && t->filled > off && t->filled < end)
			end = t->filled;
	return end;
}

/* --- windows --- */

static struct fetch_stream *stream_of(struct fetch *f, const struct fetch_want *w)
{
	struct fetch_stream *st;

	for (st = f->streams; st < f->streams + ARRAY_SIZE(f->streams); st++)
		if (st->object == w->object && st->version == w->version && st->window.bytes)
			return st;
	st = &f->streams[f->stream_hand++ % ARRAY_SIZE(f->streams)];
	*st = (struct fetch_stream){ .object = w->object, .version = w->version };
	return st;
}

static uint64_t next_window(struct fetch_stream *st, const struct fetch_want *w, uint64_t off)
{
	return w->frugal ? 1 : window_next(&st->window, off, w->demand, w->size);
}

/* One more window behind the one the reader is in, if it is sequential and that part is not here.
 */
static void fetch_ahead(struct sync *s, const struct fetch_want *w, const struct fetch_transfer *t)
{
	struct fetch_stream *st = stream_of(&s->fetch, w);
	struct file_range range;
	struct file *file;
	uint64_t end;

	if (w->frugal || t->end >= t->size || t->end != st->window.next ||
		(st->window.bytes <= SYNC_FETCH_UNIT_BYTES && w->demand <= t->end))
		return;
	if (w->demand <= t->end && t->end - w->off > st->window.bytes / 2)
		return;
	if (covering(s, w, t->end) || file_open(s->volume, w->object, w->version, false, &file))
		return;
	if (file_missing(file, t->end, next_window(st, w, t->end), UINT64_MAX, &range) ||
		!range.len || range.off != t->end) {
		file_unref(file, false);
		return;
	}
	end = clip(s, w, range.off, range.off + range.len);
	window_asked(&st->window, end);
	add_transfer(s, w, file, range.off, end);
}

/* --- the loop's part --- */

/* Copies the first want that has no transfer yet, with its reference; its own goes. */
static bool take_want(
	struct sync *s, struct fetch_want *out, struct fetch_want *seen, size_t *seen_n, size_t max)
{
	bool found = false;

	*seen_n = 0;
	pthread_mutex_lock(&s->lock);
	for (struct fetch_want *w = s->fetch.wants; w && !found; w = w->next) {
		if (w->done || bulk_covers(s, w->object, w->version, true))
			continue;
		if (covering(s, w, w->off)) {
			if (!w->seen && *seen_n < max) {
				w->seen = true;
				seen[(*seen_n)++] = *w;
			}
			continue;
		}
		*out = *w;
		w->file = NULL;
		w->seen = false;
		found = true;
	}
	pthread_mutex_unlock(&s->lock);
	return found;
}

static void answer_want(struct sync *s, const struct fetch_want *like, int code)
{
	struct fetch_transfer t = { .s = s, .object = like->object, .version = like->version };

	answer(&t, like->off, like->off + 1, code);
}

/* What the reader found missing may have come since: 0 and len 0 then. */
static int look_again(
	struct sync *s, struct fetch_want *w, uint64_t window, struct file_range *missing)
{
	int r = 0;

	if (!w->file)
		r = file_open(s->volume, w->object, w->version, false, &w->file);
	if (r)
		return r;
	r = file_missing(w->file, w->off, window, UINT64_MAX, missing);
	if (!r && missing->off != w->off)
		missing->len = 0;
	if (r || !missing->len)
		file_unref(w->file, false);
	return r;
}

static void serve(struct sync *s, struct fetch_want *w)
{
	struct fetch_stream *st = stream_of(&s->fetch, w);
	struct file_range missing;
	uint64_t end;
	int r = look_again(s, w, next_window(st, w, w->off), &missing);

	if (r || !missing.len) {
		answer_want(s, w, r);
		return;
	}
	end = clip(s, w, w->off, missing.off + missing.len);
	window_asked(&st->window, end);
	add_transfer(s, w, w->file, w->off, end);
	if (!covering(s, w, w->off))
		answer_want(s, w, -ENOMEM);
}

static void serve_wants(struct sync *s)
{
	struct fetch_want w, seen[16];
	struct fetch_transfer *t;
	size_t n;
	bool more;

	do {
		more = take_want(s, &w, seen, &n, ARRAY_SIZE(seen));
		for (size_t i = 0; i < n; i++) {
			t = covering(s, &seen[i], seen[i].off);
			if (!t)
				continue;
			t->behind = t->behind && seen[i].behind;
			fetch_ahead(s, &seen[i], t);
		}
		if (more)
			serve(s, &w);
	} while (more || n == ARRAY_SIZE(seen));
}

static unsigned calls_of(const struct sync *s, const struct fetch_transfer *of)
{
	unsigned n = 0;

	for (const struct fetch_transfer *t = s->fetch.transfers; t; t = t->next)
		n += t->call && t->object == of->object && t->version == of->version;
	return n;
}

/* The one that waits longest among those whose file has the fewest calls: no file starves another.
 * What is `behind` comes last, and leaves half of the calls to readers.
 */
static struct fetch_transfer *next_transfer(struct sync *s, uint64_t now_ms)
{
	bool crowded = 2 * s->fetch.active >= s->parallel;
	struct fetch_transfer *best = NULL;
	unsigned least = UINT_MAX, n;

	for (struct fetch_transfer *t = s->fetch.transfers; t; t = t->next) {
		if (t->call || t->over || t->closing || t->retry_ms > now_ms)
			continue;
		if (t->behind && (crowded || (best && !best->behind)))
			continue;
		n = calls_of(s, t);
		if (n < least || (best->behind && !t->behind)) {
			least = n;
			best = t;
		}
	}
	return best;
}

static uint64_t next_retry(const struct sync *s, uint64_t now_ms)
{
	uint64_t due = SYNC_NEVER;

	for (const struct fetch_transfer *t = s->fetch.transfers; t; t = t->next)
		if (!t->call && !t->over && t->retry_ms > now_ms)
			due = MIN_OF(due, t->retry_ms);
	return due;
}

uint64_t fetch_step(struct sync *s, uint64_t now_ms)
{
	struct fetch_transfer *t;

	if (link_verdict(&s->link)) {
		fetch_fail_all(s, link_verdict(&s->link));
		return SYNC_NEVER;
	}
	if (!link_usable(&s->link))
		return SYNC_NEVER;
	serve_wants(s);
	if (s->pause_ms <= now_ms)
		while (s->fetch.active < s->parallel && (t = next_transfer(s, now_ms)))
			start_call(t);
	return next_retry(s, now_ms);
}

void fetch_abandon(struct sync *s)
{
	int verdict = link_verdict(&s->link);

	for (struct fetch_transfer *t = s->fetch.transfers; t; t = t->next)
		if (!t->closing)
			end_transfer(t, verdict ? verdict : CE_OFFLINE);
}

/* --- the readers' part --- */

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

int fetch_behind(struct sync *s, struct file *f, uint64_t off, uint64_t len, unsigned deadline_ms,
	struct sync_cancel *cancel)
{
	return fetch(s, f, off, len, true, deadline_ms, cancel);
}
