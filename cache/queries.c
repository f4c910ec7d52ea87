#include "cache/queries.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/array.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "cache/file.h"
#include "cache/remote_priv.h"
#include "cache/tree_priv.h"
#include "crypto/kdf.h"

#define SUFFIX "/queries"
#define EXTENSION ".json"
#define NO_PARAMETERS "all"

static bool is_beside(const struct store_row *s)
{
	return strchr(s->name, '/') != NULL;
}

/* Asked for every entry of every listing: by a set that is read without a lock. Stores beyond it
 * are not known as what they are by the kernel's side: their answers are old until their entry is.
 */
bool queries_is(struct volume *v, uint64_t store)
{
	return store < VOLUME_STORES_MAX &&
	       atomic_load_explicit(&v->beside[store / 64], memory_order_relaxed) >> store % 64 & 1;
}

static int note(void *arg, const struct store_row *s)
{
	struct volume *v = arg;

	if (is_beside(s) && s->id < VOLUME_STORES_MAX)
		atomic_fetch_or(&v->beside[s->id / 64], UINT64_C(1) << s->id % 64);
	return 0;
}

int queries_open(struct volume *v)
{
	int r;

	db_read(v->db);
	r = store_each(v->db, note, v);
	db_unlock(v->db);
	return r;
}

/* ---- names ---- */

/* The parameters in a file's name; false: no answer has this name. */
static bool take_parameters(const char *file, char *out, size_t size)
{
	size_t len = strlen(file), stem = len - strlen(EXTENSION);

	if (len <= strlen(EXTENSION) || strcmp(file + stem, EXTENSION) ||
		!bytes_is_utf8((const uint8_t *)file, len))
		return false;
	if (stem == strlen(NO_PARAMETERS) && !memcmp(file, NO_PARAMETERS, stem)) {
		*out = 0;
		return true;
	}
	if (!memchr(file, '=', stem) || file[0] == '=' || stem + 2 > size)
		return false;
	*out = '?';
	memcpy(out + 1, file, stem);
	out[stem + 1] = 0;
	return true;
}

static int fill_in(
	struct volume *v, const struct name_row *dir, const char *file, struct queries_one *out)
{
	struct queries_one q = { .store = dir->store };
	struct store_row s;
	size_t len = dir->name.len;
	int r = store_get(v->db, dir->store, &s);

	if (r)
		return r;
	if (!is_beside(&s) || s.root != dir->parent || len >= sizeof(q.query) ||
		strlen(file) >= sizeof(q.file))
		return -ENOENT;
	memcpy(q.store_name, s.name, strlen(s.name) - strlen(SUFFIX));
	memcpy(q.query, dir->name.bytes, len);
	memcpy(q.file, file, strlen(file));
	memcpy(q.address, q.query, len);
	if (!take_parameters(file, q.address + len, sizeof(q.address) - len))
		return -ENOENT;
	*out = q;
	return 0;
}

static int find_locked(struct volume *v, uint64_t dir, const char *name, struct queries_one *out)
{
	struct name_row d, n;
	int r = tree_row_name_of(v, dir, &d);

	if (!r)
		r = fill_in(v, &d, name, out);
	if (r)
		return r;
	r = name_find(v->db, dir, name, strlen(name), &n);
	if (!r)
		memcpy(out->etag, n.etag.text, sizeof(out->etag));
	return r == -ENOENT ? 0 : r;
}

int queries_find(struct volume *v, uint64_t dir, const char *name, struct queries_one *out)
{
	int r;

	db_read(v->db);
	r = find_locked(v, dir, name, out);
	db_unlock(v->db);
	return r;
}

int queries_of(struct volume *v, uint64_t object, struct queries_one *out)
{
	struct name_row n;
	int r;

	db_read(v->db);
	r = tree_row_name_of(v, object, &n);
	if (!r)
		r = find_locked(v, n.parent, (const char *)n.name.bytes, out);
	db_unlock(v->db);
	return r;
}

/* ---- the directories ---- */

/* A name at the top of the store that nothing has. */
static int free_name(struct volume *v, uint64_t root, struct row_filename *out)
{
	char name[16] = "queries";
	struct name_row n;
	int r;

	while (!(r = name_find(v->db, root, name, strlen(name), &n))) {
		if (strlen(name) + 1 == sizeof(name))
			return -EEXIST;
		strcat(name, "~");
	}
	if (r != -ENOENT)
		return r;
	return tree_row_filename(out, name);
}

int queries_step_aside(struct remote_pass *p, struct name_row *n, const struct object_row *o)
{
	int r = remote_pass_entry(p, n->parent, &n->name, o);

	if (!r)
		r = free_name(p->v, n->parent, &n->name);
	if (!r)
		r = name_update(p->v->db, n);
	return r ? r : remote_pass_entry(p, n->parent, &n->name, o);
}

static int beside_txn(struct volume *v, const char *store, bool wanted, struct store_row *out,
	struct row_filename *name, uint64_t *root)
{
	struct store_row s;
	char beside[STORE_NAME_MAX + 1];
	int n = snprintf(beside, sizeof(beside), "%s" SUFFIX, store);
	int r = store_by_name(v->db, store, &s);

	if (r || n < 0 || (size_t)n >= sizeof(beside))
		return r ? r : -ENAMETOOLONG;
	r = store_by_name(v->db, beside, out);
	if (r != -ENOENT || !wanted)
		return r;
	r = free_name(v, s.root, name);
	if (!r)
		r = remote_store_insert(v, beside, STORE_RO, s.root, name, out);
	if (!r)
		*root = s.root;
	return r;
}

