/*
 * Theory of operation. Sending a large file while it is still being written, one at a time.
 *
 * - IDLE: until it has grown (early_grown, called by the writer).
 * - LOOKS (fill worker): how far is it settled? If far enough, SENDS.
 * - SENDS a part, PUT .../uploads/KEY; then LOOKS. If the line breaks: IDLE, `broken`.
 * - ASKS, when there is a line again: how much is there? Then LOOKS, with a reader from the front.
 * - FOLLOWS (fill worker), once the replay wants to send committed content (early_take): does the
 *   snapshot begin with what was sent? The replay goes on from there, or from the front.
 *
 * The origin shows nothing of a part: only the journal's PUT, of a snapshot of what was committed,
 * publishes, and it names key, length and digest of what came ahead. What was sent is of that
 * content because the reader changes over to the snapshot only when it begins with the very chunks
 * that were read (cache/file_reader.h). A file that is written anew at its front, or never
 * committed, was sent in vain: the origin is told to forget it.
 *
 * Nothing waits for this and nothing is owed to it: any fault ends it, and the content goes as
 * ever.
 */
#include "sync/replay_priv.h"

#include <errno.h>
#include <stdio.h>

#include "base/error.h"
#include "base/secret.h"

#define PART_MIN_BYTES (UINT64_C(2) << 20)
#define PART_MAX_BYTES (UINT64_C(64) << 20)
#define IDLE_MS 20000  /* its file is held open for nothing */
#define STALE_MS 30000 /* it was written anew: no other meanwhile */
#define FAILED_MS 600000
#define BREAKS_MAX 5

struct early {
	struct worker_job job;
	struct sync *s;
	enum { EARLY_IDLE, EARLY_LOOKS, EARLY_SENDS, EARLY_ASKS, EARLY_FOLLOWS } state;
	unsigned breaks;
	bool broken;   /* how much the origin has is not known */
	bool finished; /* nothing was sent, and all is committed: the replay sends it */
	bool orphaned; /* given up while the job runs, which frees it */
	uint64_t store, object, version;
	char store_name[256];
	struct origin_ahead ahead;
	struct file_reader *reader; /* the job's while it runs, `upload`'s while it sends; NULL: it
				       is to begin at the front */
	struct upload *upload;
	struct origin_call *call;
	uint64_t sent, settled;
	uint64_t idle_ms;          /* when it is given up */
	struct replay_send *taker; /* waits for the end of the part under way */
	struct file *snapshot;     /* its content */
	int error;
};

static struct early *early_of(struct worker_job *j)
{
	return (struct early *)((char *)j - offsetof(struct early, job));
}

static void free_all(struct early *e)
{
	file_reader_free(e->reader);
	upload_free(e->upload);
	if (e->snapshot)
		file_unref(e->snapshot, false);
	free(e);
}

/* --- the end --- */

static void on_dropped(void *arg, const struct origin_result *r, uint64_t offset)
{
	struct sync *s = arg;

	s->early.drop = NULL;
}

/* A courtesy: the origin forgets it by itself, later. */
static void tell_origin(const struct early *e)
{
	struct sync *s = e->s;

	if ((e->sent || e->broken) && !s->early.drop && sync_may_call(s, sync_now_ms()))
		(void)!s->origin->ops->drop_parts(
			s->origin, e->store_name, &e->ahead, on_dropped, s, &s->early.drop);
}

/* The content goes as if nothing had been sent. */
static void let_go(struct early *e)
{
	struct replay_send *taker = steal_ptr(&e->taker);

	if (!taker)
		return;
	taker->ops[0]->file = steal_ptr(&e->snapshot);
	replay_go_on(taker, NULL, NULL, 0);
}

static void end(struct early *e)
{
	e->s->early.now = NULL;
	origin_abort(e->s->origin, &e->call);
	e->orphaned = true;
	if (e->state != EARLY_LOOKS && e->state != EARLY_FOLLOWS)
		free_all(e);
}

/* One that grows slowly, or is written anew at its front again and again, would be sent in vain
 * again and again. */
static void give_up(struct early *e)
{
	uint64_t now_ms = sync_now_ms();

	if (e->error)
		e->s->early.next_ms = now_ms + (e->error == CE_STALE ? STALE_MS : FAILED_MS);
	e->s->early.vain_object = e->object;
	e->s->early.vain_ms = now_ms + FAILED_MS;
	tell_origin(e);
	let_go(e);
	end(e);
}

/* --- the snapshot --- */

