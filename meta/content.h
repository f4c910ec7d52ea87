/* Rows of `blob`, `map`, `chunk`, `undo_map`, `undo_chunk`: content. See meta/schema.h. */
#ifndef CACHET_META_CONTENT_H
#define CACHET_META_CONTENT_H

#include "meta/row.h"

struct db;

#define CONTENT_UUID_LEN 16
#define CONTENT_NONCE_MAX 24
#define CONTENT_TAG_LEN 16
#define CONTENT_TAGS_MAX 2

struct content_blob {
	uint64_t id;
	uint8_t uuid[CONTENT_UUID_LEN];
	uint64_t store;
	uint32_t alg;
	uint32_t shift;
	uint64_t epoch;
	uint64_t seals;
	uint64_t alloc_bytes;
	bool pack; /* small files share it */
};

enum content_map_state {
	CONTENT_MAP_CURRENT = 0,
	CONTENT_MAP_SNAPSHOT = 1,
	CONTENT_MAP_SUPERSEDED = 2
};

struct content_map {
	uint64_t id;
	uint64_t blob; /* 0 = none yet */
	uint64_t object;
	uint64_t size;
	bool whole;
	enum content_map_state state;
	struct row_etag etag;
	int64_t used_s;
	bool pinned;
};

/* Of nothing, nothing is missing. */
static inline bool content_map_is_whole(const struct content_map *m)
{
	return m->whole || !m->size;
}

/* Clean content that may go. */
struct content_evictable {
	uint64_t map, blob;
	int64_t used_s;
	uint64_t bytes;
};

struct content_chunk {
	uint64_t idx;
	uint64_t slot;
	uint32_t len;
	uint64_t seq;
	uint8_t nonce[CONTENT_NONCE_MAX];
	unsigned n_tags; /* 1, or the number of its blocks (cache/blob.h) */
	uint8_t tags[CONTENT_TAGS_MAX][CONTENT_TAG_LEN];
};

struct content_undo {
	uint64_t map, gen;
	uint64_t blob;
	uint64_t size;
	bool whole;
	int64_t mtime_ns;
};

int content_blob_insert(struct db *db, struct content_blob *b) MUST_CHECK;
int content_blob_get(struct db *db, uint64_t id, struct content_blob *out) MUST_CHECK;
/* `seals` and `alloc_bytes`: nothing else of a blob changes. */
int content_blob_update(struct db *db, const struct content_blob *b) MUST_CHECK;
int content_blob_delete(struct db *db, uint64_t id) MUST_CHECK;
/* Whether a map or an undo row names the blob. */
int content_blob_is_used(struct db *db, uint64_t id, bool *out) MUST_CHECK;
/* The first `max` with an id above `after`, by id. */
int content_blob_list(struct db *db, uint64_t after, struct content_blob *rows, size_t max,
	size_t *n) MUST_CHECK;
int content_blob_total(struct db *db, uint64_t *alloc_bytes) MUST_CHECK;
/* The fullest pack of the store with less than that; -ENOENT. */
int content_blob_pack(struct db *db, uint64_t store, uint64_t less_alloc_bytes, uint64_t less_seals,
	struct content_blob *out) MUST_CHECK;

int content_map_insert(struct db *db, struct content_map *m) MUST_CHECK;
int content_map_get(struct db *db, uint64_t id, struct content_map *out) MUST_CHECK;
/* All columns but id and pinned. */
int content_map_update(struct db *db, const struct content_map *m) MUST_CHECK;
int content_map_pin(struct db *db, uint64_t id, bool pinned) MUST_CHECK;
/* Ids > after of pinned maps, at most max; walks the table. Returns the count. */
int content_map_pinned(struct db *db, uint64_t after, uint64_t *ids, size_t max) MUST_CHECK;
/* With its chunk and undo rows. */
int content_map_delete(struct db *db, uint64_t id) MUST_CHECK;
/* A copy of map and chunk rows in `state`; *out is its id. Same blob, same slots. */
int content_map_clone(
	struct db *db, uint64_t id, enum content_map_state state, uint64_t *out) MUST_CHECK;
/* Ids > after of current maps with content, at most max. Returns the count. */
int content_map_after(struct db *db, uint64_t after, uint64_t *ids, size_t max) MUST_CHECK;
/* The same in any state. */
int content_map_after_any(struct db *db, uint64_t after, uint64_t *ids, size_t max) MUST_CHECK;
/* Ids of maps in state snapshot or superseded (garbage after a crash unless an op names it); at
 * most max. Returns the count. */
