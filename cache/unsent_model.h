/*
 * What unsent.log says, read as a whole: the last word on each record, and the chunk maps as they
 * stand after all changes. For unsent_restore.c. Threads: one.
 */
#ifndef CACHET_CACHE_UNSENT_MODEL_H
#define CACHET_CACHE_UNSENT_MODEL_H

#include "base/secret.h"
#include "cache/table.h"
#include "cache/unsent_row.h"

struct model_store {
	struct store_row s; /* s.id: the number in the log */
	uint64_t id, root;  /* here; unsent_restore.c */
	struct model_store *next;
};

struct model_key {
	uint64_t store;
	struct row_rid rid;
};

/* Kept encoded: it is decoded when it is put back. */
struct model_record {
	struct model_key key, parent;
	uint8_t *body;
	size_t len;
	uint64_t object; /* here, once put back */
	bool done, bad;  /* put back; its content is not whole */
	UT_hash_handle hh;
};

struct model_map {
	uint64_t map, seq;
	struct unsent_content c; /* whole: puts by idx; no drops */
	size_t room;
	bool broken; /* a change of it is missing */
	UT_hash_handle hh;
};

struct model {
	struct secret *settings; /* what `volume` borrows */
	struct unsent_volume volume;
	struct model_store *stores;
	struct model_record *records;
	struct model_map *maps;
	uint64_t op_seq; /* no journal row was given a higher number, as far as is known */
	bool damaged;
};

/* `copies` may be NULL. */
struct unsent_copies;
int unsent_model_load(int dirfd, const struct secret *key, const struct unsent_copies *copies,
	struct model *out) MUST_CHECK;
void unsent_model_done(struct model *m);
struct model_store *unsent_model_store(const struct model *m, uint64_t number);
struct model_record *unsent_model_record(const struct model *m, const struct model_key *key);
struct model_map *unsent_model_map(const struct model *m, uint64_t map);

/* Of the index that wrote the log: how often it was opened, and a journal row it had durably. */
int unsent_model_peek(
	int dirfd, const struct secret *key, uint64_t *opened, uint64_t *op_seq) MUST_CHECK;

#endif
