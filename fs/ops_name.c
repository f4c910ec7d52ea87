/* Operations on names: lookup, make, link, rename, remove. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cache/queries.h"
#include "fs/fs_priv.h"
#include "fs/notify.h"

/* An answer of a query (cache/queries.h): one that is not here is asked for now, one that is here is
 * served and asked for again in the background. */
static int lookup_answer(
	fuse_req_t req, uint64_t dir, const char *name, int r, struct tree_attr *a)
{
	struct fs *f = fs_of(req);

	if (r == CE_ABSENT) {
		r = fs_wait_query(req, dir, name);
		if (!r)
			notify_listing_now(f, dir);
		return r ? r : tree_lookup(f->volume, dir, name, a);
	}
	if (r == 0 && S_ISREG(a->mode) && f->sync && queries_is(f->volume, a->store) &&
		sync_query(f->sync, dir, name, false, 0, NULL))
		log_debug("an answer cannot be asked for again");
	return r;
}

/* "Not there" is answered as an entry without an inode, which the kernel may remember; unknown is
 * an error. */
static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *f = fs_of(req);
	uint64_t dir = fs_node(f, parent)->object;
	struct fuse_entry_param none = {0};
	struct tree_attr a;
	int known = FS_LISTED(req, tree_lookup(f->volume, dir, name, &a));
	int r = lookup_answer(req, dir, name, known, &a);

	if (r == 0) {
		fs_reply_entry(req, &a, false);
	} else if (r == -ENOENT && known == r) {
		none.entry_timeout = fs_entry_ttl(f, 0);
		fuse_reply_entry(req, &none);
	} else {
		fs_reply_code(req, r);
	}
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	struct fs *f = fs_of(req);

	if (ino != FUSE_ROOT_ID)
		node_forget(f->nodes, fs_node(f, ino), count);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t n, struct fuse_forget_data *forgets)
{
	struct fs *f = fs_of(req);

	for (size_t i = 0; i < n; i++) {
		if (forgets[i].ino != FUSE_ROOT_ID)
			node_forget(f->nodes, fs_node(f, forgets[i].ino), forgets[i].nlookup);
	}
	fuse_reply_none(req);
}

static struct tree_cred op_cred(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	return (struct tree_cred){.uid = ctx->uid, .gid = ctx->gid};
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct fs *f = fs_of(req);
	struct tree_cred cred = op_cred(req);
	uint64_t dir = fs_node(f, parent)->object;
	struct tree_attr a;
	int r = FS_LISTED(req, tree_mknod(f->volume, dir, name, mode, rdev, &cred, &a));

	if (r)
		fs_reply_code(req, r);
	else
		fs_reply_entry(req, &a, true);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct fs *f = fs_of(req);
	struct tree_cred cred = op_cred(req);
	uint64_t dir = fs_node(f, parent)->object;
	struct tree_attr a;
	int r = FS_LISTED(req, tree_mkdir(f->volume, dir, name, mode, &cred, &a));

	if (r)
		fs_reply_code(req, r);
	else
		fs_reply_entry(req, &a, true);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct fs *f = fs_of(req);
	struct tree_cred cred = op_cred(req);
	uint64_t dir = fs_node(f, parent)->object;
	struct tree_attr a;
	int r = FS_LISTED(req, tree_symlink(f->volume, dir, name, target, &cred, &a));

	if (r)
		fs_reply_code(req, r);
	else
		fs_reply_entry(req, &a, true);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *name)
{
	struct fs *f = fs_of(req);
	uint64_t object = fs_node(f, ino)->object, dir = fs_node(f, new_parent)->object;
	struct tree_attr a;
	int r = FS_LISTED(req, tree_link(f->volume, object, dir, name, &a));

	if (r)
		fs_reply_code(req, r);
	else
		fs_reply_entry(req, &a, false);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *f = fs_of(req);
	uint64_t dir = fs_node(f, parent)->object;

	fs_reply_code(req, FS_LISTED(req, tree_unlink(f->volume, dir, name)));
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *f = fs_of(req);
	uint64_t dir = fs_node(f, parent)->object;

	fs_reply_code(req, FS_LISTED(req, tree_rmdir(f->volume, dir, name)));
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	const char *new_name, unsigned flags)
{
	struct fs *f = fs_of(req);
	uint64_t from = fs_node(f, parent)->object, to = fs_node(f, new_parent)->object;

	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) {
		fs_reply_code(req, -EINVAL);
		return;
	}
	fs_reply_code(req, FS_LISTED(req, tree_rename(f->volume, from, name, to, new_name, flags)));
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *f = fs_of(req);
	_cleanup_free_ char *target = NULL;
	int r = tree_readlink(f->volume, fs_node(f, ino)->object, &target);

	if (r)
		fs_reply_code(req, r);
	else
		fuse_reply_readlink(req, target);
}

void ops_name_fill(struct fuse_lowlevel_ops *ops)
{
	ops->lookup = op_lookup;
	ops->forget = op_forget;
	ops->forget_multi = op_forget_multi;
	ops->mknod = op_mknod;
	ops->mkdir = op_mkdir;
	ops->symlink = op_symlink;
	ops->link = op_link;
	ops->unlink = op_unlink;
	ops->rmdir = op_rmdir;
	ops->rename = op_rename;
	ops->readlink = op_readlink;
}
