#include "server/tokens.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/secret.h"
#include "crypto/kdf.h"
#include "server/audit.h"
#include "server/records.h"

#define PREFIX "cachet_"
#define RANDOM_LEN 32
#define TOKEN_LEN (sizeof(PREFIX) - 1 + 2 * RANDOM_LEN)

static int64_t lookup_of(const uint8_t *hash)
{
	return (int64_t)load_le64(hash);
}

/* ---- what a request may do ---- */

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
		out->token = sqlite3_column_int64(q, 1);
		out->account = sqlite3_column_int64(q, 2);
		out->read_only = sqlite3_column_int(q, 3) != 0;
		out->admin = sqlite3_column_int(q, 4) != 0;
		out->scoped = sqlite3_column_int(q, 5) != 0;
		found = 0;
	}
	server_store_reset(q);
	return r ? r : found;
}

int server_tokens_opens(struct store_db *db, const struct access *a, int64_t store)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_STORE_ALLOWED);

	sqlite3_bind_int64(q, 1, store);
	sqlite3_bind_int64(q, 2, a->token);
	return server_store_once(db, q);
}

int server_tokens_who(struct store_db *db, const struct access *a, char out[TOKENS_WHO_SIZE])
{
	sqlite3_stmt *q = server_store_statement(db, SQL_ACCOUNT_NAME);
	int r;

	sqlite3_bind_int64(q, 1, a->account);
	r = server_store_step(db, q);
	if (r == 1)
		snprintf(out, TOKENS_WHO_SIZE, "%s, token %lld",
			(const char *)sqlite3_column_text(q, 0), (long long)a->token);
	server_store_reset(q);
	return r == 1 ? 0 : r ? r : CE_CORRUPT;
}

/* ---- accounts ---- */

int server_tokens_account(struct store_db *db, const char *name, int64_t *n)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_ACCOUNT_BY_NAME);
	int r;

	sqlite3_bind_text(q, 1, name, -1, SQLITE_STATIC);
	r = server_store_step(db, q);
	if (r == 1)
		*n = sqlite3_column_int64(q, 0);
	server_store_reset(q);
	return r == 1 ? 0 : r ? r : -ENOENT;
}

/* The name is shown on terminals and pages and stands in the audit: no control characters. */
static bool is_account_name(const char *name)
{
	size_t len = strlen(name);

	if (len < 1 || len > WIRE_NAME_MAX || !bytes_is_utf8((const uint8_t *)name, len))
		return false;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)name[i] < ' ' || name[i] == 0x7f)
			return false;
	return true;
}

int server_tokens_account_add(struct store_db *db, const char *who, const char *name, int64_t *n)
{
	sqlite3_stmt *q;
	int r;

	if (!is_account_name(name))
		return CE_USAGE;
	r = server_tokens_account(db, name, n);
	if (r != -ENOENT)
		return r;
	q = server_store_statement(db, SQL_ACCOUNT_ADD);
	sqlite3_bind_text(q, 1, name, -1, SQLITE_STATIC);
	sqlite3_bind_int64(q, 2, clock_wall_ns());
	r = server_store_once(db, q);
	if (!r)
		r = server_audit_add(db, who, "account-add", "account %s", name);
	return r ? r : server_tokens_account(db, name, n);
}

int server_tokens_account_close(struct store_db *db, const char *who, const char *name)
{
	sqlite3_stmt *q;
	int64_t n;
	int r = server_tokens_account(db, name, &n);

	if (r)
		return r;
	q = server_store_statement(db, SQL_TOKEN_REVOKE_ALL);
	sqlite3_bind_int64(q, 1, n);
	sqlite3_bind_int64(q, 2, clock_wall_ns());
	r = server_store_once(db, q);
	if (r)
		return r;
	q = server_store_statement(db, SQL_GRANT_DROP);
	sqlite3_bind_int64(q, 1, n);
	r = server_store_once(db, q);
	return r ? r : server_audit_add(db, who, "account-close", "account %s", name);
}

int server_tokens_grant(
	struct store_db *db, const char *who, const char *store, const char *account)
{
	struct store_row row;
	sqlite3_stmt *q;
	int64_t n;
	int r = server_records_store_by_id(db, store, &row);

