/* The body of struct unsent, for unsent.c and unsent_frame.c. */
#ifndef CACHET_CACHE_UNSENT_PRIV_H
#define CACHET_CACHE_UNSENT_PRIV_H

#include <pthread.h>
#include <string.h>

#include "cache/table.h"
#include "cache/unsent_log.h"
#include "cache/unsent_row.h"
#include "cache/volume_priv.h"

/* A record of the origin. */
struct unsent_id {
	uint64_t store;
	struct row_rid rid;
};

struct unsent_touched {
	struct unsent_id key;
	UT_hash_handle hh;
};

/* A record the log has, with the maps its last frame speaks of. */
struct unsent_logged {
	struct unsent_id key;
	uint64_t bytes, maps[2];
	UT_hash_handle hh;
};

struct unsent_logged_map {
	uint64_t map, seq, bytes;
	UT_hash_handle hh;
};

struct unsent_delta {
	struct unsent_content c;
	struct unsent_delta *next;
};

struct unsent {
	struct secret *key;
	struct secret *other; /* the log on disk may still be sealed under it; or NULL */ /* of the log */
	bool on;
	/* Index lock. */
	struct unsent_touched *touched;
	struct unsent_delta *deltas;
	bool appended, failed; /* in this transaction */
	struct unsent_logged *records;
	struct unsent_logged_map *maps;
	uint64_t stores[16]; /* told in this file; the others are told again */
	size_t n_stores;
	uint64_t live;
	uint64_t seq; /* of the frame that is put together */

	pthread_mutex_t sync_lock; /* leaf; held while the log is synced: before `lock` */
	pthread_mutex_t lock;      /* leaf: all below */
	struct unsent_log *log;
	bool broken;
	uint64_t beside; /* bytes of one that is being made */
	uint64_t op_seq; /* told to be durable */
};

static inline struct unsent_id unsent_id_of(uint64_t store, const char *rid)
{
	struct unsent_id k;

	memset(&k, 0, sizeof(k)); /* it is hashed with its padding */
	k.store = store;
	memcpy(k.rid.text, rid, strnlen(rid, ROW_RID_MAX));
	return k;
}

/* --- unsent_frame.c: under the index lock; what they note in struct unsent holds if the frame is
 * written --- */
/* What a log begins with. */
int unsent_frame_volume(struct volume *v, struct buffer *b) MUST_CHECK;
/* The record as it is, and each directory above it that the log does not have. */
int unsent_frame_record(
	struct volume *v, struct buffer *b, const struct unsent_id *record) MUST_CHECK;
/* The log does not have the map any more. */
void unsent_frame_forget_map(struct unsent *u, uint64_t map);

#endif
