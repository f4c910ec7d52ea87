/* New names: files, directories, symlinks, links. Each with its journal row in the same
 * transaction. */
#include "cache/tree_priv.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"

struct make {
	uint64_t parent;
	struct row_filename name;
	uint32_t mode;
	uint64_t rdev;
	const char *target;
	const struct tree_cred *cred;
};

/* The directory, ready for a new entry of this name. */
static int open_place(
	struct volume *v, uint64_t parent, const struct row_filename *name, struct object_row *dir)
{
	struct name_row there;
	int found, r = tree_row_dir_rw(v, parent, dir);

	/* Where nothing may be made, a name that is there says so first. */
	if (r && r != -EPERM && r != -EROFS)
		return r;
	found = name_find(v->db, parent, name->bytes, name->len, &there);
	if (!found)
		return -EEXIST;
	return found == -ENOENT ? r : found;
}

static int add_name(struct volume *v, struct object_row *dir, const struct row_filename *name,
	const struct object_row *o, int64_t now)
{
	struct name_row n = {
		.store = dir->store, .parent = dir->id, .name = *name, .object = o->id
	};
	int r = fold_make(v, &n, o);

	if (!r)
		r = name_insert(v->db, &n);
	return r ? r : tree_row_touch(v, dir, S_ISDIR(o->mode) ? 1 : 0, now);
}

static void new_object(
	const struct make *m, const struct object_row *dir, int64_t now, struct object_row *o)
{
	*o = (struct object_row){
		.store = dir->store,
		.version = 1,
		.mode = m->mode,
		.uid = m->cred->uid,
		.gid = dir->mode & S_ISGID ? dir->gid : m->cred->gid,
		.rdev = S_ISCHR(m->mode) || S_ISBLK(m->mode) ? m->rdev : 0,
		.nlink = S_ISDIR(m->mode) ? 2 : 1,
		.size = m->target ? strlen(m->target) : 0,
		.atime_ns = now,
		.mtime_ns = now,
		.ctime_ns = now,
		.btime_ns = now,
	};
	if (S_ISDIR(m->mode) && dir->mode & S_ISGID)
		o->mode |= S_ISGID;
}

static int make_txn(struct volume *v, const struct make *m, struct object_row *o)
{
	int64_t now = clock_file_ns();
	struct object_row dir;
	int r = open_place(v, m->parent, &m->name, &dir);

	if (r)
		return r;
	new_object(m, &dir, now, o);
	r = object_insert(v->db, o, m->target, m->target ? strlen(m->target) : 0);
	return r ? r : add_name(v, &dir, &m->name, o, now);
}

static int make(struct volume *v, const struct make *m, struct tree_attr *out)
{
	struct object_row o;
	struct tree_attr a;
	int r;

	r = space_begin(v, true);
	if (r)
		return r;
	r = db_begin(v->db);
	if (!r) {
		r = make_txn(v, m, &o);
		if (!r)
			tree_row_attr(v, &o, &a);
		r = tree_row_end(v, r);
	}
	space_end(v);
	if (r)
		return r;
	volume_tell_outbox(v);
	*out = a;
	return 0;
}

int tree_mknod(struct volume *v, uint64_t parent, const char *name, uint32_t mode, uint64_t rdev,
	const struct tree_cred *cred, struct tree_attr *out)
{
	struct make m = { .parent = parent, .mode = mode, .rdev = rdev, .cred = cred };
	int r = tree_row_filename(&m.name, name);

	if (r)
		return r;
	if (!(mode & S_IFMT))
		m.mode |= S_IFREG;
	if (S_ISDIR(m.mode) || S_ISLNK(m.mode) || (m.mode & ~(uint32_t)S_IFMT) > 07777)
		return -EINVAL;
	return make(v, &m, out);
}

int tree_mkdir(struct volume *v, uint64_t parent, const char *name, uint32_t mode,
	const struct tree_cred *cred, struct tree_attr *out)
{
	struct make m = { .parent = parent, .mode = S_IFDIR | (mode & 07777), .cred = cred };
	int r = tree_row_filename(&m.name, name);

	return r ? r : make(v, &m, out);
}

int tree_symlink(struct volume *v, uint64_t parent, const char *name, const char *target,
	const struct tree_cred *cred, struct tree_attr *out)
{
	struct make m = {
		.parent = parent, .mode = S_IFLNK | 0777, .target = target, .cred = cred
	};
	size_t len = strlen(target);
	int r = tree_row_filename(&m.name, name);

	if (r)
		return r;
	if (!len)
		return -ENOENT;
	if (len >= PATH_MAX)
		return -ENAMETOOLONG;
	return make(v, &m, out);
}

/* The new record needs the content: a file that is only partly here is fetched first (CE_ABSENT).
 */
static int may_link(struct volume *v, const struct object_row *o, const struct object_row *dir)
{
	bool whole;
	int r;

	if (S_ISDIR(o->mode))
		return -EPERM;
	if (!o->nlink)
		return -ENOENT;
	if (o->store != dir->store)
		return -EXDEV;
	if (o->nlink >= TREE_LINK_MAX)
		return -EMLINK;
	r = tree_row_whole(v, o, &whole);
	if (r)
		return r;
	return whole ? 0 : CE_ABSENT;
}

static int link_txn(struct volume *v, uint64_t object, uint64_t parent,
	const struct row_filename *name, struct object_row *o)
{
	int64_t now = clock_file_ns();
	struct object_row dir;
	int r = object_get(v->db, object, o);

	if (!r)
		r = open_place(v, parent, name, &dir);
	if (!r)
		r = may_link(v, o, &dir);
	if (r)
		return r;
	o->nlink++;
	o->ctime_ns = now;
	r = object_update(v->db, o);
	return r ? r : add_name(v, &dir, name, o, now);
}

int tree_link(
	struct volume *v, uint64_t object, uint64_t parent, const char *name, struct tree_attr *out)
{
	struct row_filename filename;
	struct object_row o;
	int r = tree_row_filename(&filename, name);

	if (r)
		return r;
	r = space_begin(v, true);
	if (r)
		return r;
	r = db_begin(v->db);
	if (!r)
		r = tree_row_end(v, link_txn(v, object, parent, &filename, &o));
	space_end(v);
	if (r)
		return r;
	volume_tell_outbox(v);
	return tree_getattr(v, object, o.version, out);
}
