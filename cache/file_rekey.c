/*
 * The chunks of one map sealed anew under the newest keys: content, times, version and journal stay
 * as they are, only slots, numbers, nonces and tags change.
 *
 * A slice is sealed into free units while others read, under the lock held shared. Then, under the
 * lock held exclusively, one transaction puts the new rows in the place of those that are still
 * what they were; what somebody replaced meanwhile has the new keys already, and its units go
 * back. Nothing in memory changes before the outcome is known. Durability is that of a commit: a
 * large file's units are synced first, the others get undo rows (I2, I5 of durable.c).
 */
#include "cache/file_priv.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/failpoint.h"
#include "cache/packs.h"
#include "cache/pool.h"
#include "cache/unsent.h"

#define SLICE_CHUNKS 256
#define SLICE_BYTES (UINT64_C(4) << 20)

struct piece {
	struct content_chunk was, is;
	bool sealed;
};

struct slice {
	struct file *f;
	uint64_t map;
	uint64_t from;            /* lower numbers are sealed under an old key */
	struct blob *rows, *blob; /* referenced: where the pieces are, and where they go */
	struct piece pieces[SLICE_CHUNKS];
	size_t n;
	uint64_t bytes;
	struct content_map before, m;
	struct gc_sharers sharers;
	uint64_t gen;
	bool synced;
};

static int take_old(void *arg, const struct content_chunk *c)
{
	struct slice *s = arg;

	if (c->seq >= s->from)
		return 0;
	s->pieces[s->n++].was = *c;
	s->bytes += blob_bytes(c->len);
	return s->n == SLICE_CHUNKS || s->bytes >= SLICE_BYTES;
}

static bool stands(struct file *f, const struct content_chunk *was)
{
	struct chunk_entry e;

	return !chunkmap_get(&f->chunks, was->idx, &e) && e.state == CHUNK_ROW &&
	       e.c.seq == was->seq;
}

/* Small files go to the pack that is current. */
static int seal_piece(struct slice *s, struct piece *p, const uint8_t *plain)
{
	uint64_t slot;
	int r;

	if (!s->rows->pack)
		return blob_seal(s->blob, p->was.idx, plain, p->was.len, NULL, &p->is);
	r = packs_take(s->f->v, s->f->store, p->was.len, &s->blob, &slot);
	return r ? r : blob_seal(s->blob, p->was.idx, plain, p->was.len, &slot, &p->is);
}

static int seal_pieces(struct slice *s, uint64_t *bad_idx)
{
	unsigned shift = s->rows->shift;
	uint8_t *plain = pool_get(s->f->v->pool, shift);
	int r = plain ? 0 : -ENOMEM;

	for (size_t i = 0; i < s->n && !r; i++) {
		struct piece *p = &s->pieces[i];

		if (!stands(s->f, &p->was))
			continue;
		r = blob_open(s->rows, &p->was, plain);
		if (r)
			*bad_idx = p->was.idx;
		else
			r = seal_piece(s, p, plain);
		p->sealed = !r;
	}
	if (plain)
		pool_put(s->f->v->pool, shift, plain, (size_t)1 << shift);
	return r;
}

/* The lock is held shared. */
static int seal_slice(struct slice *s, uint64_t *bad_idx)
{
	struct file *f = s->f;

	if (f->map != s->map || !f->rows || f->rows->id != s->before.blob)
		return -EAGAIN;
	s->rows = blob_ref(f->rows);
	if (!s->rows->pack)
		s->blob = blob_ref(f->rows);
	return seal_pieces(s, bad_idx);
}

/* --- the commit: lock exclusive --- */

static int put_piece(struct slice *s, const struct piece *p)
{
	struct volume *v = s->f->v;
	bool pinned = false;
	int r = s->synced ? 0 : content_undo_chunk(v->db, s->m.id, s->gen, p->was.idx);

	s->f->logged = false;
	if (!r)
		r = gc_pinned(v, &s->sharers, s->m.id, &p->was, &pinned);
	if (!r && !pinned)
		r = file_commit_replaced(s->f, p->was.slot, p->was.len, s->gen);
	return r ? r : content_chunk_put(v->db, s->m.id, &p->is);
}

static int save_undo(struct slice *s, const struct object_row *o)
{
	const struct content_undo u = { .map = s->m.id,
		.gen = s->gen,
		.blob = s->before.blob,
		.size = s->before.size,
		.whole = s->before.whole,
		.mtime_ns = o->mtime_ns };
	int r = content_undo_put(s->f->v->db, &u);

	if (!r)
		durable_note_undo(s->f->v, s->gen);
	return r;
}

static int note_op(void *arg, const struct op_row *op)
{
	unsent_note(arg, op->store, op->rid.text);
	return 0;
}

static int note_unsent(struct slice *s)
{
	struct content_chunk puts[SLICE_CHUNKS];
	struct op_row op;
	size_t n = 0;
	int r;

	for (size_t i = 0; i < s->n; i++)
		if (s->pieces[i].sealed)
			puts[n++] = s->pieces[i].is;
	unsent_moved(s->f->v, s->m.id, puts, n);
	r = op_each_of_object(s->f->v->db, s->m.object, note_op, s->f->v);
	if (r < 0)
		return r;
	r = op_by_map(s->f->v->db, s->m.id, &op);
	return r ? r == -ENOENT ? 0 : r : note_op(s->f->v, &op);
}

