/*
 * The JSON envelope {v, alg, iv, ct, tag, aad}: one sealed message in text form. Base64 members;
 * `aad` is the additional data itself when it is not secret and the reader needs it, else absent.
 * v is 1. Exact bytes: docs/format.md. Unknown v or alg: CE_FORMAT. Threads: any.
 */
#ifndef CACHET_CRYPTO_ENVELOPE_H
#define CACHET_CRYPTO_ENVELOPE_H

#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "base/macros.h"
#include "crypto/aead.h"

#define ENVELOPE_VERSION 1
#define ENVELOPE_PLAIN_MAX (16u << 20)

/* New tree at *out; `carry_aad` puts the AAD in. */
int envelope_seal(enum aead_alg alg, const uint8_t key[static AEAD_KEY_LEN], const void *aad,
	size_t aad_len, bool carry_aad, const void *plain, size_t len,
	struct json **out) MUST_CHECK;

/* `aad` is what the caller expects; if the envelope carries one it must be equal (else CE_TAMPER).
 * The caller wipes and frees *plain. */
int envelope_open(const struct json *env, const uint8_t key[static AEAD_KEY_LEN], const void *aad,
	size_t aad_len, uint8_t **plain, size_t *len) MUST_CHECK;

#endif
