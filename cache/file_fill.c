/* Files of which parts are not here: what is missing, taking what was fetched, and dropping what
 * does not open. */
#include "cache/file_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "meta/store.h"

static uint64_t chunks_of(uint64_t size, unsigned shift)
{
	return (size >> shift) + (size & ((UINT64_C(1) << shift) - 1) ? 1 : 0);
}

/* The run of chunks without content that begins first in [from, end), at most max_chunks long. */
static int missing_run(struct file *f, uint64_t from, uint64_t end, uint64_t max_chunks,
	uint64_t *first, uint64_t *n)
{
	uint64_t idx = from, next;
	int r;

	for (;; idx++) {
		r = chunkmap_next(&f->chunks, idx, &next);
		if (r || idx >= end)
			break;
		if (next != idx) {
			*first = idx;
			*n = MIN_OF(MIN_OF(next, end) - idx, max_chunks);
			return 0;
		}
	}
	*n = 0;
	return r;
}

/* A hard link is one record for each name, and each has its own ETag: the map's is one of theirs.
 */
static int take_rid(void *arg, const struct name_row *n, const struct object_row *o)
{
	struct file_range *range = arg;
	bool fits = range->etag[0] && !strcmp(n->etag.text, range->etag);

	if (n->rid.text[0] && (fits || !range->rid[0]))
		memcpy(range->rid, n->rid.text, sizeof(range->rid));
	return fits;
}

/* What a request for the range must name. */
static int name_range(struct file *f, struct file_range *range)
{
	struct content_map m;
	int r;

	db_read(f->v->db);
	r = content_map_get(f->v->db, f->map, &m);
	if (!r) {
		memcpy(range->etag, m.etag.text, sizeof(range->etag));
		range->rid[0] = 0;
		r = name_each_of(f->v->db, f->object, take_rid, range);
	}
	db_unlock(f->v->db);
	if (r < 0)
		return r;
	range->store = f->store;
	return 0;
}

/* file->lock exclusive: every chunk turned out to be here. */
static int mark_whole(struct file *f)
{
	struct content_map m;
	int r = db_begin(f->v->db);

	if (r)
		return r;
	r = content_map_get(f->v->db, f->map, &m);
	if (!r) {
		m.whole = true;
		r = content_map_update(f->v->db, &m);
	}
	if (r)
		db_rollback(f->v->db);
	else
		r = db_commit(f->v->db);
	if (!r)
		f->whole = true;
	return r;
}

static int missing_locked(
	struct file *f, uint64_t off, uint64_t len, uint64_t max, struct file_range *range)
{
	unsigned shift = file_shift(f);
	uint64_t chunk = UINT64_C(1) << shift, end, first = 0, n = 0;
	int r;

	if (f->whole || off >= f->size || !len)
		return 0;
	end = chunks_of(len > f->size - off ? f->size : off + len, shift);
	r = missing_run(f, off >> shift, end, MAX_OF(max >> shift, 1), &first, &n);
	if (r || !n) {
		/* Asked for all of it: then it is whole. */
		if (!r && off >> shift == 0 && end == chunks_of(f->size, shift))
			r = mark_whole(f);
		return r;
	}
	range->off = first << shift;
	range->len = MIN_OF(n * chunk, f->size - range->off);
	return name_range(f, range);
}

int file_missing(struct file *f, uint64_t off, uint64_t len, uint64_t max, struct file_range *range)
{
	struct file_range found = { .len = 0 };
	int r;

	pthread_rwlock_wrlock(&f->lock);
	r = missing_locked(f, off, len, max, &found);
	pthread_rwlock_unlock(&f->lock);
	if (!r)
		*range = found;
	return r;
}

void file_watch_reader(struct file *f, uint64_t end)
{
	atomic_store_explicit(&f->watched, end, memory_order_relaxed);
}

bool file_read_to(struct file *f, uint64_t end)
{
	uint_fast64_t at = atomic_load_explicit(&f->watched, memory_order_relaxed);

	return at && end >= at && atomic_compare_exchange_strong(&f->watched, &at, 0);
}

uint64_t file_chunk_bytes(struct file *f)
{
	uint64_t bytes;

	pthread_rwlock_rdlock(&f->lock);
	bytes = UINT64_C(1) << file_shift(f);
	pthread_rwlock_unlock(&f->lock);
	return bytes;
}

struct fill {
	struct file *f;
	uint64_t here; /* f->here after it */
	uint64_t gen;
	struct content_map m;
};