	if (!r)
		r = server_tokens_account_add(db, who, account, &n);
	if (r)
		return r;
	q = server_store_statement(db, SQL_STORE_CLOSE);
	sqlite3_bind_int64(q, 1, row.n);
	r = server_store_once(db, q);
	if (r)
		return r;
	q = server_store_statement(db, SQL_GRANT_ADD);
	sqlite3_bind_int64(q, 1, row.n);
	sqlite3_bind_int64(q, 2, n);
	r = server_store_once(db, q);
	return r ? r
		 : server_audit_add(
			   db, who, "store-grant", "store %s to account %s", store, account);
}

/* A list with a line end, which no id and no account's name has, between two. NULL: an empty one.
 */
static void print_names(struct json *o, const char *key, const unsigned char *text)
{
	struct json *list = json_set_array(o, key);
	const char *names = (const char *)text;

	while (names && *names) {
		char name[WIRE_NAME_MAX + 1];
		size_t len = strcspn(names, "\n");

		snprintf(name, sizeof(name), "%.*s", (int)len, names);
		json_append_string(list, name);
		names += len + (names[len] == '\n');
	}
}

int server_tokens_stores(struct store_db *db, struct json *out)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_STORE_LIST_GRANTS);
	struct json *list = json_set_array(out, "stores");
	int r;

	while ((r = server_store_step(db, q)) == 1) {
		struct json *o = json_append_object(list);

		json_set_string(o, "id", (const char *)sqlite3_column_text(q, 0));
		json_set_i64(o, "records", sqlite3_column_int64(q, 1));
		json_set_i64(o, "bytes", sqlite3_column_int64(q, 2));
		json_set_bool(o, "open", sqlite3_column_int(q, 3));
		print_names(o, "accounts", sqlite3_column_text(q, 4));
	}
	server_store_reset(q);
	return r;
}

int server_tokens_accounts(struct store_db *db, struct json *out)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_ACCOUNT_LIST);
	struct json *list = json_set_array(out, "accounts");
	int r;

	sqlite3_bind_int64(q, 1, clock_wall_ns());
	while ((r = server_store_step(db, q)) == 1) {
		struct json *o = json_append_object(list);

		json_set_string(o, "name", (const char *)sqlite3_column_text(q, 0));
		json_set_i64(o, "createdAt", sqlite3_column_int64(q, 1) / NS_PER_SEC);
		json_set_i64(o, "tokens", sqlite3_column_int64(q, 2));
		json_set_i64(o, "devices", sqlite3_column_int64(q, 3));
		print_names(o, "stores", sqlite3_column_text(q, 4));
	}
	server_store_reset(q);
	return r;
}

/* ---- tokens ---- */

static int scope(struct store_db *db, int64_t token, const char *id)
{
	sqlite3_stmt *q;
	struct store_row row;
	int r = server_records_store_by_id(db, id, &row);

	if (r)
		return r;
	q = server_store_statement(db, SQL_TOKEN_SCOPE);
	sqlite3_bind_int64(q, 1, token);
	sqlite3_bind_int64(q, 2, row.n);
	return server_store_once(db, q);
}

/* Calls `each` with every id of a list with commas; -ENOENT when one is not an id. */
static int for_stores(struct store_db *db, int64_t token, const char *list,
	int (*each)(struct store_db *db, int64_t token, const char *id))
{
	int r = 0;

	do {
		char id[WIRE_ID_MAX + 2];
		size_t len = strcspn(list, ",");

		snprintf(id, sizeof(id), "%.*s", (int)MIN_OF(len, sizeof(id)), list);
		r = server_wire_is_id(id) ? each(db, token, id) : -ENOENT;
		list += len;
	} while (!r && *list++);
	return r;
}

static int look_up(struct store_db *db, int64_t token, const char *id)
{
	struct store_row row;

	(void)token;
	return server_records_store_by_id(db, id, &row);
}

static int insert(struct store_db *db, int64_t account, const struct server_token_options *o,
	const uint8_t *hash, int64_t *n)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_TOKEN_ADD);
	int r;

	sqlite3_bind_int64(q, 1, account);
	sqlite3_bind_int(q, 2, o->stores != NULL);
	sqlite3_bind_int(q, 3, o->read_only);
	sqlite3_bind_int(q, 4, o->admin);
	sqlite3_bind_int64(q, 5, lookup_of(hash));
	sqlite3_bind_blob(q, 6, hash, KDF_SHA256_LEN, SQLITE_STATIC);
	sqlite3_bind_int64(q, 7, clock_wall_ns());
	if (o->expires_at)
		sqlite3_bind_int64(q, 8, o->expires_at * NS_PER_SEC);
	r = server_store_once(db, q);
	if (!r)
		*n = sqlite3_last_insert_rowid(server_store_handle(db));
	return r;
}

