/* Making room out of a file that is open: the chunks that came first go, as a reader that goes on
 * needs them least. */
#include "cache/file_priv.h"

#include "base/error.h"

#define BATCH 256

/* Inside the transaction: what eviction may take (MAP_EVICTABLE), and nobody writes. */
static int is_evictable(struct file *f, const struct content_map *m, bool *out)
{
	struct content_evictable row;
	size_t n;
	int r = content_map_evictable(f->v->db, m->used_s, m->id - 1, &row, 1, &n);

	if (!r)
		*out = n && row.map == m->id && !filetab_busy(f->v, f->object);
	return r;
}

static int drop_oldest(struct file *f, uint64_t want, uint64_t *sum)
{
	uint64_t gen = atomic_load(&f->v->undo_gen);
	struct content_chunk rows[BATCH];
	size_t n, i;
	int r = content_chunk_oldest(f->v->db, f->map, rows, BATCH, &n);

	for (i = 0; !r && i < n && *sum < want; i++) {
		r = file_commit_replaced(f, rows[i].slot, rows[i].len, gen);
		if (!r)
			r = content_chunk_delete(f->v->db, f->map, rows[i].idx);
		*sum += blob_bytes(rows[i].len);
	}
	return r;
}

static int evict_txn(struct file *f, uint64_t want, uint64_t *sum)
{
	struct content_map m;
	bool evictable = false;
	int r = content_map_get(f->v->db, f->map, &m);

	if (!r)
		r = is_evictable(f, &m, &evictable);
	if (r || !evictable)
		return r;
	r = drop_oldest(f, want, sum);
	m.whole = false;
	return r ? r : content_map_update(f->v->db, &m);
}

static int evict_locked(struct file *f, uint64_t want, uint64_t *freed)
{
	uint64_t sum = 0;
	int r = db_begin(f->v->db);

	if (r)
		return r;
	f->n_replaced = 0;
	r = evict_txn(f, want, &sum);
	if (r)
		db_rollback(f->v->db);
	else
		r = db_commit(f->v->db);
	if (r || !sum)
		return r;
	/* Nothing in it is pending: it is read from the rows again. */
	chunkmap_done(&f->chunks);
	chunkmap_init(&f->chunks, &f->v->db, f->map);
	f->whole = false;
	f->here = 0;
	file_commit_release(f);
	*freed += sum;
	return 0;
}

/* f->lock held. */
static bool is_large_and_clean(const struct file *f)
{
	return f->map && !f->snapshot && f->rows && !f->rows->pack && !f->chunks.n_pending &&
	       !file_is_dirty(f);
}

bool file_takes(struct file *f, uint64_t bytes)
{
	bool takes;

	pthread_rwlock_rdlock(&f->lock);
	takes = is_large_and_clean(f);
	if (takes) {
		pthread_mutex_lock(&f->rows->lock);
		takes = f->rows->alloc_bytes >= bytes;
		pthread_mutex_unlock(&f->rows->lock);
	}
	pthread_rwlock_unlock(&f->lock);
	return takes;
}

int file_evict(struct file *f, uint64_t want, uint64_t *freed)
{
	int r = 0;

	pthread_rwlock_wrlock(&f->lock);
	if (is_large_and_clean(f))
		r = evict_locked(f, want, freed);
	pthread_rwlock_unlock(&f->lock);
	return r;
}
