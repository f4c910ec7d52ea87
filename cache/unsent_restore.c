#include "cache/unsent_restore.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "cache/blob.h"
#include "cache/logged.h"
#include "cache/pool.h"
#include "cache/quarantine.h"
#include "cache/remote_priv.h"
#include "cache/setup_priv.h"
#include "cache/tree_priv.h"
#include "cache/unsent.h"
#include "cache/unsent_model.h"
#include "cache/verify.h"

#define INDEX_PREFIX "index."

/* Numbers of the lost index and what stands for them now. */
struct number {
	uint64_t was, is;
	UT_hash_handle hh;
};

struct uuid_row {
	uint8_t uuid[CONTENT_UUID_LEN];
	uint64_t id;
	UT_hash_handle hh;
};

struct unsent_restore {
	struct volume *v;
	struct model m;
	struct number *objects;
	struct uuid_row *blobs;
	struct unsent_restored done;
	uint8_t *buf;
};

int unsent_restore_load(struct volume *v, struct unsent_restore **out)
{
	struct unsent_restore *u = calloc(1, sizeof(*u));
	int r = u ? unsent_load(v, &u->m) : -ENOMEM;

	if (r) {
		free(u);
		return r;
	}
	u->v = v;
	u->done.log_damaged = u->m.damaged;
	*out = u;
	return 0;
}

void unsent_restore_free(struct unsent_restore *u)
{
	struct number *n, *next;
	struct uuid_row *b, *next_blob;

	if (!u)
		return;
	HASH_ITER (hh, u->objects, n, next) {
		HASH_DEL(u->objects, n);
		free(n);
	}
	HASH_ITER (hh, u->blobs, b, next_blob) {
		HASH_DEL(u->blobs, b);
		free(b);
	}
	if (u->buf)
		pool_put(u->v->pool, BLOB_SHIFT_MAX, u->buf, (size_t)1 << BLOB_SHIFT_MAX);
	unsent_model_done(&u->m);
	free(u);
}

/* --- the old index goes aside --- */

/* Every file that is part of the index. */
static int move_index(struct volume *v, int to)
{
	int fd = openat(v->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!dir) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	while (!r && (e = readdir(dir)))
		if (!strncmp(e->d_name, INDEX_PREFIX, sizeof(INDEX_PREFIX) - 1) &&
			renameat(v->dirfd, e->d_name, to, e->d_name) < 0)
			r = -errno;
	closedir(dir);
	return r;
}

static bool is_named(const struct unsent_restore *u, const char *name)
{
	char path[BLOB_NAME_LEN];

	for (const struct model_map *m = u->m.maps; m; m = m->hh.next) {
		blob_path(m->c.blob.uuid, path);
		if (m->c.has_blob && !strcmp(path, name))
			return true;
	}
	return false;
}

/* Blobs of one directory that the log does not name. */
static int move_blobs_of(struct unsent_restore *u, const char *xx, int to)
{
	int fd = openat(u->v->blobs_fd, xx, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	char name[BLOB_NAME_LEN], flat[BLOB_NAME_LEN];
	struct dirent *e;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return fd < 0 && errno == ENOENT ? 0 : -errno;
	}
	while (!r && (e = readdir(dir))) {
		if (strlen(e->d_name) != BLOB_NAME_LEN - 4)
			continue;
		snprintf(name, sizeof(name), "%.2s/%.30s", xx, e->d_name);
		snprintf(flat, sizeof(flat), "%.2s%.30s", xx, e->d_name);
		if (!is_named(u, name) && renameat(u->v->blobs_fd, name, to, flat) < 0)
			r = -errno;
	}
	closedir(dir);
	return r;
}

static int move_blobs(struct unsent_restore *u, int to)
{
	char xx[3];
	int r = 0;

	for (unsigned i = 0; i < 256 && !r; i++) {
		snprintf(xx, sizeof(xx), "%02x", i);
		r = move_blobs_of(u, xx, to);
	}
	return r;
}

