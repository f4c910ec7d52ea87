/*
 * File I/O that finishes or fails: short reads and writes and EINTR are dealt with here.
 *
 * io_publish() is the only way a small file is replaced: temporary in the same directory, fsync,
 * rename, fsync of the directory. After a crash the old or the new file is there, whole.
 *
 * All functions return 0 or a negative code of base/error.h. Threads: any.
 */
#ifndef CACHET_BASE_IO_H
#define CACHET_BASE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/macros.h"

/* Exactly `len` bytes at `off`; -ENODATA when the file ends before that. */
int io_pread_full(int fd, void *buf, size_t len, off_t off) MUST_CHECK;
/* The same; what the calling thread has set with io_on_wait() is called before it waits for a disk. */
int io_pread_slow(int fd, void *buf, size_t len, off_t off) MUST_CHECK;
void io_on_wait(void (*fn)(void));
int io_pwrite_full(int fd, const void *buf, size_t len, off_t off) MUST_CHECK;
int io_write_full(int fd, const void *buf, size_t len) MUST_CHECK;

/* The whole file, NUL added behind it; -EFBIG beyond `max` bytes. The caller frees *out. */
int io_read_file(int dirfd, const char *path, size_t max, char **out, size_t *out_len) MUST_CHECK;

/* Replaces dirfd/name as above. `mode` is that of the new file. */
int io_publish(int dirfd, const char *name, const void *data, size_t len, mode_t mode) MUST_CHECK;

int io_fsync_dir(int dirfd) MUST_CHECK;

/* Makes `path` and its missing parents; an existing directory is success. */
int io_mkdir_p(const char *path, mode_t mode) MUST_CHECK;

/* Opens (and makes) `name` and takes an exclusive flock; CE_INUSE when another process has it. */
int io_lock_file(int dirfd, const char *name, int *out_fd) MUST_CHECK;

/*
 * XDG base directories, with "/cachet" appended, made with mode 0700. The caller frees *out.
 * io_dir_runtime falls back to /run/cachet for root and /tmp/cachet-UID otherwise, and refuses a
 * directory that is not the caller's own.
 */
int io_dir_config(char **out) MUST_CHECK;
int io_dir_state(char **out) MUST_CHECK;
int io_dir_runtime(char **out) MUST_CHECK;

#endif
