/*
 * A blob: one file of sealed chunks, blobs/xx/<30 hex>, named by its random uuid. Two kinds: a file of more than one chunk has a blob of its own;
 * files of one chunk share packs (packs.h).
 *
 * Space in a blob is given out in units of 4096 bytes. The ciphertext of a chunk fills the first bytes of a run of units, `slot` is the first one's
 * number; random bytes follow to the end of the last. Nothing else is in the file, but zeros laid out ahead of the next seals: nonce, tag, length, sequence stand in the index (meta/content.h), so an old,
 * moved, exchanged or zeroed chunk does not open.
 *
 * A chunk of a blob of its own is sealed in blocks of 8 KiB, each with a tag, so that a small read reads and opens no more than it needs: if there is more
 * than one, the last byte of the chunk's nonce leaves room for the block's number, and the AAD ends with it. In packs, and in chunks of 64 KiB of early volumes,
 * a chunk is one message. (Blocks of 4 KiB gain nothing more for a random reader, and cost sequential writing twice as much.)
 *
 * AAD = "cachet/chunk/v1" (a block: "cachet/block/v1") ‖ store ref 16 bytes ‖ uuid 16 ‖ epoch u64 ‖ idx u64 ‖ seq u64 ‖ len u32 ‖ alg u8 [‖ block u8] (little-endian); epoch = keys_epoch(seq), key = keys_blob().
 * No two seals of a volume share a seq, so chunks of one pack cannot stand for each other although all have idx 0.
 *
 * A unit is written only while no row that may survive a crash names it: free are those in no chunk or undo row of
 * any map (content_slots), less those released since the last sync. Derived when the blob is first changed, never stored.
 * Free units keep their blocks for the next seal (`slack`, counted as used), up to an eighth of the blob or BLOB_SLACK_LEAST, while somebody uses it; beyond, and
 * when space runs short, they are punched: who writes here and there all over a file would else pay for each chunk twice, as its old place is punched and a
 * new one found.
 *
 * Calls: blob_new (a file that no row names until a commit inserts it) or blob_get (by row), blob_unref. A blob stays in memory
 * while somebody uses it, while it has data that is not synced or a row that is not up to date, and while units wait to become free.
 *
 * Space: blob_seal needs blob_bytes(len) reserved by the caller and settles all of it; so does blob_seal_run of each chunk.
 *
 * Threads: any, any number at once; the blob's own lock is a leaf, held over no I/O but punching and what a failed sync takes.
 */
#ifndef CACHET_CACHE_BLOB_H
#define CACHET_CACHE_BLOB_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "base/secret.h"
#include "cache/table.h"
#include "crypto/aead.h"
#include "meta/content.h"

#define BLOB_SHIFT_MIN 12
#define BLOB_SHIFT_MAX 20
#define BLOB_SHIFT_PACK 16
/* Of a blob of its own: what is opened for a random read, and sealed anew for a random write. */
#define BLOB_SHIFT_LARGE 14
/* So much is sealed for one write(2): it stays in the processor's cache, and a larger write gains little. */
#define BLOB_RUN_SHIFT 18
#define BLOB_UNIT_SHIFT 12
/* What a random read opens. */
#define BLOB_BLOCK_SHIFT 13
#define BLOB_BLOCK (UINT32_C(1) << BLOB_BLOCK_SHIFT)
#define BLOB_PAD (1u << BLOB_UNIT_SHIFT)
#define BLOB_NAME_LEN 34 /* "xx/", 30 hex digits, NUL */
#define BLOB_SLACK_LEAST (UINT64_C(8) << 20)
/* A pack ends here: what is O(pack) stays cheap. */
#define BLOB_PACK_UNITS (UINT64_C(16) << 10)
/* Long before the key's end, as the count in the row lags behind. */
#define BLOB_PACK_SEALS_MAX (AEAD_GCM_SEALS_MAX / 4)

struct keys_store;
struct volume;

/* A run of units that becomes free once the transaction that released it is durable. */
struct blob_release {
	uint64_t slot, gen;
	uint32_t len;
};

/* A chunk that was written since the last fdatasync that succeeded. */
struct blob_write {
	struct content_chunk c;
	uint64_t nr;       /* value of blob->written */
	bool logged;       /* the redo log has a copy: it goes when this is on the disk */
	UT_hash_handle hh; /* by c.slot, in order of nr */
};

struct blob {
	struct volume *v;
	unsigned refs;    /* v->blobs_lock */
	bool in_table;    /* v->blobs_lock */
	atomic_bool noted; /* in the list of durable.c, changed under its lock */
	atomic_bool settling; /* in its other list; the same */
	UT_hash_handle hh; /* v->blobs, by id */

