/*
 * The chunk map of one open file: a sparse table of pages, loaded from the index when first looked at, so that
 * a file of 10^15 bytes costs what is used of it. It overlays what is sealed but not committed on the rows of the index.
 *
 * An entry is
 *     NONE     no row: a hole, or (file not whole) content that is not here
 *     ROW      as in the index
 *     SEALED   in a slot that no row names yet; replaces `old`, if has_old
 *     DROPPED  its row `old` goes with the next commit
 *
 * chunkmap_cut(idx): rows >= idx of the index are gone as of the next commit (truncation), however many.
 *
 * Locks: readers hold file->lock shared, all others exclusive; the table's own lock (between file->lock and the index lock) serialises loading. Pointers
 * from chunkmap_edit are valid until the next call but chunkmap_get; they need file->lock exclusive.
 */
#ifndef CACHET_CACHE_CHUNKMAP_H
#define CACHET_CACHE_CHUNKMAP_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "meta/content.h"

#define CHUNKMAP_PAGE 64
#define CHUNKMAP_NO_CUT UINT64_MAX

struct db;

enum chunk_state { CHUNK_NONE, CHUNK_ROW, CHUNK_SEALED, CHUNK_DROPPED };

struct chunk_entry {
	struct content_chunk c;
	enum chunk_state state;
	bool has_old;
	uint32_t old_len;
	uint64_t old_slot;
};

struct chunkmap_page;

struct chunkmap {
	pthread_mutex_t lock;
	struct db *const *db; /* the volume's: another one after it was locked */
	uint64_t map; /* 0: no rows */
	uint64_t cut;
	struct chunkmap_page *pages;
	struct chunkmap_page *last; /* most recently used */
	size_t n_pages;
	size_t n_pending; /* entries SEALED or DROPPED */
};

void chunkmap_init(struct chunkmap *m, struct db *const *db, uint64_t map);
void chunkmap_done(struct chunkmap *m);

int chunkmap_get(struct chunkmap *m, uint64_t idx, struct chunk_entry *out) MUST_CHECK;
int chunkmap_edit(struct chunkmap *m, uint64_t idx, struct chunk_entry **out) MUST_CHECK;
/* After the entry's state was changed through the pointer: keeps the counts. */
void chunkmap_changed(struct chunkmap *m, uint64_t idx, enum chunk_state was, enum chunk_state is);

/* The smallest index >= from with content (ROW or SEALED); UINT64_MAX if none. */
int chunkmap_next(struct chunkmap *m, uint64_t from, uint64_t *out) MUST_CHECK;

/* Pending entries in no order; fn may change the entry and must then call chunkmap_changed. */
typedef int chunkmap_fn(void *arg, struct chunk_entry *e);
int chunkmap_each_pending(struct chunkmap *m, chunkmap_fn *fn, void *arg) MUST_CHECK;

/* Forgets entries >= idx; `sealed` gets each that was SEALED. */
void chunkmap_cut(struct chunkmap *m, uint64_t idx, void (*sealed)(void *arg, const struct chunk_entry *e), void *arg);

#endif
