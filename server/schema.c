#include "server/schema.h"

/*
 * Version 1.
 *
 * All of this is truth; nothing can be rebuilt from elsewhere. Beside the database, `content/`
 * holds the bodies above 16 KiB, one immutable file each, named by the 16 random bytes in
 * records.file; a file no row names is rubbish of a crash and is removed at start. Times are
 * nanoseconds since 1970.
 */
static const char version_1[] =
	/*
	 * One row. `instance` names the data for ever. `epoch` is drawn anew whenever the data may
	 * have gone back (restore); clients then start over. Both 16 random bytes.
	 */
	"CREATE TABLE server (one INTEGER PRIMARY KEY CHECK (one = 1), instance BLOB NOT NULL,"
	" epoch BLOB NOT NULL, created_at INTEGER NOT NULL) STRICT;"

	/*
	 * `seq`: the number of the store's latest change. `purged_seq`: the highest number of a
	 * tombstone that was forgotten; a cursor before it is answered 410. `records`, `bytes`: of
	 * what is not deleted.
	 */
	"CREATE TABLE stores (n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, created_at INTEGER "
	"NOT NULL,"
	" seq INTEGER NOT NULL DEFAULT 0, purged_seq INTEGER NOT NULL DEFAULT 0,"
	" records INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0) STRICT;"

	"CREATE TABLE accounts (n INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
	" created_at INTEGER NOT NULL) STRICT;"

	/*
	 * `hash` is SHA-256 of the token, which is 256 random bits: no salt is needed and nothing
	 * here opens anything. `lookup` is its first 8 bytes as a number, found by index; the whole
	 * is compared in constant time. `store` NULL: all stores.
	 */
	"CREATE TABLE tokens (n INTEGER PRIMARY KEY, account INTEGER NOT NULL REFERENCES "
	"accounts(n),"
	" store INTEGER REFERENCES stores(n), read_only INTEGER NOT NULL, lookup INTEGER NOT NULL,"
	" hash BLOB NOT NULL UNIQUE, created_at INTEGER NOT NULL, expires_at INTEGER,"
	" revoked_at INTEGER) STRICT;"
	"CREATE INDEX tokens_lookup ON tokens (lookup);"

	/* `last_seq`: the highest Cachet-Seq this device sent. */
	"CREATE TABLE devices (account INTEGER NOT NULL, device BLOB NOT NULL, last_seq INTEGER "
	"NOT NULL,"
	" seen_at INTEGER NOT NULL, PRIMARY KEY (account, device)) STRICT, WITHOUT ROWID;"

	/*
	 * `parent`: the row of the parent directory, 0 = the store's root. `kind`: 1 file, 2
	 * directory, 3 symlink. `seq`: its place in the feed; `tag`: the epoch's mark when it was
	 * changed (the ETag is made of the two). `key`: of the change that made this state. `file`:
	 * name of the content file, NULL = in `contents` or empty. `deleted` 1: a tombstone, of
	 * which only id, parent, name, kind, seq, tag, key, changed_at mean anything.
	 */
	"CREATE TABLE records (n INTEGER PRIMARY KEY, store INTEGER NOT NULL REFERENCES stores(n),"
	" id TEXT NOT NULL, parent INTEGER NOT NULL, name TEXT NOT NULL, kind INTEGER NOT NULL,"
	" size INTEGER NOT NULL, sha256 BLOB, mode INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,"
	" seq INTEGER NOT NULL, tag INTEGER NOT NULL, key BLOB, changed_at INTEGER NOT NULL, file "
	"BLOB,"
	" deleted INTEGER NOT NULL) STRICT;"
	"CREATE UNIQUE INDEX records_id ON records (store, id);"
	/* Two records never share a place: the rule is kept here, whatever the code does. */
	"CREATE UNIQUE INDEX records_place ON records (store, parent, name) WHERE deleted = 0;"
	"CREATE UNIQUE INDEX records_feed ON records (store, seq);"

	/* To forget old tombstones without reading all records. */
	"CREATE INDEX records_tombstones ON records (store, seq) WHERE deleted = 1;"

	/* Bodies up to 16 KiB: their sync is the transaction's own. */
	"CREATE TABLE contents (n INTEGER PRIMARY KEY REFERENCES records(n), data BLOB NOT NULL) "
	"STRICT;"

	/*
	 * Answers by idempotency key, kept at least 30 days. `digest`: SHA-256 of the request, to
	 * tell a repeat from another request under the same key. Rows are in order of time; only
	 * the small index is in order of keys.
	 */
	"CREATE TABLE replays (n INTEGER PRIMARY KEY, account INTEGER NOT NULL, key BLOB NOT NULL,"
	" digest BLOB NOT NULL, status INTEGER NOT NULL, etag TEXT NOT NULL, body TEXT NOT NULL,"
	" at INTEGER NOT NULL) STRICT;"
	"CREATE UNIQUE INDEX replays_key ON replays (key, account);";

/* Version 2: queries and jobs. */
static const char version_2[] =
	/* `sql`: what the administrator wrote, checked; `params`: its parameters, a JSON array. */
	"CREATE TABLE queries (store INTEGER NOT NULL REFERENCES stores(n), name TEXT NOT NULL,"
	" sql TEXT NOT NULL, params TEXT NOT NULL, created_at INTEGER NOT NULL,"
	" PRIMARY KEY (store, name)) STRICT, WITHOUT ROWID;"

	/*
	 * Jobs have their payloads and results in memory only, and no owner here: what is in this
	 * table says of a job that was lost with its process that there was one. `ttl`: seconds
	 * since 1970 when the row goes.
	 */
	"CREATE TABLE jobs (job_id TEXT PRIMARY KEY, type TEXT NOT NULL, status TEXT NOT NULL,"
	" ttl INTEGER NOT NULL) STRICT, WITHOUT ROWID;";

