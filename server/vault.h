/*
 * The vault: the server's master key, and what is kept under it in the database.
 *
 *     master key   from a key source of the server's own: a file beside the database (made at the
 *      │           first start), a command, systemd-creds; never in the database
 *      ├ KDF("cachet/server/kek/v1", kid)       ─ seals one device KEK
 *      └ KDF("cachet/server/sign/v1", instance) ─ seals the Ed25519 seed
 *
 * Sealed: 12-byte random nonce ‖ ciphertext of 32 bytes ‖ 16-byte tag, AES-256-GCM, no AAD (the
 * name is in the key; each key seals one thing). Its form is VAULT_VERSION. A commitment of the
 * master key is checked first: a wrong one is CE_WRONG_KEY, and nothing is made anew. A database
 * without the master key opens nothing.
 *
 * Keys are in locked memory, the vault's for as long as the server runs. Threads: any.
 */
#ifndef CACHET_SERVER_VAULT_H
#define CACHET_SERVER_VAULT_H

#include "base/secret.h"
#include "crypto/enroll.h"
#include "server/store.h"

#define VAULT_VERSION 1
#define VAULT_SEALED_LEN (12 + 32 + 16)
#define VAULT_KEY_FILE "master.key" /* in the data directory */

struct vault;

/* `source`: a specification of crypto/keysource.h, or NULL for the file in `dir`. Makes master key
 * and signing key where the database has none yet. *error is a sentence. */
int server_vault_open(struct store_db *db, const char *dir, const char *source, struct vault **out,
	char **error) MUST_CHECK;
void server_vault_free(struct vault *v);

int server_vault_seal(const struct vault *v, const char *kid, const struct secret *kek,
	uint8_t out[static VAULT_SEALED_LEN]) MUST_CHECK;
/* CE_TAMPER when it is not what was sealed under this kid. */
int server_vault_unseal(const struct vault *v, const char *kid,
	const uint8_t sealed[static VAULT_SEALED_LEN], struct secret **kek) MUST_CHECK;

const uint8_t *server_vault_public(const struct vault *v);
int server_vault_sign(const struct vault *v, const struct enroll_statement *s,
	uint8_t signature[static ENROLL_SIGNATURE_LEN]) MUST_CHECK;

#endif
