/*
 * What may be sent now.
 *
 * The journal is walked in order with a table of keys that earlier rows hold:
 *
 * - i:RID, each record a row changes: one row of a record at a time;
 * - p:PARENT/NAME, the places it fills and the places it leaves;
 * - d:RID, as one of many, for each directory it acts in; alone, when it deletes that directory;
 * - m:STORE, moves of directories: one after the other, whether one makes a loop depends on the
 *   others;
 * - s:STORE, as one of many; alone, when the place a record leaves is not known any more. While
 * such a row waits, itself or behind another, for a directory that is made further on, the row that
 * makes it may pass.
 *
 * A row goes when no earlier one is in its way. A row that makes a directory holds d:RID alone but
 * does not wait for it: a directory that the origin lost is made again by a row behind those of
 * its children (fold_origin.c), which wait because the directory's name row has no ETag.
 *
 * Of the keys only 64-bit hashes are kept: two that collide make one row wait for another without
 * need, no more.
 *
 * Cost: rows up to the last one returned; of those behind a row that holds s:STORE alone little.
 * When something is returned or on its way, the walk ends after ROWS_MAX rows, for there will be
 * another.
 */
#include "cache/outbox_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "cache/tree_priv.h"

#define ROWS_MAX 20000
#define BACKOFF_MAX_MS (2 * 3600 * 1000LL) /* no wait is longer, unless the clock was set back */

enum {
	HELD_SHARED = 1,
	HELD_ALONE = 2,
	PARENT_READY = 4,
	PARENT_UNMADE = 8,
	MAKERS_PASS = 16,
	BEHIND_UNMADE = 32
};

struct slot {
	uint64_t hash; /* 0 = free */
	uint8_t flags;
	bool inflight;
	int16_t maker; /* index of the returned operation that makes the directory, or -1 */
	uint64_t seq;  /* of the row that holds it alone, else of the last one that holds it */
};

struct table {
	struct slot *slots;
	size_t size, used;
};

struct want {
	uint64_t hash;
	bool alone, wait;
};

#define WANTS_MAX 12

struct walk {
	struct volume *v;
	struct table table;
	int64_t now_ms;
	unsigned debounce_ms;
	struct outbox_op *ops;
	size_t max, n;
	struct outbox_room *rooms;
	uint64_t wait_ms;
	uint64_t rows;
	bool underway, more;
	/* of the row at hand */
	struct want wants[WANTS_MAX];
	size_t n_wants;
	/* unmade: its directory, or that of a row it waits for, is made by a row further on */
	bool blocked, unmade;
	int after;
	uint64_t behind; /* the row that is in its way, if one is */
	/* outbox_explain: nothing is taken */
	uint64_t explain;
	struct outbox_reason *reason;
};

static uint64_t mix(uint64_t h, const void *data, size_t len)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	return h;
}

static uint64_t key(char kind, uint64_t store, const char *rid, const struct row_filename *name)
{
	uint64_t h = mix(UINT64_C(0xcbf29ce484222325), &kind, 1);

	h = mix(h, &store, sizeof(store));
	h = mix(h, rid, strlen(rid) + 1);
	if (name)
		h = mix(h, name->bytes, name->len);
	h ^= h >> 29;
	return h ? h : 1;
}

static struct slot *probe(struct table *t, uint64_t hash)
{
	size_t i = hash & (t->size - 1);

	while (t->slots[i].hash && t->slots[i].hash != hash)
		i = (i + 1) & (t->size - 1);
	return &t->slots[i];
}

static int grow(struct table *t)
{
	struct table bigger = { .size = t->size ? 2 * t->size : 256, .used = t->used };

	bigger.slots = calloc(bigger.size, sizeof(*bigger.slots));
	if (!bigger.slots)
		return -ENOMEM;
	for (size_t i = 0; i < t->size; i++)
		if (t->slots[i].hash)
			*probe(&bigger, t->slots[i].hash) = t->slots[i];
	free(t->slots);
	*t = bigger;
	return 0;
}

/* The slot of a key, made when it is new. There is room: walk_row sees to it. */
static struct slot *slot_of(struct table *t, uint64_t hash)
{
	struct slot *s = probe(t, hash);

	if (!s->hash) {
		*s = (struct slot){ .hash = hash, .maker = -1 };
		t->used++;
	}
	return s;
}

static void want(struct walk *w, uint64_t hash, bool alone, bool wait)
{
	if (w->n_wants < WANTS_MAX)
		w->wants[w->n_wants++] = (struct want){ hash, alone, wait };
	else
		w->blocked = true;
}

