/*
 * Content: reading, writing and committing one version of one file.
 *
 * A struct file is one content version (object, version), shared by all its handles and mappings,
 * reference-counted. Writes gather in memory as whole chunks and are sealed into free slots of the blob: a chunk is never overwritten in
 * place, so what was committed stays whole until the next commit replaces it in one transaction (cache/blob.h, docs/format.md).
 *
 *     file_open → file_read / file_write ... → file_commit (FLUSH) or file_sync (FSYNC) → file_unref
 *
 * file_commit: one transaction with chunk map, size, times and journal row; survives SIGKILL when it returns.
 * file_sync: data first, then the transaction, then the redo log; survives power loss when it returns.
 * Uncommitted writes also commit by the keeper within a second (stray writes of the kernel), and under memory pressure their chunks are sealed
 * early without being committed.
 *
 * Partly present: a file that is not whole reads CE_ABSENT where chunks are missing; the caller fetches (file_missing says what,
 * file_fill takes it) and tries again. Writes and truncation need a whole file (O_TRUNC excepted): file_missing(0, UINT64_MAX) first; -EBUSY otherwise.
 * Tampered clean chunks are dropped and read as CE_ABSENT (healed by fetching); tampered unsent ones are CE_TAMPER.
 *
 * ENOSPC: space is reserved before data is accepted (cache/space.h): -ENOSPC from file_write, at the latest from commit; the data stays in
 * memory and a later commit may succeed.
 *
 * Threads: all calls, any number at once. Readers of one file run in parallel.
 */
#ifndef CACHET_CACHE_FILE_H
#define CACHET_CACHE_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/macros.h"
#include "cache/tree.h"
#include "cache/volume.h"

#define FILE_SIZE_MAX (INT64_MAX - (1 << 20))

struct file;

/* CE_STALE when that version is gone and not open. `writer` says that this reference may write: the origin's
 * changes wait until the last writer is gone. */
int file_open(struct volume *v, uint64_t object, uint64_t version, bool writer, struct file **out) MUST_CHECK;
/* A snapshot named by a map (outbox): read-only. */
int file_open_map(struct volume *v, uint64_t map, struct file **out) MUST_CHECK;
/* Drops a reference taken with the same `writer`. The last one commits what is pending (errors are logged) and frees. */
void file_unref(struct file *f, bool writer);

uint64_t file_object(const struct file *f);
uint64_t file_version(const struct file *f);
uint64_t file_size(struct file *f);
/* What file_fill takes is a multiple of this, or ends with the file. */
uint64_t file_chunk_bytes(struct file *f);
#define FILE_GROWTH_BYTES (UINT64_C(4) << 20) /* volume_on_growth */

/* Up to `len` bytes from `off`; *got may be short only at the end of the file. CE_ABSENT, CE_STALE, CE_TAMPER. */
int file_read(struct file *f, void *buf, size_t len, uint64_t off, size_t *got) MUST_CHECK;

/* The first missing range that touches [off, off+len), aligned to chunks, clipped to the size and to `max`; 0 and range->len 0 when all is here. */
struct file_range {
	uint64_t off, len;
	char etag[65]; /* strong ETag of the version, for If-Match */
	char rid[65];
	uint64_t store;
};
int file_missing(struct file *f, uint64_t off, uint64_t len, uint64_t max, struct file_range *range) MUST_CHECK;

/* Who fetches a file wants to know, once, that a reader has come as far as `end` (0: no more), who finds all there and so
 * says nothing. file_read_to: true for the first read up to there. Any thread. */
void file_watch_reader(struct file *f, uint64_t end);
bool file_read_to(struct file *f, uint64_t end);

/* Takes fetched content of the version with `etag`: `off` chunk-aligned, `len` a multiple of the chunk size or up to the end. CE_STALE when the file
 * is of another version. Chunks that are already here are left alone. */
int file_fill(struct file *f, const char *etag, const void *buf, size_t len, uint64_t off) MUST_CHECK;

int file_write(struct file *f, const void *buf, size_t len, uint64_t off) MUST_CHECK;
/*
 * The same of len > 0, and `accepted` is called, if and only if 0 is returned, as soon as nothing can refuse the write any more: with the file's lock
 * held, before the content is sealed, so that whoever uses the file then waits for the rest. What cannot be sealed after all waits in memory
 * for the next commit, which tells of it.
 */
int file_write_early(
	struct file *f, const void *buf, size_t len, uint64_t off, void (*accepted)(void *arg), void *arg) MUST_CHECK;
/* Whether such a write is worth it: it seals whole chunks of what is a large file by then. */
bool file_write_seals(size_t len, uint64_t off);
/* The error of a write that was accepted and of which a part could not even be kept in memory; told once. */
int file_take_lost(struct file *f) MUST_CHECK;
/* Commits at once: an answered setattr survives SIGKILL. */
int file_truncate(struct file *f, uint64_t size) MUST_CHECK;
/* mode as fallocate(2): 0, KEEP_SIZE, PUNCH_HOLE|KEEP_SIZE, ZERO_RANGE; else -EOPNOTSUPP. */
int file_fallocate(struct file *f, int mode, uint64_t off, uint64_t len) MUST_CHECK;
/* SEEK_DATA, SEEK_HOLE; -ENXIO. Content that is not here counts as data. */
int file_seek(struct file *f, uint64_t off, int whence, uint64_t *out) MUST_CHECK;

int file_commit(struct file *f) MUST_CHECK;
int file_sync(struct file *f) MUST_CHECK;

/* SHA-256 of a whole file's content. */
int file_sha256(struct file *f, uint8_t out[static 32]) MUST_CHECK;

#endif
