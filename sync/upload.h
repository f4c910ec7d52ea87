/*
 * The content of one large upload, or a part of it, read and hashed ahead of what is sent.
 *
 *     upload_new → upload_source for each piece that HTTP wants → upload_sha256 → upload_free
 *     upload_new_part → upload_source ... → upload_take_reader → upload_free
 *
 * Two buffers take turns: while HTTP sends from one, the fill worker reads, opens and hashes the
 * next piece into the other, so that neither waits for both. When HTTP is faster it pauses and
 * `resume` is called with the next piece. Threads: the loop's, all of it but for the job.
 */
#ifndef CACHET_SYNC_UPLOAD_H
#define CACHET_SYNC_UPLOAD_H

#include "cache/file_reader.h"
#include "sync/worker.h"

struct upload;

/* Takes the reader, also on failure; begins to read. What is before `from` is only hashed, if the reader
 * is not there already. */
int upload_new(struct worker *w, struct file_reader *reader, uint64_t size, uint64_t from,
	void (*resume)(void *arg), void *arg, struct upload **out) MUST_CHECK;
/* As that, up to `end`. */
int upload_new_part(struct worker *w, struct file_reader *reader, uint64_t end, uint64_t from,
	void (*resume)(void *arg), void *arg, struct upload **out) MUST_CHECK;
/* There is something to send, or an error to tell; if not, `resume` will be called. */
bool upload_ready(struct upload *u);
/* An http_source_fn's work: bytes from `off`, which is where the last ones ended, or `from`: all
 * over again. */
ssize_t upload_source(struct upload *u, void *buf, size_t len, uint64_t off);
/* The reader, at the end of what was sent; NULL unless all of the part was. */
struct file_reader *upload_take_reader(struct upload *u);
/* Whether all was sent; then the digest of it. */
bool upload_sha256(const struct upload *u, uint8_t out[static 32]);
/* NULL-safe. A piece that is being read frees it when it is. */
void upload_free(struct upload *u);

#endif
