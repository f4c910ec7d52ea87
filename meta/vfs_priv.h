/* The inside of the sealed VFS, shared by vfs.c (object, main file) and vfs_wal.c (the log). */
#ifndef CACHET_META_VFS_PRIV_H
#define CACHET_META_VFS_PRIV_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>

#include "meta/page.h"
#include "meta/vfs.h"

struct vfs_file {
	sqlite3_file base; /* first: SQLite's view */
	struct vfs *vfs;
	sqlite3_file *real;             /* behind this struct */
	uint8_t staged[PAGE_FRAME_LEN]; /* sealed bytes on their way to or from `real` */
	/* The log only: */
	bool held; /* `held_header` of the frame at held_offset waits for its payload */
	uint64_t held_offset;
	uint8_t held_header[PAGE_FRAME_HEADER_LEN];
	uint64_t whole_read; /* offset of the frame that was just read whole, or UINT64_MAX */
};

struct vfs {
	sqlite3_vfs vfs; /* first: SQLite's view */
	sqlite3_vfs *base;
	char name[32];
	struct page_keys keys;
	bool page1_in_wal;
	int (*before_sync)(void *arg);
	void *before_sync_arg;
	bool hook_has_run;
	int mirror_fd; /* -1: none; the lock of the connection's owner guards all three */
	int mirror_error;
	const struct page_keys *mirror_keys;

	struct vfs_file *wal; /* while open */
	_Atomic uint64_t main_bytes, wal_bytes;
	_Atomic uint64_t logical_bytes; /* of the main file with the log in it */
	_Atomic bool tampered;
	_Atomic int hook_error;

	pthread_mutex_t sync_lock; /* one sync of the log at a time; taken before `state` */
	pthread_mutex_t state;     /* leaf; guards what follows */
	uint64_t written;          /* writes to the log, counted */
	uint64_t frame_written;    /* `written` at the last frame */
	uint64_t synced;           /* `written` that is durable, the hook having run after it */
	uint64_t log;              /* counts restarts of the log */
	uint32_t commit_end;       /* frames up to and with the last commit mark written */
	uint32_t durable;          /* as commit_end, durable */
	bool suspect;              /* the last sync failed */
};

/* vfs_wal.c */
extern const sqlite3_io_methods vfs_wal_methods;
void vfs_wal_init(struct vfs_file *f);

/*
 * vfs.c: base->xOpen to read and write, or not at all. By itself it falls back to reading whatever the reason (no descriptor
 * left, a bad disk), and the file then refuses all writes for as long as it is open.
 */
int vfs_open_real(sqlite3_vfs *base, const char *name, sqlite3_file *file, int flags);

/* vfs.c: methods both kinds of file share, and helpers. */
static inline struct vfs_file *vfs_file_of(sqlite3_file *file)
{
	return (struct vfs_file *)file;
}

/* A read of a bad sector is told as VFS_REFUSED too: SQLite takes it for plain corruption. */
int vfs_file_read(struct vfs_file *f, void *buf, int len, uint64_t at);
int vfs_file_close(sqlite3_file *file);
int vfs_file_size(sqlite3_file *file, sqlite3_int64 *size);
int vfs_file_lock(sqlite3_file *file, int level);
int vfs_file_unlock(sqlite3_file *file, int level);
int vfs_file_check_reserved(sqlite3_file *file, int *out);
int vfs_file_control(sqlite3_file *file, int op, void *arg);
int vfs_file_sector_size(sqlite3_file *file);
int vfs_file_characteristics(sqlite3_file *file);
/*
 * What SQLite is told of a page or frame that does not authenticate. Plain SQLITE_CORRUPT inside a
 * transaction makes it refuse all changes until that is rolled back; ours is long, and other files
 * are not to suffer. (Who changes something must roll back when it fails with this.)
 */
#define VFS_REFUSED SQLITE_CORRUPT_INDEX

/* Remembers the tampering; returns VFS_REFUSED. */
int vfs_refuse(struct vfs *v);
/* What page_open or page_frame_open says, as a code of SQLite: only what is not authentic is
 * refused. */
int vfs_judge(struct vfs *v, int opened);

#endif
