#include "cache/unsent_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "base/log.h"
#include "cache/unsent_format.h"
#include "crypto/aead.h"
#include "crypto/kdf.h"

#define GROW_BYTES ((off_t)256 << 10)
#define ALG AEAD_XCHACHA20POLY1305
#define AAD_LEN (sizeof(KDF_LABEL_UNSENT) - 1 + UNSENT_ID_LEN + 4 + 8)
/* A frame found behind damage is believed to be at most so many frames further. */
#define GAP_MAX (UINT64_C(1) << 32)

struct unsent_log {
	int fd;
	uint8_t id[UNSENT_ID_LEN];
	struct secret *key;
	uint64_t seq; /* of the next frame */
	off_t end, size;
	atomic_llong bytes;           /* the larger of the two, for any thread */
	bool published;               /* before that no room is taken ahead */
	atomic_uint_fast64_t written; /* frames; what sync has to reach */
	atomic_uint_fast64_t synced, loose;
};

static int file_key(
	const struct secret *key, const uint8_t id[static UNSENT_ID_LEN], struct secret **out)
{
	const struct kdf_field field = { id, UNSENT_ID_LEN };
	_cleanup_secret_ struct secret *k = NULL;
	int r = secret_new(KDF_KEY_LEN, &k);

	if (!r)
		r = kdf_blake2b(secret_cbytes(key), KDF_LABEL_UNSENT, &field, 1, secret_bytes(k));
	if (!r)
		*out = steal_ptr(&k);
	return r;
}

static size_t frame_bytes(size_t len)
{
	return (UNSENT_FRAME_LEN + len + UNSENT_ALIGN - 1) / UNSENT_ALIGN * UNSENT_ALIGN;
}

static void frame_aad(const uint8_t id[static UNSENT_ID_LEN], uint32_t len, uint64_t seq,
	uint8_t aad[static AAD_LEN])
{
	uint8_t *p = aad;

	memcpy(p, KDF_LABEL_UNSENT, sizeof(KDF_LABEL_UNSENT) - 1);
	p += sizeof(KDF_LABEL_UNSENT) - 1;
	memcpy(p, id, UNSENT_ID_LEN);
	store_le32(p + UNSENT_ID_LEN, len);
	store_le64(p + UNSENT_ID_LEN + 4, seq);
}

/* --- writing --- */

