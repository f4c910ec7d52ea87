/*
 * Eviction takes the content of whole files, clean and least recently used first. In one
 * transaction the chunk rows go, the map becomes one of which nothing is here, and with it the blob
 * row or, in a pack, its units; then a sync; then the blocks. In that order a power cut leaves the
 * content whole or the map without it, never rows that name what is gone.
 */
#include <errno.h>

#include "base/error.h"
#include "cache/blob.h"
#include "cache/space.h"
#include "cache/volume_priv.h"

#define BATCH 128

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

int space_evict(struct volume *v, uint64_t want, uint64_t *freed)
{
	int64_t used_s = INT64_MIN;
	uint64_t id = 0, sum = 0;
	size_t seen = BATCH;
	int r = 0;

	while (!r && sum < want && seen == BATCH) {
		space_relieve(v);
		r = evict_batch(v, want - sum, &used_s, &id, &sum, &seen);
	}
	if (!r && sum)
		r = durable_reclaim(v);
	if (!r)
		*freed = sum;
	return r;
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
