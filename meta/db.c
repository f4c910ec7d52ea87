/*
 * Theory of operation.
 *
 * Opening: the volume directory is opened; index.db is flocked (a second opener, even in this
 * process, gets CE_INUSE before it can look at a log that is being written); meta/recover.h looks
 * at the files; SQLite opens them under the sealed VFS; schema; statements. SQLite itself never
 * checkpoints on close, so an open that fails half-way leaves the log alone.
 *
 * A descriptor of index.db that is closed drops SQLite's own fcntl lock on it (POSIX), so
 * the flocked one is closed after SQLite is.
 *
 * Creating: the new index is made whole under another name, synced and renamed, so index.db is
 * never half made. What a crash leaves under the other name is removed by the next attempt.
 *
 * Transactions: db_txn.c; the transaction of SQLite that spans them: db_group.c; syncs: db_sync.c.
 */
#include "meta/db.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "meta/arena.h"
#include "meta/db_priv.h"
#include "meta/page_format.h"
#include "meta/recover.h"
#include "meta/schema.h"

#define DB_NEW_FILE "index.db.new"
#define DB_NEW_WAL_FILE "index.db.new-wal"

_Static_assert(DB_CACHE_PAGES < ARENA_PAGES, "the page cache must fit its arena");

/* --- errors --- */

static int io_error(const struct db *db)
{
	int e = vfs_take_hook_error(db->vfs);

	if (e)
		return e;
	e = sqlite3_system_errno(db->handle);
	return e > 0 ? -e : -EIO;
}

int db_error(const struct db *db, int rc)
{
	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return CE_INUSE;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return vfs_tampered(db->vfs) ? CE_TAMPER : CE_CORRUPT;
	case SQLITE_CONSTRAINT:
		return -EEXIST;
	case SQLITE_TOOBIG:
		return CE_TOO_LARGE;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_CANTOPEN:
	case SQLITE_IOERR:
		return io_error(db);
	default:
		return -EIO;
	}
}

int db_exec(struct db *db, const char *sql)
{
	return db_error(db, sqlite3_exec(db->handle, sql, NULL, NULL, NULL));
}

int db_integrity_check(struct db *db)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_INTEGRITY);
	char text[64];
	int r = stmt_one(&s);

	if (r < 0)
		return r;
	snprintf(text, sizeof(text), "%s", (const char *)sqlite3_column_text(s.q, 0));
	if (strcmp(text, "ok") == 0)
		return 0;
	return vfs_tampered(db->vfs) ? CE_TAMPER : CE_CORRUPT;
}

/* --- opening and closing --- */

static void close_handle(struct db *db)
{
	memo_clear(db->memo);
	stmt_finalize_all(db);
	redo_free(db->redo);
	db->redo = NULL;
	sqlite3_close(db->handle);
	vfs_free(db->vfs);
	db->handle = NULL;
	db->vfs = NULL;
}

void db_close_handle(struct db *db)
{
	close_handle(db);
	if (db->lock_fd >= 0)
		close(db->lock_fd);
	db->lock_fd = -1;
}

static void db_free(struct db *db)
{
	db_close_handle(db);
	memo_free(db->memo);
	free((char *)db->options.dir);
	secret_free((struct secret *)db->options.key);
	pthread_rwlock_destroy(&db->swap);
	if (db->dirfd >= 0)
		close(db->dirfd);
	pthread_mutex_destroy(&db->lock);
	pthread_mutex_destroy(&db->sync_mutex);
	free(db);
}

static void db_freep(struct db **db)
{
	if (*db)
		db_free(*db);
}

void db_close(struct db *db)
{
	if (!db)
		return;
	/* Without success the log stays as it is: the next open goes on from it. */
	(void)!db_checkpoint(db, true);
	db_free(db);
}

static struct db *db_new(void)
{
	pthread_mutexattr_t attr;
	struct db *db = calloc(1, sizeof(*db));

	if (!db)
		return NULL;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK);
	pthread_mutex_init(&db->lock, &attr);
	pthread_mutex_init(&db->sync_mutex, &attr);
	pthread_rwlock_init(&db->swap, NULL);
	pthread_mutexattr_destroy(&attr);
	db->lock_fd = db->dirfd = -1;
	return db;
}

int db_settle_loss(struct db *db)
{
	return recover_settle_loss(db->dirfd);
}

