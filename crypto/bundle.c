/*
 * Writer and reader both hold back one chunk, because only what follows says whether it is the
 * last: the writer seals a full chunk when another byte comes, the reader looks one byte beyond
 * the chunk it has. The bundle of nothing is one empty chunk; any other has no empty chunk, so
 * that one content has one division into chunks.
 */
#include "crypto/bundle.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/io.h"
#include "base/secret.h"
#include "crypto/bundle_format.h"
#include "crypto/kdf.h"

#define NONCE_LEN 12
#define COUNTER_AT BUNDLE_PREFIX_LEN
#define LAST_AT (NONCE_LEN - 1)

/* What both directions share: the header, the key of the chunks, which chunk is next. */
struct stream {
	struct bundle_header header;
	struct secret *key;
	uint64_t counter;
};

/* HKDF makes the key of the chunks and, behind it, the commitment to the key and this salt. */
static int stream_key(struct stream *s, const uint8_t *key, uint8_t commit[BUNDLE_COMMIT_LEN])
{
	uint8_t okm[AEAD_KEY_LEN + BUNDLE_COMMIT_LEN];
	int r = kdf_hkdf_sha256(key, BUNDLE_KEY_LEN, s->header.salt, BUNDLE_SALT_LEN,
		(const uint8_t *)BUNDLE_INFO, strlen(BUNDLE_INFO), okm, sizeof(okm));

	if (!r)
		r = secret_new_copy(okm, AEAD_KEY_LEN, &s->key);
	if (!r)
		memcpy(commit, okm + AEAD_KEY_LEN, BUNDLE_COMMIT_LEN);
	secret_wipe(okm, sizeof(okm));
	return r;
}

/* prefix ‖ u32 counter, big-endian ‖ u8 last */
static int stream_nonce(struct stream *s, bool last, uint8_t nonce[NONCE_LEN])
{
	if (s->counter > UINT32_MAX)
		return CE_TOO_LARGE;
	memcpy(nonce, s->header.prefix, BUNDLE_PREFIX_LEN);
	for (int i = 0; i < 4; i++)
		nonce[COUNTER_AT + i] = (uint8_t)(s->counter >> (24 - 8 * i));
	nonce[LAST_AT] = last;
	s->counter++;
	return 0;
}

struct bundle_writer {
	struct stream stream;
	struct bundle_sink sink;
	int failed; /* the code, or 0 */
	bool finished;
	size_t len;
	uint8_t plain[BUNDLE_CHUNK_LEN];
	uint8_t sealed[BUNDLE_SEALED_LEN];
};

static void header_init(struct bundle_header *h, enum bundle_content content)
{
	memcpy(h->magic, BUNDLE_MAGIC, sizeof(h->magic));
	h->version = BUNDLE_VERSION;
	h->alg = AEAD_AES256GCM;
	h->content = (uint8_t)content;
	store_le32(h->chunk_len, BUNDLE_CHUNK_LEN);
	secret_random(h->salt, sizeof(h->salt));
	secret_random(h->prefix, sizeof(h->prefix));
}

int bundle_writer_new(const uint8_t key[static BUNDLE_KEY_LEN], enum bundle_content content,
	const struct bundle_sink *sink, struct bundle_writer **out)
{
	struct bundle_writer *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->sink = *sink;
	header_init(&w->stream.header, content);
	r = stream_key(&w->stream, key, w->stream.header.commit);
	if (!r)
		r = sink->write(sink->arg, &w->stream.header, sizeof(w->stream.header));
	if (r) {
		bundle_writer_free(w);
		return r;
	}
	*out = w;
	return 0;
}

static int writer_flush(struct bundle_writer *w, bool last)
{
	uint8_t nonce[NONCE_LEN];
	int r = stream_nonce(&w->stream, last, nonce);

	if (!r)
		r = aead_seal(AEAD_AES256GCM, secret_cbytes(w->stream.key), nonce,
			&w->stream.header, sizeof(w->stream.header), w->plain, w->len, w->sealed,
			w->sealed + w->len);
	if (!r)
		r = w->sink.write(w->sink.arg, w->sealed, w->len + AEAD_TAG_LEN);
	w->len = 0;
	w->failed = r;
	return r;
}

int bundle_write(struct bundle_writer *w, const void *data, size_t len)
{
	const uint8_t *p = data;

	if (w->failed)
		return w->failed;
	if (w->finished)
		return -EINVAL;
	while (len) {
		size_t n;

		if (w->len == BUNDLE_CHUNK_LEN && writer_flush(w, false))
			return w->failed;
		n = MIN_OF(len, BUNDLE_CHUNK_LEN - w->len);
		memcpy(w->plain + w->len, p, n);
		w->len += n;
		p += n;
		len -= n;
	}
	return 0;
}

int bundle_finish(struct bundle_writer *w)
{
	if (w->failed)
		return w->failed;
	if (w->finished)
		return -EINVAL;
	w->finished = true;
	return writer_flush(w, true);
}

void bundle_writer_free(struct bundle_writer *w)
{
	if (!w)
		return;
	secret_free(w->stream.key);
	secret_wipe(w, sizeof(*w));
	free(w);
}

