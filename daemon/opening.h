/* Opens the volume of a configuration: directory, key source, limit, owner and host name come from
 * there and from the process. */
#ifndef CACHET_DAEMON_OPENING_H
#define CACHET_DAEMON_OPENING_H

#include "base/macros.h"
#include "cache/volume.h"
#include "daemon/config.h"
#include "sync/carry.h"
#include "sync/sync.h"

/* Whether a server that holds the key is asked. */
enum opening_how {
	OPENING_ASK,       /* always; the lease only if it does not answer */
	OPENING_IF_NEEDED, /* when there is no valid lease */
	OPENING_OFFLINE,   /* never */
};

/* `kek`: the key if it is at hand, NULL = from the key source. *error: a sentence (the caller
 * frees); codes as volume_open(). */
int opening_volume(const struct config *c, const struct secret *kek, enum opening_how how,
	struct volume **out, char **error) MUST_CHECK;

/* Opens a locked volume again, as opening_volume. `secret`: what the key source would give. */
int opening_unlock(const struct config *c, const struct secret *secret, bool offline,
	struct volume *v, char **error) MUST_CHECK;

struct opening_sync_options {
	bool offline;
	void (*on_keys)(void *arg, int code); /* sync_options */
	void *arg;
};
/* The sync of an open volume, with its token; not started. */
int opening_sync(const struct config *c, struct volume *v, const struct opening_sync_options *o,
	struct sync **out, char **error) MUST_CHECK;

/* The way to the server for enrolment messages; NULL when the key source needs none. */
int opening_carry(const struct config *c, struct carry **out, char **error) MUST_CHECK;

#endif
