/* Rows of `store`, `setting`, `deferred`, `conflict`, `event`. See meta/schema.h. */
#ifndef CACHET_META_STORE_H
#define CACHET_META_STORE_H

#include "meta/row.h"

struct db;

#define STORE_REF_LEN 32 /* hex digits */
#define STORE_NAME_MAX 255
#define STORE_CURSOR_MAX 255

enum store_mode { STORE_RW = 0, STORE_RO = 1, STORE_LOCAL = 2 };

struct store_row {
	uint64_t id;
	char ref[STORE_REF_LEN + 1];
	char name[STORE_NAME_MAX + 1];
	enum store_mode mode;
	uint64_t root;
	char cursor[STORE_CURSOR_MAX + 1];
	bool listed;
	uint64_t listing;
	int64_t validated_ns;
};

int store_insert(struct db *db, struct store_row *s) MUST_CHECK;
int store_get(struct db *db, uint64_t id, struct store_row *out) MUST_CHECK;
int store_by_name(struct db *db, const char *name, struct store_row *out) MUST_CHECK;
int store_update(struct db *db, const struct store_row *s) MUST_CHECK;
typedef int store_fn(void *arg, const struct store_row *s);
int store_each(struct db *db, store_fn *fn, void *arg) MUST_CHECK;

/* Settings: small named values. Missing: -ENOENT. */
int setting_set(struct db *db, const char *key, const void *value, size_t len) MUST_CHECK;
/* Also when it is not there. */
int setting_delete(struct db *db, const char *key) MUST_CHECK;
int setting_get(struct db *db, const char *key, void *value, size_t max, size_t *len) MUST_CHECK;
int setting_set_u64(struct db *db, const char *key, uint64_t value) MUST_CHECK;
int setting_get_u64(struct db *db, const char *key, uint64_t *out) MUST_CHECK;

enum deferred_reason { DEFERRED_PARENT = 0, DEFERRED_BUSY = 1, DEFERRED_HELD = 2 };
int deferred_put(struct db *db, uint64_t store, const char *rid, enum deferred_reason reason,
	const char *parent_rid, const char *entry) MUST_CHECK;
int deferred_delete(struct db *db, uint64_t store, const char *rid) MUST_CHECK;
/* The entry of one record; the caller frees. */
int deferred_get(struct db *db, uint64_t store, const char *rid, char **entry) MUST_CHECK;
/* Entries that wait for directory `parent_rid`, or (parent_rid NULL) all with `reason`: rid and
 * entry; rows are read before fn runs, so fn may change the table. */
typedef int deferred_fn(void *arg, const char *rid, const char *entry);
int deferred_each(struct db *db, uint64_t store, enum deferred_reason reason,
	const char *parent_rid, deferred_fn *fn, void *arg) MUST_CHECK;
int deferred_count(struct db *db, enum deferred_reason reason, uint64_t *out) MUST_CHECK;

struct conflict_row {
	uint64_t id, store, object;
	uint32_t kind; /* enum conflict_kind of cache/remote.h */
	struct row_rid rid;
	char *path, *other_path; /* owned; conflict_row_done */
	int64_t created_ns, resolved_ns;
	uint64_t base;    /* a map, or 0; none once it is resolved */
	uint32_t outcome; /* enum merge_pick of cache/merge.h */
};
void conflict_row_done(struct conflict_row *c);
int conflict_insert(struct db *db, struct conflict_row *c) MUST_CHECK;
/* -ENOENT: there is no open one. Its base is the caller's. */
int conflict_resolve(struct db *db, uint64_t id, int64_t now_ns, uint32_t outcome) MUST_CHECK;
/* Its two files stand elsewhere. -ENOENT. */
int conflict_moved(
	struct db *db, uint64_t id, const char *path, const char *other_path) MUST_CHECK;
int conflict_get(struct db *db, uint64_t id, struct conflict_row *out) MUST_CHECK;
typedef int conflict_fn(void *arg, const struct conflict_row *c);
int conflict_each(struct db *db, bool open_only, conflict_fn *fn, void *arg) MUST_CHECK;
/* The open ones of an object. */
int conflict_each_of(struct db *db, uint64_t object, conflict_fn *fn, void *arg) MUST_CHECK;

/* What the unsent content of a record is based on. get: -ENOENT. */
int conflict_base_put(struct db *db, uint64_t store, const char *rid, uint64_t map) MUST_CHECK;
int conflict_base_get(struct db *db, uint64_t store, const char *rid, uint64_t *map) MUST_CHECK;
int conflict_base_delete(struct db *db, uint64_t store, const char *rid) MUST_CHECK;
/* Those of records without unsent content. Their maps are stray then. */
int conflict_base_tidy(struct db *db) MUST_CHECK;

/* Appends; hash = SHA-256(previous hash ‖ fields), docs/format.md. `detail` is JSON without names
 * or content. */
int event_append(struct db *db, int64_t time_ns, const char *kind, const char *detail) MUST_CHECK;
typedef int event_fn(void *arg, uint64_t id, int64_t time_ns, const char *kind, const char *detail);
int event_each(struct db *db, uint64_t after, event_fn *fn, void *arg) MUST_CHECK;
/* CE_TAMPER with *bad_id when the chain is broken. */
int event_verify(struct db *db, uint64_t *bad_id) MUST_CHECK;

#endif
