/* What the journal hands out at one time, for tests. */
#ifndef CACHET_TESTS_UNIT_OUTBOX_BATCH_H
#define CACHET_TESTS_UNIT_OUTBOX_BATCH_H

#include "base/clock.h"
#include "cache/outbox.h"
#include "tree_fixture.h"

#define NOW (clock_wall_ns() / NS_PER_MS)

struct batch {
	struct outbox_op ops[64];
	size_t n;
	uint64_t wait;
};

static inline void next(struct tree_fixture *f, struct batch *b)
{
	ok(outbox_next(f->v, NOW, 0, b->ops, ARRAY_SIZE(b->ops), &b->n, &b->wait));
}

static inline void done(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		outbox_op_done(&b->ops[i]);
	b->n = 0;
}

#endif
