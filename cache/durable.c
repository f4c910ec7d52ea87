/*
 * Theory of operation: what survives.
 *
 * "The WAL" stands here for what commits are written to: the redo log of the index and, for what
 * has no record there, SQLite's WAL (meta/db.h).
 *
 * A commit is a transaction in the WAL that nobody synced. The process may die then (the page cache
 * has slots and WAL) but not the power: after a power cut a prefix of the transactions since the
 * last sync is there, and of the slots they name any part. A sync makes both durable. These
 * invariants make every state that a power cut can leave one from which each file is some whole
 * committed state (promise P2):
 *
 * I1  A unit of a blob is written only while no row names it that could come back: it is in no
 *     chunk or undo row of the index as it stands, and not released by a transaction that is not
 *     durable (blob_units.c). Hence what a durable row names is never overwritten; only
 *     blob_sync_rescue writes again, the bytes that are there.
 * I2  A transaction that names data which is not synced saves first, as undo rows under the current
 *     generation, what its map was at the start of that generation: blob, size, mtime, and each
 *     chunk row it replaces, adds or deletes. A map that moves to another blob replaces all its
 *     chunks.
 * I3  Units that a transaction of generation g stopped naming, and files of blobs whose row it
 *     deleted, are used or removed only after a sync of a generation >= g succeeded. What is free
 *     is derived before the rows go, so that nobody derives it between the commit and the release.
 *     The row of a pack goes when no map and no undo row names the pack.
 * I4  Before any sync of the WAL (ours, a checkpoint, close) every blob with data that is not
 *     synced is synced, and so is the directory of each new one: durable_before_sync() is the hook
 *     of the index. (The redo log is synced beside the hook: until both are done its new records
 *     are as what was committed meanwhile, below.) So all that the WAL named when the sync began is
 *     on disk when it ends; what was committed meanwhile may become durable by the same sync without
 *     its data, and has its undo rows.
 * I5  The generation grows under the index lock, at the start of each sync, and in each transaction
 *     whose data was synced before it. So the undo rows of one map and generation describe one
 *     instant, all data named at that instant was synced or has undo rows of an older generation,
 *     and after a sync that began by ending generation g, undo rows of g and older are not needed:
 *     they are deleted (durably or not: recovery finds their chunks intact).
 * I6  A blob whose fdatasync failed is suspect: no later sync of it is believed until the chunks
 *     concerned were read back, verified and written again (blob_sync_rescue). Until then nothing
 *     that depends on it is called durable: db_sync fails before it touches the WAL.
 * I7  Undo rows put back no ETag. So a commit that makes content local which was the origin's, and
 *     of which a part is not here or was fetched since the last sync, syncs its data first: no file
 *     falls back to a part that nobody could complete.
 * I8  Whether the name of a file that a killed process made is on the disk nobody knows: after an
 *     unclean end the directory of each blob that gets data is synced once more.
 * I9  A transaction may bring the data it names along in its record of the redo log (logged.h). It
 *     counts as one whose data is synced: no undo rows, a generation of its own (I5). The log does
 *     not start over before the hook of I4 has seen that data too (db_sync.c); until then recovery
 *     writes it to its place, before it looks at undo rows, if of the rows that name that place the
 *     newest is this one's.
 *
 * After an unclean end recover.c takes each map with undo rows, syncs its blob, reads the chunks
 * that changed back from the disk, and if one does not open, puts the newest generation back, whole
 * file at once, and looks at the next older one. By I1 and I3 the slots of the older state are
 * intact; by I5 the walk ends at a state that was synced. The WAL is synced before the first slot
 * that counts as free is written.
 *
 * fsync of one large file (file_sync): chunks, fdatasync, transaction without undo rows, sync; of a
 * file in a pack: chunks, transaction with the chunk in its record, sync of the redo log alone
 * (durable_sync_log). That is no sync of I4 and I5: what others only closed has its undo rows still.
 * If it is not enough, and for all else, callers of durable_sync() share: one leader syncs for all
 * who came before it began. What was only closed or logged is synced by the keeper within
 * VOLUME_SYNC_INTERVAL_MS.
 *
 * What this does not do: order two files among each other but by the WAL (a prefix survives);
 * detect a disk that lies about its cache.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/array.h"
#include "base/beside.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "base/log.h"
#include "cache/blob.h"
#include "cache/logged.h"
#include "cache/unsent.h"
#include "cache/volume_priv.h"
#include "meta/db_note.h"

#define RECORD_NS NS_PER_SEC

struct blob_list {
	struct blob **blobs;
	size_t n, cap;
};

struct doomed {
	struct blob *blob;
	uint64_t gen;
	struct doomed *next;
};

struct durable {
	pthread_mutex_t checkpointing; /* taken before any other lock but space.evicting */
	pthread_mutex_t dirs_lock;     /* held while a directory is synced; before `lock` */
	pthread_mutex_t lock;          /* leaf */
	pthread_cond_t ended;
	bool running;
	uint64_t started, done; /* count syncs */
	int result;             /* of the sync number `done` */

	struct blob_list noted;    /* have data to sync or slots to free */
	struct blob_list settling; /* synced; their released slots wait for the end of the sync */
	uint64_t dirs[4];          /* bitmap by first byte of the uuid */
	uint64_t asked[4];         /* after an unclean end: those that were noted since */
	struct doomed *doomed;
	uint64_t wal_synced; /* length of the WAL when the last good sync began */

	atomic_uint_fast64_t undo_noted; /* newest generation with undo rows */
	atomic_bool record_wanted;       /* by who waits for the sync */
	uint64_t undo_forgotten;         /* the leader's, as all below */
	int64_t recorded_ns;             /* CLOCK_BOOTTIME */
};

