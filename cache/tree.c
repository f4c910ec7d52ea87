/*
 * Looking up and attributes: the hottest calls of the mount, one statement each and nothing
 * allocated. An open file with uncommitted writes knows its size and times better than the index:
 * they are laid over afterwards, without the index lock.
 */
#include "cache/tree_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"

static void overlay(struct volume *v, struct tree_attr *a)
{
	struct file *f;

	if (!S_ISREG(a->mode))
		return;
	f = filetab_get(v, a->object, a->version);
	if (!f)
		return;
	file_overlay(f, a);
	file_unref(f, false);
}

int tree_root(struct volume *v, struct tree_attr *out)
{
	struct object_row o;
	struct store_row s = { .root = OBJECT_ROOT };
	int r = 0;

	db_read(v->db);
	if (v->only_store) {
		r = store_by_name(v->db, v->only_store, &s);
		if (r == -ENOENT)
			r = CE_ABSENT;
	}
	if (!r)
		r = object_get(v->db, s.root, &o);
	if (!r)
		tree_row_attr(v, &o, out);
	db_unlock(v->db);
	return r;
}

/* What a name that is not there means: promise P3. */
static int why_absent(struct volume *v, uint64_t parent)
{
	struct object_row dir;
	struct store_row s;
	int r = tree_row_dir(v, parent, &dir);

	if (r)
		return r;
	if (parent == OBJECT_ROOT)
		return -ENOENT;
	r = store_get(v->db, dir.store, &s);
	if (r)
		return r;
	return s.listed || s.mode == STORE_LOCAL ? -ENOENT : CE_ABSENT;
}

int tree_lookup(struct volume *v, uint64_t parent, const char *name, struct tree_attr *out)
{
	size_t len = strlen(name);
	struct object_row o;
	struct tree_attr a;
	int r;

	if (len > ROW_NAME_MAX)
		return -ENAMETOOLONG;
	db_read(v->db);
	r = name_lookup(v->db, parent, name, len, &o);
	if (!r)
		tree_row_attr(v, &o, &a);
	else if (r == -ENOENT)
		r = why_absent(v, parent);
	db_unlock(v->db);
	if (r)
		return r;
	overlay(v, &a);
	*out = a;
	return 0;
}

int tree_parent(struct volume *v, uint64_t dir, uint64_t *out)
{
	struct tree_attr root;
	struct name_row n;
	int r = tree_root(v, &root);

	if (r)
		return r;
	if (dir == root.object || dir == OBJECT_ROOT) {
		*out = root.object;
		return 0;
	}
	db_read(v->db);
	r = tree_row_name_of(v, dir, &n);
	db_unlock(v->db);
	if (!r)
		*out = n.parent == TREE_NOWHERE ? root.object : n.parent;
	return r;
}

/* A version that the origin has replaced lives on while it is open. */
static int superseded(struct volume *v, uint64_t version, struct tree_attr *a)
{
	struct file *f = filetab_get(v, a->object, version);

	if (!f)
		return CE_STALE;
	a->version = version;
	a->size = file_size(f);
	a->blocks = (a->size + 511) / 512;
	file_overlay(f, a);
	file_unref(f, false);
	return 0;
}

int tree_getattr(struct volume *v, uint64_t object, uint64_t version, struct tree_attr *out)
{
	struct object_row o;
	struct tree_attr a;
	int r;

	db_read(v->db);
	r = object_get(v->db, object, &o);
	if (!r)
		tree_row_attr(v, &o, &a);
	db_unlock(v->db);
	if (r)
		return r == -ENOENT ? CE_STALE : r;
	if (a.version == version)
		overlay(v, &a);
	else
		r = superseded(v, version, &a);
	if (!r)
		*out = a;
	return r;
}

static void apply_set(struct object_row *o, const struct tree_attr *set, unsigned mask)
{
	if (mask & (TREE_SET_UID | TREE_SET_GID) && S_ISREG(o->mode)) {
		o->mode &= ~(uint32_t)S_ISUID;
		if (o->mode & S_IXGRP)
			o->mode &= ~(uint32_t)S_ISGID;
	}
	if (mask & TREE_SET_MODE)
		o->mode = (o->mode & S_IFMT) | (set->mode & 07777);
	if (mask & TREE_SET_UID)
		o->uid = set->uid;
	if (mask & TREE_SET_GID)
		o->gid = set->gid;
	if (mask & TREE_SET_ATIME)
		o->atime_ns = set->atime_ns;
	if (mask & TREE_SET_MTIME)
		o->mtime_ns = set->mtime_ns;
	o->ctime_ns = clock_file_ns();
}

/* Access times alone may change where nothing else may. */
static int may_set(struct volume *v, const struct object_row *o, unsigned mask)
{
	struct store_row s;
	int r;

	if (!(mask & ~(unsigned)TREE_SET_ATIME))
		return 0;
	if (!o->store)
		return -EPERM;
	r = store_get(v->db, o->store, &s);
	if (r)
		return r;
	return s.mode == STORE_RO ? -EROFS : 0;
}

static int setattr_txn(struct volume *v, uint64_t object, uint64_t version,
	const struct tree_attr *set, unsigned mask, struct object_row *o, bool *journaled)
{
	uint32_t mode;
	int r = object_get(v->db, object, o);

	if (r == -ENOENT || (!r && o->version != version))
		return CE_STALE;
	if (!r)
		r = may_set(v, o, mask);
	if (r)
		return r;
	mode = o->mode;
	apply_set(o, set, mask);
	r = object_update(v->db, o);
	*journaled = o->nlink && (mode != o->mode || mask & TREE_SET_MTIME);
	if (!r && *journaled)
		r = fold_attr(v, o, mode != o->mode);
	return r;
}

static int setattr_row(struct volume *v, uint64_t object, uint64_t version,
	const struct tree_attr *set, unsigned mask, struct tree_attr *a, bool *journaled)
{
	struct object_row o;
	int r = db_begin(v->db);

	if (r)
		return r;
	r = setattr_txn(v, object, version, set, mask, &o, journaled);
	if (!r)
		tree_row_attr(v, &o, a);
	return tree_row_end(v, r);
}

/* The mtime that an open file keeps for its next commit is older than the one set here. */
static int setattr_over_file(struct volume *v, struct file *f, const struct tree_attr *set,
	unsigned mask, struct tree_attr *a, bool *journaled)
{
	int r;

	file_lock(f);
	r = setattr_row(v, file_object(f), file_version(f), set, mask, a, journaled);
	if (!r)
		file_mtime_is_set(f);
	file_unlock(f);
	return r;
}

int tree_setattr(struct volume *v, uint64_t object, uint64_t version, const struct tree_attr *set,
	unsigned mask, struct tree_attr *out)
{
	struct file *f = NULL;
	struct tree_attr a;
	bool journaled = false;
	int r = space_begin(v, false);

	if (r)
		return r;
	if (mask & TREE_SET_MTIME)
		f = filetab_get(v, object, version);
	if (f)
		r = setattr_over_file(v, f, set, mask, &a, &journaled);
	else
		r = setattr_row(v, object, version, set, mask, &a, &journaled);
	if (f)
		file_unref(f, false);
	space_end(v);
	if (r)
		return r;
	if (journaled)
		volume_tell_outbox(v);
	overlay(v, &a);
	*out = a;
	return 0;
}
