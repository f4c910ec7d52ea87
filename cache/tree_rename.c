/*
 * rename(2).
 *
 * The source's uncommitted data is committed in the transaction of the rename, and before a name is
 * replaced the data of its new content is on the disk: an old file is never replaced by one that a
 * power cut may empty. Both need the lock of the open file, which comes before the index lock; so
 * the source is looked up first, locked, and looked up again inside the transaction. When it is
 * another by then, the call starts over.
 */
#include "cache/tree_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "cache/merge_base.h"

#define ATTEMPTS_MAX 16

struct side {
	struct object_row dir;
	struct name_row n;
	struct object_row o;
	bool there;
};

struct rename {
	struct volume *v;
	uint64_t parent, new_parent;
	struct row_filename name, new_name;
	unsigned flags;
	int64_t now;
	struct side from, to;
	struct file *file;  /* of the source, locked; or NULL */
	bool dirty, synced; /* it has data to commit; its data is on the disk ... */
	bool logged;        /* ... or will be with the record of the transaction */
	bool unlogged;      /* which it did not fit into */
};

static int load_side(
	struct volume *v, uint64_t parent, const struct row_filename *name, struct side *s)
{
	int r = tree_row_dir_rw(v, parent, &s->dir);

	if (r)
		return r;
	r = name_find(v->db, parent, name->bytes, name->len, &s->n);
	if (r)
		return r == -ENOENT ? 0 : r;
	s->there = true;
	r = object_get(v->db, s->n.object, &s->o);
	return !r && s->o.store != s->dir.store ? -EBUSY : r;
}

static int load(struct rename *m)
{
	int r;

	m->from = m->to = (struct side){ 0 };
	r = load_side(m->v, m->parent, &m->name, &m->from);
	if (!r)
		r = load_side(m->v, m->new_parent, &m->new_name, &m->to);
	if (!r && !m->from.there)
		r = -ENOENT;
	if (!r && m->from.dir.store != m->to.dir.store)
		r = -EXDEV;
	return r;
}

/* A directory may not come to lie below itself. */
static int check_loop(struct rename *m, const struct side *moved, const struct side *target)
{
	bool below;
	int r;

	if (!S_ISDIR(moved->o.mode) || m->parent == m->new_parent)
		return 0;
	r = tree_row_below(m->v, target->dir.id, moved->o.id, &below);
	if (r)
		return r;
	return below ? -EINVAL : 0;
}

static int check_over(struct rename *m)
{
	int r;

	if (m->flags & RENAME_NOREPLACE)
		return -EEXIST;
	if (!S_ISDIR(m->to.o.mode))
		return S_ISDIR(m->from.o.mode) ? -ENOTDIR : 0;
	if (!S_ISDIR(m->from.o.mode))
		return -EISDIR;
	r = name_any(m->v->db, m->to.o.id);
	return r > 0 ? -ENOTEMPTY : r;
}

static int check(struct rename *m)
{
	int r = check_loop(m, &m->from, &m->to);

	if (r)
		return r;
	if (m->flags & RENAME_EXCHANGE) {
		if (!m->to.there)
			return -ENOENT;
		r = check_loop(m, &m->to, &m->from);
		return r;
	}
	return m->to.there ? check_over(m) : 0;
}

/* Two entries of one inode: nothing happens (POSIX), unless asked not to replace. */
static bool same_inode(const struct rename *m)
{
	return m->to.there && m->from.o.id == m->to.o.id && !(m->flags & RENAME_NOREPLACE);
}

static int touch_dirs(struct rename *m, int from_links, int to_links)
{
	int r;

	if (m->parent == m->new_parent)
		return tree_row_touch(m->v, &m->from.dir, from_links + to_links, m->now);
	r = tree_row_touch(m->v, &m->from.dir, from_links, m->now);
	return r ? r : tree_row_touch(m->v, &m->to.dir, to_links, m->now);
}

static int changed(struct rename *m, struct object_row *o)
{
	o->ctime_ns = m->now;
	return object_update(m->v->db, o);
}

static int replace(struct rename *m)
{
	struct name_row *n = &m->from.n;
	const bool over = m->to.there;
	int dir = S_ISDIR(m->from.o.mode) ? 1 : 0;
	int over_dir = over && S_ISDIR(m->to.o.mode) ? 1 : 0;
	int r = over ? merge_base_keep(m->v, &m->to.o) : 0;

	if (!r)
		r = fold_move(m->v, n, &m->from.o, m->new_parent, &m->new_name, over ? &m->to.n : NULL,
		over ? &m->to.o : NULL);

	if (!r && over)
		r = name_delete(m->v->db, m->to.n.id);
	n->parent = m->new_parent;
	n->name = m->new_name;
	if (!r)
		r = name_update(m->v->db, n);
	if (!r && over)
		r = tree_row_unlinked(m->v, &m->to.n, &m->to.o, m->now);
	if (!r)
		r = changed(m, &m->from.o);
	return r ? r : touch_dirs(m, -dir, dir - over_dir);
}

