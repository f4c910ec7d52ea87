/* Between keyring.c (the keys) and keyring_file.c (their text form). */
#ifndef CACHET_CRYPTO_KEYRING_PRIV_H
#define CACHET_CRYPTO_KEYRING_PRIV_H

#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "base/secret.h"
#include "crypto/aead.h"
#include "crypto/kdf.h"

#define KEYRING_VERSION 1
#define KEYRING_FORMAT "cachet-keyring"
#define KEYRING_FILE_MAX (4u << 20)
#define KEYRING_KID_MAX 128
#define KEYRING_PURPOSE_MAX 32
#define KEYRING_STORE_LEN 32
#define KEYRING_IV_LEN 12
#define KEYRING_CT_LEN (AEAD_KEY_LEN + AEAD_TAG_LEN)

struct keyring_entry {
	char purpose[KEYRING_PURPOSE_MAX + 1];
	char store[KEYRING_STORE_LEN + 1];
	char kid[KEYRING_KID_MAX + 1];
	uint64_t epoch;
	uint64_t from; /* 0 of epoch 1 */
	int64_t created_at_s;
	uint8_t iv[KEYRING_IV_LEN];
	uint8_t ct[KEYRING_CT_LEN];
	uint8_t commit[KDF_COMMIT_LEN];
};

struct keyring {
	char kid[KEYRING_KID_MAX + 1];
	struct keyring_entry *entries;
	size_t n_entries;
	struct json *source; /* or NULL */
	struct json *device; /* or NULL */
	struct secret *kek;  /* NULL while locked */
};

/* Copies with a check of the character set and length: CE_FORMAT. */
int keyring_file_set_kid(char out[static KEYRING_KID_MAX + 1], const char *kid) MUST_CHECK;
int keyring_file_set_names(
	struct keyring_entry *e, const char *purpose, const char *store) MUST_CHECK;

#endif
