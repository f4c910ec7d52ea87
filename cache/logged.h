/*
 * What a transaction notes in its record of the redo log (meta/db_note.h), so that one sync of that
 * log makes all of it durable: the sealed content of a small file, which its pack gets at once and
 * is synced for later, and a copy of the frame that unsent.log gets. After a crash both are found
 * here:
 *
 *     logged_load        before the index is opened: reads all notes that the log still has
 *     logged_frame       unsent.log is read: a frame that the disk did not get
 *     logged_keep        the index goes aside: the log stays under another name
 *     logged_write_back  the index stands: chunks that its rows name go where they belong, synced
 *     logged_done        unsent.log was made anew from it
 *
 * Until chunks are where they belong nothing may start the log over, an opening that fails neither:
 * the hook of the index (durable_before_sync) refuses while logged_pending(). So an opening may
 * fail or be killed anywhere, and the next one finds the same notes.
 *
 * A note outlives what it tells of: the log keeps records until they are written over. A chunk goes
 * back only if a chunk or undo row names its place with its sequence number, which no other seal
 * has, and none names a part of that place with a higher one. Then nothing else that could be
 * needed is there (I1 of durable.c): units are given out again only when what named them is not
 * needed any more, and undo rows then stay for a while. A frame counts only for the file whose id
 * it has.
 *
 * Threads: the one that opens the volume.
 */
#ifndef CACHET_CACHE_LOGGED_H
#define CACHET_CACHE_LOGGED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "base/secret.h"

/* A frame: id of unsent.log 16 bytes ‖ u64 seq ‖ what is sealed in the frame. */
#define LOGGED_FRAME_HEAD 24
/* A chunk: uuid of the blob 16 bytes ‖ u64 slot ‖ u64 seq ‖ ciphertext, without what pads it. */
#define LOGGED_CHUNK_HEAD 32

/* The log of an index that was lost, until all that it told is elsewhere. */
#define LOGGED_LOST_FILE "lost.redo"

struct blob;
struct content_chunk;
struct logged;
struct volume;

/* To what is there, from the log sealed under this key of the index; none: nothing. */
int logged_load(struct volume *v, const struct secret *index_key) MUST_CHECK;
void logged_free(struct volume *v);
bool logged_pending(const struct volume *v);
int logged_keep(struct volume *v) MUST_CHECK;
void logged_done(struct volume *v);
/* For struct unsent_copies; arg is the struct logged. */
bool logged_frame(void *arg, const uint8_t *id, uint64_t from, uint64_t *seq, const uint8_t **data,
	size_t *len);
/* Index lock held. After a clean end all is where it belongs. */
int logged_write_back(struct volume *v) MUST_CHECK;
/* One chunk that does not open, and nothing newer is there; logged_write_back() syncs it. */
int logged_restore(struct blob *b, const struct content_chunk *c) MUST_CHECK;

#endif
