#include "cache/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "base/log.h"
#include "cache/scan.h"
#include "cache/volume_priv.h"

void blob_path(const uint8_t uuid[static CONTENT_UUID_LEN], char name[static BLOB_NAME_LEN])
{
	bytes_to_hex(uuid, 1, name);
	name[2] = '/';
	bytes_to_hex(uuid + 1, CONTENT_UUID_LEN - 1, name + 3);
}

static struct blob *blob_alloc(struct volume *v)
{
	struct blob *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->v = v;
	b->refs = 1;
	b->fd = -1;
	pthread_mutex_init(&b->lock, NULL);
	return b;
}

static void blob_destroy(struct blob *b)
{
	struct blob_write *w, *next;

	if (b->fd >= 0)
		close(b->fd);
	pthread_mutex_destroy(&b->lock);
	free(b->taken);
	free(b->backed);
	free(b->released);
	HASH_ITER (hh, b->unsynced, w, next) {
		HASH_DEL(b->unsynced, w);
		free(w);
	}
	free(b);
}

int blob_new(struct volume *v, uint64_t store, bool pack, struct blob **out)
{
	struct blob *b = blob_alloc(v);
	int r;

	if (!b)
		return -ENOMEM;
	db_read(v->db);
	r = keys_store(v, store, b->store_ref, &b->keys);
	db_unlock(v->db);
	if (r) {
		blob_destroy(b);
		return r;
	}
	b->store = store;
	b->alg = v->alg;
	b->shift = pack ? BLOB_SHIFT_PACK : BLOB_SHIFT_LARGE;
	b->epoch = keys_epoch(b->keys, UINT64_MAX);
	b->pack = pack;
	b->units_known = true;
	secret_random(b->uuid, sizeof(b->uuid));
	*out = b;
	return 0;
}

static int from_row(struct volume *v, const struct content_blob *row, struct blob **out)
{
	struct blob *b;
	int r;

	if (row->shift < BLOB_SHIFT_MIN || row->shift > BLOB_SHIFT_MAX || !aead_nonce_len(row->alg))
		return CE_CORRUPT;
	b = blob_alloc(v);
	if (!b)
		return -ENOMEM;
	r = keys_store(v, row->store, b->store_ref, &b->keys);
	if (r) {
		blob_destroy(b);
		return r;
	}
	b->id = row->id;
	memcpy(b->uuid, row->uuid, sizeof(b->uuid));
	b->store = row->store;
	b->alg = row->alg;
	b->shift = row->shift;
	b->epoch = row->epoch;
	b->pack = row->pack;
	b->seals = row->seals;
	b->alloc_bytes = row->alloc_bytes;
	b->on_disk = true;
	*out = b;
	return 0;
}

static struct blob *find_ref(struct volume *v, uint64_t id)
{
	struct blob *b;

	pthread_mutex_lock(&v->blobs_lock);
	HASH_FIND(hh, v->blobs, &id, sizeof(id), b);
	if (b)
		b->refs++;
	pthread_mutex_unlock(&v->blobs_lock);
	return b;
}

/* The caller holds the index lock, so that nobody else adds the same id meanwhile. */
int blob_get(struct volume *v, uint64_t id, struct blob **out)
{
	struct blob *b = find_ref(v, id);
	struct content_blob row;
	int r;

	db_assert_locked(v->db);
	if (b) {
		*out = b;
		return 0;
	}
	r = content_blob_get(v->db, id, &row);
	if (!r)
		r = from_row(v, &row, &b);
	if (r)
		return r;
	r = blob_publish(b, id);
	if (r) {
		blob_destroy(b);
		return r;
	}
	*out = b;
	return 0;
}

/* blobs_lock held. */
static void leave_table(struct blob *b)
{
	if (b->in_table)
		HASH_DEL(b->v->blobs, b);
	b->in_table = false;
}

/* One that was rolled back and is not withdrawn yet may still stand under the id, which was given
 * out again. */
int blob_publish(struct blob *b, uint64_t id)
{
	struct blob *stale;
	int r;

	pthread_mutex_lock(&b->v->blobs_lock);
	HASH_FIND(hh, b->v->blobs, &id, sizeof(id), stale);
	if (stale)
		leave_table(stale);
	b->id = id;
	r = TABLE_ADD(hh, b->v->blobs, id, b);
	b->in_table = !r;
	if (r)
		b->id = 0;
	pthread_mutex_unlock(&b->v->blobs_lock);
	return r;
}

void blob_withdraw(struct blob *b)
{
	pthread_mutex_lock(&b->v->blobs_lock);
	leave_table(b);
	b->id = 0;
	pthread_mutex_unlock(&b->v->blobs_lock);
}

