/*
 * The records inside a frame of unsent.log, to bytes and back. Numbers are little-endian, texts and
 * bytes have a u16 length before them; the order is that of the code and of docs/format.md.
 *
 * unsent_row_put_*() append one record to a buffer. unsent_row_next() cuts the next one off a
 * frame; unsent_row_get_*() decode its body, CE_CORRUPT when it is not of the format. Threads: any.
 */
#ifndef CACHET_CACHE_UNSENT_ROW_H
#define CACHET_CACHE_UNSENT_ROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/macros.h"
#include "cache/unsent_format.h"
#include "meta/content.h"
#include "meta/name.h"
#include "meta/op.h"
#include "meta/store.h"

/* What a frame is read by. */
struct unsent_bytes {
	const uint8_t *p;
	size_t len;
};

struct unsent_volume {
	uint64_t opened;
	uint64_t op_seq, durable_seq; /* highest journal row given; known to be durable */
	struct unsent_bytes device, origin, token, store; /* borrowed; len 0 = not set */
};

/* One record: where it stands, what it is, what is to be sent. */
struct unsent_record {
	uint64_t store;
	struct row_rid rid, parent;
	bool has_name;       /* else it is deleted here: journal rows only */
	struct name_row n;   /* but id, parent, seen */
	struct object_row o; /* o.id and o.map are numbers of the index that wrote them */
	char *target;        /* symlink; owned */
	size_t target_len;
	struct op_row *ops; /* owned */
	size_t n_ops;
};
void unsent_record_done(struct unsent_record *r);
#define _cleanup_unsent_ _cleanup_(unsent_record_done)

/* A chunk map, or what changed in it: rows from `cut` on go, `puts` are set, `drops` go. */
struct unsent_content {
	uint64_t map, after; /* the frame it continues; 0: whole */
	bool has_blob;
	struct content_blob blob; /* uuid, store, alg, shift, epoch, seals, pack */
	uint64_t size, cut;
	struct content_chunk *puts; /* owned by who filled it */
	size_t n_puts;
	uint64_t *drops;
	size_t n_drops;
};
void unsent_content_done(struct unsent_content *c);

int unsent_row_put_volume(struct buffer *b, const struct unsent_volume *v) MUST_CHECK;
int unsent_row_put_store(struct buffer *b, const struct store_row *s) MUST_CHECK;
int unsent_row_put_record(struct buffer *b, const struct unsent_record *r) MUST_CHECK;
int unsent_row_put_gone(struct buffer *b, uint64_t store, const char *rid) MUST_CHECK;
int unsent_row_put_content(struct buffer *b, const struct unsent_content *c) MUST_CHECK;
int unsent_row_put_synced(struct buffer *b, uint64_t op_seq) MUST_CHECK;

/* 1: a record at *kind, *body; 0: the frame's end. */
int unsent_row_next(
	struct unsent_bytes *frame, enum unsent_kind *kind, struct unsent_bytes *body) MUST_CHECK;
int unsent_row_get_volume(struct unsent_bytes body, struct unsent_volume *v) MUST_CHECK;
int unsent_row_get_store(struct unsent_bytes body, struct store_row *s) MUST_CHECK;
/* The key alone, of a record or of one that is gone. */
int unsent_row_get_key(struct unsent_bytes body, uint64_t *store, struct row_rid *rid) MUST_CHECK;
int unsent_row_get_record(struct unsent_bytes body, struct unsent_record *r) MUST_CHECK;
int unsent_row_get_content(struct unsent_bytes body, struct unsent_content *c) MUST_CHECK;
int unsent_row_get_synced(struct unsent_bytes body, uint64_t *op_seq) MUST_CHECK;

#endif