static void follow_work(struct worker_job *j)
{
	struct early *e = early_of(j);

	e->error = file_reader_follow(e->reader, e->snapshot);
	if (e->error)
		return;
	e->snapshot = NULL;
	e->error = file_reader_peek_sha256(e->reader, e->ahead.sha256);
}

static void follow_done(struct worker_job *j, bool dropped)
{
	struct early *e = early_of(j);
	struct replay_send *taker;

	if (e->orphaned) {
		free_all(e);
		return;
	}
	e->state = EARLY_IDLE;
	if (e->snapshot && e->error == CE_STALE && file_object(e->snapshot) != e->object) {
		let_go(e); /* another file */
	} else if (e->error) {
		give_up(e);
	} else {
		taker = steal_ptr(&e->taker);
		replay_go_on(taker, steal_ptr(&e->reader), &e->ahead, e->sent);
		end(e);
	}
}

static void run(struct early *e, int state, void (*work)(struct worker_job *j),
	void (*done)(struct worker_job *j, bool dropped))
{
	e->state = state;
	e->job.work = work;
	e->job.done = done;
	worker_run(e->s->fill, &e->job);
}

static void follow(struct early *e)
{
	if (e->sent)
		run(e, EARLY_FOLLOWS, follow_work, follow_done);
	else
		give_up(e);
}

static void look(struct early *e);

bool early_take(struct replay_send *send)
{
	struct early *e = send->s->early.now;
	struct replay_op *o = send->ops[0];

	if (!e || e->taker || e->store != o->op.store || o->op.size < e->sent)
		return false;
	if (e->state == EARLY_IDLE && !e->sent && !e->broken) {
		if (file_object(o->file) == e->object)
			end(e); /* it is sent without us */
		return false;
	}
	e->taker = send;
	e->snapshot = steal_ptr(&o->file);
	if (e->state == EARLY_IDLE && !e->broken)
		look(e);
	return true;
}

/* --- a part --- */

static ssize_t part_source(void *arg, void *buf, size_t len, uint64_t off)
{
	struct early *e = arg;

	return upload_source(e->upload, buf, len, off);
}

static void part_resume(void *arg)
{
	struct early *e = arg;

	if (e->call)
		e->s->origin->ops->resume(e->call);
}

/* It goes on where it was when there is a line again. */
static bool is_cut_off(struct early *e, const struct origin_result *r)
{
	return r->code == CE_OFFLINE && e->breaks++ < BREAKS_MAX;
}

static void part_done(void *arg, const struct origin_result *r, uint64_t offset)
{
	struct early *e = arg;

	e->call = NULL;
	e->state = EARLY_IDLE;
	sync_judge(e->s, r);
	e->reader = upload_take_reader(e->upload);
	upload_free(steal_ptr(&e->upload));
	if (is_cut_off(e, r)) {
		file_reader_free(steal_ptr(&e->reader));
		e->broken = true;
		return;
	}
	if (r->code || offset != e->settled || !e->reader) {
		e->error = r->code ? r->code : CE_PROTOCOL;
		give_up(e);
		return;
	}
	e->sent = offset;
	e->idle_ms = sync_now_ms() + IDLE_MS;
	if (e->taker)
		follow(e);
	else
		look(e);
}

static void send_part(struct early *e)
{
	struct sync *s = e->s;
	const struct origin_part part = {
		.store = e->store_name, .ahead = &e->ahead, .off = e->sent, .end = e->settled
	};

	e->error = upload_new_part(
		s->fill, steal_ptr(&e->reader), e->settled, e->sent, part_resume, e, &e->upload);
	if (!e->error)
		e->error = s->origin->ops->put_part(
			s->origin, &part, part_source, part_done, e, &e->call);
	if (e->error)
		give_up(e);
	else
		e->state = EARLY_SENDS;
}

static void on_offset(void *arg, const struct origin_result *r, uint64_t offset)
{
	struct early *e = arg;

	e->call = NULL;
	e->state = EARLY_IDLE;
	sync_judge(e->s, r);
	if (is_cut_off(e, r))
		return;
	e->broken = false;
	if (r->code || offset > e->settled) {
		e->error = r->code ? r->code : CE_PROTOCOL;
		give_up(e);
		return;
	}
	e->sent = offset;
	look(e);
}

static void ask(struct early *e)
{
	struct sync *s = e->s;

	e->error = s->origin->ops->put_offset(
		s->origin, e->store_name, e->ahead.key, on_offset, e, &e->call);
	if (e->error)
		give_up(e);
	else
		e->state = EARLY_ASKS;
}