int unsent_restore_aside(struct volume *v, struct unsent_restore *u)
{
	_cleanup_fd_ int fd = -1;
	int r = quarantine_make(v, u->done.quarantine, sizeof(u->done.quarantine), &fd);

	if (!r && u->m.damaged)
		r = move_blobs(u, fd);
	if (!r)
		r = FAILPOINT("restore-aside");
	if (!r)
		r = logged_keep(v);
	if (!r)
		r = move_index(v, fd);
	return r ? r : quarantine_sync(v, fd);
}

/* --- settings and stores --- */

static int set(struct db *db, const char *key, struct unsent_bytes value)
{
	return value.len ? setting_set(db, key, value.p, value.len) : 0;
}

/* "Unclean" makes the keeper look for files that no row names. */
static int put_settings(struct unsent_restore *u)
{
	struct db *db = u->v->db;
	int r = set(db, SETUP_DEVICE, u->m.volume.device);

	if (!r)
		r = set(db, SETUP_ORIGIN, u->m.volume.origin);
	if (!r)
		r = set(db, SETUP_TOKEN, u->m.volume.token);
	if (!r)
		r = set(db, SETUP_STORE, u->m.volume.store);
	if (!r)
		r = setting_set_u64(db, SETUP_OPENED, u->m.volume.opened);
	return r ? r : setting_set_u64(db, SETUP_UNCLEAN, 1);
}

static int put_stores(struct unsent_restore *u)
{
	int r = 0;

	for (struct model_store *s = u->m.stores; s && !r; s = s->next) {
		struct store_row row = s->s;

		r = remote_store_restore(u->v, &row);
		s->id = row.id;
		s->root = row.root;
	}
	return r;
}

/* --- content --- */

