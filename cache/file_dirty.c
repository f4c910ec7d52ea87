#include "cache/file_priv.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "cache/pool.h"

struct dirty *file_dirty_find(struct file *f, uint64_t idx)
{
	struct dirty *d;

	HASH_FIND(hh, f->dirty, &idx, sizeof(idx), d);
	return d;
}

/* The content of the chunk's slot, if it has one. */
static int load_slot(struct file *f, struct dirty *d)
{
	struct chunk_entry e;
	int r = chunkmap_get(&f->chunks, d->idx, &e);

	if (r || (e.state != CHUNK_ROW && e.state != CHUNK_SEALED))
		return r;
	r = blob_open(f->blob, &e.c, d->buf);
	if (!r)
		d->len = e.c.len;
	return r;
}

int file_dirty_get(struct file *f, uint64_t idx, bool load, struct dirty **out)
{
	struct dirty *d = file_dirty_find(f, idx);
	unsigned shift = file_shift(f);
	int r = 0;

	if (d) {
		*out = d;
		return 0;
	}
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->idx = idx;
	d->buf = pool_get(f->v->pool, shift);
	r = d->buf ? 0 : -ENOMEM;
	if (!r && load)
		r = load_slot(f, d);
	if (r) {
		pool_put(f->v->pool, shift, d->buf, (size_t)1 << shift);
		free(d);
		return r;
	}
	HASH_ADD(hh, f->dirty, idx, sizeof(d->idx), d);
	atomic_fetch_add(&f->v->dirty_bytes, UINT64_C(1) << shift);
	*out = d;
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

static int need_blob(struct file *f)
{
	return f->blob ? 0 : blob_new(f->v, f->store, &f->blob);
}

/* The chunk's content is in the slot of `c` now; what the index has waits for the commit. */
static void set_sealed(
	struct file *f, struct chunk_entry *e, const struct content_chunk *c, bool reused)
{
	enum chunk_state was = e->state;

	if (was == CHUNK_SEALED && !reused)
		blob_slot_free(f->blob, e->c.slot, blob_bytes(e->c.len));
	if (was == CHUNK_ROW) {
		e->has_old = true;
		e->old_slot = e->c.slot;
		e->old_len = e->c.len;
	}
	e->c = *c;
	e->state = CHUNK_SEALED;
	chunkmap_changed(&f->chunks, c->idx, was, CHUNK_SEALED);
}

/* Seals into the chunk's own slot if it is not committed and as long, else into a free one: *paid
 * says what that took of the reserve. */
static int seal(struct file *f, uint64_t idx, const void *data, uint32_t len, uint32_t *paid)
{
	struct chunk_entry *e;
	struct content_chunk c;
	bool reuse;
	int r = need_blob(f);

	if (!r)
		r = chunkmap_edit(&f->chunks, idx, &e);
	if (r)
		return r;
	reuse = e->state == CHUNK_SEALED && blob_bytes(e->c.len) == blob_bytes(len);
	r = blob_seal(f->blob, idx, data, len, reuse ? &e->c.slot : NULL, &c);
	if (r)
		return r;
	set_sealed(f, e, &c, reuse);
	*paid = reuse ? 0 : blob_bytes(len);
	return 0;
}

int file_dirty_seal(struct file *f, struct dirty *d)
{
	uint32_t paid;
	int r = seal(f, d->idx, d->buf, d->len, &paid);

	if (r)
		return r;
	d->reserved -= MIN_OF(paid, d->reserved);
	file_dirty_drop(f, d);
	return 0;
}

int file_dirty_seal_all(struct file *f)
{
	struct dirty *d, *next;
	int r;

	HASH_ITER (hh, f->dirty, d, next) {
		r = file_dirty_seal(f, d);
		if (r)
			return r;
	}
	return 0;
}

int file_dirty_seal_from(
	struct file *f, uint64_t idx, const void *data, uint32_t len, uint64_t *pot)
{
	uint32_t paid;
	int r = seal(f, idx, data, len, &paid);

	if (!r)
		*pot -= MIN_OF(paid, *pot);
	return r;
}

int file_dirty_punch(struct file *f, uint64_t idx)
{
	struct dirty *d = file_dirty_find(f, idx);
	struct chunk_entry *e;
	enum chunk_state was;
	int r;

	if (d)
		file_dirty_drop(f, d);
	r = chunkmap_edit(&f->chunks, idx, &e);
	if (r)
		return r;
	was = e->state;
	if (was == CHUNK_SEALED)
		blob_slot_free(f->blob, e->c.slot, blob_bytes(e->c.len));
	if (was == CHUNK_ROW) {
		e->has_old = true;
		e->old_slot = e->c.slot;
		e->old_len = e->c.len;
	}
	if (was != CHUNK_NONE)
		e->state = e->has_old ? CHUNK_DROPPED : CHUNK_NONE;
	chunkmap_changed(&f->chunks, idx, was, e->state);
	return 0;
}

static void free_sealed(void *arg, const struct chunk_entry *e)
{
	struct file *f = arg;

	blob_slot_free(f->blob, e->c.slot, blob_bytes(e->c.len));
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
