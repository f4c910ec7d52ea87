/*
 * The body of a volume and the calls between the files of cache/. For cache/ only.
 *
 * Order of locks (each may be taken while holding those before it):
 *   1 file->lock        (cache/file.c; two files: lower object first), then that of packs.c
 *   2 index lock        (db_begin, db_read)
 *   3 leaves            files_lock, held_lock, space.lock, stage lists: never held over any call that locks
 */
#ifndef CACHET_CACHE_VOLUME_PRIV_H
#define CACHET_CACHE_VOLUME_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "base/secret.h"
#include "cache/enrolment_priv.h"
#include "cache/file.h"
#include "cache/merge_rule.h"
#include "cache/outbox.h"
#include "cache/remote.h"
#include "cache/space.h"
#include "cache/tree.h"
#include "cache/unsent_restore.h"
#include "cache/verify.h"
#include "cache/volume.h"
#include "crypto/keyring.h"
#include "meta/content.h"
#include "meta/db.h"
#include "meta/name.h"
#include "meta/object.h"
#include "meta/op.h"
#include "meta/store.h"

/* What our own operations made of records, so that a page of the feed that was under way meanwhile does not turn
 * them back (remote_stale.c). Indexed by hash; a slot that is overwritten only loses that protection. */
#define VOLUME_ACKED_MAX 4096
struct volume_acked {
	uint64_t hash, seq;
};
struct keeper;      /* keeper.c */
struct ceks;        /* keys.c: unwrapped CEKs per store */
struct keys_store;
struct rekey;       /* rekey.c: the thread that seals anew */
struct blob;        /* blob.h */
struct packs;       /* packs.h: which packs new small files go to */
struct pool;        /* pool.h: plaintext buffers */
struct unsent;      /* unsent.h: the second record of unsent work */
struct scan;        /* scan.h: looks for orphans after an unclean end */
struct chunkcache;  /* chunkcache.h: last decrypted chunks */

#define VOLUME_STORES_MAX 4096

struct volume {
	char *dir;
	int dirfd, lock_fd, blobs_fd;
	struct db *db;
	struct keyring *keyring;
	struct ceks *ceks;
	struct enrolment *enrolment; /* NULL: the KEK is not the server's */
	char device_id[33];
	char host[64];
	uid_t uid;
	gid_t gid;
	enum aead_alg alg;
	char *only_store;

	pthread_mutex_t files_lock; /* leaf */
	struct file *files;         /* uthash of open files by object (versions chained); files_lock */
	struct file *files_by_map;  /* the same files and open snapshots, by map; files_lock */

	pthread_mutex_t blobs_lock; /* leaf */
	struct blob *blobs;         /* uthash by id; blobs_lock */

	struct packs *packs;
	struct pool *pool;
	atomic_uint_fast64_t dirty_bytes; /* plaintext waiting to be sealed */
	struct chunkcache *chunkcache;

	pthread_mutex_t held_lock; /* leaf: the two below while they are called or changed */
	tree_held_fn *held;
	void *held_arg;

	struct volume_acked acked[VOLUME_ACKED_MAX]; /* index lock */

	struct {
		pthread_mutex_t lock; /* leaf */
		uint64_t limit, used, reserved; /* used: blocks of blobs; the index is asked */
		uint64_t aside;                 /* in quarantine; fixed when the volume is open */
		uint64_t evictable, reclaimable; /* as of evictable_ns, 0 = not yet */
		int64_t evictable_ns, evictable_keep_ns;
		pthread_mutex_t evicting;       /* one evicts at a time; taken before any other lock */
	} space;

	/* Durability (sync.c of cache: durable.c). The generation grows at the start of each sync; commits that are not synced save undo rows under it. */
	atomic_uint_fast64_t undo_gen;
	atomic_uint_fast64_t chunk_seq; /* next chunk sequence number; above everything in the index */
	struct durable *durable;
	struct keeper *keeper;
	struct unsent *unsent;
	struct logged *logged; /* while the index is opened */
	struct scan *scan; /* NULL: none was needed */
	struct rekey *rekey;
	atomic_bool rekeyed;   /* keys were retired since the volume was opened */
	bool index_key_is_old; /* the index is still sealed under it; the opener's, then rekey.c's */
	uint64_t rekey_age_s;  /* older keys are replaced by themselves; 0 = never */

