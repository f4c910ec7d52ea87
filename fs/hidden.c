#include "fs/hidden.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "fs/fs_priv.h"

#define TTL_S 1.0
#define DIR_DOTS 2

/* The operations behind; the same for every mount. */
static struct fuse_lowlevel_ops behind;

/* What an open file had to say. */
struct text {
	size_t len;
	char *data;
};

static bool is_ours(fuse_ino_t ino)
{
	return ino != FUSE_ROOT_ID && ino < HIDDEN_END;
}

/* This name would be the directory, and no record has it. */
static bool is_the_name(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *f = fs_of(req);
	struct tree_attr a;

	return parent == FUSE_ROOT_ID && !strcmp(name, HIDDEN_NAME) && f->n_hidden &&
	       tree_lookup(f->volume, f->root->object, name, &a) != 0;
}

static void fill_stat(struct fs *f, fuse_ino_t ino, struct stat *st)
{
	*st = (struct stat){
		.st_ino = UINT64_MAX - ino,
		.st_mode = ino == HIDDEN_DIR ? S_IFDIR | 0500 : S_IFREG | 0400,
		.st_nlink = ino == HIDDEN_DIR ? 2 : 1,
		.st_uid = getuid(),
		.st_gid = getgid(),
		.st_blksize = 4096,
	};
	st->st_atim = st->st_mtim = st->st_ctim = f->mounted_at;
}

static void fill_entry(struct fs *f, fuse_ino_t ino, struct fuse_entry_param *e)
{
	*e = (struct fuse_entry_param){ .ino = ino, .attr_timeout = TTL_S, .entry_timeout = TTL_S };
	fill_stat(f, ino, &e->attr);
}

static void reply_lookup(fuse_req_t req, const char *name)
{
	struct fs *f = fs_of(req);
	struct fuse_entry_param e;

	for (size_t i = 0; i < f->n_hidden; i++)
		if (!strcmp(f->hidden[i].name, name)) {
			fill_entry(f, HIDDEN_DIR + 1 + i, &e);
			fuse_reply_entry(req, &e);
			return;
		}
	fuse_reply_err(req, ENOENT);
}

static void hidden_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e;

	if (parent == HIDDEN_DIR) {
		reply_lookup(req, name);
	} else if (is_the_name(req, parent, name)) {
		fill_entry(fs_of(req), HIDDEN_DIR, &e);
		fuse_reply_entry(req, &e);
	} else {
		behind.lookup(req, parent, name);
	}
}

static void hidden_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
	if (is_ours(ino))
		fuse_reply_none(req);
	else
		behind.forget(req, ino, n);
}

static void hidden_forget_multi(fuse_req_t req, size_t n, struct fuse_forget_data *list)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++)
		if (!is_ours(list[i].ino))
			list[kept++] = list[i];
	behind.forget_multi(req, kept, list);
}

static void hidden_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;

	if (!is_ours(ino)) {
		behind.getattr(req, ino, fi);
		return;
	}
	fill_stat(fs_of(req), ino, &st);
	fuse_reply_attr(req, &st, TTL_S);
}

/* --- the directory --- */

static void hidden_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (!is_ours(ino))
		behind.opendir(req, ino, fi);
	else if (fs_of(req)->no_opendir)
		fuse_reply_err(req, ENOSYS);
	else
		fuse_reply_open(req, fi);
}

/* Entry `at` of the listing; false behind the last. */
static bool entry_at(struct fs *f, size_t at, const char **name, struct fuse_entry_param *e)
{
	if (at >= f->n_hidden + DIR_DOTS)
		return false;
	fill_entry(f, at < DIR_DOTS ? HIDDEN_DIR : HIDDEN_DIR + 1 + at - DIR_DOTS, e);
	*name = at == 0 ? "." : at == 1 ? ".." : f->hidden[at - DIR_DOTS].name;
	if (at < DIR_DOTS)
		e->ino = 0; /* the kernel has those */
	return true;
}