/* A child whose parent is made by a row further on waits for it. */
static int want_parent(struct walk *w, const struct op_row *row, const char *rid)
{
	struct slot *s;
	struct name_row n;
	int r;

	if (!*rid || !strcmp(rid, "root"))
		return 0;
	s = slot_of(&w->table, key('d', row->store, rid, NULL));
	if (!(s->flags & (PARENT_READY | PARENT_UNMADE | HELD_ALONE))) {
		r = name_by_rid(w->v->db, row->store, rid, &n);
		if (r && r != -ENOENT)
			return r;
		s->flags |= !r && !n.etag.text[0] ? PARENT_UNMADE : PARENT_READY;
	}
	if (s->flags & PARENT_UNMADE && !(s->flags & HELD_ALONE))
		w->blocked = w->unmade = true;
	want(w, s->hash, false, true);
	return 0;
}

static int want_place(struct walk *w, const struct op_row *row, const struct row_rid *parent,
	const struct row_filename *name)
{
	if (!name->len)
		return 0;
	want(w, key('p', row->store, parent->text, name), true, true);
	return want_parent(w, row, parent->text);
}

/* It waits for a person, and holds up only what is about the same records and places. */
static bool is_stopped(const struct op_row *row)
{
	return row->state == OP_REFUSED || row->state == OP_HELD;
}

/* A move leaves a place, too: the record's at the origin. */
static int want_move(struct walk *w, const struct op_row *row)
{
	struct object_row o;
	struct op_row shadow;
	struct name_row n;
	int r;

	if (row->kind == OP_SWAP) {
		if (!is_stopped(row))
			want(w, key('m', row->store, "", NULL), true, true);
		r = op_get(w->v->db, row->seq + 1, &shadow);
		/* Told by the feed, the shadow is gone before its row. */
		if (r != -ENOENT)
			return r ? r : want_place(w, row, &shadow.r_parent, &shadow.r_name);
	}
	r = name_by_rid(w->v->db, row->store, row->rid.text, &n);
	/* Nor is it known whether it is a directory. */
	if (r == -ENOENT) {
		if (!is_stopped(row)) {
			want(w, key('s', row->store, "", NULL), true, false);
			want(w, key('m', row->store, "", NULL), true, true);
		}
		return 0;
	}
	if (!r)
		r = want_place(w, row, &n.r_parent, &n.r_name);
	if (r)
		return r;
	r = object_get(w->v->db, row->object, &o);
	if (!r && S_ISDIR(o.mode) && !is_stopped(row))
		want(w, key('m', row->store, "", NULL), true, true);
	return r == -ENOENT ? 0 : r;
}

static int gather(struct walk *w, const struct op_row *row)
{
	int r;

	w->n_wants = 0;
	w->blocked = w->unmade = false;
	w->after = -1;
	w->behind = 0;
	want(w, key('i', row->store, row->rid.text, NULL), true, true);
	if (fold_row_is_double(row)) {
		want(w, key('i', row->store, row->other_rid.text, NULL), true, true);
		want(w, key('d', row->store, row->other_rid.text, NULL), true, true);
	}
	if (fold_row_is_make(row))
		want(w, key('d', row->store, row->rid.text, NULL), true, false);
	if (row->kind == OP_DELETE)
		want(w, key('d', row->store, row->rid.text, NULL), true, true);
	want(w, key('s', row->store, "", NULL), false, true);
	r = want_place(w, row, &row->r_parent, &row->r_name);
	if (!r && (row->kind == OP_MOVE || row->kind == OP_SWAP))
		r = want_move(w, row);
	return r;
}

/* The only thing a row may be sent right behind: the row that makes its directory, when that is on
 * its way out as well. */
static void wait_for(
	struct walk *w, const struct op_row *row, const struct want *q, const struct slot *s)
{
	bool same_state = row->state == OP_INFLIGHT || !s->inflight;

	if (q->alone || s->maker < 0 || !same_state || (w->after >= 0 && w->after != s->maker)) {
		w->blocked = true;
		return;
	}
	w->after = s->maker;
}

/* An earlier row waits for the directory this row makes. */
static bool makes_awaited(struct walk *w, const struct op_row *row)
{
	return fold_row_is_make(row) &&
	       probe(&w->table, key('d', row->store, row->rid.text, NULL))->flags & PARENT_UNMADE;
}

static void look(struct walk *w, const struct op_row *row)
{
	const bool awaited = makes_awaited(w, row);

	for (size_t i = 0; i < w->n_wants; i++) {
		const struct want *q = &w->wants[i];
		const struct slot *s = probe(&w->table, q->hash);

		if (!s->hash || !q->wait || (awaited && s->flags & MAKERS_PASS))
			continue;
		if (s->flags & HELD_ALONE || (q->alone && s->flags & HELD_SHARED)) {
			w->unmade |= (s->flags & BEHIND_UNMADE) != 0;
			wait_for(w, row, q, s);
			w->behind = w->behind ? w->behind : s->seq;
		}
	}
}

