#include "cache/file_priv.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/secret.h"
#include "cache/packs.h"
#include "cache/pool.h"

struct dirty *file_dirty_find(struct file *f, uint64_t idx)
{
	struct dirty *d;

	HASH_FIND(hh, f->dirty, &idx, sizeof(idx), d);
	return d;
}

/* How much of the chunk the file's size says there is. */
static uint32_t within_size(const struct file *f, uint64_t idx)
{
	uint64_t start = idx << file_shift(f);
	uint64_t left = f->size > start ? f->size - start : 0;

	return (uint32_t)MIN_OF(left, UINT64_C(1) << file_shift(f));
}

/* The content of the chunk's slot, if it has one. Earlier versions could leave more in a slot than
 * the file is long (a seal that failed); it is no content, and who writes set no space aside for
 * it. */
static int load_slot(struct file *f, struct dirty *d)
{
	struct chunk_entry e;
	int r = chunkmap_get(&f->chunks, d->idx, &e);

	if (r || (e.state != CHUNK_ROW && e.state != CHUNK_SEALED))
		return r;
	r = blob_open(file_blob_of(f, &e), &e.c, d->buf);
	if (r)
		return r;
	d->len = MIN_OF(e.c.len, within_size(f, d->idx));
	secret_wipe(d->buf + d->len, e.c.len - d->len);
	return 0;
}

static int get(struct file *f, uint64_t idx, int (*begin)(struct file *f, struct dirty *d),
	struct dirty **out)
{
	struct dirty *d = calloc(1, sizeof(*d));
	unsigned shift = file_shift(f);
	int r;

	if (!d)
		return -ENOMEM;
	d->idx = idx;
	d->buf = pool_get(f->v->pool, shift);
	r = d->buf ? 0 : -ENOMEM;
	if (!r && begin)
		r = begin(f, d);
	if (!r)
		r = TABLE_ADD(hh, f->dirty, idx, d);
	if (r) {
		pool_put(f->v->pool, shift, d->buf, (size_t)1 << shift);
		free(d);
		return r;
	}
	atomic_fetch_add(&f->v->dirty_bytes, UINT64_C(1) << shift);
	*out = d;
	return 0;
}

int file_dirty_get(struct file *f, uint64_t idx, bool load, struct dirty **out)
{
	struct dirty *d = file_dirty_find(f, idx);

	if (!d)
		return get(f, idx, load ? load_slot : NULL, out);
	*out = d;
	return 0;
}

static int leave_slot(struct file *f, struct dirty *d)
{
	struct chunk_entry e;
	int r = chunkmap_get(&f->chunks, d->idx, &e);

	if (!r)
		d->under = d->len = MIN_OF(e.c.len, within_size(f, d->idx));
	return r;
}

int file_dirty_get_part(struct file *f, uint64_t idx, uint32_t from, struct dirty **out)
{
	int r = get(f, idx, leave_slot, out);

	if (!r)
		(*out)->from = (*out)->to = from;
	return r;
}

bool file_dirty_can_wait(const struct dirty *d, uint32_t from, uint32_t to)
{
	return !d->under || (from <= d->to && to >= d->from);
}

void file_dirty_written(struct dirty *d, uint32_t from, uint32_t to)
{
	d->from = MIN_OF(d->from, from);
	d->to = MAX_OF(d->to, to);
	if (!d->from && d->to >= d->under)
		d->under = 0;
}

int file_dirty_complete(struct file *f, struct dirty *d)
{
	struct dirty all = { .idx = d->idx };
	unsigned shift = file_shift(f);
	int r;

	if (!d->under)
		return 0;
	all.buf = pool_get(f->v->pool, shift);
	r = all.buf ? load_slot(f, &all) : -ENOMEM;
	if (r) {
		pool_put(f->v->pool, shift, all.buf, (size_t)1 << shift);
		return r;
	}
	/* It may have been shorter when it was left: no content has come to it since. */
	if (all.len > d->under)
		secret_wipe(all.buf + d->under, all.len - d->under);
	memcpy(all.buf + d->from, d->buf + d->from, d->to - d->from);
	pool_put(f->v->pool, shift, d->buf, d->to);
	d->buf = all.buf;
	d->under = 0;
	return 0;
}

