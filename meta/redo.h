/*
 * The redo log of the index: what the transactions since the last commit of SQLite did, one sealed
 * record each (bytes: meta/redo_format.h). No SQL is run here: meta/redo_run.h replays.
 *
 *     redo_open(&options, &r)
 *     redo_locate(r, &mark, &place)          // where the log goes on from what SQLite has
 *     while (redo_next(r, &place, &payload, &len)) ...
 *     redo_tail(r, &place, &tail)            // what lies behind the last record that was used
 *     redo_wipe(r, &place)
 *     redo_go_on(r, &place)                  // the next record goes there
 *     ...
 *     redo_text(), redo_run()                // gather one transaction
 *     redo_append(r) or redo_drop(r)
 *     redo_sync(r, number)                   // up to that record: durable
 *
 * The mark is a row of the index, written in each commit of SQLite: number of the last record whose
 * work the commit has, where its epoch goes on, and the salt of the next epoch. redo_restart()
 * begins that epoch at offset 0. It may be called only when the commit with the mark is durable:
 * records that were synced may exist nowhere else. So behind a mark the log goes on either at 0
 * under the next salt, or where it was under the same one, never both.
 *
 * The file is laid out in advance and written, so that a sync of a record has no metadata to
 * commit. It may grow beyond that until the next restart.
 *
 * What a crash leaves: SIGKILL all records whose append returned, and perhaps one torn behind them;
 * power loss all that redo_sync() covered and any sectors of the rest. Replay ends at the first
 * record that is not whole. redo_wipe() then strikes out what is behind, durably, before anything
 * is written there: a record that once was left out must not come back behind a new one of the same
 * number.
 *
 * An append that fails leaves the log as it was. After a sync that fails the log is suspect: the
 * kernel may have dropped what it holds; only a restart ends that.
 *
 * Errors: -ENOSPC, -EIO, -ENOMEM, CE_TAMPER. Threads: all under the lock of the index, but
 * redo_sync() beside appends (never beside another sync or restart) and the counters by any thread.
 */
#ifndef CACHET_META_REDO_H
#define CACHET_META_REDO_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "base/secret.h"
#include "meta/redo_format.h"

#define REDO_FILE "index.redo"

struct redo;

struct redo_options {
	const char *dir;
	int dirfd;
	const struct secret *key; /* index key, 32 bytes */
	const char *file;         /* NULL = REDO_FILE */
	const char *base_vfs;     /* NULL = "unix-excl" */
	uint64_t bytes; /* laid out in advance; 0: what is there, -ENOENT if there is none */
};

struct redo_mark {
	uint64_t number, at;
	uint8_t salt[REDO_SALT_LEN], next[REDO_SALT_LEN];
};

/* Behind which record the next is looked for. */
struct redo_place {
	uint64_t number, at, marked;
	uint8_t salt[REDO_SALT_LEN], next[REDO_SALT_LEN];
};

/* What lies behind the last record that could be used. */
struct redo_tail {
	bool stale;        /* traces of records */
	bool damaged;      /* an authentic record: one before it is bad, or the mark is too old */
	bool durable_lost; /* and it knew of a durable one that is not there */
};

struct redo_value_ref {
	enum redo_value type;
	int64_t i;
	const void *bytes;
	size_t len;
};

int redo_open(const struct redo_options *o, struct redo **out) MUST_CHECK;
/* NULL-safe. */
void redo_free(struct redo *r);

/* Reads the file; redo_done_reading() when it is not needed any more. */
int redo_locate(struct redo *r, const struct redo_mark *m, struct redo_place *p) MUST_CHECK;
/* The payload of the next record, valid until the next call; false: there is none, or nobody can tell
 * for want of memory, say: redo_unread(). */
bool redo_next(struct redo *r, struct redo_place *p, const uint8_t **payload, size_t *len);
/* What kept a record from being opened, other than that it is none; 0 = nothing did since redo_locate. */
int redo_unread(const struct redo *r) MUST_CHECK;
void redo_tail(struct redo *r, const struct redo_place *p, struct redo_tail *t);
/* Every authentic record in the file, of whichever epoch, by number; an error of `fn` ends it. Reads
 * the file. */
typedef int redo_record_fn(void *arg, const uint8_t *payload, size_t len);
int redo_each(struct redo *r, redo_record_fn *fn, void *arg) MUST_CHECK;
int redo_wipe(struct redo *r, const struct redo_place *p) MUST_CHECK;
void redo_done_reading(struct redo *r);
void redo_go_on(struct redo *r, const struct redo_place *p);

/* Statement `id` as run with these values. */
void redo_run(struct redo *r, unsigned id, const char *text, const struct redo_value_ref *v,
	unsigned n, uint64_t changes, int64_t rowid);
/* A note of the transaction; false: there is no room in the record or in what is laid out, and
 * nothing was gathered. */
bool redo_note(struct redo *r, unsigned kind, const void *head, size_t head_len, const void *bytes,
	size_t len);
/* False when the transaction is too long for a record, or memory ran out: it has to be committed.
 */
bool redo_fits(const struct redo *r);
bool redo_is_empty(const struct redo *r);
int redo_append(struct redo *r) MUST_CHECK;
void redo_drop(struct redo *r);

/* The mark to commit; `unlogged`: with a transaction that has no record, which takes a number. */
struct redo_mark redo_mark(const struct redo *r, bool unlogged);
/* It was committed. */
void redo_marked(struct redo *r, const struct redo_mark *m);
/* Records lie behind the last mark. */
bool redo_unmarked(const struct redo *r);
/* It, and all before it, is durable in the index. */
void redo_restart(struct redo *r);

int redo_sync(struct redo *r, uint64_t number) MUST_CHECK;
/* Its two halves: the disk (any thread; -EIO while the log is suspect), and the word that all up to
 * `number` is durable. */
int redo_flush(struct redo *r) MUST_CHECK;
void redo_covered(struct redo *r, uint64_t number);
bool redo_suspect(const struct redo *r);
uint64_t redo_number(const struct redo *r);
uint64_t redo_synced(const struct redo *r);
/* Of the file; of the records of this epoch. */
uint64_t redo_bytes(const struct redo *r);
uint64_t redo_used(const struct redo *r);

#endif
