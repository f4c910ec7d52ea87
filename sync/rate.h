/*
 * A bound on bytes a second: a bucket that fills as time goes by and holds what an eighth of a
 * second brings. Pure: it is told the time (boot time in ms).
 *
 *     rate_set → rate_take, or rate_charge after the fact; when there is nothing: rate_wait_ms
 *
 * A rate of 0 is no bound.
 */
#ifndef CACHET_SYNC_RATE_H
#define CACHET_SYNC_RATE_H

#include <stddef.h>
#include <stdint.h>

/* Less, shared by a few transfers, would look like a dead line to the server and to us. */
#define RATE_MIN_BYTES 32768
#define RATE_MAX_BYTES UINT64_C(1000000000000)

struct rate {
	uint64_t per_s;
	int64_t left_mb; /* thousandths of a byte; negative: a debt */
	uint64_t at_ms;
};

void rate_set(struct rate *r, uint64_t per_s, uint64_t now_ms);
/* How much of `want` may go now, at most a quarter of the bucket: 0 = none before rate_wait_ms. */
size_t rate_take(struct rate *r, size_t want, uint64_t now_ms);
/* What came in one piece, whatever was left. */
void rate_charge(struct rate *r, size_t bytes, uint64_t now_ms);
/* 0 = something may go now. */
uint64_t rate_wait_ms(struct rate *r, uint64_t now_ms);

#endif
