/* Which operations must not overtake which. The cache hands out only what may go at all; this is
 * about those handed out together. */
#include "sync/replay_priv.h"

#include <string.h>

static bool same(const char *a, const char *b)
{
	return *a && !strcmp(a, b);
}

static bool same_place(const struct outbox_op *a, const struct outbox_op *b)
{
	return same(a->parent, b->parent) && same(a->name, b->name);
}

static bool touches(const struct outbox_op *a, const char *rid)
{
	return same(rid, a->rid) || same(rid, a->other_rid);
}

bool replay_order_after(const struct outbox_op *later, const struct outbox_op *earlier)
{
	if (later->store != earlier->store || later->seq == earlier->seq)
		return false;
	if (touches(earlier, later->rid) || touches(earlier, later->other_rid) ||
		same_place(later, earlier))
		return true;
	/* Its directory is being made, moved or deleted; or it is one that is being emptied. */
	return touches(earlier, later->parent) || touches(later, earlier->parent);
}
