#include "sync/rate.h"

#include "base/macros.h"

#define BURST_PART 8 /* of a second */
#define BURST_MIN_BYTES 4096
#define PIECES 4

static int64_t burst_mb(const struct rate *r)
{
	return (int64_t)MAX_OF(r->per_s / BURST_PART, (uint64_t)BURST_MIN_BYTES) * 1000;
}

static void fill(struct rate *r, uint64_t now_ms)
{
	uint64_t ms = now_ms > r->at_ms ? now_ms - r->at_ms : 0;

	/* A debt of hours is a debt of hours; nothing overflows below 10^12 bytes a second. */
	r->left_mb = MIN_OF(
		r->left_mb + (int64_t)(MIN_OF(ms, UINT64_C(1000000)) * r->per_s), burst_mb(r));
	r->at_ms = MAX_OF(r->at_ms, now_ms);
}

void rate_set(struct rate *r, uint64_t per_s, uint64_t now_ms)
{
	*r = (struct rate){ .per_s = per_s, .at_ms = now_ms };
	r->left_mb = burst_mb(r);
}

size_t rate_take(struct rate *r, size_t want, uint64_t now_ms)
{
	int64_t piece;

	if (!r->per_s)
		return want;
	fill(r, now_ms);
	piece = MIN_OF((int64_t)want * 1000, burst_mb(r) / PIECES);
	if (r->left_mb < piece)
		return 0;
	r->left_mb -= piece;
	return (size_t)(piece / 1000);
}

void rate_charge(struct rate *r, size_t bytes, uint64_t now_ms)
{
	if (!r->per_s)
		return;
	fill(r, now_ms);
	r->left_mb -= (int64_t)bytes * 1000;
}

uint64_t rate_wait_ms(struct rate *r, uint64_t now_ms)
{
	int64_t lacks;

	if (!r->per_s)
		return 0;
	fill(r, now_ms);
	lacks = burst_mb(r) / PIECES - r->left_mb;
	return lacks > 0 ? (uint64_t)lacks / r->per_s + 1 : 0;
}
