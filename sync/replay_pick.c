/* Taking operations out of the journal, with their contents. On the index worker but for start and
 * done. */
#include "sync/replay_priv.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "sync/backoff.h"

#define PICK_MAX 512
#define LOAD_MAX_BYTES (16u << 20)
/* That are begun and wait for a place: each holds a snapshot, and what lies behind more of them is
 * still to be seen. */
#define UPLOADS_WAITING_MAX 128
/* A look beside them that found nothing small is not repeated at once: it reads all of them. */
#define BESIDE_MIN_MS 250
#define BESIDE_MAX_MS 2000
#define BESIDE_SHARE 10
#define HURRY_MS (24LL * 60 * 60 * 1000)

struct flying {
	uint64_t seq;
	bool failed; /* that is known already */
};

struct replay_pick {
	struct worker_job job;
	struct sync *s;
	struct flying *flying; /* to leave out */
	size_t flying_n;
	struct outbox_room rooms[3];
	bool hurry;    /* whatever is due within a day is due now */
	bool orphaned; /* abandoned: nobody waits for the result */
	uint64_t gen, max_record_bytes;
	struct replay_op *ready, **ready_last;
	uint64_t wait_ms, took_ms;
	int r;
};

void replay_op_free(struct replay_op *o)
{
	if (!o)
		return;
	if (o->file)
		file_unref(o->file, false);
	upload_free(o->upload);
	outbox_op_done(&o->op);
	free(o->record.target);
	free(o->standing.target);
	free(o->content);
	free(o);
}

void replay_ops_free(struct replay_op *list)
{
	struct replay_op *next;

	for (; list; list = next) {
		next = list->next;
		replay_op_free(list);
	}
}

static int compare_flying(const void *a, const void *b)
{
	const struct flying *x = a, *y = b;

	return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static const struct flying *find_flying(const struct replay_pick *p, uint64_t seq)
{
	const struct flying like = { .seq = seq };

	return bsearch(&like, p->flying, p->flying_n, sizeof(like), compare_flying);
}

#define LEFT (-1)
#define ON_ITS_WAY (-2)

/*
 * Leaves out what is on its way; the others move to the front. `after` follows. A maker comes
 * before what is made in it; behind one that is on its way replay.c lets nothing go before it was
 * made.
 */
static size_t leave_out(
	const struct replay_pick *p, struct outbox_op *ops, size_t n, int16_t *moved)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++) {
		const struct flying *f = find_flying(p, ops[i].seq);
		int16_t after = ops[i].after;

		moved[i] = f && !f->failed ? ON_ITS_WAY : LEFT;
		if (f || kept == PICK_MAX || (after >= 0 && moved[after] == LEFT)) {
			outbox_op_done(&ops[i]);
			continue;
		}
		moved[i] = (int16_t)kept;
		ops[kept] = ops[i];
		ops[kept++].after = after >= 0 && moved[after] >= 0 ? moved[after] : -1;
	}
	return kept;
}

static int enlist(struct replay_pick *p, struct outbox_op *op)
{
	struct replay_op *o = calloc(1, sizeof(*o));

	if (!o)
		return -ENOMEM;
	o->op = *op;
	o->keys = replay_order_keys(op);
	op->target = NULL;
	*p->ready_last = o;
	p->ready_last = &o->next;
	return 0;
}

static int begin(struct replay_pick *p, struct outbox_op *ops, size_t n)
{
	int r = n ? outbox_begin(p->s->volume, ops, n) : 0;

	if (!r && n)
		r = volume_sync(p->s->volume);
	for (size_t i = 0; i < n; i++) {
		if (!r && ops[i].seq) /* 0: local changes have made it obsolete */
			r = enlist(p, &ops[i]);
		outbox_op_done(&ops[i]);
	}
	return r;
}

static bool any_fresh_delete(const struct outbox_op *ops, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (outbox_brake_wants(&ops[i]))
			return true;
	return false;
}

static int next(struct replay_pick *p, struct outbox_op *ops, size_t max, size_t *n)
{
	const int64_t now_ms = clock_wall_ns() / NS_PER_MS;
	struct outbox_room rooms[ARRAY_SIZE(p->rooms)];

	memcpy(rooms, p->rooms, sizeof(rooms));
	return outbox_next_within(p->s->volume, now_ms + (p->hurry ? HURRY_MS : 0),
		p->hurry ? 0 : p->s->debounce_ms, rooms, ops, max, n, &p->wait_ms);
}

