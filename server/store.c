#include "server/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/secret.h"
#include "server/schema.h"

#define BUSY_TIMEOUT_MS 30000

/* The columns of a record, in the order server_records_read() takes them. */
#define RECORD_COLUMNS                                                                             \
	"r.n, r.store, r.id, r.parent, coalesce(p.id, 'root'), r.name, r.kind, r.size, r.sha256, " \
	"r.mode, r.mtime_ns, r.seq, r.tag, r.key, r.changed_at, r.file, r.deleted"
#define RECORD_FROM " FROM records r LEFT JOIN records p ON p.n = r.parent "

#define STORE_COLUMNS "n, id, seq, purged_seq, records, bytes, queries_seq"
#define ENROLLED_COLUMNS "n, dkid, account, device_id, dk_pub, kid, state, seen_at"

/* Whether the token of this number opens the store `s`. */
#define STORE_OPEN_TO(token)                                                                       \
	" EXISTS (SELECT 1 FROM tokens t WHERE t.n = " token " AND NOT t.admin"                    \
	" AND (s.open OR EXISTS (SELECT 1 FROM grants g WHERE g.store = s.n"                       \
	" AND g.account = t.account)) AND (NOT t.scoped OR EXISTS (SELECT 1 FROM token_stores ts"  \
	" WHERE ts.token = t.n AND ts.store = s.n)))"

