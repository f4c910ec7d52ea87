/*
 * One commit of a file: first everything is in slots (file_commit_prepare), then one transaction
 * names them (file_commit_txn), then memory follows (file_commit_done). The transaction may be
 * somebody else's: a rename commits its source in its own. Nothing in memory changes for good
 * before the outcome is known, so a commit that fails can be tried again. Invariants I1 to I5 stand
 * in durable.c.
 */
#include "cache/file_priv.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "cache/unsent.h"

bool file_is_dirty(const struct file *f)
{
	return f->content_changed || f->times_changed;
}

int file_commit_prepare(struct file *f)
{
	return file_dirty_seal_all(f);
}

struct txn {
	struct file *f;
	struct object_row o;
	struct content_map m;
	struct gc_sharers sharers;
	uint64_t gen;
	bool synced;
};

int file_commit_replaced(struct file *f, uint64_t slot, uint32_t len, uint64_t gen)
{
	if (f->n_replaced == f->cap_replaced) {
		size_t cap = f->cap_replaced ? f->cap_replaced * 2 : 16;
		struct blob_release *list = realloc(f->replaced, cap * sizeof(*list));

		if (!list)
			return -ENOMEM;
		f->replaced = list;
		f->cap_replaced = cap;
	}
	f->replaced[f->n_replaced++] =
		(struct blob_release){ .slot = slot, .bytes = blob_bytes(len), .gen = gen };
	return 0;
}

/* The slot goes unless a snapshot names it too. */
static int replaced(struct txn *t, uint64_t idx, uint64_t slot, uint32_t len)
{
	const struct content_chunk c = { .idx = idx, .slot = slot, .len = len };
	bool pinned = t->sharers.many;
	int r = 0;

	if (!pinned && t->sharers.n > 1)
		r = gc_pinned(t->f->v, t->sharers.maps, t->sharers.n, t->m.id, &c, &pinned);
	return r || pinned ? r : file_commit_replaced(t->f, slot, len, t->gen);
}

/* I5: a transaction whose data is synced begins a generation of its own. */
static uint64_t generation(struct volume *v, bool synced)
{
	return synced ? atomic_fetch_add(&v->undo_gen, 1) + 1 : atomic_load(&v->undo_gen);
}

int file_blob_txn(struct file *f, struct content_map *m)
{
	struct content_blob row, stored;
	int r;

	blob_row(f->blob, &row);
	if (row.id) {
		r = content_blob_get(f->v->db, row.id, &stored);
		if (r)
			return r;
		stored.seals = row.seals;
		stored.alloc_bytes = row.alloc_bytes;
		m->blob = row.id;
		return content_blob_update(f->v->db, &stored);
	}
	row.used_s = clock_wall_ns() / NS_PER_SEC;
	r = content_blob_insert(f->v->db, &row);
	if (r)
		return r;
	f->new_blob = true;
	blob_publish(f->blob, row.id);
	m->blob = row.id;
	return 0;
}

void file_blob_done(struct file *f, bool committed)
{
	if (f->new_blob && !committed)
		blob_withdraw(f->blob);
	f->new_blob = false;
}

static int map_in_txn(struct txn *t)
{
	struct file *f = t->f;
	int r;

	if (f->map)
		return content_map_get(f->v->db, f->map, &t->m);
	t->m = (struct content_map){ .object = f->object, .whole = true };
	r = content_map_insert(f->v->db, &t->m);
	if (!r)
		f->new_map = t->m.id;
	return r;
}

static int undo_entry(void *arg, struct chunk_entry *e)
{
	struct txn *t = arg;

	return content_undo_chunk(t->f->v->db, t->m.id, t->gen, e->c.idx);
}