int content_map_stray(struct db *db, uint64_t *ids, size_t max) MUST_CHECK;
/* The maps of the object with chunks in the blob: those that can share slots. */
int content_map_sharing(struct db *db, uint64_t blob, uint64_t object, uint64_t *ids, size_t max,
	size_t *n) MUST_CHECK;
/* Notes the time of use, if the one that is there is older by a minute. */
int content_map_used(struct db *db, uint64_t id, int64_t used_s) MUST_CHECK;
/*
 * Maps that may go, least recently used first, after (used_s, id): current, clean (an etag, no op of the
 * object, no undo rows), not pinned, slots shared with no other map. At most `max`. The first: is this one of them? -ENOENT.
 */
int content_map_may_go(struct db *db, uint64_t id, struct content_evictable *out) MUST_CHECK;
int content_map_evictable(struct db *db, int64_t after_used_s, uint64_t after_id,
	struct content_evictable *rows, size_t max, size_t *n) MUST_CHECK;

int content_chunk_put(struct db *db, uint64_t map, const struct content_chunk *c) MUST_CHECK;
int content_chunk_get(
	struct db *db, uint64_t map, uint64_t idx, struct content_chunk *out) MUST_CHECK;
int content_chunk_delete(struct db *db, uint64_t map, uint64_t idx) MUST_CHECK;
/* idx >= from. */
int content_chunk_delete_from(struct db *db, uint64_t map, uint64_t from) MUST_CHECK;
/* The first `max` by seq. */
int content_chunk_oldest(struct db *db, uint64_t map, struct content_chunk *rows, size_t max,
	size_t *n) MUST_CHECK;
typedef int content_chunk_fn(void *arg, const struct content_chunk *c);
/* By idx, from `from` to the end; fn as name_each_fn. */
int content_chunk_each(
	struct db *db, uint64_t map, uint64_t from, content_chunk_fn *fn, void *arg) MUST_CHECK;
/* Counts no further than `most`. */
int content_chunk_count(struct db *db, uint64_t map, uint64_t most, uint64_t *out) MUST_CHECK;
/* Chunk rows, undo rows and bytes of content with a lower sequence number. Looks at all rows. */
struct content_old {
	uint64_t chunks, undo, bytes;
};
int content_chunk_old(struct db *db, uint64_t seq, struct content_old *out) MUST_CHECK;

/* Keeps what is there if (map, gen) already has a row: the state at the start of the generation
 * counts. */
int content_undo_put(struct db *db, const struct content_undo *u) MUST_CHECK;
/* The content is the origin's, and parts are or, as far as is durable, may be not here. */
int content_undo_partial(struct db *db, uint64_t map, bool *out) MUST_CHECK;
/* Of a map that is being cloned and has no chunk rows yet: those that are not synced are named, with
 * nothing to go back to. */
int content_undo_clone(struct db *db, uint64_t from, uint64_t map) MUST_CHECK;
/* Saves the current row of (map, idx), or that there is none, under `gen`; keeps an existing one.
 */
int content_undo_chunk(struct db *db, uint64_t map, uint64_t gen, uint64_t idx) MUST_CHECK;
/* The same for all idx >= from. */
int content_undo_chunks_from(struct db *db, uint64_t map, uint64_t gen, uint64_t from) MUST_CHECK;
/* After the sync of generation gen: its rows and older ones go. */
int content_undo_forget(struct db *db, uint64_t gen) MUST_CHECK;
/* For recovery: maps with undo rows, newest generation first within a map; at most max. */
int content_undo_list(struct db *db, struct content_undo *rows, size_t max, size_t *n) MUST_CHECK;
typedef int content_undo_fn(void *arg, bool present, const struct content_chunk *c);
/* The chunks saved under (map, gen); `c->idx` is valid also when !present. */
int content_undo_each(
	struct db *db, uint64_t map, uint64_t gen, content_undo_fn *fn, void *arg) MUST_CHECK;
/* Puts (map, gen) back into map and chunk rows and drops its undo rows; the object's size and mtime
 * are the caller's. */
int content_undo_apply(struct db *db, uint64_t map, uint64_t gen) MUST_CHECK;
/* Every slot of `blob` that any map's chunk or undo row names, with length and sequence number
 * of its chunk. */
typedef int content_slot_fn(void *arg, uint64_t slot, uint32_t len, uint64_t seq);
int content_slots(struct db *db, uint64_t blob, content_slot_fn *fn, void *arg) MUST_CHECK;

#endif
