/* Attributes: getattr, setattr, statfs. */
#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/space.h"
#include "fs/fs_priv.h"
#include "fs/handle.h"

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *f = fs_of(req);
	struct node *n = fs_node(f, ino);
	struct tree_attr a;
	int r = tree_getattr(f->volume, n->object, n->version, &a);

	if (r)
		fs_reply_code(req, r);
	else
		fs_reply_attr(req, n, &a);
}

static int64_t attr_ns(struct timespec t)
{
	return t.tv_sec * NS_PER_SEC + t.tv_nsec;
}

/* What the kernel names in `valid`, for tree_setattr. */
static unsigned attr_mask(const struct stat *st, int valid, struct tree_attr *set)
{
	int64_t now =
		valid & (FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW) ? clock_file_ns() : 0;
	unsigned mask = 0;

	if (valid & FUSE_SET_ATTR_MODE) {
		set->mode = st->st_mode;
		mask |= TREE_SET_MODE;
	}
	if (valid & FUSE_SET_ATTR_UID) {
		set->uid = st->st_uid;
		mask |= TREE_SET_UID;
	}
	if (valid & FUSE_SET_ATTR_GID) {
		set->gid = st->st_gid;
		mask |= TREE_SET_GID;
	}
	if (valid & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW)) {
		set->atime_ns = valid & FUSE_SET_ATTR_ATIME_NOW ? now : attr_ns(st->st_atim);
		mask |= TREE_SET_ATIME;
	}
	if (valid & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) {
		set->mtime_ns = valid & FUSE_SET_ATTR_MTIME_NOW ? now : attr_ns(st->st_mtim);
		mask |= TREE_SET_MTIME;
	}
	return mask;
}

static int attr_truncate(
	fuse_req_t req, const struct node *n, uint64_t size, struct fuse_file_info *fi)
{
	struct file *file;
	int r;

	if (fi) {
		file = handle_file(fi);
		r = size ? fs_wait_whole(req, file) : 0;
		return r ? r : file_truncate(file, size);
	}
	r = file_open(fs_of(req)->volume, n->object, n->version, true, &file);
	if (r)
		return r;
	r = size ? fs_wait_whole(req, file) : 0;
	if (r == 0)
		r = file_truncate(file, size);
	file_unref(file, true);
	return r;
}

static int attr_kill(struct fs *f, const struct node *n, struct tree_attr *a)
{
	uint32_t mode = a->mode & ~(uint32_t)S_ISUID;
	struct tree_attr set;

	if (mode & S_IXGRP)
		mode &= ~(uint32_t)S_ISGID;
	if (mode == a->mode || S_ISDIR(mode))
		return 0;
	set.mode = mode;
	return tree_setattr(f->volume, n->object, n->version, &set, TREE_SET_MODE, a);
}

int ops_attr_kill_priv(struct fs *f, const struct node *n)
{
	struct tree_attr a;
	int r;

	if (!atomic_load_explicit(&n->privileged, memory_order_relaxed))
		return 0;
	r = tree_getattr(f->volume, n->object, n->version, &a);
	return r ? r : attr_kill(f, n, &a);
}

/* The kernel says when a chown or truncation is to clear suid and sgid (libfuse calls the flag by
 * an older name); a mode that is set in the same call stands. */
static bool attr_must_kill(const struct fs *f, int valid)
{
	return f->kill_priv && (valid & FUSE_SET_ATTR_KILL_SUID) && !(valid & FUSE_SET_ATTR_MODE);
}

static int attr_set(fuse_req_t req, struct node *n, const struct stat *st, int valid,
	struct fuse_file_info *fi, struct tree_attr *out)
{
	struct volume *v = fs_of(req)->volume;
	struct tree_attr set;
	unsigned mask;
	int r = 0;

	if (valid & FUSE_SET_ATTR_SIZE)
		r = attr_truncate(req, n, (uint64_t)st->st_size, fi);
	if (r)
		return r;
	mask = attr_mask(st, valid, &set);
	if (mask == 0)
		return tree_getattr(v, n->object, n->version, out);
	return tree_setattr(v, n->object, n->version, &set, mask, out);
}

static void op_setattr(
	fuse_req_t req, fuse_ino_t ino, struct stat *st, int valid, struct fuse_file_info *fi)
{
	struct fs *f = fs_of(req);
	struct node *n = fs_node(f, ino);
	struct tree_attr a;
	int r;

	if ((valid & FUSE_SET_ATTR_SIZE) && (st->st_size < 0 || st->st_size > FILE_SIZE_MAX)) {
		fs_reply_code(req, -EFBIG);
		return;
	}
	r = attr_set(req, n, st, valid, fi, &a);
	if (r == 0 && attr_must_kill(f, valid))
		r = attr_kill(f, n, &a);
	if (r)
		fs_reply_code(req, r);
	else
		fs_reply_attr(req, n, &a);
}

/* Free is what a writer could have: the limit less what cannot be evicted. Files are not counted: that
 * would take as long as there are many. */
static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *f = fs_of(req);
	struct space_info space;
	struct statvfs st = { .f_bsize = 4096, .f_frsize = 4096, .f_namemax = 255 };
	uint64_t taken;

	space_info(f->volume, &space);
	taken = MIN_OF(space.limit, space.unsent + space.reserved);
	st.f_blocks = space.limit / st.f_frsize;
	st.f_bfree = (space.limit - taken) / st.f_frsize;
	st.f_bavail = st.f_bfree;
	st.f_files = st.f_ffree = st.f_favail = st.f_bfree;
	fuse_reply_statfs(req, &st);
}

void ops_attr_fill(struct fuse_lowlevel_ops *ops)
{
	ops->getattr = op_getattr;
	ops->setattr = op_setattr;
	ops->statfs = op_statfs;
}
