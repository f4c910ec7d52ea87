/*
 * Entries of an archive onto the disk. No symbolic link is followed and nothing is replaced: what
 * an archive of anyone can do is make new files below one directory. Missing directories are made.
 */
#ifndef CACHET_CLI_VIEW_EXTRACT_H
#define CACHET_CLI_VIEW_EXTRACT_H

#include "base/macros.h"
#include "cli/sealed_file.h"

/* -EEXIST when there is something already (but a directory for a directory). */
int view_extract(int dirfd, const struct tar_entry *e, struct sealed_content *c) MUST_CHECK;

/* Opens the directory of `path` below `dirfd`, making what is missing and following no link; *name
 * is the last part. `path` is changed. */
int view_extract_parent(int dirfd, char *path, int *out, const char **name) MUST_CHECK;

/* All of the content to a descriptor. */
int view_copy(struct sealed_content *c, int fd) MUST_CHECK;

#endif