	pthread_mutex_t observer_lock; /* leaf: guards what follows, to on_growth_arg, while they are called or changed */
	struct {
		volume_change_fn *fn;
		void *arg;
	} observers[VOLUME_OBSERVERS];
	void (*on_outbox)(void *arg);
	void *on_outbox_arg;
	volume_growth_fn *on_growth;
	void *on_growth_arg;

	atomic_uint_fast64_t rolled_back, damaged;
	atomic_uint_fast64_t old_seq; /* an old copy: the origin saw this operation of it; 0 = it is not */
	atomic_uint_fast64_t record_max; /* bytes the origin takes in one file; 0 = not known */
	atomic_bool origin_full;
	atomic_uint_fast64_t beside[VOLUME_STORES_MAX / 64]; /* set of stores: queries.c */
	const struct merge_rules *rules; /* borrowed; NULL: none */
	atomic_uint_fast64_t conflicts; /* counts those noted since the open */
	uint64_t scrub_rate; /* bytes a second, 0 = off */
	struct verify_at scrub_at; /* the keeper's */
	bool unclean, wal_damaged, index_lost;
	struct unsent_restored restored; /* if index_lost */
};

/* --- volume.c --- */
void volume_tell(struct volume *v, const struct volume_change *changes, size_t n);
void volume_tell_outbox(struct volume *v);
void volume_tell_growth(struct volume *v, uint64_t store, uint64_t object, uint64_t version);

/* --- setting.c --- */
/* A file may become `size` bytes long: 0; -EFBIG beyond what the origin takes; -EDQUOT while it has no room. */
int setting_may_grow(const struct volume *v, uint64_t size) MUST_CHECK;

/* --- queries.c --- */
int queries_open(struct volume *v) MUST_CHECK;

/* Settings, and that the volume is open. */
int volume_load_state(struct volume *v) MUST_CHECK;

/* --- volume_index.c --- */
/* Index open and recovered, or made anew from unsent.log. */
int volume_index_open(struct volume *v, char **error) MUST_CHECK;
/* After a lock: files are open, so nothing is recovered; nothing has to be. */
int volume_index_reopen(struct volume *v, char **error) MUST_CHECK;

/* --- keys.c --- */
/* The CEKs of a store; the first is made, and the keyring saved, on first use. */
int keys_make(struct volume *v, uint64_t store, const char *ref) MUST_CHECK;
/* The same by the store's row (its ref at *ref); the index lock is held. Borrowed until volume_close. */
int keys_store(struct volume *v, uint64_t store, uint8_t ref[static 16], const struct keys_store **out) MUST_CHECK;
/* The key epoch of a chunk by its sequence number; 0: its key is gone. UINT64_MAX: of the next seals. */
uint64_t keys_epoch(const struct keys_store *s, uint64_t seq);
/* BLAKE2b-KDF(CEK of that epoch, blob uuid ‖ epoch): cheap enough for each use, so it is never kept. The caller wipes `key`. */
int keys_blob(const struct keys_store *s, const uint8_t uuid[static 16], uint64_t seq, uint8_t key[static 32]) MUST_CHECK;
int keys_init(struct volume *v) MUST_CHECK;
void keys_free(struct volume *v);
/* Wipes the CEKs, and unwraps them again to where they were. Nobody uses the volume. */
void keys_forget(struct volume *v);
int keys_recall(struct volume *v) MUST_CHECK;
/* Rekey (rekey.c), in this order. New keys are in the keyring on disk; then, again allowed, they seal. */
int keys_renew(struct volume *v) MUST_CHECK;
int keys_advance(struct volume *v) MUST_CHECK;
/* Nothing is sealed under the old ones any more: they go, from the disk first. */
int keys_retire(struct volume *v) MUST_CHECK;
bool keys_are_old(struct volume *v);
/* Chunks with a lower sequence number are sealed under an old key. */
uint64_t keys_from(struct volume *v);
/* When the present index key was made, and its epoch. */
int64_t keys_made_at_s(struct volume *v, uint64_t *epoch);
/* The keyring, and who changes it; a leaf. */
void keys_lock(struct volume *v);
void keys_unlock(struct volume *v);