static int set_limits(struct db *db)
{
	static const int off[] = { SQLITE_DBCONFIG_ENABLE_TRIGGER, SQLITE_DBCONFIG_ENABLE_VIEW,
		SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, SQLITE_DBCONFIG_TRUSTED_SCHEMA };
	int rc = SQLITE_OK;

	for (size_t i = 0; i < ARRAY_SIZE(off) && rc == SQLITE_OK; i++)
		rc = sqlite3_db_config(db->handle, off[i], 0, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_limit(db->handle, SQLITE_LIMIT_ATTACHED, 1); /* VACUUM needs one */
	return db_error(db, rc);
}

/* The connection on dir/file, before anything was read. */
static int open_handle(struct db *db, const char *dir, const char *file, int flags)
{
	_cleanup_free_ char *path = NULL;
	int reserve = PAGE_RESERVE;
	char pragmas[160];
	int rc;

	if (bytes_print(&path, "%s/%s", dir, file))
		return -ENOMEM;
	rc = sqlite3_open_v2(path, &db->handle,
		flags | SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
		vfs_name(db->vfs));
	if (rc == SQLITE_OK)
		rc = sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_RESERVE_BYTES, &reserve);
	if (rc != SQLITE_OK)
		return db->handle ? db_error(db, rc) : -ENOMEM;
	snprintf(pragmas, sizeof(pragmas),
		"PRAGMA temp_store = MEMORY; PRAGMA secure_delete = ON; PRAGMA cache_size = %d;"
		"PRAGMA wal_autocheckpoint = 0; PRAGMA cell_size_check = ON",
		DB_CACHE_PAGES);
	rc = db_exec(db, pragmas);
	return rc < 0 ? rc : set_limits(db);
}

/* A whole index under DB_NEW_FILE: no log yet while it is made, the last close removes the empty
 * one. */
static int make_new(struct db *db, const struct db_options *o)
{
	struct vfs_options v = { .key = o->key, .base = o->base_vfs };
	int r = vfs_new(&v, &db->vfs);

	if (r == 0)
		r = open_handle(db, o->dir, DB_NEW_FILE, SQLITE_OPEN_CREATE);
	if (r == 0)
		r = db_exec(db, "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = FULL");
	if (r == 0)
		r = schema_apply(db);
	if (r == 0)
		r = db_exec(db, "PRAGMA journal_mode = WAL");
	close_handle(db);
	return r;
}

static int sync_new(struct db *db)
{
	_cleanup_fd_ int fd = openat(db->dirfd, DB_NEW_FILE, O_RDWR | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0 || fchmod(fd, 0600) < 0)
		return -errno;
	if (renameat2(db->dirfd, DB_NEW_FILE, db->dirfd, DB_FILE, RENAME_NOREPLACE) < 0)
		return -errno;
	return io_fsync_dir(db->dirfd);
}

