/*
 * The mount: libfuse3's low-level API over a volume and its sync.
 *
 *     fs_new → fs_mount → fs_run (serves until unmounted or fs_stop) → fs_free
 *
 * A nodeid names (object, version), see DESIGN "versions and handles": fs/node.h. Metadata is answered from the index and never waits for the
 * network; content and directories never listed wait: interruptibly, up to the deadline, then EHOSTUNREACH.
 * Invalidations go through a thread of their own that holds nothing (fs/notify.h).
 *
 * Crash (SIGKILL): the kernel keeps the dead mount; `cachet mount` over it detaches it first (fs_detach_stale).
 */
#ifndef CACHET_FS_FS_H
#define CACHET_FS_FS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/macros.h"
#include "cache/volume.h"
#include "sync/sync.h"

struct fs;

/* A file of the hidden directory (fs/hidden.h): print() says what is in it now; the caller frees *text. */
struct fs_hidden_file {
	const char *name;
	int (*print)(void *arg, char **text, size_t *len);
};

struct fs_options {
	struct volume *volume; /* borrowed */
	struct sync *sync;     /* borrowed; NULL = no origin (tests) */
	const char *mountpoint;
	bool allow_other;
	bool read_only;
	const char *no_download; /* programs that get only what is here: names, separated by commas; or NULL */
	unsigned threads;      /* 0 = default */
	unsigned deadline_ms;  /* 0 = SYNC_FETCH_DEADLINE_MS */
	const struct fs_hidden_file *hidden; /* borrowed; NULL: there is no such directory */
	size_t n_hidden;
	void *hidden_arg;
	unsigned entry_ttl_ms, attr_ttl_ms; /* 0 = default: infinite while coherent */
};

int fs_new(const struct fs_options *o, struct fs **out, char **error) MUST_CHECK;
/* *error: a sentence (mount point missing, not a directory, not empty, no /dev/fuse ...). */
int fs_mount(struct fs *f, char **error) MUST_CHECK;
/* Serves in its own threads; returns 0 when unmounted or stopped. */
int fs_run(struct fs *f) MUST_CHECK;
/* Any thread, also from a signal-handling thread: unmounts and makes fs_run return. */
void fs_stop(struct fs *f);

/*
 * Locking without unmounting (fs/gate.h):
 *   fs_lock_begin   programs are refused (EACCES); the kernel's pages are dropped, dirty ones are taken first;
 *                   how many files could not be laundered
 *   fs_lock         waits for operations under way, then calls `lock`, which may do with volume and sync what it likes
 *   fs_unlock       calls `unlock`; on success goes on with the sync it gives
 */
unsigned fs_lock_begin(struct fs *f);
void fs_lock(struct fs *f, void (*lock)(void *arg), void *arg);
int fs_unlock(struct fs *f, int (*unlock)(void *arg, struct sync **sync), void *arg) MUST_CHECK;
/* Milliseconds since a program last asked for anything. */
int64_t fs_idle_ms(const struct fs *f);

/*
 * Recording of what the process `pid` and its descendants open: one at a time (-EBUSY). The end tells each object once; -ENOENT when
 * that process is not recorded.
 */
int fs_record_begin(struct fs *f, pid_t pid) MUST_CHECK;
int fs_record_end(struct fs *f, pid_t pid, int (*fn)(void *arg, uint64_t object), void *arg) MUST_CHECK;

void fs_free(struct fs *f);

/* A mount whose daemon is gone. */
bool fs_is_stale(const char *mountpoint);
/* Detaches a dead cachet mount ("transport endpoint is not connected") at `mountpoint`; 0 also when there was none. */
int fs_detach_stale(const char *mountpoint, char **error) MUST_CHECK;

#endif