/* --- live.c: which objects the kernel knows --- */
/* True when it does; tree_dropped then removes the object. Inside the transaction that takes its last name. */
bool live_unlinked(struct volume *v, uint64_t object);

/* --- file.c, filetab.c: for tree.c, remote.c, outbox.c --- */
/* The open file of the object's version, referenced (as reader), or NULL. Leaf locks only. */
struct file *filetab_get(struct volume *v, uint64_t object, uint64_t version);
/* True when it has a writer or uncommitted data: the origin's changes must wait. Callable inside a transaction. */
bool filetab_busy(struct volume *v, uint64_t object);
/* True when this map is open. Callable inside a transaction. */
bool filetab_map_open(struct volume *v, uint64_t map);
/* The map's file, if open, takes it along when it goes. False: not open. */
bool filetab_supersede(struct volume *v, uint64_t map);
/* If the file has uncommitted data, its size and times replace those of `a`. Takes file->lock: no index lock held. */
void file_overlay(struct file *f, struct tree_attr *a);
/* rename: file_lock; then inside the transaction file_commit_txn; after db_commit file_commit_done(committed), file_unlock. */
void file_lock(struct file *f);
void file_unlock(struct file *f);
bool file_is_dirty(const struct file *f); /* file lock held */
/* The row got an mtime that is newer than the file's pending one; file lock held since before that. */
void file_mtime_is_set(struct file *f);
/* Seals what is in memory (before the transaction, file lock held). */
int file_commit_prepare(struct file *f) MUST_CHECK;
/* Writes map, size, times and journal row into the open transaction. `synced`: the blob's data is already durable, no undo rows are needed. */
int file_commit_txn(struct file *f, bool synced) MUST_CHECK;
/* Whether the data has to be synced before the transaction (I7 of durable.c). */
int file_commit_must_sync(struct file *f, bool *out) MUST_CHECK;
void file_commit_done(struct file *f, bool committed);
/* Instead, when the file is small (file_log.c): its sealed content goes into the record of the next transaction: that of file_commit_txn, or that in
 * which file_log_note is called; both give -EMSGSIZE when it does not fit. False: it cannot. file_log_drop when the transaction ended. */
bool file_log_prepare(struct file *f);
int file_log_note(struct file *f) MUST_CHECK;
void file_log_drop(struct file *f);
/* fdatasync of the blob's data written so far (for rename over: an old file is never replaced by data that a power cut may take). */
int file_sync_data(struct file *f) MUST_CHECK;

/* --- blob.c / gc.c --- */
/*
 * Inside a transaction: the map is no longer the content of its object. Open in memory: it becomes superseded and goes when the file is freed; else map and, with its last map, blob row go,
 * and the blob's file is removed after the commit: call gc_run() then (without the index lock).
 */
int gc_drop_map(struct volume *v, uint64_t map) MUST_CHECK;
/* After commit (true: removes the files that were dropped and gives space back) or rollback (false: forgets the list). Thread-local list. */
void gc_run(struct volume *v, bool committed);

/* Deletes the row of a blob that no map names any more; the file goes as above. */
int gc_drop_blob(struct volume *v, uint64_t blob) MUST_CHECK;
/* The map's chunk rows are about to go: so does what only they name, units or the whole blob. */
int gc_drop_content(struct volume *v, const struct content_map *m) MUST_CHECK;
#define GC_SHARERS_MAX 16
/* The maps that can share units with a map, itself included. `many`: more than are looked at. */
struct gc_sharers {
	uint64_t maps[GC_SHARERS_MAX];
	size_t n;
	bool many;
};
int gc_sharers(struct volume *v, const struct content_map *m, struct gc_sharers *out) MUST_CHECK;
/* Whether one of them other than `but` names the chunk's slot. Shared slots stand at the same index. */
int gc_pinned(struct volume *v, const struct gc_sharers *s, uint64_t but,
	const struct content_chunk *c, bool *out) MUST_CHECK;

