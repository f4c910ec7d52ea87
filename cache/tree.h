/*
 * The namespace: names, attributes, links, extended attributes.
 *
 * Each mutation is one committed transaction with its journal rows when the call returns: it survives SIGKILL
 * (promise P2). Objects are named by (object, version), as FUSE nodeids are: version counts the times the origin's content replaced ours.
 *
 * Permissions are the kernel's to check (default_permissions); what the kernel cannot know is checked here: the root that holds
 * the stores is read-only (EPERM), stores that are `ro` give EROFS, renames and links across stores EXDEV.
 *
 * A name that is not found in a store never listed completely is CE_ABSENT, not -ENOENT: the caller waits for the listing.
 *
 * An object lives while it has a name or the kernel knows it (tree_held_by); an unlinked object goes at tree_dropped or at the next open of the volume.
 */
#ifndef CACHET_CACHE_TREE_H
#define CACHET_CACHE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "cache/volume.h"

struct tree_attr {
	uint64_t object, version;
	uint64_t store;
	uint32_t mode, uid, gid, nlink; /* mode with S_IFMT */
	uint64_t rdev, size, blocks;    /* blocks of 512 bytes that hold data (not holes), locally or at the origin */
	int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
};

struct tree_cred {
	uint32_t uid, gid;
};

/* The object the mount shows as its root: the stores' root, or the one store of volume_only_store. CE_ABSENT until that store is known. */
int tree_root(struct volume *v, struct tree_attr *out) MUST_CHECK;
int tree_lookup(struct volume *v, uint64_t parent, const char *name, struct tree_attr *out) MUST_CHECK;
/* The parent directory of a directory (for ".."); the root is its own. */
int tree_parent(struct volume *v, uint64_t dir, uint64_t *out) MUST_CHECK;
/* CE_STALE when `version` is gone. Sizes and times of open files with uncommitted writes are those of the file. */
int tree_getattr(struct volume *v, uint64_t object, uint64_t version, struct tree_attr *out) MUST_CHECK;

enum {
	TREE_SET_MODE = 1 << 0,
	TREE_SET_UID = 1 << 1,
	TREE_SET_GID = 1 << 2,
	TREE_SET_ATIME = 1 << 3,
	TREE_SET_MTIME = 1 << 4,
};
/* Those members of `set` that `mask` names; ctime becomes now. Size: file_truncate. */
int tree_setattr(struct volume *v, uint64_t object, uint64_t version, const struct tree_attr *set,
	unsigned mask, struct tree_attr *out) MUST_CHECK;

/* Regular file, fifo, socket, device. A setgid parent hands its group on. -EEXIST, -ENAMETOOLONG, -ENOTDIR, -EINVAL. */
int tree_mknod(struct volume *v, uint64_t parent, const char *name, uint32_t mode, uint64_t rdev,
	const struct tree_cred *cred, struct tree_attr *out) MUST_CHECK;
int tree_mkdir(struct volume *v, uint64_t parent, const char *name, uint32_t mode,
	const struct tree_cred *cred, struct tree_attr *out) MUST_CHECK;
int tree_symlink(struct volume *v, uint64_t parent, const char *name, const char *target,
	const struct tree_cred *cred, struct tree_attr *out) MUST_CHECK;
/* CE_ABSENT: the new name is a record of its own and needs the content, which is not all here: fetch it (file_missing) and try again. */
int tree_link(struct volume *v, uint64_t object, uint64_t parent, const char *name,
	struct tree_attr *out) MUST_CHECK;
int tree_unlink(struct volume *v, uint64_t parent, const char *name) MUST_CHECK;
int tree_rmdir(struct volume *v, uint64_t parent, const char *name) MUST_CHECK;
/* flags: RENAME_NOREPLACE, RENAME_EXCHANGE. Commits the source's pending data in the same transaction. CE_ABSENT: out of the origin's
 * sight (a name that is not UTF-8) only with all content here. */
int tree_rename(struct volume *v, uint64_t parent, const char *name, uint64_t new_parent,
	const char *new_name, unsigned flags) MUST_CHECK;
/* The caller frees *out; NUL-terminated. */
int tree_readlink(struct volume *v, uint64_t object, char **out) MUST_CHECK;

/* Entries with cookie > after, by cookie, without "." and ".."; fn returns 0 to go on, 1 to stop. It runs under the index lock: it only copies.
 * Sizes and times are those of the last commit. */
typedef int tree_dirent_fn(void *arg, const char *name, uint64_t cookie, const struct tree_attr *a);
int tree_readdir(struct volume *v, uint64_t dir, uint64_t after, tree_dirent_fn *fn, void *arg) MUST_CHECK;

/* As setxattr(2): flags XATTR_CREATE, XATTR_REPLACE; -ENODATA. Values to 64 KiB. They are local: an origin does not keep them. */
int tree_setxattr(struct volume *v, uint64_t object, const char *name, const void *value, size_t len, int flags) MUST_CHECK;
int tree_getxattr(struct volume *v, uint64_t object, const char *name, void **out, size_t *len) MUST_CHECK;
int tree_listxattr(struct volume *v, uint64_t object, char **out, size_t *len) MUST_CHECK;
int tree_removexattr(struct volume *v, uint64_t object, const char *name) MUST_CHECK;

/*
 * fn says whether the kernel knows the object. With `unlinked` it has lost its last name: when the kernel knows it no more, tree_dropped
 * is to be called. fn is a leaf: it is called inside transactions. NULL: nobody mounts the volume.
 */
typedef bool tree_held_fn(void *arg, uint64_t object, bool unlinked);
void tree_held_by(struct volume *v, tree_held_fn *fn, void *arg);
void tree_dropped(struct volume *v, uint64_t object);

/* The path of an object from the mount's root, "a/b"; the first of its names. The caller frees. For people, not for logs. */
int tree_path(struct volume *v, uint64_t object, char **out) MUST_CHECK;
/* The object at a path from the mount's root; "" and "." are the root. */
int tree_resolve(struct volume *v, const char *path, struct tree_attr *out) MUST_CHECK;

#endif
