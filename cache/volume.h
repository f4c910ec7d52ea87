/*
 * A volume: the sealed local copy of one account's records at one origin. No network, no FUSE.
 *
 *     VOLUME/lock           flock of whoever has the volume open; taken before anything else
 *     VOLUME/keyring.json   wrapped keys (crypto/keyring.h)
 *     VOLUME/index.db(-wal), index.redo: the sealed index (meta/db.h)
 *     VOLUME/lost.redo      the log of an index that is being made anew (cache/logged.h)
 *     VOLUME/blobs/xx/…     sealed content (cache/blob.h)
 *     VOLUME/unsent.log     what the origin does not have yet, a second time (cache/unsent.h)
 *     VOLUME/quarantine/    what was set aside
 *
 * volume_create() once; volume_open() recovers (cache/recover.h) and starts the keeper, a thread that syncs
 * what was only closed every VOLUME_SYNC_INTERVAL_MS, checkpoints and forgets undo rows; volume_close() syncs and stops it. SIGKILL in between
 * loses nothing that was answered; power loss nothing that was fsynced.
 *
 * cache/tree.h (names), cache/file.h (content), cache/remote.h (what the origin says), cache/outbox.h (what
 * the origin is to be told), cache/space.h (the bound) are the calls on an open volume. All are thread-safe.
 *
 * Order of locks: file->lock, then the index lock (db_begin/db_read), then leaves: files table, live table, space.
 * No lock is held while an observer runs.
 */
#ifndef CACHET_CACHE_VOLUME_H
#define CACHET_CACHE_VOLUME_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/macros.h"
#include "base/secret.h"
#include "crypto/aead.h"

#define VOLUME_LIMIT_DEFAULT_BYTES UINT64_C(500000000)
#define VOLUME_LIMIT_MIN_BYTES (UINT64_C(32) << 20)
#define VOLUME_SYNC_INTERVAL_MS 5000

struct volume;
struct enrolment_link;
struct merge_rules;

struct volume_create_options {
	const char *dir;        /* absolute; made here, must not exist or be empty */
	const char *key_source; /* crypto/keysource.h */
	const struct secret *with_kek; /* the key itself, kept by the caller alone: no key source is used */
	const char *origin;     /* URL, kept in the index */
	const struct enrolment_link *link; /* key source server: how to reach it (cache/enrolment.h) */
	const struct secret *token; /* bearer token, kept in the index; may be NULL */
	const char *store;      /* mount only this store of the origin, or NULL */
	struct secret **kek;    /* out, may be NULL: the key, so that who opens the volume next need not ask again; the caller frees */
};

/* Killed anywhere it leaves nothing that volume_open accepts, or a whole volume; run again it starts over. */
int volume_create(const struct volume_create_options *o, char **error) MUST_CHECK;

/*
 * Destroys the volume in `dir`, unsent work included: its keys first, overwritten (after that nothing opens the
 * rest), then its files. CE_INUSE while it is open. Killed in between, volume_open refuses what is left.
 */
int volume_wipe(const char *dir) MUST_CHECK;

/* Of a volume that is not open: the key source gives no key, or not its; or the keyring is gone. */
bool volume_key_is_lost(const char *dir, const char *key_source);

struct volume_options {
	const char *dir;
	const char *key_source;
	uint64_t limit_bytes;   /* 0 = default */
	uint64_t scrub_rate;    /* bytes a second of content looked at in the background (cache/verify.h); 0 = none */
	uint64_t rekey_days;    /* older keys are replaced (cache/rekey.h); 0 = never */
	enum aead_alg alg;      /* for new blobs; 0 = aead_default() */
	uid_t uid;              /* owner of records */
	gid_t gid;
	const char *host;       /* for names of conflict copies */
	const struct merge_rules *rules; /* of conflicts; borrowed until volume_close; NULL: both sides are always kept */
	const struct enrolment_link *link; /* key source server; NULL: the offline lease alone */
	bool lease_first;         /* the server is asked only when there is no valid lease */
	const struct secret *secret; /* what the key source would give, if at hand; else NULL */
	const struct secret *kek; /* at hand already; NULL: from the key source */
};

/* *error: a sentence for the user (caller frees). CE_INUSE, CE_WRONG_KEY, CE_TAMPER, CE_FORMAT, -ENOENT ... */
int volume_open(const struct volume_options *o, struct volume **out, char **error) MUST_CHECK;
/* Commits open files, syncs, stops the keeper. Files still open are released. */
void volume_close(struct volume *v);

/*
 * Takes every key out of memory and leaves open files as they are: what they hold is committed and
 * synced first (its failure is returned; the keys go all the same), the index is closed. Until
 * volume_unlock no call on the volume is allowed but closing files, tree_dropped, and volume_close. The caller has
 * stopped whoever else uses it. volume_unlock takes dir, limit and the like from before; on failure it stays locked.
 */
int volume_lock(struct volume *v) MUST_CHECK;
/* After volume_lock: what cipher contexts of all threads and pages of the index hold. No thread may be using one. */
void volume_forget(void);
int volume_unlock(struct volume *v, const struct volume_options *o, char **error) MUST_CHECK;