static int put_filled(void *arg, struct chunk_entry *e)
{
	struct fill *l = arg;
	struct db *db = l->f->v->db;
	int r = content_undo_chunk(db, l->m.id, l->gen, e->c.idx);

	l->f->logged = false;

	return r ? r : content_chunk_put(db, l->m.id, &e->c);
}

/* Chunks from the first on that are here, counted on from the last time. */
static int count_here(struct file *f, uint64_t *here)
{
	uint64_t at = f->here, next;
	int r;

	while (!(r = chunkmap_next(&f->chunks, at, &next)) && next == at)
		at++;
	if (!r)
		*here = at;
	return r;
}

/* What is fetched for the first time may be a scan: it goes before what was used again. */
static int64_t used_s(const struct content_map *m)
{
	return MAX_OF(m->used_s, clock_wall_ns() / NS_PER_SEC - SPACE_ONCE_S);
}

/* As a commit, but neither the object nor the journal changes. Undo rows keep recovery from taking
 * a power cut for tampering (I2). The map is read here: while the chunks were sealed the version may
 * have got another ETag (a move of ours was acknowledged), or a successor. */
static int fill_txn(struct fill *l)
{
	struct file *f = l->f;
	struct object_row o = { .mtime_ns = 0 };
	struct content_undo u;
	int r = content_map_get(f->v->db, f->map, &l->m);

	if (r)
		return r == -ENOENT ? CE_STALE : r;
	r = object_get(f->v->db, f->object, &o);
	if (r && r != -ENOENT)
		return r;
	l->gen = atomic_load(&f->v->undo_gen);
	u = (struct content_undo){ .map = l->m.id,
		.gen = l->gen,
		.blob = l->m.blob,
		.size = l->m.size,
		.whole = l->m.whole,
		.mtime_ns = o.mtime_ns };
	r = content_undo_put(f->v->db, &u);
	if (!r)
		r = file_blob_txn(f, &l->m);
	if (!r)
		r = chunkmap_each_pending(&f->chunks, put_filled, l);
	if (r)
		return r;
	l->m.whole = l->here >= chunks_of(f->size, file_shift(f));
	l->m.used_s = used_s(&l->m);
	durable_note_undo(f->v, l->gen);
	return content_map_update(f->v->db, &l->m);
}

static int keep_filled(void *arg, struct chunk_entry *e)
{
	struct file *f = arg;

	e->state = CHUNK_ROW;
	chunkmap_changed(&f->chunks, e->c.idx, CHUNK_SEALED, CHUNK_ROW);
	return 0;
}

static int drop_filled(void *arg, struct chunk_entry *e)
{
	struct file *f = arg;

	blob_units_free(f->blob, e->c.slot, e->c.len);
	e->state = CHUNK_NONE;
	chunkmap_changed(&f->chunks, e->c.idx, CHUNK_SEALED, CHUNK_NONE);
	return 0;
}

/* Chunks in a row that are not here, of at most `len` bytes; a last part of one counts. */
static int count_missing(struct file *f, uint64_t idx, uint64_t len, uint64_t *bytes)
{
	uint64_t chunk = UINT64_C(1) << file_shift(f);
	struct chunk_entry e;
	int r;

	for (*bytes = 0; *bytes < len; *bytes += MIN_OF(chunk, len - *bytes)) {
		r = chunkmap_get(&f->chunks, idx++, &e);
		if (r || e.state != CHUNK_NONE)
			return r;
	}
	return 0;
}

/* *n: so many bytes are here now, of the `len` that were missing. */
static int seal_some(struct file *f, const uint8_t *buf, uint64_t len, uint64_t idx, uint64_t *pot,
	size_t *n)
{
	int r = file_dirty_seal_run(f, idx, buf, len, pot, n);

	if (r || *n)
		return r;
	*n = MIN_OF((size_t)1 << file_shift(f), len);
	return file_dirty_seal_from(f, idx, buf, (uint32_t)*n, pot);
}

/* Seals what is missing of the range. */
static int seal_missing(
	struct file *f, const uint8_t *buf, uint64_t len, uint64_t off, uint64_t *pot)
{
	unsigned shift = file_shift(f);
	uint64_t done = 0, missing;
	size_t n;
	int r = 0;

	while (!r && done < len) {
		uint64_t idx = (off + done) >> shift;

		n = (size_t)1 << shift;
		r = count_missing(f, idx, MIN_OF(len - done, UINT64_C(1) << BLOB_RUN_SHIFT), &missing);
		if (!r && missing)
			r = seal_some(f, buf + done, missing, idx, pot, &n);
		done += n;
	}
	return r;
}

