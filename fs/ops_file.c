/* Open files: open, create, read, write, flush, fsync, release, fallocate, lseek. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/log.h"
#include "cache/space.h"
#include "fs/fs_priv.h"
#include "fs/handle.h"
#include "fs/loop.h"

#define READ_ROUNDS 4            /* fetched content may be evicted before it is read */
#define YIELD_BYTES (256 * 1024) /* a read from which on another thread takes the next request */

static bool open_writes(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
}

/* A version never changes behind the kernel's back, so its pages stay. When space is short write(2)
 * itself must say so. */
static void open_flags(struct fs *f, struct fuse_file_info *fi, bool writer)
{
	fi->keep_cache = 1;
	fi->noflush = !writer;
	if (writer && space_is_tight(f->volume)) {
		fi->direct_io = 1;
		fi->keep_cache = 0;
	}
}

/* O_TRUNC needs nothing of the old content; any other writer needs all of it, as the kernel's
 * write-back must never wait for the network. */
static int open_prepare(fuse_req_t req, struct node *n, struct file *file, int flags)
{
	struct fs *f = fs_of(req);
	int r;

	if (!(flags & O_TRUNC))
		return fs_wait_whole(req, file);
	r = file_truncate(file, 0);
	if (r == 0 && f->kill_priv && fuse_req_ctx(req)->uid != 0)
		r = ops_attr_kill_priv(f, n);
	return r;
}

/* On failure nothing is left open. */
static int open_node(fuse_req_t req, struct node *n, int flags, bool writer, struct file **out)
{
	struct file *file;
	int r = fs_wait_fresh(req, n->object, n->version);

	if (!r)
		r = file_open(fs_of(req)->volume, n->object, n->version, writer, &file);
	if (r)
		return r;
	node_open(n, writer);
	if (writer)
		r = open_prepare(req, n, file, flags);
	if (r) {
		node_close(n, writer);
		file_unref(file, writer);
		return r;
	}
	*out = file;
	return 0;
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *f = fs_of(req);
	struct node *n = fs_node(f, ino);
	bool writer = open_writes(fi->flags);
	struct file *file;
	int r = open_node(req, n, fi->flags, writer, &file);

	if (r) {
		fs_reply_code(req, r);
		return;
	}
	record_open(req, n->object);
	fi->fh = handle_make(file, writer);
	open_flags(f, fi, writer);
	if (fuse_reply_open(req, fi)) {
		node_close(n, writer);
		file_unref(file, writer);
	}
}

static void create_reply(
	fuse_req_t req, const struct tree_attr *a, struct file *file, struct fuse_file_info *fi)
{
	struct fs *f = fs_of(req);
	struct fuse_entry_param e;
	struct node *n;
	int r = fs_entry(f, a, &e);

	if (r) {
		file_unref(file, true);
		fs_reply_code(req, r);
		return;
	}
	n = fs_node(f, e.ino);
	node_open(n, true);
	node_no_xattrs(n);
	fi->fh = handle_make(file, true);
	open_flags(f, fi, true);
	if (fuse_reply_create(req, &e, fi)) {
		node_close(n, true);
		node_forget(f->nodes, n, 1);
		file_unref(file, true);
	}
}

static void op_create(
	fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct fs *f = fs_of(req);
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct tree_cred cred = { .uid = ctx->uid, .gid = ctx->gid };
	uint64_t dir = fs_node(f, parent)->object;
	struct tree_attr a;
	struct file *file;
	int r;

	r = FS_LISTED(
		req, tree_mknod(f->volume, dir, name, S_IFREG | (mode & 07777), 0, &cred, &a));
	if (r == 0)
		r = file_open(f->volume, a.object, a.version, true, &file);
	if (r)
		fs_reply_code(req, r);
	else
		create_reply(req, &a, file, fi);
}

static int read_all(
	fuse_req_t req, struct file *file, void *buf, size_t len, uint64_t off, size_t *got)
{
	int r = 0;

	for (unsigned i = 0; i < READ_ROUNDS; i++) {
		r = file_read(file, buf, len, off, got);
		if (!r && file_read_to(file, off + *got) && !refuse_download(req))
			sync_read_on(fs_of(req)->sync, file, off);
		if (r != CE_ABSENT)
			return r;
		r = fs_wait_content(req, file, off, len);
		if (r)
			return r;
	}
	return r ? r : CE_ABSENT;
}