/* Everything that was committed before the call is durable after it; callers share one sync. */
int volume_sync(struct volume *v) MUST_CHECK;

/* Origin URL and token as stored; the caller frees. The token may be absent (*out NULL). */
int volume_origin(struct volume *v, char **out) MUST_CHECK;
int volume_token(struct volume *v, struct secret **out) MUST_CHECK;
/* Another token from now on; durable when it returns. -EBUSY: the server is being asked for the key
 * just now. */
int volume_set_token(struct volume *v, const struct secret *token) MUST_CHECK;
/* The store that is mounted alone, or NULL. */
int volume_only_store(struct volume *v, char **out) MUST_CHECK;
/* 32 hex digits, made once: names this copy to the origin. */
const char *volume_device_id(const struct volume *v);

/* What changed under the kernel's feet, told after the commit, from any thread, with no lock held. Must not block. */
struct volume_change {
	enum { CHANGE_ENTRY, CHANGE_ATTR, CHANGE_CONTENT } what;
	uint64_t parent;       /* CHANGE_ENTRY: this name of this directory is new, gone or another object or version */
	const char *name;      /* valid during the call */
	size_t name_len;
	uint64_t object;       /* the object concerned (the old one, if gone) */
	uint64_t version;      /* the version that is superseded */
};
typedef void volume_change_fn(void *arg, const struct volume_change *changes, size_t n);
/* Each of them hears of all changes; fn NULL: no more. */
enum volume_observer { VOLUME_KERNEL, VOLUME_WATCH, VOLUME_OBSERVERS };
void volume_observe(struct volume *v, enum volume_observer who, volume_change_fn *fn, void *arg);

/* Called when the outbox or the deferred entries have something new that is not the sender's own doing (outbox_ack, outbox_settle). Must not block. */
void volume_on_outbox(struct volume *v, void (*fn)(void *arg), void *arg);

/* Called when a write has brought the size of a file past a multiple of FILE_GROWTH_BYTES (cache/file.h). Must not block. */
typedef void volume_growth_fn(void *arg, uint64_t store, uint64_t object, uint64_t version);
void volume_on_growth(struct volume *v, volume_growth_fn *fn, void *arg);

#define VOLUME_SETTING_MAX 256

/* Small named texts of the sync code (key "sync.…"), kept in the index. get: -ENOENT when never set. As durable as a commit. */
int volume_setting_get(struct volume *v, const char *key, char *out, size_t max) MUST_CHECK;
int volume_setting_set(struct volume *v, const char *key, const char *value) MUST_CHECK;
/*
 * The origin saw operation `seq` of this volume, which the volume knows nothing of: it is an old copy, put back. From then on,
 * also after it was opened anew, changes are refused (-EROFS), until somebody accepts it: then it goes on from there, with numbers
 * that were never given; what is unsent in it is sent, conditionally as always.
 */
int volume_set_old(struct volume *v, uint64_t seq) MUST_CHECK;
bool volume_is_old(struct volume *v);
int volume_accept_old(struct volume *v) MUST_CHECK;
/*
 * What the origin would refuse is refused when it is written, not when it is sent: files beyond `bytes` (-EFBIG; 0 = no bound known), and
 * any new content while the origin has said that it has no room (-EDQUOT). What is here already stays, and is sent when it can.
 */
void volume_set_record_max(struct volume *v, uint64_t bytes);
void volume_set_origin_full(struct volume *v, bool full);
/* The highest number ever given to an operation; 0 = none yet. */
int volume_last_seq(struct volume *v, uint64_t *out) MUST_CHECK;

/* A row of the event log. `detail` is a JSON object without names or contents. As durable as a commit. */
int volume_event(struct volume *v, const char *kind, const char *detail) MUST_CHECK;
/* From the oldest with an id above `after`; fn returns 0 to go on, 1 to stop, < 0 to fail. It runs under the index lock. */
typedef int volume_event_fn(void *arg, uint64_t id, int64_t time_ns, const char *kind, const char *detail);
int volume_event_each(struct volume *v, uint64_t after, volume_event_fn *fn, void *arg) MUST_CHECK;
/* CE_TAMPER with *bad_id: the first that is not what was written, or is missing. */
int volume_event_verify(struct volume *v, uint64_t *bad_id) MUST_CHECK;

struct volume_status {
	uint64_t limit_bytes, used_bytes;
	bool unclean;          /* the last run did not close the volume */
	uint64_t rolled_back;  /* files that fell back to an earlier committed state after power loss */
	uint64_t damaged;      /* tampered or unreadable chunks seen since open */
	bool wal_damaged;
	bool index_lost;            /* at this open: missing, damaged or old; made anew */
	uint64_t restored;          /* then: records with unsent work that were put back, */
	uint64_t restored_damaged;  /* of which the content is not whole */
	bool log_damaged;           /* then: some may be missing */
	char aside[64];             /* then: where the old index is, relative to the volume */
	uint64_t aside_bytes;       /* all that is in quarantine */
};
int volume_status(struct volume *v, struct volume_status *out) MUST_CHECK;
/* Files and directories, counted one by one: for people who ask, not for statfs. */
int volume_objects(struct volume *v, uint64_t *out) MUST_CHECK;

#endif
