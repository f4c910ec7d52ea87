/*
 * Bytes: little-endian loads and stores, hexadecimal, standard base64, and a growing buffer.
 * Threads: any. The buffer is for data that is not secret (see base/secret.h).
 */
#ifndef CACHET_BASE_BYTES_H
#define CACHET_BASE_BYTES_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/macros.h"

static inline void store_le16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static inline void store_le32(uint8_t *p, uint32_t v)
{
	store_le16(p, (uint16_t)v);
	store_le16(p + 2, (uint16_t)(v >> 16));
}

static inline void store_le64(uint8_t *p, uint64_t v)
{
	store_le32(p, (uint32_t)v);
	store_le32(p + 4, (uint32_t)(v >> 32));
}

static inline uint16_t load_le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t load_le32(const uint8_t *p)
{
	return (uint32_t)load_le16(p) | (uint32_t)load_le16(p + 2) << 16;
}

static inline uint64_t load_le64(const uint8_t *p)
{
	return (uint64_t)load_le32(p) | (uint64_t)load_le32(p + 4) << 32;
}

/* Lower-case hex of `len` bytes and a NUL: 2 * len + 1 bytes at `out`. */
void bytes_to_hex(const uint8_t *in, size_t len, char *out);

/* Exactly 2 * len hex digits and the end of the string, or CE_FORMAT. */
int bytes_from_hex(const char *in, uint8_t *out, size_t len) MUST_CHECK;

/* Standard base64 with padding (RFC 4648 section 4), NUL-terminated; the caller frees *out. */
int bytes_to_base64(const uint8_t *in, size_t len, char **out) MUST_CHECK;

/* At most `max` bytes to `out`; all but canonical base64 is CE_FORMAT, too much CE_TOO_LARGE. */
int bytes_from_base64(const char *in, uint8_t *out, size_t max, size_t *out_len) MUST_CHECK;

/* True when the `len` bytes are well-formed UTF-8 (RFC 3629) without NUL. */
bool bytes_is_utf8(const uint8_t *in, size_t len);

/* A growing byte buffer. Always NUL-terminated behind `len`. */
struct buffer {
	char *data;
	size_t len;
	size_t cap;
	size_t max; /* appending beyond it is CE_TOO_LARGE; 0 = no limit */
};

void buffer_done(struct buffer *b);
int buffer_append(struct buffer *b, const void *data, size_t len) MUST_CHECK;
/* A text of its own, which the caller frees; asprintf leaves anything in *out when it fails. */
int bytes_print(char **out, const char *fmt, ...) MUST_CHECK PRINTF_LIKE(2, 3);
int bytes_vprint(char **out, const char *fmt, va_list args) MUST_CHECK PRINTF_LIKE(2, 0);
int buffer_printf(struct buffer *b, const char *fmt, ...) MUST_CHECK PRINTF_LIKE(2, 3);

#endif
