/*
 * Bearer tokens: "cachet_" and 64 hex digits, 256 random bits. The database has their SHA-256 only:
 * what was printed once cannot be had again. The lookup is by the first 8 bytes of the hash, the
 * comparison of the whole in constant time. Threads: any, each with its own connection.
 */
#ifndef CACHET_SERVER_TOKENS_H
#define CACHET_SERVER_TOKENS_H

#include <stdbool.h>
#include <stdint.h>

#include "server/store.h"

/* What a token allows. */
struct access {
	int64_t account;
	int64_t store; /* row of the only store it opens, 0 = all */
	bool read_only;
};

/* CE_AUTH: unknown, expired, revoked, or not a token. */
int server_tokens_check(struct store_db *db, const char *token, struct access *out) MUST_CHECK;

/* Makes the account if needed. `store`: id or NULL; -ENOENT when there is no such store. The caller
 * wipes and frees. */
int server_tokens_add(struct store_db *db, const char *account, const char *store, bool read_only,
	char **token) MUST_CHECK;

#endif
