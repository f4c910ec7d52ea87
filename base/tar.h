/*
 * Archives: the pax format (POSIX.1-2001, pax, "ustar" headers with extended records), so that any
 * tar reads what an export holds. Files, directories and symbolic links, with mode, time in
 * nanoseconds and names of any bytes and length; no owners, no links of files.
 *
 * Writing: tar_header() appends the blocks before the content of an entry, tar_padding() says how
 * many zeros stand behind it, tar_end() appends what ends an archive.
 *
 * Reading: tar_next() until it returns 0, and tar_read() for the content of the entry it gave; what
 * was not read is skipped. An archive can come from anyone: a path that is absolute, empty, or has
 * an empty, "." or ".." part, a type not named above, and whatever the format does not allow are
 * CE_CORRUPT. A symbolic link may point anywhere: who extracts follows none (O_NOFOLLOW on each
 * part). Memory: one entry, at most TAR_RECORDS_MAX bytes of records.
 *
 * Threads: one at a time.
 */
#ifndef CACHET_BASE_TAR_H
#define CACHET_BASE_TAR_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/bytes.h"
#include "base/macros.h"

#define TAR_BLOCK 512u
#define TAR_RECORDS_MAX 65536u

enum tar_type {
	TAR_FILE,
	TAR_DIR,
	TAR_SYMLINK,
};

struct tar_entry {
	enum tar_type type;
	char *path;    /* "a/b", no slash at either end */
	char *target;  /* of a symbolic link, else NULL */
	uint32_t mode; /* 07777 */
	uint64_t size; /* of a file, else 0 */
	int64_t mtime_ns;
};
void tar_entry_done(struct tar_entry *e);

int tar_header(struct buffer *out, const struct tar_entry *e) MUST_CHECK;
size_t tar_padding(uint64_t size);
int tar_end(struct buffer *out) MUST_CHECK;

struct tar_reader {
	/* 1 to `len` bytes, 0 at the end, or a negative code. */
	ssize_t (*read)(void *arg, void *buf, size_t len);
	void *arg;
	uint64_t left; /* of the current entry's content */
	size_t pad;    /* behind it */
};

/* 1: *e is the next entry (the caller calls tar_entry_done), 0: the end, and nothing but zeros is
 * behind it; or a negative code. */
int tar_next(struct tar_reader *r, struct tar_entry *e) MUST_CHECK;
/* As read(2), of the content of the last entry. */
ssize_t tar_read(struct tar_reader *r, void *buf, size_t len) MUST_CHECK;

#endif
