/*
 * Pins: patterns (cache/walk.h) of what is to be here always: fetched at once, never evicted; what
 * appears under a pattern later, too. Patterns belong to sets: "" is that of `cachet pin`, others
 * are working sets that were recorded.
 *
 *     pin_add(v, set, patterns, n, &need)   // -ENOSPC: more than space_content_max() (`need`
 * bytes) pin_apply(v, &state, &any)            // marks what is pinned now, unmarks what is not
 *     pin_missing(v, fn, arg)               // pinned files that are not all here
 *
 * A pattern is a path: a file that is moved away from under it is not pinned any more. The marks
 * (map.pinned in the index) are what eviction obeys; they follow the patterns at the next
 * pin_apply(), which whoever fetches calls after names changed (sync/pinned.c). New content of a
 * pinned file is pinned from its first byte. Patterns are a setting of the index: sealed, as
 * durable as a commit, and lost with the index.
 *
 * Threads: any.
 */
#ifndef CACHET_CACHE_PIN_H
#define CACHET_CACHE_PIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "cache/volume.h"
#include "cache/walk.h"

#define PIN_SET_MAX 64
#define PIN_TEXT_MAX (1u << 20) /* all patterns together; CE_TOO_LARGE */

/* Patterns that are there already stay. Refused as a whole: nothing is added. *need (may be NULL)
 * is set when -ENOSPC. */
int pin_add(struct volume *v, const char *set, const char *const *patterns, size_t n,
	uint64_t *need) MUST_CHECK;
/* The set goes and gets these patterns, as pin_add. */
int pin_replace(struct volume *v, const char *set, const char *const *patterns, size_t n,
	uint64_t *need) MUST_CHECK;
/* pattern NULL: the whole set. -ENOENT. */
int pin_remove(struct volume *v, const char *set, const char *pattern) MUST_CHECK;

/* 0 to go on, 1 to stop, < 0 to fail. No lock is held. */
typedef int pin_fn(void *arg, const char *set, const char *pattern);
int pin_each(struct volume *v, pin_fn *fn, void *arg) MUST_CHECK;

/* Of files under all patterns, each counted once. */
struct pin_state {
	uint64_t files, bytes, missing_files, missing_bytes;
	uint64_t idle; /* patterns that match nothing */
};
/* *any: whether there were patterns at this call or the last one; if not, nothing was looked at.
 * Initially true. */
int pin_apply(struct volume *v, struct pin_state *out, bool *any) MUST_CHECK;
/* The same without marking anything, of one set and one pattern of it; NULL: all. */
int pin_look(
	struct volume *v, const char *set, const char *pattern, struct pin_state *out) MUST_CHECK;
int pin_missing(struct volume *v, walk_fn *fn, void *arg) MUST_CHECK;
/* Is the object's content marked? */
bool pin_is(struct volume *v, uint64_t object);

#endif
