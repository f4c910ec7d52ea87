/*
 * One entry of the feed. The order of the questions is the order of remote.h's list: is it news at
 * all, is it our own echo, does unsent work stand in the way, is it a tombstone, and then where
 * does it go (remote_place.c).
 */
#include "cache/remote_priv.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "cache/outbox_priv.h"
#include "cache/tree_priv.h"

#define BRAKE_MIN 10
#define BRAKE_PERCENT 20
/* A new record: its rows are a tenth of this, but its id stands alone on a page of an index, which
 * goes through the log as a whole. */
#define RECORD_BYTES UINT64_C(4096)

/* Is the record what the operation makes of it? As far as the rows say: a digest is known to the
 * sender alone, which compares it with the answer's. */
static int fits(
	struct remote_pass *p, const struct op_row *op, const struct remote_record *rec, bool *out)
{
	struct content_map m = { 0 };
	int r;

	*out = rec->deleted == (op->kind == OP_DELETE);
	if (!*out || op->kind != OP_PUT || (!op->map && rec->kind != REMOTE_FILE))
		return 0;
	r = op->map ? content_map_get(p->v->db, op->map, &m) : 0;
	*out = rec->kind == REMOTE_FILE && rec->size == m.size;
	return r;
}

/* Our own operation, told by the feed before or instead of its answer. One that carries our key and
 * another content is none: the answer will be judged. */
static int acknowledge(struct remote_pass *p, const struct remote_record *rec,
	const struct fold_rows *rows, bool *done)
{
	int r;

	for (size_t i = 0; rec->has_key && i < rows->n; i++) {
		const struct op_row *op = &rows->rows[i];

		if (op->state != OP_INFLIGHT || fold_row_is_shadow(op) ||
			memcmp(op->key, rec->key, sizeof(op->key)))
			continue;
		r = fits(p, op, rec, done);
		if (r || !*done)
			return r;
		p->report.echoes++;
		return outbox_ack_row(p->v, op, rec);
	}
	return 0;
}

/* The other record of a swap of ours: its ETag was waited for. Anything else that was done to it
 * since ends the wait, too. */
static int end_swap(struct remote_pass *p, const struct remote_record *rec, bool *done)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	int r = fold_rows_get(p->v, p->store.id, rec->id, &rows);

	for (size_t i = 0; !r && i < rows.n; i++) {
		const struct op_row *shadow = &rows.rows[i];
		struct op_row row = *shadow;

		if (shadow->kind != OP_SWAP || !fold_row_is_shadow(shadow))
			continue;
		r = op_get(p->v->db, shadow->name, &row);
		if (r && r != -ENOENT)
			break;
		if (rec->has_key && !rec->deleted && !memcmp(row.key, rec->key, sizeof(row.key))) {
			*done = true;
			p->report.echoes++;
			return outbox_ack_shadow(p->v, shadow, rec);
		}
		r = r == -ENOENT ? op_delete(p->v->db, shadow->seq) : 0;
	}
	return r;
}

/* *done: the rows of the record decide what becomes of the entry. */
static int meet_rows(struct remote_pass *p, const struct remote_record *rec, bool *done)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	int r = end_swap(p, rec, done);

	if (!r && !*done)
		r = fold_rows_get(p->v, p->store.id, rec->id, &rows);
	if (!r && !*done)
		r = acknowledge(p, rec, &rows, done);
	if (r || *done || !rows.n)
		return r;
	*done = true;
	return remote_pass_defer(p, rec, DEFERRED_BUSY);
}

/* What waited of this record is overtaken; unless it is newer, and then the entry is no news. */
static int forget_older(struct remote_pass *p, const struct remote_record *rec, bool *overtaken)
{
	uint64_t seq = 0;
	int r = p->any_deferred ? remote_stale_seq(p->v, p->store.id, rec->id, &seq) : -ENOENT;

	if (r)
		return r == -ENOENT ? 0 : r;
	*overtaken = seq != REMOTE_PARK_SEQ && seq > rec->seq;
	return *overtaken ? 0 : deferred_delete(p->v->db, p->store.id, rec->id);
}

static int tombstone(struct remote_pass *p, const struct remote_record *rec)
{
	struct name_row n;
	bool done = true;
	int r = name_by_rid(p->v->db, p->store.id, rec->id, &n);
	if (r)
		return r == -ENOENT ? 0 : r;
	r = remote_remove_name(p, &n, &done);
	return r || done ? r : remote_pass_late(p, rec);
}

int remote_apply_one(struct remote_pass *p, const struct remote_record *rec)
{
	bool done = false;
	int r = 0;

	if (remote_stale_is(p->v, p->store.id, rec))
		return 0;
	if (p->any_ops) {
		/* An answer on its way may be older than this. */
		if (rec->seq != REMOTE_PARK_SEQ)
			remote_stale_note(p->v, p->store.id, rec->id, rec->seq);
		r = meet_rows(p, rec, &done);
	}
	if (r || done)
		return r;
	r = forget_older(p, rec, &done);
	if (r || done)
		return r;
	return rec->deleted ? tombstone(p, rec) : remote_place_record(p, rec);
}

