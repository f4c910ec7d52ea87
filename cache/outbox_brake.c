/*
 * The brake of deletions on their way out. Deletions of records the origin has that wait to be sent
 * are held, all of a store together, when they are more than BRAKE_MIN and more than BRAKE_PERCENT
 * of what the store had: a script that ran wild here must not empty the origin. Those held already
 * count; those a person confirmed do not. Created-and-deleted pairs never get here, folding cancels
 * them.
 *
 * A held deletion holds up only rows on the same names (outbox_next.c).
 */
#include "cache/outbox_priv.h"

#include <errno.h>
#include <stdio.h>

#include "base/array.h"
#include "cache/tree_priv.h"

#define BRAKE_MIN 10
#define BRAKE_PERCENT 20

struct store_count {
	uint64_t store, deletes;
	bool hold;
};

struct brake {
	struct volume *v;
	struct store_count *stores; /* of those with deletions */
	size_t n, cap;
	struct op_row *rows; /* to be held */
	size_t n_rows, cap_rows;
};

bool outbox_brake_wants(const struct outbox_op *op)
{
	return op->kind == OUTBOX_DELETE && op->state == OUTBOX_QUEUED &&
	       op->status != OUTBOX_CONFIRMED;
}

static bool is_waiting(const struct op_row *row)
{
	return row->kind == OP_DELETE && row->state == OP_QUEUED && row->status != OUTBOX_CONFIRMED;
}

static bool is_braked(const struct op_row *row)
{
	return row->state == OP_HELD && row->status == OUTBOX_BRAKED;
}

static struct store_count *count_of(struct brake *b, uint64_t store)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->stores[i].store == store)
			return &b->stores[i];
	return NULL;
}

static int add_store(struct brake *b, uint64_t store)
{
	if (ARRAY_ROOM(b->stores, b->n, b->cap))
		return -ENOMEM;
	b->stores[b->n++] = (struct store_count){ .store = store, .deletes = 1 };
	return 0;
}

static int count_row(void *arg, const struct op_row *row)
{
	struct brake *b = arg;
	struct store_count *c;

	if (!is_waiting(row) && !is_braked(row))
		return 0;
	c = count_of(b, row->store);
	if (!c)
		return add_store(b, row->store);
	c->deletes++;
	return 0;
}

static int add_row(struct brake *b, const struct op_row *row)
{
	if (ARRAY_ROOM(b->rows, b->n_rows, b->cap_rows))
		return -ENOMEM;
	b->rows[b->n_rows++] = *row;
	return 0;
}

static int collect_waiting(void *arg, const struct op_row *row)
{
	const struct store_count *c = is_waiting(row) ? count_of(arg, row->store) : NULL;

	return c && c->hold ? add_row(arg, row) : 0;
}

/* Those that the brake has not looked at yet are meant, too. */
static int collect_unconfirmed(void *arg, const struct op_row *row)
{
	return is_braked(row) || is_waiting(row) ? add_row(arg, row) : 0;
}

static int judge_stores(struct brake *b, bool *any)
{
	for (size_t i = 0; i < b->n; i++) {
		struct store_count *c = &b->stores[i];
		uint64_t left;
		int r = name_count(b->v->db, c->store, &left);

		if (r)
			return r;
		c->hold = c->deletes > BRAKE_MIN &&
			  c->deletes * 100 > (left + c->deletes) * BRAKE_PERCENT;
		*any |= c->hold;
	}
	return 0;
}

static int hold_rows(struct brake *b)
{
	int r = 0;

	for (size_t i = 0; !r && i < b->n_rows; i++) {
		struct op_row *row = &b->rows[i];

		row->state = OP_HELD;
		row->status = OUTBOX_BRAKED;
		snprintf(row->error, sizeof(row->error),
			"one of many deletions at once: `cachet sync --allow-deletes` confirms "
			"them");
		r = op_update(b->v->db, row);
	}
	return r;
}

static int brake_txn(struct brake *b)
{
	bool any = false;
	int r = op_each(b->v->db, 0, count_row, b);

	if (r >= 0)
		r = judge_stores(b, &any);
	if (!r && any)
		r = op_each(b->v->db, 0, collect_waiting, b);
	return r < 0 ? r : hold_rows(b);
}

int outbox_brake(struct volume *v, uint64_t *held)
{
	struct brake b = { .v = v };
	int r = db_begin(v->db);

	if (r)
		return r;
	r = tree_row_end(v, brake_txn(&b));
	if (!r)
		*held = b.n_rows;
	free(b.stores);
	free(b.rows);
	return r;
}

static int confirm_txn(struct brake *b)
{
	int r = op_each(b->v->db, 0, collect_unconfirmed, b);

	for (size_t i = 0; r >= 0 && i < b->n_rows; i++)
		r = outbox_brake_confirm(b->v, &b->rows[i]);
	return MIN_OF(r, 0);
}

int outbox_brake_confirm(struct volume *v, struct op_row *row)
{
	int r = fold_row_renew(v, row);

	row->status = OUTBOX_CONFIRMED;
	return r ? r : op_update(v->db, row);
}

int outbox_allow_deletes(struct volume *v)
{
	struct brake b = { .v = v };
	int r = db_begin(v->db);

	if (r)
		return r;
	r = tree_row_end(v, confirm_txn(&b));
	free(b.rows);
	if (!r)
		volume_tell_outbox(v);
	return r;
}
