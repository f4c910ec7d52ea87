#include "cache/space.h"

#include <errno.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "cache/blob.h"
#include "cache/file_priv.h"
#include "cache/scan.h"
#include "cache/unsent.h"
#include "cache/volume_priv.h"

/* Evict more than is asked for, so that the sync it takes is shared by the next callers. */
#define EVICT_BATCH_DIVISOR 32
#define EVICT_BATCH_MAX (UINT64_C(64) << 20)
#define TIGHT_BYTES (UINT64_C(4) << 20)
#define WAL_MARK_BYTES (UINT64_C(4) << 20)
#define WAL_MARK_DIVISOR 32
#define WAL_BOUND_BYTES (UINT64_C(32) << 20)
#define WAL_BOUND_DIVISOR 8
#define WAL_WORTH_BYTES (UINT64_C(256) << 10)
#define UNSENT_AGE_NS (2 * NS_PER_SEC)
#define WALK_LONG_NS (NS_PER_SEC / 10)

/* What the blobs do not count, with what a checkpoint will take: v->space.lock not needed. */
static uint64_t index_bytes(struct volume *v)
{
	return db_bytes_bound(v->db) + unsent_bytes(v) + v->space.aside +
	       SPACE_OVERHEAD_BYTES;
}

uint64_t space_wal_mark(struct volume *v)
{
	return MIN_OF(WAL_MARK_BYTES, v->space.limit / WAL_MARK_DIVISOR);
}

static uint64_t taken_locked(struct volume *v)
{
	return v->space.used + v->space.reserved + index_bytes(v);
}

/* 0, or how many bytes are missing. `margin` is left. */
static uint64_t try_reserve(struct volume *v, uint64_t bytes, uint64_t margin)
{
	uint64_t taken, limit, short_by = 0;

	pthread_mutex_lock(&v->space.lock);
	limit = v->space.limit - margin;
	taken = taken_locked(v);
	if (bytes > limit || taken > limit - bytes)
		short_by = bytes > limit ? bytes : taken - (limit - bytes);
	else
		v->space.reserved += bytes;
	pthread_mutex_unlock(&v->space.lock);
	return short_by;
}

static uint64_t batch(struct volume *v)
{
	return MIN_OF(v->space.limit / EVICT_BATCH_DIVISOR, EVICT_BATCH_MAX);
}

/* Half of the margin is gone: the next transactions need what the WAL takes. */
static bool margin_eaten(struct volume *v)
{
	bool eaten;

	pthread_mutex_lock(&v->space.lock);
	eaten = taken_locked(v) > v->space.limit - SPACE_MARGIN_BYTES / 2;
	pthread_mutex_unlock(&v->space.lock);
	return eaten;
}

/* A failure is that of the disk: who needs it to succeed syncs, or sees that there is no room. */
void space_relieve(struct volume *v)
{
	uint64_t wal = db_wal_bytes(v->db), least = WAL_WORTH_BYTES;

	if (wal >= MIN_OF(WAL_BOUND_BYTES, v->space.limit / WAL_BOUND_DIVISOR))
		least = MIN_OF(WAL_BOUND_BYTES, v->space.limit / WAL_BOUND_DIVISOR);
	else if (wal < WAL_WORTH_BYTES || !margin_eaten(v))
		return;
	if (durable_checkpoint(v, least))
		log_debug("the WAL could not be emptied");
}

/* `f`: the file that is fetched, or NULL. */
static int evict(struct volume *v, struct file *f, bool last, uint64_t short_by, uint64_t *freed)
{
	uint64_t want = MAX_OF(short_by, batch(v));

	return f ? space_evict_fill(f, last, want, freed) : space_evict(v, want, freed);
}

/* What is not clean content by now, or goes with a sync, or is nothing. */
static int make_room_by_sync(struct volume *v, struct file *f, uint64_t short_by)
{
	uint64_t freed = 0;
	int r;

	if (durable_reclaimable(v))
		return durable_reclaim(v);
	r = durable_sync(v);
	if (!r)
		r = evict(v, f, true, short_by, &freed);
	return r ? r : freed ? 0 : -ENOSPC;
}

/*
 * One round of making room; 0 when it is worth trying again. First the WAL, then what waits for a
 * sync, then clean content; what was fetched since the last sync becomes clean content by one.
 */
static int make_room(struct volume *v, struct file *f, uint64_t short_by)
{
	uint64_t freed = 0;
	int r;

	if (db_wal_bytes(v->db) >= WAL_WORTH_BYTES)
		return durable_checkpoint(v, WAL_WORTH_BYTES);
	if (durable_reclaimable(v) >= short_by)
		return durable_reclaim(v);
	r = evict(v, f, false, short_by, &freed);
	if (r || freed)
		return r;
	return make_room_by_sync(v, f, short_by);
}

static int reserve(struct volume *v, struct file *f, uint64_t bytes, uint64_t margin)
{
	uint64_t short_by;
	int r = 0;

	scan_wait(v);
	space_relieve(v);
	if (!try_reserve(v, bytes, margin))
		return 0;
	if (bytes > v->space.limit)
		return -ENOSPC;
	pthread_mutex_lock(&v->space.evicting);
	while (!r && (short_by = try_reserve(v, bytes, margin)))
		r = make_room(v, f, short_by);
	pthread_mutex_unlock(&v->space.evicting);
	return r;
}

