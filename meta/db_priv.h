/* The inside of struct db, for db*.c, stmt.c, schema.c and redo_run.c. */
#ifndef CACHET_META_DB_PRIV_H
#define CACHET_META_DB_PRIV_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>

#include "meta/db.h"
#include "meta/memo.h"
#include "meta/redo.h"
#include "meta/stmt_priv.h"
#include "meta/vfs.h"

#define DB_CACHE_PAGES 4000

struct db {
	sqlite3 *handle;
	struct vfs *vfs;
	struct redo *redo; /* NULL: no log, each transaction is one of SQLite's */
	void (*wal_grown)(void *arg);
	void *wal_grown_arg;
	uint64_t wal_mark_bytes;
	void (*op_changed)(void *arg, uint64_t store, const char *rid);
	int (*before_commit)(void *arg);
	void (*ended)(void *arg, bool committed);
	void *journal_arg;
	int lock_fd; /* index.db, flocked; closed after the handle */
	int dirfd;
	struct db_options options; /* of the opening; dir and key are ours */
	pthread_rwlock_t swap;     /* leaf: vfs and redo are not exchanged; for who looks at sizes
				      without the index lock (db_rekey.c) */

	_Atomic uint64_t group_bytes;   /* what the open group will add to the WAL at most */
	_Atomic uint64_t logical_bytes; /* of the main file with the open group in it */
	_Atomic uint64_t hooked; /* up to this record the hook has run */
	_Atomic bool wal_needed;        /* a commit has no record: the WAL must be synced for it */

	pthread_mutex_t sync_mutex;  /* one db_sync or db_checkpoint; taken before `lock` */
	pthread_mutex_t lock;        /* the index lock; guards what follows */
	_Atomic(const void *) owner; /* who holds it: the address of a thread-local */
	bool in_txn;
	bool writes;      /* the transaction has changed something */
	bool saved;       /* and has a savepoint before that */
	unsigned careful; /* so many transactions more get one */
	bool doubtful;    /* a change of it failed half-way: it cannot be committed */
	bool noted;       /* it has notes, which a commit without a record would lose */
	uint64_t noted_number; /* last record with such */
	bool group;       /* a transaction of SQLite is open, or was and is lost */
	int lost;         /* why a lost one could not be made again */
	uint64_t touched; /* rows changed in the group */
	struct stmt_slot stmts[STMT_COUNT];
	struct memo *memo; /* by db_memo() */
};

/* The code for what SQLite just said; `rc` may be SQLITE_OK. */
int db_error(const struct db *db, int rc);
/* Statements without parameters or results, outside the table: pragmas, schema, transactions. */
int db_exec(struct db *db, const char *sql) MUST_CHECK;
/* Ends the process: the caller broke the contract. */
_Noreturn void db_broken(const char *what);
/* Whether the calling thread has the index lock. */
bool db_mine(const struct db *db);

/* db_group.c: the transaction of SQLite that spans many of ours. */
int db_group_begin(struct db *db) MUST_CHECK;
/* SQLite gave it up (full disk, I/O error): nothing may be read or written until it is made again. */
bool db_group_lost(const struct db *db);
int db_group_restore(struct db *db) MUST_CHECK;
/* Rows read last; NULL while there is nothing that may be read. */
static inline struct memo *db_memo(const struct db *db)
{
	return db_group_lost(db) ? NULL : db->memo;
}
/* Ends it, with its mark; `unlogged`: and with a transaction that has no record. On failure it is
 * lost. */
int db_group_commit(struct db *db, bool unlogged) MUST_CHECK;
/* Before schema and statements: the log is replayed. */
int db_group_recover(struct db *db, const struct db_options *o, struct db_recovery *rec) MUST_CHECK;

/* db_sync.c: both locks taken, and everything in the main file, durable; the log started over. On
 * failure neither is held. */
int db_checkpoint_enter(struct db *db) MUST_CHECK;
void db_checkpoint_leave(struct db *db);

/* db.c: the connection of index.db goes and comes again, both locks held. */
void db_close_handle(struct db *db);
int db_open_handle(struct db *db, const struct db_options *o, struct db_recovery *rec) MUST_CHECK;

/* Inside a transaction, before its first change. */
int db_txn_write(struct db *db) MUST_CHECK;

#endif
