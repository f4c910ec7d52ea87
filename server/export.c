#include "server/export.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/io.h"
#include "base/secret.h"

#define PART (1u << 20)
#define PIECE (64u << 10)
#define TRIES 5
#define PAGE_RECORDS 500

static const char schema[] =
	"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = MEMORY;"
	"PRAGMA cache_size = -4096;"
	"CREATE TABLE store (id TEXT NOT NULL, instance TEXT NOT NULL, exported_at INTEGER NOT "
	"NULL);"
	"CREATE TABLE records (id TEXT PRIMARY KEY, parent TEXT NOT NULL, name TEXT NOT NULL,"
	" kind TEXT NOT NULL, size INTEGER NOT NULL, sha256 BLOB, mode INTEGER NOT NULL,"
	" mtime_ns INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE contents (id TEXT NOT NULL, part INTEGER NOT NULL, data BLOB NOT NULL,"
	" PRIMARY KEY (id, part));"
	"BEGIN";

struct export
{
	const struct export_place *place;
	struct store_db *db;
	const struct store_row *store;
	sqlite3 *out;
	sqlite3_stmt *add_record, *add_part;
	uint8_t *part; /* PART bytes */
};

static int step(sqlite3_stmt *q)
{
	int rc = sqlite3_step(q);

	sqlite3_reset(q);
	sqlite3_clear_bindings(q);
	return server_store_error(rc);
}

/* ---- what it is made of ---- */

static int add_part(struct export *x, const char *id, uint64_t part, const void *data, size_t len)
{
	sqlite3_bind_text(x->add_part, 1, id, -1, SQLITE_STATIC);
	sqlite3_bind_int64(x->add_part, 2, (int64_t)part);
	sqlite3_bind_blob(x->add_part, 3, data, (int)len, SQLITE_STATIC);
	return step(x->add_part);
}

static int add_content(struct export *x, const struct record *rec, const uint8_t *data, int fd)
{
	int r = 0;

	if (!rec->size || rec->kind == RECORD_DIR)
		return 0;
	if (data)
		return add_part(x, rec->id, 0, data, rec->size);
	for (uint64_t at = 0; !r && at < rec->size; at += PART) {
		size_t len = MIN_OF((uint64_t)PART, rec->size - at);

		r = io_pread_full(fd, x->part, len, at);
		if (!r)
			r = add_part(x, rec->id, at / PART, x->part, len);
	}
	return r;
}

static int add_row(struct export *x, const struct record *rec)
{
	sqlite3_stmt *q = x->add_record;

	sqlite3_bind_text(q, 1, rec->id, -1, SQLITE_STATIC);
	sqlite3_bind_text(q, 2, rec->parent, -1, SQLITE_STATIC);
	sqlite3_bind_text(q, 3, rec->name, -1, SQLITE_STATIC);
	sqlite3_bind_text(q, 4, server_records_kind_name(rec->kind), -1, SQLITE_STATIC);
	sqlite3_bind_int64(q, 5, rec->kind == RECORD_DIR ? 0 : (int64_t)rec->size);
	if (rec->kind != RECORD_DIR)
		sqlite3_bind_blob(q, 6, rec->sha256, sizeof(rec->sha256), SQLITE_STATIC);
	sqlite3_bind_int64(q, 7, rec->mode);
	sqlite3_bind_int64(q, 8, rec->mtime_ns);
	return step(q);
}

/* A file that was replaced between the two looks is found under its new name by looking again. */
static int add_record(struct export *x, const char *id)
{
	_cleanup_free_ uint8_t *data = NULL;
	_cleanup_fd_ int fd = -1;
	struct record rec;
	int r = -ENOENT;

	for (int tries = 0; tries < TRIES && r == -ENOENT; tries++) {
		free(steal_ptr(&data));
		r = server_records_with_data(x->db, x->store->n, id, &rec, &data);
		if (r == -ENOENT || (!r && rec.deleted))
			return 0; /* gone meanwhile */
		if (!r && rec.in_file)
			r = server_body_open(x->place->dirs, rec.file, &fd);
	}
	if (!r)
		r = add_row(x, &rec);
	return r ? r : add_content(x, &rec, data, fd);
}

/* The ids of the next records in the order of their rows, so that each comes once. */
static int next_ids(struct export *x, int64_t *after, char ids[][WIRE_ID_MAX + 1], size_t *n)
{
	sqlite3_stmt *q = server_store_statement(x->db, SQL_EXPORT_IDS);
	int r;

	*n = 0;
	sqlite3_bind_int64(q, 1, x->store->n);
	sqlite3_bind_int64(q, 2, *after);
	sqlite3_bind_int64(q, 3, PAGE_RECORDS);
	while ((r = server_store_step(x->db, q)) == 1) {
		*after = sqlite3_column_int64(q, 0);
		snprintf(ids[(*n)++], WIRE_ID_MAX + 1, "%s",
			(const char *)sqlite3_column_text(q, 1));
	}
	server_store_reset(q);
	return r;
}