/* I2 */
static int save_undo(struct txn *t)
{
	struct file *f = t->f;
	const struct content_undo u = { .map = t->m.id,
		.gen = t->gen,
		.size = t->m.size,
		.whole = t->m.whole,
		.mtime_ns = t->o.mtime_ns };
	int r = content_undo_put(f->v->db, &u);

	if (!r && f->chunks.cut != CHUNKMAP_NO_CUT)
		r = content_undo_chunks_from(f->v->db, t->m.id, t->gen, f->chunks.cut);
	if (!r)
		r = chunkmap_each_pending(&f->chunks, undo_entry, t);
	if (!r)
		durable_note_undo(f->v, t->gen);
	return r;
}

static int cut_row(void *arg, const struct content_chunk *c)
{
	return replaced(arg, c->idx, c->slot, c->len);
}

static int cut_rows(struct txn *t)
{
	struct file *f = t->f;
	int r;

	if (f->chunks.cut == CHUNKMAP_NO_CUT)
		return 0;
	r = content_chunk_each(f->v->db, t->m.id, f->chunks.cut, cut_row, t);
	return r ? r : content_chunk_delete_from(f->v->db, t->m.id, f->chunks.cut);
}

static int write_entry(void *arg, struct chunk_entry *e)
{
	struct txn *t = arg;
	struct db *db = t->f->v->db;
	int r;

	if (e->state == CHUNK_SEALED)
		r = content_chunk_put(db, t->m.id, &e->c);
	else
		r = content_chunk_delete(db, t->m.id, e->c.idx);
	if (r == -ENOENT)
		r = 0;
	if (!r && e->has_old)
		r = replaced(t, e->c.idx, e->old_slot, e->old_len);
	return r;
}

static int content_in_txn(struct txn *t)
{
	struct file *f = t->f;
	int r;

	if (!f->map && !f->size && !f->chunks.n_pending)
		return 0; /* an empty file needs no map */
	r = map_in_txn(t);
	if (!r && !t->synced)
		r = save_undo(t);
	if (!r && t->m.blob)
		r = gc_sharers(f->v, t->m.blob, &t->sharers);
	if (!r && f->blob)
		r = file_blob_txn(f, &t->m);
	if (!r)
		r = cut_rows(t);
	if (!r)
		r = chunkmap_each_pending(&f->chunks, write_entry, t);
	if (r)
		return r;
	unsent_content(f->v, &t->m, &f->chunks);
	t->m.size = f->size;
	t->m.whole = f->whole;
	t->m.etag.text[0] = 0;
	t->o.map = t->m.id;
	return content_map_update(f->v->db, &t->m);
}

static void times(const struct file *f, struct object_row *o)
{
	if (f->mtime_changed)
		o->mtime_ns = f->mtime_ns;
	if (f->times_changed)
		o->ctime_ns = MAX_OF(o->ctime_ns, f->ctime_ns);
}

int file_commit_txn(struct file *f, bool synced)
{
	struct txn t = { .f = f, .synced = synced };
	int r;

	db_assert_txn(f->v->db);
	f->new_map = 0;
	f->n_replaced = 0;
	if (!file_is_dirty(f))
		return 0;
	r = FAILPOINT("file-commit");
	if (!r)
		r = object_get(f->v->db, f->object, &t.o);
	f->orphan = r == -ENOENT;
	if (r)
		return f->orphan ? 0 : r;
	if (t.o.version != f->version)
		return CE_STALE;
	t.gen = generation(f->v, synced);
	if (f->content_changed)
		r = content_in_txn(&t);
	if (r)
		return r;
	if (f->content_changed)
		t.o.size = f->size;
	times(f, &t.o);
	r = object_update(f->v->db, &t.o);
	if (r)
		return r;
	return f->content_changed ? fold_put(f->v, &t.o) : fold_attr(f->v, &t.o);
}

static int entry_committed(void *arg, struct chunk_entry *e)
{
	struct file *f = arg;
	enum chunk_state was = e->state;

	e->state = was == CHUNK_SEALED ? CHUNK_ROW : CHUNK_NONE;
	e->has_old = false;
	chunkmap_changed(&f->chunks, e->c.idx, was, e->state);
	return 0;
}

