/*
 * The open files of a volume: by object, the open versions of one object chained, and by map. A
 * file is found or loaded with the index lock held where it must not race with the origin's
 * changes: whoever replaces a version asks filetab_busy() inside its transaction.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "cache/file_priv.h"
#include "cache/packs.h"

static struct file *find(struct volume *v, uint64_t object, uint64_t version)
{
	struct file *f;

	HASH_FIND(hh, v->files, &object, sizeof(object), f);
	while (f && f->version != version)
		f = f->same;
	return f;
}

static struct file *find_map(struct volume *v, uint64_t map)
{
	struct file *f;

	HASH_FIND(hh_map, v->files_by_map, &map, sizeof(map), f);
	return f;
}

static int add_map(struct volume *v, struct file *f, uint64_t map)
{
	int r = 0;

	if (map && !f->in_map_table) {
		f->table_map = map;
		r = TABLE_ADD(hh_map, v->files_by_map, table_map, f);
		f->in_map_table = !r;
	}
	return r;
}

/* The chain's first is the one in the table. */
static int add_object(struct volume *v, struct file *f)
{
	struct file *first;

	HASH_FIND(hh, v->files, &f->object, sizeof(f->object), first);
	if (!first)
		return TABLE_ADD(hh, v->files, object, f);
	f->same = first->same;
	first->same = f;
	return 0;
}

/* Where there is a table that may not grow, nothing is allocated. */
static void replace(struct volume *v, struct file *f, struct file *by)
{
	v->files->hh.tbl->noexpand = 1;
	if (TABLE_ADD(hh, v->files, object, by))
		abort();
	v->files->hh.tbl->noexpand = 0;
	HASH_DEL(v->files, f);
}

static void del_object(struct volume *v, struct file *f)
{
	struct file *first, *p;

	HASH_FIND(hh, v->files, &f->object, sizeof(f->object), first);
	if (first == f && f->same)
		replace(v, f, f->same);
	else if (first == f)
		HASH_DEL(v->files, f);
	if (first == f)
		return;
	for (p = first; p->same != f; p = p->same)
		;
	p->same = f->same;
}

static struct file *get(struct volume *v, uint64_t object, uint64_t version, bool writer)
{
	struct file *f;

	pthread_mutex_lock(&v->files_lock);
	f = find(v, object, version);
	if (f) {
		f->refs++;
		f->writers += writer;
	}
	pthread_mutex_unlock(&v->files_lock);
	return f;
}

void filetab_ref(struct file *f)
{
	pthread_mutex_lock(&f->v->files_lock);
	f->refs++;
	pthread_mutex_unlock(&f->v->files_lock);
}

struct file *filetab_get(struct volume *v, uint64_t object, uint64_t version)
{
	return get(v, object, version, false);
}

/* Index lock held: map and blob as the row says. */
static int file_new(struct volume *v, uint64_t store, uint64_t map, struct file **out)
{
	struct content_map m = { .whole = true };
	struct file *f;
	int r = map ? content_map_get(v->db, map, &m) : 0;

	if (r)
		return r;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	if (m.blob)
		r = blob_get(v, m.blob, &f->rows);
	if (r) {
		free(f);
		return r;
	}
	if (f->rows)
		f->blob = blob_ref(f->rows);
	if (f->rows && f->rows->pack)
		packs_keep(f->rows);
	f->v = v;
	f->store = store;
	f->refs = 1;
	f->map = map;
	f->object = m.object;
	f->size = m.size;
	f->whole = m.whole;
	pthread_rwlock_init(&f->lock, NULL);
	chunkmap_init(&f->chunks, &v->db, map);
	*out = f;
	return 0;
}

static int load(struct volume *v, uint64_t object, uint64_t version, bool writer, struct file **out)
{
	struct object_row o;
	struct file *f;
	int r = object_get(v->db, object, &o);

	if (r == -ENOENT || (!r && o.version != version))
		return CE_STALE;
	if (r)
		return r;
	if (!S_ISREG(o.mode))
		return S_ISDIR(o.mode) ? -EISDIR : -EINVAL;
	r = file_new(v, o.store, o.map, &f);
	if (r)
		return r;
	f->object = object;
	f->version = version;
	f->writers = writer;
	pthread_mutex_lock(&v->files_lock);
	r = add_object(v, f);
	if (!r) {
		r = add_map(v, f, f->map);
		if (r)
			del_object(v, f);
	}
	pthread_mutex_unlock(&v->files_lock);
	if (r)
		file_free(f);
	else
		*out = f;
	return r;
}

int filetab_open(
	struct volume *v, uint64_t object, uint64_t version, bool writer, struct file **out)
{
	struct file *f = writer ? NULL : get(v, object, version, false);
	int r = 0;

	if (!f) {
		/* Who adds a file holds the index lock, so it is still not there. */
		db_read(v->db);
		f = get(v, object, version, writer);
		if (!f)
			r = load(v, object, version, writer, &f);
		db_unlock(v->db);
	}
	if (!r)
		*out = f;
	return r;
}

