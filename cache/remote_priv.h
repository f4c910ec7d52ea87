/* Between remote*.c, and for outbox*.c. Under the index lock, inside the transaction, unless it
 * says otherwise. */
#ifndef CACHET_CACHE_REMOTE_PRIV_H
#define CACHET_CACHE_REMOTE_PRIV_H

#include "cache/fold_priv.h"
#include "cache/merge.h"
#include "cache/table.h"

/* --- remote_record.c; no lock --- */
/* From remote_record_print's text, with the target (owned: remote_record_done). */
int remote_record_load(const char *text, struct remote_record *out) MUST_CHECK;
void remote_record_done(struct remote_record *r);
#define _cleanup_record_ _cleanup_(remote_record_done)
/* The origin columns of a name. */
void remote_record_onto_name(const struct remote_record *rec, struct name_row *n);
/* The name waits for its place: its ETag is one of no state, so that its entry, deferred, is news. */
void remote_record_unplaced(struct name_row *n);
bool remote_record_is_unplaced(const struct name_row *n);
/* mode with S_IFMT. */
uint32_t remote_record_mode(const struct remote_record *rec);

/* --- remote.c --- */
/* A new store with its directory at a place that is free. */
int remote_store_insert(struct volume *v, const char *store, enum store_mode mode, uint64_t parent,
	const struct row_filename *name, struct store_row *out) MUST_CHECK;
/* One that was there before: its ref, name and mode are given, id and root are set. */
int remote_store_restore(struct volume *v, struct store_row *s) MUST_CHECK;

/* --- remote_stale.c --- */
void remote_stale_note(struct volume *v, uint64_t store, const char *rid, uint64_t seq);
bool remote_stale_is(struct volume *v, uint64_t store, const struct remote_record *rec);
/* The sequence number of the deferred entry; -ENOENT. */
int remote_stale_seq(struct volume *v, uint64_t store, const char *rid, uint64_t *seq) MUST_CHECK;
/* Whether an entry newer than `seq` is deferred. */
int remote_stale_newer(
	struct volume *v, uint64_t store, const char *rid, uint64_t seq, bool *out) MUST_CHECK;
/* A deferred entry that is not newer than `seq` goes. */
int remote_stale_drop(struct volume *v, uint64_t store, const char *rid, uint64_t seq) MUST_CHECK;

/* --- remote_pass.c --- */
struct remote_ids {
	uint64_t *id; /* free() */
	size_t n, cap;
};
int remote_ids_add(struct remote_ids *ids, uint64_t id) MUST_CHECK;

/*
 * One transaction's worth of changes that the kernel did not ask for: what the observer will hear,
 * directories whose times and links change (once each), directories that deferred entries may wait
 * for, entries that must wait for others of the same pass.
 */
struct remote_touched {
	uint64_t dir;
	int nlink;
	UT_hash_handle hh;
};

struct remote_change {
	struct volume_change change;
	char name[ROW_NAME_MAX + 1];
};

struct remote_pass {
	struct volume *v;
	struct store_row store;
	int64_t now;
	struct remote_report report;

	struct remote_change *changes;
	size_t n_changes, cap_changes;
	struct remote_touched *touched;

	uint64_t base; /* a map that the next conflict noted takes over (merge_base.h), or 0 */

	bool any_deferred; /* the table may have rows of this store */
	bool any_ops;      /* the journal may have rows */

	struct row_rid *arrived; /* directories that came to be known: entries may wait for them */
	size_t n_arrived;
	struct remote_record *late; /* tried again at the end of the pass; targets are owned */
	size_t n_late;
	bool last_try; /* what still cannot be done is deferred */

	struct row_rid parent_rid; /* of the last entry */
	uint64_t parent;
};

int remote_pass_begin(struct remote_pass *p, struct volume *v, uint64_t store) MUST_CHECK;
/* Late and deferred entries, then what was touched. Before the commit. */
int remote_pass_finish(struct remote_pass *p) MUST_CHECK;
/* After the commit, without the lock: tells the observer (when `committed`), frees. */
void remote_pass_end(struct remote_pass *p, bool committed);

int remote_pass_entry(struct remote_pass *p, uint64_t parent, const struct row_filename *name,
	const struct object_row *o) MUST_CHECK;
int remote_pass_object(struct remote_pass *p, int what, const struct object_row *o) MUST_CHECK;
int remote_pass_touch(struct remote_pass *p, uint64_t dir, int nlink) MUST_CHECK;
int remote_pass_arrived(struct remote_pass *p, const char *rid) MUST_CHECK;
/* To be tried again at the end of the pass; in the last try it is deferred. */
int remote_pass_late(struct remote_pass *p, const struct remote_record *rec) MUST_CHECK;
int remote_pass_defer(struct remote_pass *p, const struct remote_record *rec,
	enum deferred_reason reason) MUST_CHECK;
/* A deferred_fn, arg is the pass: takes the entry out of the table and applies it. */
int remote_pass_deferred(void *arg, const char *rid, const char *entry) MUST_CHECK;

/* --- remote_apply.c --- */
int remote_apply_one(struct remote_pass *p, const struct remote_record *rec) MUST_CHECK;

