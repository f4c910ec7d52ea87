#include "meta/schema.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "meta/db_priv.h"
#include "meta/name.h"

/* clang-format off */
static const char tables_1[] =
	"CREATE TABLE setting("
		"key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL"
	") STRICT, WITHOUT ROWID;"

	"CREATE TABLE store("
		"id INTEGER PRIMARY KEY, ref TEXT NOT NULL, name TEXT NOT NULL UNIQUE,"
		"mode INTEGER NOT NULL, root INTEGER NOT NULL, cursor TEXT NOT NULL,"
		"listed INTEGER NOT NULL, listing INTEGER NOT NULL, validated_ns INTEGER NOT NULL"
	") STRICT;"

	"CREATE TABLE object("
		"id INTEGER PRIMARY KEY AUTOINCREMENT, store INTEGER NOT NULL,"
		"version INTEGER NOT NULL, mode INTEGER NOT NULL, uid INTEGER NOT NULL,"
		"gid INTEGER NOT NULL, rdev INTEGER NOT NULL, nlink INTEGER NOT NULL,"
		"size INTEGER NOT NULL, atime_ns INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,"
		"ctime_ns INTEGER NOT NULL, btime_ns INTEGER NOT NULL, target BLOB,"
		"map INTEGER NOT NULL"
	") STRICT;"
	"CREATE INDEX object_unlinked ON object(id) WHERE nlink = 0;"

	"CREATE TABLE name("
		"id INTEGER PRIMARY KEY AUTOINCREMENT, store INTEGER NOT NULL,"
		"parent INTEGER NOT NULL, name BLOB NOT NULL, object INTEGER NOT NULL,"
		"rid TEXT, etag TEXT, sha256 BLOB, r_parent TEXT, r_name BLOB,"
		"seen INTEGER NOT NULL, UNIQUE(parent, name)"
	") STRICT;"
	"CREATE INDEX name_parent ON name(parent);"
	"CREATE INDEX name_object ON name(object);"
	"CREATE UNIQUE INDEX name_rid ON name(rid, store) WHERE rid IS NOT NULL;"

	"CREATE TABLE xattr("
		"object INTEGER NOT NULL, name BLOB NOT NULL, value BLOB NOT NULL,"
		"PRIMARY KEY(object, name)"
	") STRICT, WITHOUT ROWID;"

	"CREATE TABLE blob("
		"id INTEGER PRIMARY KEY AUTOINCREMENT, uuid BLOB NOT NULL, store INTEGER NOT NULL,"
		"alg INTEGER NOT NULL, shift INTEGER NOT NULL, epoch INTEGER NOT NULL,"
		"seals INTEGER NOT NULL, alloc_bytes INTEGER NOT NULL, pack INTEGER NOT NULL"
	") STRICT;"
	"CREATE INDEX blob_pack ON blob(store, alloc_bytes) WHERE pack = 1;"

	"CREATE TABLE map("
		"id INTEGER PRIMARY KEY AUTOINCREMENT, blob INTEGER NOT NULL,"
		"object INTEGER NOT NULL, size INTEGER NOT NULL, whole INTEGER NOT NULL,"
		"state INTEGER NOT NULL, etag TEXT, used_s INTEGER NOT NULL, pinned INTEGER NOT NULL"
	") STRICT;"
	"CREATE INDEX map_blob ON map(blob, object) WHERE blob > 0;"
	"CREATE INDEX map_used ON map(used_s) WHERE state = 0 AND blob > 0 AND etag IS NOT NULL;"
	"CREATE INDEX map_stray ON map(id) WHERE state > 0;"

	"CREATE TABLE chunk("
		"map INTEGER NOT NULL, idx INTEGER NOT NULL, slot INTEGER NOT NULL,"
		"len INTEGER NOT NULL, seq INTEGER NOT NULL, nonce BLOB NOT NULL, tag BLOB NOT NULL,"
		"PRIMARY KEY(map, idx)"
	") STRICT, WITHOUT ROWID;"

	"CREATE TABLE undo_map("
		"map INTEGER NOT NULL, gen INTEGER NOT NULL, blob INTEGER NOT NULL,"
		"size INTEGER NOT NULL, whole INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,"
		"PRIMARY KEY(map, gen)"
	") STRICT, WITHOUT ROWID;"

	"CREATE TABLE undo_chunk("
		"map INTEGER NOT NULL, gen INTEGER NOT NULL, idx INTEGER NOT NULL,"
		"present INTEGER NOT NULL, slot INTEGER, len INTEGER, seq INTEGER, nonce BLOB, tag BLOB,"
		"PRIMARY KEY(map, gen, idx)"
	") STRICT, WITHOUT ROWID;"

	"CREATE TABLE op("
		"seq INTEGER PRIMARY KEY AUTOINCREMENT, store INTEGER NOT NULL,"
		"kind INTEGER NOT NULL, state INTEGER NOT NULL, name INTEGER NOT NULL,"
		"object INTEGER NOT NULL, rid TEXT, key BLOB NOT NULL, base_etag TEXT, r_parent TEXT,"
		"r_name BLOB, other_rid TEXT, other_etag TEXT, map INTEGER NOT NULL,"
		"attempts INTEGER NOT NULL, next_try_ms INTEGER NOT NULL, status INTEGER NOT NULL,"
		"error TEXT NOT NULL, created_ns INTEGER NOT NULL"
	") STRICT;"
	"CREATE INDEX op_rid ON op(rid);"
	"CREATE INDEX op_object ON op(object);"
	"CREATE INDEX op_state ON op(state, created_ns);"
	"CREATE INDEX op_key ON op(key);"
	"CREATE INDEX op_map ON op(map) WHERE map > 0;"

	"CREATE TABLE deferred("
		"store INTEGER NOT NULL, rid TEXT NOT NULL, reason INTEGER NOT NULL,"
		"parent_rid TEXT, entry TEXT NOT NULL, PRIMARY KEY(store, rid)"
	") STRICT, WITHOUT ROWID;"
	"CREATE INDEX deferred_parent ON deferred(store, parent_rid);"

	"CREATE TABLE conflict("
		"id INTEGER PRIMARY KEY AUTOINCREMENT, store INTEGER NOT NULL,"
		"kind INTEGER NOT NULL, object INTEGER NOT NULL, rid TEXT, path BLOB, other_path BLOB,"
		"created_ns INTEGER NOT NULL, resolved_ns INTEGER NOT NULL"
	") STRICT;"

	"CREATE TABLE event("
		"id INTEGER PRIMARY KEY AUTOINCREMENT, time_ns INTEGER NOT NULL,"
		"kind TEXT NOT NULL, detail TEXT NOT NULL, hash BLOB NOT NULL"
	") STRICT;";

