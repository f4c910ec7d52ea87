/*
 * Theory of operation.
 *
 * 1 keys_renew      The keyring gets the next epoch of each key, in one rename. From here on a
 *                   rekey is under way; old and new epoch both open what they sealed.
 * 2 keys_advance    New seals take the new keys. (Killed before: the next opening does it.)
 * 3 pass            Map by map, what is old is sealed into free units and the rows change in a
 *                   transaction (file_rekey.c). Killed: rows say what is left. Passes go on until
 *                   no row, no undo row and no chunk that waits for its commit has an old number.
 * 4 db_rekey        The index is copied under its new key and exchanged by a rename. Killed before
 *                   the rename: the old key opens it; after it: the new one. Both are there.
 * 5 unsent_rekey    unsent.log is made anew; until then whoever reads it tries both keys.
 * 6 durable_reclaim All of that is durable, and free units that hold what the old keys sealed lose
 *                   their blocks.
 * 7 keys_retire     The old keys leave the keyring, the file's blocks and memory.
 *
 * A damaged chunk of unsent content cannot be sealed anew: the pass goes on, the old keys stay, and
 * the status says so until it is repaired or removed.
 */
#include "cache/rekey.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "cache/file_priv.h"
#include "cache/scan.h"
#include "cache/setup_priv.h"
#include "cache/unsent.h"

#define SETTING_REKEY "keys.rekey" /* epoch of the rekey that has its event; 0 = none under way */
#define MAPS 32
#define DIRTY_MAX 64
#define RETRY_MS 5000
#define RETRY_SOON_MS 200
#define REST_MAX_MS 2000
#define DAY_S 86400

struct rekey {
	pthread_t thread;
	pthread_mutex_t lock; /* leaf: all below */
	pthread_cond_t wake;  /* to stop, to hurry, and at the end */
	bool runs;            /* the thread is to be joined */
	bool stop, ended, hurry;
	struct rekey_status status;
};

static struct rekey *rekey_of(struct volume *v)
{
	return v->rekey;
}

static bool stopping(void *arg)
{
	struct rekey *k = rekey_of(arg);
	bool stop;

	pthread_mutex_lock(&k->lock);
	stop = k->stop;
	pthread_mutex_unlock(&k->lock);
	return stop;
}

static void wait_until(struct rekey *k, int64_t ms)
{
	const struct timespec t = clock_cond_in(ms * NS_PER_MS);

	pthread_cond_timedwait(&k->wake, &k->lock, &t);
}

/* As long as it worked, unless somebody waits for the end. */
static void rest(struct rekey *k, int64_t began_ms)
{
	int64_t ms = MIN_OF(clock_boot_ms() - began_ms, REST_MAX_MS);

	pthread_mutex_lock(&k->lock);
	if (ms && !k->stop && !k->hurry)
		wait_until(k, ms);
	pthread_mutex_unlock(&k->lock);
}

/* --- events --- */

static int set_phase(struct volume *v, uint64_t phase, const char *detail)
{
	uint64_t was = 0;
	int r = db_begin(v->db);

	if (r)
		return r;
	r = setting_get_u64(v->db, SETTING_REKEY, &was);
	if (r == -ENOENT)
		r = 0;
	if (!r && was != phase) {
		r = setting_set_u64(v->db, SETTING_REKEY, phase);
		if (!r)
			r = event_append(v->db, clock_wall_ns(), "rekey", detail);
	}
	if (r)
		db_rollback(v->db);
	else
		r = db_commit(v->db);
	return r;
}

static int note_begun(struct volume *v)
{
	uint64_t epoch;

	keys_made_at_s(v, &epoch);
	return set_phase(v, epoch, "{\"result\":\"begun\"}");
}

static int note_done(struct volume *v)
{
	return set_phase(v, 0, "{\"result\":\"done\"}");
}

