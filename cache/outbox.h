/*
 * What the origin is to be told: the journal as the sync thread sees it (rows: meta/op.h).
 *
 *             outbox_next + outbox_begin            outbox_ack
 *   QUEUED ───────────────────────────▶ INFLIGHT ───────────────▶ gone
 *     ▲                                    │ outbox_retry: stays INFLIGHT, same key, later
 *     │                                    ├─ outbox_settle: conflict settled, gone or QUEUED anew with a new key
 *     ├──────── retry (a person) ── REFUSED ◀─ outbox_refuse (4xx)
 *     └──────── retry (a person) ── HELD ◀─ outbox_hold (a person, from QUEUED)
 *
 * A row is INFLIGHT, committed, before its request is sent; from then on it is frozen, with one idempotency key and,
 * for content, a snapshot (map) that pins its slots; later changes make new rows. After a crash INFLIGHT rows are sent again as they were.
 *
 * Order: an operation waits for every earlier one with which it shares a record, a place (parent, name) or a directory being made, emptied or moved;
 * all others may go in parallel. outbox_next() returns only operations that may go now; in a batch the order returned is the order to send.
 *
 * Folding happens where rows are written (cache/tree.c, cache/file.c through cache/fold.h): repeated writes are one PUT; create and delete of what was
 * never sent vanish; a temporary file renamed over a record becomes a PUT of that record.
 *
 * Threads: one sender; tree and file calls add rows meanwhile.
 */
#ifndef CACHET_CACHE_OUTBOX_H
#define CACHET_CACHE_OUTBOX_H

#include "base/macros.h"
#include "cache/file.h"
#include "cache/remote.h"
#include "cache/volume.h"

/* The same values as enum op_kind and op_state of meta/op.h (asserted in outbox.c); sync/ may not see meta/. */
enum outbox_kind { OUTBOX_PUT = 1, OUTBOX_ATTR = 2, OUTBOX_MOVE = 3, OUTBOX_SWAP = 4, OUTBOX_DELETE = 5 };
enum outbox_state { OUTBOX_QUEUED = 0, OUTBOX_INFLIGHT = 1, OUTBOX_REFUSED = 2, OUTBOX_HELD = 3 };

/* One operation, ready to be sent. */
struct outbox_op {
	uint64_t seq;          /* Cachet-Seq */
	uint64_t store;
	char store_name[256];
	enum outbox_kind kind;
	enum outbox_state state;
	uint8_t key[16];
	char rid[65];
	char if_match[65];     /* "" = If-None-Match: * */
	char parent[65];       /* PUT that makes, MOVE; "root" for the store's root */
	char name[256];
	int node_kind;         /* as remote_record.kind */
	uint32_t mode;         /* PUT, ATTR */
	int64_t mtime_ns;
	uint64_t size;         /* PUT of a file or symlink */
	uint64_t map;          /* content snapshot: file_open_map; 0 = empty */
	char *target;          /* symlink; owned: outbox_op_done */
	char other_rid[65], other_etag[65];
	uint32_t attempts;
	int64_t next_try_ms, created_ns;
	int32_t status;
	char error[201];
	/* Index in the array outbox_next returned of the operation that must succeed first (the directory this one
	 * lies in is made by it), or -1. Send the two in order: in one batch, or this one after the other's 2xx. */
	int16_t after;
};
void outbox_op_done(struct outbox_op *op);

/*
 * Up to `max` operations that may be sent now (INFLIGHT ones first: they must be sent again), none younger than `debounce_ms` unless 0. *wait_ms: when the next one
 * becomes due, UINT64_MAX if none. The caller calls outbox_op_done on each.
 */
int outbox_next(struct volume *v, int64_t now_wall_ms, unsigned debounce_ms, struct outbox_op *ops, size_t max,
	size_t *n, uint64_t *wait_ms) MUST_CHECK;
/* Room for `left` operations whose content is longer than `above` bytes, and not longer than what an entry before says. */
struct outbox_room {
	uint64_t above;
	size_t left;
};
/* The one that `op` needs: of a list as below; NULL: it carries no long content. */
struct outbox_room *outbox_room_of(struct outbox_room *rooms, const struct outbox_op *op);
/* As outbox_next, with no more long contents than there is room for: those behind them are not held up. Entries from the
 * longest on, the last with `above` 0 (which is none). */
int outbox_next_within(struct volume *v, int64_t now_wall_ms, unsigned debounce_ms, struct outbox_room *rooms,
	struct outbox_op *ops, size_t max, size_t *n, uint64_t *wait_ms) MUST_CHECK;
/* An operation that local changes have made obsolete since outbox_next comes back with seq 0: it is not sent (nor is what comes `after` it).
 * INFLIGHT, snapshot made, attempts + 1, in one transaction for all; fills in what was not known before (map, size, mode, if_match). Durable order: the caller
 * need not sync (a lost INFLIGHT mark means that the request is sent again with the same key). */
int outbox_begin(struct volume *v, struct outbox_op *ops, size_t n) MUST_CHECK;

