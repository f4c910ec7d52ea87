#include "cache/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/io.h"
#include "base/log.h"
#include "cache/chunkcache.h"
#include "cache/file_priv.h"
#include "cache/logged.h"
#include "cache/packs.h"
#include "cache/pool.h"
#include "cache/rekey.h"
#include "cache/scan.h"
#include "cache/setup_priv.h"
#include "cache/unsent.h"
#include "cache/volume_priv.h"
#include "crypto/keysource.h"
#include "meta/arena.h"

#define TEXT_MAX 8192
#define SEQ_SHIFT 40 /* chunk sequence number = times opened << 40 | counter, from the newest keys on */
#define CLOSE_BATCH 64

/* --- opening, step by step; what fails is undone by volume_free --- */

static struct volume *volume_alloc(const struct volume_options *o)
{
	struct volume *v = calloc(1, sizeof(*v));

	if (!v)
		return NULL;
	v->dirfd = v->lock_fd = v->blobs_fd = -1;
	pthread_mutex_init(&v->files_lock, NULL);
	pthread_mutex_init(&v->blobs_lock, NULL);
	pthread_mutex_init(&v->held_lock, NULL);
	pthread_mutex_init(&v->space.lock, NULL);
	pthread_mutex_init(&v->space.evicting, NULL);
	pthread_mutex_init(&v->observer_lock, NULL);
	v->space.limit = o->limit_bytes ? o->limit_bytes : VOLUME_LIMIT_DEFAULT_BYTES;
	v->scrub_rate = o->scrub_rate;
	v->rekey_age_s = o->rekey_days * 86400;
	v->rules = o->rules;
	v->alg = o->alg ? o->alg : aead_default();
	v->uid = o->uid;
	v->gid = o->gid;
	snprintf(v->host, sizeof(v->host), "%s", o->host ? o->host : "local");
	atomic_store(&v->undo_gen, 1);
	v->dir = strdup(o->dir);
	if (!v->dir) {
		free(v);
		return NULL;
	}
	return v;
}

static void volume_free(struct volume *v)
{
	rekey_free(v);
	packs_close(v);
	db_close(v->db); /* may still sync blobs */
	v->db = NULL;
	logged_free(v);
	packs_free(v);
	durable_free(v);
	unsent_free(v);
	scan_free(v);
	chunkcache_free(v->chunkcache);
	pool_free(v->pool);
	keys_free(v);
	enrolment_free(v->enrolment);
	keyring_free(v->keyring);
	if (v->blobs_fd >= 0)
		close(v->blobs_fd);
	if (v->lock_fd >= 0)
		close(v->lock_fd);
	if (v->dirfd >= 0)
		close(v->dirfd);
	pthread_mutex_destroy(&v->files_lock);
	pthread_mutex_destroy(&v->blobs_lock);
	pthread_mutex_destroy(&v->held_lock);
	pthread_mutex_destroy(&v->space.lock);
	pthread_mutex_destroy(&v->space.evicting);
	pthread_mutex_destroy(&v->observer_lock);
	free(v->only_store);
	free(v->dir);
	free(v);
}

