/*
 * Extended attributes: user, trusted and security as they come. ACLs are not kept, and SELinux takes
 * the label of a file on FUSE from its policy, never from an attribute: both are refused rather than
 * stored without effect. It is also what makes ls ask once for all files, not for each.
 *
 * user.cachet.* says what is known of the file: read on request, not listed (so that no copy
 * carries it away), not writable.
 *
 * Before the first write to a file the kernel asks for security.capability: a node that is known to
 * have no attributes answers from memory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "cache/about.h"
#include "cache/enrolment.h"
#include "fs/fs_priv.h"

#define XATTR_ABOUT "user.cachet."

static bool xattr_allowed(const char *name)
{
	static const char *const spaces[] = {"user.", "trusted.", "security."};

	if (!strcmp(name, "security.selinux"))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(spaces); i++) {
		if (!strncmp(name, spaces[i], strlen(spaces[i])))
			return name[strlen(spaces[i])] != '\0';
	}
	return false;
}

static bool is_about(const char *name)
{
	return !strncmp(name, XATTR_ABOUT, strlen(XATTR_ABOUT));
}

static void set_time(char *out, size_t size, int64_t wall_ns)
{
	time_t s = (time_t)(wall_ns / NS_PER_SEC);
	struct tm tm;

	gmtime_r(&s, &tm);
	strftime(out, size, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

/* When it is not served any more, if the origin is not heard of: by the rule of the store, or the lease of the key. */
static int64_t expires_ns(struct fs *f, const struct sync_freshness *fresh, int64_t validated_ns)
{
	int64_t lease_s = volume_lease_left_s(f->volume), at = INT64_MAX;

	if (lease_s < INT64_MAX / NS_PER_SEC / 2)
		at = clock_wall_ns() + lease_s * NS_PER_SEC;
	if (fresh->max_stale_ms && fresh->max_stale_ms < INT64_MAX / NS_PER_SEC)
		at = MIN_OF(at, validated_ns + (int64_t)fresh->max_stale_ms * NS_PER_MS);
	return at;
}

/* -ENODATA: there is no such attribute. */
static int say_about(struct fs *f, const struct about *a, const char *name, char *out, size_t size)
{
	struct sync_freshness fresh = { .age_ms = UINT64_MAX };
	int64_t validated_ns = a->validated_ns, at;

	if (f->sync)
		sync_freshness(f->sync, a->store, &fresh);
	if (fresh.age_ms < UINT64_MAX / NS_PER_SEC)
		validated_ns = clock_wall_ns() - (int64_t)fresh.age_ms * NS_PER_MS;
	if (!strcmp(name, "state"))
		snprintf(out, size, "%s", a->state);
	else if (!strcmp(name, "version"))
		snprintf(out, size, "%s", a->etag);
	else if (!strcmp(name, "pinned"))
		snprintf(out, size, "%s", a->pinned ? "yes" : "no");
	else if (!strcmp(name, "pending"))
		snprintf(out, size, "%llu", (unsigned long long)a->pending);
	else if (!strcmp(name, "validated") && validated_ns)
		set_time(out, size, validated_ns);
	else if (!strcmp(name, "validated"))
		snprintf(out, size, "never");
	else if (strcmp(name, "expires") != 0)
		return -ENODATA;
	else if ((at = expires_ns(f, &fresh, validated_ns)) == INT64_MAX)
		snprintf(out, size, "never");
	else
		set_time(out, size, at);
	return 0;
}

static int get_about(struct fs *f, const struct node *n, const char *name, void **value, size_t *len)
{
	char text[128];
	struct about a;
	int r = about_object(f->volume, n->object, &a);

	if (!r)
		r = say_about(f, &a, name + strlen(XATTR_ABOUT), text, sizeof(text));
	if (r)
		return r;
	*value = strdup(text);
	*len = strlen(text);
	return *value ? 0 : -ENOMEM;
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
	if (is_about(name)) {
		fs_reply_code(req, -EPERM);
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
	else if (is_about(name))
		r = get_about(f, n, name, &value, &len);
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
	else if (is_about(name))
		fs_reply_code(req, -EPERM);
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