static void reply_listing(fuse_req_t req, size_t size, size_t at, bool plus)
{
	_cleanup_free_ char *buf = malloc(size);
	struct fuse_entry_param e;
	size_t used = 0, need;
	const char *name;

	if (!buf) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	for (; entry_at(fs_of(req), at, &name, &e); at++) {
		need = plus ? fuse_add_direntry_plus(
				      req, buf + used, size - used, name, &e, (off_t)at + 1)
			    : fuse_add_direntry(
				      req, buf + used, size - used, name, &e.attr, (off_t)at + 1);
		if (need > size - used)
			break;
		used += need;
	}
	fuse_reply_buf(req, buf, used);
}

static void hidden_readdir(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	if (is_ours(ino))
		reply_listing(req, size, (size_t)off, false);
	else
		behind.readdir(req, ino, size, off, fi);
}

static void hidden_readdirplus(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	if (is_ours(ino))
		reply_listing(req, size, (size_t)off, true);
	else
		behind.readdirplus(req, ino, size, off, fi);
}

/* --- files --- */

static void text_free(struct text *t)
{
	if (t->data)
		secret_wipe(t->data, t->len);
	free(t->data);
	free(t);
}

static void open_file(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *f = fs_of(req);
	struct text *t = calloc(1, sizeof(*t));
	int r = t ? 0 : -ENOMEM;

	if (!r && (fi->flags & O_ACCMODE) != O_RDONLY)
		r = -EROFS;
	if (!r)
		r = f->hidden[ino - HIDDEN_DIR - 1].print(f->hidden_arg, &t->data, &t->len);
	if (r) {
		free(t);
		fs_reply_code(req, r);
		return;
	}
	fi->fh = (uintptr_t)t;
	fi->direct_io = 1;
	fi->noflush = 1;
	if (fuse_reply_open(req, fi))
		text_free(t);
}

static void hidden_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (!is_ours(ino))
		behind.open(req, ino, fi);
	else if (ino == HIDDEN_DIR)
		fuse_reply_err(req, EISDIR);
	else
		open_file(req, ino, fi);
}

static void hidden_read(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	const struct text *t = (const struct text *)(uintptr_t)fi->fh;
	size_t at;

	if (!is_ours(ino)) {
		behind.read(req, ino, size, off, fi);
		return;
	}
	at = MIN_OF((size_t)off, t->len);
	fuse_reply_buf(req, t->data + at, MIN_OF(size, t->len - at));
}

static void hidden_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (!is_ours(ino)) {
		behind.release(req, ino, fi);
		return;
	}
	text_free((struct text *)(uintptr_t)fi->fh);
	fuse_reply_err(req, 0);
}

/* --- what has one answer here --- */

/* OP(name, parameters, arguments, error of ours) of operations on an inode. */
#define ON_INODE(OP)                                                                               \
	OP(readlink, (fuse_req_t req, fuse_ino_t a), (req, a), EINVAL)                             \
	OP(setattr,                                                                                \
		(fuse_req_t req, fuse_ino_t a, struct stat * b, int c, struct fuse_file_info *d),  \
		(req, a, b, c, d), EROFS)                                                          \
	OP(write,                                                                                  \
		(fuse_req_t req, fuse_ino_t a, const char *b, size_t c, off_t d,                   \
			struct fuse_file_info *e),                                                 \
		(req, a, b, c, d, e), EROFS)                                                       \
	OP(fallocate,                                                                              \
		(fuse_req_t req, fuse_ino_t a, int b, off_t c, off_t d, struct fuse_file_info *e), \
		(req, a, b, c, d, e), EROFS)                                                       \
	OP(lseek, (fuse_req_t req, fuse_ino_t a, off_t b, int c, struct fuse_file_info *d),        \
		(req, a, b, c, d), EINVAL)                                                         \
	OP(flush, (fuse_req_t req, fuse_ino_t a, struct fuse_file_info * b), (req, a, b), 0)       \
	OP(fsync, (fuse_req_t req, fuse_ino_t a, int b, struct fuse_file_info *c), (req, a, b, c), \
		0)                                                                                 \
	OP(fsyncdir, (fuse_req_t req, fuse_ino_t a, int b, struct fuse_file_info *c),              \
		(req, a, b, c), 0)                                                                 \
	OP(releasedir, (fuse_req_t req, fuse_ino_t a, struct fuse_file_info * b), (req, a, b), 0)  \
	OP(setxattr,                                                                               \
		(fuse_req_t req, fuse_ino_t a, const char *b, const char *c, size_t d, int e),     \
		(req, a, b, c, d, e), EROFS)                                                       \
	OP(getxattr, (fuse_req_t req, fuse_ino_t a, const char *b, size_t c), (req, a, b, c),      \
		ENODATA)                                                                           \
	OP(removexattr, (fuse_req_t req, fuse_ino_t a, const char *b), (req, a, b), EROFS)

