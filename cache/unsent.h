/*
 * unsent.log: what the origin does not have yet, kept a second time, beside the index, so that it
 * survives the index (promise P8). Sealed, append-only; bytes: unsent_format.h and docs/format.md.
 *
 * Unit of the log is a record of the origin that has rows in the journal. Whenever such rows
 * change, or content or attributes they speak of, the transaction's commit appends one frame that
 * says what these records are now: place, attributes, journal rows with their keys, and of content
 * the blob and the slots that changed. A record whose last row went is said to be gone. Directories
 * above an unsent record are told too, once, so that it has a place without the origin. Clean
 * content costs nothing.
 *
 * Order: the frame is written before the transaction is committed, under the index lock, so the log
 * is never behind the index by what was answered; it may be ahead by one transaction that was not.
 * It is synced in the same group as the blobs, before the WAL (durable_before_sync); until then the
 * redo log has a copy of each frame, in the record of its transaction (cache/logged.h). A write that
 * fails, and a transaction rolled back after its frame was written, break the log: it is made anew
 * from the index with the next commit.
 *
 * Space: when three quarters of the log are dead, the keeper makes it anew (written beside, synced, renamed).
 * unsent_bytes() is counted in the bound.
 *
 *     unsent_new        before the index opens: its hooks need it
 *     unsent_restore    the index is gone: unsent_restore.h
 *     unsent_start      the index is open and recovered: the log is made anew from it
 *     unsent_free
 *
 * Not kept: extended attributes, names an origin cannot have (not UTF-8, fifos, sockets), conflicts
 * listed, records held back by `journal drop`.
 *
 * Threads: hooks and notes run under the index lock; unsent_sync, unsent_synced, unsent_bytes by
 * any.
 */
#ifndef CACHET_CACHE_UNSENT_H
#define CACHET_CACHE_UNSENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "base/secret.h"

struct chunkmap;
struct content_chunk;
struct content_map;
struct unsent;
struct volume;

int unsent_new(struct volume *v) MUST_CHECK;
void unsent_free(struct volume *v);
/* The index was opened: the log tells of one that was opened later, or had more: it is an old copy.
 * -ENOENT and others: there is no log that can be read. */
int unsent_ahead(struct volume *v, bool *ahead) MUST_CHECK;
/* The key of the index, from which the log's is derived; the log may still be sealed under `other`,
 * which may be NULL. */
int unsent_set_key(struct volume *v, const struct secret *index_key,
	const struct secret *other) MUST_CHECK;
/* The log is made anew under this key of the index. */
int unsent_rekey(struct volume *v, const struct secret *index_key) MUST_CHECK;
/* What is in the log. */
struct model;
int unsent_load(struct volume *v, struct model *out) MUST_CHECK;
/* The index is open, recovered and synced. */
int unsent_start(struct volume *v) MUST_CHECK;

/* Hooks of struct db_options; arg is the volume. */
void unsent_op_changed(void *arg, uint64_t store, const char *rid);
int unsent_before_commit(void *arg) MUST_CHECK;
void unsent_ended(void *arg, bool committed);

/* Inside a transaction: the content or attributes of a record with journal rows changed. */
void unsent_note(struct volume *v, uint64_t store, const char *rid);
/* A commit of content: what it changes in `m` is what is pending in `changes`. */
void unsent_content(struct volume *v, const struct content_map *m, struct chunkmap *changes);

/* The same for chunks whose content stays and whose slots change. */
void unsent_moved(struct volume *v, uint64_t map, const struct content_chunk *puts, size_t n);

/* What was appended before the call is durable after it. */
int unsent_sync(struct volume *v) MUST_CHECK;
/* A sync of the redo log is not one of all frames, most of which have a copy there. */
bool unsent_needs_sync(struct volume *v);
/* The index is durable up to this journal row: an index that does not know it is an old one. */
void unsent_synced(struct volume *v, uint64_t op_seq);
/* Makes the log anew when it is broken or mostly dead. No lock held. */
void unsent_tidy(struct volume *v);
/* Of the files on disk. */
uint64_t unsent_bytes(struct volume *v);

#endif
