/*
 * What the origin says, applied to the volume: stores, records, tombstones, complete listings.
 *
 * Unknown is never absent (promise P3): nothing here removes a file but a tombstone, the end of a complete listing
 * or remote_gone(), and each is given by the caller only on the origin's own word.
 *
 * remote_apply() takes one page of a feed and its cursor in one transaction. An entry
 *   - that carries the key of an operation in flight is its acknowledgement (our own echo);
 *   - with the ETag we already have changes nothing;
 *   - of a clean object replaces attributes, place and, when the content differs (sha256), the version: open
 *     handles keep the old one;
 *   - whose parent is not known yet, or whose object has a writer or uncommitted data, waits in `deferred`;
 *   - of an object with unsent operations is left for the outbox to meet as 412 (remote_settle);
 *   - whose place is taken by a local file that was never sent: the origin's record takes the name, the local one becomes a conflict copy.
 * Own names are changed before the observer hears of it.
 *
 * Threads: one applier per store (the sync thread); readers go on.
 */
#ifndef CACHET_CACHE_REMOTE_H
#define CACHET_CACHE_REMOTE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "base/macros.h"
#include "cache/volume.h"

struct remote_record {
	char id[65], parent[65], etag[65];
	char name[256];
	enum { REMOTE_FILE, REMOTE_DIR, REMOTE_SYMLINK } kind;
	uint64_t size, seq;
	uint32_t mode;
	int64_t mtime_ns;
	bool has_sha256, has_key, deleted;
	uint8_t sha256[32];
	uint8_t key[16];
	/* Symlinks: the target is content; fetched by the caller before the entry is applied. */
	char *target; /* owned by the caller, or NULL */
};

/* From the JSON of docs/protocol.md; CE_PROTOCOL names nothing: a record that breaks a rule is refused whole. Strict on names and sizes. */
int remote_record_parse(const struct json *in, struct remote_record *out) MUST_CHECK;
/* The same as JSON text (for deferred entries); the caller frees. */
int remote_record_print(const struct remote_record *r, char **out) MUST_CHECK;

struct remote_store {
	uint64_t id;
	char name[256];
	bool read_only, local, listed;
	bool listing; /* a listing is under way: go on from the cursor, then remote_listing_end */
	char cursor[256];
	int64_t validated_ns; /* the origin last said what is in it; 0 = never */
};
/* Makes the store known (a directory of its name, a CEK) or updates its mode. */
int remote_store_add(struct volume *v, const char *name, bool read_only, uint64_t *id) MUST_CHECK;
typedef int remote_store_fn(void *arg, const struct remote_store *s);
int remote_stores(struct volume *v, remote_store_fn *fn, void *arg) MUST_CHECK;

/* What the origin is known to have of an object: the record of the first of its names that it has. -ENODATA: none (never sent, or local only). */
struct remote_known {
	char store[256], rid[65], etag[65];
};
int remote_known(struct volume *v, uint64_t object, struct remote_known *out) MUST_CHECK;
/* Where a record is here, from the mount's root (the caller frees *path), and the state at the origin it is based on, "" = not there yet. -ENOENT. */
int remote_find(struct volume *v, const char *store, const char *rid, char **path, char etag[static 65]) MUST_CHECK;

struct remote_report {
	uint64_t applied, echoes, deferred, conflicts, removed;
	uint64_t held; /* deletions held by the brake: nothing of this page was applied if > 0 */
};

/*
 * Removing more than 10 records and more than 20 % of a store in one pass is held (CE_HELD) unless allow_deletes. -ENOSPC: what the page
 * adds does not fit the bound, and nothing can go. Nothing of the page was applied then. No lock held.
 */
int remote_apply(struct volume *v, uint64_t store, const struct remote_record *records, size_t n,
	const char *cursor, bool allow_deletes, struct remote_report *report) MUST_CHECK;
/* A listing from nothing: begin before its first page (the cursor is reset), end after its last: what it did not have and
 * has no unsent work goes (brake as above). A listing that does not end changes nothing. */
int remote_listing_begin(struct volume *v, uint64_t store) MUST_CHECK;
int remote_listing_end(struct volume *v, uint64_t store, bool allow_deletes, struct remote_report *report) MUST_CHECK;
/* The store was found unchanged now. */
int remote_validated(struct volume *v, uint64_t store) MUST_CHECK;
/* Applies deferred entries whose object is free again. report->deferred: how many wait still. */
int remote_retry_deferred(struct volume *v, struct remote_report *report) MUST_CHECK;

#endif
