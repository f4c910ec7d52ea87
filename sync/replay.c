/*
 * The journal on its way to the origin.
 *
 *   pick (index worker): outbox_next, outbox_begin, volume_sync, contents of small ones read ──▶
 * ready send (loop): large contents each by PUT, streamed from their snapshot; the others in one
 * batch ──▶ sends answer (loop): a verdict per operation; settle (index worker): outbox_ack,
 * _settle, _retry, _refuse
 *
 * volume_sync() comes before the first byte is sent: what the origin knows of us is durable here.
 * So its last_seq is never above ours unless this copy is an old one, and no Cachet-Seq is given
 * out twice.
 *
 * Rows of a send stay INFLIGHT until its settle job has run; a pick leaves out what is in `sends`
 * and in `ready`, and runs when `ready` is empty or has contents to load, or has only what waits for
 * a place among the uploads: what is small and came later does not wait for that. Whatever is
 * abandoned (link lost, stop, crash) is sent again as it was, with its key (promise P5).
 *
 * Two batches may be under way: while the origin works on one, the next is picked and sent, what
 * lies in a directory that the first makes as soon as that is answered. When any of it was not
 * done, what was picked behind it is dropped, and picked again with what is known then.
 *
 * Order. outbox_next() says what may go at all. Among operations handed out together, one that
 * touches a record or place of an earlier one waits for it: in a batch by `after`, otherwise until
 * that one's send is over.
 */
#include "sync/replay_priv.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "sync/backoff.h"
#include "sync/rate.h"

#define UPLOADS_MAX 4
#define WAITING_MAX 512 /* small operations that were begun and wait for a place */
#define BATCHES_MAX 2
#define BATCH_MAX 512
#define BATCH_MAX_BYTES (8u << 20)
#define RATE_BATCH_S 4 /* what a batch takes of a bounded line */
/* Of one operation in a batch, at most: what has a bound of its own, and for each before it its
 * number in `after`. */
#define OP_OVERHEAD_BYTES 1024
#define OP_AFTER_BYTES 4
#define ESCAPED_MAX 6 /* of one byte of a name */

void replay_init(struct sync *s)
{
	s->replay.ready_last = &s->replay.ready;
	s->replay.batch_bytes = BATCH_MAX_BYTES;
}

/* --- sends --- */

static void send_free(struct replay_send *send)
{
	for (size_t i = 0; i < send->n; i++)
		replay_op_free(send->ops[i]);
	free(send->ops);
	free(send);
}

void replay_send_over(struct replay_send *send)
{
	struct replay *r = &send->s->replay;
	struct replay_send **at = &r->sends;

	while (*at != send)
		at = &(*at)->next;
	*at = send->next;
	r->again = true;
	sync_publish(send->s);
	send_free(send);
}

static void count(struct replay_send *send, int by)
{
	if (send->upload)
		send->s->replay.uploads += (unsigned)by;
	if (send->batch)
		send->s->replay.batches += (unsigned)by;
}

void replay_call_over(struct replay_send *send)
{
	send->call = NULL;
	count(send, -1);
}

static struct replay_send *send_new(struct sync *s, size_t max)
{
	struct replay_send *send = calloc(1, sizeof(*send));

	if (!send)
		return NULL;
	send->s = s;
	send->ops = calloc(max, sizeof(struct replay_op *));
	if (!send->ops) {
		free(send);
		return NULL;
	}
	return send;
}

static void send_link(struct replay_send *send)
{
	send->next = send->s->replay.sends;
	send->s->replay.sends = send;
}

/* It could not even be sent. */
static void send_failed(struct replay_send *send, int code)
{
	struct origin_result r = { .code = code };
	const struct replay_op *o = send->ops[0];

	if (code == CE_TOO_LARGE && o->load_error)
		snprintf(r.text, sizeof(r.text),
			"%" PRIu64 " bytes; the origin takes at most %" PRIu64 " in a record",
			o->op.size, send->s->caps.max_record_bytes);
	else
		snprintf(r.text, sizeof(r.text), "%s", error_text(code));
	for (size_t i = 0; i < send->n; i++)
		replay_settle_judge_request(send->ops[i], &r);
	replay_settle_start(send);
}

