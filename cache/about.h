/* What is known here of one object, for people and programs that ask: xattrs and `cachet stat`. */
#ifndef CACHET_CACHE_ABOUT_H
#define CACHET_CACHE_ABOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "cache/volume.h"

struct about {
	uint64_t store;
	const char *state; /* of content: "full", "partial", "none"; of a directory: "listed",
			      "unlisted" */
	char etag[65];     /* of the version this is, or is based on; "" = not at the origin */
	bool pinned;
	uint64_t pending;     /* operations that are not at the origin */
	int64_t validated_ns; /* the origin last said what is in the store; 0 = never */
};

/* CE_STALE: there is no such object. */
int about_object(struct volume *v, uint64_t object, struct about *out) MUST_CHECK;

#endif
