/*
 * Accounts and bearer tokens.
 *
 * A token is "cachet_" and 64 hex digits, 256 random bits. The database has its SHA-256 only: what
 * was printed once cannot be had again. The lookup is by the first 8 bytes of the hash, the
 * comparison of the whole in constant time. It belongs to an account; it may be scoped to some of
 * the stores the account opens, read-only, of limited life, revoked. An admin token administers the
 * server and opens no store.
 *
 * All but the check and the lists need the caller's write transaction, look before they write, and
 * leave an audit row; `who` is the actor for it. -ENOENT: no such account, store or token. Times
 * outside the database are Unix seconds. Threads: any, each with its own connection.
 */
#ifndef CACHET_SERVER_TOKENS_H
#define CACHET_SERVER_TOKENS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "server/server.h"
#include "server/store.h"

/* What a token allows. */
struct access {
	int64_t token, account;
	bool scoped, read_only, admin;
};

/* CE_AUTH: unknown, expired, revoked, or not a token. */
int server_tokens_check(struct store_db *db, const char *token, struct access *out) MUST_CHECK;
/* 1 or 0: does it open the store of this row? */
int server_tokens_opens(struct store_db *db, const struct access *a, int64_t store) MUST_CHECK;

/* "ACCOUNT, token N", for the audit. */
#define TOKENS_WHO_SIZE 320
int server_tokens_who(
	struct store_db *db, const struct access *a, char out[TOKENS_WHO_SIZE]) MUST_CHECK;

/* Makes the account if needed. CE_USAGE: a name or an expiry that is not allowed. The caller wipes
 * and frees *token. */
int server_tokens_add(struct store_db *db, const char *who, const struct server_token_options *o,
	char **token, int64_t *n) MUST_CHECK;
int server_tokens_revoke(struct store_db *db, const char *who, int64_t n) MUST_CHECK;
/* Sets `tokens` in `out`. */
int server_tokens_list(struct store_db *db, struct json *out) MUST_CHECK;

int server_tokens_account(struct store_db *db, const char *name, int64_t *n) MUST_CHECK;
int server_tokens_account_add(
	struct store_db *db, const char *who, const char *name, int64_t *n) MUST_CHECK;
/* Revokes its tokens and takes its grants away; what it wrote and its keys stay. */
int server_tokens_account_close(struct store_db *db, const char *who, const char *name) MUST_CHECK;
/* The store is from now on open only to accounts it was granted to, this one among them. */
int server_tokens_grant(
	struct store_db *db, const char *who, const char *store, const char *account) MUST_CHECK;
/* Sets `accounts` in `out`. */
int server_tokens_accounts(struct store_db *db, struct json *out) MUST_CHECK;
/* Sets `stores` in `out`: all there are, and whom each is open to. */
int server_tokens_stores(struct store_db *db, struct json *out) MUST_CHECK;

#endif