/* Promise P3: how many names this page would remove. */
static int brake(struct remote_pass *p, const struct remote_record *records, size_t n)
{
	uint64_t gone = 0, all;
	struct name_row name;
	int r = 0;

	for (size_t i = 0; i < n; i++) {
		if (!records[i].deleted)
			continue;
		r = name_by_rid(p->v->db, p->store.id, records[i].id, &name);
		if (r && r != -ENOENT)
			return r;
		gone += !r;
	}
	if (gone <= BRAKE_MIN)
		return 0;
	r = name_count(p->v->db, p->store.id, &all);
	if (r || gone * 100 <= all * BRAKE_PERCENT)
		return r;
	p->report.held = gone;
	return CE_HELD;
}

static int store_cursor(struct remote_pass *p, const char *cursor)
{
	struct store_row s;
	int r = store_get(p->v->db, p->store.id, &s);

	if (r)
		return r;
	if (strlen(cursor) > STORE_CURSOR_MAX)
		return CE_PROTOCOL;
	memcpy(s.cursor, cursor, strlen(cursor) + 1);
	s.validated_ns = p->now;
	return store_update(p->v->db, &s);
}

static int apply_page(struct remote_pass *p, const struct remote_record *records, size_t n,
	const char *cursor, bool allow_deletes)
{
	int r = allow_deletes ? 0 : brake(p, records, n);

	for (size_t i = 0; !r && i < n; i++)
		r = remote_apply_one(p, &records[i]);
	if (!r)
		r = remote_pass_finish(p);
	return r ? r : store_cursor(p, cursor);
}

/* What the page may take of index and log (P11). A page that only removes needs no permission. */
static int reserve(struct volume *v, const struct remote_record *records, size_t n, uint64_t *bytes)
{
	uint64_t sum = 0;
	int r;

	for (size_t i = 0; i < n; i++)
		sum += records[i].deleted ? 0 : RECORD_BYTES;
	space_relieve(v);
	r = space_reserve(v, sum);
	if (!r)
		*bytes = sum;
	return r;
}

static int apply_reserved(struct volume *v, uint64_t store, const struct remote_record *records,
	size_t n, const char *cursor, bool allow_deletes, struct remote_report *report)
{
	struct remote_pass p = { 0 };
	int r = db_begin(v->db);

	if (r)
		return r;
	r = remote_pass_begin(&p, v, store);
	if (!r)
		r = apply_page(&p, records, n, cursor, allow_deletes);
	r = tree_row_end(v, r);
	remote_pass_end(&p, !r);
	if (!r)
		*report = p.report;
	else if (r == CE_HELD)
		*report = (struct remote_report){ .held = p.report.held };
	if (!r && p.any_ops)
		volume_tell_outbox(v);
	return r;
}

int remote_apply(struct volume *v, uint64_t store, const struct remote_record *records, size_t n,
	const char *cursor, bool allow_deletes, struct remote_report *report)
{
	uint64_t bytes = 0;
	int r = reserve(v, records, n, &bytes);

	if (!r)
		r = apply_reserved(v, store, records, n, cursor, allow_deletes, report);
	space_release(v, bytes);
	return r;
}

/* What still has rows stays where it is. */
static int retry_entry(void *arg, const char *rid, const char *entry)
{
	struct remote_pass *p = arg;
	bool pending;
	int r = fold_pending(p->v, p->store.id, rid, &pending);

	return r || pending ? r : remote_pass_deferred(p, rid, entry);
}

static int retry_store(struct volume *v, uint64_t store, struct remote_report *report)
{
	struct remote_pass p = { 0 };
	int r = db_begin(v->db);

	if (r)
		return r;
	r = remote_pass_begin(&p, v, store);
	if (!r)
		r = deferred_each(v->db, store, DEFERRED_BUSY, NULL, retry_entry, &p);
	if (!r)
		r = remote_pass_finish(&p);
	r = tree_row_end(v, r);
	remote_pass_end(&p, !r);
	if (r)
		return r;
	report->applied += p.report.applied;
	report->echoes += p.report.echoes;
	report->deferred += p.report.deferred;
	report->conflicts += p.report.conflicts;
	report->removed += p.report.removed;
	return 0;
}

static int collect_store(void *arg, const struct store_row *s)
{
	return remote_ids_add(arg, s->id);
}

int remote_retry_deferred(struct volume *v, struct remote_report *report)
{
	struct remote_report sum = { 0 };
	struct remote_ids ids = { 0 };
	uint64_t waiting;
	int r;

	db_read(v->db);
	r = deferred_count(v->db, DEFERRED_BUSY, &waiting);
	if (!r && waiting)
		r = store_each(v->db, collect_store, &ids);
	db_unlock(v->db);
	for (size_t i = 0; r >= 0 && i < ids.n; i++)
		r = retry_store(v, ids.id[i], &sum);
	free(ids.id);
	if (r < 0)
		return r;
	/* Those that were not even tried wait, too. */
	db_read(v->db);
	r = deferred_count(v->db, DEFERRED_BUSY, &sum.deferred);
	db_unlock(v->db);
	if (r)
		return r;
	*report = sum;
	return 0;
}
