/*
 * Goal: SQLite answers with an error at the first call, the second, ... of every story
 * (faults/faults.h). What it had under way is rolled back and told as one error; with "lost" it
 * also gives its transaction up, as it may by itself on a full disk or an I/O error: all that was
 * answered in the group must come back from the redo log.
 */
#include "faults/faults.h"

#include <stdio.h>

#include <sqlite3.h>

#define LOST 0x10000

static int failing(sqlite3 *db)
{
	int code = fault_kind()->code;

	if (code & LOST && !sqlite3_get_autocommit(db))
		sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	return code & ~LOST;
}

#define WRAP(name, params, args, db)                                                               \
	int __real_##name params;                                                                  \
	int __wrap_##name params;                                                                  \
	int __wrap_##name params                                                                   \
	{                                                                                          \
		return fault_due(#name) ? failing(db) : __real_##name args;                        \
	}
#define WRAP_BIND(name, params, args)                                                              \
	int __real_##name params;                                                                  \
	int __wrap_##name params;                                                                  \
	int __wrap_##name params                                                                   \
	{                                                                                          \
		return fault_due(#name) ? SQLITE_NOMEM : __real_##name args;                       \
	}

WRAP(sqlite3_step, (sqlite3_stmt * q), (q), sqlite3_db_handle(q))
WRAP(sqlite3_prepare_v2,
	(sqlite3 * db, const char *sql, int n, sqlite3_stmt **q, const char **tail),
	(db, sql, n, q, tail), db)
WRAP(sqlite3_prepare_v3,
	(sqlite3 * db, const char *sql, int n, unsigned flags, sqlite3_stmt **q, const char **tail),
	(db, sql, n, flags, q, tail), db)
WRAP(sqlite3_wal_checkpoint_v2, (sqlite3 * db, const char *name, int mode, int *log, int *done),
	(db, name, mode, log, done), db)
WRAP_BIND(sqlite3_bind_blob, (sqlite3_stmt * q, int i, const void *v, int n, void (*done)(void *)),
	(q, i, v, n, done))
WRAP_BIND(sqlite3_bind_blob64,
	(sqlite3_stmt * q, int i, const void *v, sqlite3_uint64 n, void (*done)(void *)),
	(q, i, v, n, done))
WRAP_BIND(sqlite3_bind_int64, (sqlite3_stmt * q, int i, sqlite3_int64 v), (q, i, v))
WRAP_BIND(sqlite3_bind_text, (sqlite3_stmt * q, int i, const char *v, int n, void (*done)(void *)),
	(q, i, v, n, done))
WRAP_BIND(sqlite3_bind_zeroblob, (sqlite3_stmt * q, int i, int n), (q, i, n))

int __real_sqlite3_exec(sqlite3 *db, const char *sql, int (*fn)(void *, int, char **, char **),
	void *arg, char **error);
int __wrap_sqlite3_exec(sqlite3 *db, const char *sql, int (*fn)(void *, int, char **, char **),
	void *arg, char **error);
int __wrap_sqlite3_exec(sqlite3 *db, const char *sql, int (*fn)(void *, int, char **, char **),
	void *arg, char **error)
{
	return fault_due(sql) ? failing(db) : __real_sqlite3_exec(db, sql, fn, arg, error);
}

int __real_sqlite3_open_v2(const char *name, sqlite3 **db, int flags, const char *vfs);
int __wrap_sqlite3_open_v2(const char *name, sqlite3 **db, int flags, const char *vfs);
int __wrap_sqlite3_open_v2(const char *name, sqlite3 **db, int flags, const char *vfs)
{
	if (!fault_due("sqlite3_open_v2"))
		return __real_sqlite3_open_v2(name, db, flags, vfs);
	*db = NULL;
	return SQLITE_NOMEM;
}

int main(void)
{
	static const struct fault_kind kinds[] = {
		{ .name = "IOERR", .code = SQLITE_IOERR },
		{ .name = "FULL,lost", .code = SQLITE_FULL | LOST },
		{ .name = "NOMEM", .code = SQLITE_NOMEM },
		{ 0 },
	};

	return faults_run("index", kinds);
}
