/*
 * The keyring: the wrapped keys of one volume, in keyring.json beside the index.
 *
 *     KEK 32 bytes, from a key source (crypto/keysource.h)
 *      └ wraps ─ index key (1)      purpose "index", store ""
 *      └ wraps ─ CEK (1 per store)  purpose "cek", store = opaque id, 32 hex digits
 *
 * An entry is {purpose, store, wrappedCEK:{iv,ct}, kid, epoch, commit, createdAt}: AES-256-GCM,
 * 12-byte iv, ct with the 16-byte tag behind it, AAD = "cachet/wrap/v1" ‖ (u16 LE length ‖ field)
 * for purpose, store, kid, epoch and createdAt, the numbers as decimal text. `commit` is
 * kdf_commit(KEK, kid) of the wrapping KEK: checked first. A wrong KEK is CE_WRONG_KEY, a damaged
 * entry CE_TAMPER, a file that is not a keyring CE_FORMAT. Damage to one entry leaves the others
 * usable. Nothing in the file is secret. It also carries the parameters of the key source (Argon2id
 * salt and cost). Exact bytes: docs/format.md.
 *
 * The file is replaced whole (io_publish): keyring first, index second. A crash leaves the old
 * or the new keyring.
 *
 * Calls: keyring_new or keyring_load; keyring_unlock with the KEK (held until keyring_lock);
 * keyring_make / keyring_get; keyring_save. keyring_rewrap wraps everything under a new KEK.
 * Threads: one at a time (the caller locks).
 */
#ifndef CACHET_CRYPTO_KEYRING_H
#define CACHET_CRYPTO_KEYRING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "base/macros.h"
#include "base/secret.h"

#define KEYRING_FILE "keyring.json"
#define KEYRING_PURPOSE_INDEX "index"
#define KEYRING_PURPOSE_CEK "cek"

struct keyring;

struct keyring_entry_info {
	const char *purpose, *store, *kid; /* borrowed until the keyring changes */
	uint64_t epoch;
	uint64_t from; /* number of the first seal under it (cache/keys.c); 0 of the first epoch */
	int64_t created_at_s; /* Unix time */
	bool old;             /* an entry of a higher epoch has taken its place */
};

int keyring_new(const char *kid, struct keyring **out) MUST_CHECK;
int keyring_load(int dirfd, struct keyring **out) MUST_CHECK;
int keyring_save(const struct keyring *k, int dirfd) MUST_CHECK;
/* What keyring_load would give after keyring_save, locked. */
int keyring_reread(const struct keyring *k, struct keyring **out) MUST_CHECK;
/* With the KEK, if `k` is unlocked. */
int keyring_copy(const struct keyring *k, struct keyring **out) MUST_CHECK;
/* Each becomes what the other was. */
void keyring_swap(struct keyring *a, struct keyring *b);
void keyring_free(struct keyring *k);
void keyring_freep(struct keyring **k);

/* Takes ownership of `kek` (32 bytes) on success. CE_WRONG_KEY: no entry commits to it.
 * CE_TAMPER: entries do, but not under the name the keyring gives. */
int keyring_unlock(struct keyring *k, struct secret *kek) MUST_CHECK;
void keyring_lock(struct keyring *k);
const char *keyring_kid(const struct keyring *k);

/* A fresh random key wrapped as a new entry; -EEXIST. The caller owns *out. */
int keyring_make(
	struct keyring *k, const char *purpose, const char *store, struct secret **out) MUST_CHECK;
/* Unwraps the newest epoch; -ENOENT, CE_LOCKED, CE_TAMPER. The caller owns *out. */
int keyring_get(
	struct keyring *k, const char *purpose, const char *store, struct secret **out) MUST_CHECK;

/* Of one epoch, 0 = the newest; otherwise the same. */
int keyring_get_epoch(struct keyring *k, const char *purpose, const char *store, uint64_t epoch,
	struct secret **out) MUST_CHECK;

/*
 * Rekey. keyring_renew adds a fresh key of the next epoch for each purpose and store, for seals
 * from number `from` on, and saves; keyring_retire takes the old ones out for ever and saves,
 * overwriting. When they fail the keyring in memory is as before; the file may be either.
 */
int keyring_renew(struct keyring *k, uint64_t from, int dirfd) MUST_CHECK;
int keyring_retire(struct keyring *k, int dirfd) MUST_CHECK;

/* Wraps every entry under `kek` (taken on success) with the name `kid`. All or nothing. */
int keyring_rewrap(struct keyring *k, struct secret *kek, const char *kid) MUST_CHECK;

/* Entry number i, or -ENOENT beyond the last. */
int keyring_entry(const struct keyring *k, size_t i, struct keyring_entry_info *out) MUST_CHECK;

/* The key source's own public parameters: an object member of the file. Borrowed. */
const struct json *keyring_source_params(const struct keyring *k);
/* Takes ownership of `params`. */
void keyring_set_source_params(struct keyring *k, struct json *params);

/* The device record (crypto/device.h) of a KEK that a server holds, or NULL. Borrowed; set takes.
 */
const struct json *keyring_device(const struct keyring *k);
void keyring_set_device(struct keyring *k, struct json *record);

/* Crypto-erase: the entry goes, with the next save. -ENOENT. */
int keyring_drop(struct keyring *k, const char *purpose, const char *store) MUST_CHECK;
/* As keyring_save, then overwrites what the old file's blocks held, as far as the file system lets.
 */
int keyring_save_erasing(const struct keyring *k, int dirfd) MUST_CHECK;

#endif
