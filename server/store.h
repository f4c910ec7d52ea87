/*
 * The database: one connection, its schema brought up to date, and every statement the server has,
 * in one table (store.c), prepared once and bound by position.
 *
 *     r = server_store_open(dir, &db);
 *     sqlite3_stmt *q = server_store_statement(db, SQL_RECORD_BY_ID);   // reset and ready to bind
 *     sqlite3_bind_...(q, ...);
 *     r = server_store_step(db, q);      // 1 = a row, 0 = done, negative = error
 *     server_store_reset(q);             // ends the read; borrowed columns are gone
 *
 * The file is in WAL mode with synchronous=FULL: a COMMIT is durable when it returns, and other
 * connections see it only then. Errors: -ENOSPC, -EBUSY (another process holds the write lock
 * beyond 30 s), -EIO, -ENOMEM, CE_CORRUPT.
 *
 * Threads: one at a time per connection. Many connections, also of several processes, may be open.
 */
#ifndef CACHET_SERVER_STORE_H
#define CACHET_SERVER_STORE_H

#include <sqlite3.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

#define STORE_DB_NAME "records.db"

enum sql {
	SQL_BEGIN_WRITE,
	SQL_BEGIN_READ,
	SQL_COMMIT,
	SQL_ROLLBACK,
	SQL_DATA_VERSION,
	SQL_SERVER_GET,
	SQL_SERVER_PUT,
	SQL_SERVER_IS_COPY,
	SQL_SERVER_SET_COPY,
	SQL_SERVER_NEW_EPOCH,
	SQL_BACKUP,
	SQL_FREE_PAGES,
	SQL_PAGES,
	SQL_COMPACT,
	SQL_STORE_BY_ID,
	SQL_STORE_BY_N,
	SQL_STORE_LIST,
	SQL_STORE_LIST_OPEN,
	SQL_STORE_LIST_GRANTS,
	SQL_STORE_ADD,
	SQL_STORE_SAVE,
	SQL_ACCOUNT_BY_NAME,
	SQL_ACCOUNT_ADD,
	SQL_ACCOUNT_NAME,
	SQL_ACCOUNT_LIST,
	SQL_STORE_CLOSE,
	SQL_STORE_ALLOWED,
	SQL_GRANT_ADD,
	SQL_GRANT_DROP,
	SQL_TOKEN_BY_LOOKUP,
	SQL_TOKEN_ADD,
	SQL_TOKEN_SCOPE,
	SQL_TOKEN_LIST,
	SQL_TOKEN_REVOKE,
	SQL_TOKEN_REVOKE_ALL,
	SQL_TOKEN_KNOWN,
	SQL_VAULT_GET,
	SQL_VAULT_PUT,
	SQL_ENROLLED_BY_DKID,
	SQL_ENROLLED_BY_ID,
	SQL_ENROLLED_NEXT,
	SQL_ENROLLED_ADD,
	SQL_ENROLLED_UPDATE,
	SQL_ENROLLED_SET_STATE,
	SQL_ENROLLED_SET_KID,
	SQL_ENROLLED_SEEN,
	SQL_ENROLLED_LIST,
	SQL_KEK_ADD,
	SQL_KEK_GET,
	SQL_KEK_MADE,
	SQL_KEK_PURGE,
	SQL_AUDIT_HEAD,
	SQL_AUDIT_SET_HEAD,
	SQL_AUDIT_SET_BASE,
	SQL_AUDIT_FORGET,
	SQL_AUDIT_ADD,
	SQL_AUDIT_LIST,
	SQL_DEVICE_GET,
	SQL_DEVICE_SAVE,
	SQL_RECORD_BY_ID,
	SQL_RECORD_BY_PLACE,
	SQL_RECORD_WITH_DATA,
	SQL_RECORD_PARENT,
	SQL_RECORD_HAS_CHILD,
	SQL_RECORD_ADD,
	SQL_RECORD_SAVE,
	SQL_RECORD_UNPLACE,
	SQL_RECORD_FEED,
	SQL_RECORD_BY_FILE,
	SQL_CONTENT_PUT,
	SQL_CONTENT_DELETE,
	SQL_REPLAY_GET,
	SQL_REPLAY_ADD,
	SQL_REPLAY_PURGE,
	SQL_TOMBSTONE_PURGE_TOP,
	SQL_TOMBSTONE_PURGE,
	SQL_EXPORT_IDS,
	SQL_JOB_ADD,
	SQL_JOB_SAVE,
	SQL_JOB_GET,
	SQL_JOB_DELETE,
	SQL_JOB_PURGE,
	SQL_JOB_LOSE,
	SQL_QUERY_GET,
	SQL_QUERY_LIST,
	SQL_QUERY_PUT,
	SQL_QUERY_CHANGED,
	SQL_QUERY_DELETE,
	SQL_COUNT
};

struct store_db;

/* Opens (and makes) the database in `dir`. CE_FORMAT: not ours, or of a newer version. */
int server_store_open(const char *dir, struct store_db **out) MUST_CHECK;
void server_store_close(struct store_db *db);
void server_store_closep(struct store_db **db);
#define _cleanup_store_ _cleanup_(server_store_closep)

sqlite3 *server_store_handle(struct store_db *db);
/* NULL when it cannot be prepared; server_store_step() of NULL is an error, so callers check once,
 * there. */
sqlite3_stmt *server_store_statement(struct store_db *db, enum sql which);
int server_store_step(struct store_db *db, sqlite3_stmt *q) MUST_CHECK;
void server_store_reset(sqlite3_stmt *q);
/* Steps once and resets: of one that gives no rows, or of which only counts whether there is one. */
int server_store_once(struct store_db *db, sqlite3_stmt *q) MUST_CHECK;
/* Steps a statement without parameters that gives no rows. */
int server_store_run(struct store_db *db, enum sql which) MUST_CHECK;
/* Ends a transaction without effect, whatever state it is in. */
void server_store_rollback(struct store_db *db);

/* A negative code for an SQLite result. */
int server_store_error(int rc);

#endif
