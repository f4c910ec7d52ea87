/* Rows of `op`: the journal of operations not yet acknowledged by the origin. See meta/schema.h;
 * what they mean: cache/journal.h. */
#ifndef CACHET_META_OP_H
#define CACHET_META_OP_H

#include "meta/row.h"

struct db;

enum op_kind {
	OP_PUT = 1,  /* make or replace the record of `name` with its content and attributes */
	OP_ATTR = 2, /* mode and times */
	OP_MOVE = 3, /* to (r_parent, r_name); other = the record it replaces there, if any */
	OP_SWAP = 4, /* exchange places with other */
	OP_DELETE = 5,
};

enum op_state {
	OP_QUEUED = 0,
	OP_INFLIGHT = 1, /* sent or about to be: frozen */
	OP_REFUSED = 2,  /* the origin said no: shown, kept, dependents wait */
	OP_HELD = 3,     /* waits for a person (delete brake, journal hold) */
};

#define OP_ERROR_MAX 200

struct op_row {
	uint64_t seq;
	uint64_t store;
	enum op_kind kind;
	enum op_state state;
	uint64_t name, object;
	struct row_rid rid;
	uint8_t key[ROW_KEY_LEN];
	struct row_etag base_etag; /* "" = If-None-Match: * */
	struct row_rid r_parent;
	struct row_filename r_name;
	struct row_rid other_rid;
	struct row_etag other_etag;
	uint64_t map;
	uint32_t attempts;
	int64_t next_try_ms;
	int32_t status;
	char error[OP_ERROR_MAX + 1];
	int64_t created_ns;
};

int op_insert(struct db *db, struct op_row *op) MUST_CHECK; /* out: op->seq */
/* With the seq it has; -EEXIST. Later rows get higher ones, also after it was deleted. */
int op_restore(struct db *db, const struct op_row *op) MUST_CHECK;
int op_get(struct db *db, uint64_t seq, struct op_row *out) MUST_CHECK;
int op_update(struct db *db, const struct op_row *op) MUST_CHECK;
int op_delete(struct db *db, uint64_t seq) MUST_CHECK;
typedef int op_fn(void *arg, const struct op_row *op);
/* All, in order of seq, from seq > after; fn as name_each_fn. The callback must not change rows. */
int op_each(struct db *db, uint64_t after, op_fn *fn, void *arg) MUST_CHECK;
/* Those of one record, of one object. */
int op_each_of_rid(struct db *db, uint64_t store, const char *rid, op_fn *fn, void *arg) MUST_CHECK;
int op_each_of_object(struct db *db, uint64_t object, op_fn *fn, void *arg) MUST_CHECK;
/* The op with this idempotency key. */
int op_by_key(struct db *db, const uint8_t key[static ROW_KEY_LEN], struct op_row *out) MUST_CHECK;
/* The op that sends this snapshot; its object may be another than the snapshot's, for another file may
 * have been renamed over it meanwhile. -ENOENT. */
int op_by_map(struct db *db, uint64_t map, struct op_row *out) MUST_CHECK;
/* Highest seq ever given out, 0 if none. */
int op_last_seq(struct db *db, uint64_t *out) MUST_CHECK;

struct op_counts {
	uint64_t queued, inflight, refused, held;
	int64_t oldest_ns; /* creation of the oldest, 0 if none */
};
int op_counts(struct db *db, struct op_counts *out) MUST_CHECK;

#endif
