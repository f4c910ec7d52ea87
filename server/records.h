/*
 * Records and stores as rows: reading, writing, and their JSON. No rules here (server/apply.h has
 * them). All calls run on the caller's connection, in the caller's transaction. -ENOENT: no such
 * row.
 */
#ifndef CACHET_SERVER_RECORDS_H
#define CACHET_SERVER_RECORDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "server/store.h"
#include "server/wire.h"

enum record_kind { RECORD_NONE, RECORD_FILE, RECORD_DIR, RECORD_SYMLINK };

#define RECORD_ROOT_ID "root"
#define RECORD_FILE_LEN 16
#define RECORD_INLINE_MAX 16384 /* bodies up to this live in the row */

struct record {
	int64_t n; /* row; 0 = the root, or not yet stored */
	int64_t store;
	char id[WIRE_ID_MAX + 1];
	int64_t parent_n;
	char parent[WIRE_ID_MAX + 1];
	char name[WIRE_NAME_MAX + 1];
	enum record_kind kind;
	uint64_t size;
	uint8_t sha256[32];
	unsigned mode;
	int64_t mtime_ns;
	uint64_t seq;
	uint32_t tag;
	bool has_key;
	uint8_t key[WIRE_KEY_LEN];
	int64_t changed_at;
	bool in_file; /* the body is the content file `file` */
	uint8_t file[RECORD_FILE_LEN];
	bool deleted;
};

struct store_row {
	int64_t n;
	char id[WIRE_ID_MAX + 1];
	uint64_t seq, purged_seq, records, bytes;
	uint64_t queries_seq; /* grows when a query is declared or removed */
};

/* "file", "dir", "symlink". */
const char *server_records_kind_name(enum record_kind kind);
/* RECORD_NONE for anything else. */
enum record_kind server_records_kind(const char *name);

void server_records_root(int64_t store, struct record *out);
int server_records_by_id(
	struct store_db *db, int64_t store, const char *id, struct record *out) MUST_CHECK;
int server_records_by_place(struct store_db *db, int64_t store, int64_t parent, const char *name,
	struct record *out) MUST_CHECK;
/* Also the inline body: *data is allocated when the body is in the row (NULL otherwise). */
int server_records_with_data(struct store_db *db, int64_t store, const char *id, struct record *out,
	uint8_t **data) MUST_CHECK;
/* The row of the parent of row `n`. */
int server_records_parent(struct store_db *db, int64_t n, int64_t *out) MUST_CHECK;
/* 1 or 0. */
int server_records_has_child(struct store_db *db, int64_t store, int64_t n) MUST_CHECK;
/* Inserts when r->n is 0 (and sets it), else rewrites the row. */
int server_records_save(struct store_db *db, struct record *r) MUST_CHECK;
int server_records_unplace(struct store_db *db, int64_t n) MUST_CHECK;
int server_records_put_data(
	struct store_db *db, int64_t n, const void *data, size_t len) MUST_CHECK;
int server_records_delete_data(struct store_db *db, int64_t n) MUST_CHECK;
/* The record of a row of SQL_RECORD_FEED and its like. */
void server_records_read(sqlite3_stmt *q, struct record *out);

int server_records_store_by_id(
	struct store_db *db, const char *id, struct store_row *out) MUST_CHECK;
int server_records_store_by_n(struct store_db *db, int64_t n, struct store_row *out) MUST_CHECK;
int server_records_store_save(struct store_db *db, const struct store_row *row) MUST_CHECK;
void server_records_read_store(sqlite3_stmt *q, struct store_row *out);

#define RECORD_ETAG_SIZE 32
/* The strong ETag with its quotes. */
void server_records_etag(const struct record *r, char out[RECORD_ETAG_SIZE]);

/* The record as JSON in ASCII; a tombstone has fewer members. `with_key`: as in the feed. */
int server_records_print(struct buffer *b, const struct record *r, bool with_key) MUST_CHECK;
/* A JSON string in ASCII, quotes included; `text` is valid UTF-8. */
int server_records_print_string(struct buffer *b, const char *text) MUST_CHECK;

#endif
