/*
 * How many bad tokens are answered: per address (IPv6: per /64 network) and for all together, as a
 * leaky bucket. Beyond it the answer is 429 with Retry-After.
 *
 * It only counts what was found bad: a good token is let in however many bad ones come from the
 * same address, so nobody is locked out by a neighbour behind the same router. That is sound
 * because a token has 256 random bits: what is limited is noise and work, not a search.
 *
 * Memory is fixed: LIMITER_SLOTS addresses. When they are all busy, the one with least against it
 * is forgotten; then the bound of all together is what holds. Threads: any.
 */
#ifndef CACHET_SERVER_LIMITER_H
#define CACHET_SERVER_LIMITER_H

#include <stdint.h>
#include <sys/socket.h>

#include "base/macros.h"

#define LIMITER_SLOTS 4096
#define LIMITER_BURST 30         /* per address */
#define LIMITER_INTERVAL_MS 1000 /* one more each */
#define LIMITER_BURST_ALL 3000   /* all addresses together */
#define LIMITER_INTERVAL_ALL_MS 10

struct limiter;

int server_limiter_new(struct limiter **out) MUST_CHECK;
void server_limiter_free(struct limiter *l);
/* Notes one more bad token. 0: within bounds; else the seconds after which another is. `addr` may
 * be NULL. */
unsigned server_limiter_note(struct limiter *l, const struct sockaddr *addr, int64_t now_ms);

#endif
