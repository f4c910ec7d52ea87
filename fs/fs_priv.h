/*
 * The body of a mount and the calls between the files of fs/. For fs/ only.
 *
 * Every operation is decode, call, reply: no state of its own beyond nodes and handles. An
 * operation that finds content or a listing missing waits through fs_wait_content or fs_wait_listed
 * and calls again.
 *
 * Locks: none is held across a call into cache/ or sync/, a reply or a notification.
 */
#ifndef CACHET_FS_FS_PRIV_H
#define CACHET_FS_FS_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include <fuse_lowlevel.h>

#include "base/error.h"
#include "cache/file.h"
#include "cache/tree.h"
#include "fs/fs.h"
#include "fs/gate.h"
#include "fs/node.h"

#define FS_TTL_FOREVER_S 1e8
#define FS_TTL_STALE_S 1.0

struct loop;
struct notify;

/* An operation that waits for the network; lives on its stack. */
struct fs_wait {
	struct sync_cancel cancel;
	struct sync *sync;
	struct fs_wait *next, **link;
};

struct fs {
	struct volume *volume;
	struct sync *sync;
	char *mountpoint;
	bool allow_other, read_only;
	char *no_download; /* names of programs, or NULL */
	bool kill_priv;      /* ours to clear suid and sgid: set by init */
	bool no_opendir;     /* the kernel can do without: set by init */
	bool answering_init; /* the next answer is the one to INIT; its thread only */
	unsigned threads, deadline_ms;
	double entry_ttl, attr_ttl; /* seconds; negative = by coherence */

	const struct fs_hidden_file *hidden;
	size_t n_hidden;
	void *hidden_arg;
	struct timespec mounted_at;

	struct fuse_session *session;
	struct node_table *nodes;
	struct node *root;
	struct loop *loop;
	struct notify *notify;
	dev_t device;

	bool attached; /* the session has a device */
	atomic_bool stopping, mounted;
	pthread_mutex_t stop_lock; /* leaf: the four below */
	pthread_cond_t stop_done;
	bool stop_started, stop_ended;
	pthread_t stopper;
	atomic_bool coherent; /* as sync_status said at coherent_ms */
	atomic_llong coherent_ms;

	struct gate gate;

	struct fs_record {
		pthread_mutex_t lock; /* leaf */
		_Atomic pid_t pid;    /* 0: nothing is recorded; written under lock */
		uint64_t *objects;    /* lock, as what follows */
		size_t n, cap;
	} record;

	pthread_mutex_t waits_lock; /* leaf: guards the list, and a wait's membership */
	struct fs_wait *waits;
};

static inline struct fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static inline struct node *fs_node(struct fs *f, fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? f->root : (struct node *)(uintptr_t)ino;
}

/* --- fs_reply.c --- */
void fs_stat(const struct tree_attr *a, struct stat *st);
double fs_entry_ttl(struct fs *f, uint64_t store);
double fs_attr_ttl(struct fs *f, uint64_t store);
void fs_reply_code(fuse_req_t req, int code);
void fs_reply_attr(fuse_req_t req, struct node *n, const struct tree_attr *a);
/* Takes a lookup reference for the kernel; given back when the reply does not arrive. `fresh`: made
 * by this call, so without xattrs. */
void fs_reply_entry(fuse_req_t req, const struct tree_attr *a, bool fresh);
/* Fills *e with a node that counts one lookup more. */
int fs_entry(struct fs *f, const struct tree_attr *a, struct fuse_entry_param *e) MUST_CHECK;

/* --- fs_wait.c: 0 when what was missing may be here now. CE_OFFLINE when there is nobody to ask.
 * --- */
int fs_wait_listed(fuse_req_t req) MUST_CHECK;
int fs_wait_content(fuse_req_t req, struct file *file, uint64_t off, uint64_t len) MUST_CHECK;
/* Before an open: may this version be served by the rules of its store? */
int fs_wait_fresh(fuse_req_t req, uint64_t object, uint64_t version) MUST_CHECK;
/* Brings the whole file here if anything is missing: before the first write or truncation. */
int fs_wait_whole(fuse_req_t req, struct file *file) MUST_CHECK;
/* Asks the origin for an answer of a query that is not here. */
int fs_wait_query(fuse_req_t req, uint64_t dir, const char *name) MUST_CHECK;
void fs_wait_cancel_all(struct fs *f);

/* Calls `expr`, and once more after the listing when the store was never listed. */
#define FS_LISTED(req, expr)                                                                       \
	({                                                                                         \
		int r_ = (expr);                                                                   \
		if (r_ == CE_ABSENT) {                                                             \
			r_ = fs_wait_listed(req);                                                  \
			if (r_ == 0)                                                               \
				r_ = (expr);                                                       \
		}                                                                                  \
		r_;                                                                                \
	})

/* --- ops_*.c: each puts its operations into the table --- */
void ops_attr_fill(struct fuse_lowlevel_ops *ops);
void ops_dir_fill(struct fuse_lowlevel_ops *ops);
void ops_file_fill(struct fuse_lowlevel_ops *ops);
void ops_name_fill(struct fuse_lowlevel_ops *ops);
void ops_xattr_fill(struct fuse_lowlevel_ops *ops);

/* --- refuse.c --- */
/* Is it one of the programs that get only what is here? */
bool refuse_download(fuse_req_t req);

/* --- record.c --- */
void record_open(fuse_req_t req, uint64_t object);

/* Clears suid, and sgid where the group may execute, as write(2) and chown(2) ask. */
int ops_attr_kill_priv(struct fs *f, const struct node *n) MUST_CHECK;

#endif
