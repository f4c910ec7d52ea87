/*
 * The keeper: a thread that does later what nobody waits for. Every tick it commits files that have
 * been dirty for DIRTY_AGE_NS (pages of a mapping whose file was closed), or for OPEN_AGE_NS while a
 * writer has them open, so that a slow one does not make an upload of each line; every
 * VOLUME_SYNC_INTERVAL_MS it syncs what was only closed; it empties the WAL when it has grown, writes down which files were read,
 * and after an unclean end looks for files that no row names (scan.c).
 */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "cache/file_priv.h"
#include "cache/rekey.h"
#include "cache/scan.h"
#include "cache/unsent.h"
#include "cache/verify.h"

#define TICK_NS (250 * NS_PER_MS)
#define IDLE_TICK_NS (1000 * NS_PER_MS)
#define DIRTY_AGE_NS (500 * NS_PER_MS)
#define OPEN_AGE_NS (3 * NS_PER_SEC)
#define SYNC_NS (VOLUME_SYNC_INTERVAL_MS * NS_PER_MS)
#define FORCED_SYNC_NS (60 * NS_PER_SEC)
#define USED_NS (30 * NS_PER_SEC)
#define CLOCK_NS (60 * NS_PER_SEC)
#define FILES_PER_TICK 64
#define USED_MAX 4096
#define SCRUB_MS 1000

struct keeper {
	pthread_t thread;
	pthread_mutex_t lock; /* leaf: all below */
	pthread_cond_t wake;
	bool stop, busy;
	bool idle; /* in a long wait, which a first write is to shorten */
	atomic_bool wal_grown; /* changed under the lock */
	uint64_t used[USED_MAX]; /* maps that were used, by id */
	size_t n_used;
};

/* Commits each, so that what failed is not tried again at once. */
static void commit_old(struct volume *v, int64_t now)
{
	struct file *files[FILES_PER_TICK];
	size_t n = filetab_dirty(
		v, now - DIRTY_AGE_NS, now - OPEN_AGE_NS, files, FILES_PER_TICK);

	for (size_t i = 0; i < n; i++) {
		int r = file_commit(files[i]);

		if (r) {
			log_debug("object %llu not committed: %s",
				(unsigned long long)file_object(files[i]), error_text(r));
			atomic_store(&files[i]->dirty_since_ns, clock_boot_ns());
		}
		file_unref(files[i], false);
	}
}

static int write_used(struct volume *v, const uint64_t *maps)
{
	int r = db_begin(v->db);

	if (r)
		return r;
	for (size_t i = 0; i < USED_MAX && !r; i++) {
		if (maps[i])
			r = content_map_used(v->db, maps[i], clock_wall_ns() / NS_PER_SEC);
	}
	if (r)
		db_rollback(v->db);
	else
		r = db_commit(v->db);
	return r;
}

static void flush_used(struct volume *v)
{
	struct keeper *k = v->keeper;
	uint64_t maps[USED_MAX];
	size_t n;

	pthread_mutex_lock(&k->lock);
	n = k->n_used;
	memcpy(maps, k->used, sizeof(maps));
	memset(k->used, 0, sizeof(k->used));
	k->n_used = 0;
	pthread_mutex_unlock(&k->lock);
	if (n && write_used(v, maps))
		log_debug("times of use not recorded");
}

/* One that finds its place taken replaces it: the order of eviction is approximate. */
void keeper_touch(struct volume *v, uint64_t map)
{
	struct keeper *k = v->keeper;

	if (!k)
		return;
	pthread_mutex_lock(&k->lock);
	k->n_used += !k->used[map % USED_MAX];
	k->used[map % USED_MAX] = map;
	pthread_mutex_unlock(&k->lock);
}

struct due {
	int64_t sync_ns, used_ns, scrub_ns, clock_ns;
};

static void sync_if_due(struct volume *v, struct due *due, int64_t now)
{
	int64_t age = now - due->sync_ns;
	bool long_wal = db_wal_bytes(v->db) > space_wal_mark(v);
	int r;

	if (!long_wal && (age < SYNC_NS || (age < FORCED_SYNC_NS && !durable_needed(v))))
		return;
	due->sync_ns = now;
	r = long_wal ? durable_checkpoint(v, space_wal_mark(v)) : durable_sync(v);
	if (r)
		log_debug("background sync failed: %s", error_text(r));
}

static void scrub_if_due(struct volume *v, struct due *due, int64_t now)
{
	int64_t age_ms = (now - due->scrub_ns) / NS_PER_MS;

	if (age_ms < SCRUB_MS)
		return;
	due->scrub_ns = now;
	verify_scrub(v, age_ms);
}

