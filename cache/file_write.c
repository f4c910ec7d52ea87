/*
 * Writing. Space is set aside before the file's lock is taken (making room may sync, which may need
 * that lock): as much as the chunks that the write touches can take at most; what is not needed
 * goes back.
 */
#include "cache/file_priv.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"

static uint32_t chunk_bytes(const struct file *f)
{
	return UINT32_C(1) << file_shift(f);
}

/* What [off, off + len) can take on disk: each chunk touched, as long as it will be. */
static uint64_t need_bytes(uint64_t size, unsigned shift, uint64_t off, uint64_t len)
{
	uint64_t end = MAX_OF(size, off + len), first = off >> shift,
		 last = (off + len - 1) >> shift;
	uint64_t chunk = UINT64_C(1) << shift;
	uint64_t tail = MIN_OF(chunk, end - (last << shift));

	return (last - first) * chunk + blob_bytes((uint32_t)tail);
}

/* Whether what is in the slot of the chunk still matters when [in, in + n) is written. */
static int must_load(struct file *f, uint64_t idx, uint32_t in, uint32_t n, bool *out)
{
	struct chunk_entry e;
	int r = chunkmap_get(&f->chunks, idx, &e);

	if (!r)
		*out = (e.state == CHUNK_ROW || e.state == CHUNK_SEALED) &&
		       !(in == 0 && n >= e.c.len);
	return r;
}

/* A chunk that was filled from its start to its end in order is left behind by its writer: sealed
 * now, not at the commit. The only one of a small file waits until it is known that it stays so.
 * One that cannot be sealed stays, as long as the size that the file has by now. */
static int seal_if_passed(struct file *f, uint64_t idx)
{
	struct dirty *d = file_dirty_find(f, idx);

	return d && d->run == chunk_bytes(f) && file_is_large(f) ? file_dirty_seal(f, d) : 0;
}

static int write_part(
	struct file *f, uint64_t idx, const uint8_t *data, uint32_t in, uint32_t n, uint64_t *pot)
{
	struct dirty *d = file_dirty_find(f, idx);
	bool load = false;
	int r = 0;

	if (!d) {
		r = must_load(f, idx, in, n, &load);
		if (!r)
			r = file_dirty_get(f, idx, load, &d);
		if (r)
			return r;
	}
	if (!file_dirty_grow(d, MAX_OF(in + n, d->len), pot))
		return -EAGAIN;
	memcpy(d->buf + in, data, n);
	d->run = d->run == in ? in + n : UINT32_MAX;
	return 0;
}

/* Whole chunks, or what there is of one. *n: so much was taken. */
static int write_some(
	struct file *f, const uint8_t *data, size_t len, uint64_t off, uint64_t *pot, size_t *n)
{
	uint64_t idx = off >> file_shift(f);
	uint32_t in = (uint32_t)(off & (chunk_bytes(f) - 1));
	int r = in ? 0 : file_dirty_seal_run(f, idx, data, len, pot, n);

	if (r || (!in && *n))
		return r;
	*n = MIN_OF(len, (size_t)(chunk_bytes(f) - in));
	return write_part(f, idx, data, in, (uint32_t)*n, pot);
}

/* *done counts what was taken. */
static int write_locked(
	struct file *f, const uint8_t *data, size_t len, uint64_t off, uint64_t *pot, size_t *done)
{
	size_t n;

	while (*done < len) {
		uint64_t at = off + *done;
		int r = write_some(f, data + *done, len - *done, at, pot, &n);

		if (r)
			return r;
		*done += n;
		f->size = MAX_OF(f->size, at + n);
		r = seal_if_passed(f, at >> file_shift(f));
		if (r)
			return r;
	}
	return 0;
}

static int may_write(const struct file *f)
{
	if (f->snapshot)
		return -EROFS;
	return f->whole ? 0 : -EBUSY;
}

static bool has_grown(uint64_t from, uint64_t to)
{
	return to / FILE_GROWTH_BYTES > from / FILE_GROWTH_BYTES;
}

/* One try with the lock taken once; -EAGAIN when the file grew meanwhile and more must be set
 * aside. */
static int write_once(struct file *f, const uint8_t *data, size_t len, uint64_t off, size_t *done)
{
	uint64_t pot, size;
	size_t before = *done;
	bool grown;
	int r;

	pthread_rwlock_rdlock(&f->lock);
	pot = need_bytes(f->size, file_shift(f), off + before, len - before);
	if (off + len > chunk_bytes(f) && !file_is_large(f))
		pot += chunk_bytes(f);
	pthread_rwlock_unlock(&f->lock);
	r = space_reserve(f->v, pot);
	if (r)
		return r;
	pthread_rwlock_wrlock(&f->lock);
	size = f->size;
	r = may_write(f);
	if (!r && off + len > chunk_bytes(f) && !file_is_large(f)) {
		r = file_dirty_enlarge(f, &pot);
		if (!r)
			file_mark(f);
	}
	if (!r)
		r = write_locked(f, data, len, off, &pot, done);
	if (*done > before)
		file_mark(f);
	if (!r && atomic_load(&f->v->dirty_bytes) > FILE_DIRTY_MAX_BYTES)
		r = file_dirty_seal_all(f);
	grown = has_grown(size, f->size);
	pthread_rwlock_unlock(&f->lock);
	space_release(f->v, pot);
	if (grown)
		volume_tell_growth(f->v, f->store, f->object, f->version);
	return r;
}

int file_write(struct file *f, const void *buf, size_t len, uint64_t off)
{
	size_t done = 0;
	int r;

	if (len > FILE_SIZE_MAX || off > FILE_SIZE_MAX - len)
		return -EFBIG;
	if (!len)
		return 0;
	r = setting_may_grow(f->v, off + len);
	if (r)
		return r;
	do
		r = write_once(f, buf, len, off, &done);
	while (r == -EAGAIN);
	return r;
}
