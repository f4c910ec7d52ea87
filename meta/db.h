/*
 * The index: stock SQLite in WAL mode under a VFS that seals every page (meta/vfs.h).
 *
 * One connection, one lock. db_begin() takes the lock and starts a write transaction; db_commit()
 * or db_rollback() ends it and releases. db_read()/db_unlock() bracket reads outside a transaction.
 * Row functions (meta/object.h ...) assert that the caller holds the lock. The lock is never held
 * across network, FUSE replies or kernel notifications, and nobody takes another lock of the cache
 * but those documented as leaves while holding it.
 *
 * Durability. A commit appends what it changed to the redo log (meta/redo.h) as one sealed record
 * and does not sync it: SIGKILL loses nothing, power loss may lose the newest commits, in order,
 * never a middle one. One transaction of SQLite stays open over many of ours and is committed by
 * db_checkpoint(): pages are sealed and written once for all of them. Opening replays the records
 * that SQLite has not. What is too long for a record, and everything when there is no log
 * (log_bytes), is committed by SQLite at once.
 *
 * db_sync() makes all commits that ended before the call durable, by one sync of the log; what was
 * committed without a record, by one of the WAL. Before any sync of log or WAL, ours or SQLite's,
 * the `before_sync` hook runs: the owner of the blobs syncs there what unsynced commits name.
 * db_sync() needs no lock and may run beside transactions, never beside another db_sync or
 * db_checkpoint (it serialises itself); the caller must not hold the index lock. When nothing was
 * committed since the last sync it only runs the hook.
 *
 * The hook runs without the index lock in db_sync(), and may run with it when SQLite syncs
 * (checkpoint, close): it takes neither the index lock nor calls db_*. A commit that ends while the
 * hook or the sync runs may become durable without the hook having seen it: what it names must be
 * checked after an unclean boot (undo rows, meta/content.h). The header of a fresh WAL is synced
 * without the hook: nothing of ours is in it.
 *
 * Log and WAL grow until db_checkpoint(); nothing here calls that but db_close(). `wal_grown` tells
 * the owner when it is time. A checkpoint that fails leaves the log as it was.
 *
 * A failed commit is rolled back: db_commit then returns the error and the state before db_begin
 * stands. An error of a row function may have ended SQLite's transaction already (full disk, I/O
 * error): the rest of ours then fails, db_commit too; what was answered before is made again from
 * the log when the lock is taken next, and as long as that fails so does every call. The connection must not be carried across fork.
 *
 * Errors: CE_WRONG_KEY, CE_TAMPER (a page fails authentication), CE_CORRUPT, CE_FORMAT (newer
 * schema), CE_INUSE, -ENOSPC, -EIO... Crash: see meta/vfs.h.
 */
#ifndef CACHET_META_DB_H
#define CACHET_META_DB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "base/secret.h"

#define DB_FILE "index.db"
#define DB_WAL_FILE "index.db-wal"
#define DB_REKEY_FILE "index.db.rekey"

struct db;

struct db_options {
	const char *dir;               /* absolute directory of the volume */
	const struct secret *key;      /* index key, 32 bytes; copied */
	bool create;                   /* make a new index; -EEXIST if there is one */
	int (*before_sync)(void *arg); /* may be NULL; an error stops the sync */
	void *before_sync_arg;
	/* Called after each commit that leaves a log longer than wal_mark_bytes, without the index
	 * lock; may be NULL. It takes only leaf locks: other locks of the committer are held. */
	void (*wal_grown)(void *arg);
	void *wal_grown_arg;
	uint64_t wal_mark_bytes;
	/*
	 * For whoever keeps a second record of the journal; any may be NULL, all run under the index
	 * lock. op_changed: a row of this record was inserted, changed or deleted. before_commit: the
	 * transaction is about to be committed, its rows can be read; an error rolls it back. ended:
	 * it was committed or rolled back.
	 */
	void (*op_changed)(void *arg, uint64_t store, const char *rid);
	int (*before_commit)(void *arg);
	void (*ended)(void *arg, bool committed);
	void *journal_arg;
	/* Room laid out for the redo log; 0: none, each transaction is one of SQLite's. */
	uint64_t log_bytes;
	const char *base_vfs; /* SQLite VFS beneath the sealed one; NULL = "unix-excl". For tests of
				 crashes. */
};

/* What opening found; the caller reports it. */
struct db_recovery {
	bool wal_damaged;  /* an authentic commit follows a bad frame or record: commits are lost
			      (after power loss: unsynced ones) */
	bool durable_lost; /* one of them had been synced: not power loss, but a bad disk or
			      tampering. Told by each opening until db_settle_loss() */
	char quarantine[256]; /* where index and WAL were copied to before going on, relative to
				 dir; "" if not */
};

int db_open(const struct db_options *o, struct db **out, struct db_recovery *rec) MUST_CHECK;
/* The owner has met `durable_lost`, durably. */
int db_settle_loss(struct db *db) MUST_CHECK;
/* Checkpoints and truncates the WAL if it can, closes. NULL-safe. */
void db_close(struct db *db);

int db_begin(struct db *db) MUST_CHECK;
int db_commit(struct db *db) MUST_CHECK;
void db_rollback(struct db *db);

void db_read(struct db *db);
void db_unlock(struct db *db);
void db_assert_locked(const struct db *db);
void db_assert_txn(const struct db *db);

int db_sync(struct db *db) MUST_CHECK;
/* Commits, moves the WAL into the main file, starts the log over; `truncate` empties the WAL. -EBUSY never happens with one
 * connection. */
int db_checkpoint(struct db *db, bool truncate) MUST_CHECK;
/* Bytes of the main file, the WAL and the redo log now. Any thread, no lock. */
uint64_t db_bytes(const struct db *db);
/* The same as it may become by the next checkpoint, while the log is still there. */
uint64_t db_bytes_bound(const struct db *db);
/* Of the WAL and of the records in the log: what a checkpoint empties. */
uint64_t db_wal_bytes(const struct db *db);
/*
 * Seals the whole index anew under `key`, while others read and write: a copy is made page by page
 * under short holds of the index lock, then what changed since is added and the copy takes the
 * place of index.db, in one rename; until then, and after a crash, it opens with the old key, from
 * then on with the new. The redo log begins anew. `stop` (may be NULL) is asked between pages:
 * -EINTR. On failure everything is as it was.
 */
int db_rekey(struct db *db, const struct secret *key, bool (*stop)(void *arg),
	void *arg) MUST_CHECK;
/* SQLite's own check over everything. */
int db_integrity_check(struct db *db) MUST_CHECK;

#endif
