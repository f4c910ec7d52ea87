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

#include "base/array.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "cache/merge_base.h"
#include "cache/unsent.h"

bool file_is_dirty(const struct file *f)
{
	return f->content_changed;
}

/* A small file without content leaves its pack. */
static int leave_pack(struct file *f)
{
	struct chunk_entry e;
	int r;

	if (!f->blob || !f->blob->pack)
		return 0;
	r = chunkmap_get(&f->chunks, 0, &e);
	if (!r && e.state != CHUNK_ROW && e.state != CHUNK_SEALED)
		blob_unref(steal_ptr(&f->blob));
	return r;
}

static void clean(struct file *f)
{
	f->content_changed = f->mtime_changed = false;
	atomic_store(&f->is_dirty, false);
}

/* Nothing is left of what was changed: so the file is the origin's as before, and what of it does
 * not open is fetched again. */
static int clean_if_unchanged(struct file *f)
{
	struct content_map m;
	int r;

	if (!f->map || f->dirty || f->chunks.n_pending || f->chunks.cut != CHUNKMAP_NO_CUT)
		return 0;
	db_read(f->v->db);
	r = content_map_get(f->v->db, f->map, &m);
	db_unlock(f->v->db);
	if (!r && m.size == f->size)
		clean(f);
	return r;
}

int file_commit_prepare(struct file *f)
{
	bool lost;
	int r = file_dirty_seal_all(f, &lost);

	if (!r && lost)
		r = clean_if_unchanged(f);
	return r ? r : leave_pack(f);
}

struct txn {
	struct file *f;
	struct object_row o;
	struct content_map before, m;
	struct gc_sharers sharers;
	uint64_t gen;
	bool synced;
};

int file_commit_replaced(struct file *f, uint64_t slot, uint32_t len, uint64_t gen)
{
	int r = f->n_replaced ? 0 : blob_units_derive(f->rows); /* I3 */

	if (r)
		return r;
	if (ARRAY_ROOM(f->replaced, f->n_replaced, f->cap_replaced))
		return -ENOMEM;
	f->replaced[f->n_replaced++] =
		(struct blob_release){ .slot = slot, .len = len, .gen = gen };
	return 0;
}

/* The slot goes unless a snapshot names it too. */
static int replaced(struct txn *t, uint64_t idx, uint64_t slot, uint32_t len)
{
	const struct content_chunk c = { .idx = idx, .slot = slot, .len = len };
	bool pinned;
	int r = gc_pinned(t->f->v, &t->sharers, t->m.id, &c, &pinned);

	return r || pinned ? r : file_commit_replaced(t->f, slot, len, t->gen);
}

/* I5: a transaction whose data is synced begins a generation of its own. */
static uint64_t generation(struct volume *v, bool synced)
{
	return synced ? durable_begin_gen(v) : atomic_load(&v->undo_gen);
}

int file_blob_txn(struct file *f, struct content_map *m)
{
	struct content_blob row;
	int r;

	m->blob = f->blob ? f->blob->id : 0;
	if (!f->blob || m->blob)
		return 0;
	blob_row(f->blob, &row);
	r = content_blob_insert(f->v->db, &row);
	if (r)
		return r;
	r = blob_publish(f->blob, row.id);
	if (r)
		return r;
	f->new_blob = true;
	m->blob = row.id;
	return 0;
}

void file_blob_done(struct file *f, bool committed)
{
	if (f->new_blob && !committed)
		blob_withdraw(f->blob);
	f->new_blob = false;
}

void file_blob_follow(struct file *f)
{
	if (f->rows == f->blob)
		return;
	blob_park(f->rows);
	f->rows = f->blob ? blob_ref(f->blob) : NULL;
}

/* The map's row as it will be; the new one of a file that had none. */
static int map_in_txn(struct txn *t)
{
	struct file *f = t->f;
	struct content_map *m = &t->m;
	int r = 0;

	t->before = (struct content_map){ .object = f->object, .whole = true };
	if (f->map)
		r = content_map_get(f->v->db, f->map, &t->before);
	*m = t->before;
	if (!r)
		r = file_blob_txn(f, m);
	if (r)
		return r;
	m->size = f->size;
	m->whole = f->whole;
	m->etag.text[0] = 0;
	m->used_s = clock_wall_ns() / NS_PER_SEC;
	if (f->map)
		return content_map_update(f->v->db, m);
	r = content_map_insert(f->v->db, m);
	if (!r)
		r = filetab_enter_map(f, m->id);
	if (!r)
		f->new_map = true;
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
		.blob = t->before.blob,
		.size = t->before.size,
		.whole = t->before.whole,
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
	int r = e->has_old ? replaced(t, e->c.idx, e->old_slot, e->old_len) : 0;

	if (r)
		return r;
	if (e->state == CHUNK_SEALED)
		return content_chunk_put(db, t->m.id, &e->c);
	r = content_chunk_delete(db, t->m.id, e->c.idx);
	return r == -ENOENT ? 0 : r;
}

