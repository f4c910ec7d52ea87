/*
 * `.cachet`, a directory in the mount's root that no listing shows: what the daemon has to say
 * about the volume, as files to be read.
 *
 * The files have no inode of the volume and no size; what is read is as of the open. Nothing can be
 * made, renamed or removed there. A record of that name at the mount's root keeps the name, and
 * then there is no such directory.
 *
 * hidden_fill() puts itself before the operations: ids below HIDDEN_END are its own (a node's id is
 * its address), all else goes through. Locked, the gate before it (fs/gate.h) refuses these files
 * as all others.
 */
#ifndef CACHET_FS_HIDDEN_H
#define CACHET_FS_HIDDEN_H

#include <fuse_lowlevel.h>

#define HIDDEN_NAME ".cachet"
#define HIDDEN_DIR ((fuse_ino_t)2)
#define HIDDEN_END ((fuse_ino_t)4096)

void hidden_fill(struct fuse_lowlevel_ops *ops);

#endif