static void hold(struct walk *w, const struct op_row *row, int index)
{
	uint64_t made = fold_row_is_make(row) ? key('d', row->store, row->rid.text, NULL) : 0;
	const uint64_t store = key('s', row->store, "", NULL);

	for (size_t i = 0; i < w->n_wants; i++) {
		struct slot *s = slot_of(&w->table, w->wants[i].hash);

		if (w->wants[i].hash == store && w->wants[i].alone) {
			bool pass =
				w->unmade && (s->flags & MAKERS_PASS || !(s->flags & HELD_ALONE));

			s->flags = (uint8_t)((s->flags & ~MAKERS_PASS) | (pass ? MAKERS_PASS : 0));
		}
		if (w->unmade && w->blocked)
			s->flags |= BEHIND_UNMADE;
		if (w->wants[i].alone || !(s->flags & HELD_ALONE))
			s->seq = row->seq;
		s->flags |= w->wants[i].alone ? HELD_ALONE : HELD_SHARED;
		if (!w->wants[i].alone)
			continue;
		s->maker = made && s->hash == made ? (int16_t)index : -1;
		s->inflight = row->state == OP_INFLIGHT;
	}
}

/* Milliseconds until the row may be tried; clocks that were set back do not hold it up. */
static int64_t due_in(const struct walk *w, const struct op_row *row)
{
	int64_t age = w->now_ms - row->created_ns / NS_PER_MS, left = row->next_try_ms - w->now_ms;

	if (left > 0 && left <= BACKOFF_MAX_MS)
		return left;
	if (row->state == OP_QUEUED && age >= 0 && age < w->debounce_ms)
		return w->debounce_ms - age;
	return 0;
}

struct outbox_room *outbox_room_of(struct outbox_room *rooms, const struct outbox_op *op)
{
	if (op->kind != OUTBOX_PUT || op->node_kind != REMOTE_FILE)
		return NULL;
	while (rooms->above && op->size <= rooms->above)
		rooms++;
	return rooms->above ? rooms : NULL;
}

static bool take_room(struct outbox_room *rooms, const struct outbox_op *op)
{
	struct outbox_room *room = rooms ? outbox_room_of(rooms, op) : NULL;

	if (room && !room->left)
		return false;
	if (room)
		room->left--;
	return true;
}

/* Without room it holds what it touches like any that waits; *index: where it is, or -1. */
static int take(struct walk *w, const struct op_row *row, int *index)
{
	struct outbox_op *op = &w->ops[w->n];
	int r = outbox_fill(w->v, row, op);

	if (r)
		return r;
	if (!take_room(w->rooms, op)) {
		outbox_op_done(op);
		return 0;
	}
	op->after = (int16_t)w->after;
	*index = (int)w->n++;
	return 0;
}

/* It may wait alone, when its row is done. */
static int hold_shadow(struct walk *w, const struct op_row *row)
{
	int r = 0;

	if (w->table.used + 2 * WANTS_MAX > w->table.size / 2)
		r = grow(&w->table);
	if (!r)
		slot_of(&w->table, key('i', row->store, row->rid.text, NULL))->flags |= HELD_ALONE;
	return r;
}

static void explain(struct walk *w, const struct op_row *row)
{
	const int64_t left = due_in(w, row);
	struct outbox_reason *out = w->reason;

	*out = (struct outbox_reason){ .wait = OUTBOX_WAIT_NONE };
	if (is_stopped(row)) {
		out->wait = row->state == OP_REFUSED       ? OUTBOX_WAIT_REFUSED
			    : row->status == OUTBOX_BRAKED ? OUTBOX_WAIT_BRAKE
							   : OUTBOX_WAIT_PERSON;
	} else if (left > 0 && row->next_try_ms) {
		out->wait = OUTBOX_WAIT_RETRY;
		out->until_ms = row->next_try_ms;
	} else if (row->state == OP_INFLIGHT) {
		out->wait = OUTBOX_WAIT_ANSWER;
	} else if (w->behind) {
		out->wait = OUTBOX_WAIT_BEHIND;
		out->behind = w->behind;
	} else if (w->blocked) {
		out->wait = OUTBOX_WAIT_DIRECTORY;
	}
}

static int look_at(struct walk *w, const struct op_row *row)
{
	int r = 0;

	if (w->table.used + 2 * WANTS_MAX > w->table.size / 2)
		r = grow(&w->table);
	if (!r)
		r = gather(w, row);
	if (!r)
		look(w, row);
	return r;
}