int space_try_reserve(struct volume *v, uint64_t bytes)
{
	return try_reserve(v, bytes, SPACE_MARGIN_BYTES) ? -ENOSPC : 0;
}

int space_reserve(struct volume *v, uint64_t bytes)
{
	return bytes ? reserve(v, NULL, bytes, SPACE_MARGIN_BYTES) : 0;
}

int space_reserve_fill(struct file *f, uint64_t bytes)
{
	return reserve(f->v, f, bytes, SPACE_MARGIN_BYTES);
}

int space_begin(struct volume *v, bool adds)
{
	if (atomic_load(&v->old_seq))
		return -EROFS;
	return reserve(v, NULL, SPACE_ROWS_BYTES, adds ? SPACE_MARGIN_BYTES : SPACE_MARGIN_BYTES / 2);
}

void space_end(struct volume *v)
{
	space_release(v, SPACE_ROWS_BYTES);
}

void space_use(struct volume *v, uint64_t bytes)
{
	pthread_mutex_lock(&v->space.lock);
	v->space.reserved -= MIN_OF(v->space.reserved, bytes);
	v->space.used += bytes;
	pthread_mutex_unlock(&v->space.lock);
}

void space_release(struct volume *v, uint64_t bytes)
{
	if (!bytes)
		return;
	pthread_mutex_lock(&v->space.lock);
	v->space.reserved -= MIN_OF(v->space.reserved, bytes);
	pthread_mutex_unlock(&v->space.lock);
}

void space_free(struct volume *v, uint64_t bytes)
{
	pthread_mutex_lock(&v->space.lock);
	v->space.used -= MIN_OF(v->space.used, bytes);
	pthread_mutex_unlock(&v->space.lock);
}

void space_correct(struct volume *v, uint64_t was, uint64_t now)
{
	pthread_mutex_lock(&v->space.lock);
	v->space.used -= MIN_OF(v->space.used, was);
	v->space.used += now;
	pthread_mutex_unlock(&v->space.lock);
}

/* What could go, summed over the index: a walk. */
static uint64_t sum_evictable(struct volume *v)
{
	struct content_evictable rows[64];
	int64_t after_used_s = INT64_MIN;
	uint64_t after_id = 0, sum = 0;
	size_t n;

	do {
		db_read(v->db);
		if (content_map_evictable(
			    v->db, after_used_s, after_id, rows, ARRAY_SIZE(rows), &n))
			n = 0;
		db_unlock(v->db);
		for (size_t i = 0; i < n; i++)
			sum += rows[i].bytes;
		if (n) {
			after_used_s = rows[n - 1].used_s;
			after_id = rows[n - 1].map;
		}
	} while (n == ARRAY_SIZE(rows));
	return sum;
}

/* The sum as it was at most age_ns ago, or longer when the walk takes long: of many files it is no
 * more than a twentieth of what the processor does. */
static uint64_t evictable_bytes(struct volume *v, int64_t age_ns)
{
	int64_t began = clock_boot_ns(), took;
	uint64_t sum, reclaimable;
	bool fresh;

	pthread_mutex_lock(&v->space.lock);
	fresh = v->space.evictable_ns &&
		began - v->space.evictable_ns <= MAX_OF(age_ns, v->space.evictable_keep_ns);
	sum = v->space.evictable;
	/* Who comes meanwhile takes the old one. */
	if (!fresh && age_ns)
		v->space.evictable_ns = began;
	pthread_mutex_unlock(&v->space.lock);
	if (fresh)
		return sum;
	sum = sum_evictable(v);
	reclaimable = durable_reclaimable(v) + db_wal_bytes(v->db);
	took = clock_boot_ns() - began;
	pthread_mutex_lock(&v->space.lock);
	v->space.evictable = sum;
	v->space.reclaimable = reclaimable;
	v->space.evictable_ns = began + took;
	v->space.evictable_keep_ns = took > WALK_LONG_NS ? took * 20 : 0;
	pthread_mutex_unlock(&v->space.lock);
	return sum;
}

uint64_t space_content_max(struct volume *v)
{
	uint64_t rest = SPACE_MARGIN_BYTES + index_bytes(v);

	return v->space.limit - MIN_OF(v->space.limit, rest);
}

void space_info(struct volume *v, struct space_info *out)
{
	uint64_t evictable = evictable_bytes(v, 0), blobs;

	pthread_mutex_lock(&v->space.lock);
	blobs = v->space.used;
	out->limit = v->space.limit;
	out->reserved = v->space.reserved;
	out->used = blobs + index_bytes(v);
	pthread_mutex_unlock(&v->space.lock);
	out->unsent = blobs - MIN_OF(blobs, evictable);
}

/* The walk is done only when the limit is near. */
bool space_is_tight(struct volume *v)
{
	uint64_t limit, taken;

	pthread_mutex_lock(&v->space.lock);
	limit = v->space.limit - SPACE_MARGIN_BYTES;
	taken = taken_locked(v);
	pthread_mutex_unlock(&v->space.lock);
	if (taken + TIGHT_BYTES < limit)
		return false;
	taken -= MIN_OF(taken, evictable_bytes(v, UNSENT_AGE_NS));
	pthread_mutex_lock(&v->space.lock);
	taken -= MIN_OF(taken, v->space.reclaimable);
	pthread_mutex_unlock(&v->space.lock);
	return taken + TIGHT_BYTES >= limit;
}
