#include "cache/tree_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/array.h"
#include "base/clock.h"
#include "cache/blob.h"

int tree_row_end(struct volume *v, int r)
{
	if (!r)
		r = db_commit(v->db);
	else
		db_rollback(v->db);
	gc_run(v, !r);
	return r;
}

/* Chunks of a file are counted so far; beyond that its blob, which may have other states of it too,
 * says about enough. */
#define COUNTED 256

/* Holes are looked for only where they can matter: a file larger than a chunk. */
static uint64_t data_bytes(struct volume *v, const struct object_row *o)
{
	struct content_map m;
	struct content_blob b;
	uint64_t chunks, bytes;

	if (!S_ISREG(o->mode) || !o->map)
		return 0;
	if (o->size <= UINT64_C(1) << BLOB_SHIFT_PACK || content_map_get(v->db, o->map, &m) ||
		!m.whole)
		return o->size;
	if (!m.blob)
		return 0;
	if (content_chunk_count(v->db, o->map, COUNTED, &chunks) ||
		content_blob_get(v->db, m.blob, &b))
		return o->size;
	bytes = chunks << b.shift;
	if (chunks == COUNTED)
		bytes = MAX_OF(bytes, b.alloc_bytes);
	return MIN_OF(bytes, o->size);
}

void tree_row_attr(struct volume *v, const struct object_row *o, struct tree_attr *a)
{
	*a = (struct tree_attr){
		.object = o->id,
		.version = o->version,
		.store = o->store,
		.mode = o->mode,
		.uid = o->uid,
		.gid = o->gid,
		.nlink = o->nlink,
		.rdev = o->rdev,
		.size = o->size,
		.atime_ns = o->atime_ns,
		.mtime_ns = o->mtime_ns,
		.ctime_ns = o->ctime_ns,
		.btime_ns = o->btime_ns,
	};
	a->blocks = (data_bytes(v, o) + 511) / 512;
}

int tree_row_filename(struct row_filename *f, const char *name)
{
	size_t len = strlen(name);

	if (!len)
		return -ENOENT;
	if (len > ROW_NAME_MAX)
		return -ENAMETOOLONG;
	return row_filename_set(f, name, len) ? 0 : -EINVAL;
}

bool tree_row_same_name(const struct row_filename *a, const struct row_filename *b)
{
	return a->len == b->len && !memcmp(a->bytes, b->bytes, a->len);
}

int tree_row_dir(struct volume *v, uint64_t object, struct object_row *out)
{
	int r = object_get(v->db, object, out);

	if (r)
		return r;
	if (!S_ISDIR(out->mode))
		return -ENOTDIR;
	return out->nlink ? 0 : -ENOENT;
}

int tree_row_dir_rw(struct volume *v, uint64_t object, struct object_row *out)
{
	struct store_row s;
	int r = tree_row_dir(v, object, out);

	if (r)
		return r;
	if (object == OBJECT_ROOT)
		return -EPERM;
	if (atomic_load(&v->old_seq))
		return -EROFS;
	r = store_get(v->db, out->store, &s);
	if (r)
		return r;
	return s.mode == STORE_RO ? -EROFS : 0;
}

int tree_row_touch(struct volume *v, struct object_row *dir, int nlink, int64_t now)
{
	dir->nlink = (uint32_t)((int64_t)dir->nlink + nlink);
	dir->mtime_ns = dir->ctime_ns = now;
	return object_update(v->db, dir);
}

static int first_name(void *arg, const struct name_row *n, const struct object_row *o)
{
	*(struct name_row *)arg = *n;
	return 1;
}

int tree_row_name_of(struct volume *v, uint64_t object, struct name_row *out)
{
	struct name_row n = { 0 };
	int r = name_each_of(v->db, object, first_name, &n);

	if (r < 0)
		return r;
	if (!n.id)
		return -ENOENT;
	*out = n;
	return 0;
}

struct collect {
	struct name_row *rows;
	size_t n, cap;
};

static int collect_name(void *arg, const struct name_row *n, const struct object_row *o)
{
	struct collect *c = arg;

	if (ARRAY_ROOM(c->rows, c->n, c->cap))
		return -ENOMEM;
	c->rows[c->n++] = *n;
	return 0;
}

static int collected(struct collect *c, int r, struct name_row **rows, size_t *n)
{
	if (r < 0) {
		free(c->rows);
		return r;
	}
	*rows = c->rows;
	*n = c->n;
	return 0;
}

int tree_row_names_of(struct volume *v, uint64_t object, struct name_row **rows, size_t *n)
{
	struct collect c = { 0 };

	return collected(&c, name_each_of(v->db, object, collect_name, &c), rows, n);
}