	/* Fixed, but for id: 0 until the transaction that inserts its row is committed (lock of the one writing file). */
	uint64_t id;
	uint8_t uuid[CONTENT_UUID_LEN];
	uint64_t store;
	uint8_t store_ref[16];
	const struct keys_store *keys; /* borrowed from keys.c */
	enum aead_alg alg;
	uint32_t shift;
	uint64_t epoch; /* of the keys when it was made; each chunk's follows from its seq */
	bool pack;

	pthread_mutex_t lock; /* leaf: all below */
	int fd;               /* -1 until first used */
	bool on_disk;         /* the file was made */
	bool dead;            /* its row is gone */
	bool current;         /* new small files go here (packs.c) */
	bool row_stale;       /* seals or alloc_bytes changed since the row was written */
	uint64_t seals, alloc_bytes;
	unsigned in_flight;   /* writes that are not counted yet */
	bool units_known;     /* `taken` is derived */
	uint64_t *taken, *backed; /* bitmaps: in use; known to have blocks */
	size_t n_words;
	uint64_t n_taken;
	uint64_t hint;        /* no free unit below */
	uint64_t slack_bytes; /* free and backed */
	struct blob_release *released;
	size_t n_released, cap_released;
	uint64_t released_bytes;
	struct blob_write *unsynced;
	uint64_t written, synced; /* counts of writes: all is on disk when equal */
	uint64_t started;     /* `written` when the disk was last told to begin */
	bool starting;        /* somebody is telling it */
	bool suspect;         /* fdatasync failed: `unsynced` may be lost */
};

/* Bytes on disk of a chunk of `len` bytes. */
static inline uint32_t blob_bytes(uint32_t len)
{
	return (len + BLOB_PAD - 1) / BLOB_PAD * BLOB_PAD;
}

/* --- blob.c --- */
/* A new blob; nothing on disk until its first seal. Takes the index lock. */
int blob_new(struct volume *v, uint64_t store, bool pack, struct blob **out) MUST_CHECK;
/* Index lock held. */
int blob_get(struct volume *v, uint64_t id, struct blob **out) MUST_CHECK;
struct blob *blob_ref(struct blob *b);
/* The last reference of a blob that never had a row removes its file. NULL-safe. Takes no lock but leaves. */
void blob_unref(struct blob *b);
/*
 * The same by a file or packs.c: slack goes with the next sync, and when only that still needs the blob
 * its descriptor is closed meanwhile. NULL-safe.
 */
void blob_park(struct blob *b);
/* Somebody has it but the caller and the lists of durable.c. */
bool blob_is_in_use(struct blob *b);
/*
 * Its row has been inserted as `id`: others may find it. Inside that transaction, so that whoever takes the index lock next finds this one and does
 * not load a second, with units of its own. blob_withdraw when the transaction is rolled back.
 */
int blob_publish(struct blob *b, uint64_t id) MUST_CHECK;
void blob_withdraw(struct blob *b);
bool blob_row_is_stale(struct blob *b);
/* After a sync: the row is old, or there are units that become free, or blocks that nobody will need. */
bool blob_must_settle(struct blob *b);
/* The row as it should be; b->row_stale is taken back. */
void blob_row(struct blob *b, struct content_blob *row);
void blob_path(const uint8_t uuid[static CONTENT_UUID_LEN], char name[static BLOB_NAME_LEN]);
/* The descriptor, opened (and with `make` created) on first use. Valid while the blob is referenced. */
int blob_fd(struct blob *b, bool make, int *out) MUST_CHECK;

/* --- blob_chunk.c --- */
/* Seals `len` bytes (1 to the chunk size) as chunk `idx` into `slot`, taken by the caller, or, NULL, a free one. On failure it is free again. */
int blob_seal(struct blob *b, uint64_t idx, const void *data, uint32_t len, const uint64_t *slot,
	struct content_chunk *out) MUST_CHECK;
/*
 * Seals whole chunks, `idx` and those that follow, with one write: *n, 1 to blob_run_max(), or as many of them as have room in the first free
 * run of units. On failure none is.
 */
int blob_seal_run(
	struct blob *b, uint64_t idx, const void *data, unsigned *n, struct content_chunk *out) MUST_CHECK;
