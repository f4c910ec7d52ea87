/*
 * Directories. There is no state between calls: an offset is the row number of a name (+2, for "."
 * and ".."), which does not change while other names come and go, so that a listing is right while
 * it is deleted.
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "fs/fs_priv.h"
#include "fs/loop.h"

#define DIR_DOTS 2

struct listing {
	fuse_req_t req;
	struct fs *fs;
	bool plus;
	char *buf;
	size_t len, used;
	int error;
};

/* 1 when the buffer is full. */
static int listing_add(struct listing *l, const char *name, off_t next, const struct stat *st)
{
	size_t need = fuse_add_direntry(l->req, l->buf + l->used, l->len - l->used, name, st, next);

	if (need > l->len - l->used)
		return 1;
	l->used += need;
	return 0;
}

static int listing_add_plus(
	struct listing *l, const char *name, off_t next, const struct fuse_entry_param *e)
{
	size_t need =
		fuse_add_direntry_plus(l->req, l->buf + l->used, l->len - l->used, name, e, next);

	if (need > l->len - l->used)
		return 1;
	l->used += need;
	return 0;
}

/* An entry that the kernel gets counts as a lookup; one that does not fit must not. */
static int listing_entry_plus(
	struct listing *l, const char *name, off_t next, const struct tree_attr *a)
{
	struct fuse_entry_param e;

	if (fuse_add_direntry_plus(l->req, NULL, 0, name, NULL, 0) > l->len - l->used)
		return 1;
	l->error = fs_entry(l->fs, a, &e);
	if (l->error)
		return 1;
	return listing_add_plus(l, name, next, &e);
}

static int listing_entry(void *arg, const char *name, uint64_t cookie, const struct tree_attr *a)
{
	struct listing *l = arg;
	off_t next = (off_t)(cookie + DIR_DOTS);
	struct stat st;

	if (l->plus)
		return listing_entry_plus(l, name, next, a);
	fs_stat(a, &st);
	return listing_add(l, name, next, &st);
}

/* "." and "..": never with a node, the kernel has those. */
static int listing_dot(struct listing *l, const char *name, off_t next, uint64_t object)
{
	struct fuse_entry_param e = {.attr = {.st_ino = object, .st_mode = S_IFDIR}};

	return l->plus ? listing_add_plus(l, name, next, &e) : listing_add(l, name, next, &e.attr);
}

static int listing_fill(struct listing *l, const struct node *dir, uint64_t off)
{
	uint64_t parent;

	if (off < 1 && listing_dot(l, ".", 1, dir->object))
		return 0;
	if (off < DIR_DOTS) {
		if (tree_parent(l->fs->volume, dir->object, &parent))
			parent = dir->object;
		if (listing_dot(l, "..", DIR_DOTS, parent))
			return 0;
	}
	return FS_LISTED(l->req, tree_readdir(l->fs->volume, dir->object,
					 off > DIR_DOTS ? off - DIR_DOTS : 0, listing_entry, l));
}

/* Entries already in the buffer hold lookups: an error in the middle is answered at the next call.
 */
static void listing_reply(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
	struct fs *f = fs_of(req);
	struct listing l = {
		.req = req, .fs = f, .plus = plus, .buf = loop_scratch(size), .len = size};
	int r;

	if (!l.buf) {
		fs_reply_code(req, -ENOMEM);
		return;
	}
	r = listing_fill(&l, fs_node(f, ino), (uint64_t)off);
	if (r == 0)
		r = l.error;
	if (r && l.used == 0)
		fs_reply_code(req, r);
	else
		fuse_reply_buf(req, l.buf, l.used);
}

static void op_readdir(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	listing_reply(req, ino, size, off, false);
}

static void op_readdirplus(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	listing_reply(req, ino, size, off, true);
}

/* Nothing to remember: where the kernel can do without opendir it is told so, and keeps the listing
 * until a change is notified. */
static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (fs_of(req)->no_opendir) {
		fuse_reply_err(req, ENOSYS);
		return;
	}
	fi->keep_cache = 1;
	fi->cache_readdir = 1;
	fuse_reply_open(req, fi);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fuse_reply_err(req, 0);
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	if (!loop_yield())
		log_debug("fsyncdir: no other thread");
	fs_reply_code(req, volume_sync(fs_of(req)->volume));
}

void ops_dir_fill(struct fuse_lowlevel_ops *ops)
{
	ops->opendir = op_opendir;
	ops->readdir = op_readdir;
	ops->readdirplus = op_readdirplus;
	ops->releasedir = op_releasedir;
	ops->fsyncdir = op_fsyncdir;
}
