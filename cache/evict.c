/*
 * Eviction takes the content of whole files, clean and least recently used first. In one
 * transaction the chunk rows go, the map becomes one of which nothing is here, and with it the blob
 * row or, in a pack, its units; then a sync; then the blocks. In that order a power cut leaves the
 * content whole or the map without it, never rows that name what is gone.
 *
 * Of an open file nothing goes for writers: who reads it offline would be left in the middle. While
 * content is being fetched, the origin is there: then the oldest chunks of the file that is fetched
 * make room for the next, as soon as it has a quarter of the volume, so that a file larger than the
 * bound can be read, and reading it once does not cost everything else; and, if nothing else is
 * left, those of any open file.
 */
#include <errno.h>

#include "base/error.h"
#include "cache/blob.h"
#include "cache/file_priv.h"
#include "cache/space.h"

#define BATCH 128
#define FAIR_DIVISOR 4

/* Content that a file of this process reads stays. Index lock held, so it is not opened meanwhile.
 */
static int evict_one(struct volume *v, uint64_t map, bool *evicted)
{
	struct content_map m;
	int r;

	if (filetab_map_open(v, map))
		return 0;
	r = content_map_get(v->db, map, &m);
	if (!r)
		r = gc_drop_content(v, &m);
	if (!r)
		r = content_chunk_delete_from(v->db, map, 0);
	m.whole = false;
	m.blob = 0;
	if (!r)
		r = content_map_update(v->db, &m);
	*evicted = !r;
	return r;
}

/* One transaction of at most BATCH candidates after (*used_s, *id). */
static int evict_batch(struct volume *v, uint64_t want, int64_t *used_s, uint64_t *id,
	uint64_t *freed, size_t *seen)
{
	struct content_evictable rows[BATCH];
	uint64_t sum = 0;
	size_t n, i;
	int r = db_begin(v->db);

	if (r)
		return r;
	r = content_map_evictable(v->db, *used_s, *id, rows, BATCH, &n);
	for (i = 0; !r && i < n && sum < want; i++) {
		bool evicted = false;

		r = evict_one(v, rows[i].map, &evicted);
		if (evicted)
			sum += rows[i].bytes;
		*used_s = rows[i].used_s;
		*id = rows[i].map;
	}
	if (r)
		db_rollback(v->db);
	else
		r = db_commit(v->db);
	gc_run(v, !r);
	if (!r) {
		*freed += sum;
		*seen = n;
	}
	return r;
}

static int evict_closed(struct volume *v, uint64_t want, uint64_t *sum)
{
	int64_t used_s = INT64_MIN;
	uint64_t id = 0;
	size_t seen = BATCH;
	int r = 0;

	while (!r && *sum < want && seen == BATCH) {
		space_relieve(v);
		r = evict_batch(v, want - *sum, &used_s, &id, sum, &seen);
	}
	return r;
}

/* What was fetched since the last sync becomes clean content by one. */
static int evict_own(struct file *f, uint64_t want, uint64_t *sum)
{
	struct volume *v = f->v;
	uint64_t fair = v->space.limit / FAIR_DIVISOR;
	int r;

	if (!file_takes(f, fair))
		return 0;
	r = durable_sync(v);
	return r ? r : file_evict(f, want, sum);
}

static int evict_open_one(struct volume *v, uint64_t map, uint64_t want, uint64_t *sum)
{
	struct file *f;
	int r;

	if (!filetab_map_open(v, map) || filetab_open_map(v, map, &f))
		return 0;
	r = file_evict(f, want, sum);
	file_unref(f, false);
	return r;
}

/* The least recently used only: there are not many. */
static int evict_open(struct volume *v, uint64_t want, uint64_t *sum)
{
	struct content_evictable rows[BATCH];
	size_t n;
	int r;

	db_read(v->db);
	r = content_map_evictable(v->db, INT64_MIN, 0, rows, BATCH, &n);
	db_unlock(v->db);
	for (size_t i = 0; !r && i < n && *sum < want; i++)
		r = evict_open_one(v, rows[i].map, want - *sum, sum);
	return r;
}

static int finish(struct volume *v, int r, uint64_t sum, uint64_t *freed)
{
	if (!r && sum)
		r = durable_reclaim(v);
	if (!r)
		*freed = sum;
	return r;
}

int space_evict(struct volume *v, uint64_t want, uint64_t *freed)
{
	uint64_t sum = 0;
	int r = evict_closed(v, want, &sum);

	return finish(v, r, sum, freed);
}

int space_evict_fill(struct file *f, bool last, uint64_t want, uint64_t *freed)
{
	uint64_t sum = 0;
	int r = evict_own(f, want, &sum);

	if (!r && !sum)
		r = evict_closed(f->v, want, &sum);
	if (!r && !sum && last)
		r = evict_open(f->v, want, &sum);
	return finish(f->v, r, sum, freed);
}

static int drop_txn(struct volume *v, uint64_t object, uint64_t *bytes)
{
	struct content_evictable e;
	struct content_map m;
	struct object_row o;
	bool evicted = false;
	int r = object_get(v->db, object, &o);

	if (!r && !o.map)
		return -ENOENT;
	if (!r)
		r = content_map_get(v->db, o.map, &m);
	if (r || !m.blob)
		return r ? r : -ENOENT;
	r = content_map_may_go(v->db, m.id, &e);
	if (!r)
		r = evict_one(v, m.id, &evicted);
	if (r == -ENOENT || (!r && !evicted))
		return -EBUSY;
	*bytes = e.bytes;
	return r;
}

int space_drop(struct volume *v, uint64_t object, uint64_t *freed)
{
	uint64_t bytes = 0;
	int r = db_begin(v->db);

	if (r)
		return r;
	r = drop_txn(v, object, &bytes);
	if (r)
		db_rollback(v->db);
	else
		r = db_commit(v->db);
	gc_run(v, !r);
	if (!r)
		*freed += bytes;
	return r;
}

int space_dropped(struct volume *v)
{
	return durable_reclaim(v);
}
