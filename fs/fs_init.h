/* The capabilities of the session: fs_init is the init operation, fs_init_io is called once after
 * the mount. */
#ifndef CACHET_FS_FS_INIT_H
#define CACHET_FS_FS_INIT_H

#include "fs/fs_priv.h"

void fs_init(void *userdata, struct fuse_conn_info *conn);
int fs_init_io(struct fs *f) MUST_CHECK;

#endif
