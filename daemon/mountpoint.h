/*
 * Whether a volume can be mounted at a place, said in a sentence before anything is opened. A dead
 * mount of ours that a killed daemon left is detached first.
 *
 * CE_USAGE: missing, not a directory, not empty. CE_INUSE: a FUSE file system is mounted there.
 */
#ifndef CACHET_DAEMON_MOUNTPOINT_H
#define CACHET_DAEMON_MOUNTPOINT_H

#include "base/macros.h"

int mountpoint_check(const char *path, char **error) MUST_CHECK;

#endif
