/*
 * Things all row types share: sizes of the texts, borrowed text and bytes.
 *
 * A row struct filled by a query owns nothing and borrows nothing: texts are copied into its
 * fixed arrays. Longer values (symlink target, xattr value, deferred entry) are returned in memory
 * the caller frees. Row functions return 0, -ENOENT when there is no such row, -EEXIST when a
 * unique key is taken, or an error of meta/db.h; the caller holds the index lock (asserted),
 * writers are inside a transaction (asserted).
 */
#ifndef CACHET_META_ROW_H
#define CACHET_META_ROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

#define ROW_RID_MAX 64
#define ROW_ETAG_MAX 64
#define ROW_NAME_MAX 255
#define ROW_SHA256_LEN 32
#define ROW_KEY_LEN 16

struct row_rid {
	char text[ROW_RID_MAX + 1]; /* "" = NULL */
};

struct row_etag {
	char text[ROW_ETAG_MAX + 1]; /* with its quotes; "" = NULL */
};

struct row_filename {
	uint8_t bytes[ROW_NAME_MAX + 1]; /* NUL-terminated; contains no NUL */
	uint16_t len;
};

/* false when it is too long, empty, ".", "..", or holds '/' or NUL. */
bool row_filename_set(struct row_filename *f, const void *bytes, size_t len) MUST_CHECK;

#endif
