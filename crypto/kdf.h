/*
 * Key derivation, commitments and digests.
 *
 * One label per use. kdf_blake2b: keyed BLAKE2b-256 (RFC 7693), key = parent,
 * input = u8 label length, label, then each field as u16 LE length and bytes.
 * kdf_commit: HMAC-SHA256(key, "cachet/commit/v1" ‖ u16 LE length ‖ context), truncated to 16
 * bytes; compared in constant time before the key is used. kdf_hkdf_sha256: RFC 5869.
 * kdf_argon2id: RFC 9106, version 1.3, 32 bytes.
 * Threads: any.
 */
#ifndef CACHET_CRYPTO_KDF_H
#define CACHET_CRYPTO_KDF_H

#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

#define KDF_KEY_LEN 32
#define KDF_COMMIT_LEN 16
#define KDF_SHA256_LEN 32

/* The labels. */
#define KDF_LABEL_BLOB "cachet/blob/v1"
#define KDF_LABEL_INDEX_PAGE "cachet/index/page/v1"
#define KDF_LABEL_INDEX_WAL "cachet/index/wal/v1"
#define KDF_LABEL_INDEX_REDO "cachet/index/redo/v1"
#define KDF_LABEL_UNSENT "cachet/unsent/v1"
#define KDF_LABEL_SERVER_KEK "cachet/server/kek/v1"
#define KDF_LABEL_SERVER_SIGN "cachet/server/sign/v1"

struct kdf_field {
	const void *data;
	size_t len; /* at most 65535 */
};

int kdf_blake2b(const uint8_t parent[static KDF_KEY_LEN], const char *label,
	const struct kdf_field *fields, size_t n_fields,
	uint8_t out[static KDF_KEY_LEN]) MUST_CHECK;

int kdf_commit(const uint8_t key[static KDF_KEY_LEN], const void *context, size_t context_len,
	uint8_t out[static KDF_COMMIT_LEN]) MUST_CHECK;

int kdf_hkdf_sha256(const uint8_t *ikm, size_t ikm_len, const uint8_t *salt, size_t salt_len,
	const uint8_t *info, size_t info_len, uint8_t *out, size_t out_len) MUST_CHECK;

/* `opslimit` passes over `memlimit_kib`; CE_USAGE when they are out of libsodium's range. */
int kdf_argon2id(const char *passphrase, size_t len, const uint8_t salt[static 16],
	uint32_t opslimit, uint32_t memlimit_kib, uint8_t out[static KDF_KEY_LEN]) MUST_CHECK;

/* SHA-256, streaming. kdf_sha256_free is NULL-safe; final frees. _peek: of what came so far; more may come. */
struct kdf_sha256;
int kdf_sha256_new(struct kdf_sha256 **out) MUST_CHECK;
int kdf_sha256_update(struct kdf_sha256 *h, const void *data, size_t len) MUST_CHECK;
int kdf_sha256_peek(const struct kdf_sha256 *h, uint8_t out[static KDF_SHA256_LEN]) MUST_CHECK;
int kdf_sha256_final(struct kdf_sha256 *h, uint8_t out[static KDF_SHA256_LEN]) MUST_CHECK;
void kdf_sha256_free(struct kdf_sha256 *h);
int kdf_sha256(const void *data, size_t len, uint8_t out[static KDF_SHA256_LEN]) MUST_CHECK;

#endif
