/*
 * Theory of operation: the group.
 *
 * One transaction of SQLite stays open over many of ours, so that a page that many of them change
 * is sealed and written once. Each of ours is in the redo log when it is answered. The commit of
 * the group writes the mark (table `redo`): up to which record the index has what the log has.
 *
 * After a crash, and when SQLite gave the group up, the log is replayed behind the mark in a fresh
 * transaction. While that is done nothing may spill to the WAL: making the group again must not
 * fail for want of the room that ended it. (The memory it takes is bounded by the log.)
 *
 * A record that does not fit what it is replayed on ends the replay before it; it and what follows
 * is damage, set aside and reported. An error of the machine ends nothing: it is returned, the log
 * stays as it is, and the next try begins anew.
 */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "meta/db_priv.h"
#include "meta/recover.h"
#include "meta/redo_run.h"

bool db_group_lost(const struct db *db)
{
	return db->group && sqlite3_get_autocommit(db->handle);
}

int db_group_begin(struct db *db)
{
	int r;

	if (db->group)
		return 0;
	r = db_exec(db, "BEGIN IMMEDIATE");
	db->group = r == 0;
	return r;
}

/* --- the mark --- */

static int write_mark(struct db *db, const struct redo_mark *m)
{
	static const char sql[] = "UPDATE redo SET number = ?, at = ?, salt = ?, next = ?";
	sqlite3_stmt *q = NULL;
	int rc = sqlite3_prepare_v2(db->handle, sql, -1, &q, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(q, 1, (int64_t)m->number);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(q, 2, (int64_t)m->at);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_blob(q, 3, m->salt, REDO_SALT_LEN, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_blob(q, 4, m->next, REDO_SALT_LEN, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(q);
	sqlite3_finalize(q);
	return db_error(db, rc);
}

static int column_salt(sqlite3_stmt *q, int i, uint8_t salt[static REDO_SALT_LEN])
{
	if (sqlite3_column_bytes(q, i) != REDO_SALT_LEN)
		return CE_CORRUPT;
	memcpy(salt, sqlite3_column_blob(q, i), REDO_SALT_LEN);
	return 0;
}

static int read_mark(struct db *db, struct redo_mark *m)
{
	static const char sql[] = "SELECT number, at, salt, next FROM redo";
	sqlite3_stmt *q = NULL;
	int r, rc = sqlite3_prepare_v2(db->handle, sql, -1, &q, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(q);
	r = rc == SQLITE_DONE ? CE_CORRUPT : db_error(db, rc);
	if (rc == SQLITE_ROW) {
		m->number = (uint64_t)sqlite3_column_int64(q, 0);
		m->at = (uint64_t)sqlite3_column_int64(q, 1);
		r = column_salt(q, 2, m->salt);
		if (r == 0)
			r = column_salt(q, 3, m->next);
	}
	sqlite3_finalize(q);
	return r;
}

/* The kernel may write the WAL back before the log: rows, and not the content they name. */
static int flush_notes(struct db *db)
{
	return db->redo && db->noted_number > redo_synced(db->redo) ? redo_flush(db->redo) : 0;
}

int db_group_commit(struct db *db, bool unlogged)
{
	struct redo_mark m;
	int r;

	if (!db->group)
		return 0;
	if (db_group_lost(db))
		return -EIO;
	r = flush_notes(db);
	if (r < 0)
		return r;
	if (db->redo) {
		m = redo_mark(db->redo, unlogged);
		if (unlogged || redo_unmarked(db->redo))
			r = write_mark(db, &m);
	}
	if (r == 0)
		r = db_exec(db, "COMMIT");
	if (r < 0) {
		if (!sqlite3_get_autocommit(db->handle))
			(void)!db_exec(db, "ROLLBACK");
		return r;
	}
	db->group = false;
	db->touched = 0;
	atomic_store(&db->group_bytes, 0);
	if (unlogged)
		atomic_store(&db->wal_needed, true);
	if (db->redo && (unlogged || redo_unmarked(db->redo)))
		redo_marked(db->redo, &m);
	return 0;
}

/* --- replay --- */

/* Up to and with the record `limit`. *bad: it ended before a record that is authentic and does not
 * fit. */
static int replay_records(
	struct db *db, struct redo *log, struct redo_place *p, uint64_t limit, bool *bad)
{
	struct redo_run x = { .db = db };
	const uint8_t *payload;
	size_t len;
	int r = 0;

	*bad = false;
	while (r == 0 && p->number < limit && redo_next(log, p, &payload, &len))
		r = redo_run_payload(&x, payload, len);
	redo_run_done(&x);
	if (r == 0)
		r = redo_unread(log);
	if (r == CE_CORRUPT && !vfs_tampered(db->vfs)) {
		*bad = true;
		p->number--;
		r = 0;
	}
	return r;
}

/* The number takes effect at once; ON and OFF (which a number is too, by its lowest byte) only
 * between transactions. */
static int spill(struct db *db, bool on)
{
	return db_exec(db, on ? "PRAGMA cache_spill = 1" : "PRAGMA cache_spill = 1000000001");
}

/* Opens the group and replays into it. */
static int replay(struct db *db, struct redo *log, struct redo_place *p, uint64_t limit, bool *bad)
{
	struct redo_mark m;
	int r = read_mark(db, &m), r2;

	if (r == 0)
		r = redo_locate(log, &m, p);
	if (r == 0)
		r = spill(db, false);
	if (r == 0)
		r = db_group_begin(db);
	if (r == 0)
		r = replay_records(db, log, p, limit, bad);
	if ((r < 0 || *bad) && !sqlite3_get_autocommit(db->handle))
		(void)!db_exec(db, "ROLLBACK");
	if (*bad)
		db->group = false;
	r2 = spill(db, true);
	return r < 0 ? r : r2;
}

int db_group_restore(struct db *db)
{
	struct redo_place p;
	bool bad = false;
	int r = 0;

	memo_clear(db->memo);
	db->group = false;
	if (!db->redo)
		return 0;
	r = replay(db, db->redo, &p, redo_number(db->redo), &bad);
	redo_done_reading(db->redo);
	if (r == 0 && (bad || p.number != redo_number(db->redo)))
		r = CE_TAMPER;
	if (r < 0) {
		if (!sqlite3_get_autocommit(db->handle))
			(void)!db_exec(db, "ROLLBACK");
		db->group = true; /* still lost */
	}
	return r;
}

/* --- opening --- */

/* What the log has, as far as it goes; then its tail is struck out. */
static int recover(struct db *db, struct db_recovery *rec)
{
	struct redo_place p;
	struct redo_tail tail;
	bool bad = false, again = false;
	int r = replay(db, db->redo, &p, UINT64_MAX, &bad);

	if (r == 0 && bad)
		r = replay(db, db->redo, &p, p.number, &again);
	if (r < 0 || again)
		return r < 0 ? r : CE_CORRUPT;
	redo_tail(db->redo, &p, &tail);
	r = redo_unread(db->redo);
	if (r == 0 && tail.damaged) {
		rec->wal_damaged = true;
		rec->durable_lost = rec->durable_lost || tail.durable_lost || bad;
		r = recover_quarantine(db->dirfd, db->lock_fd, rec);
	}
	if (r == 0)
		r = redo_wipe(db->redo, &p);
	if (r == 0)
		redo_go_on(db->redo, &p);
	/* Of what a killed process appended nobody knows whether it is on the disk. */
	db->noted_number = r == 0 && p.number > p.marked ? p.number : 0;
	return r;
}

/* Nothing is in the log, and the WAL is in the main file: the next epoch may begin. */
static void begin_epoch(struct db *db)
{
	if (!redo_unmarked(db->redo) && vfs_wal_bytes(db->vfs) == 0)
		redo_restart(db->redo);
}

int db_group_recover(struct db *db, const struct db_options *o, struct db_recovery *rec)
{
	const struct redo_options ro = {
		.dir = o->dir,
		.dirfd = db->dirfd,
		.key = o->key,
		.base_vfs = o->base_vfs,
		.bytes = o->log_bytes,
	};
	int r = redo_open(&ro, &db->redo);

	if (r == -ENOENT && !o->log_bytes)
		return 0;
	if (r == 0) {
		r = recover(db, rec);
		redo_done_reading(db->redo);
	}
	if (r < 0)
		return r;
	/* Nobody knows whether what is in the WAL was synced, nor whether all of it has records. */
	atomic_store(&db->wal_needed, vfs_wal_dirty(db->vfs));
	if (o->log_bytes) {
		begin_epoch(db);
		return 0;
	}
	/* This opening goes without a log: what it has becomes SQLite's. */
	r = db_group_commit(db, false);
	redo_free(db->redo);
	db->redo = NULL;
	return r;
}
