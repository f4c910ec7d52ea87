#include "cache/file_reader.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "cache/file_priv.h"
#include "crypto/kdf.h"

struct file_reader {
	struct file *f;
	struct kdf_sha256 *hash; /* NULL after an error, and when it was taken */
	uint64_t off;
	bool ahead;
	unsigned shift;                 /* ahead: of the file's chunks, since the first was read */
	struct kdf_sha256 *seals;       /* of how the chunks are sealed that were read ahead */
	uint8_t first[CONTENT_TAG_LEN]; /* the tag of the first, for a quick no */
};

int file_reader_new(struct file *f, struct file_reader **out)
{
	struct file_reader *r = calloc(1, sizeof(*r));
	int e;

	if (!r) {
		file_unref(f, false);
		return -ENOMEM;
	}
	r->f = f;
	e = file_reader_rewind(r);
	if (e) {
		file_reader_free(r);
		return e;
	}
	*out = r;
	return 0;
}

int file_reader_new_ahead(struct file *f, struct file_reader **out)
{
	struct file_reader *r;
	int e = file_reader_new(f, &r);

	if (e)
		return e;
	r->ahead = true;
	e = kdf_sha256_new(&r->seals);
	if (e)
		file_reader_free(r);
	else
		*out = r;
	return e;
}

void file_reader_free(struct file_reader *r)
{
	if (!r)
		return;
	kdf_sha256_free(r->hash);
	kdf_sha256_free(r->seals);
	file_unref(r->f, false);
	free(r);
}

int file_reader_rewind(struct file_reader *r)
{
	kdf_sha256_free(steal_ptr(&r->hash));
	kdf_sha256_free(steal_ptr(&r->seals));
	r->off = 0;
	if (r->ahead && kdf_sha256_new(&r->seals))
		return -ENOMEM;
	return kdf_sha256_new(&r->hash);
}

uint64_t file_reader_offset(const struct file_reader *r)
{
	return r->off;
}

/* --- ahead --- */

/* The file's lock is held. -EAGAIN: it is not settled. */
static int settled_chunk(
	const struct file_reader *reader, struct file *f, uint64_t idx, struct chunk_entry *e)
{
	int r;

	if (file_shift(f) != reader->shift || file_dirty_find(f, idx))
		return -EAGAIN;
	r = chunkmap_get(&f->chunks, idx, e);
	if (r)
		return r;
	return (e->state == CHUNK_ROW || e->state == CHUNK_SEALED) &&
			       e->c.len == UINT32_C(1) << reader->shift
		       ? 0
		       : -EAGAIN;
}

static int note_seal(struct kdf_sha256 *seals, const struct content_chunk *c)
{
	uint8_t text[8 + sizeof(c->nonce) + sizeof(c->tags)];

	store_le64(text, c->idx);
	memcpy(text + 8, c->nonce, sizeof(c->nonce));
	memcpy(text + 8 + sizeof(c->nonce), c->tags, sizeof(c->tags));
	return kdf_sha256_update(seals, text, sizeof(text));
}

static void learn_shift(struct file_reader *r)
{
	if (r->off)
		return;
	pthread_rwlock_rdlock(&r->f->lock);
	r->shift = file_shift(r->f);
	pthread_rwlock_unlock(&r->f->lock);
}

#define RUN_CHUNKS 64

/* Some chunks and the blobs they are in, which stay. */
struct run {
	size_t n;
	struct content_chunk chunks[RUN_CHUNKS];
	struct blob *blobs[RUN_CHUNKS];
};

static void run_done(struct run *run)
{
	while (run->n)
		blob_unref(run->blobs[--run->n]);
}

static int take_run(struct file_reader *r, uint64_t first, size_t n, struct run *run)
{
	struct chunk_entry e;
	int rc = 0;

	run->n = 0;
	pthread_rwlock_rdlock(&r->f->lock);
	while (!rc && run->n < n) {
		rc = settled_chunk(r, r->f, first + run->n, &e);
		if (rc)
			break;
		run->chunks[run->n] = e.c;
		run->blobs[run->n++] = blob_ref(file_blob_of(r->f, &e));
	}
	pthread_rwlock_unlock(&r->f->lock);
	if (rc)
		run_done(run);
	return rc;
}

/*
 * Read and opened without the file's lock, for which its writer would have to wait. A chunk that is
 * written anew meanwhile leaves its slot to another: then the tag does not fit. When it fits, the
 * content is that of the seal that was noted. What does not fit for another reason is for the
 * reader of the snapshot to meet.
 */
static int read_run(struct file_reader *r, const struct run *run, uint8_t *buf)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < run->n; i++) {
		rc = blob_open(run->blobs[i], &run->chunks[i], buf + (i << r->shift));
		if (!rc && !run->chunks[i].idx)
			memcpy(r->first, run->chunks[i].tags[0], sizeof(r->first));
		if (!rc)
			rc = note_seal(r->seals, &run->chunks[i]);
	}
	return rc == CE_TAMPER ? -EAGAIN : rc;
}