static int content_in_txn(struct txn *t)
{
	struct file *f = t->f;
	int r;

	if (!f->map && !f->size && !f->chunks.n_pending)
		return 0; /* an empty file needs no map */
	r = merge_base_keep(f->v, &t->o);
	if (!r && f->rows) /* I3: once the map's row names another blob, its units look free */
		r = blob_units_derive(f->rows);
	if (!r)
		r = map_in_txn(t);
	if (!r && f->note)
		r = file_log_note(f);
	if (!r && !t->synced)
		r = save_undo(t);
	if (!r && t->before.blob)
		r = gc_sharers(f->v, &t->before, &t->sharers);
	if (!r)
		r = cut_rows(t);
	if (!r)
		r = chunkmap_each_pending(&f->chunks, write_entry, t);
	if (!r)
		unsent_content(f->v, &t->m, &f->chunks);
	t->o.map = t->m.id;
	return r;
}

static void times(const struct file *f, struct object_row *o)
{
	if (f->mtime_changed)
		o->mtime_ns = f->mtime_ns;
	o->ctime_ns = MAX_OF(o->ctime_ns, f->ctime_ns);
}

int file_commit_txn(struct file *f, bool synced)
{
	struct txn t = { .f = f, .synced = synced || f->note };
	int r;

	db_assert_txn(f->v->db);
	f->new_map = false;
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
	f->will_be_logged = f->note;
	t.gen = generation(f->v, t.synced);
	r = content_in_txn(&t);
	if (r)
		return r;
	t.o.size = f->size;
	times(f, &t.o);
	r = object_update(f->v->db, &t.o);
	if (r)
		return r;
	return fold_put(f->v, &t.o);
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

/* Failing to note it, the units stay taken until the blob is loaded again. */
void file_commit_release(struct file *f)
{
	for (size_t i = 0; i < f->n_replaced; i++)
		blob_units_release(
			f->rows, f->replaced[i].slot, f->replaced[i].len, f->replaced[i].gen);
	if (f->n_replaced && durable_note_blob(f->v, f->rows))
		log_debug("blob %llu: units stay until it is loaded again",
			(unsigned long long)f->rows->id);
	f->n_replaced = 0;
}

/* The object is gone, so nothing will ever be committed: what is in memory goes. */
static void discard(struct file *f)
{
	file_dirty_cut(f, 0);
	f->chunks.cut = CHUNKMAP_NO_CUT;
}

void file_commit_done(struct file *f, bool committed)
{
	if (f->new_map && !committed)
		filetab_forget(f);
	if (committed && f->orphan) {
		discard(f);
		clean(f);
	} else if (committed && file_is_dirty(f)) {
		if (f->new_map)
			filetab_set_map(f);
		if (chunkmap_each_pending(&f->chunks, entry_committed, f))
			abort(); /* the callback does not fail */
		f->chunks.cut = CHUNKMAP_NO_CUT;
		file_commit_release(f);
		file_blob_follow(f);
		f->logged = f->will_be_logged;
		clean(f);
	}
	file_log_drop(f);
	file_blob_done(f, committed);
	f->new_map = 0;
	f->n_replaced = 0;
}

/* With the commit the content is no longer the origin's; what undo rows would put back of it after
 * a power cut must not be less than all, for nobody could fetch the rest (I7). */
int file_commit_must_sync(struct file *f, bool *out)
{
	int r = 0;

	*out = false;
	if (f->map && f->content_changed) {
		db_read(f->v->db);
		r = content_undo_partial(f->v->db, f->map, out);
		db_unlock(f->v->db);
	}
	return r;
}

static int commit(struct file *f, bool synced, bool log)
{
	bool must = false;
	int r;

	if (!file_is_dirty(f))
		return 0;
	r = file_commit_prepare(f);
	if (!r && !synced && !(log && file_log_prepare(f)))
		r = file_commit_must_sync(f, &must);
	if (!r && must)
		r = file_sync_data(f);
	if (!r)
		r = db_begin(f->v->db);
	if (r) {
		file_log_drop(f);
		return r;
	}
	r = file_commit_txn(f, synced || must);
	if (r)
		db_rollback(f->v->db);
	else
		r = db_commit(f->v->db);
	file_commit_done(f, !r);
	return r;
}

int file_commit_locked(struct file *f, bool synced)
{
	return commit(f, synced, false);
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

static bool is_large(struct file *f)
{
	bool large;

	pthread_rwlock_rdlock(&f->lock);
	large = file_is_large(f);
	pthread_rwlock_unlock(&f->lock);
	return large;
}

int file_sync(struct file *f)
{
	bool dirty, logged, synced = false;
	uint64_t seq = 0;
	int r = 0;

	space_relieve(f->v);
	/* A large file syncs its own blob, without the lock; the content of a small one goes into
	 * the record of its commit, and a sync of the log is enough. Neither has undo rows. The
	 * large one wants the whole sync: it gives the units that were replaced back, and taking
	 * them again costs the disk less than new ones. */
	if (atomic_load(&f->is_dirty) && is_large(f))
		synced = !presync(f, &seq);
	pthread_rwlock_wrlock(&f->lock);
	dirty = file_is_dirty(f);
	/* Not synced, or written to meanwhile: then with undo rows, and the sync below sees to the
	 * data. */
	synced = synced && seq == f->write_seq;
	r = commit(f, synced, true);
	if (r == -EMSGSIZE)
		r = commit(f, synced, false);
	logged = f->logged;
	pthread_rwlock_unlock(&f->lock);
	if (!r && dirty)
		volume_tell_outbox(f->v);
	if (r)
		return r;
	return logged ? durable_sync_log(f->v) : durable_sync_only(f->v);
}
