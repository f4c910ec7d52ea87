/* Names that go: unlink and rmdir. */
#include "cache/tree_priv.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/clock.h"

static int check_kind(struct volume *v, const struct object_row *o, bool want_dir)
{
	int r;

	if (!want_dir)
		return S_ISDIR(o->mode) ? -EISDIR : 0;
	if (!S_ISDIR(o->mode))
		return -ENOTDIR;
	r = name_any(v->db, o->id);
	return r > 0 ? -ENOTEMPTY : r;
}

static int remove_txn(
	struct volume *v, uint64_t parent, const struct row_filename *name, bool want_dir)
{
	int64_t now = clock_file_ns();
	struct object_row dir, o;
	struct name_row n;
	int r = tree_row_dir_rw(v, parent, &dir);

	if (!r)
		r = name_find(v->db, parent, name->bytes, name->len, &n);
	if (!r)
		r = object_get(v->db, n.object, &o);
	if (!r && o.store != dir.store)
		r = -EBUSY; /* the root of another store */
	if (!r)
		r = check_kind(v, &o, want_dir);
	if (!r)
		r = fold_delete(v, &n, &o);
	if (!r)
		r = tree_row_unname(v, &n, &o, now);
	return r ? r : tree_row_touch(v, &dir, want_dir ? -1 : 0, now);
}

static int remove_name(struct volume *v, uint64_t parent, const char *name, bool want_dir)
{
	struct row_filename filename;
	int r = tree_row_filename(&filename, name);

	space_relieve(v);
	if (!r)
		r = db_begin(v->db);
	if (r)
		return r;
	r = tree_row_end(v, remove_txn(v, parent, &filename, want_dir));
	if (!r)
		volume_tell_outbox(v);
	return r;
}

int tree_unlink(struct volume *v, uint64_t parent, const char *name)
{
	return remove_name(v, parent, name, false);
}

int tree_rmdir(struct volume *v, uint64_t parent, const char *name)
{
	return remove_name(v, parent, name, true);
}
