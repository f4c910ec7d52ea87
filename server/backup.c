/*
 * Theory of operation.
 *
 * A backup is made beside a running server. Content files are never changed, only unlinked when no
 * row names them any more. So: the lock is taken, after which nothing is unlinked; then the
 * database is copied, by one statement in one read transaction (VACUUM INTO); then every file that
 * this copy names, all of which are there. The copy is marked, synced, and only then has its name.
 *
 * What is not in it: the master key, uploads under way, the locks.
 */
#include "server/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/io.h"
#include "base/secret.h"
#include "server/admin.h"
#include "server/audit.h"
#include "server/body.h"
#include "server/import.h"
#include "server/server.h"

#define LOCK_PATIENCE_MS 10000
#define LOCK_STEP_US 20000

/* The server's helpers hold the lock for the moment of an unlink. */
static int take_lock(int dir_fd, int *out)
{
	int64_t until = clock_boot_ms() + LOCK_PATIENCE_MS;
	int r;

	while ((r = io_lock_file(dir_fd, BACKUP_LOCK_NAME, out)) == CE_INUSE &&
		clock_boot_ms() < until)
		usleep(LOCK_STEP_US);
	return r;
}

static int run_with_text(struct store_db *db, enum sql which, const char *text)
{
	sqlite3_stmt *q = server_store_statement(db, which);

	sqlite3_bind_text(q, 1, text, -1, SQLITE_STATIC);
	return server_store_once(db, q);
}

static int copy_files(struct store_db *copy, const struct body_dirs *from,
	const struct body_dirs *to, struct server_backup_report *report)
{
	sqlite3_stmt *q = server_store_statement(copy, SQL_RECORD_BY_FILE);
	int r;

	while ((r = server_store_step(copy, q)) == 1) {
		r = sqlite3_column_bytes(q, 0) == RECORD_FILE_LEN
			    ? server_body_copy(from, to, sqlite3_column_blob(q, 0), &report->bytes)
			    : CE_CORRUPT;
		if (r)
			break;
		report->files++;
	}
	server_store_reset(q);
	return r;
}

static int mark(struct store_db *db, const char *who, void *arg)
{
	(void)who;
	(void)arg;
	return server_store_run(db, SQL_SERVER_SET_COPY);
}

/* The copy of the database at `part` is there: what it names, and the mark. */
static int fill(const char *part, int part_fd, const struct body_dirs *from,
	struct server_backup_report *report)
{
	_cleanup_store_ struct store_db *copy = NULL;
	struct body_dirs to = { -1, -1 };
	int r = server_body_open_dirs(part_fd, &to);

	if (!r)
		r = server_store_open(part, &copy);
	if (!r)
		r = copy_files(copy, from, &to, report);
	if (!r)
		r = server_admin_transact(copy, mark, NULL);
	server_body_close_dirs(&to);
	return r;
}

static int note(struct store_db *db, const char *who, void *arg)
{
	(void)arg;
	return server_audit_add(db, who, "backup", "the whole server");
}

static int make(struct store_db *db, int dir_fd, const char *part, int part_fd,
	struct server_backup_report *report)
{
	_cleanup_free_ char *file = NULL;
	struct body_dirs from = { -1, -1 };
	_cleanup_fd_ int empty = -1;
	int r;

	if (bytes_print(&file, "%s/" STORE_DB_NAME, part))
		return -ENOMEM;
	/* SQLite takes an empty file as it is, mode and all. */
	empty = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	r = empty < 0 ? -errno : server_body_open_dirs(dir_fd, &from);
	if (!r)
		r = server_admin_transact(db, note, NULL);
	if (!r)
		r = run_with_text(db, SQL_BACKUP, file);
	if (!r)
		r = fill(part, part_fd, &from, report);
	if (!r && syncfs(part_fd) < 0)
		r = -errno;
	server_body_close_dirs(&from);
	return r;
}

/* ---- the directory: whole under its name, or not there ---- */

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st;
	(void)kind;
	(void)at;
	return remove(path);
}

