/*
 * A blob: one file of sealed chunks in slots, blobs/xx/<30 hex>, named by its random uuid.
 *
 * Slot i starts at byte i << shift and is as long as a chunk; the ciphertext of a shorter chunk fills the slot's
 * first bytes, padded with random bytes to a multiple of 4096, the rest is a hole. Nothing else is in the file: nonce, tag, length, sequence stand in the index (meta/content.h), so an old,
 * moved, exchanged or zeroed slot does not open.
 *
 * AAD = "cachet/chunk/v1" ‖ store ref 16 bytes ‖ uuid 16 ‖ epoch u64 ‖ idx u64 ‖ seq u64 ‖ len u32 ‖ alg u8 (little-endian); key = keys_blob().
 *
 * A slot is written only while no row that may survive a crash names it: free slots are those named by no chunk or undo row of
 * any map (content_slots), less those released since the last sync. Derived at open, never stored.
 * A failed fdatasync: the kernel may have dropped the pages: their chunks are written to other slots (rescue.c).
 *
 * Calls: blob_new (a file that no row names until a commit inserts it) or blob_get (by row), blob_unref. A blob stays in memory
 * while a file uses it, while it has data that is not synced, and while slots wait to become free. One file at a time writes to a blob.
 *
 * Space: blob_seal needs blob_bytes(len) reserved by the caller and turns them into used ones; a freed slot is punched and given back at once.
 *
 * Threads: any; the blob's own lock is a leaf, held over no I/O but the punching of slots.
 */
#ifndef CACHET_CACHE_BLOB_H
#define CACHET_CACHE_BLOB_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <uthash.h>

#include "base/macros.h"
#include "base/secret.h"
#include "crypto/aead.h"
#include "meta/content.h"

#define BLOB_SHIFT_MIN 12
#define BLOB_SHIFT_MAX 20
#define BLOB_SHIFT_DEFAULT 16
#define BLOB_PAD 4096
#define BLOB_NAME_LEN 34 /* "xx/", 30 hex digits, NUL */

struct volume;

/* A slot that becomes free once the transaction that released it is durable. */
struct blob_release {
	uint64_t slot, gen;
	uint32_t bytes;
};

struct blob {
	struct volume *v;
	unsigned refs;    /* v->blobs_lock */
	bool in_table;    /* v->blobs_lock */
	atomic_bool noted; /* in the list of durable.c, changed under its lock */
	UT_hash_handle hh; /* v->blobs, by id */

	/* Fixed, but for id: 0 until the transaction that inserts its row is committed (lock of the one writing file). */
	uint64_t id;
	uint8_t uuid[CONTENT_UUID_LEN];
	uint64_t store;
	uint8_t store_ref[16];
	const struct secret *cek; /* borrowed from keys.c */
	enum aead_alg alg;
	uint32_t shift;
	uint64_t epoch;

	pthread_mutex_t lock; /* leaf: all below */
	int fd;               /* -1 until first used */
	bool on_disk;         /* the file was made */
	bool dead;            /* its row is gone */
	uint64_t seals, alloc_bytes;
	unsigned in_flight;   /* writes that are not counted yet */
	bool measured;        /* alloc_bytes was corrected and the row does not know it yet */
	bool slots_known;     /* `taken` is derived */
	uint64_t *taken;      /* bitmap */
	size_t taken_words;
	uint64_t hint;        /* no free slot below */
	struct blob_release *released;
	size_t n_released, cap_released;
	uint64_t *unsynced;   /* slots written since the last fdatasync that succeeded */
	size_t n_unsynced, cap_unsynced;
	uint64_t unsynced_base; /* how many were forgotten before the first */
	uint64_t written, synced; /* counts of writes: all is on disk when equal */
	bool suspect;         /* fdatasync failed: `unsynced` may be lost (rescue.c) */
};

/* Bytes on disk of a chunk of `len` bytes. */
static inline uint32_t blob_bytes(uint32_t len)
{
	return (len + BLOB_PAD - 1) / BLOB_PAD * BLOB_PAD;
}

