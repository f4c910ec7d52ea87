#include "cache/file.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "cache/file_priv.h"

static bool is_read_only(struct volume *v, uint64_t store)
{
	struct store_row s;
	int r;

	if (atomic_load(&v->old_seq))
		return true;
	db_read(v->db);
	r = store_get(v->db, store, &s);
	db_unlock(v->db);
	return !r && s.mode == STORE_RO;
}

int file_open(struct volume *v, uint64_t object, uint64_t version, bool writer, struct file **out)
{
	struct file *f;
	int r = filetab_open(v, object, version, writer, &f);

	if (r)
		return r;
	if (writer && is_read_only(v, f->store)) {
		file_unref(f, true);
		return -EROFS;
	}
	atomic_store(&f->used, true);
	*out = f;
	return 0;
}

int file_open_map(struct volume *v, uint64_t map, struct file **out)
{
	return filetab_open_map(v, map, out);
}

/* The last reference commits; a commit that fails then was reported by the one before it (FLUSH),
 * so the data goes. */
void file_unref(struct file *f, bool writer)
{
	bool kept = false, last;
	int r;

	last = filetab_unref(f, writer, true, &kept);
	while (kept) {
		r = file_commit(f);
		if (r)
			log_error("object %llu: uncommitted writes are lost: %s",
				(unsigned long long)f->object, error_text(r));
		kept = false;
		last = filetab_unref(f, writer, !r, &kept);
	}
	if (last)
		file_free(f);
}

/* The map was superseded while it was open. Left behind it is a stray map, which the next open of
 * the volume removes. */
static void drop_superseded(struct file *f)
{
	int r;

	if (!f->v->db) /* locked */
		return;
	r = db_begin(f->v->db);
	if (!r) {
		r = gc_drop_map(f->v, f->map);
		if (r)
			db_rollback(f->v->db);
		else
			r = db_commit(f->v->db);
	}
	gc_run(f->v, !r);
}

static int free_uncommitted(void *arg, struct chunk_entry *e)
{
	struct file *f = arg;

	if (e->state == CHUNK_SEALED)
		blob_units_free(f->blob, e->c.slot, e->c.len);
	return 0;
}

void file_free(struct file *f)
{
	struct dirty *d, *next;

	if (f->superseded && f->map)
		drop_superseded(f);
	HASH_ITER (hh, f->dirty, d, next)
		file_dirty_drop(f, d);
	if (f->blob && f->blob->id && chunkmap_each_pending(&f->chunks, free_uncommitted, f))
		abort(); /* the callback does not fail */
	if (f->map && !f->superseded && !f->first_use && atomic_load(&f->used))
		keeper_touch(f->v, f->map);
	chunkmap_done(&f->chunks);
	blob_park(f->rows);
	blob_park(f->blob);
	free(f->replaced);
	pthread_rwlock_destroy(&f->lock);
	free(f);
}

uint64_t file_object(const struct file *f)
{
	return f->object;
}

uint64_t file_version(const struct file *f)
{
	return f->version;
}

uint64_t file_size(struct file *f)
{
	uint64_t size;

	pthread_rwlock_rdlock(&f->lock);
	size = f->size;
	pthread_rwlock_unlock(&f->lock);
	return size;
}

void file_mark(struct file *f)
{
	f->mtime_ns = f->ctime_ns = clock_file_ns();
	f->content_changed = f->mtime_changed = true;
	f->write_seq++;
	if (atomic_load(&f->is_dirty))
		return;
	atomic_store(&f->dirty_since_ns, clock_boot_ns());
	atomic_store(&f->is_dirty, true);
	keeper_wake(f->v);
}

void file_lock(struct file *f)
{
	pthread_rwlock_wrlock(&f->lock);
}

void file_unlock(struct file *f)
{
	pthread_rwlock_unlock(&f->lock);
}

void file_overlay(struct file *f, struct tree_attr *a)
{
	pthread_rwlock_rdlock(&f->lock);
	if (f->content_changed) {
		a->size = f->size;
		a->ctime_ns = MAX_OF(a->ctime_ns, f->ctime_ns);
	}
	if (f->mtime_changed)
		a->mtime_ns = f->mtime_ns;
	pthread_rwlock_unlock(&f->lock);
}

void file_mtime_is_set(struct file *f)
{
	f->mtime_changed = false;
}
