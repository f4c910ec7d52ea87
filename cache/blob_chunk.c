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
	store_le64(p, keys_epoch(b->keys, c->seq));
	store_le64(p + 8, c->idx);
	store_le64(p + 16, c->seq);
	store_le32(p + 24, c->len);
	p[28] = (uint8_t)b->alg;
}

/* Seals into `scratch`, padded: what is then written is ciphertext and random bytes. */
static int seal_padded(
	struct blob *b, const void *data, uint32_t len, struct content_chunk *c, uint8_t *scratch)
{
	uint8_t key[AEAD_KEY_LEN], aad[AAD_LEN];
	int r = keys_blob(b->keys, b->uuid, c->seq, key);

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
	b->in_flight += !r;
	pthread_mutex_unlock(&b->lock);
	return r;
}

/* What the write added to the disk is used from now on, the rest of what was reserved is not needed. */
static int account(struct blob *b, const struct content_chunk *c, int error)
{
	uint32_t fresh = 0;
	int r = error;

	pthread_mutex_lock(&b->lock);
	b->in_flight--;
	if (!r)
		r = blob_sync_note(b, c);
	if (!r)
		fresh = blob_units_written(b, c->slot, blob_bytes(c->len));
	pthread_mutex_unlock(&b->lock);
	if (r)
		return r;
	space_use(b->v, fresh);
	space_release(b->v, blob_bytes(c->len) - fresh);
	return durable_note_blob(b->v, b);
}

static int write_chunk(struct blob *b, const struct content_chunk *c, const void *sealed)
{
	int fd, r = FAILPOINT("blob-write");

	if (!r)
		r = blob_fd(b, true, &fd);
	if (!r)
		r = io_pwrite_full(
			fd, sealed, blob_bytes(c->len), (off_t)(c->slot << BLOB_UNIT_SHIFT));
	return r;
}

static int seal_into(struct blob *b, struct content_chunk *c, const void *data, uint8_t *scratch)
{
	int r = count_seal(b);

	if (r)
		return r;
	r = seal_padded(b, data, c->len, c, scratch);
	if (!r)
		r = write_chunk(b, c, scratch);
	return account(b, c, r);
}

int blob_seal(struct blob *b, uint64_t idx, const void *data, uint32_t len, const uint64_t *slot,
	struct content_chunk *out)
{
	struct content_chunk c = { .idx = idx, .len = len };
	uint8_t *scratch;
	int r = 0;

	if (!len || len > UINT32_C(1) << b->shift)
		return -EINVAL;
	if (slot)
		c.slot = *slot;
	else
		r = blob_units_take(b, len, &c.slot);
	if (r)
		return r;
	scratch = pool_scratch_get(b->v->pool, b->shift);
	c.seq = atomic_fetch_add(&b->v->chunk_seq, 1);
	r = scratch ? seal_into(b, &c, data, scratch) : -ENOMEM;
	pool_scratch_put(b->v->pool, b->shift, scratch);
	if (r)
		blob_units_abandon(b, c.slot, len);
	else
		*out = c;
	return r;
}

static int read_chunk(int fd, const struct content_chunk *c, void *out)
{
	int r = FAILPOINT("blob-read");

	if (!r)
		r = io_pread_slow(fd, out, c->len, (off_t)(c->slot << BLOB_UNIT_SHIFT));
	/* A file that is too short was tampered with; any other error is the disk's. */
	return r == -ENODATA ? CE_TAMPER : r;
}

int blob_open_fd(struct blob *b, int fd, const struct content_chunk *c, void *out)
{
	uint8_t key[AEAD_KEY_LEN], aad[AAD_LEN];
	int r = read_chunk(fd, c, out);

	if (!r)
		r = keys_blob(b->keys, b->uuid, c->seq, key);
	if (r) {
		memset(out, 0, c->len);
		return r;
	}
	chunk_aad(b, c, aad);
	r = aead_open(b->alg, key, c->nonce, aad, sizeof(aad), out, c->len, c->tag, out);
	secret_wipe(key, sizeof(key));
	return r;
}

int blob_open(struct blob *b, const struct content_chunk *c, void *out)
{
	int fd, r;

	if (!c->len || c->len > UINT32_C(1) << b->shift ||
		c->slot > (uint64_t)INT64_MAX >> BLOB_UNIT_SHIFT)
		return CE_CORRUPT;
	r = blob_fd(b, false, &fd);
	if (!r)
		return blob_open_fd(b, fd, c, out);
	memset(out, 0, c->len);
	return r == -ENOENT ? CE_TAMPER : r;
}