static void tick(struct volume *v, struct due *due)
{
	struct keeper *k = v->keeper;
	int64_t now = clock_boot_ns();
	bool full;

	if (atomic_exchange(&k->wal_grown, false))
		sync_if_due(v, due, now);
	commit_old(v, now);
	pthread_mutex_lock(&k->lock);
	full = k->n_used > USED_MAX / 2;
	pthread_mutex_unlock(&k->lock);
	if (full || now - due->used_ns >= USED_NS) {
		due->used_ns = now;
		flush_used(v);
	}
	unsent_tidy(v);
	if (now - due->clock_ns >= CLOCK_NS) {
		due->clock_ns = now;
		enrolment_tick(v);
		rekey_tick(v);
	}
	sync_if_due(v, due, now);
	scrub_if_due(v, due, now);
}

/*
 * Until the next tick; false when the keeper is to stop. A first write shortens a long wait and does
 * not end it: it is to gather first. Those that follow wake nobody.
 */
static bool wait_tick(struct keeper *k, bool busy)
{
	struct timespec t;
	bool go;
	int r = 0;

	pthread_mutex_lock(&k->lock);
	k->idle = !busy && !k->busy;
	t = clock_cond_in(k->idle ? IDLE_TICK_NS : TICK_NS);
	while (!k->stop && !atomic_load(&k->wal_grown) && r == 0) {
		if (k->idle && k->busy) {
			k->idle = false;
			t = clock_cond_in(TICK_NS);
		}
		r = pthread_cond_timedwait(&k->wake, &k->lock, &t);
	}
	k->idle = false;
	go = !k->stop;
	pthread_mutex_unlock(&k->lock);
	return go;
}

/* A checkpoint that fails is tried again at the next commit, but not more often than by the tick. */
void keeper_wal_grown(void *arg)
{
	struct volume *v = arg;
	struct keeper *k = v->keeper;

	if (!k || atomic_load(&k->wal_grown))
		return;
	pthread_mutex_lock(&k->lock);
	if (!atomic_exchange(&k->wal_grown, true))
		pthread_cond_signal(&k->wake);
	pthread_mutex_unlock(&k->lock);
}

static bool take_busy(struct keeper *k)
{
	bool busy;

	pthread_mutex_lock(&k->lock);
	busy = k->busy;
	k->busy = false;
	pthread_mutex_unlock(&k->lock);
	return busy;
}

static bool stopping(void *arg)
{
	struct keeper *k = arg;
	bool stop;

	pthread_mutex_lock(&k->lock);
	stop = k->stop;
	pthread_mutex_unlock(&k->lock);
	return stop;
}

static void *keeper_main(void *arg)
{
	struct volume *v = arg;
	struct keeper *k = v->keeper;
	const int64_t began = clock_boot_ns();
	struct due due = { began, began, began, began };
	bool busy = false;

	scan_run(v, stopping, k);
	while (wait_tick(k, busy)) {
		/* Stays busy for the ticks after the last write, until its file is old enough. */
		busy = take_busy(k) || (busy && filetab_any_dirty(v));
		tick(v, &due);
	}
	flush_used(v);
	secret_wipe_stack();
	return NULL;
}

int keeper_start(struct volume *v)
{
	struct keeper *k = calloc(1, sizeof(*k));
	int r;

	if (!k)
		return -ENOMEM;
	pthread_mutex_init(&k->lock, NULL);
	clock_cond_init(&k->wake);
	v->keeper = k;
	r = pthread_create(&k->thread, NULL, keeper_main, v);
	if (r) {
		v->keeper = NULL;
		pthread_cond_destroy(&k->wake);
		pthread_mutex_destroy(&k->lock);
		free(k);
	}
	return -r;
}

void keeper_stop(struct volume *v)
{
	struct keeper *k = v->keeper;

	if (!k)
		return;
	pthread_mutex_lock(&k->lock);
	k->stop = true;
	pthread_cond_signal(&k->wake);
	pthread_mutex_unlock(&k->lock);
	pthread_join(k->thread, NULL);
	v->keeper = NULL;
	pthread_cond_destroy(&k->wake);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

void keeper_wake(struct volume *v)
{
	struct keeper *k = v->keeper;

	if (!k)
		return;
	pthread_mutex_lock(&k->lock);
	k->busy = true;
	if (k->idle)
		pthread_cond_signal(&k->wake);
	pthread_mutex_unlock(&k->lock);
}
