/*
 * How much a reader's fetch asks for. A reader that jumps gets what it asked for. One that reads on
 * gets a quarter of what it has read already, so that little is fetched in vain, and half of it
 * after WINDOW_SURE; of a file no longer than the largest window, the rest. The kernel's requests do
 * not come in order: near is sequential. What was asked for, and is far behind now, was evicted
 * since, and is read anew.
 *
 * One struct window follows one reader of one version: window_next() at each fetch, window_asked()
 * with how far the request went. The loop's, without a lock.
 */
#ifndef CACHET_SYNC_WINDOW_H
#define CACHET_SYNC_WINDOW_H

#include <stdint.h>

#define WINDOW_MIN ((uint64_t)256 << 10)
#define WINDOW_SURE ((uint64_t)4 << 20)
#define WINDOW_MAX ((uint64_t)8 << 20)

struct window {
	uint64_t begin, last, next; /* where it began to read, asked last, up to where it asked */
	uint64_t bytes;             /* of the last ask; 0: new */
};

/* From `off` on, of a file of `size` bytes; the reader is certain to read up to `demand`. */
uint64_t window_next(struct window *w, uint64_t off, uint64_t demand, uint64_t size);
void window_asked(struct window *w, uint64_t end);

#endif