/* --- remote_place.c --- */
/* Applies a live record that has no rows in the journal. */
int remote_place_record(struct remote_pass *p, const struct remote_record *rec) MUST_CHECK;
/* The directory a record names as its parent; -ENOENT. */
int remote_place_parent(
	struct remote_pass *p, const struct remote_record *rec, uint64_t *out) MUST_CHECK;
/* Moves n to the record's place when that can be done now; else *done false. n's row is written by
 * the caller. */
int remote_place_move(struct remote_pass *p, const struct remote_record *rec, struct name_row *n,
	bool *done) MUST_CHECK;
/* Makes the place free for another; *is_free false: it cannot be now. `self`: the name that is to
 * come (0 = none yet). */
int remote_place_vacate(struct remote_pass *p, const struct remote_record *rec, uint64_t parent,
	uint64_t self, bool *is_free) MUST_CHECK;

/* --- remote_park.c --- */
/* The number of the entry that brings a parked record back; no origin gives it. */
#define REMOTE_PARK_SEQ UINT64_MAX
int remote_park_name(
	struct remote_pass *p, struct name_row *n, const struct object_row *o) MUST_CHECK;
/* That entry: the record goes back when its place is free. */
int remote_park_return(
	struct remote_pass *p, const struct remote_record *rec, struct name_row *n) MUST_CHECK;
/* To its place at the origin, or as near to it as there is room. Writes n's row. */
int remote_park_near_home(struct remote_pass *p, struct name_row *n) MUST_CHECK;
/* fold_revive for a name that may be parked. */
int remote_park_revive(
	struct remote_pass *p, struct name_row *n, const struct object_row *o) MUST_CHECK;

/* --- queries.c --- */
/* The directory of queries gives way to a record of its name. */
int queries_step_aside(
	struct remote_pass *p, struct name_row *n, const struct object_row *o) MUST_CHECK;

/* --- remote_update.c --- */
/* A new object and its name; n has place and origin columns. */
int remote_update_insert(
	struct remote_pass *p, const struct remote_record *rec, struct name_row *n) MUST_CHECK;
/* The content of `n` is that of the state `etag`, too. */
int remote_update_kept(struct volume *v, const struct object_row *o, const struct name_row *n,
	const char *etag) MUST_CHECK;
/* Attributes and content of `n`'s object become the record's; n->object may change. */
int remote_update_object(
	struct remote_pass *p, const struct remote_record *rec, struct name_row *n) MUST_CHECK;
/* The same with an object of its own in any case; `old` is the one it leaves. Writes the name row.
 */
int remote_update_replace(struct remote_pass *p, const struct remote_record *rec,
	struct name_row *n, struct object_row *old) MUST_CHECK;
/* n goes to (parent, name); the place is free. n's row is written by the caller. */
int remote_update_move(struct remote_pass *p, struct name_row *n, uint64_t parent,
	const struct row_filename *name) MUST_CHECK;

/* --- remote_remove.c --- */
/* *done false: it must wait (a writer, children that have not moved yet). A directory with unsent
 * children is made again. */
int remote_remove_name(struct remote_pass *p, const struct name_row *n, bool *done) MUST_CHECK;

/* --- conflict.c --- */
enum conflict_kind {
	CONFLICT_EDIT_EDIT = 1,
	CONFLICT_EDIT_DELETE = 2,
	CONFLICT_DELETE_EDIT = 3,
	CONFLICT_CREATE_CREATE = 4,
	CONFLICT_MOVE = 5,
	CONFLICT_ELSEWHERE = 6, /* met by another device: its copy is here */
};
const char *conflict_kind_text(uint32_t kind);
/* The name of a conflict copy that is free in the directory. */
int conflict_name(struct volume *v, uint64_t parent, const struct row_filename *name, int64_t now,
	struct row_filename *out) MUST_CHECK;
/* Whether it is such a name, and of what. */
bool conflict_is_copy(const struct row_filename *name, struct row_filename *original);
/* The name a copy gets that is to stay beside the other: free, and not a copy's. */
int conflict_kept_name(
	struct volume *v, const struct name_row *copy, struct row_filename *out) MUST_CHECK;
/* The path of a name in a directory, from the mount's root; *out is the caller's. */
int conflict_path(
	struct volume *v, uint64_t dir, const struct row_filename *name, char **out) MUST_CHECK;
/* The row, with its event; resolved, with its event and without its base. */
int conflict_add(struct volume *v, struct conflict_row *c) MUST_CHECK;
int conflict_close(struct volume *v, const struct conflict_row *c, int64_t now,
	enum merge_pick outcome) MUST_CHECK;
/* Notes a conflict: `object` is our copy, `path` where it is now (or was), `other_path` where the
 * origin's is. */
int conflict_note(struct remote_pass *p, enum conflict_kind kind, uint64_t object, const char *rid,
	const char *path, const char *other_path) MUST_CHECK;
/* Our name gives way: it gets the conflict name, its rows follow; noted. */
int conflict_step_aside(
	struct remote_pass *p, struct name_row *n, enum conflict_kind kind) MUST_CHECK;

#endif
