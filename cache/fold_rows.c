#include "cache/fold_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/secret.h"
#include "cache/merge_base.h"
#include "cache/tree_priv.h"

void fold_rows_done(struct fold_rows *rows)
{
	free(rows->rows);
}

static int add_row(void *arg, const struct op_row *op)
{
	struct fold_rows *f = arg;
	void *p;

	if (!(f->n & (f->n - 1))) {
		p = reallocarray(f->rows, f->n ? 2 * f->n : 1, sizeof(*f->rows));
		if (!p)
			return -ENOMEM;
		f->rows = p;
	}
	f->rows[f->n++] = *op;
	return 0;
}

int fold_rows_get(struct volume *v, uint64_t store, const char *rid, struct fold_rows *out)
{
	int r = op_each_of_rid(v->db, store, rid, add_row, out);

	return r < 0 ? r : 0;
}

bool fold_row_is_double(const struct op_row *op)
{
	return (op->kind == OP_MOVE || op->kind == OP_SWAP) && op->other_rid.text[0];
}

bool fold_row_is_shadow(const struct op_row *op)
{
	return op->name != 0;
}

bool fold_row_is_make(const struct op_row *op)
{
	return op->kind == OP_PUT && op->r_name.len;
}

void fold_row_init(struct op_row *op, enum op_kind kind, uint64_t store, const char *rid,
	uint64_t object, const struct row_etag *base)
{
	*op = (struct op_row){
		.store = store, .kind = kind, .object = object, .created_ns = clock_wall_ns()
	};
	snprintf(op->rid.text, sizeof(op->rid.text), "%s", rid);
	if (base)
		op->base_etag = *base;
	secret_random(op->key, sizeof(op->key));
}

static int drop_snapshot(struct volume *v, uint64_t map)
{
	return map ? gc_drop_map(v, map) : 0;
}

#define MODE_MARK 'm'

bool fold_row_has_mode(const struct op_row *op)
{
	const size_t len = strlen(op->other_etag.text);

	return (op->kind == OP_PUT || op->kind == OP_ATTR) && len &&
	       op->other_etag.text[len - 1] == MODE_MARK;
}

void fold_row_mark_mode(struct op_row *op)
{
	const size_t len = strlen(op->other_etag.text);

	if (fold_row_has_mode(op))
		return;
	op->other_etag.text[len] = MODE_MARK;
	op->other_etag.text[len + 1] = 0;
}

int fold_row_renew(struct volume *v, struct op_row *op)
{
	const bool mode = fold_row_has_mode(op);
	int r = drop_snapshot(v, op->map);

	if (r)
		return r;
	op->state = OP_QUEUED;
	op->map = 0;
	op->attempts = 0;
	op->next_try_ms = 0;
	op->status = 0;
	op->error[0] = 0;
	if (!fold_row_is_double(op))
		op->other_etag.text[0] = 0;
	if (mode)
		fold_row_mark_mode(op);
	secret_random(op->key, sizeof(op->key));
	return op_update(v->db, op);
}

static int delete_partner(struct volume *v, const struct op_row *op)
{
	uint64_t seq = fold_row_is_shadow(op) ? op->seq - 1 : op->seq + 1;
	struct op_row partner;
	int r = op_get(v->db, seq, &partner);

	if (r == -ENOENT)
		return 0;
	if (r)
		return r;
	if (strcmp(partner.rid.text, op->other_rid.text) ||
		strcmp(partner.other_rid.text, op->rid.text))
		return 0;
	return op_delete(v->db, seq);
}

static int has_name(void *arg, const struct name_row *n, const struct object_row *o)
{
	*(bool *)arg = true;
	return 1;
}

/* A symlink that only the row kept (tree_row_remove). */
static int drop_link(struct volume *v, uint64_t object)
{
	struct object_row o;
	bool named = false;
	int r = object_get(v->db, object, &o);

	if (r || !S_ISLNK(o.mode) || !o.nlink)
		return r == -ENOENT ? 0 : r;
	r = name_each_of(v->db, object, has_name, &named);
	return r < 0 || named ? MIN_OF(r, 0) : tree_row_remove(v, &o);
}

