/*
 * The schema of the index, as a commented specification. schema.c turns it into tables and migrates
 * older versions (PRAGMA user_version) one step at a time, each in one transaction.
 *
 * [truth] cannot be rebuilt from the origin, [cache] can. Times are nanoseconds since 1970.
 *
 * setting   (key TEXT PRIMARY KEY, value BLOB)                                           [truth]
 * store     one row per store of the origin.
 *           (id INTEGER PRIMARY KEY, ref TEXT  opaque id, 32 hex: the keyring's name for it,
 *            name TEXT UNIQUE, mode INTEGER 0 rw 1 ro 2 local, root INTEGER  object,
 *            cursor TEXT  of the feed, '' = from nothing, listed INTEGER  1 when a listing was once complete,
 *            listing INTEGER  generation of the full listing under way or last finished,
 *            validated_ns INTEGER)                                                       [cache; local: truth]
 * object    one row per inode. id is st_ino, never reused. 1 is the root that holds the stores.
 *           (id INTEGER PRIMARY KEY AUTOINCREMENT, store, version INTEGER, mode INTEGER  with S_IFMT,
 *            uid, gid, rdev, nlink, size, atime_ns, mtime_ns, ctime_ns, btime_ns, target BLOB  of a symlink,
 *            map INTEGER  0 = no content row yet: an empty file)  partial index on nlink = 0
 *           `version` counts the times the origin's content replaced ours: (id, version) is what a FUSE
 *           nodeid names; local commits keep it.
 * name      one row per directory entry; id is the readdir cookie.
 *           (id INTEGER PRIMARY KEY AUTOINCREMENT, store, parent  object, name BLOB, object,
 *            rid TEXT  record id at the origin or NULL for what an origin never sees,
 *            etag TEXT  of the state at the origin that we are based on; NULL = not there yet,
 *            sha256 BLOB  of that state's content, r_parent TEXT, r_name BLOB  its place there,
 *            seen INTEGER  listing generation) UNIQUE(parent, name), index (parent), (object), UNIQUE(rid, store),
 *           partial index (id) of names with NAME_COPY_MARK (meta/name.h)
 * xattr     (object, name BLOB, value BLOB) PRIMARY KEY(object, name) WITHOUT ROWID       [truth]
 * blob      a file of sealed chunks on disk, blobs/xx/yyyy....
 *           (id INTEGER PRIMARY KEY AUTOINCREMENT, uuid BLOB 16 bytes, store, alg, shift  log2 of the chunk size,
 *            epoch  key epoch, seals, alloc_bytes  blocks it takes, pack 1 = shared by small files: seals and
 *            alloc_bytes are then as of the last sync)  partial index (store, alloc_bytes) where pack = 1
 * map       one content version: which chunk is in which slot.
 *           (id INTEGER PRIMARY KEY AUTOINCREMENT, blob, object, size, whole, state 0 current 1 snapshot 2 superseded,
 *            etag TEXT  strong, for ranged fetches; NULL = made here, used_s  coarse time of last use,
 *            pinned  1 = under a pin of cache/pin.h, as of the last look)
 *           partial indexes (blob, object) where blob > 0, (id) where state > 0, (used_s) of clean content
 *           whole = 1: every byte is here and a missing chunk row is a hole (zeros).
 *           whole = 0: a missing chunk row is content that is not here.
 * chunk     (map, idx, slot, len, seq, nonce BLOB, tag BLOB) PRIMARY KEY(map, idx) WITHOUT ROWID
 * undo_map  what a map was at the start of sync generation `gen`, while commits newer than that are not durable.
 *           (map, gen, blob, size, whole, mtime_ns) PRIMARY KEY(map, gen) WITHOUT ROWID
 * undo_chunk (map, gen, idx, present, slot, len, seq, nonce, tag) PRIMARY KEY(map, gen, idx) WITHOUT ROWID
 * op        the journal of unsent operations.                                            [truth]
 *           (seq INTEGER PRIMARY KEY AUTOINCREMENT, store, kind, state, name  id or 0, object, rid, key BLOB 16,
 *            base_etag, r_parent, r_name, other_rid, other_etag, map  snapshot being sent or 0,
 *            attempts, next_try_ms  wall, status  last HTTP status, error TEXT, created_ns)
 *           index (rid), (object), (state, created_ns), (key), partial index (map) where map > 0
 * deferred  entries of the feed that cannot be applied yet.                              [cache]
 *           (store, rid, reason 0 parent unknown 1 object busy 2 held, parent_rid, entry TEXT) PRIMARY KEY(store, rid) WITHOUT ROWID, index (store, parent_rid)
 * conflict  (id INTEGER PRIMARY KEY AUTOINCREMENT, store, kind, object  of the kept copy, rid  at the origin,
 *            path BLOB, other_path BLOB, created_ns, resolved_ns, base  map of what both sides began with or 0,
 *            outcome  how it was resolved) partial indexes (base) where base > 0,
 *            (object) where resolved_ns = 0                                              [truth]
 * base      what unsent content of a record is based on, kept for a merge: a snapshot's map.
 *           (store, rid, map) PRIMARY KEY(store, rid) WITHOUT ROWID, index (map)        [cache]
 * redo      one row: the mark up to which the index has what the redo log has (meta/redo.h).       [truth]
 *           (one INTEGER PRIMARY KEY, number  of the last record, at  where its epoch goes on,
 *            salt BLOB 8  of the epoch, next BLOB 8  salt of the epoch after it)
 * event     (id INTEGER PRIMARY KEY AUTOINCREMENT, time_ns, kind TEXT, detail TEXT  JSON without names, hash BLOB 32)
 */
#ifndef CACHET_META_SCHEMA_H
#define CACHET_META_SCHEMA_H

#include "base/macros.h"

#define SCHEMA_VERSION 6
/* Since this one the index has a redo log. */
#define SCHEMA_VERSION_REDO 2

struct db;

/* CE_FORMAT when the index is newer than this program. */
int schema_version(struct db *db, int *out) MUST_CHECK;
/* Makes or migrates the tables; CE_FORMAT when the index is newer than this program. */
int schema_apply(struct db *db) MUST_CHECK;

#endif
