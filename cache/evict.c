/*
 * Eviction takes whole blobs of clean content, least recently used first. In one transaction the
 * chunk rows go, the map becomes one of which nothing is here, and the blob row goes; then a sync;
 * then the file. In that order a power cut leaves the content whole or the map without it, never
 * rows that name a file which is gone.
 */
#include <errno.h>

#include "base/error.h"
#include "cache/blob.h"
#include "cache/space.h"
#include "cache/volume_priv.h"

#define BATCH 32
#define MAPS_MAX 8

/* A blob that a file of this process reads stays. Index lock held, so none is opened meanwhile. */
static bool is_open(struct volume *v, const uint64_t *maps, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (filetab_map_open(v, maps[i]))
			return true;
	}
	return false;
}

static int forget_content(struct volume *v, uint64_t id)
{
	struct content_map m;
	int r = content_map_get(v->db, id, &m);

	if (!r)
		r = content_chunk_delete_from(v->db, id, 0);
	if (r)
		return r;
	m.whole = false;
	m.blob = 0;
	return content_map_update(v->db, &m);
}

static int evict_one(struct volume *v, const struct content_blob *row, bool *evicted)
{
	uint64_t maps[MAPS_MAX];
	size_t n;
	int r = content_map_of_blob(v->db, row->id, maps, MAPS_MAX, &n);

	if (r || n == MAPS_MAX || is_open(v, maps, n))
		return r;
	for (size_t i = 0; i < n && !r; i++)
		r = forget_content(v, maps[i]);
	if (!r)
		r = gc_drop_blob(v, row->id);
	*evicted = !r;
	return r;
}

/* One transaction of at most BATCH candidates after (*used_s, *id). */
static int evict_batch(struct volume *v, uint64_t want, int64_t *used_s, uint64_t *id,
	uint64_t *freed, size_t *seen)
{
	struct content_blob rows[BATCH];
	uint64_t sum = 0;
	size_t n, i;
	int r = db_begin(v->db);

	if (r)
		return r;
	r = content_blob_evictable(v->db, *used_s, *id, rows, BATCH, &n);
	for (i = 0; !r && i < n && sum < want; i++) {
		bool evicted = false;

		r = evict_one(v, &rows[i], &evicted);
		if (evicted)
			sum += rows[i].alloc_bytes;
		*used_s = rows[i].used_s;
		*id = rows[i].id;
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
		r = durable_sync(v);
	if (!r)
		*freed = sum;
	return r;
}