unsigned blob_run_max(const struct blob *b);
/* c->len bytes to `out`. CE_TAMPER: not what was sealed, or not there; -EIO. `out` is zeros then. */
int blob_open(struct blob *b, const struct content_chunk *c, void *out) MUST_CHECK;
/*
 * The same of bytes *from to *to, a part of the chunk, into their place in `out`, which has room for all of it: *from and *to become what was opened,
 * the blocks they lie in. What lies outside is left alone.
 */
int blob_open_part(struct blob *b, const struct content_chunk *c, uint32_t *from, uint32_t *to,
	uint8_t *out) MUST_CHECK;
/* The same of `n` chunks, of which each is the whole one behind that before it, with one read. After an error blob_open tells which it was. */
int blob_open_run(struct blob *b, const struct content_chunk *c, unsigned n, uint8_t *out) MUST_CHECK;
/* Whether `next` is that. */
bool blob_is_run(const struct blob *b, const struct content_chunk *c, const struct content_chunk *next);
/* It will be opened soon: the disk begins to read it. */
void blob_will_need(struct blob *b, const struct content_chunk *c);
/* The same as blob_open by blob_fd()'s descriptor; b->lock may be held. */
int blob_open_fd(struct blob *b, int fd, const struct content_chunk *c, void *out) MUST_CHECK;

/* --- blob_units.c --- */
/* Takes the first free run for `len` bytes; derives what is free on first use (takes the index lock). -ENOBUFS: the pack is full. */
int blob_units_take(struct blob *b, uint32_t len, uint64_t *slot) MUST_CHECK;
/* The same, and what is free behind it for more of that length: *n of them in all, at most as many as it was. */
int blob_units_take_run(struct blob *b, uint32_t len, uint64_t *slot, unsigned *n) MUST_CHECK;
/* Before rows that name units are deleted: the index lock is held. */
int blob_units_derive(struct blob *b) MUST_CHECK;
/* Taken, but what was written to it does not count. */
void blob_units_abandon(struct blob *b, uint64_t slot, uint32_t len);
/* Written, but no row names it and none may: free now. */
void blob_units_free(struct blob *b, uint64_t slot, uint32_t len);
/* b->lock held: a taken run was written. Returns how many bytes of blocks it added. */
uint32_t blob_units_written(struct blob *b, uint64_t slot, uint32_t bytes);
/* A committed transaction of generation `gen` no longer names it: free after the sync of that generation. Derived before. */
void blob_units_release(struct blob *b, uint64_t slot, uint32_t len, uint64_t gen);
/* Frees what generations up to `gen` released, and punches slack beyond what a blob that is in use may keep. */
void blob_units_settle(struct blob *b, uint64_t gen, bool in_use);
/*
 * The current pack, when it has little slack: more, at its end, written and not only allocated, so that the syncs that follow change no metadata of the
 * disk's. A failure changes nothing.
 */
void blob_units_lay_out(struct blob *b, int fd);
/* Punches free units that have blocks. */
void blob_units_trim(struct blob *b);
/* Bytes that a sync and a trim would give back. */
uint64_t blob_units_reclaimable(struct blob *b);
/* b->lock held: alloc_bytes becomes what the file takes (the disk adds blocks of its own to a fragmented file). */
void blob_units_measure(struct blob *b);
/* Punches what no row names: after an unclean end. Index lock held, WAL synced, blob unused. */
int blob_units_sweep(struct blob *b) MUST_CHECK;
/* Marks an empty pack dead, so that nothing is put into it any more; false when it is not empty or current. */
bool blob_units_retire(struct blob *b);

/* --- blob_sync.c --- */
/* All that was written before the call is on disk; -EIO when the kernel may have lost some. */
int blob_sync(struct blob *b) MUST_CHECK;
/* Starts writing without waiting, so that many blobs share one commit of the disk's journal. */
void blob_sync_start(struct blob *b);
/* The same when it is much since the last time: the sync at the end of a long file waits for little.
 * May wait for a slow disk, one thread at a time. */
void blob_sync_ahead(struct blob *b);
/* b->lock held: `c` was written. */
int blob_sync_note(struct blob *b, const struct content_chunk *c) MUST_CHECK;
/* A note of the redo log has it. */
void blob_sync_logged(struct blob *b, uint64_t slot);
/* b->lock held: the units are free, what was written there does not matter any more. */
void blob_sync_forget(struct blob *b, uint64_t slot);
/*
 * After a blob_sync that failed: what was written since the last good one is read back, verified and written once more, so that the next blob_sync
 * has it to write. -EIO when a chunk is lost; the others were written. While
 * one is lost that the redo log has a copy of, no blob_sync succeeds: recovery writes it.
 */
int blob_sync_rescue(struct blob *b) MUST_CHECK;

#endif
