/* Size, holes: truncation, fallocate(2), SEEK_DATA and SEEK_HOLE. No work depends on how long a
 * hole is. */
#include "cache/file_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/error.h"

static bool has_content(const struct chunk_entry *e)
{
	return e->state == CHUNK_ROW || e->state == CHUNK_SEALED;
}

/* The chunk in plaintext if it has content beyond byte `from`, else NULL. One chunk of space must
 * be in *pot. */
static int edit_content(
	struct file *f, uint64_t idx, uint32_t from, uint64_t *pot, struct dirty **out)
{
	struct dirty *d = file_dirty_find(f, idx);
	struct chunk_entry e;
	int r = 0;

	if (!d) {
		r = chunkmap_get(&f->chunks, idx, &e);
		if (!r && has_content(&e) && e.c.len > from)
			r = file_dirty_get(f, idx, true, &d);
	}
	if (!r && d)
		r = file_dirty_complete(f, d);
	if (!r && d && d->len <= from)
		d = NULL;
	if (!r && d && !file_dirty_grow(d, d->len, pot))
		r = -ENOSPC;
	if (!r)
		*out = d;
	return r;
}

/* Zeroes [in, end) of a chunk; content that ends there gets shorter. */
static int zero_part(struct file *f, uint64_t idx, uint32_t in, uint32_t end, uint64_t *pot)
{
	struct dirty *d;
	int r = edit_content(f, idx, in, pot, &d);

	if (r || !d)
		return r;
	memset(d->buf + in, 0, MIN_OF(end, d->len) - in);
	d->run = UINT32_MAX;
	if (end < d->len)
		return 0;
	d->len = in;
	return in ? 0 : file_dirty_punch(f, idx);
}

static int shrink(struct file *f, uint64_t size, uint64_t *pot)
{
	unsigned shift = file_shift(f);
	uint32_t chunk = UINT32_C(1) << shift, in = (uint32_t)(size & (chunk - 1));
	int r = in ? zero_part(f, size >> shift, in, chunk, pot) : 0;

	if (!r)
		file_dirty_cut(f, (size >> shift) + (in ? 1 : 0));
	return r;
}

/* Truncating to nothing needs nothing of what is not here. */
static int may_resize(const struct file *f, uint64_t size)
{
	if (f->snapshot)
		return -EROFS;
	return f->whole || !size ? 0 : -EBUSY;
}

int file_truncate(struct file *f, uint64_t size)
{
	uint64_t pot;
	int r;

	if (size > FILE_SIZE_MAX)
		return -EFBIG;
	r = size > file_size(f) ? setting_may_grow(f->v, size) : 0;
	if (r)
		return r;
	space_relieve(f->v);
	pthread_rwlock_rdlock(&f->lock);
	pot = size && size < f->size ? UINT64_C(1) << file_shift(f) : 0;
	pthread_rwlock_unlock(&f->lock);
	r = space_reserve(f->v, pot);
	if (r)
		return r;
	pthread_rwlock_wrlock(&f->lock);
	r = may_resize(f, size);
	if (!r && size < f->size)
		r = shrink(f, size, &pot);
	if (!r) {
		f->size = size;
		f->whole = true;
		file_mark(f);
		r = file_commit_locked(f, false);
	}
	pthread_rwlock_unlock(&f->lock);
	space_release(f->v, pot);
	if (!r)
		volume_tell_outbox(f->v);
	return r;
}

/* Chunks [from, end) become holes. */
static int punch_chunks(struct file *f, uint64_t from, uint64_t end)
{
	struct dirty *d, *next;
	uint64_t idx = from;
	int r = 0;

	HASH_ITER (hh, f->dirty, d, next) {
		if (!r && d->idx >= from && d->idx < end)
			r = file_dirty_punch(f, d->idx);
	}
	while (!r) {
		r = chunkmap_next(&f->chunks, idx, &idx);
		if (r || idx >= end)
			break;
		r = file_dirty_punch(f, idx++);
	}
	return r;
}

