/*
 * The sealed bundle: one stream under one fresh key, for what leaves the volume (`cachet export`,
 * the server's export).
 *
 * AES-256-GCM in chunks of 64 KiB as in STREAM (Hoang, Reyhanitabar, Rogaway, Vizar 2015, section
 * 7): the nonce is a random prefix, the number of the chunk, and whether it is the last; the
 * header is the additional data of every chunk. So chunks cannot be exchanged, repeated, left out
 * or moved to another bundle, and a cut at any byte is seen. HKDF-SHA256(key, salt) gives the key
 * of the chunks and a commitment, checked first. Exact bytes: docs/format.md.
 *
 *     bundle_writer_new(key, content, &sink, &w);  // writes the header
 *     bundle_write(w, data, len);                  // as often as one likes
 *     bundle_finish(w);                            // the last chunk: without it nothing opens
 *     bundle_writer_free(w);
 *
 *     bundle_reader_new(key, &source, &r);         // reads the header, checks the commitment
 *     while (!(e = bundle_read(r, buf, len, &n)) && n) ...
 *     bundle_reader_free(r);
 *
 * Each chunk is authentic when bundle_read() hands it out, but the bundle is whole only when n is
 * 0: who must not act on part of one reads it twice (bundle_verify), or puts the output aside.
 *
 * Memory: two chunks, wiped by _free. Errors: CE_FORMAT not a bundle or of a newer version,
 * CE_WRONG_KEY, CE_TAMPER changed, cut off, or with bytes behind its end, CE_TOO_LARGE beyond 2^32
 * chunks, and what sink and source return. A writer or reader that failed goes on failing.
 * Threads: one at a time.
 */
#ifndef CACHET_CRYPTO_BUNDLE_H
#define CACHET_CRYPTO_BUNDLE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/macros.h"

#define BUNDLE_KEY_LEN 32

/* What is inside. */
enum bundle_content {
	BUNDLE_TAR = 1,  /* a pax archive */
	BUNDLE_FILE = 2, /* one file as it is; its name is that of the bundle */
};

/* Takes all `len` bytes or returns a negative code. */
struct bundle_sink {
	int (*write)(void *arg, const void *data, size_t len);
	void *arg;
};

/* 1 to `len` bytes, 0 at the end, or a negative code. */
struct bundle_source {
	ssize_t (*read)(void *arg, void *buf, size_t len);
	void *arg;
};

struct bundle_writer;
struct bundle_reader;

/* `key` is read in this call only. It must not have sealed anything but bundles. */
int bundle_writer_new(const uint8_t key[static BUNDLE_KEY_LEN], enum bundle_content content,
	const struct bundle_sink *sink, struct bundle_writer **out) MUST_CHECK;
int bundle_write(struct bundle_writer *w, const void *data, size_t len) MUST_CHECK;
int bundle_finish(struct bundle_writer *w) MUST_CHECK;
void bundle_writer_free(struct bundle_writer *w);

int bundle_reader_new(const uint8_t key[static BUNDLE_KEY_LEN], const struct bundle_source *source,
	struct bundle_reader **out) MUST_CHECK;
/* Up to `len` bytes; *n is 0 at the verified end and only there (len > 0). */
int bundle_read(struct bundle_reader *r, void *buf, size_t len, size_t *n) MUST_CHECK;
enum bundle_content bundle_content(const struct bundle_reader *r);
void bundle_reader_free(struct bundle_reader *r);

/* Reads to the end: 0 when the whole of it is authentic. */
int bundle_verify(
	const uint8_t key[static BUNDLE_KEY_LEN], const struct bundle_source *source) MUST_CHECK;

/* A descriptor as a sink and a source, at its own offset; `fd` lives as long as they do. */
struct bundle_sink bundle_sink_fd(const int *fd);
struct bundle_source bundle_source_fd(const int *fd);

#endif