static int explain_row(struct walk *w, const struct op_row *row)
{
	int r = look_at(w, row);

	if (r)
		return r;
	if (row->seq == w->explain) {
		explain(w, row);
		return 1;
	}
	hold(w, row, -1);
	return 0;
}

/* Nothing behind can go in this store, not even what makes a directory. */
static bool is_shut(struct walk *w, const struct op_row *row)
{
	const struct slot *s = probe(&w->table, key('s', row->store, "", NULL));

	return s->hash && s->flags & HELD_ALONE && !(s->flags & MAKERS_PASS);
}

static int walk_row(void *arg, const struct op_row *row)
{
	struct walk *w = arg;
	int64_t left;
	int index = -1, r;

	if (fold_row_is_shadow(row))
		return hold_shadow(w, row);
	w->underway |= row->state == OP_INFLIGHT;
	if (w->explain)
		return explain_row(w, row);
	if (w->n == w->max || (++w->rows > ROWS_MAX && (w->n || w->underway))) {
		w->more = true;
		return 1;
	}
	if (is_shut(w, row))
		return 0;
	r = look_at(w, row);
	if (r)
		return r;
	left = due_in(w, row);
	if (!w->blocked && left > 0)
		w->wait_ms = MIN_OF(w->wait_ms, (uint64_t)left);
	/* What is too young is followed by what is younger. */
	if (left > 0 && row->state == OP_QUEUED && !row->next_try_ms)
		return 1;
	if (!w->blocked && !left && (row->state == OP_QUEUED || row->state == OP_INFLIGHT))
		r = take(w, row, &index);
	hold(w, row, index);
	return r;
}

/* Those in flight first, but none before what it comes after: a directory that is QUEUED anew (its
 * place was taken) while what lies in it is in flight. `after` follows. */
static int put_in_order(struct outbox_op *ops, size_t n)
{
	_cleanup_free_ struct outbox_op *sorted = malloc((n ? n : 1) * sizeof(*sorted));
	_cleanup_free_ int16_t *moved = malloc((n ? n : 1) * sizeof(*moved));
	_cleanup_free_ bool *late = calloc(n ? n : 1, sizeof(*late));
	size_t k = 0;

	if (!sorted || !moved || !late)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		late[i] = ops[i].state != OUTBOX_INFLIGHT ||
			  (ops[i].after >= 0 && late[ops[i].after]);
	for (int pass = 0; pass < 2; pass++)
		for (size_t i = 0; i < n; i++)
			if (late[i] == (pass == 1)) {
				moved[i] = (int16_t)k;
				sorted[k++] = ops[i];
			}
	for (size_t i = 0; i < n; i++) {
		ops[i] = sorted[i];
		if (ops[i].after >= 0)
			ops[i].after = moved[ops[i].after];
	}
	return 0;
}

static int walk_all(struct walk *w)
{
	int r = grow(&w->table);

	if (r)
		return r;
	db_read(w->v->db);
	r = op_each(w->v->db, 0, walk_row, w);
	db_unlock(w->v->db);
	free(w->table.slots);
	return MIN_OF(r, 0);
}

int outbox_next_within(struct volume *v, int64_t now_wall_ms, unsigned debounce_ms,
	struct outbox_room *rooms, struct outbox_op *ops, size_t max, size_t *n, uint64_t *wait_ms)
{
	struct walk w = {
		.v = v,
		.now_ms = now_wall_ms,
		.debounce_ms = debounce_ms,
		.rooms = rooms,
		.ops = ops,
		.max = MIN_OF(max, (size_t)INT16_MAX),
		.wait_ms = UINT64_MAX,
	};
	int r = walk_all(&w);

	if (!r)
		r = put_in_order(ops, w.n);
	if (r < 0) {
		for (size_t i = 0; i < w.n; i++)
			outbox_op_done(&ops[i]);
		return r;
	}
	*n = w.n;
	*wait_ms = w.more ? 0 : w.wait_ms;
	return 0;
}

int outbox_next(struct volume *v, int64_t now_wall_ms, unsigned debounce_ms, struct outbox_op *ops,
	size_t max, size_t *n, uint64_t *wait_ms)
{
	return outbox_next_within(v, now_wall_ms, debounce_ms, NULL, ops, max, n, wait_ms);
}

int outbox_explain(struct volume *v, uint64_t seq, int64_t now_wall_ms, struct outbox_reason *out)
{
	struct outbox_reason reason = { .wait = OUTBOX_WAIT_GONE };
	struct walk w = { .v = v, .now_ms = now_wall_ms, .explain = seq, .reason = &reason };
	int r = walk_all(&w);

	if (r)
		return r;
	if (reason.wait == OUTBOX_WAIT_GONE)
		return -ENOENT;
	*out = reason;
	return 0;
}
