/* Replies, and what every one of them needs: attributes, time-outs, nodes. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/queries.h"
#include "fs/fs_priv.h"

#define COHERENT_CHECK_MS 200

static struct timespec fs_time(int64_t ns)
{
	int64_t s = ns / NS_PER_SEC, rest = ns % NS_PER_SEC;

	if (rest < 0) {
		s--;
		rest += NS_PER_SEC;
	}
	return (struct timespec){.tv_sec = s, .tv_nsec = rest};
}

void fs_stat(const struct tree_attr *a, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_ino = a->object;
	st->st_mode = a->mode;
	st->st_nlink = a->nlink;
	st->st_uid = a->uid;
	st->st_gid = a->gid;
	st->st_rdev = a->rdev;
	st->st_size = (off_t)a->size;
	st->st_blocks = (blkcnt_t)a->blocks;
	/* The unit in which blobs take space. */
	st->st_blksize = 4096;
	st->st_atim = fs_time(a->atime_ns);
	st->st_mtim = fs_time(a->mtime_ns);
	st->st_ctim = fs_time(a->ctime_ns);
}

static int64_t fs_coarse_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return t.tv_sec * 1000 + t.tv_nsec / NS_PER_MS;
}

/* Whether every change of the origin reaches us by itself; asked a few times a second at most. */
static bool fs_is_coherent(struct fs *f)
{
	struct sync_status status;
	int64_t now;

	if (!f->sync)
		return true;
	now = fs_coarse_ms();
	if (now - atomic_load(&f->coherent_ms) >= COHERENT_CHECK_MS) {
		sync_status(f->sync, &status);
		atomic_store(&f->coherent, status.feed_live);
		atomic_store(&f->coherent_ms, now);
	}
	return atomic_load(&f->coherent);
}

/* Infinite while every change of this store reaches us by itself and its rule does not ask for more. */
static double fs_ttl(struct fs *f, double configured, uint64_t store)
{
	struct sync_freshness fresh;
	bool coherent = fs_is_coherent(f);

	if (configured >= 0)
		return configured;
	if (coherent && f->sync && sync_has_rules(f->sync)) {
		sync_freshness(f->sync, store, &fresh);
		coherent = fresh.live && !fresh.strict;
	}
	return coherent ? FS_TTL_FOREVER_S : FS_TTL_STALE_S;
}

double fs_entry_ttl(struct fs *f, uint64_t store)
{
	return fs_ttl(f, f->entry_ttl, store);
}

double fs_attr_ttl(struct fs *f, uint64_t store)
{
	return fs_ttl(f, f->attr_ttl, store);
}

void fs_reply_code(fuse_req_t req, int code)
{
	fuse_reply_err(req, error_errno(code));
}

void fs_reply_attr(fuse_req_t req, struct node *n, const struct tree_attr *a)
{
	struct stat st;

	node_note_mode(n, a->mode);
	fs_stat(a, &st);
	fuse_reply_attr(req, &st, fs_attr_ttl(fs_of(req), a->store));
}

int fs_entry(struct fs *f, const struct tree_attr *a, struct fuse_entry_param *e)
{
	struct node *n;
	int r = node_get(f->nodes, a->object, a->version, &n);

	if (r)
		return r;
	node_note_mode(n, a->mode);
	memset(e, 0, sizeof(*e));
	e->ino = n == f->root ? FUSE_ROOT_ID : (uintptr_t)n;
	e->entry_timeout = fs_entry_ttl(f, a->store);
	e->attr_timeout = fs_attr_ttl(f, a->store);
	/* Nobody says when an answer changes: the kernel has to ask. */
	if (S_ISREG(a->mode) && queries_is(f->volume, a->store))
		e->entry_timeout = MIN_OF(e->entry_timeout, FS_TTL_STALE_S);
	fs_stat(a, &e->attr);
	return 0;
}

void fs_reply_entry(fuse_req_t req, const struct tree_attr *a, bool fresh)
{
	struct fs *f = fs_of(req);
	struct fuse_entry_param e;
	int r = fs_entry(f, a, &e);

	if (r) {
		fs_reply_code(req, r);
		return;
	}
	if (fresh)
		node_no_xattrs(fs_node(f, e.ino));
	if (fuse_reply_entry(req, &e))
		node_forget(f->nodes, fs_node(f, e.ino), 1);
}
