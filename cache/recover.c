/*
 * Recovery: what the last run left that is not certain. Its cost is that of what was not synced,
 * not of the volume.
 *
 * What the redo log has of content goes into the blobs first (logged.h).
 *
 * Undo rows say which maps had commits whose data was not known to be on disk (I2 of durable.c).
 * For each: its blob and the name of that are synced and its pages are dropped, so that what is
 * then read comes from the disk; the chunks that changed are opened. If all do, the commits stand.
 * If one does not, of whichever generation, the newest one is put back, whole file at once, with
 * size and mtime, and what stands then is looked at in the same way. A snapshot has undo rows for
 * the chunks that were not synced when it was taken. One that lost any goes, and its operation is
 * queued again: it was based on what is gone, and the origin's ETag decides.
 *
 * After a SIGKILL nothing is lost and this only reads; after a power cut files whose data was lost
 * fall back.
 *
 * Then what was in use when the process ended goes: superseded maps, snapshots that no operation
 * names, unlinked objects. Last, the WAL is synced, before any slot that counts as free is written
 * (I1), and the undo rows are not needed any more.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/array.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "cache/blob.h"
#include "cache/logged.h"
#include "cache/pool.h"
#include "cache/volume_priv.h"

#define BATCH 64

/* Packs whose pages were dropped: once for all files in them. Kept in memory meanwhile. */
struct settled {
	struct blob **packs;
	size_t n, cap;
};

struct check {
	struct volume *v;
	struct settled *settled;
	uint64_t map;
	struct blob *b; /* NULL: the map has none */
	uint8_t *buf;
	uint64_t *bad; /* indexes whose chunk does not open */
	size_t n_bad, cap_bad;
};

static int add_bad(struct check *k, uint64_t idx)
{
	if (ARRAY_ROOM(k->bad, k->n_bad, k->cap_bad))
		return -ENOMEM;
	k->bad[k->n_bad++] = idx;
	return 0;
}

/* An undo row names a chunk that changed: does what stands now open? */
static int check_chunk(void *arg, bool present, const struct content_chunk *was)
{
	struct check *k = arg;
	struct content_chunk now;
	int r = content_chunk_get(k->v->db, k->map, was->idx, &now);

	if (r == -ENOENT)
		return 0; /* a hole, or not here: nothing to lose */
	if (r)
		return r;
	r = k->b ? blob_open(k->b, &now, k->buf) : CE_CORRUPT;
	if (r == -EIO) /* what falls back is lost: one read that fails is not enough */
		r = blob_open(k->b, &now, k->buf);
	if (!r) {
		secret_wipe(k->buf, now.len);
		return 0;
	}
	if (r != CE_TAMPER && r != -EIO && r != CE_CORRUPT)
		return r;
	return add_bad(k, was->idx);
}

/* --- snapshots --- */

static int drop_snapshot(struct volume *v, const struct content_map *m)
{
	struct op_row op;
	int r = op_by_map(v->db, m->id, &op);

	if (r && r != -ENOENT)
		return r;
	if (!r) {
		op.map = 0;
		op.state = OP_QUEUED;
		secret_random(op.key, sizeof(op.key));
		r = op_update(v->db, &op);
		if (r)
			return r;
	}
	return content_map_delete(v->db, m->id);
}

/* --- what is read comes from the disk --- */

static bool is_settled(const struct settled *s, const struct blob *b)
{
	for (size_t i = 0; i < s->n; i++) {
		if (s->packs[i] == b)
			return true;
	}
	return false;
}

static int add_settled(struct settled *s, struct blob *b)
{
	if (ARRAY_ROOM(s->packs, s->n, s->cap))
		return -ENOMEM;
	s->packs[s->n++] = blob_ref(b);
	return 0;
}

static void settled_done(struct settled *s)
{
	for (size_t i = 0; i < s->n; i++)
		blob_unref(s->packs[i]);
	free(s->packs);
}

