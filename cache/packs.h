/*
 * Packs: blobs that many small files share, so that one costs the disk's file system a write and
 * not a file of its own to create, sync and unlink. A file whose content is one chunk lives in a
 * pack of its store; with its second chunk it moves to a blob of its own. One pack of each store is
 * current: new content goes there until no run of units is left in it; then the fullest of those
 * with a quarter free, or a new one. An empty pack goes with the next sync (durable.c); one that is
 * nearly empty costs only its file, as its free units have no blocks: nothing is ever moved to
 * compact it.
 *
 * Threads: any. The lock comes after file->lock and before the index lock, which packs_take may
 * take; packs_keep takes leaves only.
 */
#ifndef CACHET_CACHE_PACKS_H
#define CACHET_CACHE_PACKS_H

#include "cache/blob.h"

struct packs;

int packs_new(struct volume *v) MUST_CHECK;
/* Lets all packs go: before the last sync. NULL-safe; again allowed. */
void packs_close(struct volume *v);
void packs_free(struct volume *v);

/* Takes units for `len` bytes; *out is referenced. No lock but file locks held. */
int packs_take(struct volume *v, uint64_t store, uint32_t len, struct blob **out,
	uint64_t *slot) MUST_CHECK;
/* The pack is read: it stays in memory and open a while, with a few others. */
void packs_keep(struct blob *b);

#endif
