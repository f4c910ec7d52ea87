#include "server/vault.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "crypto/aead.h"
#include "crypto/kdf.h"
#include "crypto/keysource.h"

#define NONCE_LEN 12
#define INSTANCE_LEN 16

struct vault {
	struct secret *master, *seed;
	uint8_t public_key[ENROLL_SERVER_KEY_LEN];
};

void server_vault_free(struct vault *v)
{
	if (!v)
		return;
	secret_free(v->master);
	secret_free(v->seed);
	free(v);
}

/* ---- sealing ---- */

static int key_of(const struct secret *master, const char *label, const void *name, size_t len,
	struct secret **out)
{
	const struct kdf_field field = { name, len };
	struct secret *key;
	int r = secret_new(KDF_KEY_LEN, &key);

	if (r)
		return r;
	r = kdf_blake2b(secret_cbytes(master), label, &field, 1, secret_bytes(key));
	if (r)
		secret_free(key);
	else
		*out = key;
	return r;
}

static int seal(const struct secret *key, const struct secret *plain, uint8_t *out)
{
	uint8_t nonce[AEAD_NONCE_MAX];

	aead_nonce(AEAD_AES256GCM, nonce);
	memcpy(out, nonce, NONCE_LEN);
	return aead_seal(AEAD_AES256GCM, secret_cbytes(key), out, NULL, 0, secret_cbytes(plain),
		KDF_KEY_LEN, out + NONCE_LEN, out + NONCE_LEN + KDF_KEY_LEN);
}

static int unseal(const struct secret *key, const uint8_t *sealed, struct secret **out)
{
	struct secret *plain;
	int r = secret_new(KDF_KEY_LEN, &plain);

	if (r)
		return r;
	r = aead_open(AEAD_AES256GCM, secret_cbytes(key), sealed, NULL, 0, sealed + NONCE_LEN,
		KDF_KEY_LEN, sealed + NONCE_LEN + KDF_KEY_LEN, secret_bytes(plain));
	if (r)
		secret_free(plain);
	else
		*out = plain;
	return r;
}

int server_vault_seal(const struct vault *v, const char *kid, const struct secret *kek,
	uint8_t out[static VAULT_SEALED_LEN])
{
	_cleanup_secret_ struct secret *key = NULL;
	int r = key_of(v->master, KDF_LABEL_SERVER_KEK, kid, strlen(kid), &key);

	return r ? r : seal(key, kek, out);
}

int server_vault_unseal(const struct vault *v, const char *kid,
	const uint8_t sealed[static VAULT_SEALED_LEN], struct secret **kek)
{
	_cleanup_secret_ struct secret *key = NULL;
	int r = key_of(v->master, KDF_LABEL_SERVER_KEK, kid, strlen(kid), &key);

	return r ? r : unseal(key, sealed, kek);
}

const uint8_t *server_vault_public(const struct vault *v)
{
	return v->public_key;
}

int server_vault_sign(const struct vault *v, const struct enroll_statement *s,
	uint8_t signature[static ENROLL_SIGNATURE_LEN])
{
	return enroll_sign(v->seed, s, signature);
}

/* ---- opening ---- */

struct row {
	uint8_t instance[INSTANCE_LEN];
	bool is_there;
	uint8_t commitment[KDF_COMMIT_LEN];
	uint8_t public_key[ENROLL_SERVER_KEY_LEN];
	uint8_t seed[VAULT_SEALED_LEN];
};

static int take_blob(sqlite3_stmt *q, int column, uint8_t *out, size_t len)
{
	if ((size_t)sqlite3_column_bytes(q, column) != len)
		return CE_CORRUPT;
	memcpy(out, sqlite3_column_blob(q, column), len);
	return 0;
}

static int read_row(struct store_db *db, struct row *out)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_SERVER_GET);
	int r = server_store_step(db, q);

	r = r == 1 ? take_blob(q, 0, out->instance, INSTANCE_LEN) : r ? r : CE_CORRUPT;
	server_store_reset(q);
	if (r)
		return r;
	q = server_store_statement(db, SQL_VAULT_GET);
	r = server_store_step(db, q);
	out->is_there = r == 1;
	if (r == 1) {
		r = take_blob(q, 0, out->commitment, sizeof(out->commitment));
		if (!r)
			r = take_blob(q, 1, out->public_key, sizeof(out->public_key));
		if (!r)
			r = take_blob(q, 2, out->seed, sizeof(out->seed));
	}
	server_store_reset(q);
	return r;
}

