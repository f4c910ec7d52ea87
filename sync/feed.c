/*
 * The feed of a store: what changed at the origin, page after page, then a long poll.
 *
 *   asking ── page ──▶ targets of its symlinks (POST get) ──▶ applying (index worker) ──▶ asking
 * ...
 *
 * A listing from nothing is under way in the index from its first page until its end: after a crash
 * it goes on from its cursor. Nothing is removed but by remote_apply() and remote_listing_end(),
 * and those see only pages that the driver found to be whole, well-formed and of this origin. A
 * page with one bad record is refused whole.
 *
 * A page the brake holds (CE_HELD) is dropped here and asked for again when a person allows it, or
 * a minute later.
 */
#include "sync/sync_priv.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "sync/backoff.h"

#define PAGE_LIMIT 2000
#define TARGETS_MAX 500
#define WAIT_S 50
#define RETRY_MAX_MS 60000
#define HELD_MS 60000
#define GONE_MS 60000
#define POLL_LEAST_MS                                                                              \
	1000 /* a server that does not hold an empty answer is not asked in a tight loop */

#define FULL_TEXT "the volume is full: what the origin has does not fit the size limit"

struct feed_job {
	struct worker_job job;
	struct feed *f;
	bool begin, listing, end_only, allow;
	struct origin_page page;
	char cursor[256]; /* before */
	struct remote_report report, end_report;
	int r;
	bool at_end; /* failed at the end of the listing: the page itself is applied */
};

/* --- life --- */

int feed_add(struct sync *s, const struct remote_store *store)
{
	struct feed *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->s = s;
	f->store = store->id;
	memcpy(f->name, store->name, sizeof(f->name));
	memcpy(f->cursor, store->cursor, sizeof(f->cursor));
	f->rule = freshness_rule_of(s, store->name);
	f->validated_ns = store->validated_ns;
	f->listed = store->listed;
	f->listing = store->listing && *store->cursor;
	f->relist = !f->listing && (!store->listed || store->listing);
	pthread_mutex_lock(&s->lock);
	f->next = s->feeds;
	s->feeds = f;
	pthread_mutex_unlock(&s->lock);
	return 0;
}

struct loading {
	struct remote_store *stores;
	size_t n;
	const char *only;
};

