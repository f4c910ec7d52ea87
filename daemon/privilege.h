/*
 * What the daemon may not do any more, from before its first thread to its end.
 *
 * Root's daemon keeps three capabilities: CAP_SYS_ADMIN to mount and unmount, CAP_DAC_READ_SEARCH
 * to reach a mount point in somebody's home, CAP_IPC_LOCK for its secrets; and it gets no new
 * privileges, nor do its children, unless the key comes from a command, which may be anything.
 * A user's daemon has no capabilities; no_new_privs it cannot have, since it unmounts by the setuid
 * fusermount3. That it leaves no core and is not dumpable is older (base/secret.h).
 *
 * There is no seccomp filter: key sources and fusermount3 have to be executed, and who took over
 * the daemon has its keys and its mount already.
 */
#ifndef CACHET_DAEMON_PRIVILEGE_H
#define CACHET_DAEMON_PRIVILEGE_H

#include "base/macros.h"

/* -EPERM and the like: what was to be given up is still there. */
int privilege_drop(const char *key_source) MUST_CHECK;

#endif