static int in_txn(struct slice *s)
{
	struct volume *v = s->f->v;
	struct object_row o = { .mtime_ns = 0 };
	int r = FAILPOINT("rekey-commit");

	s->f->n_replaced = 0;
	if (!r)
		r = content_map_get(v->db, s->map, &s->before);
	if (!r)
		r = object_get(v->db, s->f->object, &o);
	if (r && r != -ENOENT)
		return r;
	s->m = s->before;
	s->m.blob = s->blob->id;
	s->gen = s->synced ? atomic_fetch_add(&v->undo_gen, 1) + 1 : atomic_load(&v->undo_gen);
	r = s->synced ? 0 : save_undo(s, &o);
	if (!r)
		r = gc_sharers(v, &s->before, &s->sharers);
	for (size_t i = 0; i < s->n && !r; i++)
		if (s->pieces[i].sealed)
			r = put_piece(s, &s->pieces[i]);
	if (!r)
		r = note_unsent(s);
	return r || s->m.blob == s->before.blob ? r : content_map_update(v->db, &s->m);
}

/* What somebody replaced is not ours to put. */
static size_t drop_replaced(struct slice *s)
{
	size_t left = 0;

	for (size_t i = 0; i < s->n; i++) {
		struct piece *p = &s->pieces[i];

		if (!p->sealed)
			continue;
		if (stands(s->f, &p->was)) {
			left++;
			continue;
		}
		blob_units_free(s->blob, p->is.slot, p->is.len);
		p->sealed = false;
	}
	return left;
}

static void follow(struct slice *s)
{
	struct file *f = s->f;
	struct chunk_entry *e;

	for (size_t i = 0; i < s->n; i++) {
		if (s->pieces[i].sealed && !chunkmap_edit(&f->chunks, s->pieces[i].was.idx, &e))
			e->c = s->pieces[i].is;
		s->pieces[i].sealed = false; /* a row names it */
	}
	file_commit_release(f);
	blob_unref(f->blob);
	f->blob = blob_ref(s->blob);
	file_blob_follow(f);
}

static int commit_slice(struct slice *s)
{
	struct volume *v = s->f->v;
	struct file *f = s->f;
	bool ours = f->map == s->map && f->rows == s->rows && f->blob == s->rows;
	int r = ours && !f->orphan ? 0 : -EAGAIN;

	if (r || !drop_replaced(s))
		return r;
	r = db_begin(v->db);
	if (r)
		return r;
	r = in_txn(s);
	if (r)
		db_rollback(v->db);
	else
		r = db_commit(v->db);
	if (r)
		f->n_replaced = 0;
	else
		follow(s);
	return r;
}

static int sync_slice(struct slice *s)
{
	int r = FAILPOINT("rekey-sync");

	if (!r)
		r = blob_sync(s->blob);
	return r ? r : durable_sync_dir(s->f->v, s->blob->uuid[0]);
}

static void slice_done(struct slice *s)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->pieces[i].sealed)
			blob_units_free(s->blob, s->pieces[i].is.slot, s->pieces[i].is.len);
	blob_unref(s->blob);
	blob_unref(s->rows);
}

/* The rows of the map that are old, from `idx` on. */
static int find_old(struct slice *s, uint64_t idx)
{
	struct volume *v = s->f->v;
	int r;

	db_read(v->db);
	r = content_map_get(v->db, s->map, &s->before);
	if (!r)
		r = content_chunk_each(v->db, s->map, idx, take_old, s);
	db_unlock(v->db);
	return MIN_OF(r, 0);
}

static int reseal(struct slice *s, uint64_t *bad_idx)
{
	int r;

	pthread_rwlock_rdlock(&s->f->lock);
	r = seal_slice(s, bad_idx);
	pthread_rwlock_unlock(&s->f->lock);
	s->synced = s->rows && !s->rows->pack;
	if (!r && s->synced && s->blob)
		r = sync_slice(s);
	if (r || !s->blob)
		return r;
	pthread_rwlock_wrlock(&s->f->lock);
	r = commit_slice(s);
	pthread_rwlock_unlock(&s->f->lock);
	return r;
}

int file_rekey(struct file *f, uint64_t map, uint64_t from, uint64_t *idx, struct file_rekeyed *out)
{
	struct slice s = { .f = f, .map = map, .from = from };
	uint64_t bad_idx = 0, next;
	int r = find_old(&s, *idx), failed;

	out->done = !r && !s.n;
	if (r || !s.n)
		return r == -ENOENT ? CE_STALE : r;
	next = s.pieces[s.n - 1].was.idx + 1;
	r = space_reserve(f->v, s.bytes);
	if (r)
		return r;
	r = reseal(&s, &bad_idx);
	for (size_t i = 0; i < s.n; i++)
		if (!s.pieces[i].is.len) /* was not sealed */
			space_release(f->v, blob_bytes(s.pieces[i].was.len));
	slice_done(&s);
	if (r == CE_TAMPER || r == CE_CORRUPT || r == -EIO)
		r = file_heal(f, bad_idx, r, &failed);
	if (!r) {
		out->bytes += s.bytes;
		out->chunks += s.n;
		*idx = next;
	}
	return r;
}

static int is_old(void *arg, struct chunk_entry *e)
{
	const uint64_t *from = arg;

	return e->state == CHUNK_SEALED && e->c.seq < *from;
}

bool file_holds_old(struct file *f, uint64_t from)
{
	bool old;

	pthread_rwlock_wrlock(&f->lock);
	old = chunkmap_each_pending(&f->chunks, is_old, &from);
	pthread_rwlock_unlock(&f->lock);
	return old;
}
