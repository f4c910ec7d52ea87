/* Every statement of the index: STMT(name, SQL). Parameters and columns are used by position. */
#ifndef CACHET_META_STMT_TABLE_H
#define CACHET_META_STMT_TABLE_H

#include "meta/name.h"

#define STMT_OBJECT_COLUMNS                                                                        \
	"o.id, o.store, o.version, o.mode, o.uid, o.gid, o.rdev, o.nlink, o.size,"                 \
	" o.atime_ns, o.mtime_ns, o.ctime_ns, o.btime_ns, o.map"
#define STMT_NAME_COLUMNS                                                                          \
	"n.id, n.store, n.parent, n.name, n.object, n.rid, n.etag, n.sha256, n.r_parent, n.r_name,"  \
	" n.seen"
#define STMT_BLOB_COLUMNS "id, uuid, store, alg, shift, epoch, seals, alloc_bytes, pack"
#define STMT_OP_COLUMNS                                                                            \
	"seq, store, kind, state, name, object, rid, key, base_etag, r_parent, r_name, other_rid,"   \
	" other_etag, map, attempts, next_try_ms, status, error, created_ns"
#define STMT_STORE_COLUMNS "id, ref, name, mode, root, cursor, listed, listing, validated_ns"
/* Current, clean, not pinned, no undo rows, slots shared with no other map. */
#define STMT_MAP_CLEAN                                                                            \
	"SELECT m.id, m.used_s, m.blob, CASE b.pack WHEN 0 THEN b.alloc_bytes ELSE"                \
	" (SELECT coalesce(sum((c.len + 4095) / 4096 * 4096), 0) FROM chunk c"                     \
	"  WHERE c.map = m.id) END"                                                                \
	" FROM map m CROSS JOIN blob b ON b.id = m.blob"                                           \
	" WHERE m.state = 0 AND m.blob > 0 AND m.etag IS NOT NULL AND m.pinned = 0"                \
	" AND NOT EXISTS (SELECT 1 FROM op WHERE op.object = m.object)"                            \
	" AND NOT EXISTS (SELECT 1 FROM undo_map u WHERE u.map = m.id)"                            \
	" AND NOT EXISTS (SELECT 1 FROM map s WHERE s.blob = m.blob AND s.blob > 0"                \
	"  AND s.object = m.object AND s.id <> m.id)"