static void release_replaced(struct file *f)
{
	for (size_t i = 0; i < f->n_replaced; i++)
		blob_slot_release(
			f->blob, f->replaced[i].slot, f->replaced[i].bytes, f->replaced[i].gen);
	/* Failing to note it, the slots stay taken until the blob is loaded again. */
	if (f->n_replaced && durable_note_blob(f->v, f->blob))
		return;
}

/* The object is gone, so nothing will ever be committed: what is in memory goes. */
static void discard(struct file *f)
{
	file_dirty_cut(f, 0);
	f->chunks.cut = CHUNKMAP_NO_CUT;
}

static void clean(struct file *f)
{
	f->content_changed = false;
	f->times_changed = f->mtime_changed = false;
	atomic_store(&f->is_dirty, false);
}

void file_commit_done(struct file *f, bool committed)
{
	if (committed && f->orphan) {
		discard(f);
		clean(f);
	} else if (committed && file_is_dirty(f)) {
		if (f->new_map)
			filetab_set_map(f, f->new_map);
		if (f->content_changed) {
			if (chunkmap_each_pending(&f->chunks, entry_committed, f))
				abort(); /* the callback does not fail */
			f->chunks.cut = CHUNKMAP_NO_CUT;
			release_replaced(f);
		}
		clean(f);
	}
	file_blob_done(f, committed);
	f->new_map = 0;
	f->n_replaced = 0;
}

int file_commit_locked(struct file *f, bool synced)
{
	int r;

	if (!file_is_dirty(f))
		return 0;
	r = file_commit_prepare(f);
	if (!r)
		r = db_begin(f->v->db);
	if (r)
		return r;
	r = file_commit_txn(f, synced);
	if (r)
		db_rollback(f->v->db);
	else
		r = db_commit(f->v->db);
	file_commit_done(f, !r);
	return r;
}

int file_commit(struct file *f)
{
	bool dirty;
	int r;

	if (!atomic_load(&f->is_dirty))
		return 0;
	space_relieve(f->v);
	pthread_rwlock_wrlock(&f->lock);
	dirty = file_is_dirty(f);
	r = file_commit_locked(f, false);
	pthread_rwlock_unlock(&f->lock);
	if (!r && dirty)
		volume_tell_outbox(f->v);
	return r;
}

int file_sync_data(struct file *f)
{
	int r;

	if (!f->blob)
		return 0;
	r = blob_sync(f->blob);
	return r ? r : durable_sync_dir(f->v, f->blob->uuid[0]);
}

/* Seals, and syncs the data without the lock; *seq tells whether something was written meanwhile.
 */
static int presync(struct file *f, uint64_t *seq)
{
	struct blob *b = NULL;
	int r;

	pthread_rwlock_wrlock(&f->lock);
	r = file_commit_prepare(f);
	*seq = f->write_seq;
	if (!r && f->blob)
		b = blob_ref(f->blob);
	pthread_rwlock_unlock(&f->lock);
	if (!b)
		return r;
	r = blob_sync(b);
	if (!r)
		r = durable_sync_dir(f->v, b->uuid[0]);
	blob_unref(b);
	return r;
}

int file_sync(struct file *f)
{
	bool dirty, synced = false;
	uint64_t seq = 0;
	int r = 0;

	space_relieve(f->v);
	if (atomic_load(&f->is_dirty))
		synced = !presync(f, &seq);
	pthread_rwlock_wrlock(&f->lock);
	dirty = file_is_dirty(f);
	/* Not synced, or written to meanwhile: then with undo rows, and the sync below sees to the
	 * data. */
	r = file_commit_locked(f, synced && seq == f->write_seq);
	pthread_rwlock_unlock(&f->lock);
	if (!r && dirty)
		volume_tell_outbox(f->v);
	return r ? r : durable_sync(f->v);
}