static int read_ahead(struct file_reader *r, uint8_t *buf, size_t len)
{
	struct run run;
	size_t n, chunk;
	int rc;

	learn_shift(r);
	chunk = (size_t)1 << r->shift;
	rc = len % chunk || !r->seals ? -EINVAL : 0;
	for (size_t done = 0; !rc && done < len; done += n * chunk) {
		n = MIN_OF((len - done) / chunk, (size_t)RUN_CHUNKS);
		rc = take_run(r, (r->off + done) / chunk, n, &run);
		if (rc)
			break;
		rc = read_run(r, &run, buf + done);
		run_done(&run);
	}
	return rc == -EAGAIN ? CE_STALE : rc;
}

int file_reader_settled(struct file_reader *r, uint64_t max, uint64_t *end)
{
	struct chunk_entry e;
	uint64_t idx, last;
	int rc = 0;

	learn_shift(r);
	idx = r->off >> r->shift;
	last = idx + (max >> r->shift);
	pthread_rwlock_rdlock(&r->f->lock);
	if (idx)
		rc = settled_chunk(r, r->f, 0, &e);
	if (idx && (rc == -EAGAIN || (!rc && memcmp(e.c.tags[0], r->first, sizeof(r->first)) != 0)))
		rc = CE_STALE;
	while (!rc && idx < last) {
		rc = settled_chunk(r, r->f, idx, &e);
		idx += !rc;
	}
	pthread_rwlock_unlock(&r->f->lock);
	if (rc && rc != -EAGAIN)
		return rc;
	*end = idx << r->shift;
	return 0;
}

bool file_reader_is_growing(const struct file_reader *r)
{
	return atomic_load(&r->f->is_dirty);
}

void file_reader_start_sync(struct file_reader *r)
{
	struct blob *b;

	pthread_rwlock_rdlock(&r->f->lock);
	b = r->f->blob ? blob_ref(r->f->blob) : NULL;
	pthread_rwlock_unlock(&r->f->lock);
	if (b)
		blob_sync_start(b);
	blob_unref(b);
}

/* The snapshot's lock is held. */
static int note_all(const struct file_reader *r, struct file *snapshot, struct kdf_sha256 *seals)
{
	struct chunk_entry e;
	int rc = 0;

	for (uint64_t idx = 0; !rc && idx << r->shift < r->off; idx++) {
		rc = settled_chunk(r, snapshot, idx, &e);
		if (rc == -EAGAIN ||
			(!rc && !idx && memcmp(e.c.tags[0], r->first, sizeof(r->first)) != 0))
			return CE_STALE;
		if (!rc)
			rc = note_seal(seals, &e.c);
	}
	return rc;
}

static int compare(const struct file_reader *r, struct file *snapshot)
{
	uint8_t read[KDF_SHA256_LEN], committed[KDF_SHA256_LEN];
	struct kdf_sha256 *seals;
	int rc = r->seals ? kdf_sha256_peek(r->seals, read) : -EINVAL;

	if (!rc)
		rc = kdf_sha256_new(&seals);
	if (rc)
		return rc;
	pthread_rwlock_rdlock(&snapshot->lock);
	rc = note_all(r, snapshot, seals);
	pthread_rwlock_unlock(&snapshot->lock);
	if (rc)
		kdf_sha256_free(seals);
	else
		rc = kdf_sha256_final(seals, committed);
	return rc ? rc : memcmp(read, committed, sizeof(read)) ? CE_STALE : 0;
}

int file_reader_follow(struct file_reader *r, struct file *snapshot)
{
	int rc = compare(r, snapshot);

	if (rc)
		return rc;
	file_unref(r->f, false);
	r->f = snapshot;
	r->ahead = false;
	return 0;
}

/* --- */

static int read_some(struct file_reader *r, void *buf, size_t len, size_t *got)
{
	int e;

	if (!r->ahead)
		return file_read(r->f, buf, len, r->off, got);
	e = read_ahead(r, buf, len);
	if (!e)
		*got = len;
	return e;
}

int file_reader_next(struct file_reader *r, void *buf, size_t len, size_t *got)
{
	size_t n = 0;
	int e = r->hash ? read_some(r, buf, len, &n) : -EINVAL;

	if (!e)
		e = kdf_sha256_update(r->hash, buf, n);
	if (e) {
		kdf_sha256_free(steal_ptr(&r->hash));
		return e;
	}
	r->off += n;
	*got = n;
	return 0;
}

int file_reader_sha256(struct file_reader *r, uint8_t out[static 32])
{
	return r->hash ? kdf_sha256_final(steal_ptr(&r->hash), out) : -EINVAL;
}

int file_reader_peek_sha256(const struct file_reader *r, uint8_t out[static 32])
{
	return r->hash ? kdf_sha256_peek(r->hash, out) : -EINVAL;
}