int unsent_log_make(int dirfd, const struct secret *key, struct unsent_log **out)
{
	uint8_t header[UNSENT_HEADER_LEN] = UNSENT_MAGIC;
	struct unsent_log *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	secret_random(l->id, sizeof(l->id));
	memcpy(header + UNSENT_MAGIC_LEN, l->id, sizeof(l->id));
	l->seq = 1;
	l->end = l->size = UNSENT_HEADER_LEN;
	atomic_store(&l->bytes, UNSENT_HEADER_LEN);
	l->fd = openat(
		dirfd, UNSENT_NEW_FILE, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	r = l->fd < 0 ? -errno : io_pwrite_full(l->fd, header, sizeof(header), 0);
	if (!r)
		r = file_key(key, l->id, &l->key);
	if (r)
		unsent_log_free(l);
	else
		*out = l;
	return r;
}

void unsent_log_free(struct unsent_log *l)
{
	if (!l)
		return;
	if (l->fd >= 0) {
		/* The room ahead is given back. */
		if (l->size > l->end && ftruncate(l->fd, l->end) < 0)
			log_debug("unsent.log keeps the room ahead of it");
		close(l->fd);
	}
	secret_free(l->key);
	free(l);
}

int unsent_log_publish(struct unsent_log *l, int dirfd)
{
	uint64_t written = atomic_load(&l->written);
	int r = FAILPOINT("unsent-publish");

	if (r)
		return r;
	if (fsync(l->fd) < 0 || renameat(dirfd, UNSENT_NEW_FILE, dirfd, UNSENT_FILE) < 0)
		return -errno;
	atomic_store(&l->synced, written);
	l->published = true;
	return io_fsync_dir(dirfd);
}

/* Zeros ahead of the end, written and not only allocated, so that most appends change neither the
 * file's length nor its extents and a sync is one of data only. Without it everything works as
 * well. */
static void grow(struct unsent_log *l, off_t end)
{
	static const uint8_t zeros[GROW_BYTES];

	if (end <= l->size)
		return;
	l->size = end;
	if (l->published && !io_pwrite_full(l->fd, zeros, sizeof(zeros), end))
		l->size += GROW_BYTES;
}

static int seal(struct unsent_log *l, const void *data, uint32_t len, uint8_t *frame)
{
	uint8_t aad[AAD_LEN];

	store_le32(frame, len);
	store_le64(frame + 8, l->seq);
	aead_nonce(ALG, frame + 16);
	frame_aad(l->id, len, l->seq, aad);
	return aead_seal(ALG, secret_cbytes(l->key), frame + 16, aad, sizeof(aad), data, len,
		frame + UNSENT_FRAME_LEN, frame + 16 + UNSENT_NONCE_LEN);
}

int unsent_log_append(struct unsent_log *l, const void *data, size_t len, uint64_t *seq)
{
	size_t bytes = frame_bytes(len);
	_cleanup_free_ uint8_t *frame = NULL;
	int r;

	if (len > UNSENT_FRAME_MAX)
		return CE_TOO_LARGE;
	frame = calloc(1, bytes);
	if (!frame)
		return -ENOMEM;
	r = seal(l, data, (uint32_t)len, frame);
	if (!r)
		r = FAILPOINT("unsent-append");
	if (r)
		return r;
	grow(l, l->end + (off_t)bytes);
	r = io_pwrite_full(l->fd, frame, bytes, l->end);
	if (r)
		return r;
	l->end += (off_t)bytes;
	atomic_store(&l->bytes, MAX_OF(l->size, l->end));
	*seq = l->seq++;
	atomic_fetch_add(&l->written, 1);
	return 0;
}

int unsent_log_sync(struct unsent_log *l)
{
	uint64_t written = atomic_load(&l->written);
	int r = 0;

	if (atomic_load(&l->synced) == written)
		return 0;
	r = FAILPOINT("unsent-sync");
	if (!r && fdatasync(l->fd) < 0)
		r = -errno;
	if (!r)
		atomic_store(&l->synced, written);
	return r;
}

uint64_t unsent_log_bytes(const struct unsent_log *l)
{
	return (uint64_t)atomic_load(&l->bytes);
}

const uint8_t *unsent_log_id(const struct unsent_log *l)
{
	return l->id;
}

void unsent_log_set_loose(struct unsent_log *l)
{
	atomic_store(&l->loose, atomic_load(&l->written));
}

bool unsent_log_is_loose(const struct unsent_log *l)
{
	return atomic_load(&l->loose) > atomic_load(&l->synced);
}

/* --- reading --- */

struct reader {
	struct secret *key;
	uint8_t id[UNSENT_ID_LEN];
	const uint8_t *data;
	size_t len, at;
	uint64_t next; /* seq */
	int unread;    /* why a frame could not be opened, other than that it is none */
	const struct unsent_copies *copies;
};

/* A frame with a seq that can stand here, opened to `out`. */
static bool open_frame(struct reader *d, uint64_t seq_max, uint8_t *out, uint32_t *len)
{
	const uint8_t *f = d->data + d->at;
	uint8_t aad[AAD_LEN];
	uint64_t seq;
	int r;

	if (d->len - d->at < UNSENT_FRAME_LEN)
		return false;
	*len = load_le32(f);
	seq = load_le64(f + 8);
	if (load_le32(f + 4) || *len > d->len - d->at - UNSENT_FRAME_LEN || seq < d->next ||
		seq > seq_max)
		return false;
	frame_aad(d->id, *len, seq, aad);
	r = aead_open(ALG, secret_cbytes(d->key), f + 16, aad, sizeof(aad), f + UNSENT_FRAME_LEN,
		*len, f + 16 + UNSENT_NONCE_LEN, out);
	if (r && r != CE_TAMPER)
		d->unread = r;
	return !r;
}

/* What is missing before `until`, as far as there are copies. */
static int fill_in(struct reader *d, uint64_t until, unsent_log_fn *fn, void *arg)
{
	const uint8_t *data;
	uint64_t seq;
	size_t len;
	int r = 0;

	while (!r && d->copies && d->copies->find(d->copies->arg, d->id, d->next, &seq, &data, &len) &&
		seq < until) {
		d->next = seq + 1;
		r = fn(arg, seq, data, len);
	}
	return r;
}

static int read_frames(struct reader *d, unsent_log_fn *fn, void *arg, bool *damaged)
{
	uint8_t *out = malloc(d->len);
	bool lost = false;
	uint32_t len;
	int r = 0;

	if (!out)
		return -ENOMEM;
	while (!r && d->at < d->len) {
		uint64_t seq;

		if (!open_frame(d, lost ? d->next + GAP_MAX : d->next, out, &len)) {
			lost = true;
			d->at += UNSENT_ALIGN;
			r = d->unread;
			continue;
		}
		seq = load_le64(d->data + d->at + 8);
		if (lost)
			r = fill_in(d, seq, fn, arg);
		*damaged |= d->next != seq;
		lost = false;
		d->at += frame_bytes(len);
		d->next = seq + 1;
		if (!r)
			r = fn(arg, seq, out, len);
		secret_wipe(out, len);
	}
	if (!r)
		r = fill_in(d, UINT64_MAX, fn, arg);
	free(out);
	return r ? r : d->next == 1 ? CE_TAMPER : 0;
}

int unsent_log_read(int dirfd, const struct secret *key, const struct unsent_copies *copies,
	unsent_log_fn *fn, void *arg, bool *damaged)
{
	_cleanup_free_ char *data = NULL;
	struct reader d = { .at = UNSENT_HEADER_LEN, .next = 1, .copies = copies };
	bool bad = false;
	int r = io_read_file(dirfd, UNSENT_FILE, SIZE_MAX / 4, &data, &d.len);

	if (r)
		return r;
	if (d.len < UNSENT_HEADER_LEN || memcmp(data, UNSENT_MAGIC, UNSENT_MAGIC_LEN) != 0)
		return CE_FORMAT;
	d.data = (const uint8_t *)data;
	memcpy(d.id, d.data + UNSENT_MAGIC_LEN, sizeof(d.id));
	r = file_key(key, d.id, &d.key);
	if (!r)
		r = read_frames(&d, fn, arg, &bad);
	secret_free(d.key);
	if (!r)
		*damaged = bad;
	return r;
}