/* The store beside, made when it is wanted. */
static int get_beside(struct volume *v, const char *store, bool wanted, struct store_row *out)
{
	struct row_filename name;
	uint64_t root = 0;
	int r = db_begin(v->db);

	if (r)
		return r;
	r = tree_row_end(v, beside_txn(v, store, wanted, out, &name, &root));
	if (!r)
		r = keys_make(v, out->id, out->ref);
	if (r || !root)
		return r;
	(void)!note(v, out);
	volume_tell(v,
		&(struct volume_change){ .what = CHANGE_ENTRY,
			.parent = root,
			.name = (const char *)name.bytes,
			.name_len = name.len,
			.object = out->root,
			.version = 1 },
		1);
	return 0;
}

struct changes {
	struct volume *v;
	const char *const *names;
	size_t n_names;
	bool *there; /* of names */
	struct remote_record *records;
	size_t n, cap;
};

static int add(struct changes *c, const struct remote_record *rec)
{
	if (ARRAY_ROOM(c->records, c->n, c->cap))
		return -ENOMEM;
	c->records[c->n++] = *rec;
	return 0;
}

static int remove_entry(void *arg, const struct name_row *n, const struct object_row *o)
{
	struct remote_record rec = { .deleted = true };

	(void)o;
	memcpy(rec.id, n->rid.text, sizeof(rec.id));
	return add(arg, &rec);
}

static int remove_unnamed(void *arg, const struct name_row *n, const struct object_row *o)
{
	struct changes *c = arg;
	int r;

	for (size_t i = 0; i < c->n_names; i++)
		if (!strcmp(c->names[i], n->rid.text)) {
			c->there[i] = true;
			return 0;
		}
	r = name_each(c->v->db, n->object, 0, remove_entry, c);
	return r < 0 ? r : remove_entry(c, n, o);
}

static int add_directory(struct changes *c, const char *name)
{
	struct remote_record rec = {
		.parent = "root", .etag = "\"query\"", .kind = REMOTE_DIR, .mode = 0555
	};

	if (strlen(name) >= sizeof(rec.id))
		return CE_PROTOCOL;
	memcpy(rec.id, name, strlen(name));
	memcpy(rec.name, name, strlen(name));
	return add(c, &rec);
}

static int apply(struct volume *v, uint64_t store, const struct remote_record *records, size_t n)
{
	struct remote_report report;

	return n ? remote_apply(v, store, records, n, "", true, &report) : 0;
}

int queries_set(struct volume *v, const char *store, const char *const *names, size_t n)
{
	_cleanup_free_ bool *there = calloc(n + 1, sizeof(*there));
	struct changes c = { .v = v, .names = names, .n_names = n, .there = there };
	struct store_row beside;
	int r;

	if (!there)
		return -ENOMEM;
	r = get_beside(v, store, n > 0, &beside);
	if (r)
		return r == -ENOENT && !n ? 0 : r;
	db_read(v->db);
	r = name_each(v->db, beside.root, 0, remove_unnamed, &c);
	db_unlock(v->db);
	for (size_t i = 0; r >= 0 && i < n; i++)
		r = there[i] ? 0 : add_directory(&c, names[i]);
	if (r >= 0)
		r = apply(v, beside.id, c.records, c.n);
	free(c.records);
	return r;
}

/* ---- answers ---- */

/* A record's id that only this address has. */
static int id_of(const struct queries_one *q, char out[static 65])
{
	uint8_t hash[KDF_SHA256_LEN];
	int r = kdf_sha256(q->address, strlen(q->address), hash);

	if (!r)
		bytes_to_hex(hash, sizeof(hash), out);
	return r;
}

static int fill(struct volume *v, const struct queries_one *q, const char *rid, const char *etag,
	const void *data, size_t len)
{
	struct object_row o;
	struct name_row n;
	struct file *f;
	int r;

	db_read(v->db);
	r = name_by_rid(v->db, q->store, rid, &n);
	if (!r)
		r = object_get(v->db, n.object, &o);
	db_unlock(v->db);
	if (!r)
		r = file_open(v, o.id, o.version, false, &f);
	if (r)
		return r;
	r = file_fill(f, etag, data, len, 0);
	file_unref(f, false);
	return r;
}

int queries_put(struct volume *v, const struct queries_one *q, const char *etag, const void *data,
	size_t len)
{
	struct remote_record rec = {
		.kind = REMOTE_FILE, .mode = 0444, .size = len, .has_sha256 = true
	};
	int r = id_of(q, rec.id);

	if (!r)
		r = kdf_sha256(data, len, rec.sha256);
	if (r)
		return r;
	if (strlen(etag) >= sizeof(rec.etag))
		return CE_PROTOCOL;
	memcpy(rec.parent, q->query, sizeof(rec.parent));
	memcpy(rec.name, q->file, sizeof(rec.name));
	memcpy(rec.etag, etag, strlen(etag));
	rec.mtime_ns = clock_wall_ns();
	r = apply(v, q->store, &rec, 1);
	/* Without its content it is a file like any other that is not here: no failure. */
	if (!r && len)
		(void)!fill(v, q, rec.id, etag, data, len);
	return r;
}

int queries_gone(struct volume *v, const struct queries_one *q)
{
	struct remote_record rec = { .deleted = true };
	int r = id_of(q, rec.id);

	return r ? r : apply(v, q->store, &rec, 1);
}
