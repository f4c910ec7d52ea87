/*
 * Rows that were read last. One small operation asks for the same few again and again: the
 * directory, its name, the store, the file, its content, the journal's rows of its record.
 *
 * It holds what the connection would answer at this moment, changes of the open transaction
 * included. So the row functions note what they read and wrote, a rollback and whatever else may
 * take rows back clears all of it (memo_clear), and while the group is lost nobody asks it
 * (db_memo). At most one name of an object is kept, and rows of the journal of records that have
 * one or none.
 *
 * Under the index lock. NULL for a memo: nothing is found, nothing is kept. Its memory is locked,
 * left out of dumps, and wiped with the connection.
 */
#ifndef CACHET_META_MEMO_H
#define CACHET_META_MEMO_H

#include "meta/content.h"
#include "meta/name.h"
#include "meta/object.h"
#include "meta/op.h"
#include "meta/store.h"

struct memo;

int memo_new(struct memo **out) MUST_CHECK;
void memo_free(struct memo *m);
void memo_clear(struct memo *m);

bool memo_object(const struct memo *m, uint64_t id, struct object_row *out);
/* It was made, and has no name yet. */
void memo_made_object(struct memo *m, const struct object_row *o);
void memo_put_object(struct memo *m, const struct object_row *o);
/* As object_update(): but id, store and btime. */
void memo_update_object(struct memo *m, const struct object_row *o);
void memo_drop_object(struct memo *m, uint64_t id);

/* The only name of the object. */
bool memo_name_of(const struct memo *m, uint64_t object, struct name_row *out);
bool memo_name_by_rid(const struct memo *m, uint64_t store, const char *rid, struct name_row *out);
bool memo_name_at(
	const struct memo *m, uint64_t parent, const void *name, size_t len, struct name_row *out);
/* `only`: its object has no other. */
void memo_put_name(struct memo *m, const struct name_row *n, bool only);
/* One more than it had. */
void memo_add_name(struct memo *m, const struct name_row *n);
void memo_update_name(struct memo *m, const struct name_row *n);
/* This row, and whatever is known of the object. */
void memo_drop_name(struct memo *m, uint64_t id, uint64_t object);

bool memo_store(const struct memo *m, uint64_t id, struct store_row *out);
void memo_put_store(struct memo *m, const struct store_row *s);
void memo_drop_stores(struct memo *m);

bool memo_map(const struct memo *m, uint64_t id, struct content_map *out);
void memo_put_map(struct memo *m, const struct content_map *c);
/* As content_map_update(): but `pinned`. */
void memo_update_map(struct memo *m, const struct content_map *c);
void memo_drop_map(struct memo *m, uint64_t id);

bool memo_blob(const struct memo *m, uint64_t id, struct content_blob *out);
void memo_put_blob(struct memo *m, const struct content_blob *b);
void memo_drop_blob(struct memo *m, uint64_t id);

/* True: it is known what the record has; out->seq 0: none. */
bool memo_op_of(const struct memo *m, uint64_t store, const char *rid, struct op_row *out);
bool memo_op(const struct memo *m, uint64_t seq, struct op_row *out);
/* The only one of this record; with seq 0, it has none. */
void memo_put_op(struct memo *m, const struct op_row *op);
/* One more than it had. */
void memo_add_op(struct memo *m, const struct op_row *op);
void memo_update_op(struct memo *m, const struct op_row *op);
/* This row, and whatever is known of the record. */
void memo_drop_op(struct memo *m, uint64_t seq, uint64_t store, const char *rid);

#endif
