/* Rows of `object` and `xattr`: inodes. See meta/schema.h; conventions in meta/row.h. */
#ifndef CACHET_META_OBJECT_H
#define CACHET_META_OBJECT_H

#include "meta/row.h"

struct db;

#define OBJECT_ROOT 1

struct object_row {
	uint64_t id;
	uint64_t store;
	uint64_t version;
	uint32_t mode, uid, gid;
	uint64_t rdev;
	uint32_t nlink;
	uint64_t size;
	int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
	uint64_t map;
};

/* Gives it an id (out: o->id). `target` for symlinks, else NULL. */
int object_insert(
	struct db *db, struct object_row *o, const void *target, size_t target_len) MUST_CHECK;
int object_get(struct db *db, uint64_t id, struct object_row *out) MUST_CHECK;
/* All columns but id, store, btime and target. */
int object_update(struct db *db, const struct object_row *o) MUST_CHECK;
int object_set_target(struct db *db, uint64_t id, const void *target, size_t len) MUST_CHECK;
/* The caller frees *out; NUL-terminated. */
int object_target(struct db *db, uint64_t id, char **out, size_t *len) MUST_CHECK;
/* Also its xattrs. Names, maps and ops are the caller's to remove first. */
int object_delete(struct db *db, uint64_t id) MUST_CHECK;
/* Ids with nlink 0 (unlinked while open when the daemon ended), at most `max` into ids[]; returns
 * the count. */
int object_unlinked(struct db *db, uint64_t *ids, size_t max) MUST_CHECK;
int object_count(struct db *db, uint64_t store, uint64_t *out) MUST_CHECK;

int object_xattr_set(
	struct db *db, uint64_t id, const char *name, const void *value, size_t len) MUST_CHECK;
/* The caller frees *out. */
int object_xattr_get(
	struct db *db, uint64_t id, const char *name, void **out, size_t *len) MUST_CHECK;
int object_xattr_remove(struct db *db, uint64_t id, const char *name) MUST_CHECK;
/* Names, each with its NUL, as listxattr(2); the caller frees *out. */
int object_xattr_list(struct db *db, uint64_t id, char **out, size_t *len) MUST_CHECK;

#endif