bool file_dirty_grow(struct dirty *d, uint32_t len, uint64_t *pot)
{
	uint32_t need = blob_bytes(MAX_OF(len, d->len));

	if (need > d->reserved) {
		if (*pot < need - d->reserved)
			return false;
		*pot -= need - d->reserved;
		d->reserved = need;
	}
	d->len = MAX_OF(len, d->len);
	return true;
}

void file_dirty_drop(struct file *f, struct dirty *d)
{
	HASH_DEL(f->dirty, d);
	atomic_fetch_sub(&f->v->dirty_bytes, UINT64_C(1) << file_shift(f));
	space_release(f->v, d->reserved);
	pool_put(f->v->pool, file_shift(f), d->buf, d->len);
	free(d);
}

/* A slot that no commit named and none will. */
static void drop_sealed(struct blob *b, const struct chunk_entry *e)
{
	if (e->state == CHUNK_SEALED)
		blob_units_free(b, e->c.slot, e->c.len);
}

static void keep_old(struct chunk_entry *e)
{
	if (e->state != CHUNK_ROW)
		return;
	e->has_old = true;
	e->old_slot = e->c.slot;
	e->old_len = e->c.len;
}

/* Into the blob of a large file, else into whichever pack is current. */
static int seal_somewhere(struct file *f, uint64_t idx, const void *data, uint32_t len,
	struct blob **b, struct content_chunk *c)
{
	struct blob *pack;
	uint64_t slot;
	int r;

	if (file_is_large(f)) {
		r = blob_seal(f->blob, idx, data, len, NULL, c);
		if (!r)
			*b = blob_ref(f->blob);
		return r;
	}
	r = packs_take(f->v, f->store, len, &pack, &slot);
	if (r)
		return r;
	r = blob_seal(pack, idx, data, len, &slot, c);
	if (r)
		blob_unref(pack);
	else
		*b = pack;
	return r;
}

/* What the index has waits for the commit. */
static void put_sealed(struct file *f, struct chunk_entry *e, const struct content_chunk *c)
{
	enum chunk_state was = e->state;

	keep_old(e);
	e->c = *c;
	e->state = CHUNK_SEALED;
	chunkmap_changed(&f->chunks, c->idx, was, CHUNK_SEALED);
}

static int seal(struct file *f, uint64_t idx, const void *data, uint32_t len)
{
	struct chunk_entry *e;
	struct content_chunk c;
	struct blob *b;
	int r = chunkmap_edit(&f->chunks, idx, &e);

	if (!r)
		r = seal_somewhere(f, idx, data, len, &b, &c);
	if (r)
		return r;
	drop_sealed(f->blob, e);
	blob_unref(f->blob);
	f->blob = b;
	put_sealed(f, e, &c);
	return 0;
}

int file_dirty_seal(struct file *f, struct dirty *d)
{
	int r = file_dirty_complete(f, d);

	if (!r)
		r = seal(f, d->idx, d->buf, d->len);
	if (r)
		return r;
	d->reserved -= MIN_OF(blob_bytes(d->len), d->reserved);
	file_dirty_drop(f, d);
	return 0;
}

/* What does not open will not open the next time either, and must not keep the rest from being
 * committed. */
static void lose(struct file *f, struct dirty *d, int error)
{
	log_error("object %llu: %u bytes written at %llu are lost, as the content around them does "
		  "not open: %s",
		(unsigned long long)f->object, d->to - d->from,
		(unsigned long long)(d->idx << file_shift(f)) + d->from, error_text(error));
	atomic_store(&f->lost, error);
	file_dirty_drop(f, d);
}

/* So many chunks are asked of the disk before they are read. */
#define LEAD 64