/* --- answers --- */

/*
 * 507, and what ends it: content that found room. A deletion may have made room: what waits for it
 * goes now, without its interval.
 */
static void note_room(struct replay_send *send, const struct replay_op *o, const struct origin_result *r)
{
	struct replay *replay = &send->s->replay;

	if (r->status == 507)
		replay->full = true;
	else if (!r->code && replay_has_content(&o->op) && o->op.size)
		replay->full = false;
	else if (!r->code && o->op.kind == OUTBOX_DELETE)
		replay->hurry = replay->hurry || replay->full;
}

static void drop_ready(struct replay *r)
{
	replay_ops_free(r->ready);
	r->ready = NULL;
	r->ready_last = &r->ready;
	if (r->pick)
		replay_pick_orphan(steal_ptr(&r->pick));
	r->again = true;
}

/* A directory that was not made: what lies in it was picked in the hope that it would be. */
void replay_answered(struct replay_send *send)
{
	bool hopeless = false;

	for (size_t i = 0; i < send->n; i++)
		hopeless |= send->ops[i]->verdict != REPLAY_ACK &&
			    send->ops[i]->op.node_kind == REMOTE_DIR;
	if (hopeless)
		drop_ready(&send->s->replay);
	if (replay_target_ask(send))
		count(send, 1);
	else
		replay_settle_start(send);
}

static void on_outcome(void *arg, const struct origin_outcome *outcome)
{
	struct replay_send *send = arg;
	struct replay_op *o = send->ops[0];

	replay_call_over(send);
	sync_judge(send->s, &outcome->result);
	if (o->upload)
		o->has_sha256 = upload_sha256(o->upload, o->sha256);
	note_room(send, o, &outcome->result);
	replay_settle_judge(o, outcome);
	replay_answered(send);
}

/* The whole request was too large for the server, whatever it announced: smaller ones from now on.
 */
static bool shrink(struct replay_send *send, const struct origin_result *r)
{
	if (r->code != CE_TOO_LARGE || send->n < 2)
		return false;
	send->s->replay.batch_bytes /= 2;
	for (size_t i = 0; i < send->n; i++)
		send->ops[i]->verdict = REPLAY_LEAVE;
	return true;
}

static void on_batch(
	void *arg, const struct origin_result *r, const struct origin_outcome *outcomes, size_t n)
{
	struct replay_send *send = arg;

	replay_call_over(send);
	sync_judge(send->s, r);
	if (r->code && !shrink(send, r))
		for (size_t i = 0; i < send->n; i++)
			replay_settle_judge_request(send->ops[i], r);
	for (size_t i = 0; i < n; i++) {
		note_room(send, send->ops[i], &outcomes[i].result);
		replay_settle_judge(send->ops[i], &outcomes[i]);
	}
	replay_answered(send);
}

/* --- contents --- */

static ssize_t small_source(void *arg, void *buf, size_t len, uint64_t off)
{
	struct replay_send *send = arg;

	memcpy(buf, send->ops[0]->content + off, len);
	return (ssize_t)len;
}

static ssize_t large_source(void *arg, void *buf, size_t len, uint64_t off)
{
	struct replay_send *send = arg;

	return upload_source(send->ops[0]->upload, buf, len, off);
}

static int start_put(struct replay_send *send)
{
	struct replay_op *o = send->ops[0];
	struct origin *origin = send->s->origin;
	http_source_fn *source = o->upload                  ? large_source
				 : o->op.size && o->content ? small_source
							    : NULL;

	return origin->ops->put(origin, &o->op, o->from, o->has_ahead ? &o->ahead : NULL, source,
		on_outcome, send, &send->call);
}

/* It was counted already. */
static void put_failed(struct replay_send *send, int code)
{
	count(send, -1);
	send_failed(send, code);
}

