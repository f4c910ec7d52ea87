/*
 * What other devices change, for programs that wait for it: a ring of the last changes of names and
 * contents, each with a number. Whoever watches asks for those after the last number it saw
 * (request "watch"), so nothing is lost between two requests; who was too slow is told so and looks
 * at everything again. Changes are kept only while somebody watches.
 *
 * Threads: watch_push from any (it does not block), the others from any.
 */
#ifndef CACHET_DAEMON_WATCH_H
#define CACHET_DAEMON_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "cache/volume.h"

#define WATCH_MAX 4096

struct watch;

struct watch_entry {
	bool entry; /* a name; else attributes or content of the object */
	uint64_t parent, object;
	int64_t time_ns;
	char name[256];
};

/* Observes the volume from now on. */
int watch_new(struct volume *v, struct watch **out) MUST_CHECK;
/* NULL-safe. */
void watch_free(struct watch *w);

/* The number of the latest change; from now on they are kept. */
uint64_t watch_now(struct watch *w);
/*
 * Changes after *after, at most `max`, which moves on; waits for one at most wait_ms. -EOVERFLOW:
 * some are lost; *after is then the latest.
 */
int watch_take(struct watch *w, uint64_t *after, unsigned wait_ms, struct watch_entry *out,
	size_t max, size_t *n) MUST_CHECK;

#endif