int durable_new(struct volume *v)
{
	struct durable *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	pthread_mutex_init(&d->checkpointing, NULL);
	pthread_mutex_init(&d->dirs_lock, NULL);
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->ended, NULL);
	v->durable = d;
	return 0;
}

static void list_done(struct blob_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		blob_unref(l->blobs[i]);
	free(l->blobs);
	*l = (struct blob_list){ 0 };
}

/* After a sync that failed the files of doomed blobs stay: orphans, found by scan.c. */
void durable_free(struct volume *v)
{
	struct durable *d = v->durable;
	struct doomed *i;

	if (!d)
		return;
	list_done(&d->noted);
	list_done(&d->settling);
	while ((i = d->doomed)) {
		d->doomed = i->next;
		blob_unref(i->blob);
		free(i);
	}
	pthread_cond_destroy(&d->ended);
	pthread_mutex_destroy(&d->lock);
	pthread_mutex_destroy(&d->checkpointing);
	pthread_mutex_destroy(&d->dirs_lock);
	free(d);
	v->durable = NULL;
}

static bool list_add(struct blob_list *l, struct blob *b)
{
	if (ARRAY_ROOM(l->blobs, l->n, l->cap))
		return false;
	l->blobs[l->n++] = b;
	return true;
}

/* Whether the name of a file that a killed process made is on the disk, nobody knows: d->lock held.
 */
static void note_old_dir(struct durable *d, uint8_t first_byte)
{
	uint64_t bit = UINT64_C(1) << first_byte % 64;

	d->dirs[first_byte / 64] |= bit & ~d->asked[first_byte / 64];
	d->asked[first_byte / 64] |= bit;
}

int durable_note_blob(struct volume *v, struct blob *b)
{
	struct durable *d = v->durable;
	int r = 0;

	pthread_mutex_lock(&d->lock);
	if (v->unclean)
		note_old_dir(d, b->uuid[0]);
	if (!atomic_load(&b->noted)) {
		r = list_add(&d->noted, b) ? 0 : -ENOMEM;
		if (!r)
			blob_ref(b);
		atomic_store(&b->noted, !r);
	}
	pthread_mutex_unlock(&d->lock);
	return r;
}

void durable_note_dir(struct volume *v, uint8_t first_byte)
{
	struct durable *d = v->durable;

	pthread_mutex_lock(&d->lock);
	d->dirs[first_byte / 64] |= UINT64_C(1) << first_byte % 64;
	pthread_mutex_unlock(&d->lock);
}

void durable_note_undo(struct volume *v, uint64_t gen)
{
	uint64_t noted = atomic_load(&v->durable->undo_noted);

	while (noted < gen && !atomic_compare_exchange_weak(&v->durable->undo_noted, &noted, gen))
		;
}

void durable_doom(struct volume *v, struct blob *b)
{
	struct durable *d = v->durable;
	struct doomed *i = malloc(sizeof(*i));

	pthread_mutex_lock(&b->lock);
	b->dead = true;
	pthread_mutex_unlock(&b->lock);
	if (!i) {
		blob_unref(b); /* an orphan until the next unclean open; its bytes stay counted */
		return;
	}
	i->blob = b;
	i->gen = atomic_load(&v->undo_gen);
	pthread_mutex_lock(&d->lock);
	i->next = d->doomed;
	d->doomed = i;
	pthread_mutex_unlock(&d->lock);
}

