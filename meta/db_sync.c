/*
 * Theory of operation: durability.
 *
 * db_sync() runs the hook and syncs the log, at the same time: all records appended before it began
 * are durable then, with what they name, wherever the WAL is. Cut short, a record may be there
 * without its data, as when the kernel writes back by itself. The WAL is synced in its stead, or
 * besides, for commits that have no record.
 *
 * db_sync_log() syncs the log and does not run the hook. So a record that is durable may have data
 * that the hook has yet to sync: `hooked` is the last one that has none, and nothing starts the log
 * over before all of it is.
 *
 * db_checkpoint() commits the group with its mark, moves the WAL into the main file (the WAL is
 * synced before), and only then starts the log over.
 *
 * After a sync that failed the log is not believed any more: the next sync commits the group, syncs
 * the WAL and starts the log over, with no writer beside it.
 *
 * Locks: sync_mutex (one sync or checkpoint) before the index lock.
 */
#include <errno.h>

#include "base/beside.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "meta/db_note.h"
#include "meta/db_priv.h"

static void sync_enter(struct db *db)
{
	if (db_mine(db))
		db_broken("held at a sync");
	pthread_mutex_lock(&db->sync_mutex);
}

static void sync_leave(struct db *db)
{
	pthread_mutex_unlock(&db->sync_mutex);
}

static void leave_both(struct db *db)
{
	db_unlock(db);
	sync_leave(db);
}

/* With the hook; commits without a record are durable then. */
static int sync_wal(struct db *db)
{
	int r;

	atomic_store(&db->wal_needed, false);
	r = vfs_wal_sync(db->vfs);
	if (r < 0)
		atomic_store(&db->wal_needed, true);
	return r;
}

/* The group, then the WAL, durable; the log started over. Index lock held. Nothing that the log
 * notes is believed to be on the disk there: the hook brings it to its place before a row may. */
static int settle(struct db *db)
{
	int r = vfs_before_sync(db->vfs);

	if (r == 0) {
		db->noted_number = 0;
		r = db_group_commit(db, false);
	}
	if (r == 0)
		r = sync_wal(db);
	if (r == 0 && db->redo)
		redo_restart(db->redo);
	return r;
}

static void hook_has_seen(struct db *db, uint64_t number)
{
	if (number > atomic_load(&db->hooked))
		atomic_store(&db->hooked, number);
}

static int flush_redo(void *arg)
{
	return redo_flush(arg);
}

/* The hook and the log at the same time. A record that gets to the disk before its data is nothing
 * new: the kernel writes back as it likes, and the undo rows are for that. */
static int sync_both(struct db *db, uint64_t number)
{
	struct beside flush;
	int r, c;

	if (number <= redo_synced(db->redo))
		return vfs_before_sync(db->vfs);
	beside_start(&flush, flush_redo, db->redo);
	r = vfs_before_sync(db->vfs);
	c = beside_wait(&flush);
	if (r == 0 && c == 0)
		redo_covered(db->redo, number);
	return r ? r : c;
}

static int sync_covered(struct db *db)
{
	uint64_t number = db->redo ? redo_number(db->redo) : 0;
	int r = FAILPOINT("db-sync");

	if (r)
		return r;
	if (db->redo && !atomic_load(&db->wal_needed)) {
		r = sync_both(db, number);
	} else {
		r = sync_wal(db);
		if (r == 0 && db->redo)
			r = redo_sync(db->redo, number);
	}
	if (r == 0)
		hook_has_seen(db, number);
	return r;
}

static int sync_suspect(struct db *db)
{
	int r;

	db_read(db);
	r = db->redo && redo_suspect(db->redo) ? settle(db) : sync_covered(db);
	db_unlock(db);
	return r;
}

int db_sync(struct db *db)
{
	int r;

	sync_enter(db);
	if (vfs_wal_suspect(db->vfs) || (db->redo && redo_suspect(db->redo)))
		r = sync_suspect(db);
	else
		r = sync_covered(db);
	sync_leave(db);
	return r;
}