static void resume_large(void *arg)
{
	struct replay_send *send = arg;
	int r = 0;

	if (send->call)
		send->s->origin->ops->resume(send->call);
	else if (send->hashing)
		r = start_put(send);
	send->hashing = false;
	if (r)
		put_failed(send, r);
}

/* Takes the reader, or makes one. */
static int start_large(struct replay_send *send, struct file_reader *reader, uint64_t from)
{
	struct replay_op *o = send->ops[0];
	int r = reader ? 0 : file_reader_new(steal_ptr(&o->file), &reader);

	if (!r)
		r = upload_new(send->s->fill, reader, o->op.size, from, resume_large, send,
			&o->upload);
	o->from = from;
	if (!r && from && !upload_ready(o->upload)) {
		send->hashing = true;
		return 0;
	}
	return r ? r : start_put(send);
}

void replay_go_on(struct replay_send *send, struct file_reader *reader,
	const struct origin_ahead *ahead, uint64_t from)
{
	struct replay_op *o = send->ops[0];
	int r;

	send->hashing = false;
	o->has_ahead = ahead != NULL;
	if (ahead)
		o->ahead = *ahead;
	r = start_large(send, reader, from);
	if (r)
		put_failed(send, r);
}

static void on_offset(void *arg, const struct origin_result *r, uint64_t offset)
{
	struct replay_send *send = arg;
	struct replay_op *o = send->ops[0];
	bool none = r->code == CE_GONE || r->code == CE_REFUSED;
	int e;

	send->call = NULL;
	sync_judge(send->s, r);
	if (r->code && !none) {
		count(send, -1);
		replay_settle_judge_request(o, r);
		replay_settle_start(send);
		return;
	}
	e = start_large(send, NULL, none || offset >= o->op.size ? 0 : offset);
	if (e)
		put_failed(send, e);
}

/* --- one operation --- */

/* An earlier sending may have brought some of it there. */
static bool may_go_on(const struct sync *s, const struct replay_op *o)
{
	return o->op.attempts > 1 && s->caps.keeps_uploads && s->origin->ops->put_offset;
}

static int start_one(struct replay_send *send)
{
	struct replay_op *o = send->ops[0];
	struct origin *origin = send->s->origin;

	if (o->file && may_go_on(send->s, o))
		return origin->ops->put_offset(
			origin, o->op.store_name, o->op.key, on_offset, send, &send->call);
	if (o->file && o->op.attempts == 1 && early_take(send)) {
		send->hashing = true;
		return 0;
	}
	if (o->file)
		return start_large(send, NULL, 0);
	switch (o->op.kind) {
	case OUTBOX_PUT:
		return start_put(send);
	case OUTBOX_DELETE:
		return origin->ops->remove(origin, &o->op, on_outcome, send, &send->call);
	default:
		return origin->ops->patch(origin, &o->op, on_outcome, send, &send->call);
	}
}

static void send_one(struct sync *s, struct replay_op *o)
{
	struct replay_send *send = send_new(s, 1);
	int r;

	if (!send) {
		replay_op_free(o); /* stays INFLIGHT */
		s->replay.next_ms = sync_now_ms() + BACKOFF_FIRST_MS;
		return;
	}
	send_link(send);
	send->ops[send->n++] = o;
	send->upload = o->file != NULL;
	r = o->load_error ? o->load_error : start_one(send);
	if (r)
		send_failed(send, r);
	else
		count(send, 1);
}

/* --- a batch --- */

/* Indexes of the earlier operations of the batch that each one waits for. */
static void fill_after(const struct replay_send *send, struct origin_op *ops, uint16_t *room)
{
	size_t used = 0;

	for (size_t i = 0; i < send->n; i++) {
		ops[i].after = room + used;
		for (size_t j = 0; j < i; j++) {
			if (!replay_order_after(&send->ops[i]->keys, &send->ops[j]->keys))
				continue;
			room[used++] = (uint16_t)j;
			ops[i].after_n++;
		}
	}
}