static int write_row(struct store_db *db, const struct row *row)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_VAULT_PUT);

	sqlite3_bind_blob(q, 1, row->commitment, sizeof(row->commitment), SQLITE_STATIC);
	sqlite3_bind_blob(q, 2, row->public_key, sizeof(row->public_key), SQLITE_STATIC);
	sqlite3_bind_blob(q, 3, row->seed, sizeof(row->seed), SQLITE_STATIC);
	sqlite3_bind_int64(q, 4, clock_wall_ns());
	return server_store_once(db, q);
}

static int make(struct store_db *db, struct vault *v, struct row *row)
{
	_cleanup_secret_ struct secret *key = NULL;
	int r = kdf_commit(
		secret_cbytes(v->master), row->instance, sizeof(row->instance), row->commitment);

	if (!r)
		r = enroll_sign_make(&v->seed);
	if (!r)
		r = enroll_sign_public(v->seed, row->public_key);
	if (!r)
		r = key_of(v->master, KDF_LABEL_SERVER_SIGN, row->instance, sizeof(row->instance),
			&key);
	if (!r)
		r = seal(key, v->seed, row->seed);
	return r ? r : write_row(db, row);
}

static int check(struct vault *v, const struct row *row)
{
	_cleanup_secret_ struct secret *key = NULL;
	uint8_t commitment[KDF_COMMIT_LEN], public_key[ENROLL_SERVER_KEY_LEN];
	int r = kdf_commit(
		secret_cbytes(v->master), row->instance, sizeof(row->instance), commitment);

	if (!r && !secret_equal_bytes(commitment, row->commitment, sizeof(commitment)))
		r = CE_WRONG_KEY;
	if (!r)
		r = key_of(v->master, KDF_LABEL_SERVER_SIGN, row->instance, sizeof(row->instance),
			&key);
	if (!r)
		r = unseal(key, row->seed, &v->seed);
	if (!r)
		r = enroll_sign_public(v->seed, public_key);
	if (!r && memcmp(public_key, row->public_key, sizeof(public_key)) != 0)
		r = CE_TAMPER;
	return r;
}

/* The key is made only where the database has nothing under one: a lost key is not replaced. */
static int fetch_master(
	struct vault *v, const char *dir, const char *source, bool is_there, char **error)
{
	_cleanup_free_ char *own = NULL;

	if (!source && bytes_print(&own, "file:%s/" VAULT_KEY_FILE, dir))
		return -ENOMEM;
	if (source && (!strncmp(source, "passphrase:", 11) || !strncmp(source, "server:", 7))) {
		*error = strdup("the key source of a server is neither a passphrase nor a server");
		return CE_USAGE;
	}
	source = source ? source : own;
	return is_there ? keysource_fetch(source, NULL, &v->master, error)
			: keysource_create(source, &v->master, NULL, error);
}

int server_vault_open(
	struct store_db *db, const char *dir, const char *source, struct vault **out, char **error)
{
	struct vault *v = calloc(1, sizeof(*v));
	struct row row = { 0 };
	int r = v ? read_row(db, &row) : -ENOMEM;

	if (!r)
		r = fetch_master(v, dir, source, row.is_there, error);
	if (!r)
		r = row.is_there ? check(v, &row) : make(db, v, &row);
	if (r == -ENOENT && !source && row.is_there) {
		free(*error);
		*error = strdup(
			"the master key is missing: put your copy of it there, as " VAULT_KEY_FILE
			" in the data directory; a backup is without it");
	}
	if (r == CE_WRONG_KEY || r == CE_TAMPER)
		*error = strdup("the master key is not the one that this server's keys are under");
	if (r) {
		server_vault_free(v);
		return r;
	}
	memcpy(v->public_key, row.public_key, sizeof(v->public_key));
	*out = v;
	return 0;
}
