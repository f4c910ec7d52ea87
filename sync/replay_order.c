/*
 * Which operations must not overtake which. The cache hands out only what may go at all; this is
 * about those handed out together: each is compared with each, so names are compared by 64-bit
 * hashes. Two that collide make one operation wait for another without need, no more.
 */
#include "sync/replay_priv.h"

#include <string.h>

#define FNV_BASIS UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME UINT64_C(0x100000001b3)

/* FNV-1a of a text with its end; 0 is for none. */
static uint64_t hash(uint64_t h, const char *text)
{
	do
		h = (h ^ (uint8_t)*text) * FNV_PRIME;
	while (*text++);
	h ^= h >> 29;
	return h ? h : 1;
}

static uint64_t hash_of(const char *rid)
{
	return *rid ? hash(FNV_BASIS, rid) : 0;
}

struct replay_keys replay_order_keys(const struct outbox_op *op)
{
	struct replay_keys k = { .store = op->store,
		.seq = op->seq,
		.rid = hash_of(op->rid),
		.other = hash_of(op->other_rid),
		.parent = hash_of(op->parent) };

	if (*op->parent && *op->name)
		k.place = hash(k.parent, op->name);
	return k;
}

static bool same(uint64_t a, uint64_t b)
{
	return a && a == b;
}

static bool touches(const struct replay_keys *a, uint64_t rid)
{
	return same(rid, a->rid) || same(rid, a->other);
}

bool replay_order_after(const struct replay_keys *later, const struct replay_keys *earlier)
{
	if (later->store != earlier->store || later->seq == earlier->seq)
		return false;
	if (touches(earlier, later->rid) || touches(earlier, later->other) ||
		same(later->place, earlier->place))
		return true;
	/* Its directory is being made, moved or deleted; or it is one that is being emptied. */
	return touches(earlier, later->parent) || touches(later, earlier->parent);
}

bool replay_order_is_in(const struct replay_keys *inner, const struct replay_keys *outer)
{
	return same(inner->parent, outer->rid) && !outer->other && !touches(outer, inner->rid) &&
	       !touches(outer, inner->other) && !touches(inner, outer->parent);
}
