/*
 * Theory of operation: the index lock and transactions.
 *
 * A transaction is a part of the group (db_group.c). Its changes are gathered for the log as they
 * are made (stmt_run), and the commit appends them as one record.
 *
 * A rollback gives the whole group up, and who takes the lock next makes it again from the log.
 * That costs time, and is rare: nothing is changed before it was looked whether it may be. A
 * savepoint before each first change would make it cheap, but copies each page that is changed, a
 * fifth of the work of a small transaction. So only the DB_CAREFUL transactions after a rollback
 * have one.
 *
 * Without a log, or when the record would be too long, the commit is one of SQLite.
 *
 * On a full disk or an I/O error SQLite may give up the group with what was answered. The
 * transaction under way then fails, and the group is made again as after a rollback. Also when a
 * change met a damaged page: SQLite may have made half of it, and may refuse all others until its
 * transaction ends.
 */
#include "meta/db.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/failpoint.h"
#include "meta/db_priv.h"
#include "meta/page_format.h"

#define DB_PAGES_PER_ROW 8
#define DB_CAREFUL 1024

/* --- the index lock --- */

static _Thread_local char self;

void db_broken(const char *what)
{
	fprintf(stderr, "cachet: index lock: %s\n", what);
	abort();
}

bool db_mine(const struct db *db)
{
	return atomic_load_explicit(&db->owner, memory_order_relaxed) == &self;
}

void db_read(struct db *db)
{
	if (db_mine(db))
		db_broken("taken twice");
	pthread_mutex_lock(&db->lock);
	atomic_store_explicit(&db->owner, &self, memory_order_relaxed);
	if (db_group_lost(db))
		db->lost = db_group_restore(db);
}

static void unlock(struct db *db)
{
	atomic_store_explicit(&db->owner, NULL, memory_order_relaxed);
	pthread_mutex_unlock(&db->lock);
}

void db_unlock(struct db *db)
{
	db_assert_locked(db);
	if (db->in_txn)
		db_broken("released inside a transaction");
	unlock(db);
}

void db_assert_locked(const struct db *db)
{
	if (!db_mine(db))
		db_broken("not held");
}

void db_assert_txn(const struct db *db)
{
	db_assert_locked(db);
	if (!db->in_txn)
		db_broken("no transaction");
}

/* --- transactions --- */

int db_begin(struct db *db)
{
	int r;

	db_read(db);
	r = db_group_lost(db) ? db->lost : db_group_begin(db);
	if (r < 0) {
		unlock(db);
		return r;
	}
	db->in_txn = true;
	db->writes = db->saved = db->doubtful = db->noted = false;
	return 0;
}

static int run(struct db *db, enum stmt_id id)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, id);

	return stmt_control(&s);
}

int db_txn_write(struct db *db)
{
	int r;

	db_assert_txn(db);
	if (db->writes)
		return 0;
	r = db->careful ? run(db, STMT_SAVEPOINT) : 0;
	db->writes = r == 0;
	db->saved = r == 0 && db->careful;
	return r;
}

/* Gives the whole group up: it is made again from the log. */
static void give_up(struct db *db)
{
	if (!sqlite3_get_autocommit(db->handle))
		(void)!db_exec(db, "ROLLBACK");
}

static void undo(struct db *db)
{
	if (!db->writes || db_group_lost(db))
		return;
	if (!db->saved || db->doubtful || run(db, STMT_SAVEPOINT_ROLLBACK) < 0 ||
		run(db, STMT_SAVEPOINT_RELEASE) < 0)
		give_up(db);
	db->careful = db->redo ? DB_CAREFUL : 0;
}

static void end(struct db *db, bool committed)
{
	if (db->ended)
		db->ended(db->journal_arg, committed);
	if (db->redo)
		redo_drop(db->redo);
	else if (db->group) { /* nothing is kept open that is not in a log */
		give_up(db);
		db->group = false;
	}
	db->in_txn = false;
	unlock(db);
}

void db_rollback(struct db *db)
{
	db_assert_txn(db);
	if (db->writes)
		memo_clear(db->memo);
	undo(db);
	end(db, false);
}

static uint64_t page_count(struct db *db)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_PAGE_COUNT);

	return stmt_row(&s) == 1 ? stmt_u64(&s) : 0;
}

/* A row changed touches few pages; all that are dirty are of the index, and what is more than the
 * cache holds is in the WAL already. */
static void measure(struct db *db)
{
	uint64_t all = page_count(db), dirty = MIN_OF(db->touched * DB_PAGES_PER_ROW, all);

	dirty = MIN_OF(dirty, DB_CACHE_PAGES);
	atomic_store(&db->logical_bytes, all * PAGE_SIZE_BYTES);
	atomic_store(&db->group_bytes, dirty * PAGE_FRAME_LEN);
}

static int release(struct db *db)
{
	if (!db->saved)
		return 0;
	db->careful--;
	return run(db, STMT_SAVEPOINT_RELEASE);
}

static int log_it(struct db *db)
{
	int r = redo_append(db->redo);

	if (r < 0)
		return r;
	if (db->noted)
		db->noted_number = redo_number(db->redo);
	/* It is answered by now: if SQLite does not follow, the log leads. */
	if (release(db) < 0)
		give_up(db);
	else
		measure(db);
	return 0;
}

static int finish(struct db *db)
{
	int r = FAILPOINT("db-commit");

	if (r == 0 && (db_group_lost(db) || db->doubtful))
		r = -EIO;
	if (r == 0 && db->before_commit)
		r = db->before_commit(db->journal_arg);
	if (r < 0 || !db->writes)
		return r;
	if (db->redo && !redo_fits(db->redo) && db->noted)
		return -EMSGSIZE;
	if (!db->redo || !redo_fits(db->redo))
		return db_group_commit(db, true);
	return redo_is_empty(db->redo) ? release(db) : log_it(db);
}

int db_commit(struct db *db)
{
	int r;

	db_assert_txn(db);
	r = finish(db);
	if (r < 0) {
		db_rollback(db);
		return r;
	}
	end(db, true);
	if (db->wal_grown && db_wal_bytes(db) > db->wal_mark_bytes)
		db->wal_grown(db->wal_grown_arg);
	return 0;
}