static int load_map(struct volume *v, uint64_t map, struct file **out)
{
	struct object_row o;
	struct content_map m;
	struct content_blob b = { .store = 0 };
	struct file *f;
	int r = content_map_get(v->db, map, &m);

	if (!r && m.blob)
		r = content_blob_get(v->db, m.blob, &b);
	if (!r && !m.blob && !object_get(v->db, m.object, &o))
		b.store = o.store;
	if (!r)
		r = file_new(v, b.store, map, &f);
	if (r)
		return r == -ENOENT ? CE_STALE : r;
	f->snapshot = true;
	pthread_mutex_lock(&v->files_lock);
	r = add_map(v, f, f->map);
	pthread_mutex_unlock(&v->files_lock);
	if (r)
		file_free(f);
	else
		*out = f;
	return r;
}

int filetab_open_map(struct volume *v, uint64_t map, struct file **out)
{
	struct file *f;
	int r = 0;

	db_read(v->db);
	pthread_mutex_lock(&v->files_lock);
	f = find_map(v, map);
	if (f)
		f->refs++;
	pthread_mutex_unlock(&v->files_lock);
	if (!f)
		r = load_map(v, map, &f);
	db_unlock(v->db);
	if (!r)
		*out = f;
	return r;
}

bool filetab_unref(struct file *f, bool writer, bool unless_dirty, bool *kept)
{
	struct volume *v = f->v;
	bool last;

	pthread_mutex_lock(&v->files_lock);
	last = f->refs == 1;
	if (last && unless_dirty && atomic_load(&f->is_dirty)) {
		*kept = true;
		pthread_mutex_unlock(&v->files_lock);
		return false;
	}
	f->refs--;
	f->writers -= writer;
	if (last && !f->snapshot)
		del_object(v, f);
	if (last && f->in_map_table)
		HASH_DELETE(hh_map, v->files_by_map, f);
	pthread_mutex_unlock(&v->files_lock);
	return last;
}

bool filetab_busy(struct volume *v, uint64_t object)
{
	bool busy = false;
	struct file *f;

	pthread_mutex_lock(&v->files_lock);
	HASH_FIND(hh, v->files, &object, sizeof(object), f);
	for (; f && !busy; f = f->same)
		busy = f->writers || atomic_load(&f->is_dirty);
	pthread_mutex_unlock(&v->files_lock);
	return busy;
}

bool filetab_map_open(struct volume *v, uint64_t map)
{
	bool open;

	pthread_mutex_lock(&v->files_lock);
	open = find_map(v, map);
	pthread_mutex_unlock(&v->files_lock);
	return open;
}

bool filetab_supersede(struct volume *v, uint64_t map)
{
	struct file *f;

	pthread_mutex_lock(&v->files_lock);
	f = find_map(v, map);
	if (f)
		f->superseded = true;
	pthread_mutex_unlock(&v->files_lock);
	return f;
}

int filetab_enter_map(struct file *f, uint64_t map)
{
	int r;

	pthread_mutex_lock(&f->v->files_lock);
	r = add_map(f->v, f, map);
	pthread_mutex_unlock(&f->v->files_lock);
	return r;
}

void filetab_set_map(struct file *f)
{
	pthread_mutex_lock(&f->v->files_lock);
	f->map = f->chunks.map = f->table_map;
	pthread_mutex_unlock(&f->v->files_lock);
}

size_t filetab_dirty(struct volume *v, int64_t before_ns, int64_t open_before_ns, struct file **out,
	size_t max)
{
	struct file *f, *next, *p;
	size_t n = 0;

	pthread_mutex_lock(&v->files_lock);
	HASH_ITER (hh, v->files, f, next) {
		for (p = f; p && n < max; p = p->same) {
			if (!atomic_load(&p->is_dirty) ||
				atomic_load(&p->dirty_since_ns) >
					(p->writers ? open_before_ns : before_ns))
				continue;
			p->refs++;
			out[n++] = p;
		}
	}
	pthread_mutex_unlock(&v->files_lock);
	return n;
}

bool filetab_any_dirty(struct volume *v)
{
	struct file *f;
	size_t n = filetab_dirty(v, INT64_MAX, INT64_MAX, &f, 1);

	if (n)
		file_unref(f, false);
	return n;
}

size_t filetab_all(struct volume *v, struct file **out, size_t max)
{
	struct file *f, *next;
	size_t n = 0;

	pthread_mutex_lock(&v->files_lock);
	HASH_ITER (hh_map, v->files_by_map, f, next) {
		if (n == max)
			break;
		HASH_DELETE(hh_map, v->files_by_map, f);
		f->in_map_table = false;
		if (!f->snapshot)
			del_object(v, f);
		out[n++] = f;
	}
	HASH_ITER (hh, v->files, f, next) {
		if (n == max)
			break;
		del_object(v, f);
		out[n++] = f;
	}
	pthread_mutex_unlock(&v->files_lock);
	return n;
}

void filetab_forget(struct file *f)
{
	pthread_mutex_lock(&f->v->files_lock);
	if (f->in_map_table)
		HASH_DELETE(hh_map, f->v->files_by_map, f);
	f->in_map_table = false;
	pthread_mutex_unlock(&f->v->files_lock);
}