int tree_row_entries(struct volume *v, uint64_t dir, struct name_row **rows, size_t *n)
{
	struct collect c = { 0 };

	return collected(&c, name_each(v->db, dir, 0, collect_name, &c), rows, n);
}

int tree_row_rid(struct volume *v, uint64_t store, uint64_t dir, struct row_rid *out)
{
	struct store_row s;
	struct name_row n;
	int r = store_get(v->db, store, &s);

	if (r)
		return r;
	if (s.root == dir) {
		*out = (struct row_rid){ "root" };
		return 0;
	}
	r = tree_row_name_of(v, dir, &n);
	if (r)
		return r;
	*out = n.rid;
	return 0;
}

int tree_row_below(struct volume *v, uint64_t object, uint64_t ancestor, bool *out)
{
	struct name_row n;
	int r;

	for (unsigned depth = 0; object != ancestor; depth++) {
		if (object == OBJECT_ROOT || object == TREE_NOWHERE)
			break;
		if (depth == TREE_DEPTH_MAX)
			return -ELOOP;
		r = tree_row_name_of(v, object, &n);
		if (r == -ENOENT)
			break;
		if (r)
			return r;
		object = n.parent;
	}
	*out = object == ancestor;
	return 0;
}

static int is_sent(void *arg, const struct op_row *op)
{
	*(bool *)arg |= op->kind == OP_PUT && op->state == OP_INFLIGHT;
	return 0;
}

/* A symlink that was sent may have to be sent again, as it was: a link of the journal's keeps it
 * until its row goes (fold_row_delete). */
int tree_row_remove(struct volume *v, const struct object_row *o)
{
	struct object_row kept = *o;
	bool sent = false;
	int r = S_ISLNK(o->mode) ? op_each_of_object(v->db, o->id, is_sent, &sent) : 0;

	if (r < 0)
		return r;
	if (sent) {
		kept.nlink = 1;
		return object_update(v->db, &kept);
	}
	r = o->map ? gc_drop_map(v, o->map) : 0;
	return r ? r : object_delete(v->db, o->id);
}

int tree_row_unname(struct volume *v, const struct name_row *n, struct object_row *o, int64_t now)
{
	int r = name_delete(v->db, n->id);

	return r ? r : tree_row_unlinked(v, n, o, now);
}

/* The content came with the name that went: another name of the same content takes over, or it is
 * ours alone. */
static int hand_over_content(struct volume *v, const struct name_row *n, const struct object_row *o)
{
	_cleanup_free_ struct name_row *rows = NULL;
	size_t count = 0;
	int r;

	if (!o->map || !n->etag.text[0])
		return 0;
	r = tree_row_names_of(v, o->id, &rows, &count);
	if (r)
		return r;
	for (size_t i = 0; i < count; i++)
		if (rows[i].etag.text[0] && rows[i].has_sha256 && n->has_sha256 &&
			!memcmp(rows[i].sha256, n->sha256, ROW_SHA256_LEN))
			return tree_row_map_etag(v, o, n->etag.text, rows[i].etag.text);
	return tree_row_map_etag(v, o, n->etag.text, "");
}

int tree_row_unlinked(struct volume *v, const struct name_row *n, struct object_row *o, int64_t now)
{
	int r = 0;

	o->nlink = S_ISDIR(o->mode) || o->nlink <= 1 ? 0 : o->nlink - 1;
	o->ctime_ns = now;
	if (!o->nlink && !live_unlinked(v, o->id))
		return tree_row_remove(v, o);
	if (o->nlink)
		r = hand_over_content(v, n, o);
	else
		r = tree_row_own_content(v, o);
	return r ? r : object_update(v->db, o);
}

int tree_row_map_etag(
	struct volume *v, const struct object_row *o, const char *from, const char *to)
{
	struct content_map m;
	int r;

	if (!S_ISREG(o->mode) || !o->map)
		return 0;
	r = content_map_get(v->db, o->map, &m);
	if (r || strcmp(m.etag.text, from))
		return r;
	if (!*to && !m.whole)
		return 0;
	snprintf(m.etag.text, sizeof(m.etag.text), "%s", to);
	return content_map_update(v->db, &m);
}

int tree_row_whole(struct volume *v, const struct object_row *o, bool *out)
{
	struct content_map m;
	int r;

	if (!S_ISREG(o->mode) || !o->map) {
		*out = true;
		return 0;
	}
	r = content_map_get(v->db, o->map, &m);
	if (!r)
		*out = m.whole;
	return r;
}

int tree_row_own_content(struct volume *v, const struct object_row *o)
{
	struct content_map m;
	int r;

	if (!S_ISREG(o->mode) || !o->map)
		return 0;
	r = content_map_get(v->db, o->map, &m);
	if (r || !m.whole || !m.etag.text[0])
		return r;
	m.etag.text[0] = 0;
	return content_map_update(v->db, &m);
}
