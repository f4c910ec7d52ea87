/*
 * What clients write: ids, names, numbers, percent-encoding, entity tags. Everything here is
 * strict: a text is taken whole and as the protocol allows it, or refused (CE_FORMAT). No
 * allocation. Threads: any.
 */
#ifndef CACHET_SERVER_WIRE_H
#define CACHET_SERVER_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

#define WIRE_ID_MAX 64
#define WIRE_NAME_MAX 255
#define WIRE_ETAG_MAX 64
#define WIRE_KEY_LEN 16
#define WIRE_TARGET_MAX 4095
#define WIRE_MODE_MAX 4095

/* 1 to 64 characters of [A-Za-z0-9_-]. */
bool server_wire_is_id(const char *text);

/* 1 to 255 bytes of UTF-8 without '/' and NUL, not "." or "..". */
bool server_wire_is_name(const char *text, size_t len);

/*
 * Percent-decoding (RFC 3986) of a text in which every byte that is not unreserved is encoded, to
 * `out` of `size` bytes with a NUL behind it. CE_TOO_LARGE when it does not fit.
 */
int server_wire_percent_decode(const char *in, char *out, size_t size, size_t *out_len) MUST_CHECK;

/* Decimal digits and nothing else. */
int server_wire_u64(const char *text, uint64_t *out) MUST_CHECK;
/* The same with an optional leading minus. */
int server_wire_i64(const char *text, int64_t *out) MUST_CHECK;

/* A list of entity tags, or "*" (RFC 9110 section 13.1.1)? */
bool server_wire_is_etag_list(const char *list);
/*
 * Does the list hold `etag` (with its quotes)? Weak tags match in the weak comparison only; "*"
 * matches all.
 */
bool server_wire_etag_in(const char *list, const char *etag, bool weak);

#endif
