/*
 * A write transaction: what many changes of one transaction share, so that it is written once.
 *
 *     server_tx_init(&tx, db, instance, tag);
 *     r = server_tx_begin(&tx);                  // takes SQLite's write lock
 *     ... server_apply(&tx, change) ...
 *     r = server_tx_commit(&tx);                 // durable when it returns 0
 *     r < 0: server_tx_rollback(&tx)             // nothing happened
 *     server_tx_files(&tx, &n)                   // content files that no row names any more:
 * unlink them now server_tx_done(&tx);
 *
 * The counters of a store and the last number of a device are read when first needed and written at
 * the commit. Between begin and commit no other process writes, so they are exact.
 */
#ifndef CACHET_SERVER_TX_H
#define CACHET_SERVER_TX_H

#include "base/bytes.h"
#include "server/records.h"
#include "server/store.h"

struct tx_device {
	int64_t account;
	uint8_t device[WIRE_KEY_LEN];
	uint64_t seq;
};

struct tx {
	struct store_db *db;
	const char *instance; /* 32 hex digits */
	uint32_t tag;         /* of the epoch, for ETags */
	int64_t now_ns;
	struct buffer stores;  /* struct store_row */
	struct buffer devices; /* struct tx_device */
	struct buffer files;   /* names released, RECORD_FILE_LEN each */
};

void server_tx_init(struct tx *tx, struct store_db *db, const char *instance, uint32_t tag);
int server_tx_begin(struct tx *tx) MUST_CHECK;
int server_tx_commit(struct tx *tx) MUST_CHECK;
void server_tx_rollback(struct tx *tx);
void server_tx_done(struct tx *tx);

/* The counters of store `n`; borrowed until the next call for another store. */
int server_tx_store(struct tx *tx, int64_t n, struct store_row **out) MUST_CHECK;
int server_tx_note_device(struct tx *tx, int64_t account, const uint8_t device[static WIRE_KEY_LEN],
	uint64_t seq) MUST_CHECK;
int server_tx_release_file(struct tx *tx, const uint8_t file[static RECORD_FILE_LEN]) MUST_CHECK;

/* The stores that this transaction changed; valid until done. */
const struct store_row *server_tx_stores(const struct tx *tx, size_t *n);
const uint8_t *server_tx_files(const struct tx *tx, size_t *n);

#endif
