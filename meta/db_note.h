/*
 * Notes: bytes of the caller that lie in the record of a transaction in the redo log, beside what
 * it did. Who has to make something durable together with a transaction (a few KiB of content, say)
 * notes it: one sync of the log then does for both, and the file it belongs into may be synced
 * later.
 *
 *     db_begin ... db_note() ... db_commit
 *     db_sync_log()                              durable: records and their notes
 *
 * A record stays in the log until db_checkpoint() has run the before_sync hook, so whatever the
 * hook syncs is on the disk before a note of it goes. After a crash db_notes() gives all notes that
 * are still there, those of older records too: which of them matter the caller must know. It needs
 * no index, and is for before the first transaction of a new life.
 *
 * db_note() fails with -EMSGSIZE when there is no log or no room in the record, and db_commit()
 * with the same when a transaction with the note of a chunk then turns out too long for one: it is
 * to be done again without. (A frame is lost with such a record: the hook, which runs before what
 * has no record is durable, syncs its file.)
 *
 * db_sync_log() gives 1 when a sync of the log alone is not enough (commits without a record, a
 * sync that failed): db_sync() is. It does not run the hook. Threads: as db_sync().
 */
#ifndef CACHET_META_DB_NOTE_H
#define CACHET_META_DB_NOTE_H

#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "base/secret.h"

struct db;

enum db_note_kind { DB_NOTE_CHUNK = 1, DB_NOTE_FRAME = 2 };

/* `head` and `bytes` become one note. Index lock, in a transaction that changes something. */
int db_note(struct db *db, enum db_note_kind kind, const void *head, size_t head_len,
	const void *bytes, size_t len) MUST_CHECK;
int db_sync_log(struct db *db) MUST_CHECK;

/* `file` NULL: REDO_FILE. `bytes` are wiped after the call; an error ends the walk. No log: no
 * notes. */
typedef int db_note_fn(void *arg, enum db_note_kind kind, const uint8_t *bytes, size_t len);
int db_notes(const char *dir, int dirfd, const char *file, const struct secret *key, db_note_fn *fn,
	void *arg) MUST_CHECK;

#endif
