/*
 * The body of a file, and the calls between file*.c and filetab.c.
 *
 * Content of chunk idx, first match: the dirty buffer; the entry of the chunk map (ROW or SEALED), zeros beyond its length; a hole,
 * if the file is whole; else it is not here. Of a chunk that was written in part the rest is read when it is wanted: by the next write
 * that leaves a gap, or when it is sealed, many at once. What does not open then is not sealed: the write is lost, and the next fsync
 * or close says so.
 *
 * Times of uncommitted changes wait here for the commit. An mtime set in the object's row (tree_setattr) meanwhile takes their
 * place, under the file's lock: mtime_changed is taken back. Change times only grow: the later one stands.
 */
#ifndef CACHET_CACHE_FILE_PRIV_H
#define CACHET_CACHE_FILE_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "cache/blob.h"
#include "cache/chunkmap.h"
#include "cache/file.h"
#include "cache/table.h"
#include "cache/volume_priv.h"

/* Above this much plaintext waiting in memory, each writer seals what it has. */
#define FILE_DIRTY_MAX_BYTES (UINT64_C(64) << 20)

/* A chunk in plaintext that is newer than its slot. */
struct dirty {
	uint64_t idx;
	uint8_t *buf;
	uint32_t len;      /* bytes of content; zeros behind them */
	uint32_t reserved; /* space set aside to seal it */
	uint32_t run;      /* written without a gap from its start to here; UINT32_MAX: not in order */
	uint32_t under;    /* so much lies in the slot and was not read: buf has [from, to) only; 0: buf is all */
	uint32_t from, to; /* with `under` */
	UT_hash_handle hh;
};

struct file_note;

struct file {
	struct volume *v;
	uint64_t object, version, store;
	bool snapshot; /* of a map: read-only, in no object's chain */

	unsigned refs, writers; /* v->files_lock */
	struct file *same;      /* next open version of the object; v->files_lock */
	bool superseded;        /* the map goes with the file; v->files_lock */
	bool in_map_table;      /* v->files_lock */
	UT_hash_handle hh;      /* v->files, by object (first of the chain only) */
	UT_hash_handle hh_map;  /* v->files_by_map, by table_map */
	uint64_t table_map;     /* the map, or that of the transaction under way; v->files_lock */

	pthread_rwlock_t lock; /* 1 in the order: all below */
	uint64_t map;          /* 0: no row yet; written under files_lock too */
	bool new_map;          /* its row was inserted by the transaction under way */
	bool new_blob;         /* the blob's row was inserted by it */
	struct blob *blob;     /* of SEALED chunks; NULL: no content yet */
	struct blob *rows;     /* what the map's row names: of all other chunks; moves to `blob` by commit */
	struct chunkmap chunks;
	struct dirty *dirty;   /* uthash by idx */
	uint64_t size;
	bool whole;
	atomic_bool used;      /* by somebody whose use keeps it from being evicted */
	uint64_t here;         /* of one that is not: at least so many of its first chunks are here */
	bool first_use;        /* its first content was fetched for whoever opened it */
	bool orphan;           /* its object is gone */
	bool content_changed;  /* since the last commit */
	bool kept;             /* an accepted write could not be sealed: none is accepted early until it is */
	bool mtime_changed;    /* with it, and no mtime was set meanwhile */
	bool logged;           /* what is committed is on the disk when the redo log is */
	bool will_be_logged;   /* by the transaction under way */
	int64_t mtime_ns, ctime_ns;
	uint64_t write_seq;    /* counts changes */
	uint64_t cut_done;     /* the cut that the transaction under way has carried out */
	struct blob_release *replaced; /* by the transaction under way */
	size_t n_replaced, cap_replaced;
	struct file_note *note;        /* the next transaction logs the content; or NULL */
	atomic_uint_fast64_t watched;  /* a read up to here is to be told of; 0: none */
	atomic_bool is_dirty;          /* content_changed */
	atomic_int lost;               /* error of an accepted write that is not whole */
	atomic_int_fast64_t dirty_since_ns; /* CLOCK_BOOTTIME */
};

/* More than one chunk: a blob of its own. */
static inline bool file_is_large(const struct file *f)
{
	return f->blob && !f->blob->pack;
}

static inline struct blob *file_blob_of(const struct file *f, const struct chunk_entry *e)
{
	return e->state == CHUNK_SEALED ? f->blob : f->rows;
}

static inline unsigned file_shift(const struct file *f)
{
	return f->blob ? f->blob->shift : BLOB_SHIFT_PACK;
}

/* --- file.c --- */
void file_mark(struct file *f); /* lock exclusive: content changed, and with it both times */
void file_free(struct file *f);               /* nobody can find it any more */

/* --- filetab.c --- */
int filetab_open(struct volume *v, uint64_t object, uint64_t version, bool writer, struct file **out) MUST_CHECK;
int filetab_open_map(struct volume *v, uint64_t map, struct file **out) MUST_CHECK;
void filetab_ref(struct file *f); /* of one that the caller has a reference to */
/* True: it was the last, and the caller frees. With `unless_dirty` a dirty file is not let go: *kept says so. */
bool filetab_unref(struct file *f, bool writer, bool unless_dirty, bool *kept);
/* The file's map gets a row in the transaction under way: it is found by it from now on, and has it
 * with filetab_set_map, or loses it again with filetab_forget. */
int filetab_enter_map(struct file *f, uint64_t map) MUST_CHECK;
void filetab_set_map(struct file *f);
/* References to the files that have been dirty since before_ns (CLOCK_BOOTTIME), those with a writer
 * since open_before_ns. At most max. */