#define STMT_TABLE(STMT)                                                                           \
	/* transactions */                                                                         \
	STMT(SAVEPOINT, "SAVEPOINT txn")                                                           \
	STMT(SAVEPOINT_ROLLBACK, "ROLLBACK TO txn")                                                \
	STMT(SAVEPOINT_RELEASE, "RELEASE txn")                                                     \
	/* object, xattr */                                                                        \
	STMT(OBJECT_INSERT,                                                                        \
		"INSERT INTO object(store, version, mode, uid, gid, rdev, nlink, size, atime_ns,"  \
		" mtime_ns, ctime_ns, btime_ns, map, target)"                                      \
		" VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")                               \
	STMT(OBJECT_GET, "SELECT " STMT_OBJECT_COLUMNS " FROM object o WHERE o.id = ?")            \
	STMT(OBJECT_UPDATE,                                                                        \
		"UPDATE object SET version = ?, mode = ?, uid = ?, gid = ?, rdev = ?, nlink = ?,"  \
		" size = ?, atime_ns = ?, mtime_ns = ?, ctime_ns = ?, map = ? WHERE id = ?")       \
	STMT(OBJECT_SET_TARGET, "UPDATE object SET target = ?2 WHERE id = ?1")                     \
	STMT(OBJECT_TARGET, "SELECT target FROM object WHERE id = ?")                              \
	STMT(OBJECT_DELETE, "DELETE FROM object WHERE id = ?")                                     \
	STMT(OBJECT_UNLINKED, "SELECT id FROM object WHERE nlink = 0 ORDER BY id LIMIT ?")         \
	STMT(OBJECT_COUNT, "SELECT count(*) FROM object WHERE store = ?")                          \
	STMT(XATTR_SET, "INSERT INTO xattr(object, name, value) VALUES(?, ?, ?)"                   \
			" ON CONFLICT(object, name) DO UPDATE SET value = excluded.value")         \
	STMT(XATTR_GET, "SELECT value FROM xattr WHERE object = ? AND name = ?")                   \
	STMT(XATTR_REMOVE, "DELETE FROM xattr WHERE object = ? AND name = ?")                      \
	STMT(XATTR_REMOVE_ALL, "DELETE FROM xattr WHERE object = ?")                               \
	STMT(XATTR_LIST, "SELECT name FROM xattr WHERE object = ? ORDER BY name")                  \
	/* name */                                                                                 \
	STMT(NAME_INSERT,                                                                          \
		"INSERT INTO name(store, parent, name, object, rid, etag, sha256, r_parent,"       \
		" r_name, seen) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")                             \
	STMT(NAME_UPDATE,                                                                          \
		"UPDATE name SET store = ?, parent = ?, name = ?, object = ?, rid = ?, etag = ?,"  \
		" sha256 = ?, r_parent = ?, r_name = ?, seen = ? WHERE id = ?")                    \
	STMT(NAME_GET, "SELECT " STMT_NAME_COLUMNS " FROM name n WHERE n.id = ?")                  \
	STMT(NAME_FIND,                                                                            \
		"SELECT " STMT_NAME_COLUMNS " FROM name n WHERE n.parent = ? AND n.name = ?")      \
	STMT(NAME_BY_RID,                                                                          \
		"SELECT " STMT_NAME_COLUMNS " FROM name n WHERE n.store = ? AND n.rid = ?")        \
	STMT(NAME_LOOKUP,                                                                          \
		"SELECT " STMT_OBJECT_COLUMNS " FROM name n JOIN object o ON o.id = n.object"      \
		" WHERE n.parent = ? AND n.name = ?")                                              \
	STMT(NAME_DELETE, "DELETE FROM name WHERE id = ?")                                         \
	STMT(NAME_EACH,                                                                            \
		"SELECT " STMT_NAME_COLUMNS ", " STMT_OBJECT_COLUMNS                               \
		" FROM name n INDEXED BY name_parent CROSS JOIN object o ON o.id = n.object"       \
		" WHERE n.parent = ? AND n.id > ? ORDER BY n.id")                                  \
	STMT(NAME_EACH_BY_NAME,                                                                    \
		"SELECT " STMT_NAME_COLUMNS ", " STMT_OBJECT_COLUMNS                               \
		" FROM name n CROSS JOIN object o ON o.id = n.object"                              \
		" WHERE n.parent = ? AND n.name > ? ORDER BY n.name")                              \
	STMT(NAME_EACH_OF,                                                                         \
		"SELECT " STMT_NAME_COLUMNS " FROM name n WHERE n.object = ? ORDER BY n.id")       \
	STMT(NAME_EACH_COPY,                                                                       \
		"SELECT " STMT_NAME_COLUMNS " FROM name n INDEXED BY name_copy"                    \
		" WHERE instr(n.name, CAST('" NAME_COPY_MARK "' AS BLOB)) > 0 ORDER BY n.id")      \
	STMT(NAME_UNSEEN,                                                                          \
		"SELECT " STMT_NAME_COLUMNS " FROM name n WHERE n.id > ? AND n.store = ?"          \
		" AND n.seen < ? AND n.etag IS NOT NULL ORDER BY n.id LIMIT ?")                    \
	STMT(NAME_ANY, "SELECT 1 FROM name WHERE parent = ? LIMIT 1")                              \
	STMT(NAME_COUNT, "SELECT count(*) FROM name WHERE store = ? AND etag IS NOT NULL")         \
	/* blob */                                                                                 \
	STMT(BLOB_INSERT,                                                                          \
		"INSERT INTO blob(uuid, store, alg, shift, epoch, seals, alloc_bytes, pack)"       \
		" VALUES(?, ?, ?, ?, ?, ?, ?, ?)")                                                 \
	STMT(BLOB_GET, "SELECT " STMT_BLOB_COLUMNS " FROM blob WHERE id = ?")                      \
	STMT(BLOB_LIST, "SELECT " STMT_BLOB_COLUMNS " FROM blob WHERE id > ? ORDER BY id LIMIT ?") \
	STMT(BLOB_UPDATE, "UPDATE blob SET seals = ?, alloc_bytes = ? WHERE id = ?")               \
	STMT(BLOB_DELETE, "DELETE FROM blob WHERE id = ?")                                         \
	STMT(BLOB_USERS, "SELECT EXISTS (SELECT 1 FROM map WHERE blob = ?1 AND blob > 0)"          \
			 " + EXISTS (SELECT 1 FROM undo_map WHERE blob = ?1)")                     \
	STMT(BLOB_TOTAL, "SELECT coalesce(sum(alloc_bytes), 0) FROM blob")                         \
	STMT(BLOB_PACK, "SELECT " STMT_BLOB_COLUMNS " FROM blob WHERE pack = 1 AND store = ?"      \
			" AND alloc_bytes < ? AND seals < ? ORDER BY alloc_bytes DESC LIMIT 1")    \
	/* map, chunk */                                                                           \
	STMT(MAP_INSERT, "INSERT INTO map(blob, object, size, whole, state, etag, used_s, pinned)" \
			 " VALUES(?, ?, ?, ?, ?, ?, ?, ?)")                                        \
	STMT(MAP_GET, "SELECT id, blob, object, size, whole, state, etag, used_s, pinned FROM map" \
		      " WHERE id = ?")                                                             \
	STMT(MAP_UPDATE,                                                                           \
		"UPDATE map SET blob = ?, object = ?, size = ?, whole = ?, state = ?, etag = ?,"   \
		" used_s = ? WHERE id = ?")                                                        \
	STMT(MAP_PIN, "UPDATE map SET pinned = ?2 WHERE id = ?1")                                  \
	STMT(MAP_PINNED, "SELECT id FROM map WHERE pinned = 1 AND id > ? ORDER BY id LIMIT ?")     \
	STMT(MAP_USED, "UPDATE map SET used_s = ?2 WHERE id = ?1 AND used_s < ?2 - 60")            \
	STMT(MAP_DELETE, "DELETE FROM map WHERE id = ?")                                           \
	STMT(MAP_MAY_GO, STMT_MAP_CLEAN " AND m.id = ?1")                                          \
	STMT(MAP_EVICTABLE, STMT_MAP_CLEAN " AND (m.used_s, m.id) > (?1, ?2)"                      \
					   " ORDER BY m.used_s, m.id LIMIT ?3")                    \
	STMT(MAP_AFTER,                                                                            \
		"SELECT id FROM map WHERE id > ? AND state = 0 AND blob > 0 ORDER BY id LIMIT ?")  \
	STMT(MAP_AFTER_ANY, "SELECT id FROM map WHERE id > ? AND blob > 0 ORDER BY id LIMIT ?")    \
	STMT(MAP_STRAY,                                                                            \
		"SELECT id FROM map WHERE state > 0 AND NOT EXISTS"                                \
		" (SELECT 1 FROM op WHERE op.map = map.id AND op.map > 0)"                         \
		" AND NOT EXISTS (SELECT 1 FROM base WHERE base.map = map.id)"                     \
		" AND NOT EXISTS (SELECT 1 FROM conflict c WHERE c.base = map.id AND c.base > 0)"  \
		" ORDER BY id LIMIT ?")                                                            \
	STMT(MAP_SHARING, "SELECT id FROM map WHERE blob = ? AND blob > 0 AND object = ? ORDER "   \
			  "BY id LIMIT ?")                                                         \
	STMT(CHUNK_PUT, "INSERT OR REPLACE INTO chunk(map, idx, slot, len, seq, nonce, tag)"       \
			" VALUES(?, ?, ?, ?, ?, ?, ?)")                                            \
	STMT(CHUNK_GET,                                                                            \
		"SELECT idx, slot, len, seq, nonce, tag FROM chunk WHERE map = ? AND idx = ?")     \
	STMT(CHUNK_DELETE, "DELETE FROM chunk WHERE map = ? AND idx = ?")                          \
	STMT(CHUNK_DELETE_FROM, "DELETE FROM chunk WHERE map = ? AND idx >= ?")                    \
	STMT(CHUNK_EACH,                                                                           \
		"SELECT idx, slot, len, seq, nonce, tag FROM chunk WHERE map = ? AND idx >= ?"     \
		" ORDER BY idx")                                                                   \
	STMT(CHUNK_OLD, "SELECT count(*), coalesce(sum(len), 0) FROM chunk WHERE seq < ?")         \
	STMT(UNDO_OLD, "SELECT count(*) FROM undo_chunk WHERE present = 1 AND seq < ?")            \
	STMT(CHUNK_OLDEST, "SELECT idx, slot, len, seq, nonce, tag FROM chunk WHERE map = ?"       \
			   " ORDER BY seq LIMIT ?")                                                \
	STMT(CHUNK_COUNT, "SELECT count(*) FROM (SELECT 1 FROM chunk WHERE map = ? LIMIT ?)")      \
	STMT(SLOTS,                                                                                \
		"SELECT c.slot, c.len, c.seq FROM map m CROSS JOIN chunk c ON c.map = m.id"        \
		" WHERE m.blob = ?1 AND m.blob > 0 UNION ALL SELECT u.slot, u.len, u.seq FROM undo_map m" \
		" CROSS JOIN undo_chunk u ON u.map = m.map AND u.gen = m.gen"                      \
		" WHERE m.blob = ?1 AND u.present = 1")                                            \
	/* undo */                                                                                 \
	STMT(UNDO_PUT, "INSERT OR IGNORE INTO undo_map(map, gen, blob, size, whole, mtime_ns)"     \
		       " VALUES(?, ?, ?, ?, ?, ?)")                                                \
	STMT(UNDO_GET, "SELECT blob, size, whole FROM undo_map WHERE map = ? AND gen = ?")         \
	STMT(UNDO_PARTIAL,                                                                         \
		"SELECT count(*) FROM map m WHERE m.id = ?1 AND m.etag IS NOT NULL AND (m.whole "  \
		"= 0"                                                                              \
		" OR EXISTS (SELECT 1 FROM undo_map u WHERE u.map = ?1 AND u.whole = 0))")         \
	STMT(UNDO_CHUNK,                                                                           \
		"INSERT OR IGNORE INTO undo_chunk(map, gen, idx, present, slot, len, seq, nonce,"  \
		" tag) SELECT ?1, ?2, ?3, c.map IS NOT NULL, c.slot, c.len, c.seq, c.nonce, c.tag" \
		" FROM (SELECT 1) LEFT JOIN chunk c ON c.map = ?1 AND c.idx = ?3")                 \
	STMT(UNDO_CHUNKS_FROM,                                                                     \
		"INSERT OR IGNORE INTO undo_chunk(map, gen, idx, present, slot, len, seq, nonce,"  \
		" tag) SELECT map, ?2, idx, 1, slot, len, seq, nonce, tag FROM chunk"              \
		" WHERE map = ?1 AND idx >= ?3")                                                   \
	STMT(UNDO_NEXT,                                                                            \
		"SELECT gen FROM undo_map WHERE map = ? AND gen > ? ORDER BY gen LIMIT 1")         \
	STMT(UNDO_FORGET_MAPS, "DELETE FROM undo_map WHERE gen <= ?")                              \
	STMT(UNDO_FORGET_CHUNKS, "DELETE FROM undo_chunk WHERE gen <= ?")                          \
	STMT(UNDO_LIST, "SELECT map, gen, blob, size, whole, mtime_ns FROM undo_map ORDER BY "     \
			"map, gen DESC"                                                            \
			" LIMIT ?")                                                                \
	STMT(UNDO_EACH, "SELECT present, idx, slot, len, seq, nonce, tag FROM undo_chunk"          \
			" WHERE map = ? AND gen = ? ORDER BY idx")                                 \
	STMT(UNDO_APPLY_MAP, "UPDATE map SET blob = ?2, size = ?3, whole = ?4 WHERE id = ?1")      \
	STMT(UNDO_APPLY_CHUNKS,                                                                    \
		"INSERT OR REPLACE INTO chunk(map, idx, slot, len, seq, nonce, tag)"               \
		" SELECT map, idx, slot, len, seq, nonce, tag FROM undo_chunk"                     \
		" WHERE map = ? AND gen = ? AND present = 1")                                      \
	STMT(UNDO_APPLY_ABSENT,                                                                    \
		"DELETE FROM chunk WHERE map = ?1 AND idx IN (SELECT idx FROM undo_chunk"          \
		" WHERE map = ?1 AND gen = ?2 AND present = 0)")                                   \
	STMT(UNDO_DROP_MAP, "DELETE FROM undo_map WHERE map = ? AND gen = ?")                      \
	STMT(UNDO_DROP_CHUNKS, "DELETE FROM undo_chunk WHERE map = ? AND gen = ?")                 \
	STMT(UNDO_DROP_MAPS_ALL, "DELETE FROM undo_map WHERE map = ?")                             \
	STMT(UNDO_DROP_CHUNKS_ALL, "DELETE FROM undo_chunk WHERE map = ?")                         \
	/* op */                                                                                   \
	STMT(OP_INSERT,                                                                            \
		"INSERT INTO op(store, kind, state, name, object, rid, key, base_etag, r_parent,"  \
		" r_name, other_rid, other_etag, map, attempts, next_try_ms, status, error,"       \
		" created_ns) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")       \
	STMT(OP_RESTORE,                                                                           \
		"INSERT INTO op(seq, store, kind, state, name, object, rid, key, base_etag,"       \
		" r_parent, r_name, other_rid, other_etag, map, attempts, next_try_ms, status,"    \
		" error, created_ns) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?," \
		" ?)")                                                                             \
	STMT(OP_UPDATE,                                                                            \
		"UPDATE op SET store = ?, kind = ?, state = ?, name = ?, object = ?, rid = ?,"     \
		" key = ?, base_etag = ?, r_parent = ?, r_name = ?, other_rid = ?, other_etag = "  \
		"?,"                                                                               \
		" map = ?, attempts = ?, next_try_ms = ?, status = ?, error = ?, created_ns = ?"   \
		" WHERE seq = ?")                                                                  \
	STMT(OP_GET, "SELECT " STMT_OP_COLUMNS " FROM op WHERE seq = ?")                           \
	STMT(OP_DELETE, "DELETE FROM op WHERE seq = ?")                                            \
	STMT(OP_EACH, "SELECT " STMT_OP_COLUMNS " FROM op WHERE seq > ? ORDER BY seq")             \
	STMT(OP_EACH_OF_RID,                                                                       \
		"SELECT " STMT_OP_COLUMNS " FROM op INDEXED BY op_rid WHERE rid = ? AND store = ?" \
		" ORDER BY seq")                                                                   \
	STMT(OP_EACH_OF_OBJECT,                                                                    \
		"SELECT " STMT_OP_COLUMNS " FROM op WHERE object = ? ORDER BY seq")                \
	STMT(OP_BY_KEY, "SELECT " STMT_OP_COLUMNS " FROM op WHERE key = ? ORDER BY seq LIMIT 1")   \
	STMT(OP_BY_MAP, "SELECT " STMT_OP_COLUMNS " FROM op WHERE map = ? AND map > 0"             \
			" ORDER BY seq LIMIT 1")                                                   \
	STMT(OP_LAST_SEQ, "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'op'")   \
	STMT(OP_COUNTS, "SELECT state, count(*), min(created_ns) FROM op GROUP BY state")          \
	/* store, setting */                                                                       \
	STMT(STORE_INSERT,                                                                         \
		"INSERT INTO store(ref, name, mode, root, cursor, listed, listing, validated_ns)"  \
		" VALUES(?, ?, ?, ?, ?, ?, ?, ?)")                                                 \
	STMT(STORE_UPDATE,                                                                         \
		"UPDATE store SET ref = ?, name = ?, mode = ?, root = ?, cursor = ?, listed = ?,"  \
		" listing = ?, validated_ns = ? WHERE id = ?")                                     \
	STMT(STORE_GET, "SELECT " STMT_STORE_COLUMNS " FROM store WHERE id = ?")                   \
	STMT(STORE_BY_NAME, "SELECT " STMT_STORE_COLUMNS " FROM store WHERE name = ?")             \
	STMT(STORE_EACH, "SELECT " STMT_STORE_COLUMNS " FROM store ORDER BY id")                   \
	STMT(SETTING_SET, "INSERT INTO setting(key, value) VALUES(?, ?)"                           \
			  " ON CONFLICT(key) DO UPDATE SET value = excluded.value")                \
	STMT(SETTING_GET, "SELECT value FROM setting WHERE key = ?")                               \
	STMT(SETTING_DELETE, "DELETE FROM setting WHERE key = ?")                                  \
	/* deferred */                                                                             \
	STMT(DEFERRED_PUT,                                                                         \
		"INSERT OR REPLACE INTO deferred(store, rid, reason, parent_rid, entry)"           \
		" VALUES(?, ?, ?, ?, ?)")                                                          \
	STMT(DEFERRED_DELETE, "DELETE FROM deferred WHERE store = ? AND rid = ?")                  \
	STMT(DEFERRED_GET, "SELECT entry FROM deferred WHERE store = ? AND rid = ?")               \
	STMT(DEFERRED_OF_PARENT, "SELECT rid, entry FROM deferred WHERE store = ? AND reason = ?"  \
				 " AND parent_rid = ? ORDER BY rid")                               \
	STMT(DEFERRED_OF_REASON,                                                                   \
		"SELECT rid, entry FROM deferred WHERE store = ? AND reason = ? ORDER BY rid")     \
	STMT(DEFERRED_COUNT, "SELECT count(*) FROM deferred WHERE reason = ?")                     \
	/* conflict, event */                                                                      \
	STMT(CONFLICT_INSERT,                                                                      \
		"INSERT INTO conflict(store, kind, object, rid, path, other_path, created_ns,"     \
		" resolved_ns, base, outcome) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")               \
	STMT(CONFLICT_RESOLVE, "UPDATE conflict SET resolved_ns = ?2, outcome = ?3, base = 0"      \
			       " WHERE id = ?1 AND resolved_ns = 0")                               \
	STMT(CONFLICT_GET,                                                                         \
		"SELECT id, store, kind, object, rid, path, other_path, created_ns, resolved_ns,"  \
		" base, outcome FROM conflict WHERE id = ?")                                       \
	STMT(CONFLICT_EACH,                                                                        \
		"SELECT id, store, kind, object, rid, path, other_path, created_ns, resolved_ns,"  \
		" base, outcome FROM conflict WHERE ?1 = 0 OR resolved_ns = 0 ORDER BY id")        \
	STMT(CONFLICT_EACH_OF,                                                                     \
		"SELECT id, store, kind, object, rid, path, other_path, created_ns, resolved_ns,"  \
		" base, outcome FROM conflict INDEXED BY conflict_open"                            \
		" WHERE object = ? AND resolved_ns = 0 ORDER BY id")                               \
	STMT(CONFLICT_MOVED, "UPDATE conflict SET path = ?2, other_path = ?3 WHERE id = ?1")       \
	STMT(BASE_PUT, "INSERT OR REPLACE INTO base(store, rid, map) VALUES(?, ?, ?)")             \
	STMT(BASE_GET, "SELECT map FROM base WHERE store = ? AND rid = ?")                         \
	STMT(BASE_DELETE, "DELETE FROM base WHERE store = ? AND rid = ?")                          \
	STMT(BASE_STRAY, "DELETE FROM base WHERE NOT EXISTS"                                       \
			 " (SELECT 1 FROM op WHERE op.rid = base.rid AND op.store = base.store "   \
			 "AND op.kind = 1)")                                                       \
	STMT(EVENT_LAST, "SELECT id, hash FROM event ORDER BY id DESC LIMIT 1")                    \
	STMT(EVENT_LAST_ID,                                                                        \
		"SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'event'")          \
	STMT(EVENT_APPEND,                                                                         \
		"INSERT INTO event(id, time_ns, kind, detail, hash) VALUES(?, ?, ?, ?, ?)")        \
	STMT(EVENT_EACH,                                                                           \
		"SELECT id, time_ns, kind, detail, hash FROM event WHERE id > ? ORDER BY id")      \
	/* checks */                                                                               \
	STMT(PAGE_COUNT, "PRAGMA page_count")                                                      \
	STMT(INTEGRITY, "PRAGMA integrity_check(1)")

#endif