static void will_need(struct file *f, const struct dirty *d)
{
	struct chunk_entry e;

	if (d->under && !chunkmap_get(&f->chunks, d->idx, &e))
		blob_will_need(file_blob_of(f, &e), &e.c);
}

int file_dirty_seal_all(struct file *f, bool *lost)
{
	struct dirty *d, *next, *ahead = HASH_COUNT(f->dirty) > 1 ? f->dirty : NULL;
	int lead = 0, r;

	*lost = false;
	HASH_ITER (hh, f->dirty, d, next) {
		for (; ahead && lead < LEAD; ahead = ahead->hh.next, lead++)
			will_need(f, ahead);
		lead--;
		r = file_dirty_complete(f, d);
		if (r == CE_TAMPER || r == CE_CORRUPT || r == -EIO) {
			lose(f, d, r);
			*lost = true;
			continue;
		}
		if (!r)
			r = file_dirty_seal(f, d);
		if (r)
			return r;
	}
	f->kept = false;
	return 0;
}

int file_dirty_seal_from(
	struct file *f, uint64_t idx, const void *data, uint32_t len, uint64_t *pot)
{
	int r = seal(f, idx, data, len);

	if (!r)
		*pot -= MIN_OF(blob_bytes(len), *pot);
	return r;
}

/* What a run can be: chunks of `len` bytes from idx on that are in nobody's buffer. */
static unsigned run_of(struct file *f, uint64_t idx, size_t len)
{
	size_t max = MIN_OF(len >> file_shift(f), blob_run_max(f->blob));
	unsigned n = 0;

	while (n < max && !file_dirty_find(f, idx + n))
		n++;
	return n;
}

int file_dirty_seal_run(struct file *f, uint64_t idx, const uint8_t *data, size_t len,
	uint64_t *pot, size_t *sealed)
{
	struct content_chunk c[FILE_RUN_MAX];
	unsigned n = file_is_large(f) ? run_of(f, idx, len) : 0, i;
	struct chunk_entry *e;
	int r;

	*sealed = 0;
	if (!n)
		return 0;
	r = blob_seal_run(f->blob, idx, data, &n, c);
	if (r)
		return r;
	*pot -= MIN_OF((uint64_t)n << file_shift(f), *pot);
	for (i = 0; i < n && !(r = chunkmap_edit(&f->chunks, idx + i, &e)); i++) {
		drop_sealed(f->blob, e);
		put_sealed(f, e, &c[i]);
	}
	*sealed = (size_t)i << file_shift(f);
	for (; i < n; i++)
		blob_units_free(f->blob, c[i].slot, c[i].len);
	return *sealed ? 0 : r;
}

bool file_dirty_put_sealed(struct file *f, const struct content_chunk *c)
{
	struct chunk_entry *e;

	if (file_dirty_find(f, c->idx) || chunkmap_edit(&f->chunks, c->idx, &e) ||
		e->state != CHUNK_NONE)
		return false;
	put_sealed(f, e, c);
	return true;
}

/* The entry of a chunk without content; what is sealed of it is in `b`. */
static void empty(struct file *f, struct blob *b, struct chunk_entry *e)
{
	enum chunk_state was = e->state;

	drop_sealed(b, e);
	keep_old(e);
	if (was != CHUNK_NONE)
		e->state = e->has_old ? CHUNK_DROPPED : CHUNK_NONE;
	chunkmap_changed(&f->chunks, e->c.idx, was, e->state);
}

int file_dirty_punch(struct file *f, uint64_t idx)
{
	struct dirty *d = file_dirty_find(f, idx);
	struct chunk_entry *e;
	int r;

	if (d)
		file_dirty_drop(f, d);
	r = chunkmap_edit(&f->chunks, idx, &e);
	if (!r)
		empty(f, f->blob, e);
	return r;
}

/* NULL: there is nothing in it. */
static int load_first(
	struct file *f, const struct chunk_entry *e, uint64_t *pot, struct dirty **out)
{
	int r = 0;