/* Many deletions at once wait for a person. */
static int next_braked(struct replay_pick *p, struct outbox_op *ops, size_t max, size_t *n)
{
	uint64_t held = 0;
	int r = next(p, ops, max, n);

	if (!r && any_fresh_delete(ops, *n))
		r = outbox_brake(p->s->volume, &held);
	if (!r && !held)
		return 0;
	for (size_t i = 0; i < *n; i++)
		outbox_op_done(&ops[i]);
	*n = 0;
	return r ? r : next(p, ops, max, n);
}

static int pick(struct replay_pick *p)
{
	size_t max = p->flying_n + PICK_MAX, n = 0;
	_cleanup_free_ struct outbox_op *ops = calloc(max, sizeof(*ops));
	_cleanup_free_ int16_t *moved = calloc(max, sizeof(*moved));
	int r;

	if (!ops || !moved)
		return -ENOMEM;
	r = next_braked(p, ops, max, &n);
	return r ? r : begin(p, ops, leave_out(p, ops, n, moved));
}

static int read_whole(struct file *f, char *data, uint64_t size)
{
	size_t got = 0;
	int r;

	if (file_size(f) != size)
		return CE_CORRUPT;
	r = file_read(f, data, size, 0, &got);
	if (r)
		return r;
	return got == size ? 0 : CE_CORRUPT;
}

static int load_target(struct replay_op *o)
{
	if (!o->op.target || strlen(o->op.target) != o->op.size)
		return CE_CORRUPT;
	memcpy(o->content, o->op.target, o->op.size);
	return 0;
}

static int load_small(struct replay_pick *p, struct replay_op *o)
{
	struct file *f;
	int r;

	o->content = malloc(o->op.size + 1);
	if (!o->content)
		return -ENOMEM;
	if (o->op.node_kind == REMOTE_SYMLINK)
		return load_target(o);
	if (!o->op.size)
		return 0;
	r = file_open_map(p->s->volume, o->op.map, &f);
	if (r)
		return r;
	r = read_whole(f, o->content, o->op.size);
	file_unref(f, false);
	return r;
}

static int load_large(struct replay_pick *p, struct replay_op *o)
{
	int r = file_open_map(p->s->volume, o->op.map, &o->file);

	if (r)
		return r;
	return file_size(o->file) == o->op.size ? 0 : CE_CORRUPT;
}

/* What cannot be read is not sent; replay.c says so to the journal. */
static void load(struct replay_pick *p, struct replay_op *o, uint64_t *bytes)
{
	o->loaded = true;
	if (!replay_has_content(&o->op))
		return;
	if (p->max_record_bytes && o->op.size > p->max_record_bytes) {
		o->load_error = CE_TOO_LARGE;
	} else if (replay_is_large(&o->op)) {
		o->load_error = load_large(p, o);
	} else {
		o->load_error = load_small(p, o);
		*bytes += o->op.size;
	}
}

static void pick_work(struct worker_job *j)
{
	struct replay_pick *p =
		(struct replay_pick *)((char *)j - offsetof(struct replay_pick, job));
	uint64_t bytes = 0, began = sync_now_ms();

	if (!p->ready)
		p->r = pick(p);
	p->took_ms = sync_now_ms() - began;
	for (struct replay_op *o = p->ready; o && bytes < LOAD_MAX_BYTES; o = o->next)
		if (!o->loaded)
			load(p, o, &bytes);
}

static bool any_small(const struct replay_op *o)
{
	while (o && o->file)
		o = o->next;
	return o;
}

/* Behind those that were waiting: they are older. */
static void take_ready(struct replay *r, struct replay_pick *p)
{
	if (!p->ready)
		return;
	*r->ready_last = p->ready;
	r->ready_last = p->ready_last;
	p->ready = NULL;
}

/* Nothing may go now: until when? And if nothing is on its way either, then whoever waits for that
 * hears it. */
static void nothing_ready(struct sync *s, const struct replay_pick *p)
{
	struct replay *r = &s->replay;

	r->next_ms = SYNC_NEVER;
	if (p->flying_n && !p->wait_ms)
		return; /* the journal is long and its head is on its way: its answer brings the
			   next pick */
	if (p->wait_ms != UINT64_MAX) {
		r->next_ms = sync_now_ms() + p->wait_ms + 1;
	} else if (!p->flying_n && !r->again) {
		pthread_mutex_lock(&s->lock);
		r->quiet_gen = p->gen;
		pthread_mutex_unlock(&s->lock);
	}
}