/* --- fold.c: journal rows. All inside the transaction of the change they describe. --- */
/* Content or attributes (`mode`: not the times alone) of the object changed: each of its names that
 * an origin sees gets its PUT or ATTR row. */
int fold_put(struct volume *v, const struct object_row *o) MUST_CHECK;
int fold_attr(struct volume *v, const struct object_row *o, bool mode) MUST_CHECK;
/* A new name (create, mkdir, symlink, link), before its row is inserted. Sets n->rid. */
int fold_make(struct volume *v, struct name_row *n, const struct object_row *o) MUST_CHECK;
/* The name row is about to be deleted. */
int fold_delete(struct volume *v, const struct name_row *n, const struct object_row *o) MUST_CHECK;
/* `n` moves to (parent, name), replacing `over` (or NULL), whose row goes. Updates n's origin columns. */
int fold_move(struct volume *v, struct name_row *n, const struct object_row *o, uint64_t new_parent,
	const struct row_filename *new_name, const struct name_row *over, const struct object_row *over_object) MUST_CHECK;
/* a and b exchange places. Updates their origin columns. */
int fold_swap(struct volume *v, struct name_row *a, struct name_row *b, const struct object_row *ao,
	const struct object_row *bo) MUST_CHECK;
/* True when the record has rows in the journal. */
int fold_pending(struct volume *v, uint64_t store, const char *rid, bool *out) MUST_CHECK;

/* --- durable.c: what is dirty, the shared sync --- */
int durable_new(struct volume *v) MUST_CHECK;
void durable_free(struct volume *v);
/* A blob got data that is not synced, or slots to free after the next sync: it is kept until then. */
int durable_note_blob(struct volume *v, struct blob *b) MUST_CHECK;
/* A file appeared in or left blobs/xx: that directory must be synced. */
void durable_note_dir(struct volume *v, uint8_t first_byte);
/* Those of the noted directories that hold `first_byte`, now. */
int durable_sync_dir(struct volume *v, uint8_t first_byte) MUST_CHECK;
/* In a transaction whose data is synced: what follows falls back to it at the furthest (I5). */
static inline uint64_t durable_begin_gen(struct volume *v)
{
	return atomic_fetch_add(&v->undo_gen, 1) + 1;
}
/* Takes a reference over: the blob's row is gone in a committed transaction; its file goes after the next sync. */
void durable_doom(struct volume *v, struct blob *b);
bool durable_is_doomed(struct volume *v, const uint8_t uuid[static 16]);
/* Bytes that durable_reclaim will free. */
uint64_t durable_reclaimable(struct volume *v);
/* A sync, and then no free units keep their blocks. */
int durable_reclaim(struct volume *v) MUST_CHECK;
/* volume_sync: callers share; no lock may be held. */
int durable_sync(struct volume *v) MUST_CHECK;
/* The same for one of many fsyncs: undo rows that are not needed any more may stay a second longer. */
int durable_sync_only(struct volume *v) MUST_CHECK;
/* The same for whom a sync of the redo log is enough: all data is noted there. */
int durable_sync_log(struct volume *v) MUST_CHECK;
/* Something waits for a sync; a hint, for the keeper. */
bool durable_needed(struct volume *v);
/* Syncs, then moves the WAL into the index and empties it, unless it is shorter than `at_least` by the time it is one's turn. No lock may be held. */
int durable_checkpoint(struct volume *v, uint64_t at_least) MUST_CHECK;
/* Undo rows were written under the current generation (inside the transaction). */
void durable_note_undo(struct volume *v, uint64_t gen);
/* The hook of db_options: syncs all noted blobs and directories. */
int durable_before_sync(void *arg);

/* --- keeper.c --- */
int keeper_start(struct volume *v) MUST_CHECK;
void keeper_stop(struct volume *v);
/* Something was written and waits for a commit (stray WRITE). */
void keeper_wake(struct volume *v);
/* The WAL is long: it is emptied soon (hook of db_options). */
void keeper_wal_grown(void *arg);
/* The map was used: its used_s is written with others later. */
void keeper_touch(struct volume *v, uint64_t map);

/* --- recover.c: after volume_open's index is there --- */
int recover_run(struct volume *v) MUST_CHECK;

#endif
