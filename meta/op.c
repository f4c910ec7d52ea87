#include "meta/op.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/secret.h"
#include "meta/db_priv.h"
#include "meta/stmt_priv.h"

/* Rows have names: none is left on the stack of a thread that goes to sleep. */
static void wipe(struct op_row *op)
{
	secret_wipe(op, sizeof(*op));
}

static int op_read(struct stmt *s, struct op_row *op)
{
	op->seq = stmt_u64(s);
	op->store = stmt_u64(s);
	op->kind = (enum op_kind)stmt_u64(s);
	op->state = (enum op_state)stmt_u64(s);
	op->name = stmt_u64(s);
	op->object = stmt_u64(s);
	stmt_rid(s, &op->rid);
	stmt_blob(s, op->key, ROW_KEY_LEN);
	stmt_etag(s, &op->base_etag);
	stmt_rid(s, &op->r_parent);
	stmt_filename(s, &op->r_name);
	stmt_rid(s, &op->other_rid);
	stmt_etag(s, &op->other_etag);
	op->map = stmt_u64(s);
	op->attempts = (uint32_t)stmt_u64(s);
	op->next_try_ms = stmt_i64(s);
	op->status = (int32_t)stmt_i64(s);
	stmt_text(s, op->error, sizeof(op->error));
	op->created_ns = stmt_i64(s);
	return s->error;
}

static void op_bind(struct stmt *s, const struct op_row *op)
{
	stmt_bind_u64(s, op->store);
	stmt_bind_u64(s, op->kind);
	stmt_bind_u64(s, op->state);
	stmt_bind_u64(s, op->name);
	stmt_bind_u64(s, op->object);
	stmt_bind_text_or_null(s, op->rid.text);
	stmt_bind_blob(s, op->key, ROW_KEY_LEN);
	stmt_bind_text_or_null(s, op->base_etag.text);
	stmt_bind_text_or_null(s, op->r_parent.text);
	stmt_bind_filename(s, &op->r_name);
	stmt_bind_text_or_null(s, op->other_rid.text);
	stmt_bind_text_or_null(s, op->other_etag.text);
	stmt_bind_u64(s, op->map);
	stmt_bind_u64(s, op->attempts);
	stmt_bind_i64(s, op->next_try_ms);
	stmt_bind_i64(s, op->status);
	stmt_bind_text(s, op->error);
	stmt_bind_i64(s, op->created_ns);
}

static void tell(struct db *db, uint64_t store, const char *rid)
{
	if (db->op_changed)
		db->op_changed(db->journal_arg, store, rid);
}

int op_insert(struct db *db, struct op_row *op)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_OP_INSERT);
	int r;

	op_bind(&s, op);
	r = stmt_run(&s);
	if (r < 0)
		return r;
	op->seq = stmt_last_id(&s);
	memo_add_op(db_memo(db), op);
	tell(db, op->store, op->rid.text);
	return 0;
}

int op_restore(struct db *db, const struct op_row *op)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_OP_RESTORE);
	int r;

	memo_drop_op(db->memo, op->seq, op->store, op->rid.text);
	stmt_bind_u64(&s, op->seq);
	op_bind(&s, op);
	r = stmt_run(&s);
	if (r == 0)
		tell(db, op->store, op->rid.text);
	return r;
}

int op_update(struct db *db, const struct op_row *op)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_OP_UPDATE);
	int r;

	op_bind(&s, op);
	stmt_bind_u64(&s, op->seq);
	r = stmt_run_one(&s);
	if (r) {
		memo_drop_op(db->memo, op->seq, op->store, op->rid.text);
		return r;
	}
	memo_update_op(db_memo(db), op);
	tell(db, op->store, op->rid.text);
	return 0;
}

static int op_one(struct stmt *s, struct op_row *out)
{
	_cleanup_(wipe) struct op_row op;
	int r = stmt_one(s);

	memset(&op, 0, sizeof(op)); /* texts have no stale bytes behind their end */
	if (r == 0)
		r = op_read(s, &op);
	if (r == 0)
		*out = op;
	return r;
}

static int query_op(struct db *db, uint64_t seq, struct op_row *out)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_OP_GET);

	stmt_bind_u64(&s, seq);
	return op_one(&s, out);
}

