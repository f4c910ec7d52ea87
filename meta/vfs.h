/*
 * The sealed VFS: a shim between SQLite and its `unix-excl` VFS that seals every page of the main
 * file and every frame of the write-ahead log (bytes: meta/page_format.h).
 *
 * One struct vfs serves one connection:
 *
 *     vfs_new(&options, &v);
 *     sqlite3_open_v2(path, &handle, flags, vfs_name(v));
 *     reserve PAGE_RESERVE bytes per page (SQLITE_FCNTL_RESERVE_BYTES) before the first page access
 *     ...
 *     vfs_wal_sync(v);            // make the log durable
 *     sqlite3_close(handle);
 *     vfs_free(v);
 *
 * What it refuses: every kind of file but main database and log, memory mapping, another page size,
 * pages without the reserved bytes, writes that are not whole pages.
 *
 * What a crash leaves: the log ends at the last whole commit, whatever was torn behind it (a frame
 * that does not authenticate ends the log, as a wrong checksum does in stock SQLite). A main page
 * torn by a checkpoint is still in the log. Damage before the end of the log drops later commits
 * without a word, as in stock SQLite: meta/walscan.h looks for it before the index is opened.
 *
 * Errors reach SQLite as its codes; vfs_tampered() and vfs_take_hook_error() tell
 * what was behind SQLITE_CORRUPT and SQLITE_IOERR.
 *
 * Threads: file methods run under the lock of the connection's owner; vfs_wal_sync() runs beside
 * them (see vfs_wal.c); the counters may be read by any thread.
 */
#ifndef CACHET_META_VFS_H
#define CACHET_META_VFS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "base/secret.h"

struct vfs;

struct vfs_options {
	const struct secret *key; /* index key, 32 bytes */
	const char *base;         /* VFS beneath; NULL = "unix-excl" */
	bool page1_in_wal; /* the log holds a committed page 1: the one on disk may be torn */
	int (*before_sync)(void *arg); /* before each sync of the log, but that of a fresh header;
					  may be NULL */
	void *before_sync_arg;
};

int vfs_new(const struct vfs_options *o, struct vfs **out) MUST_CHECK;
/* After the connection is closed. NULL-safe. */
void vfs_free(struct vfs *v);
/* For sqlite3_open_v2. */
const char *vfs_name(const struct vfs *v);

/*
 * Runs the hook, and syncs the log if frames were written since the last time.
 * All frames whose writing ended before the call are durable when it returns 0. Calls must not
 * overlap. After a failed sync (vfs_wal_suspect) no write may run beside the next one: the kernel
 * may have called the lost pages clean, so they are written again first.
 */
int vfs_wal_sync(struct vfs *v) MUST_CHECK;
bool vfs_wal_suspect(const struct vfs *v);
/* Frames were written that no sync covers yet. */
bool vfs_wal_dirty(const struct vfs *v);

/* The hook alone. */
int vfs_before_sync(struct vfs *v) MUST_CHECK;
/* While set, syncs go without the hook: it has run after all that will be committed. Under the lock
 * of the owner, with no sync running. */
void vfs_hook_has_run(struct vfs *v, bool yes);

/*
 * While the index is sealed anew (db_rekey.c): each page that is written to the main file is also
 * sealed under `keys` and written to `fd` at its place. `fd` -1: not any more. Both are the
 * caller's. vfs_mirror_error: the first failure since. Under the lock of the owner.
 */
struct page_keys;
void vfs_mirror(struct vfs *v, int fd, const struct page_keys *keys);
int vfs_mirror_error(const struct vfs *v);
/* The keys that the pages are sealed under now. */
const struct page_keys *vfs_keys(const struct vfs *v);

/* Sizes of the files now. */
uint64_t vfs_main_bytes(const struct vfs *v);
uint64_t vfs_wal_bytes(const struct vfs *v);
/* The most that the main file takes before, while and after what the log holds is moved into it;
 * known from the first commit after the opening on. */
uint64_t vfs_main_bytes_bound(const struct vfs *v);

/* CE_TAMPER once a page or frame failed to authenticate, else 0. */
int vfs_tampered(const struct vfs *v);
/* The error of the hook since the last call, or 0. */
int vfs_take_hook_error(struct vfs *v);

#endif
