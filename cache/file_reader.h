/*
 * A file read once from front to end, its SHA-256 made on the way.
 *
 *     file_reader_new → file_reader_next until *got is short of what was asked → file_reader_sha256
 *     → file_reader_free
 *
 * file_reader_rewind() begins again at the front. Threads: one at a time per reader. Errors are
 * those of file_read(); after one the reader is good for a rewind only.
 *
 * Ahead of the commit, of a file that is still being written:
 *
 *     file_reader_new_ahead → file_reader_settled → file_reader_next, up to there ...
 *     → file_reader_follow → as above, or file_reader_free
 *
 * A chunk is settled when it is full, sealed, and nothing newer waits in memory. It may still be
 * written again: so the reader keeps in mind how each chunk that it read is sealed (nonce and tag,
 * of which there is one for each content), and file_reader_follow() takes a snapshot in the place of
 * the file only if the snapshot begins with these very chunks. From then on it reads what was
 * committed, all of it, and nothing else.
 */
#ifndef CACHET_CACHE_FILE_READER_H
#define CACHET_CACHE_FILE_READER_H

#include "cache/file.h"

struct file_reader;

/* Takes the reference to `f`, which is no writer's, also on failure. */
int file_reader_new(struct file *f, struct file_reader **out) MUST_CHECK;
int file_reader_new_ahead(struct file *f, struct file_reader **out) MUST_CHECK;
/* NULL-safe. */
void file_reader_free(struct file_reader *r);
int file_reader_rewind(struct file_reader *r) MUST_CHECK;
/* How much was read. */
uint64_t file_reader_offset(const struct file_reader *r);
/* The next `len` bytes; fewer only at the end. Ahead: whole chunks, all of them, or CE_STALE: one is no longer settled. */
int file_reader_next(struct file_reader *r, void *buf, size_t len, size_t *got) MUST_CHECK;
/* Of all that was read since the front; the reader is then good for a rewind only. _peek: and it goes on. */
int file_reader_sha256(struct file_reader *r, uint8_t out[static 32]) MUST_CHECK;
int file_reader_peek_sha256(const struct file_reader *r, uint8_t out[static 32]) MUST_CHECK;

/* How far the file is settled from where the reader is, `max` bytes at most. CE_STALE: its first chunk, where files are
 * most often written anew, is not the one that was read. */
int file_reader_settled(struct file_reader *r, uint64_t max, uint64_t *end) MUST_CHECK;
/* Ahead: the file has changes that are not committed. */
bool file_reader_is_growing(const struct file_reader *r);
/* What is sealed so far goes to the disk, so that the sync at the end is short. A hint. */
void file_reader_start_sync(struct file_reader *r);
/* 0: takes the reference to `snapshot`. CE_STALE: that is another content; nothing has changed. */
int file_reader_follow(struct file_reader *r, struct file *snapshot) MUST_CHECK;

#endif
