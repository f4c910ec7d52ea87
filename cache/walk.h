/*
 * Regular files by pattern, for pins, warm and free. A pattern is a path below the mount's root
 * whose components may have the wildcards of fnmatch(3) (which do not match a leading '.'); a
 * component ** stands for any number of directories. It means what it matches and, of directories,
 * all that is below. "" is everything.
 *
 * A file may be told twice when two ways lead to it. The index lock is held for a few hundred rows
 * at a time and not while `fn` runs: what changes meanwhile is told as it was or as it is.
 */
#ifndef CACHET_CACHE_WALK_H
#define CACHET_CACHE_WALK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "cache/volume.h"

struct walk_file {
	uint64_t object, version, store, size, map;
	bool whole; /* all of its content is here */
};

/* 0 to go on, 1 to stop, < 0 to fail. */
typedef int walk_fn(void *arg, const struct walk_file *f);
/* *matched (may be NULL): how many names the pattern itself matches. CE_ABSENT: the store to mount
 * is not known yet. */
int walk_pattern(struct volume *v, const char *pattern, walk_fn *fn, void *arg,
	uint64_t *matched) MUST_CHECK;

/* Of the entries of a directory. */
enum walk_order {
	WALK_BY_AGE, /* as readdir tells them */
	WALK_BY_NAME /* as a shell sorts them in the C locale */
};
/* The other files of the object's directory, those that come after it first; whole ones included. */
int walk_siblings(struct volume *v, uint64_t object, enum walk_order order, walk_fn *fn,
	void *arg) MUST_CHECK;
/* The directory an object lies in; -ENOENT. */
int walk_parent(struct volume *v, uint64_t object, uint64_t *dir) MUST_CHECK;

/* `path` with what fnmatch would take for wildcards escaped; the caller frees. */
char *walk_escape(const char *path);

#endif