/* Gives `part` its name, durably. */
static int publish(const char *part, const char *dest)
{
	_cleanup_free_ char *parent = strdup(dest);
	_cleanup_fd_ int fd = -1;
	char *slash;

	if (!parent)
		return -ENOMEM;
	slash = strrchr(parent, '/');
	if (slash)
		slash[slash == parent] = 0;
	if (renameat2(AT_FDCWD, part, AT_FDCWD, dest, RENAME_NOREPLACE) < 0)
		return -errno;
	fd = open(slash ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : io_fsync_dir(fd);
}

static int make_part(
	struct store_db *db, int dir_fd, const char *part, struct server_backup_report *report)
{
	_cleanup_fd_ int part_fd = -1, import_lock = -1, lock = -1;
	int r = io_lock_file(dir_fd, IMPORT_LOCK_NAME, &import_lock);

	if (!r)
		r = take_lock(dir_fd, &lock);
	if (r)
		return r;
	part_fd = open(part, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return part_fd < 0 ? -errno : make(db, dir_fd, part, part_fd, report);
}

static int backup(
	struct store_db *db, const char *dir, const char *dest, struct server_backup_report *report)
{
	_cleanup_fd_ int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_free_ char *part = NULL;
	int r;

	if (dir_fd < 0)
		return -errno;
	if (bytes_print(&part, "%s.part", dest))
		return -ENOMEM;
	if (access(dest, F_OK) == 0)
		return -EEXIST;
	if (mkdir(part, 0700) < 0)
		return -errno;
	r = make_part(db, dir_fd, part, report);
	if (!r)
		r = publish(part, dest);
	if (r)
		(void)nftw(part, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	return r;
}

int server_backup(
	const char *dir, const char *dest, struct server_backup_report *report, char **error)
{
	_cleanup_store_ struct store_db *db = NULL;
	_cleanup_free_ char *name = strdup(dest);
	struct server_backup_report done = { 0 };
	size_t len = strlen(dest);
	int r;

	*error = NULL;
	if (!name)
		return -ENOMEM;
	while (len > 1 && name[len - 1] == '/')
		name[--len] = 0;
	r = server_admin_open_existing(dir, &db, error);
	if (r)
		return r;
	r = backup(db, dir, name, &done);
	if (r == -EEXIST)
		return server_admin_explain(
			error, r, "the backup, or what an interrupted one left (.part), is there");
	if (r == CE_INUSE)
		return server_admin_explain(error, r, "an import or another backup is running");
	if (r)
		return server_admin_explain(error, r, "cannot make the backup");
	*report = done;
	return 0;
}

/* ---- restoring ---- */

static int new_epoch(struct store_db *db, const char *who, void *arg)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_SERVER_NEW_EPOCH);
	uint8_t epoch[16];
	int r;

	(void)arg;
	secret_random(epoch, sizeof(epoch));
	sqlite3_bind_blob(q, 1, epoch, sizeof(epoch), SQLITE_STATIC);
	r = server_store_once(db, q);
	return r ? r : server_audit_add(db, who, "restore", "the whole server, from a backup");
}

int server_backup_note_restored(struct store_db *db)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_SERVER_IS_COPY);
	int r = server_store_step(db, q);
	bool is_copy = r == 1 && sqlite3_column_int(q, 0);

	server_store_reset(q);
	if (r < 0 || !is_copy)
		return r < 0 ? r : 0;
	return server_admin_transact(db, new_epoch, NULL);
}

int server_restored(const char *dir, char **error)
{
	_cleanup_store_ struct store_db *db = NULL;
	_cleanup_fd_ int dir_fd = -1, lock = -1;
	int r;

	*error = NULL;
	r = server_admin_open_existing(dir, &db, error);
	if (r)
		return r;
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = dir_fd < 0 ? -errno : io_lock_file(dir_fd, "server.lock", &lock);
	if (!r)
		r = server_admin_transact(db, mark, NULL);
	return r ? server_admin_explain(error, r,
			   r == CE_INUSE ? "a server serves this directory"
					 : "cannot mark the data as restored")
		 : 0;
}