static int blob_row_of(struct unsent_restore *u, const struct model_map *m, uint64_t *id)
{
	const struct model_store *s = unsent_model_store(&u->m, m->c.blob.store);
	struct content_blob row = m->c.blob;
	char path[BLOB_NAME_LEN];
	struct uuid_row *known;
	struct stat st;
	int r;

	HASH_FIND(hh, u->blobs, row.uuid, sizeof(row.uuid), known);
	if (known || !s) {
		*id = known ? known->id : 0;
		return known ? 0 : CE_CORRUPT;
	}
	blob_path(row.uuid, path);
	row.store = s->id;
	row.alloc_bytes = fstatat(u->v->blobs_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0
				  ? 0
				  : (uint64_t)st.st_blocks * 512;
	known = calloc(1, sizeof(*known));
	if (!known)
		return -ENOMEM;
	memcpy(known->uuid, row.uuid, sizeof(known->uuid));
	r = content_blob_insert(u->v->db, &row);
	if (!r)
		r = TABLE_ADD(hh, u->blobs, uuid, known);
	if (r) {
		free(known);
		return r;
	}
	*id = known->id = row.id;
	return 0;
}

/* Whether no map of the log has something newer there: one whose last change is missing may name
 * units that were given to another since. */
static bool is_newest(const struct unsent_restore *u, const struct model_map *of,
	const struct content_chunk *c)
{
	uint64_t end = c->slot + (blob_bytes(c->len) >> BLOB_UNIT_SHIFT);

	for (const struct model_map *m = u->m.maps; m; m = m->hh.next) {
		if (memcmp(m->c.blob.uuid, of->c.blob.uuid, CONTENT_UUID_LEN) != 0)
			continue;
		for (size_t i = 0; i < m->c.n_puts; i++) {
			const struct content_chunk *o = &m->c.puts[i];

			if (o->seq > c->seq && o->slot < end &&
				c->slot < o->slot + (blob_bytes(o->len) >> BLOB_UNIT_SHIFT))
				return false;
		}
	}
	return true;
}

static int open_chunk(struct unsent_restore *u, const struct model_map *m, struct blob *b,
	const struct content_chunk *c)
{
	int r = blob_open(b, c, u->buf);

	if ((r != CE_TAMPER && r != -EIO && r != CE_CORRUPT) || !is_newest(u, m, c))
		return r;
	r = logged_restore(b, c);
	return r ? r : blob_open(b, c, u->buf);
}

/* Whether all that the map names opens. */
static int check_chunks(struct unsent_restore *u, const struct model_map *m, uint64_t id, bool *bad)
{
	struct blob *b = NULL;
	int r = blob_get(u->v, id, &b);

	for (size_t i = 0; i < m->c.n_puts && !r && !*bad; i++) {
		const struct content_chunk *c = &m->c.puts[i];

		if (c->len > UINT32_C(1) << b->shift) {
			*bad = true;
			break;
		}
		r = open_chunk(u, m, b, c);
		secret_wipe(u->buf, c->len);
		*bad = r == CE_TAMPER || r == -EIO || r == CE_CORRUPT;
		if (*bad)
			r = 0;
	}
	blob_unref(b);
	return r;
}

static int insert_map(struct unsent_restore *u, const struct model_map *m, uint64_t object,
	enum content_map_state state, struct content_map *row, bool *bad)
{
	int r = 0;

	*row = (struct content_map){
		.object = object, .size = m->c.size, .whole = true, .state = state,
		.used_s = clock_wall_ns() / NS_PER_SEC,
	};
	if (m->c.has_blob)
		r = blob_row_of(u, m, &row->blob);
	if (!r)
		r = content_map_insert(u->v->db, row);
	for (size_t i = 0; i < m->c.n_puts && !r; i++)
		r = content_chunk_put(u->v->db, row->id, &m->c.puts[i]);
	if (!r && m->c.n_puts)
		r = row->blob ? check_chunks(u, m, row->blob, bad) : CE_CORRUPT;
	*bad |= m->broken;
	return r;
}

/* What the origin has of a file, to be fetched. */
static int insert_clean_map(
	struct unsent_restore *u, const struct name_row *n, struct object_row *o)
{
	struct content_map row = { .object = o->id, .size = o->size, .etag = n->etag };
	int r;

	if (!o->size || !n->etag.text[0]) {
		o->size = 0;
		return 0;
	}
	r = content_map_insert(u->v->db, &row);
	o->map = row.id;
	return r;
}

static bool has_put(const struct unsent_record *rec)
{
	for (size_t i = 0; i < rec->n_ops; i++)
		if (rec->ops[i].kind == OP_PUT)
			return true;
	return false;
}

/* *bad: there was unsent content, and it is not whole. */
static int put_content(
	struct unsent_restore *u, const struct unsent_record *rec, struct object_row *o, bool *bad)
{
	uint64_t was = rec->o.map;
	const struct model_map *m = was ? unsent_model_map(&u->m, was) : NULL;
	struct content_map row;
	int r;

	if (!S_ISREG(o->mode) || (!was && !o->size))
		return 0;
	if (!has_put(rec) || !m) {
		*bad = has_put(rec);
		return insert_clean_map(u, &rec->n, o);
	}
	r = insert_map(u, m, o->id, CONTENT_MAP_CURRENT, &row, bad);
	o->map = row.id;
	o->size = row.size;
	return r;
}

/* --- names and objects --- */

static struct number *find_object(struct unsent_restore *u, uint64_t was)
{
	struct number *n;

	HASH_FIND(hh, u->objects, &was, sizeof(was), n);
	return n;
}

static int note_object(struct unsent_restore *u, uint64_t was, uint64_t is)
{
	struct number *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	n->was = was;
	n->is = is;
	if (TABLE_ADD(hh, u->objects, was, n)) {
		free(n);
		return -ENOMEM;
	}
	return 0;
}

static int new_object(struct unsent_restore *u, const struct unsent_record *rec, uint64_t store,
	struct object_row *o, bool *bad)
{
	int r;

	*o = rec->o;
	o->store = store;
	o->version = 1;
	o->nlink = S_ISDIR(o->mode) ? 2 : 1;
	o->map = 0;
	r = object_insert(u->v->db, o, rec->target, rec->target_len);
	if (!r)
		r = note_object(u, rec->o.id, o->id);
	if (!r)
		r = put_content(u, rec, o, bad);
	return r ? r : object_update(u->v->db, o);
}

/* One more name of an object that was put back with another. */
static int add_link(struct unsent_restore *u, uint64_t id, struct object_row *o)
{
	int r = object_get(u->v->db, id, o);

	if (r)
		return r;
	o->nlink++;
	return object_update(u->v->db, o);
}

static int count_child(struct unsent_restore *u, uint64_t parent, const struct object_row *child)
{
	struct object_row dir;
	int r;

	if (parent == TREE_NOWHERE || !S_ISDIR(child->mode))
		return 0;
	r = object_get(u->v->db, parent, &dir);
	dir.nlink++;
	return r ? r : object_update(u->v->db, &dir);
}

/* Where the place is taken, or not known, the id is the name until the origin says more. */
static int insert_name(struct unsent_restore *u, const struct unsent_record *rec, uint64_t store,
	uint64_t parent, uint64_t object)
{
	struct name_row n = rec->n;
	int r;

	n.store = store;
	n.rid = rec->rid;
	n.parent = parent;
	n.object = object;
	n.seen = 0;
	r = name_insert(u->v->db, &n);
	if (r != -EEXIST)
		return r;
	n.parent = TREE_NOWHERE;
	if (!row_filename_set(&n.name, rec->rid.text, strlen(rec->rid.text)))
		return CE_CORRUPT;
	return name_insert(u->v->db, &n);
}

static int put_name(struct unsent_restore *u, struct model_record *model, uint64_t parent)
{
	_cleanup_unsent_ struct unsent_record rec = { 0 };
	const struct model_store *s = unsent_model_store(&u->m, model->key.store);
	struct unsent_bytes body = { model->body, model->len };
	struct object_row o;
	struct number *known;
	int r = unsent_row_get_record(body, &rec);

	if (r || !rec.has_name || !s)
		return r;
	known = find_object(u, rec.o.id);
	r = known ? add_link(u, known->is, &o) : new_object(u, &rec, s->id, &o, &model->bad);
	if (!r)
		r = insert_name(u, &rec, s->id, parent, o.id);
	if (!r)
		r = count_child(u, parent, &o);
	model->object = o.id;
	return r;
}

/* The object of the directory a record stands in. False: it is to be put back first. */
static bool find_parent(struct unsent_restore *u, const struct model_record *rec, uint64_t *out)
{
	const struct model_store *s = unsent_model_store(&u->m, rec->parent.store);
	const struct model_record *dir;

	*out = TREE_NOWHERE;
	if (s && !strcmp(rec->parent.rid.text, "root")) {
		*out = s->root;
		return true;
	}
	dir = unsent_model_record(&u->m, &rec->parent);
	if (!dir)
		return true;
	*out = dir->object;
	return dir->done;
}

/* Parents before children: in rounds, as many as the tree is deep. What is left turns in a circle,
 * which only damage can make. */
static int put_names(struct unsent_restore *u)
{
	bool more = true, any_parent = false;
	int r = 0;

	while (more && !r) {
		bool progress = false;

		more = false;
		for (struct model_record *rec = u->m.records; rec && !r; rec = rec->hh.next) {
			uint64_t parent;

			if (rec->done)
				continue;
			if (!find_parent(u, rec, &parent) && !any_parent) {
				more = true;
				continue;
			}
			r = put_name(u, rec, parent);
			rec->done = progress = true;
		}
		any_parent = !progress;
	}
	return r;
}

/* --- journal rows --- */

/* What was sent is sent again as it was, if it can be told what that was; else it is sent anew, and
 * the origin's version decides. */
static int put_snapshot(struct unsent_restore *u, struct op_row *op)
{
	const struct model_map *m = op->map ? unsent_model_map(&u->m, op->map) : NULL;
	struct content_map row;
	bool bad = false;
	int r = 0;

	if (op->state != OP_INFLIGHT || op->kind != OP_PUT || !op->map)
		return 0;
	op->map = 0;
	if (m)
		r = insert_map(u, m, op->object, CONTENT_MAP_SNAPSHOT, &row, &bad);
	if (r)
		return r;
	if (m && !bad) {
		op->map = row.id;
		return 0;
	}
	op->state = OP_QUEUED;
	secret_random(op->key, sizeof(op->key));
	return m ? content_map_delete(u->v->db, row.id) : 0;
}

static int put_op(struct unsent_restore *u, const struct model_record *model, struct op_row *op,
	uint64_t store)
{
	const struct number *n = find_object(u, op->object);
	int r;

	op->store = store;
	op->object = n ? n->is : 0;
	op->next_try_ms = 0;
	r = put_snapshot(u, op);
	if (r)
		return r;
	if (op->kind == OP_PUT && op->state != OP_INFLIGHT) {
		op->map = 0;
		if (model->bad) {
			op->state = OP_REFUSED;
			snprintf(op->error, sizeof(op->error), VERIFY_DAMAGED_TEXT);
		}
	}
	r = op_restore(u->v->db, op);
	return r == -EEXIST ? 0 : r;
}

static int put_ops(struct unsent_restore *u)
{
	int r = 0;

	for (struct model_record *m = u->m.records; m && !r; m = m->hh.next) {
		_cleanup_unsent_ struct unsent_record rec = { 0 };
		const struct model_store *s = unsent_model_store(&u->m, m->key.store);
		struct unsent_bytes body = { m->body, m->len };

		r = unsent_row_get_record(body, &rec);
		for (size_t i = 0; i < rec.n_ops && !r && s; i++)
			r = put_op(u, m, &rec.ops[i], s->id);
		u->done.records += rec.n_ops != 0;
		u->done.damaged += m->bad;
	}
	return r;
}

/* New rows get numbers that were never given: the origin remembers the highest it saw. */
static int put_floor(struct unsent_restore *u)
{
	struct op_row op = { .seq = u->m.op_seq, .kind = OP_ATTR };
	uint64_t last = 0;
	int r = op_last_seq(u->v->db, &last);

	if (r || last >= op.seq)
		return r;
	r = op_restore(u->v->db, &op);
	return r ? r : op_delete(u->v->db, op.seq);
}

static int put_event(struct unsent_restore *u, const char *why)
{
	char detail[160];

	snprintf(detail, sizeof(detail),
		"{\"index\":\"%s\",\"restored\":%llu,\"damaged\":%llu,\"log_damaged\":%s}", why,
		(unsigned long long)u->done.records, (unsigned long long)u->done.damaged,
		u->done.log_damaged ? "true" : "false");
	return event_append(u->v->db, clock_wall_ns(), "rehydrate", detail);
}

static int put_all(struct unsent_restore *u, const char *why)
{
	int r = put_settings(u);

	if (!r)
		r = put_stores(u);
	if (!r)
		r = put_names(u);
	if (!r)
		r = FAILPOINT("restore-rows");
	if (!r)
		r = put_ops(u);
	if (!r)
		r = put_floor(u);
	return r ? r : put_event(u, why);
}

int unsent_restore_rows(
	struct volume *v, struct unsent_restore *u, const char *why, struct unsent_restored *out)
{
	int r;

	u->buf = pool_get(v->pool, BLOB_SHIFT_MAX);
	if (!u->buf)
		return -ENOMEM;
	r = db_begin(v->db);
	if (r)
		return r;
	r = tree_row_end(v, put_all(u, why));
	if (!r)
		*out = u->done;
	return r;
}
