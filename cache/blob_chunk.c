#include "cache/blob.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "cache/pool.h"
#include "cache/volume_priv.h"

static const char label[] = "cachet/chunk/v1";

#define AAD_LEN (sizeof(label) - 1 + 16 + CONTENT_UUID_LEN + 8 + 8 + 8 + 4 + 1)

static void chunk_aad(
	const struct blob *b, const struct content_chunk *c, uint8_t aad[static AAD_LEN])
{
	uint8_t *p = aad;

	memcpy(p, label, sizeof(label) - 1);
	p += sizeof(label) - 1;
	memcpy(p, b->store_ref, 16);
	p += 16;
	memcpy(p, b->uuid, CONTENT_UUID_LEN);
	p += CONTENT_UUID_LEN;
	store_le64(p, b->epoch);
	store_le64(p + 8, c->idx);
	store_le64(p + 16, c->seq);
	store_le32(p + 24, c->len);
	p[28] = (uint8_t)b->alg;
}

static void count_flight(struct blob *b, int n)
{
	pthread_mutex_lock(&b->lock);
	b->in_flight += (unsigned)n;
	pthread_mutex_unlock(&b->lock);
}

static int write_slot(struct blob *b, uint64_t slot, const void *data, uint32_t bytes)
{
	int fd, r = FAILPOINT("blob-write");

	if (!r)
		r = blob_fd(b, true, &fd);
	if (!r)
		r = io_pwrite_full(fd, data, bytes, (off_t)(slot << b->shift));
	if (!r)
		r = blob_sync_note(b, slot);
	return r;
}

/* Seals into `scratch`, padded: what is then written is ciphertext and random bytes. */
static int seal_padded(
	struct blob *b, const void *data, uint32_t len, struct content_chunk *c, uint8_t *scratch)
{
	uint8_t key[AEAD_KEY_LEN], aad[AAD_LEN];
	int r = keys_blob(b->cek, b->uuid, b->epoch, key);

	if (r)
		return r;
	chunk_aad(b, c, aad);
	aead_nonce(b->alg, c->nonce);
	r = aead_seal(b->alg, key, c->nonce, aad, sizeof(aad), data, len, scratch, c->tag);
	secret_wipe(key, sizeof(key));
	if (!r && blob_bytes(len) > len)
		secret_random(scratch + len, blob_bytes(len) - len);
	return r;
}

/* Counts the seal; the key of a blob is good for AEAD_GCM_SEALS_MAX of them. */
static int count_seal(struct blob *b)
{
	int r = 0;

	pthread_mutex_lock(&b->lock);
	if (b->seals >= AEAD_GCM_SEALS_MAX)
		r = -EOVERFLOW;
	else
		b->seals++;
	pthread_mutex_unlock(&b->lock);
	return r;
}

/* A slot that was free before: reserved bytes become used ones, or it is free again. */
static void settle_new_slot(struct blob *b, uint64_t slot, uint32_t bytes, int error)
{
	if (error) {
		blob_slot_abandon(b, slot, bytes);
		return;
	}
	space_use(b->v, bytes);
	pthread_mutex_lock(&b->lock);
	b->alloc_bytes += bytes;
	pthread_mutex_unlock(&b->lock);
}

int blob_seal(struct blob *b, uint64_t idx, const void *data, uint32_t len, const uint64_t *reuse,
	struct content_chunk *out)
{
	struct content_chunk c = { .idx = idx, .len = len };
	uint32_t bytes = blob_bytes(len);
	uint8_t *scratch;
	int r;

	if (!len || len > UINT32_C(1) << b->shift)
		return -EINVAL;
	scratch = pool_scratch_get(b->v->pool, b->shift);
	if (!scratch)
		return -ENOMEM;
	c.seq = atomic_fetch_add(&b->v->chunk_seq, 1);
	r = count_seal(b);
	if (!r)
		r = seal_padded(b, data, len, &c, scratch);
	if (!r && reuse)
		c.slot = *reuse;
	else if (!r)
		r = blob_slot_take(b, &c.slot);
	if (r)
		goto out;
	count_flight(b, 1);
	r = write_slot(b, c.slot, scratch, bytes);
	if (!r)
		*out = c;
	if (!reuse)
		settle_new_slot(b, c.slot, bytes, r);
	count_flight(b, -1);
out:
	pool_scratch_put(b->v->pool, b->shift, scratch);
	return r;
}

static int read_slot(struct blob *b, const struct content_chunk *c, void *out)
{
	int fd, r = FAILPOINT("blob-read");

	if (!r)
		r = blob_fd(b, false, &fd);
	if (!r)
		r = io_pread_full(fd, out, c->len, (off_t)(c->slot << b->shift));
	/* A file that is gone or too short was tampered with; any other error is the disk's. */
	return r == -ENOENT || r == -ENODATA ? CE_TAMPER : r;
}

int blob_open(struct blob *b, const struct content_chunk *c, void *out)
{
	uint8_t key[AEAD_KEY_LEN], aad[AAD_LEN];
	int r;

	if (!c->len || c->len > UINT32_C(1) << b->shift ||
		c->slot > (uint64_t)INT64_MAX >> b->shift)
		return CE_CORRUPT;
	r = read_slot(b, c, out);
	if (!r)
		r = keys_blob(b->cek, b->uuid, b->epoch, key);
	if (r) {
		memset(out, 0, c->len);
		return r;
	}
	chunk_aad(b, c, aad);
	r = aead_open(b->alg, key, c->nonce, aad, sizeof(aad), out, c->len, c->tag, out);
	secret_wipe(key, sizeof(key));
	return r;
}

int blob_move(struct blob *b, struct content_chunk *c)
{
	uint8_t *sealed = pool_scratch_get(b->v->pool, b->shift);
	uint8_t *plain = pool_get(b->v->pool, b->shift);
	uint32_t bytes = blob_bytes(c->len);
	struct content_chunk moved = *c;
	int r = sealed && plain ? blob_open(b, c, plain) : -ENOMEM;

	if (!r)
		r = read_slot(b, c, sealed);
	if (!r)
		r = blob_slot_take(b, &moved.slot);
	if (!r) {
		if (bytes > c->len)
			secret_random(sealed + c->len, bytes - c->len);
		count_flight(b, 1);
		r = write_slot(b, moved.slot, sealed, bytes);
		settle_new_slot(b, moved.slot, bytes, r);
		count_flight(b, -1);
	}
	pool_put(b->v->pool, b->shift, plain, c->len);
	pool_scratch_put(b->v->pool, b->shift, sealed);
	if (!r)
		*c = moved;
	return r;
}