static const char tables_2[] =
	"CREATE TABLE redo("
		"one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL,"
		"at INTEGER NOT NULL, salt BLOB NOT NULL, next BLOB NOT NULL"
	") STRICT;"
	"INSERT INTO redo(one, number, at, salt, next)"
	" VALUES(1, 0, 0, randomblob(8), randomblob(8));";

static const char tables_3[] =
	"CREATE TABLE base("
		"store INTEGER NOT NULL, rid TEXT NOT NULL, map INTEGER NOT NULL, PRIMARY KEY(store, rid)"
	") STRICT, WITHOUT ROWID;"
	"CREATE INDEX base_map ON base(map);"
	"ALTER TABLE conflict ADD COLUMN base INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE conflict ADD COLUMN outcome INTEGER NOT NULL DEFAULT 0;"
	"CREATE INDEX conflict_base ON conflict(base) WHERE base > 0;";

static const char tables_4[] =
	"CREATE INDEX name_copy ON name(id) WHERE instr(name, CAST('" NAME_COPY_MARK "' AS BLOB)) > 0;"
	"CREATE INDEX conflict_open ON conflict(object) WHERE resolved_ns = 0;"
	"DROP INDEX map_used;"
	"CREATE INDEX map_used ON map(used_s)"
	" WHERE state = 0 AND blob > 0 AND etag IS NOT NULL AND pinned = 0;";
/* clang-format on */

/* The root belongs to who makes the volume. (The table of statements is prepared after the schema.) */
static int make_root(struct db *db)
{
	static const char sql[] =
		"INSERT INTO object(id, store, version, mode, uid, gid, rdev, nlink, size, atime_ns,"
		" mtime_ns, ctime_ns, btime_ns, map)"
		" VALUES(?1, 0, 1, ?2, ?3, ?4, 0, 2, 0, ?5, ?5, ?5, ?5, 0)";
	const int64_t values[] = { OBJECT_ROOT, S_IFDIR | 0755, getuid(), getgid(), clock_wall_ns() };
	sqlite3_stmt *q = NULL;
	int rc = sqlite3_prepare_v2(db->handle, sql, -1, &q, NULL);

	for (size_t i = 0; i < ARRAY_SIZE(values) && rc == SQLITE_OK; i++)
		rc = sqlite3_bind_int64(q, (int)i + 1, values[i]);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(q);
	sqlite3_finalize(q);
	return db_error(db, rc);
}

static int to_version_1(struct db *db)
{
	int r = db_exec(db, tables_1);

	return r < 0 ? r : make_root(db);
}

static int to_version_2(struct db *db)
{
	return db_exec(db, tables_2);
}

static int to_version_3(struct db *db)
{
	return db_exec(db, tables_3);
}

static int to_version_4(struct db *db)
{
	return db_exec(db, tables_4);
}

/* The tables stay. An older program does not know notes (meta/db_note.h), and would take a log that
 * has some for a damaged one. */
static int to_version_5(struct db *db)
{
	return 0;
}

/* The same: chunk rows of several tags (cache/blob.h). */
static int to_version_6(struct db *db)
{
	return 0;
}

/* steps[v] leads from version v to v + 1. */
static int (*const steps[SCHEMA_VERSION])(
	struct db *db) = { to_version_1, to_version_2, to_version_3, to_version_4,
	to_version_5, to_version_6 };

int schema_version(struct db *db, int *out)
{
	sqlite3_stmt *q = NULL;
	int rc = sqlite3_prepare_v2(db->handle, "PRAGMA user_version", -1, &q, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(q);
	if (rc == SQLITE_ROW)
		*out = sqlite3_column_int(q, 0);
	sqlite3_finalize(q);
	if (rc != SQLITE_ROW)
		return db_error(db, rc);
	return *out < 0 || *out > SCHEMA_VERSION ? CE_FORMAT : 0;
}

static int step_from(struct db *db, int version)
{
	char sql[40];
	int r = db_exec(db, "BEGIN IMMEDIATE");

	if (r < 0)
		return r;
	r = steps[version](db);
	snprintf(sql, sizeof(sql), "PRAGMA user_version = %d", version + 1);
	if (r == 0)
		r = db_exec(db, sql);
	if (r == 0)
		r = db_exec(db, "COMMIT");
	if (r < 0 && !sqlite3_get_autocommit(db->handle))
		(void)!db_exec(db, "ROLLBACK");
	return r;
}

int schema_apply(struct db *db)
{
	int version = 0;
	int r = schema_version(db, &version);

	for (; r == 0 && version < SCHEMA_VERSION; version++)
		r = step_from(db, version);
	return r;
}