static int load_one(void *arg, const struct remote_store *store)
{
	struct loading *l = arg;
	struct remote_store *grown;

	if (store->local || (*l->only && strcmp(l->only, store->name)))
		return 0;
	grown = realloc(l->stores, (l->n + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	l->stores = grown;
	l->stores[l->n++] = *store;
	return 0;
}

int feed_load(struct sync *s)
{
	struct loading l = { .only = s->only_store };
	int r = remote_stores(s->volume, load_one, &l);

	for (size_t i = 0; i < l.n && !r; i++)
		r = feed_add(s, &l.stores[i]);
	s->stores_known = l.n > 0;
	free(l.stores);
	return r;
}

struct feed *feed_find(struct sync *s, uint64_t store)
{
	struct feed *f = s->feeds;

	while (f && f->store != store)
		f = f->next;
	return f;
}

static void drop_page(struct feed *f)
{
	origin_page_done(&f->page);
	free(f->asked);
	f->asked = NULL;
	f->asked_n = 0;
}

void feed_free_all(struct sync *s)
{
	struct feed *f;

	while ((f = s->feeds)) {
		assert(!f->call && !f->job);
		s->feeds = f->next;
		drop_page(f);
		free(f);
	}
}

/* --- failures --- */

static void retry_later(struct feed *f, uint64_t ms)
{
	drop_page(f);
	f->next_ms = sync_now_ms() + ms;
}

static void failed(struct feed *f, int code, const char *text)
{
	f->error = code;
	snprintf(f->error_text, sizeof(f->error_text), "%.*s", LINK_TEXT_MAX - 1, text);
	retry_later(f, backoff_ms(++f->failures, BACKOFF_FIRST_MS, RETRY_MAX_MS));
}

static void hold(struct feed *f)
{
	pthread_mutex_lock(&f->s->lock);
	f->held = true;
	f->held_gen = f->asked_gen;
	pthread_mutex_unlock(&f->s->lock);
	retry_later(f, HELD_MS);
}

static void start_over(struct feed *f)
{
	f->relist = true;
	f->listing = false;
	f->end_held = false;
	f->caught_up = false;
}

static void refused(struct feed *f, const struct origin_result *r)
{
	if (r->code == CE_GONE && !strcmp(r->type, "cursor-gone")) {
		start_over(f);
		f->s->check_identity = true; /* a restored server forgets cursors too */
		retry_later(f, 0);
	} else if (r->code == CE_GONE && !strcmp(r->type, "cursor-ahead")) {
		connect_went_back(f->s);
		retry_later(f, GONE_MS);
	} else if (r->code == CE_GONE || r->code == CE_REFUSED) {
		sync_note(f->s, r->code, r->text);
		retry_later(f, GONE_MS);
	} else {
		failed(f, r->code, r->text);
	}
}

/* --- applying --- */

/* The listing's end is tried again when only that was held. */
static void apply_work(struct worker_job *j)
{
	struct feed_job *k = (struct feed_job *)j;
	struct sync *s = k->f->s;
	uint64_t store = k->f->store;

	if (k->begin)
		k->r = remote_listing_begin(s->volume, store);
	if (!k->r && !k->end_only) {
		if (!k->page.n && !strcmp(k->page.cursor, k->cursor) && !k->listing)
			k->r = remote_validated(s->volume, store);
		else
			k->r = remote_apply(s->volume, store, k->page.records, k->page.n,
				k->page.cursor, k->allow, &k->report);
	}
	if (k->r || k->page.more || !k->listing)
		return;
	k->at_end = true;
	k->r = remote_listing_end(s->volume, store, k->allow, &k->end_report);
}

static void page_taken(struct feed *f, const struct feed_job *k)
{
	if (k->begin) {
		f->relist = false;
		f->listing = true;
	}
	if (!k->end_only)
		snprintf(f->cursor, sizeof(f->cursor), "%s", k->page.cursor);
	if (k->report.echoes)
		f->s->replay.again = true;
	if (k->page.queries)
		f->s->want_stores = true;
	if (k->report.deferred || k->end_report.deferred)
		f->s->deferred.any = true;
	if (k->page.n || k->end_only)
		atomic_store(&f->s->names_changed, true);
}

static void listing_ended(struct feed *f)
{
	f->listing = false;
	f->end_held = false;
	pthread_mutex_lock(&f->s->lock);
	f->listed = true;
	pthread_mutex_unlock(&f->s->lock);
}

static void page_done(struct feed *f, const struct feed_job *k)
{
	page_taken(f, k);
	f->failures = 0;
	f->next_ms = f->rest_ms ? sync_now_ms() + f->rest_ms : 0;
	pthread_mutex_lock(&f->s->lock);
	f->held = false;
	pthread_mutex_unlock(&f->s->lock);
	f->caught_up = !k->page.more;
	if (!f->caught_up)
		return;
	f->allow = false;
	if (f->listing)
		listing_ended(f);
	pthread_mutex_lock(&f->s->lock);
	f->valid_ms = f->heard_ms;
	f->seen_gen = f->asked_gen;
	pthread_mutex_unlock(&f->s->lock);
}

static void apply_failed(struct feed *f, const struct feed_job *k)
{
	if (k->at_end) {
		page_taken(f, k);
		f->end_held = true;
	}
	if (k->r == CE_HELD) {
		hold(f);
		if (f->allow) /* said while this page was looked at */
			f->next_ms = 0;
		return;
	}
	failed(f, k->r, k->r == -ENOSPC ? FULL_TEXT : error_text(k->r));
}

static void apply_done(struct worker_job *j, bool dropped)
{
	struct feed_job *k = (struct feed_job *)j;
	struct feed *f = k->f;

	f->job = NULL;
	if (!dropped && !k->r)
		page_done(f, k);
	else if (!dropped)
		apply_failed(f, k);
	if (f->start_over)
		start_over(f);
	f->start_over = false;
	origin_page_done(&k->page);
	free(k);
	sync_publish(f->s);
}

static void apply(struct feed *f, bool end_only)
{
	struct feed_job *k = calloc(1, sizeof(*k));

	if (!k) {
		failed(f, -ENOMEM, error_text(-ENOMEM));
		return;
	}
	k->job.work = apply_work;
	k->job.done = apply_done;
	k->f = f;
	k->begin = f->relist && !end_only;
	k->listing = k->begin || f->listing;
	k->end_only = end_only;
	k->allow = f->allow;
	k->page = f->page;
	f->page = (struct origin_page){ 0 };
	drop_page(f);
	memcpy(k->cursor, f->cursor, sizeof(k->cursor));
	f->job = k;
	worker_run(f->s->index, &k->job);
}

/* --- the targets of symlinks --- */

static bool needs_target(const struct remote_record *r)
{
	return r->kind == REMOTE_SYMLINK && !r->deleted && !r->target;
}

/* The record as it is now, if it is not gone: a later state than the page's comes again with its
 * own entry. */
static int take_target(struct remote_record *r, const struct origin_content *c)
{
	if (c->code == CE_GONE) {
		r->id[0] = 0; /* its tombstone follows; dropped below */
		return 0;
	}
	if (strcmp(c->record.id, r->id) || c->record.kind != REMOTE_SYMLINK || !c->len ||
		strlen(c->data) != c->len)
		return CE_PROTOCOL;
	if (strcmp(c->record.etag, r->etag))
		*r = c->record;
	r->target = strdup(c->data);
	return r->target ? 0 : -ENOMEM;
}

static void drop_gone(struct origin_page *p)
{
	size_t kept = 0;

	for (size_t i = 0; i < p->n; i++)
		if (*p->records[i].id)
			p->records[kept++] = p->records[i];
	p->n = kept;
}

static void next_targets(struct feed *f);

static void on_targets(
	void *arg, const struct origin_result *r, const struct origin_content *contents, size_t n)
{
	struct feed *f = arg;
	int e = 0;

	f->call = NULL;
	sync_judge(f->s, r);
	if (r->code) {
		failed(f, r->code, r->text);
		return;
	}
	for (size_t i = 0; i < n && !e; i++)
		e = take_target(&f->page.records[f->asked[i]], &contents[i]);
	if (e) {
		struct origin_result bad = { .code = e,
			.text = "the target of a symbolic link breaks the protocol" };

		sync_judge(f->s, &bad);
		failed(f, bad.code, bad.text);
		return;
	}
	drop_gone(&f->page);
	next_targets(f);
}

static int ask_targets(struct feed *f)
{
	_cleanup_free_ const char **rids = calloc(TARGETS_MAX, sizeof(*rids));

	if (!f->asked)
		f->asked = calloc(TARGETS_MAX, sizeof(*f->asked));
	if (!rids || !f->asked)
		return -ENOMEM;
	for (size_t i = 0; i < f->asked_n; i++)
		rids[i] = f->page.records[f->asked[i]].id;
	return f->s->origin->ops->get_small(
		f->s->origin, f->name, rids, f->asked_n, on_targets, f, &f->call);
}

static void next_targets(struct feed *f)
{
	if (!f->asked)
		f->asked = calloc(TARGETS_MAX, sizeof(*f->asked));
	f->asked_n = 0;
	for (size_t i = 0; f->asked && i < f->page.n && f->asked_n < TARGETS_MAX; i++)
		if (needs_target(&f->page.records[i]))
			f->asked[f->asked_n++] = i;
	if (!f->asked || (f->asked_n && ask_targets(f)))
		failed(f, -ENOMEM, error_text(-ENOMEM));
	else if (!f->asked_n)
		apply(f, false);
}

/* --- asking --- */

static void on_page(void *arg, const struct origin_result *r, struct origin_page *page)
{
	struct feed *f = arg;

	f->call = NULL;
	f->rest_ms =
		f->waiting && !r->code && !page->n && sync_now_ms() - f->asked_ms < POLL_LEAST_MS
			? POLL_LEAST_MS
			: 0;
	f->heard_ms = f->waiting ? sync_now_ms() : f->asked_ms;
	f->waiting = false;
	sync_judge(f->s, r);
	if (r->code) {
		refused(f, r);
		return;
	}
	f->page = *page;
	*page = (struct origin_page){ 0 };
	if (f->page.more && !f->page.n) {
		struct origin_result bad = { .code = CE_PROTOCOL,
			.text = "an empty page that promises more" };

		sync_judge(f->s, &bad);
		failed(f, bad.code, bad.text);
		return;
	}
	next_targets(f);
}

static unsigned wait_seconds(const struct feed *f)
{
	uint64_t most = f->s->caps.max_wait_s;

	if (!f->caught_up || f->relist || f->seen_gen < f->s->heard_gen || f->held)
		return 0;
	return (unsigned)MIN_OF(most, WAIT_S);
}

static uint64_t ask(struct feed *f)
{
	unsigned wait_s = wait_seconds(f);

	f->asked_gen = f->s->heard_gen;
	f->asked_ms = sync_now_ms();
	if (f->s->origin->ops->changes(f->s->origin, f->name, f->relist ? "" : f->cursor,
		    PAGE_LIMIT, wait_s, on_page, f, &f->call)) {
		failed(f, -ENOMEM, error_text(-ENOMEM));
		return f->next_ms;
	}
	f->waiting = wait_s > 0;
	return SYNC_NEVER;
}

static uint64_t step(struct feed *f, uint64_t now_ms)
{
	if (f->call && f->waiting && f->seen_gen < f->s->heard_gen &&
		f->asked_gen < f->s->heard_gen) {
		origin_abort(f->s->origin, &f->call); /* somebody wants to know now */
		f->waiting = false;
	}
	if (f->call || f->job || !sync_may_call(f->s, now_ms))
		return SYNC_NEVER;
	if (f->asked_gen < f->s->heard_gen)
		f->next_ms = 0;
	if (f->next_ms > now_ms)
		return f->next_ms;
	if (f->end_held) {
		f->asked_gen = f->s->heard_gen;
		apply(f, true);
		return SYNC_NEVER;
	}
	return ask(f);
}

uint64_t feed_step(struct sync *s, uint64_t now_ms)
{
	uint64_t due = SYNC_NEVER, one;

	for (struct feed *f = s->feeds; f; f = f->next) {
		one = step(f, now_ms);
		due = MIN_OF(due, one);
	}
	return due;
}

void feed_abandon(struct sync *s)
{
	for (struct feed *f = s->feeds; f; f = f->next) {
		origin_abort(s->origin, &f->call);
		f->waiting = false;
		f->next_ms = 0;
		if (!f->job)
			drop_page(f);
	}
}

void feed_relist_all(struct sync *s)
{
	int r;

	for (struct feed *f = s->feeds; f; f = f->next) {
		start_over(f);
		f->start_over = f->job != NULL;
		r = remote_listing_begin(s->volume, f->store);
		if (r)
			sync_note(s, r, "a store cannot be listed anew");
	}
}

const struct feed *feed_failing(const struct sync *s)
{
	const struct feed *f = s->feeds;

	while (f && !f->failures)
		f = f->next;
	return f;
}

bool feed_any_held(const struct sync *s)
{
	const struct feed *f = s->feeds;

	while (f && !f->held)
		f = f->next;
	return f;
}

void feed_allow_deletes(struct sync *s)
{
	for (struct feed *f = s->feeds; f; f = f->next)
		if (f->held) {
			f->allow = true;
			f->next_ms = 0;
		}
}

void feed_hurry(struct sync *s)
{
	for (struct feed *f = s->feeds; f; f = f->next) {
		if (f->call && f->waiting) {
			origin_abort(s->origin, &f->call);
			f->waiting = false;
		}
		f->caught_up = false;
	}
}

bool feed_all_live(const struct sync *s)
{
	const struct feed *f = s->feeds;

	while (f && f->call && f->waiting)
		f = f->next;
	return s->feeds && !f;
}