static int start_batch(struct replay_send *send)
{
	size_t max = send->n * send->n / 2 + 1;
	_cleanup_free_ struct origin_op *ops = calloc(send->n, sizeof(*ops));
	_cleanup_free_ uint16_t *room = calloc(max, sizeof(*room));
	struct origin *origin = send->s->origin;

	if (!ops || !room)
		return -ENOMEM;
	for (size_t i = 0; i < send->n; i++) {
		ops[i].op = &send->ops[i]->op;
		ops[i].content = send->ops[i]->content ? send->ops[i]->content : "";
	}
	fill_after(send, ops, room);
	return origin->ops->batch(origin, ops, send->n, on_batch, send, &send->call);
}

static void send_batch(struct replay_send *send)
{
	int r;

	send_link(send);
	send->batch = true;
	r = send->n == 1 ? start_one(send) : start_batch(send);
	if (r)
		send_failed(send, r);
	else
		count(send, 1);
}

/* --- what may go now --- */

/* The directory of `o` was just made at the origin: that the journal is still to be told is of no
 * matter to it. */
static bool has_made_room(
	const struct replay_send *send, const struct replay_op *maker, const struct replay_op *o)
{
	return !send->call && maker->verdict == REPLAY_ACK &&
	       replay_order_is_in(&o->keys, &maker->keys);
}

static bool waits_for_send(const struct replay *r, const struct replay_op *o)
{
	for (const struct replay_send *send = r->sends; send; send = send->next)
		for (size_t i = 0; i < send->n; i++)
			if (replay_order_after(&o->keys, &send->ops[i]->keys) &&
				!has_made_room(send, send->ops[i], o))
				return true;
	return false;
}

static bool waits_for_list(const struct replay_op *from, const struct replay_op *o)
{
	for (; from && from != o; from = from->next)
		if (replay_order_after(&o->keys, &from->keys))
			return true;
	return false;
}

static uint64_t weight(const struct replay_op *o, size_t before)
{
	return o->op.size / 3 * 4 + 8 + OP_OVERHEAD_BYTES + ESCAPED_MAX * strlen(o->op.name) +
	       OP_AFTER_BYTES * before;
}

/* A batch in the making. */
struct batch {
	struct replay_send *send;
	uint64_t bytes, max_bytes;
	size_t max;
};

static bool fits(const struct batch *b, const struct replay_op *o)
{
	return b->send &&
	       (!b->send->n || (b->send->n < b->max && b->bytes + weight(o, b->send->n) <= b->max_bytes &&
				       o->op.store == b->send->ops[0]->op.store));
}

static void add_to(struct batch *b, struct replay_op *o)
{
	b->bytes += weight(o, b->send->n);
	b->send->ops[b->send->n++] = o;
}

/* Under a rate uploads share a line: so many that each is still worth the name. */
static unsigned uploads_max(const struct sync *s)
{
	uint64_t rate = s->replay.rate;

	return rate ? (unsigned)MIN_OF(MAX_OF(rate / RATE_MIN_BYTES, UINT64_C(1)), UPLOADS_MAX)
		    : UPLOADS_MAX;
}

static uint64_t batch_max_bytes(const struct sync *s)
{
	uint64_t rate = s->replay.rate, max = MIN_OF(s->replay.batch_bytes, BATCH_MAX_BYTES);

	return rate ? MIN_OF(max, rate * RATE_BATCH_S) : max;
}

/* What is soon through has a place that no larger one takes. */
static bool has_place(const struct sync *s, const struct batch *b, const struct replay_op *o)
{
	if (o->load_error)
		return true;
	if (o->file)
		return s->replay.uploads < uploads_max(s) + (o->op.size <= REPLAY_SOON_THROUGH_BYTES);
	return fits(b, o);
}

/*
 * May `o` go in this round? `kept` are those before it that may not; whoever waits for one of them
 * stays too. The batch in the making is not among the sends yet: its operations may follow each
 * other.
 */