size_t filetab_dirty(struct volume *v, int64_t before_ns, int64_t open_before_ns, struct file **out,
	size_t max);
/* For closing: takes them out of the tables, references and all. */
size_t filetab_all(struct volume *v, struct file **out, size_t max);
/* A commit of a file that was taken out put it back by map. */
void filetab_forget(struct file *f);
bool filetab_any_dirty(struct volume *v);

/* --- file_dirty.c: plaintext chunks; lock exclusive --- */
struct dirty *file_dirty_find(struct file *f, uint64_t idx);
/* Makes it, with the content that is there if `load`. Takes reserved bytes out of *pot as it grows. */
int file_dirty_get(struct file *f, uint64_t idx, bool load, struct dirty **out) MUST_CHECK;
/* A chunk of a large file that has content is made for a write of a part of it, at most to the file's end: nothing is read. */
int file_dirty_get_part(struct file *f, uint64_t idx, uint32_t from, struct dirty **out) MUST_CHECK;
/* Whether what waits can still wait when [from, to) is written, and that it was. */
bool file_dirty_can_wait(const struct dirty *d, uint32_t from, uint32_t to);
void file_dirty_written(struct dirty *d, uint32_t from, uint32_t to);
/* Reads what waits. */
int file_dirty_complete(struct file *f, struct dirty *d) MUST_CHECK;
/* The chunk is `len` long now: sets aside what that takes from *pot; false when *pot is too small. */
bool file_dirty_grow(struct dirty *d, uint32_t len, uint64_t *pot) MUST_CHECK;
void file_dirty_drop(struct file *f, struct dirty *d);
/* Seals it and drops it; kept on failure. */
int file_dirty_seal(struct file *f, struct dirty *d) MUST_CHECK;
/* Of a chunk whose rest does not open, *lost is told; the others are sealed. */
int file_dirty_seal_all(struct file *f, bool *lost) MUST_CHECK;
/* Seals a chunk straight from `data`; *pot pays. */
int file_dirty_seal_from(struct file *f, uint64_t idx, const void *data, uint32_t len, uint64_t *pot) MUST_CHECK;
/*
 * The same of whole chunks from idx on that nobody has in a buffer, many at once, of a large file: *sealed bytes, 0 when there is none to begin
 * with. Of an error that came after some of them the next call tells.
 */
int file_dirty_seal_run(
	struct file *f, uint64_t idx, const uint8_t *data, size_t len, uint64_t *pot, size_t *sealed) MUST_CHECK;
/* `c` was sealed into f->blob without the lock; false when the chunk is not missing any more. */
bool file_dirty_put_sealed(struct file *f, const struct content_chunk *c) MUST_CHECK;
#define FILE_RUN_MAX (1u << (BLOB_RUN_SHIFT - BLOB_SHIFT_MIN))
/*
 * The file gets its second chunk: a blob of its own from now on, whose chunks are smaller. What is in a pack comes to memory, in as many as
 * it takes; *pot pays. -EAGAIN: it is too small.
 */
int file_dirty_enlarge(struct file *f, uint64_t *pot) MUST_CHECK;
/* The chunk becomes a hole. */
int file_dirty_punch(struct file *f, uint64_t idx) MUST_CHECK;
/* Everything from chunk idx on goes. */
void file_dirty_cut(struct file *f, uint64_t idx);

/* --- file_read.c --- */
/* Lock held shared or exclusive. CE_TAMPER comes with *bad_idx. */
int file_read_locked(struct file *f, void *buf, size_t len, uint64_t off, uint64_t *bad_idx) MUST_CHECK;

/* --- file_evict.c --- */
/* Whether its clean content is of more than a chunk and takes so many bytes. */
bool file_takes(struct file *f, uint64_t bytes);
/* Takes the oldest chunks of clean content of an open file, a batch at most; adds to *freed. No lock held. */
int file_evict(struct file *f, uint64_t want, uint64_t *freed) MUST_CHECK;

/* --- file_fill.c --- */
/* A chunk does not open: 0 if it does now, CE_ABSENT when it was clean content and is dropped, else
 * `error`; *failed then says why it could not be dropped or told, 0 that it is unsent. No lock held. */
int file_heal(struct file *f, uint64_t idx, int error, int *failed) MUST_CHECK;

/* --- file_rekey.c --- */
struct file_rekeyed {
	uint64_t chunks, bytes;
	bool done; /* nothing old is left from there on */
};
/*
 * Seals some old chunks of the file's map (numbers below `from`) anew, from *idx on, which moves on; adds to *out.
 * -EAGAIN: it changes just now. CE_STALE: the map is gone. CE_ABSENT: a damaged clean chunk was dropped. No lock held.
 */
int file_rekey(
	struct file *f, uint64_t map, uint64_t from, uint64_t *idx, struct file_rekeyed *out) MUST_CHECK;
/* A chunk sealed under an old key waits for its commit. */
bool file_holds_old(struct file *f, uint64_t from);

/* --- file_commit.c --- */
/* Lock exclusive. */
int file_commit_locked(struct file *f, bool synced) MUST_CHECK;
/* Inside a transaction: the row of the file's blob, if it is new; its id goes into m->blob. Afterwards file_blob_done. */
int file_blob_txn(struct file *f, struct content_map *m) MUST_CHECK;
void file_blob_done(struct file *f, bool committed);
/* The map's row names f->blob now. */
void file_blob_follow(struct file *f);
/* Adds to what the transaction under way replaces, before the row goes. */
int file_commit_replaced(struct file *f, uint64_t slot, uint32_t len, uint64_t gen) MUST_CHECK;
/* It was committed. */
void file_commit_release(struct file *f);

#endif
