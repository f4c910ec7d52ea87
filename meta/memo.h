/*
 * Rows that were read last. One small operation asks for the same few again and again: the
 * directory, its name, the store, the file. Creating and closing a file made 29 such queries, about
 * 25 of which are answered here.
 *
 * It holds what the connection would answer at this moment, changes of the open transaction
 * included. So the row functions note what they read and wrote, a rollback and whatever else may
 * take rows back clears all of it (memo_clear), and while the group is lost nobody asks it
 * (db_memo). Names are kept of objects that have only one.
 *
 * Under the index lock. NULL for a memo: nothing is found, nothing is kept. Its memory is locked,
 * left out of dumps, and wiped with the connection.
 */
#ifndef CACHET_META_MEMO_H
#define CACHET_META_MEMO_H

#include "meta/name.h"
#include "meta/object.h"
#include "meta/store.h"

struct memo;

int memo_new(struct memo **out) MUST_CHECK;
void memo_free(struct memo *m);
void memo_clear(struct memo *m);

bool memo_object(const struct memo *m, uint64_t id, struct object_row *out);
void memo_put_object(struct memo *m, const struct object_row *o);
/* As object_update(): but id, store and btime. */
void memo_update_object(struct memo *m, const struct object_row *o);
void memo_drop_object(struct memo *m, uint64_t id);

bool memo_name_of(const struct memo *m, uint64_t object, struct name_row *out);
bool memo_name_by_rid(const struct memo *m, uint64_t store, const char *rid, struct name_row *out);
/* The only name of its object. */
void memo_put_name(struct memo *m, const struct name_row *n);
/* This row, and whatever is known of the object. */
void memo_drop_name(struct memo *m, uint64_t id, uint64_t object);

bool memo_store(const struct memo *m, uint64_t id, struct store_row *out);
void memo_put_store(struct memo *m, const struct store_row *s);
void memo_drop_stores(struct memo *m);

#endif
