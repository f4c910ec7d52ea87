/*
 * Steps on rows that tree*.c, remote*.c and outbox*.c share. For cache/ only. All but tree_row_end
 * run under the index lock; those that change rows inside a transaction.
 */
#ifndef CACHET_CACHE_TREE_PRIV_H
#define CACHET_CACHE_TREE_PRIV_H

#include "cache/volume_priv.h"

#define TREE_LINK_MAX 65000
/* No object: the directory of names that have no place at the moment (remote_place.c, exchanges).
 * Nobody can list it. */
#define TREE_NOWHERE 0
#define TREE_DEPTH_MAX 10000

/* Ends the transaction: commits when r is 0, else rolls back; files of dropped content go
 * accordingly. Returns the result. */
int tree_row_end(struct volume *v, int r) MUST_CHECK;

void tree_row_attr(struct volume *v, const struct object_row *o, struct tree_attr *a);
/* -ENAMETOOLONG, -ENOENT (empty), -EINVAL. */
int tree_row_filename(struct row_filename *f, const char *name) MUST_CHECK;
bool tree_row_same_name(const struct row_filename *a, const struct row_filename *b);
/* A directory that has a name: -ENOENT, -ENOTDIR. */
int tree_row_dir(struct volume *v, uint64_t object, struct object_row *out) MUST_CHECK;
/* The same, and entries may change in it: -EPERM for the stores' root, -EROFS. */
int tree_row_dir_rw(struct volume *v, uint64_t object, struct object_row *out) MUST_CHECK;
/* Entries changed: times and nlink. */
int tree_row_touch(struct volume *v, struct object_row *dir, int nlink, int64_t now) MUST_CHECK;

/* The id a record in this directory gives as its parent: "root", the directory's, or "" when an
 * origin does not see it. */
int tree_row_rid(struct volume *v, uint64_t store, uint64_t dir, struct row_rid *out) MUST_CHECK;
/* True when `object` is `ancestor` or lies below it. -ELOOP beyond TREE_DEPTH_MAX. */
int tree_row_below(struct volume *v, uint64_t object, uint64_t ancestor, bool *out) MUST_CHECK;
/* The first name of an object. */
int tree_row_name_of(struct volume *v, uint64_t object, struct name_row *out) MUST_CHECK;
/* All names of an object / entries of a directory; the caller frees. */
int tree_row_names_of(
	struct volume *v, uint64_t object, struct name_row **rows, size_t *n) MUST_CHECK;
int tree_row_entries(struct volume *v, uint64_t dir, struct name_row **rows, size_t *n) MUST_CHECK;

/* Deletes the name, and its object when this was the last one and nobody holds it. Parents are the
 * caller's. */
int tree_row_unname(
	struct volume *v, const struct name_row *n, struct object_row *o, int64_t now) MUST_CHECK;
/* The object lost `n` (its row is already gone or of another object). */
int tree_row_unlinked(
	struct volume *v, const struct name_row *n, struct object_row *o, int64_t now) MUST_CHECK;
/* Content and row of an object without names. */
int tree_row_remove(struct volume *v, const struct object_row *o) MUST_CHECK;

/* The state `from` of the record that the content came with is now called `to` ("" = it is at no
 * origin any more). */
int tree_row_map_etag(
	struct volume *v, const struct object_row *o, const char *from, const char *to) MUST_CHECK;
/* Whether all content of the object is here. */
int tree_row_whole(struct volume *v, const struct object_row *o, bool *out) MUST_CHECK;
/* The content stands at no origin: it must not be evicted. */
int tree_row_own_content(struct volume *v, const struct object_row *o) MUST_CHECK;

/* The path from the mount's root; -ENOENT when the object has no place. */
int tree_path_locked(struct volume *v, uint64_t object, char **out) MUST_CHECK;

#endif