static const char *const texts[SQL_COUNT] = {
	[SQL_BEGIN_WRITE] = "BEGIN IMMEDIATE",
	[SQL_BEGIN_READ] = "BEGIN",
	[SQL_COMMIT] = "COMMIT",
	[SQL_ROLLBACK] = "ROLLBACK",
	[SQL_DATA_VERSION] = "PRAGMA data_version",
	[SQL_SERVER_GET] = "SELECT instance, epoch FROM server",
	[SQL_SERVER_PUT] =
		"INSERT INTO server (one, instance, epoch, created_at) VALUES (1, ?, ?, ?)",
	[SQL_SERVER_IS_COPY] = "SELECT is_copy FROM server",
	[SQL_SERVER_SET_COPY] = "UPDATE server SET is_copy = 1",
	[SQL_SERVER_NEW_EPOCH] = "UPDATE server SET epoch = ?, is_copy = 0",
	[SQL_BACKUP] = "VACUUM INTO ?",
	[SQL_FREE_PAGES] = "PRAGMA freelist_count",
	[SQL_PAGES] = "PRAGMA page_count",
	[SQL_COMPACT] = "PRAGMA incremental_vacuum(1000)",
	[SQL_STORE_BY_ID] = "SELECT " STORE_COLUMNS " FROM stores WHERE id = ?",
	[SQL_STORE_BY_N] = "SELECT " STORE_COLUMNS " FROM stores WHERE n = ?",
	[SQL_STORE_LIST] = "SELECT " STORE_COLUMNS " FROM stores ORDER BY id",
	/* Those that a token of this number opens. */
	[SQL_STORE_LIST_OPEN] =
		"SELECT " STORE_COLUMNS " FROM stores s WHERE" STORE_OPEN_TO("?1") " ORDER BY id",
	[SQL_STORE_LIST_GRANTS] =
		"SELECT s.id, s.records, s.bytes, s.open, (SELECT group_concat(a.name, char(10))"
		" FROM grants g JOIN accounts a ON a.n = g.account WHERE g.store = s.n)"
		" FROM stores s ORDER BY s.id",
	[SQL_STORE_ADD] = "INSERT OR IGNORE INTO stores (id, created_at) VALUES (?, ?)",
	[SQL_STORE_SAVE] = "UPDATE stores SET seq = ?2, purged_seq = ?3, records = ?4, bytes = ?5 "
			   "WHERE n = ?1",
	[SQL_ACCOUNT_BY_NAME] = "SELECT n FROM accounts WHERE name = ?",
	[SQL_ACCOUNT_ADD] = "INSERT OR IGNORE INTO accounts (name, created_at) VALUES (?, ?)",
	[SQL_ACCOUNT_NAME] = "SELECT name FROM accounts WHERE n = ?",
	[SQL_ACCOUNT_LIST] =
		"SELECT a.name, a.created_at, (SELECT count(*) FROM tokens t WHERE t.account = a.n"
		" AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?1)),"
		" (SELECT count(*) FROM enrolled e WHERE e.account = a.n AND e.state <> 2),"
		" (SELECT group_concat(s.id, char(10)) FROM grants g JOIN stores s ON s.n = g.store"
		" WHERE g.account = a.n) FROM accounts a ORDER BY a.name",
	[SQL_STORE_CLOSE] = "UPDATE stores SET open = 0 WHERE n = ?",
	[SQL_STORE_ALLOWED] = "SELECT 1 FROM stores s WHERE s.n = ?1 AND" STORE_OPEN_TO("?2"),
	[SQL_GRANT_ADD] = "INSERT OR IGNORE INTO grants (store, account) VALUES (?, ?)",
	[SQL_GRANT_DROP] = "DELETE FROM grants WHERE account = ?",
	[SQL_TOKEN_BY_LOOKUP] =
		"SELECT hash, n, account, read_only, admin, scoped FROM tokens WHERE lookup = ?1"
		" AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?2)",
	[SQL_TOKEN_ADD] =
		"INSERT INTO tokens (account, scoped, read_only, admin, lookup, hash, created_at,"
		" expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
	[SQL_TOKEN_SCOPE] = "INSERT OR IGNORE INTO token_stores (token, store) VALUES (?, ?)",
	[SQL_TOKEN_LIST] =
		"SELECT t.n, a.name, t.read_only, t.admin, t.created_at, t.expires_at, "
		"t.revoked_at,"
		" t.scoped, (SELECT group_concat(s.id, char(10)) FROM token_stores ts JOIN stores s"
		" ON s.n = ts.store WHERE ts.token = t.n)"
		" FROM tokens t JOIN accounts a ON a.n = t.account ORDER BY t.n",
	[SQL_TOKEN_REVOKE] =
		"UPDATE tokens SET revoked_at = ?2 WHERE n = ?1 AND revoked_at IS NULL",
	[SQL_TOKEN_REVOKE_ALL] =
		"UPDATE tokens SET revoked_at = ?2 WHERE account = ?1 AND revoked_at IS NULL",
	[SQL_TOKEN_KNOWN] = "SELECT 1 FROM tokens WHERE n = ?",
	[SQL_VAULT_GET] = "SELECT commitment, sign_public, sign_wrapped FROM vault",
	[SQL_VAULT_PUT] =
		"INSERT INTO vault (one, commitment, sign_public, sign_wrapped, created_at)"
		" VALUES (1, ?, ?, ?, ?)",
	[SQL_ENROLLED_BY_DKID] = "SELECT " ENROLLED_COLUMNS " FROM enrolled WHERE dkid = ?",
	[SQL_ENROLLED_BY_ID] = "SELECT " ENROLLED_COLUMNS " FROM enrolled WHERE account = ?"
			       " AND device_id = ? ORDER BY n DESC LIMIT 1",
	[SQL_ENROLLED_NEXT] = "SELECT " ENROLLED_COLUMNS " FROM enrolled WHERE n > ?1"
			      " AND state <> 2 AND (?2 = 0 OR account = ?2) ORDER BY n LIMIT 1",
	[SQL_ENROLLED_ADD] =
		"INSERT INTO enrolled (dkid, account, device_id, name, dk_pub, state, token,"
		" created_at, seen_at) VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?7, ?7)",
	[SQL_ENROLLED_UPDATE] = "UPDATE enrolled SET dk_pub = ?2, name = coalesce(?3, name),"
				" token = ?4, seen_at = ?5 WHERE n = ?1",
	[SQL_ENROLLED_SET_STATE] = "UPDATE enrolled SET state = ?2 WHERE n = ?1",
	[SQL_ENROLLED_SET_KID] = "UPDATE enrolled SET kid = ?2 WHERE n = ?1",
	[SQL_ENROLLED_SEEN] = "UPDATE enrolled SET seen_at = ?2 WHERE n = ?1",
	[SQL_ENROLLED_LIST] =
		"SELECT e.dkid, e.device_id, a.name, e.name, e.state, e.dk_pub, e.kid, "
		"k.rotated_at,"
		" k.expires_at, e.created_at, max(e.seen_at, coalesce((SELECT max(d.seen_at) FROM"
		" devices d WHERE d.account = e.account AND lower(hex(d.device)) ="
		" lower(e.device_id) AND e.state <> 2), 0)), e.token"
		" FROM enrolled e JOIN accounts a ON a.n = e.account LEFT JOIN keks k ON k.kid = "
		"e.kid"
		" WHERE ?1 = 0 OR e.account = ?1 ORDER BY e.n",
	[SQL_KEK_ADD] = "INSERT INTO keks (kid, account, dkid, version, rotated_at)"
			" VALUES (?, ?, ?, ?, ?)",
	[SQL_KEK_GET] = "SELECT kid, account, wrapped, expires_at FROM keks WHERE kid = ?",
	[SQL_KEK_MADE] = "UPDATE keks SET wrapped = ?2, expires_at = ?3 WHERE kid = ?1",
	/*
	 * What was never given to anybody; and of devices that are not revoked what they had before
	 * a key that has itself been over for long, when they were here after that.
	 */
	[SQL_KEK_PURGE] =
		"DELETE FROM keks WHERE kid IN (SELECT k.kid FROM keks k JOIN enrolled e"
		" ON e.dkid = k.dkid WHERE k.kid <> e.kid AND (k.wrapped IS NULL OR (e.state <> 2"
		" AND EXISTS (SELECT 1 FROM keks y WHERE y.dkid = k.dkid"
		" AND y.rotated_at > k.rotated_at AND y.expires_at < ?1"
		" AND y.expires_at < e.seen_at))) LIMIT ?2)",
	[SQL_AUDIT_HEAD] = "SELECT n, hash, base_n, base_hash FROM audit_head",
	[SQL_AUDIT_SET_BASE] = "UPDATE audit_head SET base_n = ?, base_hash = ?",
	[SQL_AUDIT_FORGET] = "DELETE FROM audit WHERE n <= ?",
	[SQL_AUDIT_SET_HEAD] = "UPDATE audit_head SET n = ?, hash = ?",
	[SQL_AUDIT_ADD] =
		"INSERT INTO audit (n, at, who, what, subject, hash) VALUES (?, ?, ?, ?, ?, ?)",
	[SQL_AUDIT_LIST] =
		"SELECT n, at, who, what, subject, hash FROM audit WHERE n > ? ORDER BY n"
		" LIMIT ?",
	[SQL_DEVICE_GET] = "SELECT last_seq FROM devices WHERE account = ? AND device = ?",
	[SQL_DEVICE_SAVE] =
		"INSERT INTO devices (account, device, last_seq, seen_at) VALUES (?1, ?2, ?3, ?4)"
		" ON CONFLICT (account, device) DO UPDATE SET last_seq = max(last_seq, ?3), "
		"seen_at = ?4",
	[SQL_RECORD_BY_ID] = "SELECT " RECORD_COLUMNS RECORD_FROM "WHERE r.store = ? AND r.id = ?",
	[SQL_RECORD_BY_PLACE] =
		"SELECT " RECORD_COLUMNS RECORD_FROM
		"WHERE r.store = ? AND r.parent = ? AND r.name = ? AND r.deleted = 0",
	[SQL_RECORD_WITH_DATA] =
		"SELECT " RECORD_COLUMNS ", c.data FROM records r"
		" LEFT JOIN records p ON p.n = r.parent LEFT JOIN contents c ON c.n = r.n"
		" WHERE r.store = ? AND r.id = ?",
	[SQL_EXPORT_IDS] = "SELECT n, id FROM records WHERE store = ? AND n > ? AND deleted = 0"
			   " ORDER BY n LIMIT ?",
	[SQL_JOB_ADD] = "INSERT INTO jobs (job_id, type, status, ttl) VALUES (?1, ?2, ?3, ?4)",
	[SQL_JOB_SAVE] = "UPDATE jobs SET type = ?2, status = ?3, ttl = ?4 WHERE job_id = ?1",
	[SQL_JOB_GET] = "SELECT type, status, ttl FROM jobs WHERE job_id = ?",
	[SQL_JOB_DELETE] = "DELETE FROM jobs WHERE job_id = ?",
	[SQL_JOB_PURGE] = "DELETE FROM jobs WHERE ttl <= ?",
	[SQL_JOB_LOSE] = "UPDATE jobs SET status = 'lost' WHERE status <> 'failed' AND ttl > ?",
	[SQL_QUERY_GET] = "SELECT name, sql, params FROM queries WHERE store = ? AND name = ?",
	[SQL_QUERY_LIST] = "SELECT name, sql, params FROM queries WHERE store = ? ORDER BY name",
	[SQL_QUERY_PUT] = "INSERT OR REPLACE INTO queries (store, name, sql, params, created_at)"
			  " VALUES (?, ?, ?, ?, ?)",
	[SQL_QUERY_CHANGED] = "UPDATE stores SET queries_seq = queries_seq + 1 WHERE n = ?",
	[SQL_QUERY_DELETE] = "DELETE FROM queries WHERE store = ? AND name = ? RETURNING 1",
	[SQL_RECORD_PARENT] = "SELECT parent FROM records WHERE n = ?",
	[SQL_RECORD_HAS_CHILD] =
		"SELECT 1 FROM records WHERE store = ? AND parent = ? AND deleted = 0 LIMIT 1",
	[SQL_RECORD_ADD] =
		"INSERT INTO records (store, id, parent, name, kind, size, sha256, mode, mtime_ns, "
		"seq,"
		" tag, key, changed_at, file, deleted)"
		" VALUES (?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
	[SQL_RECORD_SAVE] =
		"UPDATE records SET parent = ?4, name = ?5, size = ?7, sha256 = ?8, mode = ?9,"
		" mtime_ns = ?10, seq = ?11, tag = ?12, key = ?13, changed_at = ?14, file = ?15,"
		" deleted = ?16 WHERE n = ?1",
	/* Out of the way while two records exchange their places: no row has a negative parent
	   otherwise. */
	[SQL_RECORD_UNPLACE] = "UPDATE records SET parent = -n WHERE n = ?",
	[SQL_RECORD_FEED] = "SELECT " RECORD_COLUMNS RECORD_FROM
			    "WHERE r.store = ? AND r.seq > ? ORDER BY r.seq LIMIT ?",
	[SQL_RECORD_BY_FILE] = "SELECT file FROM records WHERE file IS NOT NULL",
	[SQL_CONTENT_PUT] = "INSERT OR REPLACE INTO contents (n, data) VALUES (?, ?)",
	[SQL_CONTENT_DELETE] = "DELETE FROM contents WHERE n = ?",
	[SQL_REPLAY_GET] =
		"SELECT digest, status, etag, body FROM replays WHERE key = ? AND account = ?",
	[SQL_REPLAY_ADD] = "INSERT INTO replays (account, key, digest, status, etag, body, at)"
			   " VALUES (?, ?, ?, ?, ?, ?, ?)",
	[SQL_REPLAY_PURGE] = "DELETE FROM replays WHERE n IN (SELECT n FROM replays WHERE n <="
			     " (SELECT min(n) FROM replays) + ?2 AND at < ?1)",
	[SQL_TOMBSTONE_PURGE_TOP] =
		"SELECT max(seq), count(*) FROM (SELECT seq FROM records WHERE store = ?1"
		" AND deleted = 1 AND changed_at < ?2 ORDER BY seq LIMIT ?3)",
	[SQL_TOMBSTONE_PURGE] =
		"DELETE FROM records WHERE store = ?1 AND deleted = 1 AND seq <= ?2",
};