/* Once for each kind. */
static void note_failure(struct volume *v, int code)
{
	struct rekey *k = rekey_of(v);
	char detail[160];
	bool again;

	pthread_mutex_lock(&k->lock);
	again = k->status.code == code;
	k->status.code = code;
	pthread_mutex_unlock(&k->lock);
	if (again || !code || code == -EAGAIN || code == -EINTR)
		return;
	snprintf(detail, sizeof(detail), "{\"result\":\"failed\",\"error\":\"%s\"}",
		error_text(code));
	if (volume_event(v, "rekey", detail))
		log_warning("a failed rekey is not in the event log");
}

/* --- content --- */

static int find_old(void *arg, const struct content_chunk *c)
{
	uint64_t *from = arg;

	if (c->seq >= *from)
		return 0;
	*from = 0; /* found */
	return 1;
}

/* The next maps; of those that have nothing old only the last counts. */
static int next_maps(
	struct volume *v, uint64_t from, uint64_t *after, uint64_t ids[static MAPS], size_t *n)
{
	uint64_t all[MAPS];
	int count, r = 0;

	*n = 0;
	db_read(v->db);
	count = content_map_after_any(v->db, *after, all, MAPS);
	for (int i = 0; i < count && r >= 0; i++) {
		uint64_t seek = from;

		r = content_chunk_each(v->db, all[i], 0, find_old, &seek);
		if (!seek)
			ids[(*n)++] = all[i];
	}
	db_unlock(v->db);
	if (count > 0)
		*after = all[count - 1];
	return r < 0 ? r : count;
}

/* Without being a use of it, which eviction would count. */
static int open_map(struct volume *v, uint64_t map, struct file **out)
{
	struct object_row o = { .map = 0 };
	struct content_map m;
	int r;

	db_read(v->db);
	r = content_map_get(v->db, map, &m);
	if (!r && m.state == CONTENT_MAP_CURRENT)
		r = object_get(v->db, m.object, &o);
	db_unlock(v->db);
	if (r)
		return r;
	if (m.state == CONTENT_MAP_CURRENT)
		return o.map == map ? filetab_open(v, m.object, o.version, false, out) : -EAGAIN;
	return filetab_open_map(v, map, out);
}

static void add_progress(struct rekey *k, const struct file_rekeyed *done)
{
	pthread_mutex_lock(&k->lock);
	k->status.done_bytes += done->bytes;
	k->status.total_bytes = MAX_OF(k->status.total_bytes, k->status.done_bytes);
	pthread_mutex_unlock(&k->lock);
}

static int rekey_map(struct volume *v, uint64_t map, uint64_t from)
{
	struct file_rekeyed done;
	struct file *f;
	uint64_t idx = 0;
	int r = open_map(v, map, &f);

	if (r)
		return r;
	do {
		int64_t began_ms = clock_boot_ms();

		done = (struct file_rekeyed){ 0 };
		r = file_rekey(f, map, from, &idx, &done);
		add_progress(rekey_of(v), &done);
		if (!r && !done.done)
			rest(rekey_of(v), began_ms);
		if (!r && stopping(v))
			r = -EINTR;
	} while (!r && !done.done);
	file_unref(f, false);
	return r;
}

/* What is in the way of one file is not in that of others. */
static int judge(int r, uint64_t *damaged)
{
	switch (r) {
	case CE_TAMPER:
	case CE_CORRUPT:
	case -EIO:
		(*damaged)++;
		return 0;
	case CE_STALE:
	case CE_ABSENT:
	case -ENOENT:
	case -EAGAIN:
		return 0;
	}
	return r;
}

static int pass(struct volume *v, uint64_t from)
{
	struct rekey *k = rekey_of(v);
	uint64_t after = 0, damaged = 0, ids[MAPS];
	size_t n;
	int r;

	do {
		int64_t began_ms = clock_boot_ms();

		r = next_maps(v, from, &after, ids, &n);
		if (r <= 0)
			break;
		for (size_t i = 0; i < n && r >= 0; i++)
			r = judge(rekey_map(v, ids[i], from), &damaged);
		if (r >= 0)
			r = stopping(v) ? -EINTR : 1;
		rest(k, began_ms);
	} while (r > 0);
	pthread_mutex_lock(&k->lock);
	k->status.damaged = damaged;
	pthread_mutex_unlock(&k->lock);
	return MIN_OF(r, 0);
}

