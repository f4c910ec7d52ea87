/*
 * The bound (promise P11): the blocks of all files of the volume never exceed the limit. Space is
 * reserved before it is used; when it runs short the least recently used clean content goes (space_evict),
 * pinned and unsent never; when nothing can go, -ENOSPC.
 *
 * `used` counts blob slots, index, WAL and SPACE_OVERHEAD_BYTES for directories, keyring, lock; SPACE_MARGIN_BYTES are kept back for the WAL and the
 * commit that ends an emergency, so that eviction and commit always work.
 * Threads: any. The lock of the counters is a leaf; eviction takes the index lock and no file lock, and leaves blobs that are open for writing.
 */
#ifndef CACHET_CACHE_SPACE_H
#define CACHET_CACHE_SPACE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "cache/volume.h"

#define SPACE_OVERHEAD_BYTES (UINT64_C(2) << 20)
#define SPACE_MARGIN_BYTES (UINT64_C(4) << 20)
/* What one operation on names or attributes takes at most: WAL frames of each page that it touches. */
#define SPACE_ROWS_BYTES (UINT64_C(256) << 10)

/* Content that was used once counts as used so much earlier: reading everything once leaves what is used again. */
#define SPACE_ONCE_S (INT64_C(24) * 60 * 60)

/* Sets `bytes` aside, evicting if need be; -ENOSPC. Call with no lock held: it may sync. */
int space_reserve(struct volume *v, uint64_t bytes) MUST_CHECK;
/* The same without making room. */
int space_try_reserve(struct volume *v, uint64_t bytes) MUST_CHECK;
/* The same for content that comes from the origin: the other content of an open file that is fetched may go for it. */
struct file;
int space_reserve_fill(struct file *f, uint64_t bytes) MUST_CHECK;
/*
 * Around a transaction that adds or changes rows for a user: what it may take of the WAL and the index. -ENOSPC; -EROFS in a volume that is an old copy. No lock held. Changes
 * (`adds` false) may use half of the margin; what frees space, or commits what has its space, needs no permission: it calls
 * space_relieve() before.
 */
int space_begin(struct volume *v, bool adds) MUST_CHECK;
void space_end(struct volume *v);
/* Empties the WAL when it is longer than its bound, or the space it takes is needed: whoever writes rows waits for that. No lock held. */
void space_relieve(struct volume *v);
/* Beyond this length the keeper empties the WAL. */
uint64_t space_wal_mark(struct volume *v);
/* Turns reserved bytes into used ones (the blob grew), or gives them back. */
void space_use(struct volume *v, uint64_t bytes);
void space_release(struct volume *v, uint64_t bytes);
/* Used bytes became free (slots punched, blob deleted). */
void space_free(struct volume *v, uint64_t bytes);

/* A blob was measured: its count changes. */
void space_correct(struct volume *v, uint64_t was, uint64_t now);

/* Evicts until `want` bytes are free or nothing can go; *freed counts. Content of open files stays. */
int space_evict(struct volume *v, uint64_t want, uint64_t *freed) MUST_CHECK;
/* The same for the fetching of f: first its own content, if it has more of the volume than is fair; `last`: that of any open file. */
int space_evict_fill(struct file *f, bool last, uint64_t want, uint64_t *freed) MUST_CHECK;

/*
 * Drops what is here of one file, if it may go: clean, not pinned, not open. -EBUSY: it may not; -ENOENT: nothing is here. *freed counts;
 * the caller syncs before the first (what was fetched a moment ago becomes clean) and calls space_dropped() after the last, which gives the blocks back.
 */
int space_drop(struct volume *v, uint64_t object, uint64_t *freed) MUST_CHECK;
int space_dropped(struct volume *v) MUST_CHECK;

/* How much content there can be at most, with names and journal as they are. */
uint64_t space_content_max(struct volume *v);

struct space_info {
	uint64_t limit, used, reserved;
	uint64_t unsent; /* bytes that cannot go */
};
void space_info(struct volume *v, struct space_info *out);
/* For statfs and early ENOSPC: nearly nothing left that could be freed. */
bool space_is_tight(struct volume *v);

#endif
