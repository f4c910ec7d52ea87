/* The inside of struct db, for db.c, stmt.c and schema.c. */
#ifndef CACHET_META_DB_PRIV_H
#define CACHET_META_DB_PRIV_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>

#include "meta/db.h"
#include "meta/stmt_priv.h"
#include "meta/vfs.h"

struct db {
	sqlite3 *handle;
	struct vfs *vfs;
	void (*wal_grown)(void *arg);
	void *wal_grown_arg;
	uint64_t wal_mark_bytes;
	void (*op_changed)(void *arg, uint64_t store, const char *rid);
	int (*before_commit)(void *arg);
	void (*ended)(void *arg, bool committed);
	void *journal_arg;
	int lock_fd; /* index.db, flocked; closed after the handle */
	int dirfd;

	pthread_mutex_t sync_mutex;  /* one db_sync or db_checkpoint; taken before `lock` */
	pthread_mutex_t lock;        /* the index lock; guards what follows */
	_Atomic(const void *) owner; /* who holds it: the address of a thread-local */
	bool in_txn;
	bool savepoint;
	struct stmt_slot stmts[STMT_COUNT];
};

/* The code for what SQLite just said; `rc` may be SQLITE_OK. */
int db_error(const struct db *db, int rc);
/* One statement without parameters or results, outside the table: pragmas and schema. */
int db_exec(struct db *db, const char *sql) MUST_CHECK;

#endif
