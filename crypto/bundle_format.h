/*
 * The bytes of a sealed bundle, version 1; the table with offsets stands in docs/format.md.
 *
 *     header | chunk 0 | chunk 1 | ... | last chunk
 *     chunk = ciphertext | tag; every ciphertext but the last is of BUNDLE_CHUNK_LEN bytes
 */
#ifndef CACHET_CRYPTO_BUNDLE_FORMAT_H
#define CACHET_CRYPTO_BUNDLE_FORMAT_H

#include <assert.h>
#include <stdint.h>

#include "crypto/aead.h"

#define BUNDLE_MAGIC "cachetXB"
#define BUNDLE_VERSION 1
#define BUNDLE_INFO "cachet/bundle/v1" /* of HKDF */
#define BUNDLE_SALT_LEN 32
#define BUNDLE_PREFIX_LEN 7
#define BUNDLE_COMMIT_LEN 32
#define BUNDLE_CHUNK_LEN 65536u
#define BUNDLE_SEALED_LEN (BUNDLE_CHUNK_LEN + AEAD_TAG_LEN)

/* All members are bytes: no padding, no order of bytes but that of chunk_len, little-endian. */
struct bundle_header {
	uint8_t magic[8];
	uint8_t version;
	uint8_t alg; /* AEAD_AES256GCM */
	uint8_t content;
	uint8_t zero;
	uint8_t chunk_len[4];
	uint8_t salt[BUNDLE_SALT_LEN];
	uint8_t prefix[BUNDLE_PREFIX_LEN];
	uint8_t zero2;
	uint8_t commit[BUNDLE_COMMIT_LEN];
};

static_assert(sizeof(struct bundle_header) == 88, "the header of docs/format.md");

#endif