struct bundle_reader {
	struct stream stream;
	struct bundle_source source;
	int failed;  /* the code, or 0 */
	bool last;   /* the last chunk is open */
	size_t have; /* bytes in `sealed`: a chunk and one more, unless the source ended */
	size_t at, len;
	uint8_t plain[BUNDLE_CHUNK_LEN];
	uint8_t sealed[BUNDLE_SEALED_LEN + 1];
};

/* Until `want` bytes are there or the source ends. */
static int fill(const struct bundle_source *source, uint8_t *buf, size_t want, size_t *have)
{
	while (*have < want) {
		ssize_t n = source->read(source->arg, buf + *have, want - *have);

		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		*have += (size_t)n;
	}
	return 0;
}

static int header_check(const struct bundle_header *h)
{
	if (memcmp(h->magic, BUNDLE_MAGIC, sizeof(h->magic)) || h->version != BUNDLE_VERSION ||
		h->alg != AEAD_AES256GCM || h->content < BUNDLE_TAR || h->content > BUNDLE_FILE ||
		h->zero || h->zero2 || load_le32(h->chunk_len) != BUNDLE_CHUNK_LEN)
		return CE_FORMAT;
	return 0;
}

static int reader_start(struct bundle_reader *b, const uint8_t *key)
{
	struct stream *s = &b->stream;
	uint8_t commit[BUNDLE_COMMIT_LEN];
	size_t have = 0;
	int r = fill(&b->source, (uint8_t *)&s->header, sizeof(s->header), &have);

	if (r)
		return r;
	/* A cut in the header is told from a file of another kind. */
	if (have < sizeof(s->header.magic) ||
		memcmp(s->header.magic, BUNDLE_MAGIC, sizeof(s->header.magic)))
		return CE_FORMAT;
	if (have < sizeof(s->header))
		return CE_TAMPER;
	r = header_check(&s->header);
	if (!r)
		r = stream_key(s, key, commit);
	if (!r && !secret_equal_bytes(commit, s->header.commit, sizeof(commit)))
		r = CE_WRONG_KEY;
	return r;
}

int bundle_reader_new(const uint8_t key[static BUNDLE_KEY_LEN], const struct bundle_source *source,
	struct bundle_reader **out)
{
	struct bundle_reader *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return -ENOMEM;
	b->source = *source;
	r = reader_start(b, key);
	if (r) {
		bundle_reader_free(b);
		return r;
	}
	*out = b;
	return 0;
}

/* Opens the next chunk to `plain`. */
static int reader_chunk(struct bundle_reader *b)
{
	uint8_t nonce[NONCE_LEN];
	size_t len;
	int r = fill(&b->source, b->sealed, sizeof(b->sealed), &b->have);

	if (r)
		return r;
	b->last = b->have < sizeof(b->sealed);
	len = b->last ? b->have : BUNDLE_SEALED_LEN;
	if (len < AEAD_TAG_LEN || (len == AEAD_TAG_LEN && b->stream.counter))
		return CE_TAMPER;
	r = stream_nonce(&b->stream, b->last, nonce);
	len -= AEAD_TAG_LEN;
	if (!r)
		r = aead_open(AEAD_AES256GCM, secret_cbytes(b->stream.key), nonce,
			&b->stream.header, sizeof(b->stream.header), b->sealed, len,
			b->sealed + len, b->plain);
	if (r)
		return r;
	b->sealed[0] = b->sealed[BUNDLE_SEALED_LEN];
	b->have = b->last ? 0 : 1;
	b->at = 0;
	b->len = len;
	return 0;
}

int bundle_read(struct bundle_reader *b, void *buf, size_t len, size_t *n)
{
	size_t take;

	if (!b->failed && b->at == b->len && !b->last)
		b->failed = reader_chunk(b);
	if (b->failed)
		return b->failed;
	take = MIN_OF(len, b->len - b->at);
	memcpy(buf, b->plain + b->at, take);
	b->at += take;
	*n = take;
	return 0;
}

enum bundle_content bundle_content(const struct bundle_reader *b)
{
	return (enum bundle_content)b->stream.header.content;
}

void bundle_reader_free(struct bundle_reader *b)
{
	if (!b)
		return;
	secret_free(b->stream.key);
	secret_wipe(b, sizeof(*b));
	free(b);
}

int bundle_verify(const uint8_t key[static BUNDLE_KEY_LEN], const struct bundle_source *source)
{
	struct bundle_reader *b;
	int r = bundle_reader_new(key, source, &b);

	if (r)
		return r;
	while (!r && !b->last)
		r = reader_chunk(b);
	bundle_reader_free(b);
	return r;
}

static int fd_write(void *arg, const void *data, size_t len)
{
	return io_write_full(*(const int *)arg, data, len);
}

static ssize_t fd_read(void *arg, void *buf, size_t len)
{
	ssize_t n;

	do
		n = read(*(const int *)arg, buf, len);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

struct bundle_sink bundle_sink_fd(const int *fd)
{
	return (struct bundle_sink){ fd_write, (void *)fd };
}

struct bundle_source bundle_source_fd(const int *fd)
{
	return (struct bundle_source){ fd_read, (void *)fd };
}