struct store_db {
	sqlite3 *db;
	sqlite3_stmt *statements[SQL_COUNT];
};

int server_store_error(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_CORRUPT:
		return CE_CORRUPT;
	case SQLITE_NOTADB:
		return CE_FORMAT;
	case SQLITE_TOOBIG:
		return CE_TOO_LARGE;
	case SQLITE_CANTOPEN:
		return -ENOENT;
	default:
		return -EIO;
	}
}

static int exec(sqlite3 *db, const char *sql)
{
	return server_store_error(sqlite3_exec(db, sql, NULL, NULL, NULL));
}

static int pragma_int(sqlite3 *db, const char *sql, int *out)
{
	sqlite3_stmt *q;
	int rc = sqlite3_prepare_v2(db, sql, -1, &q, NULL);

	if (rc)
		return server_store_error(rc);
	rc = sqlite3_step(q);
	if (rc == SQLITE_ROW)
		*out = sqlite3_column_int(q, 0);
	sqlite3_finalize(q);
	return rc == SQLITE_ROW ? 0 : server_store_error(rc);
}

/* A new database gets its names: random, for ever. */
static int give_names(struct store_db *db)
{
	uint8_t instance[16], epoch[16];
	sqlite3_stmt *q = server_store_statement(db, SQL_SERVER_PUT);

	secret_random(instance, sizeof(instance));
	secret_random(epoch, sizeof(epoch));
	sqlite3_bind_blob(q, 1, instance, sizeof(instance), SQLITE_TRANSIENT);
	sqlite3_bind_blob(q, 2, epoch, sizeof(epoch), SQLITE_TRANSIENT);
	sqlite3_bind_int64(q, 3, clock_wall_ns());
	return server_store_once(db, q);
}