/* --- blob.c --- */
/* A new blob; nothing on disk until its first seal. Takes the index lock. */
int blob_new(struct volume *v, uint64_t store, struct blob **out) MUST_CHECK;
/* Index lock held. */
int blob_get(struct volume *v, uint64_t id, struct blob **out) MUST_CHECK;
struct blob *blob_ref(struct blob *b);
/* The last reference of a blob that never had a row removes its file. NULL-safe. Takes no lock but leaves. */
void blob_unref(struct blob *b);
/* The same by a file; when only the next sync still needs the blob its descriptor is closed meanwhile. */
void blob_park(struct blob *b);
/*
 * Its row has been inserted as `id`: others may find it. Inside that transaction, so that whoever takes the index lock next finds this one and does
 * not load a second, with slots of its own. blob_withdraw when the transaction is rolled back.
 */
void blob_publish(struct blob *b, uint64_t id);
void blob_withdraw(struct blob *b);
void blob_row(struct blob *b, struct content_blob *row);
void blob_path(const uint8_t uuid[static CONTENT_UUID_LEN], char name[static BLOB_NAME_LEN]);
/* The descriptor, opened (and with `make` created) on first use. Valid while the blob is referenced. */
int blob_fd(struct blob *b, bool make, int *out) MUST_CHECK;

/* --- blob_chunk.c --- */
/* Seals `len` bytes (1 to the chunk size) as chunk `idx`, into slot `*reuse` (uncommitted, of this file, same blob_bytes) or, NULL, a free one. */
int blob_seal(struct blob *b, uint64_t idx, const void *data, uint32_t len, const uint64_t *reuse,
	struct content_chunk *out) MUST_CHECK;
/* c->len bytes to `out`. CE_TAMPER: not what was sealed, or not there; -EIO. `out` is zeros then. */
int blob_open(struct blob *b, const struct content_chunk *c, void *out) MUST_CHECK;
/* Writes the sealed bytes of `c` to another slot, verified; c->slot becomes it. */
int blob_move(struct blob *b, struct content_chunk *c) MUST_CHECK;

/* --- blob_slots.c --- */
/* Takes a free slot; derives what is free on first use (takes the index lock). */
int blob_slot_take(struct blob *b, uint64_t *out) MUST_CHECK;
/* The same for an index lock that is held already, without taking a slot. */
int blob_slots_derive(struct blob *b) MUST_CHECK;
/* Taken, but nothing was written to it. */
void blob_slot_abandon(struct blob *b, uint64_t slot, uint32_t bytes);
/* A slot that no row names and none may: punched and free now. */
void blob_slot_free(struct blob *b, uint64_t slot, uint32_t bytes);
/* A committed transaction of generation `gen` no longer names it: free after the sync of that generation. */
void blob_slot_release(struct blob *b, uint64_t slot, uint32_t bytes, uint64_t gen);
/* Frees what generations up to `gen` released. True when something was freed. */
bool blob_slots_settle(struct blob *b, uint64_t gen);
bool blob_slots_pending(struct blob *b);
uint64_t blob_slots_released_bytes(struct blob *b);
/* b->lock held: alloc_bytes becomes what the file takes (the disk adds blocks of its own to a fragmented file). */
void blob_slots_measure(struct blob *b);
/* Punches what no row names: after an unclean end. Index lock held, WAL synced, blob unused. */
int blob_slots_trim(struct blob *b) MUST_CHECK;

/* --- blob_sync.c --- */
/* All that was written before the call is on disk; -EIO when the kernel may have lost some (b->suspect). */
int blob_sync(struct blob *b) MUST_CHECK;
/* Starts writing without waiting, so that many blobs share one commit of the disk's journal. */
void blob_sync_start(struct blob *b);
/* After a write to slot. */
int blob_sync_note(struct blob *b, uint64_t slot) MUST_CHECK;
/* Copies the slots in doubt; the caller frees. */
int blob_sync_suspects(struct blob *b, uint64_t **slots, size_t *n) MUST_CHECK;
/* The first `n` of them are safe elsewhere. */
void blob_sync_rescued(struct blob *b, size_t n);

#endif
