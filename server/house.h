/*
 * Housekeeping: idempotency keys and tombstones older than the server promises to keep them are
 * forgotten, little by little, as jobs of the commit queue; so are keys that no device needs any more. A store that forgets a tombstone notes
 * its number, so that cursors from before are answered 410. When a quarter of the database is free
 * pages, they are given back to the file system.
 */
#ifndef CACHET_SERVER_HOUSE_H
#define CACHET_SERVER_HOUSE_H

#include "server/tx.h"

struct house_limits {
	int64_t keys_before_ns, tombstones_before_ns;
	int64_t keks_before_ns; /* what the key that followed one has to have expired before */
};

/* One step in the caller's transaction; *more: there is more to forget. */
int server_house_step(struct tx *tx, const struct house_limits *limits, bool *more) MUST_CHECK;

#endif
