#include "cache/file_priv.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "cache/chunkcache.h"
#include "crypto/kdf.h"

#define SHA_STEP (1u << 20)

/* Bytes [in, in + n) of content that is `len` long, zeros behind it. */
static void copy_part(uint8_t *out, size_t n, const uint8_t *buf, uint32_t len, uint32_t in)
{
	size_t have = in < len ? MIN_OF(n, (size_t)(len - in)) : 0;

	memcpy(out, buf + in, have);
	memset(out + have, 0, n - have);
}

static int read_slot(
	struct file *f, const struct chunk_entry *e, uint8_t *out, size_t n, uint32_t in)
{
	const struct content_chunk *c = &e->c;
	struct blob *b = file_blob_of(f, e);
	size_t have = in < c->len ? MIN_OF(n, (size_t)(c->len - in)) : 0;
	int r = 0;

	if (have == c->len)
		r = blob_open(b, c, out);
	else if (have)
		r = chunkcache_read(f->v->chunkcache, b, c, in, (uint32_t)have, out);
	if (!r)
		memset(out + have, 0, n - have);
	return r;
}

static bool is_sealed(const struct chunk_entry *e)
{
	return e->state == CHUNK_ROW || e->state == CHUNK_SEALED;
}

/* Of a chunk whose rest waits in its slot. */
static int read_both(
	struct file *f, const struct dirty *d, uint8_t *out, size_t n, uint32_t in)
{
	uint32_t end = in + (uint32_t)n, from = MAX_OF(in, d->from), to = MIN_OF(end, d->to);
	uint32_t beyond = MIN_OF(MAX_OF(in, d->under), end);
	struct chunk_entry e;
	int r = 0;

	if (from != in || to != end) {
		r = chunkmap_get(&f->chunks, d->idx, &e);
		if (!r)
			r = read_slot(f, &e, out, n, in);
		if (r)
			return r;
		memset(out + (beyond - in), 0, end - beyond);
	}
	if (from < to)
		memcpy(out + (from - in), d->buf + from, to - from);
	return 0;
}

static int read_chunk(struct file *f, uint64_t idx, uint8_t *out, size_t n, uint32_t in)
{
	struct dirty *d = file_dirty_find(f, idx);
	struct chunk_entry e;
	int r;

	if (d && d->under)
		return read_both(f, d, out, n, in);
	if (d) {
		copy_part(out, n, d->buf, d->len, in);
		return 0;
	}
	r = chunkmap_get(&f->chunks, idx, &e);
	if (r)
		return r;
	if (is_sealed(&e))
		return read_slot(f, &e, out, n, in);
	if (!f->whole)
		return CE_ABSENT;
	memset(out, 0, n);
	return 0;
}

/* Chunks from idx on that stand in the blob one behind the other: their number, if it is more than
 * one. */
static int find_run(struct file *f, uint64_t idx, size_t len, struct blob **b,
	struct content_chunk c[static FILE_RUN_MAX], unsigned *n)
{
	size_t max = MIN_OF(len >> file_shift(f), FILE_RUN_MAX);
	struct chunk_entry e;
	unsigned i;
	int r = 0;

	*n = 0;
	if (max < 2 || !file_is_large(f))
		return 0;
	for (i = 0; i < max && !file_dirty_find(f, idx + i); i++) {
		r = chunkmap_get(&f->chunks, idx + i, &e);
		if (r || !is_sealed(&e))
			break;
		if (!i)
			*b = file_blob_of(f, &e);
		else if (file_blob_of(f, &e) != *b || !blob_is_run(*b, &c[i - 1], &e.c))
			break;
		c[i] = e.c;
	}
	if (!r && i > 1 && (*b)->shift == file_shift(f))
		*n = i;
	return r;
}

struct reading {
	struct file *f;
	uint8_t *out;
	size_t len;
	uint64_t off;
	uint64_t alone; /* up to here chunk by chunk: a run did not open, and it is to be told which
			   of them it was */
};

/* *n: bytes that were read, 0 when there is no run. */
static int read_run(struct reading *w, size_t *n)
{
	struct content_chunk c[FILE_RUN_MAX];
	unsigned shift = file_shift(w->f), chunks;
	struct blob *b = NULL;
	int r = find_run(w->f, w->off >> shift, w->len, &b, c, &chunks);

	if (r || !chunks)
		return r;
	if (blob_open_run(b, c, chunks, w->out))
		w->alone = w->off + ((uint64_t)chunks << shift);
	else
		*n = (size_t)chunks << shift;
	return 0;
}

/* A run of chunks, or what there is of one. */
static int read_some(struct reading *w, size_t *n)
{
	unsigned shift = file_shift(w->f);
	uint32_t chunk = UINT32_C(1) << shift, in = (uint32_t)(w->off & (chunk - 1));
	int r = in || w->off < w->alone ? 0 : read_run(w, n);

	if (r || *n)
		return r;
	*n = MIN_OF(w->len, (size_t)(chunk - in));
	return read_chunk(w->f, w->off >> shift, w->out, *n, in);
}

int file_read_locked(struct file *f, void *buf, size_t len, uint64_t off, uint64_t *bad_idx)
{
	struct reading w = { .f = f, .out = buf, .len = len, .off = off };

	while (w.len) {
		size_t n = 0;
		int r = read_some(&w, &n);

		if (r) {
			*bad_idx = w.off >> file_shift(f);
			return r;
		}
		w.out += n;
		w.off += n;
		w.len -= n;
	}
	return 0;
}

static int read_once(
	struct file *f, void *buf, size_t len, uint64_t off, size_t *got, uint64_t *bad_idx)
{
	size_t n = 0;
	int r;

	pthread_rwlock_rdlock(&f->lock);
	if (off < f->size)
		n = (size_t)MIN_OF((uint64_t)len, f->size - off);
	r = file_read_locked(f, buf, n, off, bad_idx);
	pthread_rwlock_unlock(&f->lock);
	if (!r)
		*got = n;
	return r;
}

int file_read(struct file *f, void *buf, size_t len, uint64_t off, size_t *got)
{
	uint64_t bad_idx;
	int r = read_once(f, buf, len, off, got, &bad_idx), failed;

	if (r != CE_TAMPER && r != -EIO)
		return r;
	r = file_heal(f, bad_idx, r, &failed);
	return r ? r : read_once(f, buf, len, off, got, &bad_idx);
}

static int hash_all(struct file *f, struct kdf_sha256 *h, uint8_t *buf)
{
	uint64_t bad_idx;
	int r = 0;

	for (uint64_t off = 0; !r && off < f->size; off += SHA_STEP) {
		size_t n = (size_t)MIN_OF((uint64_t)SHA_STEP, f->size - off);

		r = file_read_locked(f, buf, n, off, &bad_idx);
		if (!r)
			r = kdf_sha256_update(h, buf, n);
	}
	return r;
}

int file_sha256(struct file *f, uint8_t out[static 32])
{
	struct kdf_sha256 *h = NULL;
	uint8_t *buf = malloc(SHA_STEP);
	int r = buf ? kdf_sha256_new(&h) : -ENOMEM;

	if (!r) {
		pthread_rwlock_rdlock(&f->lock);
		r = hash_all(f, h, buf);
		pthread_rwlock_unlock(&f->lock);
	}
	if (!r)
		r = kdf_sha256_final(steal_ptr(&h), out);
	kdf_sha256_free(h);
	if (buf)
		secret_wipe(buf, SHA_STEP);
	free(buf);
	return r;
}
