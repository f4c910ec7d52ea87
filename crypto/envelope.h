/*
 * Record envelopes: one record, sealed, in the JSON that other programs of the field exchange:
 *
 *     {"enc":{"alg":"A256GCM","iv","ct","tag","aad"?},"meta":{"table","id","version","tenant"?,"user"?}}
 *
 * AES-256-GCM, base64, 12-byte iv, 16-byte tag. The additional data is the canonical JSON
 * (RFC 8785) of those five members of `meta` that are there, so that a record opens in its place
 * and version only; enc.aad, if it is there, repeats it. Read too: {"v":1,"iv","ct"}, with the tag
 * at the end of ct and no additional data. Exact bytes: docs/format.md.
 *
 * Not one of these: CE_FORMAT. Does not open: CE_TAMPER; the cipher does not commit to its key, so
 * a wrong key is the same. Threads: any.
 */
#ifndef CACHET_CRYPTO_ENVELOPE_H
#define CACHET_CRYPTO_ENVELOPE_H

#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "base/macros.h"
#include "crypto/aead.h"

#define ENVELOPE_PLAIN_MAX (16u << 20)

/* `meta`: table and id are strings, version a string or an integer; tenant and user strings, if
 * there. New tree at *out. */
int envelope_seal(const uint8_t key[static AEAD_KEY_LEN], const struct json *meta,
	const void *plain, size_t len, struct json **out) MUST_CHECK;

/* The caller wipes and frees *plain. */
int envelope_open(const struct json *env, const uint8_t key[static AEAD_KEY_LEN], uint8_t **plain,
	size_t *len) MUST_CHECK;

#endif
