/*
 * Authenticated encryption of one message.
 *
 * AES-256-GCM (NIST SP 800-38D) by libcrypto, and XChaCha20-Poly1305
 * (draft-irtf-cfrg-xchacha-03): libsodium's HChaCha20 makes the subkey, libcrypto's
 * ChaCha20-Poly1305 does the rest; byte for byte libsodium's xchacha20poly1305_ietf.
 *
 * Nonces are random (aead_nonce). For GCM that is sound below 2^32 seals per key; whoever owns the
 * key counts them and changes it at AEAD_GCM_SEALS_MAX.
 *
 * The tag is separate from the ciphertext, which is as long as the plaintext; `in` may equal `out`.
 * aead_open() writes nothing but zeros to `out` when it fails.
 * Neither cipher commits to its key: key commitments are checked first (crypto/kdf.h).
 *
 * Threads: any; cipher contexts are per thread and wiped when it ends (aead_thread_done for
 * the main thread), or all together when keys are to leave memory (aead_forget).
 */
#ifndef CACHET_CRYPTO_AEAD_H
#define CACHET_CRYPTO_AEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

enum aead_alg {
	AEAD_AES256GCM = 1,
	AEAD_XCHACHA20POLY1305 = 2,
};

#define AEAD_KEY_LEN 32
#define AEAD_TAG_LEN 16
#define AEAD_NONCE_MAX 24
#define AEAD_GCM_SEALS_MAX (UINT64_C(1) << 28)

/* 12 for GCM, 24 for XChaCha20; 0 for an unknown algorithm. */
size_t aead_nonce_len(enum aead_alg alg);
/* AES-256-GCM where the processor has AES instructions, XChaCha20-Poly1305 elsewhere. */
enum aead_alg aead_default(void);
/* "A256GCM", "XC20P"; NULL for an unknown algorithm. aead_by_name: 0 when unknown. */
const char *aead_name(enum aead_alg alg);
enum aead_alg aead_by_name(const char *name);

/* A fresh random nonce of the algorithm's length, from a pool per thread that survives no fork. */
void aead_nonce(enum aead_alg alg, uint8_t nonce[AEAD_NONCE_MAX]);

/* In a build with -Dunsealed=true, seal copies the plaintext: the canary test's control run. */
int aead_seal(enum aead_alg alg, const uint8_t key[static AEAD_KEY_LEN], const uint8_t *nonce,
	const void *aad, size_t aad_len, const void *in, size_t len, void *out,
	uint8_t tag[static AEAD_TAG_LEN]) MUST_CHECK;

/* 0, or CE_TAMPER; -ENOMEM: libcrypto failed, which says nothing about the message. */
int aead_open(enum aead_alg alg, const uint8_t key[static AEAD_KEY_LEN], const uint8_t *nonce,
	const void *aad, size_t aad_len, const void *in, size_t len,
	const uint8_t tag[static AEAD_TAG_LEN], void *out) MUST_CHECK;

void aead_thread_done(void);
/* Wipes what the contexts of all threads hold. No other thread may be in a call of this file. */
void aead_forget(void);

#endif
