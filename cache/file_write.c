/*
 * Writing: into buffers of chunks, or sealed at once where whole chunks come. Space is set aside
 * before the file's lock is taken (making room may sync, which may need that lock): as much as the
 * chunks that the write touches can take at most; what is not needed goes back.
 */
#include "cache/file_priv.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"

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

/* A write under way: `pot` is what was set aside for it and not used yet. */
struct writing {
	struct file *f;
	const uint8_t *data;
	size_t len, done;
	uint64_t off, pot;
};

/* What is written in the middle of a large file may wait for what is around it. */
static bool may_wait(const struct file *f, uint64_t end)
{
	return file_is_large(f) && end <= f->size;
}

/* The buffer for [in, in + n) of the chunk, with what is there already, if that is not to wait. */
static int get_buffer(struct file *f, uint64_t idx, uint32_t in, uint32_t n, struct dirty **out)
{
	bool load = false;
	int r;

	*out = file_dirty_find(f, idx);
	if (*out)
		return file_dirty_can_wait(*out, in, in + n) ? 0 : file_dirty_complete(f, *out);
	r = must_load(f, idx, in, n, &load);
	if (r)
		return r;
	return load && may_wait(f, (idx << file_shift(f)) + in + n)
		       ? file_dirty_get_part(f, idx, in, out)
		       : file_dirty_get(f, idx, load, out);
}

/* Up to the end of a chunk, into its buffer. */
static int write_part(struct writing *w)
{
	struct file *f = w->f;
	uint64_t at = w->off + w->done, idx = at >> file_shift(f);
	uint32_t in = (uint32_t)(at & (chunk_bytes(f) - 1));
	uint32_t n = (uint32_t)MIN_OF(w->len - w->done, (size_t)(chunk_bytes(f) - in));
	struct dirty *d;
	int r = get_buffer(f, idx, in, n, &d);

	if (r)
		return r;
	if (!file_dirty_grow(d, MAX_OF(in + n, d->len), &w->pot))
		return -EOVERFLOW; /* need() was wrong */
	memcpy(d->buf + in, w->data + w->done, n);
	file_dirty_written(d, in, in + n);
	d->run = d->run == in ? in + n : UINT32_MAX;
	w->done += n;
	f->size = MAX_OF(f->size, at + n);
	return 0;
}

/* Whole chunks, or what there is of one. */
static int write_some(struct writing *w)
{
	struct file *f = w->f;
	uint64_t at = w->off + w->done, idx = at >> file_shift(f);
	size_t n = 0;
	int r = 0;

	if (!(at & (chunk_bytes(f) - 1)))
		r = file_dirty_seal_run(
			f, idx, w->data + w->done, w->len - w->done, &w->pot, &n);
	if (r)
		return r;
	if (!n) {
		r = write_part(w);
		return r ? r : seal_if_passed(f, idx);
	}
	w->done += n;
	f->size = MAX_OF(f->size, at + n);
	return 0;
}

/* After what was accepted could not be sealed: the rest waits in memory for the commit, which tells
 * of it, or is lost. */
static void keep_rest(struct writing *w)
{
	int r = 0;

	w->f->kept = true;
	while (!r && w->done < w->len)
		r = write_part(w);
	if (!r)
		return;
	log_error("object %llu: %zu bytes of a write are lost: %s",
		(unsigned long long)w->f->object, w->len - w->done, error_text(r));
	atomic_store(&w->f->lost, r);
}

/* Lock held. */
static int write_locked(struct writing *w)
{
	struct file *f = w->f;
	bool lost;
	int r = 0;

	while (!r && w->done < w->len)
		r = write_some(w);
	if (w->done)
		file_mark(f);
	if (!r && atomic_load(&f->v->dirty_bytes) > FILE_DIRTY_MAX_BYTES)
		r = file_dirty_seal_all(f, &lost);
	return r;
}

static bool must_enlarge(const struct writing *w)
{
	return w->off + w->len > chunk_bytes(w->f) && !file_is_large(w->f);
}

/* What the write can take of the file as it is. */
static uint64_t need(const struct writing *w)
{
	const struct file *f = w->f;
	uint64_t bytes = need_bytes(f->size, file_shift(f), w->off, w->len);

	return bytes + (must_enlarge(w) ? chunk_bytes(f) : 0);
}