static int open_dir(struct volume *v, char **error)
{
	int r;

	v->dirfd = open(v->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (v->dirfd < 0)
		return setup_fail(error, -errno,
			"%s: there is no volume here (cachet init makes one)", v->dir);
	if (faccessat(v->dirfd, KEYRING_FILE, F_OK, 0) < 0 && errno == ENOENT &&
		faccessat(v->dirfd, SETUP_MARKER, F_OK, 0) < 0)
		return setup_fail(error, -ENOENT,
			"%s: there is no volume here (cachet init makes one)", v->dir);
	r = io_lock_file(v->dirfd, SETUP_LOCK, &v->lock_fd);
	if (r == CE_INUSE)
		return setup_fail(error, r, "%s: another process has this volume open", v->dir);
	if (r)
		return r;
	if (!faccessat(v->dirfd, SETUP_MARKER, F_OK, 0))
		return setup_fail(error, CE_FORMAT,
			"%s: making this volume was interrupted; run cachet init again", v->dir);
	v->blobs_fd = openat(v->dirfd, "blobs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (v->blobs_fd < 0 && errno == ENOENT && !mkdirat(v->dirfd, "blobs", 0700))
		v->blobs_fd = openat(v->dirfd, "blobs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return v->blobs_fd < 0 ? -errno : 0;
}

static int get_kek(struct volume *v, const struct volume_options *o, struct secret **out, char **error)
{
	if (o->kek)
		return secret_new_copy(secret_cbytes(o->kek), secret_len(o->kek), out);
	if (o->secret)
		return secret_new_copy(secret_cbytes(o->secret), secret_len(o->secret), out);
	return keysource_fetch(o->key_source, keyring_source_params(v->keyring), out, error);
}

static int unlock(struct volume *v, const struct volume_options *o, char **error)
{
	const struct enrolment_setup s = { o->key_source, o->link, v->dirfd, o->lease_first, o->secret };
	struct secret *kek = NULL;
	const char *local;
	int r;

	if (!o->kek && keysource_is_server(o->key_source, &local))
		return enrolment_open(&s, v->keyring, &v->enrolment, error);
	r = get_kek(v, o, &kek, error);
	if (r)
		return setup_fail(error, r, "the key source gives no key: %s", error_text(r));
	r = keyring_unlock(v->keyring, kek);
	if (r)
		secret_free(kek);
	return r;
}

static int open_keyring(struct volume *v, const struct volume_options *o, char **error)
{
	int r = keyring_load(v->dirfd, &v->keyring);

	if (r == CE_FORMAT || r == CE_TAMPER || r == CE_CORRUPT)
		return setup_fail(error, r,
			"%s/" KEYRING_FILE
			" is damaged; nothing was changed: put a copy of it back",
			v->dir);
	if (r == -ENOENT)
		return setup_fail(error, r,
			"%s/" KEYRING_FILE
			" is missing; without it the volume cannot be opened: put "
			"a copy of it back",
			v->dir);
	if (r)
		return r;
	r = unlock(v, o, error);
	if (!r || *error)
		return r;
	if (r == CE_WRONG_KEY)
		return setup_fail(error, r,
			"%s: the key source's key does not open this volume; nothing was changed: "
			"give "
			"the key it was made with",
			v->dir);
	return setup_fail(error, r,
		"%s/" KEYRING_FILE " is damaged (%s); nothing was changed: put a copy of it back",
		v->dir, error_text(r));
}

/* A setting as text; the caller frees. -ENOENT. */
static int get_text(struct volume *v, const char *key, char **out)
{
	char *text = calloc(1, TEXT_MAX + 1);
	size_t len = 0;
	int r = text ? setting_get(v->db, key, text, TEXT_MAX, &len) : -ENOMEM;

	if (r) {
		free(text);
		return r;
	}
	text[len] = 0;
	*out = text;
	return 0;
}

/* What the settings say, and that the volume is open: if it is not closed, the next open sees that.
 */
static int mark_open(struct volume *v)
{
	uint64_t opened = 0, unclean = 0, old_seq = 0;
	size_t len = 0;
	int r = setting_get(v->db, SETUP_DEVICE, v->device_id, sizeof(v->device_id) - 1, &len);

	if (!r && len != sizeof(v->device_id) - 1)
		r = CE_CORRUPT;
	if (!r)
		r = get_text(v, SETUP_STORE, &v->only_store);
	if (r == -ENOENT)
		r = 0;
	if (!r)
		r = setting_get_u64(v->db, SETUP_OPENED, &opened);
	if (!r || r == -ENOENT)
		r = setting_get_u64(v->db, SETUP_UNCLEAN, &unclean);
	if (r && r != -ENOENT)
		return r;
	r = setting_get_u64(v->db, SETUP_OLD, &old_seq);
	if (r && r != -ENOENT)
		return r;
	atomic_store(&v->old_seq, old_seq);
	v->unclean = unclean;
	atomic_store(&v->chunk_seq, MAX_OF((opened + 1) << SEQ_SHIFT, keys_from(v)));
	r = setting_set_u64(v->db, SETUP_OPENED, opened + 1);
	if (!r)
		r = setting_set_u64(v->db, SETUP_UNCLEAN, 1);
	return r ? r : content_blob_total(v->db, &v->space.used);
}

int volume_load_state(struct volume *v)
{
	int r = db_begin(v->db);

	if (r)
		return r;
	r = mark_open(v);
	if (r)
		db_rollback(v->db);
	else
		r = db_commit(v->db);
	return r;
}

/* The one that seals anew lives within the life of the keeper. */
static void stop_threads(struct volume *v)
{
	rekey_stop(v);
	keeper_stop(v);
}

static int start_threads(struct volume *v)
{
	int r = keeper_start(v);

	if (r)
		return r;
	r = rekey_open(v);
	if (r)
		stop_threads(v);
	return r;
}

static int open_steps(struct volume *v, const struct volume_options *o, char **error)
{
	int r = open_dir(v, error);

	if (!r)
		r = keys_init(v);
	if (!r)
		r = pool_new(&v->pool);
	if (!r)
		r = packs_new(v);
	if (!r)
		r = chunkcache_new(v->pool, &v->chunkcache);
	if (!r)
		r = durable_new(v);
	if (!r)
		r = unsent_new(v);
	if (!r)
		r = open_keyring(v, o, error);
	if (!r)
		r = volume_index_open(v, error);
	if (!r)
		r = unsent_start(v);
	if (!r)
		r = queries_open(v);
	if (!r)
		r = enrolment_check(v, error);
	if (!r && v->unclean)
		r = scan_new(v);
	if (!r)
		r = rekey_new(v);
	return r ? r : start_threads(v);
}

int volume_open(const struct volume_options *o, struct volume **out, char **error)
{
	struct volume *v;
	char *why = NULL;
	int r = 0;

	if (o->limit_bytes && o->limit_bytes < VOLUME_LIMIT_MIN_BYTES)
		r = setup_fail(&why, CE_USAGE, "the size limit is below %llu bytes",
			(unsigned long long)VOLUME_LIMIT_MIN_BYTES);
	v = r ? NULL : volume_alloc(o);
	if (!r && !v)
		r = -ENOMEM;
	if (!r)
		r = open_steps(v, o, &why);
	if (!r) {
		*out = v;
		free(why);
		return 0;
	}
	setup_fail(&why, r, "%s: the volume cannot be opened: %s", o->dir, error_text(r));
	if (error)
		*error = steal_ptr(&why);
	free(why);
	if (v)
		volume_free(v);
	return r;
}

/* --- closing --- */

/* Files that somebody still holds are let go with what they have committed. */
static void release_files(struct volume *v)
{
	struct file *files[CLOSE_BATCH];
	size_t n;

	while ((n = filetab_all(v, files, CLOSE_BATCH))) {
		for (size_t i = 0; i < n; i++) {
			int r = file_commit(files[i]);

			if (r)
				log_error("object %llu: uncommitted writes are lost: %s",
					(unsigned long long)file_object(files[i]), error_text(r));
			filetab_forget(files[i]);
			file_free(files[i]);
		}
	}
}

static int mark_closed(struct volume *v)
{
	int r = db_begin(v->db);

	if (r)
		return r;
	r = setting_set_u64(v->db, SETUP_UNCLEAN, 0);
	if (r)
		db_rollback(v->db);
	else
		r = db_commit(v->db);
	return r;
}

/* Twice: the first sync forgets the undo rows, the second makes that and the mark durable. */
void volume_close(struct volume *v)
{
	int r;

	if (!v)
		return;
	stop_threads(v);
	release_files(v);
	if (!v->db) { /* locked: synced already */
		volume_free(v);
		return;
	}
	packs_close(v);
	enrolment_tick(v);
	r = durable_sync(v);
	if (!r)
		r = mark_closed(v);
	if (!r)
		r = durable_sync(v);
	if (r)
		log_error("the volume was not closed cleanly: %s", error_text(r));
	volume_free(v);
}

/* --- locking --- */

static int commit_all(struct volume *v)
{
	struct file *files[CLOSE_BATCH];
	size_t n = filetab_dirty(v, INT64_MAX, INT64_MAX, files, CLOSE_BATCH);
	int r = 0;

	for (size_t i = 0; i < n; i++) {
		int one = file_commit(files[i]);

		r = r ? r : one;
		file_unref(files[i], false);
	}
	return r || n < CLOSE_BATCH ? r : commit_all(v);
}

static void drop_keys(struct volume *v)
{
	db_close(v->db);
	v->db = NULL;
	unsent_free(v);
	chunkcache_empty(v->chunkcache);
	keys_forget(v);
	enrolment_free(steal_ptr(&v->enrolment));
	keyring_free(steal_ptr(&v->keyring));
}

int volume_lock(struct volume *v)
{
	int r = commit_all(v), synced;

	stop_threads(v);
	enrolment_tick(v);
	synced = durable_sync(v);
	drop_keys(v);
	return r ? r : synced;
}

void volume_forget(void)
{
	aead_forget();
	arena_wipe();
}

int volume_unlock(struct volume *v, const struct volume_options *o, char **error)
{
	int r = unsent_new(v);

	if (!r)
		r = open_keyring(v, o, error);
	if (!r)
		r = volume_index_reopen(v, error);
	if (!r)
		r = keys_recall(v);
	if (!r)
		r = unsent_start(v);
	if (!r)
		r = enrolment_check(v, error);
	if (!r)
		r = rekey_new(v);
	if (!r)
		r = start_threads(v);
	if (r)
		drop_keys(v);
	return r;
}

/* --- small calls --- */

int volume_sync(struct volume *v)
{
	return durable_sync(v);
}

static int locked_text(struct volume *v, const char *key, char **out)
{
	int r;

	db_read(v->db);
	r = get_text(v, key, out);
	db_unlock(v->db);
	return r;
}

int volume_origin(struct volume *v, char **out)
{
	return locked_text(v, SETUP_ORIGIN, out);
}

int volume_token(struct volume *v, struct secret **out)
{
	_cleanup_secret_ struct secret *buf = NULL;
	size_t len = 0;
	int r = secret_new(TEXT_MAX, &buf);

	if (r)
		return r;
	db_read(v->db);
	r = setting_get(v->db, SETUP_TOKEN, secret_bytes(buf), TEXT_MAX, &len);
	db_unlock(v->db);
	if (r == -ENOENT || (!r && !len)) {
		*out = NULL;
		return 0;
	}
	return r ? r : secret_new_copy(secret_cbytes(buf), len, out);
}

int volume_only_store(struct volume *v, char **out)
{
	char *copy = v->only_store ? strdup(v->only_store) : NULL;

	if (v->only_store && !copy)
		return -ENOMEM;
	*out = copy;
	return 0;
}

const char *volume_device_id(const struct volume *v)
{
	return v->device_id;
}

void volume_observe(struct volume *v, enum volume_observer who, volume_change_fn *fn, void *arg)
{
	pthread_mutex_lock(&v->observer_lock);
	v->observers[who].fn = fn;
	v->observers[who].arg = arg;
	pthread_mutex_unlock(&v->observer_lock);
}

void volume_on_outbox(struct volume *v, void (*fn)(void *arg), void *arg)
{
	pthread_mutex_lock(&v->observer_lock);
	v->on_outbox = fn;
	v->on_outbox_arg = arg;
	pthread_mutex_unlock(&v->observer_lock);
}

void volume_tell(struct volume *v, const struct volume_change *changes, size_t n)
{
	pthread_mutex_lock(&v->observer_lock);
	for (size_t i = 0; n && i < VOLUME_OBSERVERS; i++)
		if (v->observers[i].fn)
			v->observers[i].fn(v->observers[i].arg, changes, n);
	pthread_mutex_unlock(&v->observer_lock);
}

void volume_tell_outbox(struct volume *v)
{
	pthread_mutex_lock(&v->observer_lock);
	if (v->on_outbox)
		v->on_outbox(v->on_outbox_arg);
	pthread_mutex_unlock(&v->observer_lock);
}

void volume_on_growth(struct volume *v, volume_growth_fn *fn, void *arg)
{
	pthread_mutex_lock(&v->observer_lock);
	v->on_growth = fn;
	v->on_growth_arg = arg;
	pthread_mutex_unlock(&v->observer_lock);
}

void volume_tell_growth(struct volume *v, uint64_t store, uint64_t object, uint64_t version)
{
	pthread_mutex_lock(&v->observer_lock);
	if (v->on_growth)
		v->on_growth(v->on_growth_arg, store, object, version);
	pthread_mutex_unlock(&v->observer_lock);
}

struct count {
	struct volume *v;
	uint64_t sum;
};

static int count_store(void *arg, const struct store_row *s)
{
	struct count *c = arg;
	uint64_t n;
	int r = object_count(c->v->db, s->id, &n);

	if (!r)
		c->sum += n;
	return r;
}

int volume_objects(struct volume *v, uint64_t *out)
{
	struct count c = { .v = v };
	int r;

	db_read(v->db);
	r = store_each(v->db, count_store, &c);
	db_unlock(v->db);
	if (r >= 0)
		*out = c.sum;
	return MIN_OF(r, 0);
}

int volume_status(struct volume *v, struct volume_status *out)
{
	struct space_info space;

	space_info(v, &space);
	*out = (struct volume_status){ .limit_bytes = space.limit,
		.used_bytes = space.used,
		.unclean = v->unclean,
		.rolled_back = atomic_load(&v->rolled_back),
		.damaged = atomic_load(&v->damaged),
		.wal_damaged = v->wal_damaged,
		.index_lost = v->index_lost,
		.restored = v->restored.records,
		.restored_damaged = v->restored.damaged,
		.log_damaged = v->restored.log_damaged,
		.aside_bytes = v->space.aside };
	memcpy(out->aside, v->restored.quarantine, sizeof(out->aside));
	return 0;
}
