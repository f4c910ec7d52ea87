/* What the parts of the daemon share: the open volume and what runs on it. Not changed after the
 * start, but by daemon/locking.h. */
#ifndef CACHET_DAEMON_DAEMON_PRIV_H
#define CACHET_DAEMON_DAEMON_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/volume.h"
#include "daemon/config.h"
#include "fs/fs.h"
#include "sync/sync.h"

struct locking;
struct watch;

struct daemon_state {
	const struct config *config;
	struct volume *volume;
	struct sync *sync;      /* NULL: opened directly, not mounted */
	struct fs *fs;          /* likewise */
	const char *mountpoint; /* likewise */
	bool read_only;
	int64_t started_ns;      /* wall time */
	struct watch *watch;     /* NULL: likewise */
	struct locking *locking; /* NULL: opened directly */
};

/* daemon.c: before the end, a second at most for what is not sent yet. */
void daemon_send_last(struct daemon_state *d);

#endif
