/*
 * Bodies: the content of one upload on its way to the disk.
 *
 *     server_body_init(&b, &dirs, max);
 *     r = server_body_write(&b, data, len);    // as it comes; CE_TOO_LARGE beyond max
 *     r = server_body_finish(&b);              // length and SHA-256 are now known
 *     r = server_body_sync(&b);                // a content file is on the disk under its final
 * name
 *     ... COMMIT of the row that names it ...
 *     server_body_keep(&b);
 *     server_body_done(&b);                    // a file that was not kept is removed
 *
 * Up to RECORD_INLINE_MAX bytes stay in memory and go into the row. More goes to tmp/ and, synced,
 * by rename to content/xx/ (xx: first byte of its random name); the directory is synced too. A
 * content file is written once and never changed: a reader that has it open keeps its snapshot. A
 * crash leaves files that no row names; server_body_sweep() removes them at the next start.
 *
 * Threads: one at a time per body.
 */
#ifndef CACHET_SERVER_BODY_H
#define CACHET_SERVER_BODY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "crypto/kdf.h"
#include "server/records.h"

struct body_dirs {
	int tmp_fd, content_fd;
};

struct body {
	const struct body_dirs *dirs;
	uint64_t max, len;
	struct buffer small;
	struct kdf_sha256 *hash;
	uint8_t sha256[32];
	int fd;                       /* of the temporary file, -1 = none */
	uint64_t written_back;        /* up to here write-back was started */
	bool in_file, in_place, kept; /* has a file; under its final name; a durable row names it */
	uint8_t file[RECORD_FILE_LEN]; /* its name */
};

/* Opens (and makes) tmp/ and content/ in `dir_fd`. */
int server_body_open_dirs(int dir_fd, struct body_dirs *out) MUST_CHECK;
void server_body_close_dirs(struct body_dirs *dirs);

void server_body_init(struct body *b, const struct body_dirs *dirs, uint64_t max);
int server_body_write(struct body *b, const void *data, size_t len) MUST_CHECK;
int server_body_finish(struct body *b) MUST_CHECK;
int server_body_sync(struct body *b) MUST_CHECK;
void server_body_keep(struct body *b);
void server_body_done(struct body *b);

/* A descriptor of content file `file`; -ENOENT when it was replaced meanwhile: look the record up
 * again. */
int server_body_open(const struct body_dirs *dirs, const uint8_t file[static RECORD_FILE_LEN],
	int *out_fd) MUST_CHECK;
/* Unlinks a file that no row names any more; -EBUSY while a backup is made. */
int server_body_release(
	const struct body_dirs *dirs, const uint8_t file[static RECORD_FILE_LEN]) MUST_CHECK;
/* Copies a content file, not synced; *bytes grows by its size. */
int server_body_copy(const struct body_dirs *from, const struct body_dirs *to,
	const uint8_t file[static RECORD_FILE_LEN], uint64_t *bytes) MUST_CHECK;
void server_body_unlink(const struct body_dirs *dirs, const uint8_t file[static RECORD_FILE_LEN]);

/* Removes everything in tmp/ and every content file no row names. Only while nobody writes. */
int server_body_sweep(
	const struct body_dirs *dirs, struct store_db *db, uint64_t *removed) MUST_CHECK;

#endif
