/*
 * Buffers for plaintext: left out of core dumps, zero when handed out, wiped when given back.
 * Those of the chunk sizes of new blobs are kept for reuse; others are mapped each time.
 * Threads: any.
 */
#ifndef CACHET_CACHE_POOL_H
#define CACHET_CACHE_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

struct pool;

int pool_new(struct pool **out) MUST_CHECK;
/* NULL-safe. All buffers must be back. */
void pool_free(struct pool *p);

/* 1 << shift zero bytes, or NULL. */
uint8_t *pool_get(struct pool *p, unsigned shift) MUST_CHECK;
/* Wipes the first `used` bytes: the rest must still be zero. NULL-safe. */
void pool_put(struct pool *p, unsigned shift, uint8_t *buf, size_t used);
/* The same for ciphertext: not zeroed, not wiped. */
uint8_t *pool_scratch_get(struct pool *p, unsigned shift) MUST_CHECK;
void pool_scratch_put(struct pool *p, unsigned shift, uint8_t *buf);

#endif
