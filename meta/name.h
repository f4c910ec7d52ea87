/* Rows of `name`: directory entries and what the origin knows of them. See meta/schema.h. */
#ifndef CACHET_META_NAME_H
#define CACHET_META_NAME_H

#include "meta/object.h"
#include "meta/row.h"

struct db;

/* What the name of a conflict copy has in it (cache/conflict.c); the index finds those that do. */
#define NAME_COPY_MARK " (conflict "

struct name_row {
	uint64_t id;
	uint64_t store;
	uint64_t parent;
	struct row_filename name;
	uint64_t object;
	struct row_rid rid;
	struct row_etag etag;
	bool has_sha256;
	uint8_t sha256[ROW_SHA256_LEN];
	struct row_rid r_parent;
	struct row_filename r_name; /* len 0 = NULL */
	uint64_t seen;
};

/* Gives it an id (out: n->id). -EEXIST: the place is taken. */
int name_insert(struct db *db, struct name_row *n) MUST_CHECK;
int name_get(struct db *db, uint64_t id, struct name_row *out) MUST_CHECK;
int name_find(struct db *db, uint64_t parent, const void *name, size_t len,
	struct name_row *out) MUST_CHECK;
int name_by_rid(struct db *db, uint64_t store, const char *rid, struct name_row *out) MUST_CHECK;
/* The entry's object in the same query. */
int name_lookup(struct db *db, uint64_t parent, const void *name, size_t len,
	struct object_row *out) MUST_CHECK;
/* All columns but id. -EEXIST as above. */
int name_update(struct db *db, const struct name_row *n) MUST_CHECK;
int name_delete(struct db *db, uint64_t id) MUST_CHECK;

/* Calls fn for each entry of `parent` with id > after, by id; fn returns 0 to go on, 1 to stop, < 0
 * to fail. */
typedef int name_each_fn(void *arg, const struct name_row *n, const struct object_row *o);
int name_each(
	struct db *db, uint64_t parent, uint64_t after, name_each_fn *fn, void *arg) MUST_CHECK;
/* The same by name (memcmp), those > `after`. */
int name_each_by_name(struct db *db, uint64_t parent, const void *after, size_t len,
	name_each_fn *fn, void *arg) MUST_CHECK;
/* Calls fn for each name of an object (o is NULL). */
int name_each_of(struct db *db, uint64_t object, name_each_fn *fn, void *arg) MUST_CHECK;
/* Calls fn for each name with NAME_COPY_MARK (o is NULL). */
int name_each_copy(struct db *db, name_each_fn *fn, void *arg) MUST_CHECK;
/* Entries of `store` known at the origin (etag set) with seen < generation, at most `max`, by id >
 * after, for the end of a full listing. */
int name_unseen(struct db *db, uint64_t store, uint64_t generation, uint64_t after,
	struct name_row *rows, size_t max, size_t *n) MUST_CHECK;
/* 1 when `parent` has an entry, 0 when empty. */
int name_any(struct db *db, uint64_t parent) MUST_CHECK;
/* Names known at the origin in this store. */
int name_count(struct db *db, uint64_t store, uint64_t *out) MUST_CHECK;

#endif