#define DEFINE(name, params, args, error)                                                          \
	static void hidden_##name params                                                           \
	{                                                                                          \
		if (is_ours(a))                                                                    \
			fuse_reply_err(req, error);                                                \
		else                                                                               \
			behind.name args;                                                          \
	}
ON_INODE(DEFINE)
#undef DEFINE

static void hidden_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	if (!is_ours(ino))
		behind.listxattr(req, ino, size);
	else if (size)
		fuse_reply_buf(req, NULL, 0);
	else
		fuse_reply_xattr(req, 0);
}

static bool is_place(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	return is_ours(parent) || is_the_name(req, parent, name);
}

/* OP(name, parameters, arguments, condition) of operations that make or remove names. */
#define ON_NAME(OP)                                                                                \
	OP(mknod, (fuse_req_t req, fuse_ino_t a, const char *b, mode_t c, dev_t d),                \
		(req, a, b, c, d), is_place(req, a, b))                                            \
	OP(mkdir, (fuse_req_t req, fuse_ino_t a, const char *b, mode_t c), (req, a, b, c),         \
		is_place(req, a, b))                                                               \
	OP(unlink, (fuse_req_t req, fuse_ino_t a, const char *b), (req, a, b),                     \
		is_place(req, a, b))                                                               \
	OP(rmdir, (fuse_req_t req, fuse_ino_t a, const char *b), (req, a, b), is_place(req, a, b)) \
	OP(symlink, (fuse_req_t req, const char *a, fuse_ino_t b, const char *c), (req, a, b, c),  \
		is_place(req, b, c))                                                               \
	OP(rename,                                                                                 \
		(fuse_req_t req, fuse_ino_t a, const char *b, fuse_ino_t c, const char *d,         \
			unsigned e),                                                               \
		(req, a, b, c, d, e), is_place(req, a, b) || is_place(req, c, d))                  \
	OP(link, (fuse_req_t req, fuse_ino_t a, fuse_ino_t b, const char *c), (req, a, b, c),      \
		is_ours(a) || is_place(req, b, c))                                                 \
	OP(create,                                                                                 \
		(fuse_req_t req, fuse_ino_t a, const char *b, mode_t c, struct fuse_file_info *d), \
		(req, a, b, c, d), is_place(req, a, b))

#define DEFINE(name, params, args, condition)                                                      \
	static void hidden_##name params                                                           \
	{                                                                                          \
		if (condition)                                                                     \
			fuse_reply_err(req, EROFS);                                                \
		else                                                                               \
			behind.name args;                                                          \
	}
ON_NAME(DEFINE)
#undef DEFINE

static void hidden_statfs(fuse_req_t req, fuse_ino_t ino)
{
	behind.statfs(req, is_ours(ino) ? FUSE_ROOT_ID : ino);
}

void hidden_fill(struct fuse_lowlevel_ops *ops)
{
	behind = *ops;
#define PUT(name, params, args, what)                                                              \
	if (ops->name)                                                                             \
		ops->name = hidden_##name;
	ON_INODE(PUT)
	ON_NAME(PUT)
#undef PUT
	ops->lookup = hidden_lookup;
	ops->forget = hidden_forget;
	ops->forget_multi = hidden_forget_multi;
	ops->getattr = hidden_getattr;
	ops->opendir = hidden_opendir;
	ops->readdir = hidden_readdir;
	ops->readdirplus = hidden_readdirplus;
	ops->open = hidden_open;
	ops->read = hidden_read;
	ops->release = hidden_release;
	ops->listxattr = hidden_listxattr;
	ops->statfs = hidden_statfs;
}
