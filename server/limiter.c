#include "server/limiter.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/secret.h"

#define WAYS 4 /* slots an address may have */

struct slot {
	uint8_t address[16];
	int64_t paid_ms; /* until then what it did is not worked off */
};

struct limiter {
	uint64_t seed;        /* which slots an address has is not to be foreseen */
	pthread_mutex_t lock; /* guards what follows; a leaf */
	struct slot slots[LIMITER_SLOTS];
	int64_t all_paid_ms;
};

int server_limiter_new(struct limiter **out)
{
	struct limiter *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	secret_random(&l->seed, sizeof(l->seed));
	pthread_mutex_init(&l->lock, NULL);
	*out = l;
	return 0;
}

void server_limiter_free(struct limiter *l)
{
	if (!l)
		return;
	pthread_mutex_destroy(&l->lock);
	free(l);
}

static void address_of(const struct sockaddr *addr, uint8_t out[16])
{
	memset(out, 0, 16);
	if (addr && addr->sa_family == AF_INET) {
		memcpy(out + 12, &((const struct sockaddr_in *)addr)->sin_addr, 4);
	} else if (addr && addr->sa_family == AF_INET6) {
		const struct in6_addr *a = &((const struct sockaddr_in6 *)addr)->sin6_addr;

		memcpy(out, a, IN6_IS_ADDR_V4MAPPED(a) ? 16 : 8);
		if (IN6_IS_ADDR_V4MAPPED(a))
			out[10] = out[11] = 0; /* the same as the IPv4 address */
	}
}

static struct slot *slot_of(struct limiter *l, const uint8_t address[16])
{
	uint64_t h = l->seed ^ load_le64(address);
	struct slot *set, *least;

	h = (h ^ h >> 31) * 0x9e3779b97f4a7c15ULL ^ load_le64(address + 8);
	h = (h ^ h >> 29) * 0xbf58476d1ce4e5b9ULL;
	set = least = &l->slots[(h >> 40) % (LIMITER_SLOTS / WAYS) * WAYS];
	for (struct slot *s = set; s < set + WAYS; s++) {
		if (!memcmp(s->address, address, 16))
			return s;
		if (s->paid_ms < least->paid_ms)
			least = s;
	}
	memcpy(least->address, address, 16);
	least->paid_ms = 0;
	return least;
}

/* How long the bucket is over, 0 when one more fits: then it is put in. */
static int64_t pour(int64_t *paid_ms, int64_t now_ms, int64_t interval_ms, int64_t burst)
{
	int64_t next = MAX_OF(*paid_ms, now_ms) + interval_ms;

	if (next > now_ms + burst * interval_ms)
		return next - now_ms - burst * interval_ms;
	*paid_ms = next;
	return 0;
}

unsigned server_limiter_note(struct limiter *l, const struct sockaddr *addr, int64_t now_ms)
{
	uint8_t address[16];
	int64_t over_ms;

	address_of(addr, address);
	pthread_mutex_lock(&l->lock);
	over_ms = pour(&slot_of(l, address)->paid_ms, now_ms, LIMITER_INTERVAL_MS, LIMITER_BURST);
	if (!over_ms)
		over_ms = pour(&l->all_paid_ms, now_ms, LIMITER_INTERVAL_ALL_MS, LIMITER_BURST_ALL);
	pthread_mutex_unlock(&l->lock);
	return (unsigned)((over_ms + 999) / 1000);
}