	*out = file_dirty_find(f, 0);
	if (!*out && e->state != CHUNK_ROW && e->state != CHUNK_SEALED)
		return 0;
	if (!*out)
		r = file_dirty_get(f, 0, true, out);
	if (!r && !file_dirty_grow(*out, (*out)->len, pot))
		r = -EAGAIN;
	return r;
}

/* Of what was written in order, so much lies in [from, from + chunk). */
static uint32_t run_within(uint32_t run, uint32_t from, uint32_t chunk)
{
	return run == UINT32_MAX ? run : MIN_OF(run - MIN_OF(run, from), chunk);
}

/* The part of `d` that is chunk `idx` of the file from now on, and of what was set aside. */
static void take_part(struct dirty *part, struct dirty *d, uint64_t idx, uint32_t chunk)
{
	uint32_t from = (uint32_t)idx * chunk;

	part->len = MIN_OF(d->len - from, chunk);
	part->run = run_within(d->run, from, chunk);
	part->reserved = blob_bytes(part->len);
	d->reserved -= part->reserved;
	memcpy(part->buf, d->buf + from, part->len);
}

/* On failure `d` is as it was. */
static int split_off(struct file *f, struct dirty *d, uint32_t chunk)
{
	struct dirty *part;
	uint64_t idx;
	int r = 0;

	for (idx = 1; !r && idx * chunk < d->len; idx++) {
		r = file_dirty_get(f, idx, false, &part);
		if (!r)
			take_part(part, d, idx, chunk);
	}
	if (!r)
		return 0;
	while (--idx) {
		part = file_dirty_find(f, idx);
		if (!part)
			continue;
		d->reserved += part->reserved;
		part->reserved = 0;
		file_dirty_drop(f, part);
	}
	return r;
}

/* Chunk 0 as it was in a pack becomes several of the file's blob, whose chunks are smaller. On
 * failure it is as it was. */
static int split_first(struct file *f, struct dirty *d)
{
	const uint32_t was = UINT32_C(1) << BLOB_SHIFT_PACK, chunk = UINT32_C(1) << file_shift(f);
	uint8_t *buf = pool_get(f->v->pool, file_shift(f));
	int r = buf ? split_off(f, d, chunk) : -ENOMEM;

	if (r) {
		pool_put(f->v->pool, file_shift(f), buf, 0);
		return r;
	}
	memcpy(buf, d->buf, MIN_OF(d->len, chunk));
	pool_put(f->v->pool, BLOB_SHIFT_PACK, d->buf, d->len);
	atomic_fetch_sub(&f->v->dirty_bytes, was - chunk);
	d->buf = buf;
	d->len = MIN_OF(d->len, chunk);
	d->run = run_within(d->run, 0, chunk);
	return 0;
}

int file_dirty_enlarge(struct file *f, uint64_t *pot)
{
	struct blob *own, *pack = f->blob;
	struct chunk_entry *e;
	struct dirty *d;
	int r = chunkmap_edit(&f->chunks, 0, &e);

	if (!r)
		r = load_first(f, e, pot, &d);
	if (!r)
		r = blob_new(f->v, f->store, false, &own);
	if (r)
		return r;
	f->blob = own;
	r = d ? split_first(f, d) : 0;
	if (r) {
		f->blob = pack;
		blob_unref(own);
		return r;
	}
	if (e->state == CHUNK_SEALED)
		empty(f, pack, e);
	f->here = 0; /* counted in chunks */
	blob_unref(pack);
	return 0;
}

static void free_sealed(void *arg, const struct chunk_entry *e)
{
	struct file *f = arg;

	drop_sealed(f->blob, e);
}

void file_dirty_cut(struct file *f, uint64_t idx)
{
	struct dirty *d, *next;

	HASH_ITER (hh, f->dirty, d, next) {
		if (d->idx >= idx)
			file_dirty_drop(f, d);
	}
	chunkmap_cut(&f->chunks, idx, free_sealed, f);
}