/* What the kernel still holds of the last run is not proof that it is on disk, neither data nor the
 * name of the file: both are synced before the undo rows go. What the blob takes was last recorded
 * at a sync. */
static int settle_disk(struct settled *s, struct blob *b)
{
	int fd, r;

	if (is_settled(s, b))
		return 0;
	r = blob_fd(b, false, &fd);
	if (r)
		return r == -ENOENT ? 0 : r; /* then nothing opens */
	if (fdatasync(fd) < 0)
		log_debug("blob %llu: fdatasync failed", (unsigned long long)b->id);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	durable_note_dir(b->v, b->uuid[0]);
	pthread_mutex_lock(&b->lock);
	blob_units_measure(b);
	pthread_mutex_unlock(&b->lock);
	r = durable_sync_dir(b->v, b->uuid[0]);
	if (!r)
		r = durable_note_blob(b->v, b);
	return r || !b->pack ? r : add_settled(s, b);
}

static int check_blob(struct check *k, uint64_t blob)
{
	int r;

	blob_unref(steal_ptr(&k->b));
	if (!blob)
		return 0;
	r = blob_get(k->v, blob, &k->b);
	return r ? r : settle_disk(k->settled, k->b);
}

static int check_open(struct volume *v, struct settled *settled, uint64_t map, struct check *k)
{
	struct content_map m;
	int r = content_map_get(v->db, map, &m);

	*k = (struct check){ .v = v, .settled = settled, .map = map };
	if (!r)
		r = check_blob(k, m.blob);
	if (!r)
		k->buf = pool_get(v->pool, BLOB_SHIFT_MAX);
	return r ? r : k->buf ? 0 : -ENOMEM;
}

/* --- falling back --- */

static int put_back(struct volume *v, const struct content_undo *u)
{
	struct content_map m;
	struct object_row o;
	int r = content_undo_apply(v->db, u->map, u->gen);

	if (!r)
		r = content_map_get(v->db, u->map, &m);
	if (r || m.state != CONTENT_MAP_CURRENT)
		return r;
	r = object_get(v->db, m.object, &o);
	if (r == -ENOENT)
		return 0;
	if (r || o.map != u->map)
		return r;
	o.size = u->size;
	o.mtime_ns = u->mtime_ns;
	o.ctime_ns = clock_wall_ns();
	return object_update(v->db, &o);
}

/* Clean content that is not whole has no state to fall back to but "not here": the lost chunks are
 * fetched again. */
static int drop_chunks(struct check *k, struct content_map *m)
{
	int r = 0;

	for (size_t i = 0; i < k->n_bad && !r; i++) {
		r = content_chunk_delete(k->v->db, k->map, k->bad[i]);
		if (r == -ENOENT) /* it changed in two generations */
			r = 0;
	}
	m->whole = false;
	return r ? r : content_map_update(k->v->db, m);
}

/* The map is in the blob again that it was in; the one it had moved to was made for it, unless a
 * pack. */
static int move_back(struct check *k, const struct content_map *moved)
{
	struct content_map m;
	bool used = true;
	int r = 0;

	if (k->b && !k->b->pack)
		r = content_blob_is_used(k->v->db, moved->blob, &used);
	if (!r && !used)
		r = gc_drop_blob(k->v, moved->blob);
	if (!r)
		r = content_map_get(k->v->db, k->map, &m);
	return r ? r : check_blob(k, m.blob);
}

static int fall_back(struct check *k, const struct content_undo *u)
{
	struct content_map m;
	int r = content_map_get(k->v->db, k->map, &m);

	if (r)
		return r;
	if (m.state == CONTENT_MAP_SNAPSHOT)
		return drop_snapshot(k->v, &m);
	if (m.etag.text[0])
		return drop_chunks(k, &m);
	atomic_fetch_add(&k->v->rolled_back, 1);
	r = put_back(k->v, u);
	return r || m.blob == u->blob ? r : move_back(k, &m);
}