/* Sealed before the new keys came, and not committed yet. */
static bool waits_for_commit(struct volume *v, uint64_t from)
{
	struct file *files[DIRTY_MAX];
	size_t n = filetab_dirty(v, INT64_MAX, INT64_MAX, files, DIRTY_MAX);
	bool waits = n == DIRTY_MAX;

	for (size_t i = 0; i < n; i++) {
		waits = waits || file_holds_old(files[i], from);
		file_unref(files[i], false);
	}
	return waits;
}

static int count_old(struct volume *v, uint64_t from, struct content_old *old)
{
	int r;

	db_read(v->db);
	r = content_chunk_old(v->db, from, old);
	db_unlock(v->db);
	return r;
}

static int rekey_content(struct volume *v)
{
	struct rekey *k = rekey_of(v);
	uint64_t from = keys_from(v);
	struct content_old old;
	int r = count_old(v, from, &old);

	if (r)
		return r;
	pthread_mutex_lock(&k->lock);
	k->status.total_bytes = k->status.done_bytes + old.bytes;
	pthread_mutex_unlock(&k->lock);
	r = pass(v, from);
	if (!r)
		r = durable_sync(v); /* and undo rows go */
	if (!r)
		r = count_old(v, from, &old);
	if (r)
		return r;
	return old.chunks || old.undo || waits_for_commit(v, from) ? -EAGAIN : 0;
}

/* --- the index and the end --- */

/* For a while there are two of it. */
static int rekey_index(struct volume *v, const struct secret *key)
{
	uint64_t room = db_bytes_bound(v->db);
	int r;

	if (!v->index_key_is_old)
		return 0;
	r = space_reserve(v, room);
	if (r)
		return r;
	r = db_rekey(v->db, key, stopping, v);
	space_release(v, room);
	if (!r)
		v->index_key_is_old = false;
	return r;
}

static int get_index_key(struct volume *v, struct secret **out)
{
	int r;

	keys_lock(v);
	r = keyring_get(v->keyring, KEYRING_PURPOSE_INDEX, "", out);
	keys_unlock(v);
	return r;
}

static int finish(struct volume *v)
{
	_cleanup_secret_ struct secret *key = NULL;
	int r = get_index_key(v, &key);

	if (!r)
		r = rekey_index(v, key);
	if (!r)
		r = unsent_rekey(v, key);
	if (!r)
		r = durable_reclaim(v);
	if (!r)
		r = FAILPOINT("rekey-retire");
	if (!r)
		r = keys_retire(v);
	if (!r)
		r = FAILPOINT("rekey-retired");
	return r ? r : note_done(v);
}

static int run(struct volume *v)
{
	int r = keys_advance(v);

	if (!r)
		r = note_begun(v);
	/* Who takes space waits for the scan, and the scan for the keeper, which may be stopped. */
	if (!r && !scan_is_over(v))
		r = -EAGAIN;
	if (!r)
		r = rekey_content(v);
	return r ? r : finish(v);
}

static void *rekey_main(void *arg)
{
	struct volume *v = arg;
	struct rekey *k = rekey_of(v);
	int r;

	while ((r = run(v)) && !stopping(v)) {
		note_failure(v, r);
		pthread_mutex_lock(&k->lock);
		if (!k->stop)
			wait_until(
				k, r == -EAGAIN && !k->status.damaged ? RETRY_SOON_MS : RETRY_MS);
		pthread_mutex_unlock(&k->lock);
	}
	pthread_mutex_lock(&k->lock);
	k->ended = true;
	k->status.active = r != 0;
	if (!r)
		k->status.code = 0;
	pthread_cond_broadcast(&k->wake);
	pthread_mutex_unlock(&k->lock);
	secret_wipe_stack();
	return NULL;
}

/* --- beginning and waiting --- */

static void join(struct rekey *k)
{
	bool runs;

	pthread_mutex_lock(&k->lock);
	runs = k->runs;
	k->runs = false;
	pthread_mutex_unlock(&k->lock);
	if (runs)
		pthread_join(k->thread, NULL);
}