/* 2xx: the record as the origin has it now (NULL for DELETE). Row and snapshot go; later rows of the record get the new ETag. */
struct outbox_answer {
	uint64_t seq;
	const struct remote_record *record;
};
int outbox_ack(struct volume *v, const struct outbox_answer *answers, size_t n) MUST_CHECK;
int outbox_retry(struct volume *v, uint64_t seq, int64_t next_try_ms, int status, const char *text) MUST_CHECK;
int outbox_refuse(struct volume *v, uint64_t seq, int status, const char *text) MUST_CHECK;

/*
 * The origin has another state than the operation was based on: `current` is the record (its tombstone, or NULL when it is unknown there), `standing` the record that
 * stands in the wanted place (409 place-taken), or NULL. Settles by the rules: content equal → adopted; only place or attributes differ → based anew and queued again; content differs → the origin's
 * version takes the name, ours becomes `name (conflict HOST 2026-11-22 14-03).ext` as a new record, a conflict row is written; delete against edit keeps the edit; place taken → ours takes
 * the conflict name; 409 not-empty: `current` is the directory as it is, which comes back; 409 no-parent: both NULL, the directory is made again first;
 * 409 loop or not-a-directory: `current` is the record as it is, which goes back to where the origin has it.
 * A symlink without its target: the feed's entry or the record here has it, else it is tried again a second later, when the feed has brought it. So is an operation whose
 * file has a writer just now.
 * `current` may be the record named by other_rid when it is that one's precondition which failed. Nothing is lost. *conflict says whether a row was written.
 * CE_PROTOCOL: a record of neither, or a place said to be taken that the operation does not go to, or by a tombstone; nothing was changed.
 */
int outbox_settle(struct volume *v, uint64_t seq, const struct remote_record *current,
	const struct remote_record *standing, bool *conflict) MUST_CHECK;

/* Why an operation is not sent now. */
enum outbox_wait {
	OUTBOX_WAIT_NONE,      /* it goes with the next request */
	OUTBOX_WAIT_ANSWER,    /* it is on its way, or was and will be sent again as it is */
	OUTBOX_WAIT_RETRY,     /* a later try: until_ms, wall time */
	OUTBOX_WAIT_BEHIND,    /* the operation `behind` is about the same record, place or directory */
	OUTBOX_WAIT_DIRECTORY, /* its directory is made by an operation further on */
	OUTBOX_WAIT_REFUSED,   /* the origin said no */
	OUTBOX_WAIT_PERSON,    /* held by a person */
	OUTBOX_WAIT_BRAKE,     /* held by the brake of deletions */
	OUTBOX_WAIT_GONE,
};
struct outbox_reason {
	enum outbox_wait wait;
	uint64_t behind;
	int64_t until_ms;
};
/* -ENOENT: there is no such operation. */
int outbox_explain(struct volume *v, uint64_t seq, int64_t now_wall_ms, struct outbox_reason *out) MUST_CHECK;

/* In place of an HTTP status. */
#define OUTBOX_BRAKED (-1)    /* HELD by the brake of deletions, not by a person */
#define OUTBOX_CONFIRMED (-2) /* a deletion that the brake lets pass */

/* A deletion that has not been sent yet: outbox_brake is to look before it is begun. */
bool outbox_brake_wants(const struct outbox_op *op);
/* Holds the deletions of stores that have more than 10, and more than 20 % of their records, waiting; *held: how many. What outbox_next returned before is stale then. */
int outbox_brake(struct volume *v, uint64_t *held) MUST_CHECK;
/* A person confirms the deletions made so far: what the brake holds, and would hold. What a person holds stays. */
int outbox_allow_deletes(struct volume *v) MUST_CHECK;

struct outbox_counts {
	uint64_t queued, inflight, refused, held, bytes;
	uint64_t braked; /* of those held */
	int64_t oldest_ns;
};
int outbox_counts(struct volume *v, struct outbox_counts *out) MUST_CHECK;

/* For people (`cachet journal`): each operation in order, with the path; the callback copies. */
typedef int outbox_fn(void *arg, const struct outbox_op *op, const char *path);
int outbox_each(struct volume *v, outbox_fn *fn, void *arg) MUST_CHECK;
/* A queued operation waits for outbox_requeue, and so does what depends on it; later writes go into it. -EBUSY: it is on its way. */
int outbox_hold(struct volume *v, uint64_t seq) MUST_CHECK;
/* A refused or held operation is queued again with a new key. */
int outbox_requeue(struct volume *v, uint64_t seq) MUST_CHECK;
/* Gives the operation up: the local change stays local until the origin's next version; `cachet journal drop`. */
int outbox_drop(struct volume *v, uint64_t seq) MUST_CHECK;

struct outbox_conflict {
	uint64_t id;
	const char *kind;       /* "edit-edit", "edit-delete", "delete-edit", "create-create", "move", "elsewhere" */
	const char *path, *other_path;
	int64_t created_ns, resolved_ns; /* 0: it is open */
	const char *outcome;             /* "both", "ours", "theirs", "merged", "elsewhere"; NULL: it is open */
	bool has_base;                   /* what both sides began with was kept */
};
/* Those this device met, and those of every conflict copy that is in its tree; one whose copy is there no more is resolved. */
typedef int outbox_conflict_fn(void *arg, const struct outbox_conflict *c);
int outbox_conflicts(struct volume *v, bool open_only, outbox_conflict_fn *fn, void *arg) MUST_CHECK;

#endif