/* If 0, the lock is held, and what is set aside is enough: a file that grew meanwhile may need more. */
static int lock_with_space(struct writing *w)
{
	struct file *f = w->f;
	uint64_t bytes;
	int r;

	pthread_rwlock_rdlock(&f->lock);
	bytes = need(w);
	pthread_rwlock_unlock(&f->lock);
	for (;;) {
		r = space_reserve(f->v, bytes - w->pot);
		if (r)
			return r;
		w->pot = bytes;
		pthread_rwlock_wrlock(&f->lock);
		bytes = need(w);
		if (bytes <= w->pot)
			return 0;
		pthread_rwlock_unlock(&f->lock);
	}
}

/* Lock held. */
static int prepare(struct writing *w)
{
	struct file *f = w->f;
	int r;

	if (f->snapshot)
		return -EROFS;
	if (!f->whole)
		return -EBUSY;
	if (!must_enlarge(w))
		return 0;
	r = file_dirty_enlarge(f, &w->pot);
	if (!r)
		file_mark(f);
	return r;
}

static bool has_grown(uint64_t from, uint64_t to)
{
	return to / FILE_GROWTH_BYTES > from / FILE_GROWTH_BYTES;
}

/* Whether the chunk of byte `at` is written in part only and has to be read first: that may fail. */
static bool loads(const struct writing *w, uint64_t at)
{
	struct file *f = w->f;
	uint64_t idx = at >> file_shift(f), start = idx << file_shift(f);
	uint64_t from = MAX_OF(w->off, start);
	uint64_t to = MIN_OF(w->off + w->len, start + chunk_bytes(f));
	uint32_t in = (uint32_t)(from - start), n = (uint32_t)(to - from);
	struct dirty *d = file_dirty_find(f, idx);
	bool load = false;

	if (d)
		return !file_dirty_can_wait(d, in, in + n);
	return must_load(f, idx, in, n, &load) || (load && !may_wait(f, to));
}

/* Lock held. */
static int write_all(struct writing *w, void (*accepted)(void *arg), void *arg)
{
	bool early;
	int r = prepare(w);

	if (r)
		return r;
	early = accepted && !w->f->kept && !loads(w, w->off) && !loads(w, w->off + w->len - 1);
	if (early) {
		file_mark(w->f); /* before: who comes now must wait for us */
		accepted(arg);
	}
	r = write_locked(w);
	if (early && r)
		keep_rest(w);
	if (!early && !r && accepted)
		accepted(arg);
	return early ? 0 : r;
}

int file_write_early(struct file *f, const void *buf, size_t len, uint64_t off,
	void (*accepted)(void *arg), void *arg)
{
	struct writing w = { .f = f, .data = buf, .len = len, .off = off };
	struct blob *b;
	uint64_t size;
	bool grown;
	int r;

	if (!len)
		return -EINVAL;
	if (len > FILE_SIZE_MAX || off > FILE_SIZE_MAX - len)
		return -EFBIG;
	r = setting_may_grow(f->v, off + len);
	if (!r)
		r = lock_with_space(&w);
	if (r) {
		space_release(f->v, w.pot);
		return r;
	}
	if (accepted)
		filetab_ref(f); /* what is accepted may be closed */
	size = f->size;
	r = write_all(&w, accepted, arg);
	grown = has_grown(size, f->size);
	b = accepted && file_is_large(f) ? blob_ref(f->blob) : NULL;
	pthread_rwlock_unlock(&f->lock);
	space_release(f->v, w.pot);
	if (grown)
		volume_tell_growth(f->v, f->store, f->object, f->version);
	if (b)
		blob_sync_ahead(b);
	blob_unref(b);
	if (accepted)
		file_unref(f, false);
	return r;
}

bool file_write_seals(size_t len, uint64_t off)
{
	return len >= UINT32_C(1) << BLOB_SHIFT_LARGE && off + len > UINT32_C(1) << BLOB_SHIFT_PACK;
}

int file_take_lost(struct file *f)
{
	return atomic_load(&f->lost) ? atomic_exchange(&f->lost, 0) : 0;
}

int file_write(struct file *f, const void *buf, size_t len, uint64_t off)
{
	return len ? file_write_early(f, buf, len, off, NULL, NULL) : 0;
}
