/*
 * Theory of operation: what survives.
 *
 * A commit is a transaction in the WAL that nobody synced. The process may die then (the page cache
 * has slots and WAL) but not the power: after a power cut a prefix of the transactions since the
 * last sync is there, and of the slots they name any part. A sync makes both durable. These
 * invariants make every state that a power cut can leave one from which each file is some whole
 * committed state (promise P2):
 *
 * I1  A slot is written only while no row names it that could come back: it is in no chunk or undo
 * row of the index as it stands, and not released by a transaction that is not durable
 * (blob_slots.c). Hence what a durable row names is never overwritten. The one slot that is written
 * twice is that of a chunk sealed early and not yet committed, under the lock of its file. I2  A
 * transaction that names data which is not synced saves first, as undo rows under the current
 * generation, what its map was at the start of that generation: size, mtime, and each chunk row it
 * replaces, adds or deletes. I3  Slots that a transaction of generation g stopped naming, and files
 * of blobs whose row it deleted, are used or removed only after a sync of a generation >= g
 * succeeded. I4  Before any sync of the WAL (ours, a checkpoint, close) every blob with data that
 * is not synced is synced, and so is the directory of each new one: durable_before_sync() is the
 * hook of the index. So all that the WAL named when the sync began is on disk when it ends; what
 * was committed meanwhile may become durable by the same sync without its data, and has its undo
 * rows. I5  The generation grows under the index lock, at the start of each sync, and in each
 * transaction whose data was synced before it. So the undo rows of one map and generation describe
 * one instant, all data named at that instant was synced or has undo rows of an older generation,
 * and after a sync that began by ending generation g, undo rows of g and older are not needed: they
 * are deleted (durably or not: recovery finds their chunks intact). I6  A blob whose fdatasync
 * failed is suspect: no later sync of it is believed until the chunks concerned were read back,
 * verified and written to other slots (rescue.c). Until then nothing that depends on it is called
 * durable: db_sync fails before it touches the WAL.
 *
 * After an unclean end recover.c takes each map with undo rows, syncs its blob, reads the chunks
 * that changed back from the disk, and if one does not open, puts the newest generation back, whole
 * file at once, and looks at the next older one. By I1 and I3 the slots of the older state are
 * intact; by I5 the walk ends at a state that was synced. The WAL is synced before the first slot
 * that counts as free is written.
 *
 * fsync of one file (file_sync): slots, fdatasync, transaction without undo rows, sync. Callers of
 * durable_sync() share: one leader syncs for all who came before it began. What was only closed is
 * synced by the keeper within VOLUME_SYNC_INTERVAL_MS.
 *
 * What this does not do: order two files among each other but by the WAL (a prefix survives);
 * detect a disk that lies about its cache.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "base/log.h"
#include "cache/blob.h"
#include "cache/rescue.h"
#include "cache/unsent.h"
#include "cache/volume_priv.h"

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
	struct doomed *doomed;
	uint64_t wal_synced; /* length of the WAL when the last good sync began */

	atomic_uint_fast64_t undo_noted; /* newest generation with undo rows */
	uint64_t undo_forgotten;         /* the leader's */
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
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 64;
		struct blob **blobs = realloc(l->blobs, cap * sizeof(struct blob *));

		if (!blobs)
			return false;
		l->blobs = blobs;
		l->cap = cap;
	}
	l->blobs[l->n++] = b;
	return true;
}

int durable_note_blob(struct volume *v, struct blob *b)
{
	struct durable *d = v->durable;
	int r = 0;

	pthread_mutex_lock(&d->lock);
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
	uint64_t sum = 0;

	pthread_mutex_lock(&d->lock);
	for (struct doomed *i = d->doomed; i; i = i->next)
		sum += i->blob->alloc_bytes;
	for (size_t i = 0; i < d->noted.n; i++)
		sum += blob_slots_released_bytes(d->noted.blobs[i]);
	for (size_t i = 0; i < d->settling.n; i++)
		sum += blob_slots_released_bytes(d->settling.blobs[i]);
	pthread_mutex_unlock(&d->lock);
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
		} else if (!failed && (blob_slots_pending(b) || b->measured)) {
			l->blobs[i] = list_add(&d->settling, b) ? NULL : b;
		}
	}
	pthread_mutex_unlock(&d->lock);
	for (size_t i = 0; i < l->n; i++)
		blob_unref(l->blobs[i]);
	free(l->blobs);
}

int durable_before_sync(void *arg)
{
	struct volume *v = arg;
	struct durable *d = v->durable;
	struct blob_list l;
	int r;

	pthread_mutex_lock(&d->lock);
	l = d->noted;
	d->noted = (struct blob_list){ 0 };
	for (size_t i = 0; i < l.n; i++) {
		atomic_store(&l.blobs[i]->noted, false);
		blob_ref(l.blobs[i]); /* while its descriptor is used: see blob_park */
	}
	pthread_mutex_unlock(&d->lock);
	r = sync_blobs(&l);
	if (!r)
		r = sync_dirs(v);
	if (!r)
		r = unsent_sync(v);
	for (size_t i = 0; i < l.n; i++)
		blob_unref(l.blobs[i]);
	put_back(d, &l, r);
	return r;
}

/* --- after a sync --- */

static void update_row(struct volume *v, struct blob *b)
{
	struct content_blob row;

	pthread_mutex_lock(&b->lock);
	b->measured = false;
	pthread_mutex_unlock(&b->lock);
	if (!b->id || content_blob_get(v->db, b->id, &row))
		return;
	pthread_mutex_lock(&b->lock);
	row.alloc_bytes = b->alloc_bytes;
	pthread_mutex_unlock(&b->lock);
	if (content_blob_update(v->db, &row))
		log_debug("blob %llu: size not recorded", (unsigned long long)b->id);
}

/* Forgets undo rows and records what freed slots gave back. Failing it costs nothing but rows that
 * recovery will look at. */
static void record(struct volume *v, const struct blob_list *changed, uint64_t gen)
{
	struct durable *d = v->durable;
	bool forget = atomic_load(&d->undo_noted) > d->undo_forgotten;

	if ((!forget && !changed->n) || db_begin(v->db))
		return;
	for (size_t i = 0; i < changed->n; i++)
		update_row(v, changed->blobs[i]);
	if (forget && content_undo_forget(v->db, gen))
		db_rollback(v->db);
	else if (!db_commit(v->db) && forget)
		d->undo_forgotten = gen;
}

static void settle_slots(struct volume *v, uint64_t gen)
{
	struct durable *d = v->durable;
	struct blob_list l, changed = { 0 };

	pthread_mutex_lock(&d->lock);
	l = d->settling;
	d->settling = (struct blob_list){ 0 };
	pthread_mutex_unlock(&d->lock);
	for (size_t i = 0; i < l.n; i++) {
		bool freed = blob_slots_settle(l.blobs[i], gen);

		if ((freed || l.blobs[i]->measured) && list_add(&changed, l.blobs[i]))
			blob_ref(l.blobs[i]);
	}
	record(v, &changed, gen);
	put_back(d, &l, false);
	list_done(&changed);
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
		int r = rescue_blob(v, l.blobs[i]);

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
	settle_slots(v, gen);
	remove_doomed(v, gen);
	return 0;
}

int durable_sync(struct volume *v)
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
