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

static int read_chunk(struct file *f, uint64_t idx, uint8_t *out, size_t n, uint32_t in)
{
	struct dirty *d = file_dirty_find(f, idx);
	struct chunk_entry e;
	int r;

	if (d) {
		copy_part(out, n, d->buf, d->len, in);
		return 0;
	}
	r = chunkmap_get(&f->chunks, idx, &e);
	if (r)
		return r;
	if (e.state == CHUNK_ROW || e.state == CHUNK_SEALED)
		return read_slot(f, &e, out, n, in);
	if (!f->whole)
		return CE_ABSENT;
	memset(out, 0, n);
	return 0;
}

int file_read_locked(struct file *f, void *buf, size_t len, uint64_t off, uint64_t *bad_idx)
{
	uint8_t *out = buf;
	unsigned shift = file_shift(f);
	uint32_t chunk = UINT32_C(1) << shift;

	while (len) {
		uint32_t in = (uint32_t)(off & (chunk - 1));
		size_t n = MIN_OF(len, (size_t)(chunk - in));
		int r = read_chunk(f, off >> shift, out, n, in);

		if (r) {
			*bad_idx = off >> shift;
			return r;
		}
		out += n;
		off += n;
		len -= n;
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