/* --- how far it is --- */

static int open_file(struct early *e)
{
	struct file *f;
	int r = file_open(e->s->volume, e->object, e->version, false, &f);

	return r ? r : file_reader_new_ahead(f, &e->reader);
}

static void look_work(struct worker_job *j)
{
	struct early *e = early_of(j);

	e->error = e->reader ? 0 : open_file(e);
	if (!e->error)
		e->error = file_reader_settled(e->reader,
			e->sent - file_reader_offset(e->reader) + PART_MAX_BYTES, &e->settled);
	e->finished = !e->error && !e->sent && !file_reader_is_growing(e->reader);
	if (!e->error)
		file_reader_start_sync(e->reader);
}

/* Who waits is given whatever there is. */
static bool is_worth_it(const struct early *e)
{
	return e->settled > e->sent && (e->taker || e->settled - e->sent >= PART_MIN_BYTES);
}

static void look_done(struct worker_job *j, bool dropped)
{
	struct early *e = early_of(j);

	if (e->orphaned) {
		free_all(e);
		return;
	}
	e->state = EARLY_IDLE;
	if (e->finished && !e->taker) {
		end(e);
	} else if (!e->error && e->taker && file_reader_offset(e->reader) == e->sent) {
		follow(e);
	} else if (!e->error && is_worth_it(e) && sync_may_call(e->s, sync_now_ms())) {
		e->idle_ms = sync_now_ms() + IDLE_MS;
		send_part(e);
	} else if (e->error || e->taker) {
		give_up(e);
	}
}

static void look(struct early *e)
{
	run(e, EARLY_LOOKS, look_work, look_done);
}

/* --- from outside --- */

void early_grown(void *arg, uint64_t store, uint64_t object, uint64_t version)
{
	struct sync *s = arg;
	bool was;

	pthread_mutex_lock(&s->lock);
	was = s->early.grown.object;
	s->early.grown = (struct early_file){ store, object, version };
	pthread_mutex_unlock(&s->lock);
	if (!was)
		http_wake(s->http);
}

static struct early_file take_grown(struct sync *s)
{
	struct early_file f;

	pthread_mutex_lock(&s->lock);
	f = s->early.grown;
	s->early.grown.object = 0;
	pthread_mutex_unlock(&s->lock);
	return f;
}

/* Under a rate the line is for what is certain. */
static bool may_begin(const struct sync *s, const struct early_file *f, uint64_t now_ms)
{
	if (f->object == s->early.vain_object && now_ms < s->early.vain_ms)
		return false;
	return sync_may_call(s, now_ms) && now_ms >= s->early.next_ms && s->caps.takes_ahead &&
	       s->origin->ops->put_part && !s->replay.rate && !s->replay.full &&
	       !s->status.rolled_back_volume && !s->status.restored_server;
}

static void begin(struct sync *s, const struct early_file *f, uint64_t now_ms)
{
	const struct feed *feed = feed_find(s, f->store);
	struct early *e = feed ? calloc(1, sizeof(*e)) : NULL;

	if (!e)
		return;
	e->s = s;
	e->store = f->store;
	e->object = f->object;
	e->version = f->version;
	e->idle_ms = now_ms + IDLE_MS;
	snprintf(e->store_name, sizeof(e->store_name), "%s", feed->name);
	secret_random(e->ahead.key, sizeof(e->ahead.key));
	s->early.now = e;
	look(e);
}

uint64_t early_step(struct sync *s, uint64_t now_ms)
{
	const struct early_file grown = take_grown(s);
	struct early *e = s->early.now;

	if (!e && grown.object && may_begin(s, &grown, now_ms))
		begin(s, &grown, now_ms);
	else if (e && e->state == EARLY_IDLE && e->broken && sync_may_call(s, now_ms))
		ask(e);
	else if (e && e->state == EARLY_IDLE && !e->broken && grown.object)
		look(e);
	else if (e && e->state == EARLY_IDLE && e->idle_ms <= now_ms)
		give_up(e);
	e = s->early.now;
	return e && e->state == EARLY_IDLE ? e->idle_ms : SYNC_NEVER;
}

void early_abandon(struct sync *s)
{
	origin_abort(s->origin, &s->early.drop);
	if (!s->early.now)
		return;
	s->early.now->taker = NULL; /* replay abandons it */
	end(s->early.now);
}
