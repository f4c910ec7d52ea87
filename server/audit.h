/*
 * The audit log: who did what to tokens, accounts, devices, keys, exports, and when. Never a
 * content, a name of a record or a secret.
 *
 * A row is written in the transaction of what it tells of: both are there or neither. Each has the
 * hash of the one before it in its own, and the head has the last one's, so that a row changed,
 * removed, added or moved is found by server_audit_verify(). Who can write the database can also
 * make the whole chain anew: note the head elsewhere now and then and hand it to the verification.
 *
 * hash = SHA-256("cachet audit v1" ‖ hash before (32 zero bytes first) ‖ u64 LE number ‖ u64 LE
 * time in ns ‖ for who, what, subject: u16 LE length ‖ bytes)
 *
 * Threads: one per connection.
 */
#ifndef CACHET_SERVER_AUDIT_H
#define CACHET_SERVER_AUDIT_H

#include "base/json.h"
#include "crypto/kdf.h"
#include "server/server.h"
#include "server/store.h"

#define AUDIT_TEXT_MAX 1024

struct audit_row {
	uint64_t n;
	int64_t at_ns;
	const char *who, *what, *subject;
};

struct audit_head {
	uint64_t n;
	uint8_t hash[KDF_SHA256_LEN];
};

/* In the caller's write transaction. `what` is one word; the subject is cut at AUDIT_TEXT_MAX. */
int server_audit_add(struct store_db *db, const char *who, const char *what, const char *fmt,
	...) MUST_CHECK PRINTF_LIKE(4, 5);

/* Rows behind number `since`, at most `limit`: `entries`, `more` and `base` are set in `out`. */
int server_audit_list(
	struct store_db *db, uint64_t since, uint64_t limit, struct json *out) MUST_CHECK;

int server_audit_hash(const struct audit_row *row, const uint8_t before[static KDF_SHA256_LEN],
	uint8_t out[static KDF_SHA256_LEN]) MUST_CHECK;
/* "NUMBER:HASH" */
void server_audit_print_head(
	const struct audit_head *head, char out[static SERVER_AUDIT_HEAD_SIZE]);
/* As members of `o`. */
void server_audit_print(
	const struct audit_row *row, const uint8_t hash[static KDF_SHA256_LEN], struct json *o);

/* Where the chain begins: where the last archive (audit_archive.h) ended, at first 0. */
int server_audit_base(struct store_db *db, struct audit_head *out) MUST_CHECK;
/*
 * Rows in order, each checked; *at: where the chain is, before the first row as well. `fn`, or
 * NULL, is called with each; 1: enough. CE_TAMPER: at->n is the last good one. In the caller's
 * transaction.
 */
typedef int server_audit_fn(
	void *arg, const struct audit_row *row, const uint8_t hash[static KDF_SHA256_LEN]);
int server_audit_walk(
	struct store_db *db, server_audit_fn *fn, void *arg, struct audit_head *at) MUST_CHECK;
/* Rows up to here are in an archive, and no longer wanted. In the caller's write transaction. */
int server_audit_forget(struct store_db *db, const struct audit_head *last) MUST_CHECK;

/*
 * Walks the whole chain in one read transaction. CE_TAMPER: *bad is the number of the first row
 * that is not as it was written (the head's number + 1 when the head itself does not fit). `noted`:
 * a head of earlier that must still be part of it, or NULL; -ENOENT: it is in an archive.
 */
int server_audit_verify(struct store_db *db, const struct audit_head *noted,
	struct audit_head *head, uint64_t *bad) MUST_CHECK;

#endif
