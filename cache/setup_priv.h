/* Names that volume.c and volume_create.c share. */
#ifndef CACHET_CACHE_SETUP_PRIV_H
#define CACHET_CACHE_SETUP_PRIV_H

#include "base/macros.h"

#define SETUP_LOCK "lock"
#define SETUP_MARKER "creating" /* there while the volume is being made */

/* Settings. */
#define SETUP_DEVICE "volume.device"
#define SETUP_ORIGIN "volume.origin"
#define SETUP_TOKEN "volume.token"
#define SETUP_STORE "volume.store"
#define SETUP_OPENED "volume.opened"   /* how often; the high bits of chunk sequence numbers */
#define SETUP_UNCLEAN "volume.unclean" /* 1 while open */
#define SETUP_OLD "volume.old"         /* an old copy: the operation that the origin saw; 0 = not */

/* Sets *error, unless it is set, to a sentence; returns `code`. */
int setup_fail(char **error, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