static int fill_commit(struct fill *l)
{
	struct file *f = l->f;
	int r = count_here(f, &l->here);

	if (!r)
		r = db_begin(f->v->db);
	if (r)
		return r;
	r = fill_txn(l);
	if (r)
		db_rollback(f->v->db);
	else
		r = db_commit(f->v->db);
	file_blob_done(f, !r);
	if (!r)
		file_blob_follow(f);
	return r;
}

/* --- sealed before the lock is taken, so that who reads what is here goes on meanwhile --- */

struct early {
	struct blob *b; /* a reference */
	struct content_chunk *chunks;
	size_t n;
};

/* Gives back what was not taken. */
static void early_done(struct early *e)
{
	for (size_t i = 0; i < e->n; i++)
		blob_units_free(e->b, e->chunks[i].slot, e->chunks[i].len);
	free(e->chunks);
	blob_unref(e->b);
}

static bool all_missing(struct file *f, uint64_t len, uint64_t off)
{
	uint64_t missing;

	return !count_missing(f, off >> file_shift(f), len, &missing) && missing == len;
}

/* A large file of which nothing in the range is here; anything else is looked at under the lock. */
static void early_begin(struct file *f, uint64_t len, uint64_t off, struct early *e)
{
	bool may;

	*e = (struct early){ .n = 0 };
	pthread_rwlock_rdlock(&f->lock);
	may = file_is_large(f) && !f->whole && off < f->size && len <= f->size - off &&
	      !(off & ((UINT64_C(1) << f->blob->shift) - 1)) && all_missing(f, len, off);
	if (may)
		e->b = blob_ref(f->blob);
	pthread_rwlock_unlock(&f->lock);
	if (may)
		e->chunks = calloc(chunks_of(len, e->b->shift), sizeof(*e->chunks));
}

/* An error ends it: it is met again, and told, under the lock. */
static void seal_early(
	struct early *e, const uint8_t *buf, uint64_t len, uint64_t off, uint64_t *pot)
{
	unsigned shift = e->b->shift;
	for (uint64_t done = 0, bytes; done < len; done += bytes) {
		unsigned n = (unsigned)MIN_OF((len - done) >> shift, blob_run_max(e->b));
		uint64_t idx = (off + done) >> shift;
		struct content_chunk *c = e->chunks + e->n;

		bytes = len - done;
		if (n ? blob_seal_run(e->b, idx, buf + done, &n, c)
		      : blob_seal(e->b, idx, buf + done, (uint32_t)bytes, NULL, c))
			return;
		bytes = n ? (uint64_t)n << shift : bytes;
		*pot -= MIN_OF((uint64_t)blob_bytes((uint32_t)bytes), *pot);
		e->n += MAX_OF(n, 1u);
	}
}

/* Lock exclusive. -EAGAIN: the file has changed meanwhile, and what was sealed does not fit. */
static int take_early(struct file *f, struct early *e)
{
	if (!e->n)
		return 0;
	if (f->blob != e->b || e->chunks[0].seq < keys_from(f->v))
		return -EAGAIN;
	while (e->n && file_dirty_put_sealed(f, &e->chunks[e->n - 1]))
		e->n--;
	return e->n ? -EAGAIN : 0;
}

static int fill_locked(struct file *f, const char *etag, const uint8_t *buf, uint64_t len,
	uint64_t off, struct early *early, uint64_t *pot)
{
	struct fill l = { .f = f };
	struct content_map m;
	uint64_t mask = (UINT64_C(1) << file_shift(f)) - 1;
	int r;

	if (f->whole)
		return 0;
	if (off & mask || off >= f->size || len > f->size - off ||
		(len & mask && off + len != f->size))
		return -EINVAL;
	db_read(f->v->db);
	r = content_map_get(f->v->db, f->map, &m);
	db_unlock(f->v->db);
	if (r)
		return r;
	if (strcmp(m.etag.text, etag))
		return CE_STALE;
	f->first_use = f->first_use || !m.blob;
	r = take_early(f, early);
	if (!r && f->size > mask + 1 && !file_is_large(f))
		r = file_dirty_enlarge(f, pot);
	if (!r)
		r = seal_missing(f, buf, len, off, pot);
	if (!r && f->chunks.n_pending)
		r = fill_commit(&l);
	else if (!r)
		return 0;
	if (!r) {
		f->whole = l.m.whole;
		f->here = l.here;
	}
	if (chunkmap_each_pending(&f->chunks, r ? drop_filled : keep_filled, f))
		abort(); /* the callbacks do not fail */
	return r;
}

