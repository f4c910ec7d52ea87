/*
 * The chunks last opened for a read of a part of them, decrypted: sequential 4 KiB reads then open each chunk once. A few buffers per volume,
 * found by blob and sequence number, which no two seals share, so nothing has to be invalidated. Threads: any; a leaf.
 */
#ifndef CACHET_CACHE_CHUNKCACHE_H
#define CACHET_CACHE_CHUNKCACHE_H

#include "cache/blob.h"

struct chunkcache;
struct pool;

int chunkcache_new(struct pool *pool, struct chunkcache **out) MUST_CHECK;
/* NULL-safe. */
void chunkcache_free(struct chunkcache *cc);
/* Wipes what it holds. */
void chunkcache_empty(struct chunkcache *cc);

/* `len` bytes from `in` of the chunk, within c->len. Errors of blob_open. */
int chunkcache_read(struct chunkcache *cc, struct blob *b, const struct content_chunk *c, uint32_t in,
	uint32_t len, void *out) MUST_CHECK;

#endif