static int migrate_steps(struct store_db *db, int from)
{
	char version[64];
	int r;

	for (int v = from; v < SCHEMA_VERSION; v++) {
		r = exec(db->db, server_schema_steps[v]);
		if (r)
			return r;
	}
	snprintf(version, sizeof(version), "PRAGMA user_version = %d", SCHEMA_VERSION);
	r = exec(db->db, version);
	if (r)
		return r;
	snprintf(version, sizeof(version), "PRAGMA application_id = %d", SCHEMA_APPLICATION_ID);
	r = exec(db->db, version);
	return r || from > 0 ? r : give_names(db);
}

static int read_version(struct store_db *db, int *version)
{
	int app = 0;
	int r = pragma_int(db->db, "PRAGMA user_version", version);

	if (!r)
		r = pragma_int(db->db, "PRAGMA application_id", &app);
	if (!r && (*version > SCHEMA_VERSION || *version < 0 ||
			  (*version > 0 && app != SCHEMA_APPLICATION_ID)))
		r = CE_FORMAT;
	return r;
}

/* The version is looked at again inside the transaction: two processes may open a new directory at
 * once. */
static int migrate(struct store_db *db)
{
	int version = 0;
	int r = read_version(db, &version);

	if (r || version == SCHEMA_VERSION)
		return r;
	r = exec(db->db, "BEGIN IMMEDIATE");
	if (!r)
		r = read_version(db, &version);
	if (!r && version < SCHEMA_VERSION)
		r = migrate_steps(db, version);
	if (!r)
		r = exec(db->db, "COMMIT");
	if (r)
		server_store_rollback(db);
	return r;
}