static int add_records(struct export *x)
{
	_cleanup_free_ char(*ids)[WIRE_ID_MAX + 1] = calloc(PAGE_RECORDS, sizeof(*ids));
	int64_t after = 0;
	size_t n;
	int r;

	if (!ids)
		return -ENOMEM;
	do {
		r = next_ids(x, &after, ids, &n);
		for (size_t i = 0; !r && i < n; i++)
			r = add_record(x, ids[i]);
	} while (!r && n);
	return r;
}

static int add_store(struct export *x)
{
	sqlite3_stmt *q = NULL;
	int r = server_store_error(
		sqlite3_prepare_v2(x->out, "INSERT INTO store VALUES (?, ?, ?)", -1, &q, NULL));

	if (!r) {
		sqlite3_bind_text(q, 1, x->store->id, -1, SQLITE_STATIC);
		sqlite3_bind_text(q, 2, x->place->instance, -1, SQLITE_STATIC);
		sqlite3_bind_int64(q, 3, clock_wall_ns() / NS_PER_SEC);
		r = step(q);
	}
	sqlite3_finalize(q);
	return r;
}

static int fill(struct export *x)
{
	int r = server_store_error(sqlite3_exec(x->out, schema, NULL, NULL, NULL));

	if (!r)
		r = server_store_error(sqlite3_prepare_v2(x->out,
			"INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", -1,
			&x->add_record, NULL));
	if (!r)
		r = server_store_error(sqlite3_prepare_v2(x->out,
			"INSERT OR IGNORE INTO contents VALUES (?, ?, ?)", -1, &x->add_part, NULL));
	if (!r)
		r = add_store(x);
	if (!r)
		r = add_records(x);
	sqlite3_finalize(x->add_record);
	sqlite3_finalize(x->add_part);
	return r ? r : server_store_error(sqlite3_exec(x->out, "COMMIT", NULL, NULL, NULL));
}

static int build(struct export *x, const char *path)
{
	int rc = sqlite3_open_v2(path, &x->out,
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, NULL);
	int r = server_store_error(rc);

	if (!r)
		r = fill(x);
	sqlite3_close(x->out);
	return r;
}

/* ---- sealed ---- */

static int seal(int from, int to, const uint8_t *key, uint8_t *piece)
{
	struct bundle_sink sink = bundle_sink_fd(&to);
	struct bundle_writer *w;
	ssize_t n;
	int r = bundle_writer_new(key, BUNDLE_FILE, &sink, &w);

	if (r)
		return r;
	while (!r && (n = read(from, piece, PIECE)) > 0)
		r = bundle_write(w, piece, (size_t)n);
	if (!r && n < 0)
		r = -errno;
	if (!r)
		r = bundle_finish(w);
	bundle_writer_free(w);
	return r;
}

/* What the disk remembers of a removed file is less if it was overwritten; more cannot be had. */
static void wipe(int fd, uint8_t *piece)
{
	struct stat st;

	if (fstat(fd, &st))
		return;
	memset(piece, 0, PIECE);
	for (off_t at = 0; at < st.st_size; at += PIECE)
		if (pwrite(fd, piece, PIECE, at) < 0)
			break;
	(void)fdatasync(fd);
}

static int open_tmp(const struct export_place *place, const char *name, int *plain, int *sealed)
{
	*plain = openat(place->dirs->tmp_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (*plain < 0)
		return -errno;
	*sealed = openat(place->dirs->tmp_fd, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	return *sealed < 0 ? -errno : 0;
}

int server_export_make(const struct export_place *place, struct store_db *db,
	const struct store_row *store, const uint8_t key[static BUNDLE_KEY_LEN], int *fd,
	uint64_t *len)
{
	_cleanup_free_ uint8_t *part = malloc(PART);
	struct export x = { .place = place, .db = db, .store = store, .part = part };
	_cleanup_fd_ int plain = -1, sealed = -1;
	_cleanup_free_ char *path = NULL;
	uint8_t random[RECORD_FILE_LEN];
	char name[2 * RECORD_FILE_LEN + 1];
	struct stat st;
	int r;

	secret_random(random, sizeof(random));
	bytes_to_hex(random, sizeof(random), name);
	if (!part || bytes_print(&path, "%s/tmp/%s", place->dir, name))
		return -ENOMEM;
	r = open_tmp(place, name, &plain, &sealed);
	if (!r)
		r = build(&x, path);
	if (!r)
		r = seal(plain, sealed, key, part);
	if (plain >= 0) {
		wipe(plain, part);
		unlinkat(place->dirs->tmp_fd, name, 0);
	}
	secret_wipe(part, PART);
	if (!r && (fstat(sealed, &st) < 0 || lseek(sealed, 0, SEEK_SET) < 0))
		r = -errno;
	if (r)
		return r;
	*len = (uint64_t)st.st_size;
	*fd = steal_fd(&sealed);
	return 0;
}
