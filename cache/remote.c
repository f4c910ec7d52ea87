/* Stores: what the origin offers, each a directory of the root. */
#include "cache/remote_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/secret.h"
#include "cache/remote_listing.h"
#include "cache/tree_priv.h"

static int insert_root(
	struct volume *v, uint64_t parent, const struct row_filename *name, struct store_row *s)
{
	int64_t now = clock_wall_ns();
	struct object_row dir, o = {
		.store = s->id,
		.version = 1,
		.mode = S_IFDIR | 0755,
		.uid = v->uid,
		.gid = v->gid,
		.nlink = 2,
		.atime_ns = now,
		.mtime_ns = now,
		.ctime_ns = now,
		.btime_ns = now,
	};
	struct name_row n = { .store = s->id, .parent = parent, .name = *name };
	int r = object_get(v->db, parent, &dir);

	if (!r)
		r = object_insert(v->db, &o, NULL, 0);
	n.object = s->root = o.id;
	if (!r)
		r = store_update(v->db, s);
	if (!r)
		r = name_insert(v->db, &n);
	return r ? r : tree_row_touch(v, &dir, 1, now);
}

int remote_store_insert(struct volume *v, const char *store, enum store_mode mode, uint64_t parent,
	const struct row_filename *name, struct store_row *out)
{
	uint8_t ref[STORE_REF_LEN / 2];
	struct store_row s = { .mode = mode };
	int r;

	secret_random(ref, sizeof(ref));
	bytes_to_hex(ref, sizeof(ref), s.ref);
	snprintf(s.name, sizeof(s.name), "%s", store);
	r = store_insert(v->db, &s);
	if (!r)
		r = insert_root(v, parent, name, &s);
	if (!r)
		*out = s;
	return r;
}

int remote_store_restore(struct volume *v, struct store_row *s)
{
	struct row_filename name;
	int r = tree_row_filename(&name, s->name);

	if (!r)
		r = store_insert(v->db, s);
	return r ? r : insert_root(v, OBJECT_ROOT, &name, s);
}

static int add_txn(struct volume *v, const struct row_filename *name, bool read_only,
	struct store_row *s, bool *fresh)
{
	enum store_mode mode = read_only ? STORE_RO : STORE_RW;
	int r = store_by_name(v->db, (const char *)name->bytes, s);

	*fresh = r == -ENOENT;
	if (*fresh)
		return remote_store_insert(
			v, (const char *)name->bytes, mode, OBJECT_ROOT, name, s);
	if (r || s->mode == mode || s->mode == STORE_LOCAL)
		return r;
	s->mode = mode;
	return store_update(v->db, s);
}

int remote_store_add(struct volume *v, const char *name, bool read_only, uint64_t *id)
{
	struct row_filename filename;
	struct store_row s;
	bool fresh = false;
	int r = tree_row_filename(&filename, name);

	if (!r)
		r = db_begin(v->db);
	if (r)
		return r;
	r = tree_row_end(v, add_txn(v, &filename, read_only, &s, &fresh));
	if (!r)
		r = keys_make(v, s.id, s.ref);
	if (r)
		return r;
	if (fresh) {
		struct volume_change c = { .what = CHANGE_ENTRY,
			.parent = OBJECT_ROOT,
			.name = name,
			.name_len = filename.len,
			.object = s.root,
			.version = 1 };

		volume_tell(v, &c, 1);
	}
	*id = s.id;
	return 0;
}

struct stores {
	struct volume *v;
	struct remote_store *rows;
	size_t n;
};

static int collect_store(void *arg, const struct store_row *s)
{
	struct stores *all = arg;
	struct remote_store *out;
	uint64_t listing = 0;
	void *p;
	int r;

	if (strchr(s->name, '/')) /* answers of queries: cache/queries.h */
		return 0;
	p = reallocarray(all->rows, all->n + 1, sizeof(*all->rows));
	if (!p)
		return -ENOMEM;
	all->rows = p;
	r = remote_listing_under_way(all->v, s->id, &listing);
	if (r)
		return r;
	out = &all->rows[all->n++];
	*out = (struct remote_store){ .id = s->id,
		.read_only = s->mode == STORE_RO,
		.local = s->mode == STORE_LOCAL,
		.listed = s->listed,
		.validated_ns = s->validated_ns,
		.listing = listing != 0 };
	memcpy(out->name, s->name, sizeof(out->name));
	memcpy(out->cursor, s->cursor, sizeof(out->cursor));
	return 0;
}

int remote_stores(struct volume *v, remote_store_fn *fn, void *arg)
{
	struct stores all = { .v = v };
	int r;

	db_read(v->db);
	r = store_each(v->db, collect_store, &all);
	db_unlock(v->db);
	for (size_t i = 0; r >= 0 && i < all.n; i++) {
		r = fn(arg, &all.rows[i]);
		if (r > 0)
			break;
	}
	free(all.rows);
	return MIN_OF(r, 0);
}

int remote_validated(struct volume *v, uint64_t store)
{
	struct store_row s;
	int r = db_begin(v->db);

	if (r)
		return r;
	r = store_get(v->db, store, &s);
	s.validated_ns = clock_wall_ns();
	if (!r)
		r = store_update(v->db, &s);
	return tree_row_end(v, r);
}