static void op_read(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	size_t got = 0;
	void *buf = loop_scratch(size);
	int r = -ENOMEM;

	if (size >= YIELD_BYTES && !loop_yield())
		log_debug("read: no other thread");
	if (buf)
		r = read_all(req, handle_file(fi), buf, size, (uint64_t)off, &got);
	if (r)
		fs_reply_code(req, r);
	else
		fuse_reply_buf(req, buf, got);
}

/* A write that does not come from the page cache is a program's own: it clears suid, unless it is
 * root's. */
static int write_kill_priv(fuse_req_t req, fuse_ino_t ino, const struct fuse_file_info *fi)
{
	struct fs *f = fs_of(req);

	if (fi->writepage || !f->kill_priv || fuse_req_ctx(req)->uid == 0)
		return 0;
	return ops_attr_kill_priv(f, fs_node(f, ino));
}

struct early {
	fuse_req_t req;
	size_t size;
};

static void write_accepted(void *arg)
{
	struct early *e = arg;

	fuse_reply_write(e->req, e->size);
}

/* While it is sealed the program goes on, and another thread takes what it asks next. */
static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
	struct fuse_file_info *fi)
{
	struct early e = { .req = req, .size = size };
	struct file *file = handle_file(fi);
	bool early = file_write_seals(size, (uint64_t)off) && loop_yield();
	int r = write_kill_priv(req, ino, fi);

	if (!r && early)
		r = file_write_early(file, buf, size, (uint64_t)off, write_accepted, &e);
	else if (!r)
		r = file_write(file, buf, size, (uint64_t)off);
	if (r)
		fs_reply_code(req, r);
	else if (!early)
		fuse_reply_write(req, size);
}

/* close(2). The kernel has sent its dirty pages before. */
static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct file *file = handle_file(fi);
	int r = 0;

	if (handle_writes(fi) || atomic_load(&fs_node(fs_of(req), ino)->writers) > 0) {
		r = file_commit(file);
		r = r ? r : file_take_lost(file);
	}
	fs_reply_code(req, r);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct file *file = handle_file(fi);
	int r;

	if (!loop_yield())
		log_debug("fsync: no other thread");
	r = file_sync(file);
	fs_reply_code(req, r ? r : file_take_lost(file));
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	node_close(fs_node(fs_of(req), ino), handle_writes(fi));
	file_unref(handle_file(fi), handle_writes(fi));
	fs_reply_code(req, 0);
}

static void op_fallocate(
	fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
	struct file *file = handle_file(fi);
	int r;

	if (off < 0 || len <= 0) {
		fs_reply_code(req, -EINVAL);
		return;
	}
	if (len > FILE_SIZE_MAX - off) {
		fs_reply_code(req, -EFBIG);
		return;
	}
	r = fs_wait_whole(req, file);
	if (r == 0)
		r = file_fallocate(file, mode, (uint64_t)off, (uint64_t)len);
	fs_reply_code(req, r);
}

/*
 * The kernel does not send its dirty pages before it asks for holes, so a file just written would
 * seem empty. It is made to by a notification: from this thread, as an exception, because the
 * answer depends on it. It cannot wait for anything but WRITE requests of this file, which is whole
 * and never needs the network; another thread takes them.
 */
static bool seek_flush(fuse_req_t req, fuse_ino_t ino)
{
	if (!loop_yield())
		return false;
	return fuse_lowlevel_notify_inval_inode(fs_of(req)->session, ino, 0, 0) == 0;
}

/* Without knowing what the kernel holds: no holes. */
static int seek_all_data(struct file *file, uint64_t off, int whence, uint64_t *at)
{
	uint64_t size = file_size(file);

	if (off >= size)
		return -ENXIO;
	*at = whence == SEEK_DATA ? off : size;
	return 0;
}

static void op_lseek(
	fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct file *file = handle_file(fi);
	uint64_t at;
	int r;

	if (off < 0)
		r = -ENXIO;
	else if (atomic_load(&fs_node(fs_of(req), ino)->writers) > 0 && !seek_flush(req, ino))
		r = seek_all_data(file, (uint64_t)off, whence, &at);
	else
		r = file_seek(file, (uint64_t)off, whence, &at);
	if (r)
		fs_reply_code(req, r);
	else
		fuse_reply_lseek(req, (off_t)at);
}

void ops_file_fill(struct fuse_lowlevel_ops *ops)
{
	ops->open = op_open;
	ops->create = op_create;
	ops->read = op_read;
	ops->write = op_write;
	ops->flush = op_flush;
	ops->fsync = op_fsync;
	ops->release = op_release;
	ops->fallocate = op_fallocate;
	ops->lseek = op_lseek;
}