int fold_row_delete(struct volume *v, const struct op_row *op)
{
	int r = op_delete(v->db, op->seq);

	if (r == -ENOENT)
		return 0;
	if (!r && fold_row_is_double(op))
		r = delete_partner(v, op);
	if (!r && op->kind == OP_PUT)
		r = drop_link(v, op->object);
	if (!r && op->kind == OP_PUT && op->state != OP_INFLIGHT)
		r = merge_base_drop(v, op->store, op->rid.text);
	return r ? r : drop_snapshot(v, op->map);
}

int fold_row_single(struct volume *v, struct op_row *op)
{
	int r = delete_partner(v, op);

	op->other_rid.text[0] = 0;
	op->other_etag.text[0] = 0;
	return r ? r : fold_row_renew(v, op);
}

int fold_row_delete_other(struct volume *v, const struct op_row *op)
{
	struct op_row row;

	fold_row_init(&row, OP_DELETE, op->store, op->other_rid.text, 0, &op->other_etag);
	fold_row_place(&row, &op->r_parent, &op->r_name);
	return op_insert(v->db, &row);
}

static int give_up(struct volume *v, const struct op_row *op)
{
	const bool shadow = fold_row_is_shadow(op);
	struct op_row main_row;
	bool done = false;
	int r = 0;

	if (shadow) {
		r = op_get(v->db, op->name, &main_row);
		done = r == -ENOENT;
	}
	if (r && !done)
		return r;
	r = fold_row_delete(v, op);
	if (r || done || !fold_row_is_double(op))
		return r;
	if (op->kind == OP_SWAP)
		return fold_swap_alone(v, op);
	return shadow ? 0 : fold_row_delete_other(v, op);
}

int fold_rows_give_up(struct volume *v, const struct fold_rows *rows)
{
	int r = 0;

	for (size_t i = 0; !r && i < rows->n; i++)
		r = give_up(v, &rows->rows[i]);
	return r;
}

int fold_rows_clear(struct volume *v, uint64_t store, const char *rid)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	int r = fold_rows_get(v, store, rid, &rows);

	for (size_t i = 0; !r && i < rows.n; i++)
		r = fold_row_delete(v, &rows.rows[i]);
	return r;
}

int fold_row_double(struct volume *v, struct op_row *op, uint64_t other_object,
	const struct row_rid *other_parent, const struct row_filename *other_name)
{
	struct op_row shadow;
	int r = op_insert(v->db, op);

	if (r)
		return r;
	fold_row_init(
		&shadow, op->kind, op->store, op->other_rid.text, other_object, &op->other_etag);
	shadow.other_rid = op->rid;
	shadow.name = op->seq;
	if (other_name)
		fold_row_place(&shadow, other_parent, other_name);
	return op_insert(v->db, &shadow);
}

static int found_one(void *arg, const struct op_row *op)
{
	*(bool *)arg = true;
	return 1;
}

int fold_pending(struct volume *v, uint64_t store, const char *rid, bool *out)
{
	bool found = false;
	int r = op_each_of_rid(v->db, store, rid, found_one, &found);

	if (r < 0)
		return r;
	*out = found;
	return 0;
}

void fold_row_place(
	struct op_row *op, const struct row_rid *parent, const struct row_filename *name)
{
	op->r_parent = *parent;
	op->r_name = *name;
}

int fold_row_nowhere(struct row_filename *out, const char *why)
{
	char hex[17], text[64];
	uint8_t random[8];
	int n;

	secret_random(random, sizeof(random));
	bytes_to_hex(random, sizeof(random), hex);
	n = snprintf(text, sizeof(text), ".cachet-%s-%s", why, hex);
	return row_filename_set(out, text, (size_t)n) ? 0 : -EINVAL;
}

int fold_move_row(struct volume *v, const struct name_row *n, const struct row_rid *parent,
	const struct row_filename *name)
{
	struct op_row op;

	fold_row_init(&op, OP_MOVE, n->store, n->rid.text, n->object, &n->etag);
	fold_row_place(&op, parent, name);
	return op_insert(v->db, &op);
}
