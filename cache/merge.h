/*
 * Settling a conflict that was kept as two files: the origin's under the name, ours under the
 * conflict name.
 *
 *     merge_next → merge_open → (reads base, ours, theirs) → merge_take → merge_free
 *
 * merge_take() is one transaction: the name gets the content that was picked, as a local change
 * based on the origin's version (so it is sent conditionally as any, and may become the next
 * conflict), the conflict copy goes, the conflict is resolved. A crash leaves both files and the
 * conflict, or the outcome. Nothing happens when one of the two was changed since merge_open(), has
 * a writer, or is on its way to the origin under the name: -EBUSY, try later.
 *
 * Conflicts with one side only (a deletion that lost, a move that was given up) know MERGE_BOTH,
 * and where the other side was a deletion, what carries it out.
 *
 * Threads: any. A struct merge belongs to one.
 */
#ifndef CACHET_CACHE_MERGE_H
#define CACHET_CACHE_MERGE_H

#include <stdint.h>

#include "base/macros.h"
#include "cache/file.h"
#include "cache/merge_rule.h"
#include "cache/volume.h"

/* Beyond it nothing is kept for a merge, and nothing merged. */
#define MERGE_MAX_BYTES (4u << 20)

enum merge_pick {
	MERGE_PICK_BOTH = 0, /* two files; the copy's name is a copy's no more */
	MERGE_PICK_OURS,
	MERGE_PICK_THEIRS,
	MERGE_PICK_MERGED, /* the content given */
	MERGE_PICKS,
	MERGE_PICK_ELSEWHERE = MERGE_PICKS, /* an outcome only: no file has the copy's name any more */
};
/* "both", "ours", "theirs", "merged", "elsewhere" */
const char *merge_pick_name(enum merge_pick pick);
/* -ENOENT for a word that is none. */
int merge_pick(const char *name, enum merge_pick *out) MUST_CHECK;

struct merge;

/* The first open conflict that this device met, with a number above `after` that has a rule other than keep-both;
 * -ENOENT. */
int merge_next(struct volume *v, uint64_t after, uint64_t *id) MUST_CHECK;
/* Counts the conflicts that were noted since the volume was opened. */
uint64_t merge_noted(struct volume *v);

/* -ENOENT: no open conflict has that number. */
int merge_open(struct volume *v, uint64_t id, struct merge **out) MUST_CHECK;
void merge_free(struct merge *m);
void merge_freep(struct merge **m);

const struct merge_rule *merge_rule_of(const struct merge *m); /* NULL: keep both */
const char *merge_name_of(const struct merge *m);              /* the last name */
/* Borrowed. Both NULL unless both sides are files; base NULL: it is not known. Theirs may have to
 * be fetched. */
struct file *merge_base_of(const struct merge *m);
struct file *merge_ours_of(const struct merge *m);
struct file *merge_theirs_of(const struct merge *m);

/* The two files stay: the copy, which had waited for this, is sent now. */
int merge_leave(struct merge *m) MUST_CHECK;
/* `content` is of MERGE_PICK_MERGED. -EBUSY; -EINVAL: this conflict has no such side. */
int merge_take(struct merge *m, enum merge_pick pick, const void *content, size_t len) MUST_CHECK;

#endif
