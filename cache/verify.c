#include "cache/verify.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/log.h"
#include "cache/file_priv.h"
#include "cache/pool.h"

#define MAPS 32
#define CHUNKS 64

struct chunks {
	struct content_chunk c[CHUNKS];
	size_t n;
};

static int take_chunk(void *arg, const struct content_chunk *c)
{
	struct chunks *all = arg;

	all->c[all->n++] = *c;
	return all->n == CHUNKS;
}

/* The operations that would send what is not whole. One in flight reads its own snapshot. */
static int refuse(void *arg, const struct op_row *op)
{
	struct op_row *found = arg;

	if (op->kind != OP_PUT || op->state != OP_QUEUED)
		return 0;
	*found = *op;
	return 1;
}

static int refuse_ops(struct volume *v, uint64_t object)
{
	struct op_row op;
	int r = db_begin(v->db);

	if (r)
		return r;
	do {
		op = (struct op_row){ 0 };
		r = op_each_of_object(v->db, object, refuse, &op);
		if (r < 0 || !op.seq)
			break;
		op.state = OP_REFUSED;
		snprintf(op.error, sizeof(op.error), VERIFY_DAMAGED_TEXT);
		r = op_update(v->db, &op);
	} while (!r);
	if (r < 0)
		db_rollback(v->db);
	else
		r = db_commit(v->db);
	return r;
}

/* As for a reader. What is clean and could not be dropped is no damage to unsent content: it ends
 * with the reason, and can be tried again. */
static int repair(
	struct volume *v, uint64_t object, uint64_t idx, int error, struct verify_report *report)
{
	struct object_row o;
	struct file *f;
	int failed, r;

	db_read(v->db);
	r = object_get(v->db, object, &o);
	db_unlock(v->db);
	if (!r)
		r = file_open(v, object, o.version, false, &f);
	if (r)
		return r == -ENOENT || r == CE_STALE ? 0 : r;
	r = file_heal(f, idx, error, &failed);
	file_unref(f, false);
	if (r == CE_ABSENT) {
		report->healed++;
		return 0;
	}
	if (!r || failed)
		return failed;
	report->damaged++;
	return refuse_ops(v, object);
}

struct look {
	struct content_map m;
	struct blob *b;
	struct chunks chunks;
};

/* The next rows of a map, and its blob, referenced. */
static int next_chunks(struct volume *v, uint64_t map, uint64_t from, struct look *l)
{
	int r;

	l->b = NULL;
	l->chunks.n = 0;
	db_read(v->db);
	r = content_map_get(v->db, map, &l->m);
	if (!r && l->m.blob)
		r = content_chunk_each(v->db, map, from, take_chunk, &l->chunks);
	if (r >= 0 && l->chunks.n)
		r = blob_get(v, l->m.blob, &l->b);
	db_unlock(v->db);
	return MIN_OF(r, 0);
}

/* Until report->bytes reaches `end`; *idx goes behind what was looked at. */
static int look_at(struct volume *v, struct look *l, uint8_t *buf, uint64_t end, uint64_t *idx,
	struct verify_report *report)
{
	int r = 0;

	for (size_t i = 0; i < l->chunks.n && !r && report->bytes < end; i++) {
		const struct content_chunk *c = &l->chunks.c[i];

		r = blob_open(l->b, c, buf);
		secret_wipe(buf, c->len);
		report->chunks++;
		report->bytes += c->len;
		if (r == CE_TAMPER || r == -EIO || r == CE_CORRUPT)
			r = repair(v, l->m.object, c->idx, r, report);
		if (!r)
			*idx = c->idx + 1;
	}
	return r;
}

static int verify_map(struct volume *v, uint64_t map, struct verify_at *at, uint8_t *buf,
	uint64_t end, struct verify_report *report)
{
	struct look l;
	int r;

	*at = (struct verify_at){ .map = map, .chunk = at->map == map ? at->chunk : 0 };
	do {
		r = next_chunks(v, map, at->chunk, &l);
		if (!r)
			r = look_at(v, &l, buf, end, &at->chunk, report);
		blob_unref(l.b);
	} while (!r && l.chunks.n && report->bytes < end);
	if (r && r != -ENOENT) /* gone meanwhile */
		return r;
	if (r || !l.chunks.n) {
		*at = (struct verify_at){ .map = map + 1 };
		report->files++;
	}
	return 0;
}

static int maps_from(
	struct volume *v, uint64_t object, uint64_t from, uint64_t ids[static MAPS], size_t *n)
{
	uint64_t after = from ? from - 1 : 0;
	struct object_row o;
	int r;

	*n = 0;
	db_read(v->db);
	if (!object) {
		r = content_map_after(v->db, after, ids, MAPS);
		*n = (size_t)MAX_OF(r, 0);
	} else {
		r = object_get(v->db, object, &o);
		if (!r && S_ISREG(o.mode) && o.map > after)
			ids[(*n)++] = o.map;
	}
	db_unlock(v->db);
	return MIN_OF(r, 0);
}

int verify_slice(struct volume *v, uint64_t object, struct verify_at *at, uint64_t budget_bytes,
	bool *done, struct verify_report *report)
{
	uint64_t end = MAX_OF(report->bytes + budget_bytes, budget_bytes), ids[MAPS];
	uint8_t *buf = pool_get(v->pool, BLOB_SHIFT_MAX);
	size_t n = 0;
	int r = buf ? 0 : -ENOMEM;

	*done = false;
	while (!r && !*done && report->bytes < end) {
		r = maps_from(v, object, at->map, ids, &n);
		*done = !r && !n;
		for (size_t i = 0; i < n && !r && report->bytes < end; i++)
			r = verify_map(v, ids[i], at, buf, end, report);
	}
	if (buf)
		pool_put(v->pool, BLOB_SHIFT_MAX, buf, (size_t)1 << BLOB_SHIFT_MAX);
	return r;
}

void verify_scrub(struct volume *v, int64_t age_ms)
{
	uint64_t bytes = v->scrub_rate * (uint64_t)MIN_OF(age_ms, VERIFY_SCRUB_MS_MAX) / 1000;
	struct verify_report report = { 0 };
	bool done = false;
	int r;

	if (!bytes || filetab_any_dirty(v))
		return;
	r = verify_slice(v, 0, &v->scrub_at, bytes, &done, &report);
	if (done)
		v->scrub_at = (struct verify_at){ 0 };
	if (r)
		log_debug("scrub: %s", error_text(r));
}

int verify_index(struct volume *v)
{
	int r;

	db_read(v->db);
	r = db_integrity_check(v->db);
	db_unlock(v->db);
	return r;
}