static int exchange(struct rename *m)
{
	struct name_row *a = &m->from.n, *b = &m->to.n;
	int links = (S_ISDIR(m->to.o.mode) ? 1 : 0) - (S_ISDIR(m->from.o.mode) ? 1 : 0);
	int r = fold_swap(m->v, a, b, &m->from.o, &m->to.o);

	/* Out of the way first: two names cannot stand at one place. */
	a->parent = TREE_NOWHERE;
	if (!r)
		r = name_update(m->v->db, a);
	b->parent = m->parent;
	b->name = m->name;
	if (!r)
		r = name_update(m->v->db, b);
	a->parent = m->new_parent;
	a->name = m->new_name;
	if (!r)
		r = name_update(m->v->db, a);
	if (!r)
		r = changed(m, &m->from.o);
	if (!r && m->from.o.id != m->to.o.id)
		r = changed(m, &m->to.o);
	return r ? r : touch_dirs(m, links, -links);
}

static int rename_txn(struct rename *m, uint64_t object)
{
	int r = load(m);

	if (r)
		return r;
	if (m->from.o.id != object)
		return -EAGAIN;
	if (same_inode(m))
		return 0;
	r = check(m);
	if (r)
		return r;
	if (m->dirty) {
		r = file_commit_txn(m->file, m->synced);
		/* The commit wrote the object. */
		if (!r)
			r = object_get(m->v->db, object, &m->from.o);
		if (!r)
			r = name_find(m->v->db, m->parent, m->name.bytes, m->name.len, &m->from.n);
	} else if (m->file && m->synced) {
		r = m->logged ? file_log_note(m->file) : 0;
		durable_begin_gen(m->v); /* what replaces a file does not fall back to before */
	}
	if (r)
		return r;
	return m->flags & RENAME_EXCHANGE ? exchange(m) : replace(m);
}

/* Takes the source's file, locked, when it has data to commit or to sync. */
static int hold_file(struct rename *m, const struct object_row *o, bool over)
{
	int r = 0;

	m->file = NULL;
	m->dirty = false;
	if (!S_ISREG(o->mode) || m->flags & RENAME_EXCHANGE)
		return 0;
	if (over && o->map)
		r = file_open(m->v, o->id, o->version, false, &m->file);
	else
		m->file = filetab_get(m->v, o->id, o->version);
	if (r || !m->file)
		return r == CE_STALE ? -EAGAIN : r;
	file_lock(m->file);
	m->dirty = file_is_dirty(m->file);
	m->synced = over;
	if (m->dirty)
		r = file_commit_prepare(m->file);
	if (!r && m->dirty && !over)
		r = file_commit_must_sync(m->file, &m->synced);
	m->logged = !r && m->synced && !m->unlogged && file_log_prepare(m->file);
	if (!r && m->synced && !m->logged)
		r = file_sync_data(m->file);
	return r;
}

static void let_go(struct rename *m, bool committed)
{
	if (!m->file)
		return;
	if (m->dirty)
		file_commit_done(m->file, committed);
	file_log_drop(m->file);
	file_unlock(m->file);
	file_unref(m->file, false);
}

static int rename_once(struct rename *m)
{
	struct object_row o;
	bool over;
	int r;

	db_read(m->v->db);
	r = load(m);
	o = m->from.o;
	over = m->to.there;
	db_unlock(m->v->db);
	if (r)
		return r;
	r = hold_file(m, &o, over);
	if (!r) {
		r = db_begin(m->v->db);
		if (!r) {
			r = rename_txn(m, o.id);
			/* A target that appeared meanwhile: its replacement is not synced yet. */
			if (!r && m->to.there && !over && !(m->flags & RENAME_EXCHANGE))
				r = -EAGAIN;
			r = tree_row_end(m->v, r);
		}
	}
	if (r == -EMSGSIZE) {
		m->unlogged = true;
		r = -EAGAIN;
	}
	let_go(m, !r);
	return r;
}

int tree_rename(struct volume *v, uint64_t parent, const char *name, uint64_t new_parent,
	const char *new_name, unsigned flags)
{
	struct rename m = { .v = v,
		.parent = parent,
		.new_parent = new_parent,
		.flags = flags,
		.now = clock_file_ns() };
	int r = tree_row_filename(&m.name, name);

	if (!r)
		r = tree_row_filename(&m.new_name, new_name);
	if (!r && (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE) ||
			  flags == (RENAME_NOREPLACE | RENAME_EXCHANGE)))
		r = -EINVAL;
	if (!r)
		r = space_begin(v, false);
	if (r)
		return r;
	for (int i = 0; i < ATTEMPTS_MAX; i++) {
		r = rename_once(&m);
		if (r != -EAGAIN)
			break;
	}
	space_end(v);
	if (!r)
		volume_tell_outbox(v);
	return r == -EAGAIN ? -EBUSY : r;
}
