/* Opens the volume of a configuration: directory, key source, limit, owner and host name come from
 * there and from the process. */
#ifndef CACHET_DAEMON_OPENING_H
#define CACHET_DAEMON_OPENING_H

#include "base/macros.h"
#include "cache/volume.h"
#include "daemon/config.h"
#include "sync/sync.h"

/* `kek`: the key if it is at hand, NULL = from the key source. *error: a sentence (the caller
 * frees); codes as volume_open(). */
int opening_volume(const struct config *c, const struct secret *kek, struct volume **out,
	char **error) MUST_CHECK;
/* The sync of an open volume, with its token; not started. */
int opening_sync(const struct config *c, struct volume *v, bool offline, struct sync **out,
	char **error) MUST_CHECK;

#endif