static int fill(struct file *f, const char *etag, const void *buf, size_t len, uint64_t off,
	struct early *early)
{
	uint64_t pot = (uint64_t)len + BLOB_PAD;
	int r = space_reserve_fill(f, pot);

	if (r)
		return r;
	if (early->chunks)
		seal_early(early, buf, len, off, &pot);
	pthread_rwlock_wrlock(&f->lock);
	r = fill_locked(f, etag, buf, len, off, early, &pot);
	pthread_rwlock_unlock(&f->lock);
	space_release(f->v, pot);
	return r;
}

int file_fill(struct file *f, const char *etag, const void *buf, size_t len, uint64_t off)
{
	struct early early;
	bool again;
	int r;

	if (!len)
		return 0;
	early_begin(f, len, off, &early);
	r = fill(f, etag, buf, len, off, &early);
	again = r == -EAGAIN && early.chunks;
	early_done(&early);
	return again ? fill(f, etag, buf, len, off, &(struct early){ .n = 0 }) : r;
}

/* --- what does not open --- */

/* In a transaction of its own: the row goes if the origin has the content, and the event is
 * recorded. *clean says which. */
static int drop_damaged(struct file *f, const struct chunk_entry *e, bool *clean)
{
	struct content_map m;
	struct gc_sharers s;
	char detail[96];
	int r = content_map_get(f->v->db, f->map, &m);

	if (r)
		return r;
	*clean = m.etag.text[0] && !f->snapshot && m.state != CONTENT_MAP_SNAPSHOT &&
		 !file_is_dirty(f);
	snprintf(detail, sizeof(detail), "{\"object\":%llu,\"chunk\":%llu,\"unsent\":%s}",
		(unsigned long long)f->object, (unsigned long long)e->c.idx,
		*clean ? "false" : "true");
	r = event_append(f->v->db, clock_wall_ns(), "tamper", detail);
	if (r || !*clean)
		return r;
	r = gc_sharers(f->v, &m, &s);
	if (!r && s.n == 1)
		r = file_commit_replaced(f, e->c.slot, e->c.len, atomic_load(&f->v->undo_gen));
	if (!r)
		r = content_chunk_delete(f->v->db, m.id, e->c.idx);
	m.whole = false;
	return r ? r : content_map_update(f->v->db, &m);
}

static int heal_txn(struct file *f, const struct chunk_entry *e, bool *clean)
{
	int r = db_begin(f->v->db);

	f->n_replaced = 0;
	if (r)
		return r;
	r = drop_damaged(f, e, clean);
	if (r)
		db_rollback(f->v->db);
	else
		r = db_commit(f->v->db);
	return r;
}

static int heal_locked(struct file *f, uint64_t idx, int error, int *failed)
{
	struct chunk_entry *e;
	bool clean = false;
	int r = chunkmap_edit(&f->chunks, idx, &e);

	*failed = r;
	if (!r && e->state != CHUNK_ROW)
		return e->state == CHUNK_SEALED ? error : 0;
	if (!r)
		*failed = r = heal_txn(f, e, &clean);
	if (r || !clean)
		return error;
	e->state = CHUNK_NONE;
	f->whole = false;
	f->here = 0;
	file_commit_release(f);
	return CE_ABSENT;
}

/* Does it open now? A commit may have replaced the chunk since. */
static int look_again(struct file *f, uint64_t idx)
{
	uint64_t bad_idx, off = idx << file_shift(f);
	size_t len = (size_t)1 << file_shift(f);
	uint8_t *buf = malloc(len);
	int r;

	if (!buf)
		return -ENOMEM;
	r = off < f->size ? file_read_locked(f, buf, len, off, &bad_idx) : 0;
	secret_wipe(buf, len);
	free(buf);
	return r;
}

int file_heal(struct file *f, uint64_t idx, int error, int *failed)
{
	int r;

	pthread_rwlock_wrlock(&f->lock);
	r = *failed = look_again(f, idx);
	if (r == CE_TAMPER || r == -EIO) {
		atomic_fetch_add(&f->v->damaged, 1);
		r = heal_locked(f, idx, error, failed);
	}
	pthread_rwlock_unlock(&f->lock);
	return r;
}