static bool take_now(
	struct sync *s, struct batch *b, const struct replay_op *kept, struct replay_op *o)
{
	struct replay *r = &s->replay;

	if (!o->loaded || !has_place(s, b, o)) /* the cheap questions first: many wait here for long */
		return false;
	if (waits_for_list(kept, o) || waits_for_send(r, o))
		return false;
	if (o->load_error || o->file)
		send_one(s, o);
	else
		add_to(b, o);
	return true;
}

static void send_ready(struct sync *s)
{
	struct replay *r = &s->replay;
	struct batch b = { .max_bytes = batch_max_bytes(s),
		.max = s->origin->ops->batch_supported ? MIN_OF(s->caps.max_batch, BATCH_MAX) : 1 };
	struct replay_op *o = r->ready, *next, *kept = NULL, **kept_last = &kept;

	if (r->batches < BATCHES_MAX)
		b.send = send_new(s, BATCH_MAX);
	for (; o; o = next) {
		next = o->next;
		o->next = NULL;
		if (take_now(s, &b, kept, o))
			continue;
		*kept_last = o;
		kept_last = &o->next;
	}
	r->ready = kept;
	r->ready_last = kept ? kept_last : &r->ready;
	if (b.send && b.send->n)
		send_batch(b.send);
	else if (b.send)
		send_free(b.send);
}

static bool has_unloaded(const struct replay *r)
{
	const struct replay_op *o = r->ready;

	while (o && o->loaded)
		o = o->next;
	return o;
}

/* While uploads wait for their turn, what came later and is small must not wait for them. */
static bool may_pick_beside(const struct replay *r, bool due)
{
	size_t n = 0;

	if (r->batches || !due)
		return false;
	for (const struct replay_op *o = r->ready; o && n <= WAITING_MAX; o = o->next)
		n += !o->file; /* of uploads replay_pick.c keeps a few */
	return n <= WAITING_MAX;
}

static bool is_stopped(struct sync *s)
{
	return s->status.rolled_back_volume || s->status.restored_server;
}

bool replay_awaited(const struct sync *s)
{
	return s->replay.hurry || s->replay.quiet_gen < s->poke_gen;
}

uint64_t replay_step(struct sync *s, uint64_t now_ms)
{
	struct replay *r = &s->replay;
	bool hurry = r->hurry || r->hurried_gen < s->poke_gen, ahead;

	if (r->pick || !sync_may_call(s, now_ms) || is_stopped(s))
		return SYNC_NEVER;
	if (r->ready)
		send_ready(s);
	if (has_unloaded(r)) {
		replay_pick_start(s, false, true);
		return SYNC_NEVER;
	}
	if (r->ready && !may_pick_beside(r, hurry || r->again || r->next_ms <= now_ms))
		return r->next_ms > now_ms ? r->next_ms : SYNC_NEVER; /* an answer frees a place */
	if (r->ready && !hurry && r->beside_ms > now_ms)
		return r->beside_ms;
	if (s->burst_ms && !replay_awaited(s)) /* take_changes() says when */
		return SYNC_NEVER;
	ahead = r->more && r->batches < BATCHES_MAX;
	if (!hurry && !r->again && !ahead && r->next_ms > now_ms)
		return r->next_ms;
	r->hurried_gen = s->poke_gen;
	r->hurry = false;
	replay_pick_start(s, hurry, false);
	return SYNC_NEVER;
}

static void abandon_send(struct replay_send **at)
{
	struct replay_send *send = *at;

	*at = send->next;
	count(send, -1);
	origin_abort(send->s->origin, &send->call);
	send_free(send);
}

void replay_abandon(struct sync *s)
{
	struct replay_send **at = &s->replay.sends;

	while (*at) {
		if ((*at)->call || (*at)->hashing)
			abandon_send(at);
		else
			at = &(*at)->next;
	}
	drop_ready(&s->replay);
}