static int zero_range(struct file *f, uint64_t off, uint64_t end, uint64_t *pot)
{
	unsigned shift = file_shift(f);
	uint32_t chunk = UINT32_C(1) << shift;
	uint64_t first = off >> shift, last = end >> shift;
	uint32_t in = (uint32_t)(off & (chunk - 1)), out = (uint32_t)(end & (chunk - 1));
	int r = 0;

	if (first == last)
		return zero_part(f, first, in, out, pot);
	if (in)
		r = zero_part(f, first++, in, chunk, pot);
	if (!r && out)
		r = zero_part(f, last, 0, out, pot);
	return r ? r : punch_chunks(f, first, last);
}

#define ZERO_MODES (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)

static int check_mode(int mode)
{
	switch (mode) {
	case 0:
	case FALLOC_FL_KEEP_SIZE:
	case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
	case FALLOC_FL_ZERO_RANGE:
	case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE:
		return 0;
	}
	return -EOPNOTSUPP;
}

/* Space cannot be kept for later; that there is enough now is all that mode 0 says. */
static int check_space(struct volume *v, uint64_t len)
{
	int r = space_reserve(v, len);

	if (!r)
		space_release(v, len);
	return r;
}

int file_fallocate(struct file *f, int mode, uint64_t off, uint64_t len)
{
	uint64_t pot = UINT64_C(2) << BLOB_SHIFT_MAX;
	int r = check_mode(mode);

	if (!r && !len)
		r = -EINVAL;
	if (!r && (len > FILE_SIZE_MAX || off > FILE_SIZE_MAX - len))
		r = -EFBIG;
	if (!r && !(mode & (ZERO_MODES | FALLOC_FL_KEEP_SIZE)))
		r = setting_may_grow(f->v, off + len);
	if (!r && !(mode & ZERO_MODES))
		r = check_space(f->v, len);
	if (!r)
		r = space_reserve(f->v, pot);
	if (r)
		return r;
	pthread_rwlock_wrlock(&f->lock);
	r = may_resize(f, 1);
	if (!r && mode & ZERO_MODES && off < f->size)
		r = zero_range(f, off, MIN_OF(off + len, MAX_OF(f->size, off)), &pot);
	if (!r && !(mode & FALLOC_FL_KEEP_SIZE))
		f->size = MAX_OF(f->size, off + len);
	if (!r && mode != FALLOC_FL_KEEP_SIZE)
		file_mark(f);
	pthread_rwlock_unlock(&f->lock);
	space_release(f->v, pot);
	return r;
}

static int next_data(struct file *f, uint64_t from, uint64_t *out)
{
	struct dirty *d, *next;
	uint64_t best;
	int r = chunkmap_next(&f->chunks, from, &best);

	if (r)
		return r;
	HASH_ITER (hh, f->dirty, d, next) {
		if (d->idx >= from)
			best = MIN_OF(best, d->idx);
	}
	*out = best;
	return 0;
}

static int next_hole(struct file *f, uint64_t from, uint64_t *out)
{
	uint64_t idx;
	int r;

	for (;; from = idx + 1) {
		r = next_data(f, from, &idx);
		if (r || idx != from)
			break;
	}
	if (!r)
		*out = from;
	return r;
}

static int seek_locked(struct file *f, uint64_t off, int whence, uint64_t *out)
{
	unsigned shift = file_shift(f);
	uint64_t idx;
	int r;

	if (off >= f->size)
		return -ENXIO;
	if (!f->whole) {
		*out = whence == SEEK_DATA ? off : f->size;
		return 0;
	}
	r = whence == SEEK_DATA ? next_data(f, off >> shift, &idx)
				: next_hole(f, off >> shift, &idx);
	if (r)
		return r;
	if (whence == SEEK_DATA && (idx > (uint64_t)INT64_MAX >> shift || idx << shift >= f->size))
		return -ENXIO;
	if (idx > (uint64_t)INT64_MAX >> shift)
		*out = f->size;
	else
		*out = MIN_OF(f->size, MAX_OF(off, idx << shift));
	return 0;
}

int file_seek(struct file *f, uint64_t off, int whence, uint64_t *out)
{
	int r;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	pthread_rwlock_rdlock(&f->lock);
	r = seek_locked(f, off, whence, out);
	pthread_rwlock_unlock(&f->lock);
	return r;
}