static int add_row(struct store_db *db, const char *who, const struct server_token_options *o,
	const uint8_t *hash, int64_t *n)
{
	int64_t account;
	char end[24] = "never";
	int r = o->stores ? for_stores(db, 0, o->stores, look_up) : 0;

	if (!r)
		r = server_tokens_account_add(db, who, o->account, &account);
	if (!r)
		r = insert(db, account, o, hash, n);
	if (!r && o->stores)
		r = for_stores(db, *n, o->stores, scope);
	if (o->expires_at)
		snprintf(end, sizeof(end), "%lld", (long long)o->expires_at);
	return r ? r
		 : server_audit_add(db, who, "token-add",
			   "token %lld of account %s, %s%s, expires %s, stores %s", (long long)*n,
			   o->account, o->read_only ? "read-only" : "read-write",
			   o->admin ? ", admin" : "", end, o->stores ? o->stores : "all");
}

int server_tokens_add(struct store_db *db, const char *who, const struct server_token_options *o,
	char **token, int64_t *n)
{
	uint8_t random[RANDOM_LEN], hash[KDF_SHA256_LEN];
	char *text;
	int r;

	if (!o->account || !is_account_name(o->account) || o->expires_at < 0 ||
		o->expires_at > INT64_MAX / NS_PER_SEC || (o->admin && o->stores))
		return CE_USAGE;
	text = malloc(TOKEN_LEN + 1);
	if (!text)
		return -ENOMEM;
	secret_random(random, sizeof(random));
	memcpy(text, PREFIX, sizeof(PREFIX) - 1);
	bytes_to_hex(random, sizeof(random), text + sizeof(PREFIX) - 1);
	secret_wipe(random, sizeof(random));
	r = kdf_sha256(text, TOKEN_LEN, hash);
	if (!r)
		r = add_row(db, who, o, hash, n);
	if (r) {
		secret_wipe(text, TOKEN_LEN);
		free(text);
		return r;
	}
	*token = text;
	return 0;
}

int server_tokens_revoke(struct store_db *db, const char *who, int64_t n)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_TOKEN_KNOWN);
	int r;

	sqlite3_bind_int64(q, 1, n);
	r = server_store_once(db, q);
	if (r != 1)
		return r ? r : -ENOENT;
	q = server_store_statement(db, SQL_TOKEN_REVOKE);
	sqlite3_bind_int64(q, 1, n);
	sqlite3_bind_int64(q, 2, clock_wall_ns());
	r = server_store_once(db, q);
	return r ? r : server_audit_add(db, who, "token-revoke", "token %lld", (long long)n);
}

static void set_time(struct json *o, const char *key, sqlite3_stmt *q, int column)
{
	if (sqlite3_column_type(q, column) == SQLITE_NULL)
		json_set_null(o, key);
	else
		json_set_i64(o, key, sqlite3_column_int64(q, column) / NS_PER_SEC);
}

static const char *state_of(sqlite3_stmt *q)
{
	if (sqlite3_column_type(q, 6) != SQLITE_NULL)
		return "revoked";
	if (sqlite3_column_type(q, 5) != SQLITE_NULL &&
		sqlite3_column_int64(q, 5) <= clock_wall_ns())
		return "expired";
	return "ok";
}

int server_tokens_list(struct store_db *db, struct json *out)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_TOKEN_LIST);
	struct json *list = json_set_array(out, "tokens");
	int r;

	while ((r = server_store_step(db, q)) == 1) {
		struct json *o = json_append_object(list);

		json_set_i64(o, "id", sqlite3_column_int64(q, 0));
		json_set_string(o, "account", (const char *)sqlite3_column_text(q, 1));
		json_set_string(o, "state", state_of(q));
		json_set_bool(o, "readOnly", sqlite3_column_int(q, 2) != 0);
		json_set_bool(o, "admin", sqlite3_column_int(q, 3) != 0);
		set_time(o, "createdAt", q, 4);
		set_time(o, "expiresAt", q, 5);
		set_time(o, "revokedAt", q, 6);
		if (sqlite3_column_int(q, 7))
			print_names(o, "stores", sqlite3_column_text(q, 8));
	}
	server_store_reset(q);
	return r;
}