struct blob *blob_ref(struct blob *b)
{
	pthread_mutex_lock(&b->v->blobs_lock);
	b->refs++;
	pthread_mutex_unlock(&b->v->blobs_lock);
	return b;
}

void blob_unref(struct blob *b)
{
	char name[BLOB_NAME_LEN];
	struct volume *v;
	bool last;

	if (!b)
		return;
	v = b->v;
	pthread_mutex_lock(&v->blobs_lock);
	last = !--b->refs;
	if (last)
		leave_table(b);
	pthread_mutex_unlock(&v->blobs_lock);
	if (!last)
		return;
	if (!b->id && b->on_disk) {
		blob_path(b->uuid, name);
		unlinkat(v->blobs_fd, name, 0);
		space_free(v, b->alloc_bytes);
	}
	blob_destroy(b);
}

bool blob_is_in_use(struct blob *b)
{
	bool in_use;

	pthread_mutex_lock(&b->v->blobs_lock);
	in_use = b->refs > 1u + atomic_load(&b->noted) + atomic_load(&b->settling);
	pthread_mutex_unlock(&b->v->blobs_lock);
	return in_use;
}

bool blob_row_is_stale(struct blob *b)
{
	bool stale;

	pthread_mutex_lock(&b->lock);
	stale = b->row_stale;
	pthread_mutex_unlock(&b->lock);
	return stale;
}

bool blob_must_settle(struct blob *b)
{
	bool in_use = blob_is_in_use(b), must;

	pthread_mutex_lock(&b->lock);
	must = b->row_stale || b->n_released || (b->slack_bytes && !in_use);
	pthread_mutex_unlock(&b->lock);
	return must;
}

/* Two references and noted: the caller's and that of the list of durable.c, which takes a third one
 * before it uses the descriptor. */
void blob_park(struct blob *b)
{
	if (!b)
		return;
	if (b->id && blob_units_reclaimable(b) && durable_note_blob(b->v, b))
		log_debug("blob %llu: slack stays", (unsigned long long)b->id);
	pthread_mutex_lock(&b->v->blobs_lock);
	if (b->refs == 2 && atomic_load(&b->noted)) {
		pthread_mutex_lock(&b->lock);
		if (b->fd >= 0)
			close(b->fd);
		b->fd = -1;
		pthread_mutex_unlock(&b->lock);
	}
	pthread_mutex_unlock(&b->v->blobs_lock);
	blob_unref(b);
}

void blob_row(struct blob *b, struct content_blob *row)
{
	memset(row, 0, sizeof(*row));
	row->id = b->id;
	memcpy(row->uuid, b->uuid, sizeof(row->uuid));
	row->store = b->store;
	row->alg = b->alg;
	row->shift = b->shift;
	row->epoch = b->epoch;
	row->pack = b->pack;
	pthread_mutex_lock(&b->lock);
	row->seals = b->seals;
	row->alloc_bytes = b->alloc_bytes;
	b->row_stale = false;
	pthread_mutex_unlock(&b->lock);
}

/* The directory is there since volume_create, unless somebody copied the volume without empty
 * directories. */
static int make_file(struct volume *v, const char *name, int *out)
{
	char dir[3] = { name[0], name[1], 0 };
	int r = FAILPOINT("blob-create");
	int fd;

	if (r)
		return r;
	fd = openat(v->blobs_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 && errno == ENOENT) {
		if (mkdirat(v->blobs_fd, dir, 0700) < 0 && errno != EEXIST)
			return -errno;
		r = io_fsync_dir(v->blobs_fd);
		if (r)
			return r;
		fd = openat(v->blobs_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
			0600);
	}
	if (fd < 0)
		return -errno;
	*out = fd;
	return 0;
}

int blob_fd(struct blob *b, bool make, int *out)
{
	char name[BLOB_NAME_LEN];
	bool made = false;
	int fd = -1, r = 0;

	pthread_mutex_lock(&b->lock);
	if (b->fd < 0) {
		blob_path(b->uuid, name);
		if (b->on_disk) {
			fd = openat(b->v->blobs_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
			r = fd < 0 ? -errno : 0;
		} else {
			r = -ENOENT;
		}
		/* Also when somebody removed it: what it held is lost, new content need not be. */
		if (r == -ENOENT && make) {
			made = true;
			r = scan_note_new(b->v, b->uuid);
			if (!r)
				r = make_file(b->v, name, &fd);
		}
		if (!r) {
			b->fd = fd;
			b->on_disk = true;
		}
	}
	if (!r)
		*out = b->fd;
	pthread_mutex_unlock(&b->lock);
	if (!r && made)
		durable_note_dir(b->v, b->uuid[0]);
	return r;
}
