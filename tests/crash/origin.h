/*
 * An origin in memory that outlives the process that is killed: it takes what the volume sends,
 * once for each key, and has the content of what was evicted. It insists on what P4 and P5 promise:
 * each operation names the version that stands here, or was done before.
 */
#ifndef CACHET_TESTS_CRASH_ORIGIN_H
#define CACHET_TESTS_CRASH_ORIGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/file.h"
#include "cache/remote.h"
#include "cache/volume.h"

struct origin;

/* In a file, shared with children. */
struct origin *origin_new(const char *path);
void origin_reset(struct origin *o);
void origin_free(struct origin *o);
/* What it has now, and back to that. */
size_t origin_mark(const struct origin *o);
void origin_back(struct origin *o, size_t mark);
/* Of what is being sent the content can be had. */
int origin_look(struct volume *v);
/* Takes up to `max` operations of the journal; -1, with a message, when one is wrong. */
int origin_take(struct origin *o, struct volume *v, size_t max);
/* A record of the origin's own gets new content, and the feed tells the volume; false: no room for
 * more. */
bool origin_has_room(const struct origin *o);
int origin_change(struct origin *o, struct volume *v, uint64_t store, const char *rid,
	const uint8_t *content, size_t size, uint64_t version);
/* The same without a word to the volume; the record, for who has something to say. */
const struct remote_record *origin_publish(struct origin *o, const char *rid, const uint8_t *content,
	size_t size, uint64_t version);
/* Fetches what is missing. CE_STALE: of a version the origin never had. */
int origin_fill(struct origin *o, struct file *f);

#endif