static bool log_is_enough(const struct db *db)
{
	return db->redo && !atomic_load(&db->wal_needed) && !vfs_wal_suspect(db->vfs) &&
	       !redo_suspect(db->redo);
}

int db_sync_log(struct db *db)
{
	uint64_t number;
	int r = 1;

	sync_enter(db);
	/* First the number: a commit without a record says so before it takes one. */
	number = db->redo ? redo_number(db->redo) : 0;
	if (log_is_enough(db)) {
		r = FAILPOINT("db-sync");
		if (r == 0)
			r = redo_sync(db->redo, number);
	}
	sync_leave(db);
	return r;
}

static bool dirty(const struct db *db)
{
	if (!db->redo || atomic_load(&db->wal_needed))
		return vfs_wal_dirty(db->vfs);
	return redo_number(db->redo) != atomic_load(&db->hooked);
}

/*
 * Syncs, then takes both locks: with the index lock not held while the blobs are synced. When
 * commits went by in between, SQLite runs the hook again under the lock; some tries make that rare.
 */
static int sync_then_lock(struct db *db)
{
	for (int tries = 0;; tries++) {
		int r = db_sync(db);

		if (r < 0)
			return r;
		sync_enter(db);
		db_read(db);
		if (!dirty(db))
			vfs_hook_has_run(db->vfs, true);
		if (tries == 3 || !dirty(db))
			return 0;
		leave_both(db);
	}
}

static int checkpoint_locked(struct db *db, bool truncate)
{
	int mode = truncate ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE;
	int r = FAILPOINT("db-checkpoint");

	if (r == 0)
		r = db_group_commit(db, false);
	if (r == 0)
		r = db_error(db, sqlite3_wal_checkpoint_v2(db->handle, NULL, mode, NULL, NULL));
	if (r == 0 && vfs_wal_dirty(db->vfs))
		r = vfs_wal_sync(db->vfs);
	if (r == 0)
		atomic_store(&db->wal_needed, false);
	if (r == 0 && db->redo)
		redo_restart(db->redo);
	return r;
}

static int checkpoint_enter(struct db *db, bool truncate)
{
	int r = sync_then_lock(db);

	if (r < 0)
		return r;
	r = checkpoint_locked(db, truncate);
	vfs_hook_has_run(db->vfs, false);
	if (r < 0)
		leave_both(db);
	return r;
}

int db_checkpoint_enter(struct db *db)
{
	return checkpoint_enter(db, true);
}

void db_checkpoint_leave(struct db *db)
{
	leave_both(db);
}

int db_checkpoint(struct db *db, bool truncate)
{
	int r = checkpoint_enter(db, truncate);

	if (r == 0)
		leave_both(db);
	return r;
}

/* --- sizes --- */

static uint64_t log_bytes(const struct db *db)
{
	return db->redo ? redo_bytes(db->redo) : 0;
}

static uint64_t bytes(const struct db *db)
{
	return vfs_main_bytes(db->vfs) + vfs_wal_bytes(db->vfs) + log_bytes(db);
}

static uint64_t bytes_bound(const struct db *db)
{
	uint64_t group = atomic_load(&db->group_bytes);
	uint64_t main_bytes =
		MAX_OF(vfs_main_bytes_bound(db->vfs), atomic_load(&db->logical_bytes));

	return main_bytes + vfs_wal_bytes(db->vfs) + group + log_bytes(db);
}

static uint64_t wal_bytes(const struct db *db)
{
	return vfs_wal_bytes(db->vfs) + (db->redo ? redo_used(db->redo) : 0);
}

static uint64_t measure(const struct db *db, uint64_t (*what)(const struct db *db))
{
	pthread_rwlock_t *swap = (pthread_rwlock_t *)&db->swap;
	uint64_t n;

	pthread_rwlock_rdlock(swap);
	n = what(db);
	pthread_rwlock_unlock(swap);
	return n;
}

uint64_t db_bytes(const struct db *db)
{
	return measure(db, bytes);
}

uint64_t db_bytes_bound(const struct db *db)
{
	return measure(db, bytes_bound);
}

uint64_t db_wal_bytes(const struct db *db)
{
	return measure(db, wal_bytes);
}
