/*
 * The place of a mount: may something be mounted there, take it away again. No state.
 *
 * Each failure is one sentence for the user, without a full stop; the caller of *error frees it.
 */
#ifndef CACHET_FS_PLACE_H
#define CACHET_FS_PLACE_H

#include <stdbool.h>

#include "base/macros.h"

/* -ENOENT, -ENOTDIR, -ENOTEMPTY, -EBUSY (already mounted), -ENOTCONN (a dead mount), -ENODEV (no
 * FUSE here), ... */
int place_check(const char *path, bool allow_other, char **error) MUST_CHECK;
/* Unmounts, lazily when `lazy`; -EBUSY when in use and not lazy. */
int place_unmount(const char *path, bool lazy) MUST_CHECK;
bool place_is_stale(const char *path);
int place_detach_stale(const char *path, char **error) MUST_CHECK;

#endif
