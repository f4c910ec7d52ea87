/*
 * Content on its way here.
 *
 *   a reader (any thread)  struct fetch_want on its stack: "the byte at `off` of this version"
 *                          (fetch_want.c)
 *   the loop               transfers: one ranged GET each, up to 8 MiB, cut into pieces of at most
 *                          SYNC_FETCH_UNIT_BYTES
 *   the fill worker        seals a piece (file_fill), then the wants in it are met
 *
 * A want is not tied to a transfer: whichever transfer of its version covers its offset serves it,
 * so readers of one range share one request, and a want that no transfer covers makes one. A reader
 * that comes where the last transfer ended is sequential: its window (window.h) grows, and
 * when it has got half-way through one the next is fetched ahead: it says so by a want, or, if it
 * finds everything there, by sync_read_on.
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

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "sync/backoff.h"

#define PENDING_MAX 4
/* A transfer that has no more to come lets the next one of its file begin. */
#define NEXT_BYTES ((uint64_t)2 << 20)
#define TRIES_MAX 4
#define RETRY_FIRST_MS 250
#define RETRY_MAX_MS 5000

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
	uint64_t begin, end, asked; /* asked: this call's start */
	uint64_t submitted, filled; /* up to where pieces are whole, are sealed */
	struct origin_call *call;
	struct fetch_piece *piece;
	unsigned pending;
	bool paused, over, closing, behind;
	bool on;  /* of a reader that reads on */
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
static void add_transfer(struct sync *s, const struct fetch_want *w, struct fetch_stream *st,
	struct file *file, uint64_t off, uint64_t end)
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
	t->begin = t->asked = t->submitted = t->filled = off;
	t->end = end;
	t->behind = w->behind;
	t->on = !w->frugal && off > st->window.begin;
	while (*at)
		at = &(*at)->next;
	*at = t;
	window_asked(&st->window, end);
	file_watch_reader(file, t->on && end < t->size ? end - (end - off) / 2 : 0);
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

static struct fetch_stream *find_stream(struct fetch *f, uint64_t object, uint64_t version)
{
	for (struct fetch_stream *st = f->streams; st < f->streams + ARRAY_SIZE(f->streams); st++)
		if (st->object == object && st->version == version && st->window.bytes)
			return st;
	return NULL;
}

static struct fetch_stream *stream_of(struct fetch *f, const struct fetch_want *w)
{
	struct fetch_stream *st = find_stream(f, w->object, w->version);

	if (st)
		return st;
	st = &f->streams[f->stream_hand++ % ARRAY_SIZE(f->streams)];
	*st = (struct fetch_stream){ .object = w->object, .version = w->version };
	return st;
}

static uint64_t next_window(struct fetch_stream *st, const struct fetch_want *w, uint64_t off)
{
	return w->frugal ? 1 : window_next(&st->window, off, w->demand, w->size);
}

/* One more window behind those that were asked for, if that part is not here. */
static void fetch_ahead(struct sync *s, struct fetch_want *w, struct fetch_stream *st)
{
	uint64_t at = st->window.next, end;
	struct file *file;

	if (w->frugal || at >= w->size || covering(s, w, at) ||
		file_open(s->volume, w->object, w->version, false, &file))
		return;
	if (file_missing(file, at, next_window(st, w, at), UINT64_MAX, &w->range) ||
		!w->range.len || w->range.off != at) {
		file_unref(file, false);
		return;
	}
	end = clip(s, w, at, at + w->range.len);
	add_transfer(s, w, st, file, at, end);
}

/* Through the transfer, which is the last of its stream. */
static bool is_half_way(const struct fetch_want *w, const struct fetch_transfer *t)
{
	return w->demand > t->end || (t->on && w->demand - t->begin >= (t->end - t->begin) / 2);
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
	int r = look_again(s, w, next_window(st, w, w->off), &missing);

	if (r || !missing.len) {
		answer_want(s, w, r);
		return;
	}
	add_transfer(s, w, st, w->file, w->off, clip(s, w, w->off, missing.off + missing.len));
	if (!covering(s, w, w->off))
		answer_want(s, w, -ENOMEM);
}

static void serve_wants(struct sync *s)
{
	struct fetch_want w, seen[16];
	struct fetch_stream *st;
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
			st = stream_of(&s->fetch, &seen[i]);
			if (t->end == st->window.next && is_half_way(&seen[i], t))
				fetch_ahead(s, &seen[i], st);
		}
		if (more)
			serve(s, &w);
	} while (more || n == ARRAY_SIZE(seen));
}

/* Who finds everything there. */
static void serve_readers(struct sync *s)
{
	struct fetch_reader readers[FETCH_READERS];
	size_t n;

	pthread_mutex_lock(&s->lock);
	n = s->fetch.readers_n;
	memcpy(readers, s->fetch.readers, n * sizeof(*readers));
	s->fetch.readers_n = 0;
	pthread_mutex_unlock(&s->lock);
	for (size_t i = 0; i < n; i++) {
		const struct fetch_reader *r = &readers[i];
		struct fetch_want w = {
			.object = r->object, .version = r->version, .size = r->size
		};
		struct fetch_stream *st = find_stream(&s->fetch, r->object, r->version);

		if (st && r->off <= st->window.next && st->window.next - r->off <= 2 * WINDOW_MAX)
			fetch_ahead(s, &w, st);
	}
}

static unsigned calls_of(const struct sync *s, const struct fetch_transfer *of)
{
	unsigned n = 0;

	for (const struct fetch_transfer *t = s->fetch.transfers; t; t = t->next)
		n += t->call && t->object == of->object && t->version == of->version;
	return n;
}

/* What follows a transfer and is waited for by nobody yet would only take the link, and the fill
 * worker, from it. */
static bool is_early(const struct sync *s, const struct fetch_transfer *of)
{
	for (const struct fetch_transfer *t = s->fetch.transfers; t != of; t = t->next)
		if (t->end == of->begin && !t->over && t->object == of->object &&
			t->version == of->version && t->end - t->submitted > NEXT_BYTES)
			return !is_wanted(of);
	return false;
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
		if (t->call || t->over || t->closing || t->retry_ms > now_ms || is_early(s, t))
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
	serve_readers(s);
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