/* Version 3: who may open what, the audit log, devices and their keys. */
static const char version_3[] =
	/* A store is open to every account, or (`open` 0) to those with a row in `grants`. */
	"ALTER TABLE stores ADD COLUMN open INTEGER NOT NULL DEFAULT 1;"
	"CREATE TABLE grants (store INTEGER NOT NULL REFERENCES stores(n), account INTEGER NOT NULL"
	" REFERENCES accounts(n), PRIMARY KEY (store, account)) STRICT, WITHOUT ROWID;"

	/* A token with `scoped` opens the stores in `token_stores` only; one with `admin`
	   administers the server and opens no store. */
	"CREATE TABLE token_stores (token INTEGER NOT NULL, store INTEGER NOT NULL REFERENCES "
	"stores(n), PRIMARY KEY (token, store)) STRICT, WITHOUT ROWID;"
	"INSERT INTO token_stores SELECT n, store FROM tokens WHERE store IS NOT NULL;"
	"CREATE TABLE tokens_2 (n INTEGER PRIMARY KEY AUTOINCREMENT, account INTEGER NOT NULL"
	" REFERENCES accounts(n), scoped INTEGER NOT NULL, read_only INTEGER NOT NULL,"
	" admin INTEGER NOT NULL, lookup INTEGER NOT NULL, hash BLOB NOT NULL UNIQUE,"
	" created_at INTEGER NOT NULL, expires_at INTEGER, revoked_at INTEGER) STRICT;"
	"INSERT INTO tokens_2 SELECT n, account, store IS NOT NULL, read_only, 0, lookup, hash,"
	" created_at, expires_at, revoked_at FROM tokens;"
	"DROP TABLE tokens; ALTER TABLE tokens_2 RENAME TO tokens;"
	"CREATE INDEX tokens_lookup ON tokens (lookup);"

	/*
	 * Who did what and when, never a content or a secret. `hash` is SHA-256 over the hash of
	 * the row before and this row (audit.c); `audit_head` has the last one's number and hash,
	 * so that rows missing at the end are seen as well.
	 */
	"CREATE TABLE audit (n INTEGER PRIMARY KEY, at INTEGER NOT NULL, who TEXT NOT NULL,"
	" what TEXT NOT NULL, subject TEXT NOT NULL, hash BLOB NOT NULL) STRICT;"
	"CREATE TABLE audit_head (one INTEGER PRIMARY KEY CHECK (one = 1), n INTEGER NOT NULL,"
	" hash BLOB NOT NULL) STRICT;"
	"INSERT INTO audit_head VALUES (1, 0, zeroblob(32));"

	/*
	 * The server's own keys. `commitment`: of the master key, which is not here.
	 * `sign_wrapped`: the Ed25519 seed under it (vault.c).
	 */
	"CREATE TABLE vault (one INTEGER PRIMARY KEY CHECK (one = 1), commitment BLOB NOT NULL,"
	" sign_public BLOB NOT NULL, sign_wrapped BLOB NOT NULL, created_at INTEGER NOT NULL)"
	" STRICT;"

	/*
	 * Enrolled devices. `kid`: the current KEK. `state`: 0 good, 1 untrusted, 2 revoked for
	 * ever: a device id that enrols again then has a new row. `token`: the row of the token
	 * that spoke for it last.
	 */
	"CREATE TABLE enrolled (n INTEGER PRIMARY KEY, dkid TEXT NOT NULL UNIQUE, account INTEGER "
	"NOT NULL REFERENCES accounts(n), device_id TEXT NOT NULL, name TEXT, dk_pub BLOB NOT NULL,"
	" kid TEXT, state INTEGER NOT NULL, token INTEGER, created_at INTEGER NOT NULL,"
	" seen_at INTEGER NOT NULL) STRICT;"
	"CREATE INDEX enrolled_device ON enrolled (account, device_id, n);"
	"CREATE UNIQUE INDEX enrolled_once ON enrolled (account, device_id) WHERE state <> 2;"

	/*
	 * Key-encryption keys of an account, each made for one device. `wrapped`: under the master
	 * key, `version` of that form; NULL until the device first asks for it, so that whoever
	 * rotates needs no master key. Old ones stay until no device can need them (SQL_KEK_PURGE): unsent
	 * work of a revoked device is under one.
	 */
	"CREATE TABLE keks (kid TEXT PRIMARY KEY, account INTEGER NOT NULL, dkid TEXT NOT NULL,"
	" wrapped BLOB, version INTEGER NOT NULL, rotated_at INTEGER NOT NULL,"
	" expires_at INTEGER) STRICT, WITHOUT ROWID;";

/* Version 4: `is_copy` 1 in a backup: the first server that opens it draws a new epoch. */
static const char version_4[] = "ALTER TABLE server ADD COLUMN is_copy INTEGER NOT NULL DEFAULT 0;";

/* Version 5: the audit log may be archived, queries are news, old keys are forgotten. */
static const char version_5[] =
	/* The number and hash of the last row that is in an archive: where the chain begins. */
	"ALTER TABLE audit_head ADD COLUMN base_n INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE audit_head ADD COLUMN base_hash BLOB NOT NULL DEFAULT"
	" x'0000000000000000000000000000000000000000000000000000000000000000';"

	/* Grows when a query is declared or removed; clients hear of it in the feed. */
	"ALTER TABLE stores ADD COLUMN queries_seq INTEGER NOT NULL DEFAULT 0;"

	"CREATE INDEX keks_dkid ON keks (dkid, rotated_at);";

const char *const server_schema_steps[SCHEMA_VERSION] = { version_1, version_2, version_3,
	version_4, version_5 };
