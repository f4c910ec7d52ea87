/*
 * Sealing of the index's pages and log frames (bytes: meta/page_format.h). No I/O.
 *
 * Opened pages have zeros where nonce and tag were: SQLite's checksums cover those bytes, so a page
 * to be sealed into the log must have zeros there too (page_reserve_clear tells).
 * Errors: CE_TAMPER when a page or frame does not authenticate; the output is then zeros.
 * Threads: any.
 */
#ifndef CACHET_META_PAGE_H
#define CACHET_META_PAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "base/secret.h"
#include "meta/page_format.h"

/* What the index key (32 bytes) gives: a key for pages, one for log frames. */
struct page_keys {
	struct secret *page, *wal;
};

int page_keys_init(struct page_keys *k, const struct secret *index_key) MUST_CHECK;
void page_keys_done(struct page_keys *k);

int page_seal(const struct page_keys *k, uint32_t pgno, const uint8_t plain[static PAGE_SIZE_BYTES],
	uint8_t out[static PAGE_SIZE_BYTES]) MUST_CHECK;
/* `in` may be `plain`. */
int page_open(const struct page_keys *k, uint32_t pgno, const uint8_t in[static PAGE_SIZE_BYTES],
	uint8_t plain[static PAGE_SIZE_BYTES]) MUST_CHECK;
bool page_reserve_clear(const uint8_t plain[static PAGE_SIZE_BYTES]);

/* `header` as SQLite made it, checksum in clear; `offset` of the frame in the log; `durable`
 * frames. */
int page_frame_seal(const struct page_keys *k, uint64_t offset, uint32_t durable,
	const uint8_t header[static PAGE_FRAME_HEADER_LEN],
	const uint8_t page[static PAGE_SIZE_BYTES], uint8_t out[static PAGE_FRAME_LEN]) MUST_CHECK;
/* The whole frame as SQLite would have written it. `in` may be `out`. */
int page_frame_open(const struct page_keys *k, uint64_t offset,
	const uint8_t in[static PAGE_FRAME_LEN], uint8_t out[static PAGE_FRAME_LEN]) MUST_CHECK;
/* The durable mark of a sealed frame; to be believed only after page_frame_open. */
uint32_t page_frame_durable(const uint8_t sealed[static PAGE_FRAME_LEN]);

/* SQLite's numbers are big-endian. */
static inline uint32_t page_load_be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/*
 * SQLite's log checksum (file format, section 4.2) over `len` bytes, a multiple of 8, going on
 * from sum[2].
 */
void page_checksum(bool big_endian, const uint8_t *data, size_t len, uint32_t sum[static 2]);

#endif