int op_get(struct db *db, uint64_t seq, struct op_row *out)
{
	db_assert_locked(db);
	return memo_op(db_memo(db), seq, out) ? 0 : query_op(db, seq, out);
}

int op_by_key(struct db *db, const uint8_t key[static ROW_KEY_LEN], struct op_row *out)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_OP_BY_KEY);

	stmt_bind_blob(&s, key, ROW_KEY_LEN);
	return op_one(&s, out);
}

int op_by_map(struct db *db, uint64_t map, struct op_row *out)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_OP_BY_MAP);

	stmt_bind_u64(&s, map);
	return op_one(&s, out);
}

int op_delete(struct db *db, uint64_t seq)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_OP_DELETE);
	_cleanup_(wipe) struct op_row op;
	int r = op_get(db, seq, &op);

	if (r)
		return r;
	memo_drop_op(db->memo, seq, op.store, op.rid.text);
	stmt_bind_u64(&s, seq);
	r = stmt_run_one(&s);
	if (r == 0)
		tell(db, op.store, op.rid.text);
	return r;
}

/* From the row on that the statement stands at. */
static int each_row(struct stmt *s, int r, op_fn *fn, void *arg)
{
	_cleanup_(wipe) struct op_row op;

	for (; r == 1; r = stmt_row(s)) {
		r = op_read(s, &op);
		if (r == 0)
			r = fn(arg, &op);
		if (r != 0)
			return r < 0 ? r : 0;
	}
	return r;
}

static int each(struct stmt *s, op_fn *fn, void *arg)
{
	return each_row(s, stmt_row(s), fn, arg);
}

int op_each(struct db *db, uint64_t after, op_fn *fn, void *arg)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_OP_EACH);

	stmt_bind_u64(&s, after);
	return each(&s, fn, arg);
}

static int query_ops_of(struct db *db, uint64_t store, const char *rid, op_fn *fn, void *arg)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_OP_EACH_OF_RID);
	_cleanup_(wipe) struct op_row op = { .store = store };
	int r, more;

	stmt_bind_text_or_null(&s, rid);
	stmt_bind_u64(&s, store);
	r = stmt_row(&s);
	if (r == 1 && op_read(&s, &op))
		r = s.error;
	if (r < 0)
		return r;
	more = r == 1 ? stmt_row(&s) : 0;
	if (more == 0 && strlen(rid) <= ROW_RID_MAX) {
		memcpy(op.rid.text, rid, strlen(rid) + 1);
		memo_put_op(db_memo(db), &op);
	}
	if (r == 1)
		r = fn(arg, &op);
	if (r)
		return r < 0 ? r : 0;
	return each_row(&s, more, fn, arg);
}

int op_each_of_rid(struct db *db, uint64_t store, const char *rid, op_fn *fn, void *arg)
{
	_cleanup_(wipe) struct op_row op;
	int r;

	db_assert_locked(db);
	if (!memo_op_of(db_memo(db), store, rid, &op))
		return query_ops_of(db, store, rid, fn, arg);
	r = op.seq ? fn(arg, &op) : 0;
	return r < 0 ? r : 0;
}

int op_each_of_object(struct db *db, uint64_t object, op_fn *fn, void *arg)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_OP_EACH_OF_OBJECT);

	stmt_bind_u64(&s, object);
	return each(&s, fn, arg);
}

int op_last_seq(struct db *db, uint64_t *out)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_OP_LAST_SEQ);

	return stmt_count(&s, out);
}

static uint64_t *count_of(struct op_counts *c, uint64_t state)
{
	switch (state) {
	case OP_QUEUED:
		return &c->queued;
	case OP_INFLIGHT:
		return &c->inflight;
	case OP_REFUSED:
		return &c->refused;
	case OP_HELD:
		return &c->held;
	default:
		return NULL;
	}
}

int op_counts(struct db *db, struct op_counts *out)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_OP_COUNTS);
	struct op_counts c = { 0 };
	int r;

	while ((r = stmt_row(&s)) == 1) {
		uint64_t *n = count_of(&c, stmt_u64(&s));
		int64_t oldest;

		if (!n)
			return CE_CORRUPT;
		*n = stmt_u64(&s);
		oldest = stmt_i64(&s);
		if (c.oldest_ns == 0 || oldest < c.oldest_ns)
			c.oldest_ns = oldest;
	}
	if (r < 0)
		return r;
	*out = c;
	return 0;
}
