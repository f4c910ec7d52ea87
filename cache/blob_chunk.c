#include "cache/blob.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "cache/pool.h"
#include "cache/volume_priv.h"

static const char label[] = "cachet/chunk/v1", block_label[] = "cachet/block/v1";

static_assert(sizeof(label) == sizeof(block_label), "one AAD has room for either");
static_assert(CONTENT_TAGS_MAX << BLOB_BLOCK_SHIFT == 1 << BLOB_SHIFT_LARGE, "a tag for each block");

#define AAD_BLOCK (sizeof(label) - 1 + 16 + CONTENT_UUID_LEN + 8 + 8 + 8 + 4 + 1)
#define AAD_MAX (AAD_BLOCK + 1)

/* One chunk's nonce and additional data, whose last bytes count its blocks. */
struct sealing {
	uint8_t nonce[AEAD_NONCE_MAX];
	uint8_t aad[AAD_MAX];
	size_t aad_len;
};

/* How many messages a chunk of `len` bytes is sealed in. */
static unsigned blocks_of(const struct blob *b, uint32_t len)
{
	return b->pack || b->shift > BLOB_SHIFT_LARGE ? 1 : (len + BLOB_BLOCK - 1) >> BLOB_BLOCK_SHIFT;
}

static void chunk_aad(const struct blob *b, const struct content_chunk *c, uint8_t aad[static AAD_MAX])
{
	uint8_t *p = aad;

	memcpy(p, c->n_tags > 1 ? block_label : label, sizeof(label) - 1);
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

static void start_sealing(const struct blob *b, const struct content_chunk *c, struct sealing *s)
{
	memcpy(s->nonce, c->nonce, sizeof(s->nonce));
	chunk_aad(b, c, s->aad);
	s->aad_len = c->n_tags > 1 ? AAD_MAX : AAD_BLOCK;
}

/* Block `i` of the chunk: where it begins, how long it is. */
static uint32_t go_to_block(
	const struct blob *b, const struct content_chunk *c, unsigned i, struct sealing *s, size_t *at)
{
	*at = (size_t)i << BLOB_BLOCK_SHIFT;
	if (c->n_tags == 1)
		return c->len;
	s->nonce[aead_nonce_len(b->alg) - 1] = (uint8_t)(c->nonce[aead_nonce_len(b->alg) - 1] | i);
	s->aad[AAD_BLOCK] = (uint8_t)i;
	return MIN_OF(BLOB_BLOCK, c->len - (uint32_t)*at);
}

/* The key of a run of chunks: they are of one epoch, unless a rekey came between. */
struct run_key {
	uint64_t epoch;
	uint8_t key[AEAD_KEY_LEN];
	bool set;
};

static int key_for(const struct blob *b, uint64_t seq, struct run_key *k)
{
	uint64_t epoch = keys_epoch(b->keys, seq);
	int r = 0;

	if (k->set && k->epoch == epoch)
		return 0;
	r = keys_blob(b->keys, b->uuid, seq, k->key);
	k->set = !r;
	k->epoch = epoch;
	return r;
}

/* Seals into `scratch`, padded: what is then written is ciphertext and random bytes. */
static int seal_padded(struct blob *b, const uint8_t *data, struct content_chunk *c,
	struct run_key *k, uint8_t *scratch)
{
	struct sealing s;
	int r = key_for(b, c->seq, k);

	if (r)
		return r;
	aead_nonce(b->alg, c->nonce);
	c->n_tags = blocks_of(b, c->len);
	if (c->n_tags > 1)
		c->nonce[aead_nonce_len(b->alg) - 1] &= (uint8_t)~(CONTENT_TAGS_MAX - 1);
	start_sealing(b, c, &s);
	for (unsigned i = 0; i < c->n_tags && !r; i++) {
		size_t at;
		uint32_t len = go_to_block(b, c, i, &s, &at);

		r = aead_seal(b->alg, k->key, s.nonce, s.aad, s.aad_len, data + at, len,
			scratch + at, c->tags[i]);
	}
	if (!r && blob_bytes(c->len) > c->len)
		secret_random(scratch + c->len, blob_bytes(c->len) - c->len);
	return r;
}

/* Counts the seals; the key of a blob is good for AEAD_GCM_SEALS_MAX of them. */
static int count_seals(struct blob *b, unsigned n)
{
	int r = 0;

	pthread_mutex_lock(&b->lock);
	if (b->seals > AEAD_GCM_SEALS_MAX - n)
		r = -EOVERFLOW;
	else
		b->seals += n;
	b->in_flight += !r;
	pthread_mutex_unlock(&b->lock);
	return r;
}

/* Chunks that follow each other in the blob: all but the last fill their units. */
struct run {
	struct content_chunk *c;
	unsigned n;
	uint32_t bytes;
};

/* What the write added to the disk is used from now on, the rest of what was reserved is not needed. */
static int account(struct blob *b, const struct run *run, int error)
{
	uint32_t fresh = 0;
	int r = error;

	pthread_mutex_lock(&b->lock);
	b->in_flight--;
	for (unsigned i = 0; i < run->n && !r; i++)
		r = blob_sync_note(b, &run->c[i]);
	if (!r)
		fresh = blob_units_written(b, run->c->slot, run->bytes);
	pthread_mutex_unlock(&b->lock);
	if (r)
		return r;
	space_use(b->v, fresh);
	space_release(b->v, run->bytes - fresh);
	return durable_note_blob(b->v, b);
}

static int write_run(struct blob *b, const struct run *run, const void *sealed)
{
	int fd, r = FAILPOINT("blob-write");

	if (!r)
		r = blob_fd(b, true, &fd);
	if (!r)
		r = io_pwrite_full(
			fd, sealed, run->bytes, (off_t)(run->c->slot << BLOB_UNIT_SHIFT));
	return r;
}

static int seal_into(struct blob *b, const struct run *run, const uint8_t *data, uint8_t *scratch)
{
	struct run_key key = { .set = false };
	int r = count_seals(b, run->n);
	size_t at = 0;

	if (r)
		return r;
	for (unsigned i = 0; i < run->n && !r; i++) {
		r = seal_padded(b, data + at, &run->c[i], &key, scratch + at);
		at += run->c[i].len;
	}
	secret_wipe(&key, sizeof(key));
	if (!r)
		r = write_run(b, run, scratch);
	return account(b, run, r);
}

/* The units are taken, from run->c->slot on. */
static int seal_run(struct blob *b, struct run *run, const void *data)
{
	unsigned shift = run->n > 1 ? BLOB_RUN_SHIFT : b->shift;
	uint8_t *scratch = pool_scratch_get(b->v->pool, shift);
	uint64_t seq = atomic_fetch_add(&b->v->chunk_seq, run->n), slot = run->c->slot;
	int r;

	for (unsigned i = 0; i < run->n; i++) {
		run->c[i].seq = seq + i;
		run->c[i].slot = slot + run->bytes / BLOB_PAD;
		run->bytes += blob_bytes(run->c[i].len);
	}
	r = scratch ? seal_into(b, run, data, scratch) : -ENOMEM;
	pool_scratch_put(b->v->pool, shift, scratch);
	for (unsigned i = 0; i < run->n && r; i++)
		blob_units_abandon(b, run->c[i].slot, run->c[i].len);
	return r;
}

int blob_seal(struct blob *b, uint64_t idx, const void *data, uint32_t len, const uint64_t *slot,
	struct content_chunk *out)
{
	struct content_chunk c = { .idx = idx, .len = len };
	struct run run = { .c = &c, .n = 1 };
	int r = 0;

	if (!len || len > UINT32_C(1) << b->shift)
		return -EINVAL;
	if (slot)
		c.slot = *slot;
	else
		r = blob_units_take(b, len, &c.slot);
	if (!r)
		r = seal_run(b, &run, data);
	if (!r)
		*out = c;
	return r;
}

unsigned blob_run_max(const struct blob *b)
{
	return b->shift < BLOB_RUN_SHIFT ? 1u << (BLOB_RUN_SHIFT - b->shift) : 1;
}

int blob_seal_run(
	struct blob *b, uint64_t idx, const void *data, unsigned *n, struct content_chunk *out)
{
	const uint32_t chunk = UINT32_C(1) << b->shift;
	struct run run = { .c = out };
	int r;

	if (!*n || *n > blob_run_max(b))
		return -EINVAL;
	r = blob_units_take_run(b, chunk, &out->slot, n);
	if (r)
		return r;
	run.n = *n;
	for (unsigned i = 0; i < run.n; i++)
		out[i] = (struct content_chunk){ .idx = idx + i, .len = chunk, .slot = out->slot };
	return seal_run(b, &run, data);
}

static int read_sealed(int fd, uint64_t slot, uint32_t bytes, void *out)
{
	int r = FAILPOINT("blob-read");

	if (!r)
		r = io_pread_slow(fd, out, bytes, (off_t)(slot << BLOB_UNIT_SHIFT));
	/* A file that is too short was tampered with; any other error is the disk's. */
	return r == -ENODATA ? CE_TAMPER : r;
}

/* Of the chunk at `data` in place the blocks `first` to `end`. */
static int open_sealed(const struct blob *b, const struct content_chunk *c, struct run_key *k,
	uint8_t *data, unsigned first, unsigned end)
{
	struct sealing s;
	int r = key_for(b, c->seq, k);

	if (r)
		return r;
	start_sealing(b, c, &s);
	for (unsigned i = first; i < end && !r; i++) {
		size_t at;
		uint32_t len = go_to_block(b, c, i, &s, &at);

		r = aead_open(b->alg, k->key, s.nonce, s.aad, s.aad_len, data + at, len, c->tags[i],
			data + at);
	}
	return r;
}

static int open_blocks(struct blob *b, int fd, const struct content_chunk *c, unsigned first,
	unsigned end, uint8_t *out)
{
	struct run_key key = { .set = false };
	size_t at = (size_t)first << BLOB_BLOCK_SHIFT;
	uint32_t len = (end < c->n_tags ? end << BLOB_BLOCK_SHIFT : c->len) - (uint32_t)at;
	int r = read_sealed(fd, c->slot + (at >> BLOB_UNIT_SHIFT), len, out + at);

	if (!r)
		r = open_sealed(b, c, &key, out, first, end);
	secret_wipe(&key, sizeof(key));
	if (r)
		memset(out + at, 0, len);
	return r;
}

int blob_open_fd(struct blob *b, int fd, const struct content_chunk *c, void *out)
{
	return open_blocks(b, fd, c, 0, c->n_tags, out);
}

static bool is_possible(const struct blob *b, const struct content_chunk *c)
{
	return c->len && c->len <= UINT32_C(1) << b->shift &&
	       (c->n_tags == 1 || c->n_tags == blocks_of(b, c->len)) &&
	       c->slot <= (uint64_t)INT64_MAX >> BLOB_UNIT_SHIFT;
}

int blob_open(struct blob *b, const struct content_chunk *c, void *out)
{
	uint32_t from = 0, to = c->len;

	return blob_open_part(b, c, &from, &to, out);
}

int blob_open_part(
	struct blob *b, const struct content_chunk *c, uint32_t *from, uint32_t *to, uint8_t *out)
{
	unsigned first = 0, end = c->n_tags;
	int fd, r;

	if (!is_possible(b, c))
		return CE_CORRUPT;
	if (c->n_tags > 1) {
		first = *from >> BLOB_BLOCK_SHIFT;
		end = (*to + BLOB_BLOCK - 1) >> BLOB_BLOCK_SHIFT;
	}
	*from = first << BLOB_BLOCK_SHIFT;
	*to = end < c->n_tags ? end << BLOB_BLOCK_SHIFT : c->len;
	r = blob_fd(b, false, &fd);
	if (!r)
		return open_blocks(b, fd, c, first, end, out);
	memset(out + *from, 0, *to - *from);
	return r == -ENOENT ? CE_TAMPER : r;
}

void blob_will_need(struct blob *b, const struct content_chunk *c)
{
	int fd;

	if (!blob_fd(b, false, &fd))
		(void)posix_fadvise(fd, (off_t)(c->slot << BLOB_UNIT_SHIFT), c->len, POSIX_FADV_WILLNEED);
}

bool blob_is_run(const struct blob *b, const struct content_chunk *c, const struct content_chunk *next)
{
	const uint32_t chunk = UINT32_C(1) << b->shift;

	return c->len == chunk && next->len == chunk && is_possible(b, c) && is_possible(b, next) &&
	       next->slot == c->slot + chunk / BLOB_PAD;
}

int blob_open_run(struct blob *b, const struct content_chunk *c, unsigned n, uint8_t *out)
{
	struct run_key key = { .set = false };
	int fd, r = blob_fd(b, false, &fd);

	if (!r)
		r = read_sealed(fd, c->slot, n << b->shift, out);
	for (unsigned i = 0; i < n && !r; i++)
		r = open_sealed(b, &c[i], &key, out + ((size_t)i << b->shift), 0, c[i].n_tags);
	secret_wipe(&key, sizeof(key));
	if (r)
		memset(out, 0, (size_t)n << b->shift);
	return r;
}