static int configure(sqlite3 *db)
{
	sqlite3_busy_timeout(db, BUSY_TIMEOUT_MS);
	sqlite3_extended_result_codes(db, 1);
	sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	return exec(db,
		"PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = "
		"FULL; PRAGMA temp_store = MEMORY;"
		"PRAGMA cache_size = -16384; PRAGMA mmap_size = 0; PRAGMA foreign_keys = OFF;"
		"PRAGMA cell_size_check = ON;");
}

int server_store_open(const char *dir, struct store_db **out)
{
	_cleanup_store_ struct store_db *db = calloc(1, sizeof(*db));
	_cleanup_free_ char *path = NULL;
	int r;

	if (!db || bytes_print(&path, "%s/" STORE_DB_NAME, dir))
		return -ENOMEM;
	r = server_store_error(sqlite3_open_v2(path, &db->db,
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
			SQLITE_OPEN_PRIVATECACHE,
		NULL));
	if (!r)
		r = configure(db->db);
	if (!r)
		r = migrate(db);
	if (r)
		return r;
	*out = steal_ptr(&db);
	return 0;
}

void server_store_close(struct store_db *db)
{
	if (!db)
		return;
	for (size_t i = 0; i < SQL_COUNT; i++)
		sqlite3_finalize(db->statements[i]);
	sqlite3_close(db->db);
	free(db);
}

void server_store_closep(struct store_db **db)
{
	server_store_close(*db);
}

sqlite3 *server_store_handle(struct store_db *db)
{
	return db->db;
}

sqlite3_stmt *server_store_statement(struct store_db *db, enum sql which)
{
	sqlite3_stmt **q = &db->statements[which];

	if (!*q && sqlite3_prepare_v3(db->db, texts[which], -1, SQLITE_PREPARE_PERSISTENT, q, NULL))
		return NULL;
	return *q;
}

int server_store_step(struct store_db *db, sqlite3_stmt *q)
{
	int rc = q ? sqlite3_step(q) : sqlite3_errcode(db->db);

	if (!q)
		return rc ? server_store_error(rc) : -EIO;
	if (rc == SQLITE_ROW)
		return 1;
	return server_store_error(rc);
}

void server_store_reset(sqlite3_stmt *q)
{
	if (!q)
		return;
	sqlite3_reset(q);
	sqlite3_clear_bindings(q);
}

int server_store_once(struct store_db *db, sqlite3_stmt *q)
{
	int r = server_store_step(db, q);

	server_store_reset(q);
	return r;
}

int server_store_run(struct store_db *db, enum sql which)
{
	int r = server_store_once(db, server_store_statement(db, which));

	return r < 0 ? r : 0;
}

void server_store_rollback(struct store_db *db)
{
	if (!sqlite3_get_autocommit(db->db))
		sqlite3_exec(db->db, "ROLLBACK", NULL, NULL, NULL);
}
