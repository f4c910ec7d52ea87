/*
 * Extended attributes: user, trusted and security as they come; ACLs are not kept, so their names
 * are refused rather than stored without effect.
 *
 * Before the first write to a file the kernel asks for security.capability: a node that is known to
 * have no attributes answers from memory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "fs/fs_priv.h"

static bool xattr_allowed(const char *name)
{
	static const char *const spaces[] = {"user.", "trusted.", "security."};

	for (size_t i = 0; i < ARRAY_SIZE(spaces); i++) {
		if (!strncmp(name, spaces[i], strlen(spaces[i])))
			return name[strlen(spaces[i])] != '\0';
	}
	return false;
}

static void op_setxattr(
	fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	struct fs *f = fs_of(req);
	struct node *n = fs_node(f, ino);

	if (!xattr_allowed(name)) {
		fs_reply_code(req, -EOPNOTSUPP);
		return;
	}
	/* Before, so that nobody answers "none" after the value is there. */
	node_set_xattrs(f->nodes, n->object);
	fs_reply_code(req, tree_setxattr(f->volume, n->object, name, value, size, flags));
}

/* Learns once per node whether there is anything to ask for. */
static bool xattr_none(struct fs *f, struct node *n)
{
	_cleanup_free_ char *names = NULL;
	size_t len = 0;

	if (atomic_load(&n->xattrs) == NODE_XATTRS_UNKNOWN) {
		if (tree_listxattr(f->volume, n->object, &names, &len))
			return false;
		if (len == 0)
			node_no_xattrs(n);
		else
			node_set_xattrs(f->nodes, n->object);
	}
	return atomic_load(&n->xattrs) == NODE_XATTRS_NONE;
}

/* size 0: how long it is; too small: ERANGE. */
static void xattr_reply(fuse_req_t req, const void *data, size_t len, size_t size)
{
	if (size == 0)
		fuse_reply_xattr(req, len);
	else if (len > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, data, len);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct fs *f = fs_of(req);
	struct node *n = fs_node(f, ino);
	_cleanup_free_ void *value = NULL;
	size_t len;
	int r = 0;

	if (!xattr_allowed(name))
		r = -EOPNOTSUPP;
	else if (xattr_none(f, n))
		r = -ENODATA;
	else
		r = tree_getxattr(f->volume, n->object, name, &value, &len);
	if (r)
		fs_reply_code(req, r);
	else
		xattr_reply(req, value, len, size);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct fs *f = fs_of(req);
	struct node *n = fs_node(f, ino);
	_cleanup_free_ char *names = NULL;
	size_t len = 0;
	int r = 0;

	if (!xattr_none(f, n))
		r = tree_listxattr(f->volume, n->object, &names, &len);
	if (r)
		fs_reply_code(req, r);
	else
		xattr_reply(req, names, len, size);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct fs *f = fs_of(req);

	if (!xattr_allowed(name))
		fs_reply_code(req, -EOPNOTSUPP);
	else
		fs_reply_code(req, tree_removexattr(f->volume, fs_node(f, ino)->object, name));
}

void ops_xattr_fill(struct fuse_lowlevel_ops *ops)
{
	ops->setxattr = op_setxattr;
	ops->getxattr = op_getxattr;
	ops->listxattr = op_listxattr;
	ops->removexattr = op_removexattr;
}