static void check_done(struct check *k)
{
	if (k->buf)
		pool_put(k->v->pool, BLOB_SHIFT_MAX, k->buf, (size_t)1 << BLOB_SHIFT_MAX);
	blob_unref(k->b);
	free(k->bad);
}

/* All that changed in these generations, as it stands now. */
static int look(struct check *k, const struct content_undo *rows, size_t n)
{
	int r = 0;

	k->n_bad = 0;
	for (size_t i = 0; i < n && !r; i++)
		r = content_undo_each(k->v->db, rows[i].map, rows[i].gen, check_chunk, k);
	return r;
}

/*
 * One map's undo rows, newest generation first. What stands is as of the end of the first
 * generation that was not put back; it is whole when everything opens that changed in this one or
 * in an older one. Data of the newest can be there while an older one's is not: going back by the
 * older one alone would mix the two.
 */
static int recover_map(
	struct volume *v, struct settled *settled, const struct content_undo *rows, size_t n)
{
	struct check k;
	int r = check_open(v, settled, rows[0].map, &k);

	for (size_t i = 0; i < n && !r; i++) {
		r = look(&k, rows + i, n - i);
		if (!r && !k.n_bad)
			break;
		if (!r)
			r = fall_back(&k, &rows[i]);
	}
	check_done(&k);
	return r;
}

/* All of it: it is as long as what was not synced. The caller frees. */
static int list_undo(struct volume *v, struct content_undo **out, size_t *n)
{
	struct content_undo *rows = NULL, *grown;
	size_t max = BATCH;
	int r;

	do {
		max *= 4;
		grown = realloc(rows, max * sizeof(*rows));
		r = grown ? 0 : -ENOMEM;
		if (!r) {
			rows = grown;
			r = content_undo_list(v->db, rows, max, n);
		}
	} while (!r && *n == max);
	if (r)
		free(rows);
	else
		*out = rows;
	return r;
}

static int recover_maps(struct volume *v)
{
	_cleanup_free_ struct content_undo *rows = NULL;
	struct settled settled = { .n = 0 };
	size_t n, i = 0;
	int r = list_undo(v, &rows, &n);

	while (!r && i < n) {
		size_t end = i + 1;

		while (end < n && rows[end].map == rows[i].map)
			end++;
		r = recover_map(v, &settled, &rows[i], end - i);
		i = end;
	}
	settled_done(&settled);
	return !r && n ? content_undo_forget(v->db, INT64_MAX) : r;
}

static int drop_strays(struct volume *v)
{
	uint64_t ids[BATCH];
	int n, r = 0;

	do {
		n = content_map_stray(v->db, ids, BATCH);
		for (int i = 0; i < n && !r; i++)
			r = gc_drop_map(v, ids[i]);
	} while (!r && n == BATCH);
	return n < 0 ? n : r;
}

static int drop_object(struct volume *v, uint64_t id)
{
	struct object_row o;
	int r = object_get(v->db, id, &o);

	if (!r && o.map)
		r = gc_drop_map(v, o.map);
	return r ? r : object_delete(v->db, id);
}

static int drop_unlinked(struct volume *v)
{
	uint64_t ids[BATCH];
	int n, r = 0;

	do {
		n = object_unlinked(v->db, ids, BATCH);
		for (int i = 0; i < n && !r; i++)
			r = drop_object(v, ids[i]);
	} while (!r && n == BATCH);
	return n < 0 ? n : r;
}

int recover_run(struct volume *v)
{
	int r = db_begin(v->db);

	if (r)
		return r;
	r = logged_write_back(v);
	if (!r)
		r = recover_maps(v);
	if (!r)
		r = conflict_base_tidy(v->db);
	if (!r)
		r = drop_strays(v);
	if (!r)
		r = drop_unlinked(v);
	if (r)
		db_rollback(v->db);
	else
		r = db_commit(v->db);
	gc_run(v, !r);
	return r ? r : durable_sync(v);
}
