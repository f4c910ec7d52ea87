#include "server/tokens.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/secret.h"
#include "crypto/kdf.h"
#include "server/records.h"

#define PREFIX "cachet_"
#define RANDOM_LEN 32
#define TOKEN_LEN (sizeof(PREFIX) - 1 + 2 * RANDOM_LEN)

static int64_t lookup_of(const uint8_t *hash)
{
	return (int64_t)load_le64(hash);
}

int server_tokens_check(struct store_db *db, const char *token, struct access *out)
{
	uint8_t hash[KDF_SHA256_LEN];
	sqlite3_stmt *q;
	int r, found = CE_AUTH;

	if (strnlen(token, TOKEN_LEN + 1) != TOKEN_LEN ||
		strncmp(token, PREFIX, sizeof(PREFIX) - 1) != 0)
		return CE_AUTH;
	r = kdf_sha256(token, TOKEN_LEN, hash);
	if (r)
		return r;
	q = server_store_statement(db, SQL_TOKEN_BY_LOOKUP);
	sqlite3_bind_int64(q, 1, lookup_of(hash));
	sqlite3_bind_int64(q, 2, clock_wall_ns());
	while ((r = server_store_step(db, q)) == 1) {
		const void *known = sqlite3_column_blob(q, 0);

		if (sqlite3_column_bytes(q, 0) != sizeof(hash) ||
			!secret_equal_bytes(known, hash, sizeof(hash)))
			continue;
		out->account = sqlite3_column_int64(q, 1);
		out->store = sqlite3_column_int64(q, 2);
		out->read_only = sqlite3_column_int(q, 3) != 0;
		found = 0;
	}
	server_store_reset(q);
	return r ? r : found;
}

static int get_account(struct store_db *db, const char *name, int64_t *out)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_ACCOUNT_ADD);
	int r;

	sqlite3_bind_text(q, 1, name, -1, SQLITE_STATIC);
	sqlite3_bind_int64(q, 2, clock_wall_ns());
	r = server_store_step(db, q);
	server_store_reset(q);
	if (r)
		return r;
	q = server_store_statement(db, SQL_ACCOUNT_BY_NAME);
	sqlite3_bind_text(q, 1, name, -1, SQLITE_STATIC);
	r = server_store_step(db, q);
	if (r == 1)
		*out = sqlite3_column_int64(q, 0);
	server_store_reset(q);
	return r == 1 ? 0 : r ? r : -ENOENT;
}

static int insert(
	struct store_db *db, int64_t account, int64_t store, bool read_only, const uint8_t *hash)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_TOKEN_ADD);
	int r;

	sqlite3_bind_int64(q, 1, account);
	if (store)
		sqlite3_bind_int64(q, 2, store);
	sqlite3_bind_int(q, 3, read_only);
	sqlite3_bind_int64(q, 4, lookup_of(hash));
	sqlite3_bind_blob(q, 5, hash, KDF_SHA256_LEN, SQLITE_STATIC);
	sqlite3_bind_int64(q, 6, clock_wall_ns());
	r = server_store_step(db, q);
	server_store_reset(q);
	return r;
}

static int add_row(struct store_db *db, const char *account, const char *store, bool read_only,
	const uint8_t *hash)
{
	struct store_row row = { 0 };
	int64_t n;
	int r = server_store_run(db, SQL_BEGIN_WRITE);

	if (!r && store)
		r = server_records_store_by_id(db, store, &row);
	if (!r)
		r = get_account(db, account, &n);
	if (!r)
		r = insert(db, n, row.n, read_only, hash);
	if (!r)
		r = server_store_run(db, SQL_COMMIT);
	if (r)
		server_store_rollback(db);
	return r;
}

int server_tokens_add(
	struct store_db *db, const char *account, const char *store, bool read_only, char **token)
{
	uint8_t random[RANDOM_LEN], hash[KDF_SHA256_LEN];
	char *text = malloc(TOKEN_LEN + 1);
	int r;

	if (!text)
		return -ENOMEM;
	secret_random(random, sizeof(random));
	memcpy(text, PREFIX, sizeof(PREFIX) - 1);
	bytes_to_hex(random, sizeof(random), text + sizeof(PREFIX) - 1);
	secret_wipe(random, sizeof(random));
	r = kdf_sha256(text, TOKEN_LEN, hash);
	if (!r)
		r = add_row(db, account, store, read_only, hash);
	if (r) {
		secret_wipe(text, TOKEN_LEN);
		free(text);
		return r;
	}
	*token = text;
	return 0;
}