bool durable_is_doomed(struct volume *v, const uint8_t uuid[static 16])
{
	struct doomed *i;

	pthread_mutex_lock(&v->durable->lock);
	for (i = v->durable->doomed; i; i = i->next) {
		if (!memcmp(i->blob->uuid, uuid, CONTENT_UUID_LEN))
			break;
	}
	pthread_mutex_unlock(&v->durable->lock);
	return i;
}

uint64_t durable_reclaimable(struct volume *v)
{
	struct durable *d = v->durable;
	struct blob *b, *next;
	uint64_t sum = 0;

	pthread_mutex_lock(&d->lock);
	for (struct doomed *i = d->doomed; i; i = i->next)
		sum += i->blob->alloc_bytes;
	pthread_mutex_unlock(&d->lock);
	pthread_mutex_lock(&v->blobs_lock);
	HASH_ITER (hh, v->blobs, b, next)
		sum += blob_units_reclaimable(b);
	pthread_mutex_unlock(&v->blobs_lock);
	return sum;
}

/* --- the hook: data and directories before the WAL --- */

static int sync_dir(struct volume *v, uint8_t first_byte)
{
	char name[3];
	int r = FAILPOINT("blob-dir-fsync");
	_cleanup_fd_ int fd = -1;

	if (r)
		return r;
	bytes_to_hex(&first_byte, 1, name);
	fd = openat(v->blobs_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : io_fsync_dir(fd);
}

int durable_sync_dir(struct volume *v, uint8_t first_byte)
{
	struct durable *d = v->durable;
	uint64_t bit = UINT64_C(1) << first_byte % 64;
	bool noted;
	int r = 0;

	/* Who finds the bit cleared must not go on before the directory is synced. */
	pthread_mutex_lock(&d->dirs_lock);
	pthread_mutex_lock(&d->lock);
	noted = d->dirs[first_byte / 64] & bit;
	d->dirs[first_byte / 64] &= ~bit;
	pthread_mutex_unlock(&d->lock);
	if (noted)
		r = sync_dir(v, first_byte);
	if (r)
		durable_note_dir(v, first_byte);
	pthread_mutex_unlock(&d->dirs_lock);
	return r;
}

static int sync_dirs(struct volume *v)
{
	int r = 0;

	for (unsigned i = 0; i < 256 && !r; i++)
		r = durable_sync_dir(v, (uint8_t)i);
	return r;
}

/* Writing is started on all before the first is waited for: the disk's journal then commits once
 * for many. */
static int sync_blobs(const struct blob_list *l)
{
	int r = 0, one;

	if (l->n > 1) {
		for (size_t i = 0; i < l->n; i++)
			blob_sync_start(l->blobs[i]);
	}
	for (size_t i = 0; i < l->n; i++) {
		one = blob_sync(l->blobs[i]);
		r = r ? r : one;
	}
	return r;
}

/* Back to `settling`, or, what still has to be synced, to `noted`. */
static void put_back(struct durable *d, struct blob_list *l, bool failed)
{
	pthread_mutex_lock(&d->lock);
	for (size_t i = 0; i < l->n; i++) {
		struct blob *b = l->blobs[i];

		if (failed && !atomic_load(&b->noted)) {
			bool noted = list_add(&d->noted, b);

			atomic_store(&b->noted, noted);
			l->blobs[i] = noted ? NULL : b;
		} else if (!failed && !atomic_load(&b->settling) && blob_must_settle(b)) {
			bool settling = list_add(&d->settling, b);

			atomic_store(&b->settling, settling);
			l->blobs[i] = settling ? NULL : b;
		}
	}
	pthread_mutex_unlock(&d->lock);
	for (size_t i = 0; i < l->n; i++)
		blob_unref(l->blobs[i]);
	free(l->blobs);
}

static int sync_unsent(void *arg)
{
	return unsent_sync(arg);
}

int durable_before_sync(void *arg)
{
	struct volume *v = arg;
	struct durable *d = v->durable;
	struct beside unsent;
	struct blob_list l;
	int r, e;

	if (logged_pending(v))
		return -EBUSY;
	pthread_mutex_lock(&d->lock);
	l = d->noted;
	d->noted = (struct blob_list){ 0 };
	for (size_t i = 0; i < l.n; i++) {
		atomic_store(&l.blobs[i]->noted, false);
		blob_ref(l.blobs[i]); /* while its descriptor is used: see blob_park */
	}
	pthread_mutex_unlock(&d->lock);
	beside_start(&unsent, sync_unsent, v);
	r = sync_blobs(&l);
	if (!r)
		r = sync_dirs(v);
	e = beside_wait(&unsent);
	r = r ? r : e;
	for (size_t i = 0; i < l.n; i++)
		blob_unref(l.blobs[i]);
	put_back(d, &l, r);
	return r;
}

/* --- after a sync --- */

/* An empty pack's row goes instead. */
static int update_row(struct volume *v, struct blob *b)
{
	struct content_blob row;
	bool used = true;
	int r;

	if (!b->id)
		return 0;
	if (blob_units_retire(b)) {
		r = content_blob_is_used(v->db, b->id, &used);
		if (!r)
			r = FAILPOINT("pack-drop");
		if (!r && !used)
			return gc_drop_blob(v, b->id);
		pthread_mutex_lock(&b->lock);
		b->dead = false;
		pthread_mutex_unlock(&b->lock);
		if (r)
			return r;
	}
	blob_row(b, &row);
	r = content_blob_update(v->db, &row);
	return r == -ENOENT ? 0 : r;
}

/* A transaction of its own after each fsync of a small file would cost as much as the file's. */
static bool record_is_due(struct durable *d)
{
	return atomic_exchange(&d->record_wanted, false) ||
	       clock_boot_ns() - d->recorded_ns > RECORD_NS;
}

/* Forgets undo rows and records what blobs take. Failing it costs nothing but rows that recovery
 * will look at. */
static void record(struct volume *v, const struct blob_list *l, uint64_t gen)
{
	struct durable *d = v->durable;
	bool forget = atomic_load(&d->undo_noted) > d->undo_forgotten;
	bool stale = false;
	int r = 0;

	for (size_t i = 0; i < l->n; i++)
		stale = stale || blob_row_is_stale(l->blobs[i]);
	if ((!forget && !stale) || !record_is_due(d) || db_begin(v->db))
		return;
	d->recorded_ns = clock_boot_ns();
	if (forget)
		r = content_undo_forget(v->db, gen);
	for (size_t i = 0; i < l->n && !r; i++) {
		if (blob_row_is_stale(l->blobs[i]))
			r = update_row(v, l->blobs[i]);
	}
	if (r)
		db_rollback(v->db);
	else
		r = db_commit(v->db);
	gc_run(v, !r);
	if (!r && forget)
		d->undo_forgotten = gen;
}

/* What somebody will write to again keeps some free blocks. */
static void settle_units(struct volume *v, uint64_t gen)
{
	struct durable *d = v->durable;
	struct blob_list l;

	pthread_mutex_lock(&d->lock);
	l = d->settling;
	d->settling = (struct blob_list){ 0 };
	for (size_t i = 0; i < l.n; i++)
		atomic_store(&l.blobs[i]->settling, false);
	pthread_mutex_unlock(&d->lock);
	for (size_t i = 0; i < l.n; i++)
		blob_units_settle(l.blobs[i], gen, blob_is_in_use(l.blobs[i]));
	record(v, &l, gen);
	put_back(d, &l, false);
}

static void remove_file(struct volume *v, struct blob *b)
{
	char name[BLOB_NAME_LEN];

	blob_path(b->uuid, name);
	if (unlinkat(v->blobs_fd, name, 0) < 0 && errno != ENOENT) {
		log_debug(
			"blob %llu not removed: %s", (unsigned long long)b->id, error_text(-errno));
		return;
	}
	space_free(v, b->alloc_bytes);
}

static void remove_doomed(struct volume *v, uint64_t gen)
{
	struct durable *d = v->durable;
	struct doomed *go = NULL, *i, **p;

	pthread_mutex_lock(&d->lock);
	for (p = &d->doomed; (i = *p);) {
		if (i->gen <= gen) {
			*p = i->next;
			i->next = go;
			go = i;
		} else {
			p = &i->next;
		}
	}
	pthread_mutex_unlock(&d->lock);
	while ((i = go)) {
		go = i->next;
		remove_file(v, i->blob);
		blob_unref(i->blob);
		free(i);
	}
}

/* --- the shared sync --- */

static int sync_once(struct volume *v, uint64_t *gen)
{
	uint64_t wal, op_seq = 0;
	int r;

	db_read(v->db);
	if (op_last_seq(v->db, &op_seq))
		op_seq = 0;
	*gen = atomic_fetch_add(&v->undo_gen, 1);
	wal = db_wal_bytes(v->db);
	db_unlock(v->db);
	r = db_sync(v->db);
	if (!r) {
		pthread_mutex_lock(&v->durable->lock);
		v->durable->wal_synced = wal;
		pthread_mutex_unlock(&v->durable->lock);
		unsent_synced(v, op_seq);
	}
	return r;
}

/* Blobs whose fdatasync failed; the caller unrefs. */
static void take_suspects(struct durable *d, struct blob_list *out)
{
	pthread_mutex_lock(&d->lock);
	for (size_t i = 0; i < d->noted.n; i++) {
		if (d->noted.blobs[i]->suspect && list_add(out, d->noted.blobs[i]))
			blob_ref(d->noted.blobs[i]);
	}
	pthread_mutex_unlock(&d->lock);
}

/* True when there was something to rescue and all of it was. */
static bool rescue(struct volume *v)
{
	struct blob_list l = { 0 };
	bool ok;

	take_suspects(v->durable, &l);
	ok = l.n;
	for (size_t i = 0; i < l.n; i++) {
		int r = blob_sync_rescue(l.blobs[i]);

		if (r)
			log_debug("blob %llu not rescued: %s", (unsigned long long)l.blobs[i]->id,
				error_text(r));
		ok = ok && !r;
	}
	list_done(&l);
	return ok;
}

static int lead(struct volume *v)
{
	uint64_t gen;
	int r = sync_once(v, &gen);

	if (r && rescue(v))
		r = sync_once(v, &gen);
	if (r)
		return r;
	settle_units(v, gen);
	remove_doomed(v, gen);
	return 0;
}

int durable_sync(struct volume *v)
{
	atomic_store(&v->durable->record_wanted, true);
	return durable_sync_only(v);
}

int durable_sync_only(struct volume *v)
{
	struct durable *d = v->durable;
	uint64_t mine;
	int r;

	pthread_mutex_lock(&d->lock);
	mine = d->started + 1;
	while (d->done < mine && d->running)
		pthread_cond_wait(&d->ended, &d->lock);
	if (d->done >= mine) {
		r = d->result;
		pthread_mutex_unlock(&d->lock);
		return r;
	}
	d->running = true;
	mine = ++d->started;
	pthread_mutex_unlock(&d->lock);
	r = lead(v);
	pthread_mutex_lock(&d->lock);
	d->running = false;
	d->done = mine;
	d->result = r;
	pthread_cond_broadcast(&d->ended);
	pthread_mutex_unlock(&d->lock);
	return r;
}

int durable_sync_log(struct volume *v)
{
	int r = unsent_needs_sync(v) ? 1 : db_sync_log(v->db);

	return r == 1 ? durable_sync_only(v) : r;
}

int durable_reclaim(struct volume *v)
{
	struct blob_list l = { 0 };
	struct blob *b, *next;
	int r = durable_sync(v);

	pthread_mutex_lock(&v->blobs_lock);
	HASH_ITER (hh, v->blobs, b, next) {
		if (blob_units_reclaimable(b) && list_add(&l, b))
			b->refs++;
	}
	pthread_mutex_unlock(&v->blobs_lock);
	for (size_t i = 0; i < l.n; i++) {
		blob_units_trim(l.blobs[i]);
		if (durable_note_blob(v, l.blobs[i]))
			r = r ? r : -ENOMEM;
	}
	list_done(&l);
	return r;
}

bool durable_needed(struct volume *v)
{
	struct durable *d = v->durable;
	bool needed;

	pthread_mutex_lock(&d->lock);
	needed = d->noted.n || d->settling.n || d->doomed ||
		 (d->dirs[0] | d->dirs[1] | d->dirs[2] | d->dirs[3]) ||
		 d->wal_synced != db_wal_bytes(v->db);
	pthread_mutex_unlock(&d->lock);
	return needed;
}

/* The blobs are synced first, without the index lock: what is left to the hook that SQLite runs
 * under it is what was written meanwhile. */
static int checkpoint(struct volume *v)
{
	int r = durable_sync(v);

	if (!r)
		r = db_checkpoint(v->db, true);
	if (!r) {
		pthread_mutex_lock(&v->durable->lock);
		v->durable->wal_synced = db_wal_bytes(v->db);
		pthread_mutex_unlock(&v->durable->lock);
	}
	return r;
}

int durable_checkpoint(struct volume *v, uint64_t at_least)
{
	int r = 0;

	pthread_mutex_lock(&v->durable->checkpointing);
	if (db_wal_bytes(v->db) >= at_least)
		r = checkpoint(v);
	pthread_mutex_unlock(&v->durable->checkpointing);
	return r;
}
