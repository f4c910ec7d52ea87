/* Complete listings; see cache/remote.h. For cache/ only. */
#ifndef CACHET_CACHE_REMOTE_LISTING_H
#define CACHET_CACHE_REMOTE_LISTING_H

#include <stdint.h>

#include "base/macros.h"

struct volume;

/* The generation of the listing under way, 0 if there is none. The index lock is held. */
int remote_listing_under_way(struct volume *v, uint64_t store, uint64_t *generation) MUST_CHECK;

#endif
