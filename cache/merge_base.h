/*
 * What both sides of a later merge began with: while a file has unsent content, a snapshot of the
 * content it was based on. It pins its slots and costs nothing else. Kept only for files whose rule
 * asks for a merge, that were wholly here and are at most MERGE_MAX_BYTES; without it there is no
 * merge. Under the index lock, inside the transaction.
 *
 *     merge_base_keep    the clean content of a record is about to be changed, or to be replaced by
 * another file's merge_base_sent    a PUT was acknowledged: what was sent is the base of what is
 * not sent yet merge_base_renamed the origin's state got another ETag with the same content: the
 * map's ETag says which state a base is of merge_base_take    a conflict takes it over; 0 = there
 * is none
 */
#ifndef CACHET_CACHE_MERGE_BASE_H
#define CACHET_CACHE_MERGE_BASE_H

#include "cache/volume_priv.h"

/* For all names of the object. */
int merge_base_keep(struct volume *v, const struct object_row *o) MUST_CHECK;
/* It is `etag` there now. Takes the snapshot out of *put when it is needed. */
int merge_base_sent(struct volume *v, struct op_row *put, const char *etag) MUST_CHECK;
/* The state at the origin that has the base's content is now called `etag`. */
int merge_base_renamed(
	struct volume *v, uint64_t store, const char *rid, const char *etag) MUST_CHECK;
/* Only if it is the content of the state `etag`. */
int merge_base_take(struct volume *v, uint64_t store, const char *rid, const char *etag,
	uint64_t *map) MUST_CHECK;
/* The record has no unsent content any more. */
int merge_base_drop(struct volume *v, uint64_t store, const char *rid) MUST_CHECK;
/* What the file's name in its store says; NULL: both sides are kept. */
int merge_base_rule(
	struct volume *v, const struct name_row *n, const struct merge_rule **out) MUST_CHECK;

#endif