static uint64_t beside_ms(const struct replay_pick *p)
{
	return MIN_OF(MAX_OF(p->took_ms * BESIDE_SHARE, (uint64_t)BESIDE_MIN_MS),
		(uint64_t)BESIDE_MAX_MS);
}

static void pick_done(struct worker_job *j, bool dropped)
{
	struct replay_pick *p =
		(struct replay_pick *)((char *)j - offsetof(struct replay_pick, job));
	struct sync *s = p->s;

	if (!p->orphaned)
		s->replay.pick = NULL;
	if (!dropped && !p->orphaned) {
		bool some = p->ready != NULL;

		if (any_small(p->ready))
			s->replay.beside_ms = 0;
		else
			s->replay.beside_ms = sync_now_ms() + beside_ms(p);
		take_ready(&s->replay, p);
		if (some && !p->wait_ms)
			s->replay.more = true;
		if (p->r) {
			sync_note(s, p->r, error_text(p->r));
			s->replay.next_ms = sync_now_ms() + BACKOFF_FIRST_MS;
		} else if (!some) {
			nothing_ready(s, p);
		}
	}
	replay_ops_free(p->ready);
	free(p->flying);
	free(p);
	sync_publish(s);
}

static int note_flying(struct replay_pick *p)
{
	size_t n = 0;

	for (struct replay_send *send = p->s->replay.sends; send; send = send->next)
		n += send->n;
	for (const struct replay_op *o = p->s->replay.ready; o; o = o->next)
		n++;
	p->flying = calloc(n + 1, sizeof(*p->flying));
	if (!p->flying)
		return -ENOMEM;
	for (struct replay_send *send = p->s->replay.sends; send; send = send->next)
		for (size_t i = 0; i < send->n; i++)
			p->flying[p->flying_n++] = (struct flying){ send->ops[i]->op.seq,
				!send->call && send->ops[i]->verdict != REPLAY_ACK };
	for (const struct replay_op *o = p->s->replay.ready; o; o = o->next)
		p->flying[p->flying_n++] = (struct flying){ .seq = o->op.seq };
	qsort(p->flying, p->flying_n, sizeof(*p->flying), compare_flying);
	return 0;
}

/* The journal hands out those that are being sent as well: they take no room from others. */
static void make_room(struct replay_pick *p)
{
	p->rooms[0] = (struct outbox_room){ REPLAY_SOON_THROUGH_BYTES, UPLOADS_WAITING_MAX };
	p->rooms[1] = (struct outbox_room){ REPLAY_LARGE_BYTES, UPLOADS_WAITING_MAX };
	for (struct replay_send *send = p->s->replay.sends; send; send = send->next) {
		struct outbox_room *room = outbox_room_of(p->rooms, &send->ops[0]->op);

		if (room)
			room->left++;
	}
}

/* Their contents are to be loaded, nothing is picked. */
static void lend_ready(struct replay *r, struct replay_pick *p)
{
	p->ready = steal_ptr(&r->ready);
	p->ready_last = r->ready_last;
	r->ready_last = &r->ready;
}

void replay_pick_start(struct sync *s, bool hurry, bool load)
{
	struct replay *r = &s->replay;
	struct replay_pick *p = calloc(1, sizeof(*p));

	if (p)
		p->s = s;
	if (!p || note_flying(p)) {
		free(p);
		r->next_ms = sync_now_ms() + BACKOFF_FIRST_MS;
		return;
	}
	p->job.work = pick_work;
	p->job.done = pick_done;
	p->hurry = hurry;
	p->gen = s->poke_gen;
	p->max_record_bytes = s->caps.max_record_bytes;
	p->wait_ms = UINT64_MAX;
	p->ready_last = &p->ready;
	make_room(p);
	if (load) {
		lend_ready(r, p);
	} else {
		r->again = r->more = false;
		r->next_ms = SYNC_NEVER;
	}
	r->pick = p;
	worker_run(s->index, &p->job);
}

void replay_pick_orphan(struct replay_pick *p)
{
	p->orphaned = true;
}