static int create(struct db *db, const struct db_options *o)
{
	int r;

	if (faccessat(db->dirfd, DB_FILE, F_OK, AT_SYMLINK_NOFOLLOW) == 0 ||
		faccessat(db->dirfd, DB_WAL_FILE, F_OK, AT_SYMLINK_NOFOLLOW) == 0 ||
		faccessat(db->dirfd, REDO_FILE, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	unlinkat(db->dirfd, DB_NEW_FILE, 0);
	unlinkat(db->dirfd, DB_NEW_WAL_FILE, 0);
	r = make_new(db, o);
	if (r == 0)
		r = FAILPOINT("index-publish");
	if (r == 0)
		r = sync_new(db);
	if (r < 0) {
		unlinkat(db->dirfd, DB_NEW_FILE, 0);
		unlinkat(db->dirfd, DB_NEW_WAL_FILE, 0);
	}
	return r;
}

static int lock_index(struct db *db)
{
	db->lock_fd = openat(db->dirfd, DB_FILE, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (db->lock_fd < 0)
		return -errno;
	if (flock(db->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? CE_INUSE : -errno;
	return 0;
}

/* An index that is not in WAL mode, or of another layout, is not one that db_open made. */
static int check_mode(struct db *db)
{
	sqlite3_stmt *q = NULL;
	int rc = sqlite3_prepare_v2(db->handle, "PRAGMA journal_mode", -1, &q, NULL);
	int r;

	if (rc == SQLITE_OK)
		rc = sqlite3_step(q);
	r = rc == SQLITE_ROW ? 0 : db_error(db, rc);
	if (rc == SQLITE_ROW &&
		sqlite3_stricmp((const char *)sqlite3_column_text(q, 0), "wal") != 0)
		r = CE_FORMAT;
	sqlite3_finalize(q);
	return r;
}

/* A step of the schema is durable before anything is logged that needs it. What was replayed is by
 * then, too; but the log is not started over, and so not before the hook has run: it may have notes
 * (db_note.h) that the caller has not looked at. */
static int migrate(struct db *db)
{
	int r = db_group_commit(db, false);

	vfs_hook_has_run(db->vfs, true);
	if (r == 0)
		r = vfs_wal_sync(db->vfs);
	if (r == 0)
		r = schema_apply(db);
	if (r == 0)
		r = vfs_wal_sync(db->vfs);
	vfs_hook_has_run(db->vfs, false);
	return r;
}

/* The log is replayed on the schema it was written for. */
static int bring_up(struct db *db, const struct db_options *o, struct db_recovery *rec)
{
	int version = 0;
	int r = schema_version(db, &version);

	if (r == 0 && version >= SCHEMA_VERSION_REDO)
		r = db_group_recover(db, o, rec);
	if (r == 0 && version < SCHEMA_VERSION)
		r = migrate(db);
	if (r == 0 && version < SCHEMA_VERSION_REDO)
		r = db_group_recover(db, o, rec);
	return r;
}

int db_open_handle(struct db *db, const struct db_options *o, struct db_recovery *rec)
{
	struct vfs_options v = {
		.key = o->key,
		.base = o->base_vfs,
		.before_sync = o->before_sync,
		.before_sync_arg = o->before_sync_arg,
	};
	int r = lock_index(db);

	/* What a killed db_rekey() left. */
	if (r == 0)
		unlinkat(db->dirfd, DB_REKEY_FILE, 0);
	if (r == 0)
		r = recover_prepare(db->dirfd, db->lock_fd, o->key, rec, &v.page1_in_wal);
	if (r == 0)
		r = vfs_new(&v, &db->vfs);
	if (r == 0)
		r = open_handle(db, o->dir, DB_FILE, 0);
	if (r < 0)
		return r;
	if (sqlite3_db_config(db->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL) != SQLITE_OK)
		return -EIO;
	/* The first page access: the log is recovered and the lock of the VFS beneath is taken. */
	r = db_exec(db, "PRAGMA synchronous = NORMAL");
	if (r == 0)
		r = check_mode(db);
	if (r == 0)
		r = bring_up(db, o, rec);
	if (r == 0)
		r = stmt_prepare_all(db);
	/* The log may be a new file. */
	return r < 0 ? r : io_fsync_dir(db->dirfd);
}

static int keep_options(struct db *db, const struct db_options *o)
{
	struct secret *key = NULL;
	char *dir = strdup(o->dir);
	int r = dir ? secret_new_copy(secret_cbytes(o->key), secret_len(o->key), &key) : -ENOMEM;

	if (r < 0) {
		free(dir);
		return r;
	}
	db->options = *o;
	db->options.dir = dir;
	db->options.key = key;
	db->options.create = false;
	return 0;
}

int db_open(const struct db_options *o, struct db **out, struct db_recovery *rec)
{
	_cleanup_(db_freep) struct db *db = db_new();
	struct db_recovery found = { 0 };
	int r = 0;

	if (!db)
		return -ENOMEM;
	db->wal_grown = o->wal_grown;
	db->wal_grown_arg = o->wal_grown_arg;
	db->wal_mark_bytes = o->wal_mark_bytes;
	db->op_changed = o->op_changed;
	db->before_commit = o->before_commit;
	db->ended = o->ended;
	db->journal_arg = o->journal_arg;
	r = keep_options(db, o);
	if (r == 0)
		r = memo_new(&db->memo);
	if (r < 0)
		return r;
	arena_setup();
	db->dirfd = open(o->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (db->dirfd < 0)
		return -errno;
	if (o->create)
		r = create(db, o);
	if (r == 0)
		r = db_open_handle(db, o, &found);
	if (rec)
		*rec = found;
	if (r < 0)
		return r;
	*out = steal_ptr(&db);
	return 0;
}
