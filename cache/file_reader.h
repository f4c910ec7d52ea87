/*
 * A file read once from front to end, its SHA-256 made on the way.
 *
 *     file_reader_new → file_reader_next until *got is short of what was asked → file_reader_sha256
 *     → file_reader_free
 *
 * file_reader_rewind() begins again at the front. Threads: one at a time per reader. Errors are
 * those of file_read(); after one the reader is good for a rewind only.
 */
#ifndef CACHET_CACHE_FILE_READER_H
#define CACHET_CACHE_FILE_READER_H

#include "cache/file.h"

struct file_reader;

/* Takes the reference to `f`, which is no writer's, also on failure. */
int file_reader_new(struct file *f, struct file_reader **out) MUST_CHECK;
/* NULL-safe. */
void file_reader_free(struct file_reader *r);
int file_reader_rewind(struct file_reader *r) MUST_CHECK;
/* The next `len` bytes; fewer only at the end. */
int file_reader_next(struct file_reader *r, void *buf, size_t len, size_t *got) MUST_CHECK;
/* Of all that was read since the front; the reader is then good for a rewind only. */
int file_reader_sha256(struct file_reader *r, uint8_t out[static 32]) MUST_CHECK;

#endif
