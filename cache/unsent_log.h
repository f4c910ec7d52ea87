/*
 * The file of unsent.log: frames sealed one by one, appended, never changed (unsent_format.h).
 *
 * unsent_log_make() begins a new one beside the old; unsent_log_append() any number of times;
 * unsent_log_publish() syncs it and renames it over the old. Appending goes on after that;
 * unsent_log_sync() makes durable what was appended. A write that fails leaves a torn frame: the
 * log must then be made anew. A crash leaves the old file or the new one, and at its end possibly a
 * torn frame.
 *
 * unsent_log_read() gives each frame that opens, in order, and goes on behind one that does not:
 * `damaged` says that frames are missing in between. What is missing at the end cannot be told from
 * frames never written.
 *
 * Threads: one at a time; but unsent_log_sync() may run beside unsent_log_append().
 */
#ifndef CACHET_CACHE_UNSENT_LOG_H
#define CACHET_CACHE_UNSENT_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "base/secret.h"

struct unsent_log;

int unsent_log_make(int dirfd, const struct secret *key, struct unsent_log **out) MUST_CHECK;
int unsent_log_publish(struct unsent_log *l, int dirfd) MUST_CHECK;
void unsent_log_free(struct unsent_log *l);
/* One pwrite; *seq is the frame's. */
int unsent_log_append(struct unsent_log *l, const void *data, size_t len, uint64_t *seq) MUST_CHECK;
int unsent_log_sync(struct unsent_log *l) MUST_CHECK;
/* Of the file on disk. */
uint64_t unsent_log_bytes(const struct unsent_log *l);
const uint8_t *unsent_log_id(const struct unsent_log *l);
/* The last frame has no copy elsewhere: until the next sync the log is `loose`. Any thread. */
void unsent_log_set_loose(struct unsent_log *l);
bool unsent_log_is_loose(const struct unsent_log *l);

/* `data` is wiped after the call; an error stops and is returned. */
typedef int unsent_log_fn(void *arg, uint64_t seq, const uint8_t *data, size_t len);
/* Copies of frames, for those that are missing in the file (cache/logged.h): the one with the lowest
 * seq >= from of this file. */
struct unsent_copies {
	bool (*find)(void *arg, const uint8_t *id, uint64_t from, uint64_t *seq, const uint8_t **data,
		size_t *len);
	void *arg;
};
/* -ENOENT: no log. CE_FORMAT: not one. CE_TAMPER: not a frame of it opens (another key). */
int unsent_log_read(int dirfd, const struct secret *key, const struct unsent_copies *copies,
	unsent_log_fn *fn, void *arg, bool *damaged) MUST_CHECK;

#endif
