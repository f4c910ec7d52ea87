/* The journal for the sender's bookkeeping and for people. */
#include "cache/outbox_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/error.h"
#include "cache/tree_priv.h"

typedef int change_fn(struct volume *v, struct op_row *row, const void *arg);

/* Changes one row in a transaction of its own. */
static int change_row(struct volume *v, uint64_t seq, change_fn *fn, const void *arg, bool tell)
{
	struct op_row row;
	int r = db_begin(v->db);

	if (r)
		return r;
	r = op_get(v->db, seq, &row);
	if (!r)
		r = fold_row_is_shadow(&row) ? -EINVAL : fn(v, &row, arg);
	r = tree_row_end(v, r);
	if (!r && tell)
		volume_tell_outbox(v);
	return r;
}

struct outcome {
	int64_t next_try_ms;
	int status;
	const char *text;
};

static void note_outcome(struct op_row *row, const struct outcome *o)
{
	row->status = o->status;
	snprintf(row->error, sizeof(row->error), "%s", o->text ? o->text : "");
}

static int retry_row(struct volume *v, struct op_row *row, const void *arg)
{
	const struct outcome *o = arg;

	note_outcome(row, o);
	row->next_try_ms = o->next_try_ms;
	return op_update(v->db, row);
}

int outbox_retry(struct volume *v, uint64_t seq, int64_t next_try_ms, int status, const char *text)
{
	struct outcome o = { next_try_ms, status, text };
	int r = change_row(v, seq, retry_row, &o, false);

	return r == -ENOENT ? 0 : r;
}

/* The snapshot goes: what is sent on another try is what the file is then. */
static int refuse_row(struct volume *v, struct op_row *row, const void *arg)
{
	int r = fold_row_renew(v, row);

	if (r)
		return r;
	note_outcome(row, arg);
	row->attempts = 1;
	row->state = OP_REFUSED;
	return op_update(v->db, row);
}

int outbox_refuse(struct volume *v, uint64_t seq, int status, const char *text)
{
	struct outcome o = { 0, status, text };
	int r = change_row(v, seq, refuse_row, &o, true);

	return r == -ENOENT ? 0 : r;
}

static int hold_row(struct volume *v, struct op_row *row, const void *arg)
{
	if (row->state != OP_QUEUED)
		return row->state == OP_INFLIGHT ? -EBUSY : -EINVAL;
	row->state = OP_HELD;
	snprintf(row->error, sizeof(row->error), "held by a person");
	return op_update(v->db, row);
}

int outbox_hold(struct volume *v, uint64_t seq)
{
	return change_row(v, seq, hold_row, NULL, true);
}

static int requeue_row(struct volume *v, struct op_row *row, const void *arg)
{
	if (row->state != OP_REFUSED && row->state != OP_HELD)
		return -EINVAL;
	if (row->status == OUTBOX_BRAKED)
		return outbox_brake_confirm(v, row);
	return fold_row_renew(v, row);
}

int outbox_requeue(struct volume *v, uint64_t seq)
{
	return change_row(v, seq, requeue_row, NULL, true);
}

/* The record is never made: it stays here, a file of this machine, and so does all that was to be
 * made inside. */
static int keep_local(struct volume *v, struct name_row *n)
{
	_cleanup_free_ struct name_row *children = NULL;
	struct object_row o;
	size_t count = 0;
	int r = object_get(v->db, n->object, &o);

	if (!r && S_ISDIR(o.mode))
		r = tree_row_entries(v, o.id, &children, &count);
	for (size_t i = 0; !r && i < count; i++)
		if (children[i].rid.text[0] && !children[i].etag.text[0])
			r = keep_local(v, &children[i]);
	if (!r)
		r = fold_rows_clear(v, n->store, n->rid.text);
	if (!r)
		r = tree_row_own_content(v, &o);
	fold_forget(n);
	return r ? r : name_update(v->db, n);
}

static int drop_row(struct volume *v, struct op_row *row, const void *arg)
{
	struct name_row n;
	int r;

	if (row->state == OP_INFLIGHT)
		return -EBUSY;
	if (!fold_row_is_make(row) || row->base_etag.text[0])
		return fold_row_delete(v, row);
	r = name_by_rid(v->db, row->store, row->rid.text, &n);
	if (r == -ENOENT)
		return fold_rows_clear(v, row->store, row->rid.text);
	return r ? r : keep_local(v, &n);
}

int outbox_drop(struct volume *v, uint64_t seq)
{
	return change_row(v, seq, drop_row, NULL, true);
}

struct counting {
	struct volume *v;
	struct outbox_counts c;
};

static int count_row(void *arg, const struct op_row *row)
{
	struct counting *k = arg;
	struct object_row o;

	if (fold_row_is_shadow(row))
		return 0;
	switch (row->state) {
	case OP_QUEUED:
		k->c.queued++;
		break;
	case OP_INFLIGHT:
		k->c.inflight++;
		break;
	case OP_REFUSED:
		k->c.refused++;
		break;
	case OP_HELD:
		k->c.held++;
		k->c.braked += row->status == OUTBOX_BRAKED;
		break;
	}
	if (!k->c.oldest_ns || row->created_ns < k->c.oldest_ns)
		k->c.oldest_ns = row->created_ns;
	if (row->kind == OP_PUT && !object_get(k->v->db, row->object, &o) && S_ISREG(o.mode))
		k->c.bytes += o.size;
	return 0;
}

int outbox_counts(struct volume *v, struct outbox_counts *out)
{
	struct counting k = { .v = v };
	int r;

	db_read(v->db);
	r = op_each(v->db, 0, count_row, &k);
	db_unlock(v->db);
	if (r < 0)
		return r;
	*out = k.c;
	return 0;
}

struct telling {
	struct volume *v;
	outbox_fn *fn;
	void *arg;
};

/* Of what is deleted here only the place at the origin is known. */
static int path_of(struct volume *v, const struct op_row *row, char **out)
{
	_cleanup_free_ char *dir = NULL;
	struct name_row n;
	int r = name_by_rid(v->db, row->store, row->rid.text, &n);

	if (!r) {
		r = tree_path_locked(v, n.parent, &dir);
		if (r && r != -ENOENT)
			return r;
		return bytes_print(out, "%s%s%s", dir ? dir : "", dir && *dir ? "/" : "",
			(const char *)n.name.bytes);
	}
	if (r != -ENOENT)
		return r;
	if (!name_by_rid(v->db, row->store, row->r_parent.text, &n)) {
		r = tree_path_locked(v, n.object, &dir);
		if (r && r != -ENOENT)
			return r;
	}
	return bytes_print(out, "%s%s%.*s", dir ? dir : "", dir ? "/" : "", (int)row->r_name.len,
		(const char *)row->r_name.bytes);
}

static int tell_row(void *arg, const struct op_row *row)
{
	struct telling *t = arg;
	_cleanup_free_ char *path = NULL;
	struct outbox_op op = { 0 };
	int r;

	if (fold_row_is_shadow(row))
		return 0;
	r = path_of(t->v, row, &path);
	if (!r)
		r = outbox_fill(t->v, row, &op);
	if (!r)
		r = t->fn(t->arg, &op, path);
	outbox_op_done(&op);
	return r;
}

int outbox_each(struct volume *v, outbox_fn *fn, void *arg)
{
	struct telling t = { v, fn, arg };
	int r;

	db_read(v->db);
	r = op_each(v->db, 0, tell_row, &t);
	db_unlock(v->db);
	return MIN_OF(r, 0);
}