static int go(struct volume *v)
{
	struct rekey *k = rekey_of(v);
	int r = -ESHUTDOWN;

	join(k); /* of one that is over */
	pthread_mutex_lock(&k->lock);
	if (!k->stop) {
		k->ended = false;
		k->status = (struct rekey_status){ .active = true };
		r = -pthread_create(&k->thread, NULL, rekey_main, v);
		k->runs = !r;
	}
	pthread_mutex_unlock(&k->lock);
	return r;
}

static int rekey_alloc(struct rekey **out)
{
	struct rekey *k = calloc(1, sizeof(*k));

	if (!k)
		return -ENOMEM;
	pthread_mutex_init(&k->lock, NULL);
	clock_cond_init(&k->wake);
	*out = k;
	return 0;
}

int rekey_new(struct volume *v)
{
	int r = v->rekey ? 0 : rekey_alloc(&v->rekey);

	if (!r)
		v->rekey->stop = false;
	return r;
}

int rekey_open(struct volume *v)
{
	if (keys_are_old(v))
		return go(v);
	return note_done(v); /* one that was killed at its very end */
}

void rekey_stop(struct volume *v)
{
	struct rekey *k = v->rekey;

	if (!k)
		return;
	pthread_mutex_lock(&k->lock);
	k->stop = true;
	pthread_cond_broadcast(&k->wake);
	pthread_mutex_unlock(&k->lock);
	join(k);
}

void rekey_free(struct volume *v)
{
	struct rekey *k = v->rekey;

	if (!k)
		return;
	rekey_stop(v);
	pthread_cond_destroy(&k->wake);
	pthread_mutex_destroy(&k->lock);
	free(k);
	v->rekey = NULL;
}

static const char *unhealthy(struct volume *v, bool force)
{
	if (atomic_load(&v->old_seq))
		return "it is an old copy (`cachet status`)";
	if (v->enrolment && !v->enrolment->device->priv)
		return "the server revoked this device";
	if (force)
		return NULL;
	if (atomic_load(&v->damaged) || v->wal_damaged)
		return "damage was found (`cachet verify`)";
	if (v->space.aside)
		return "something was set aside in quarantine/ that only the old keys open";
	return NULL;
}

int rekey_start(struct volume *v, bool force, char **error)
{
	const char *why = unhealthy(v, force);
	int r;

	if (why)
		return setup_fail(error, CE_USAGE, "the volume cannot be rekeyed now: %s", why);
	if (stopping(v))
		return -ESHUTDOWN;
	r = keys_renew(v);
	if (!r) {
		v->index_key_is_old = true;
		r = go(v);
	}
	return r;
}

void rekey_status(struct volume *v, struct rekey_status *out)
{
	struct rekey *k = rekey_of(v);

	pthread_mutex_lock(&k->lock);
	*out = k->status;
	pthread_mutex_unlock(&k->lock);
	out->active = keys_are_old(v);
	out->made_at_s = keys_made_at_s(v, &out->epoch);
}

void rekey_wait(struct volume *v, unsigned ms)
{
	struct rekey *k = rekey_of(v);
	int64_t until = clock_boot_ms() + ms;

	pthread_mutex_lock(&k->lock);
	k->hurry = true;
	pthread_cond_broadcast(&k->wake);
	while (k->runs && !k->ended && clock_boot_ms() < until)
		wait_until(k, until - clock_boot_ms());
	k->hurry = false;
	pthread_mutex_unlock(&k->lock);
}

void rekey_tick(struct volume *v)
{
	_cleanup_free_ char *why = NULL;
	uint64_t epoch;
	int64_t age_s = clock_wall_ns() / NS_PER_SEC - keys_made_at_s(v, &epoch);

	if (!v->rekey_age_s || age_s < (int64_t)v->rekey_age_s || keys_are_old(v))
		return;
	if (rekey_start(v, false, &why))
		log_debug("no rekey: %s", why ? why : "it failed");
	else
		log_info("the keys are older than %llu days; they are replaced",
			(unsigned long long)(v->rekey_age_s / DAY_S));
}
