#include "cache/scan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/log.h"
#include "cache/blob.h"
#include "cache/volume_priv.h"

#define BATCH 256

/* A blob that is not an orphan: its row was there when the scan began (id), or it was made since
 * (id 0). */
struct known {
	uint8_t uuid[CONTENT_UUID_LEN];
	uint64_t id;
	UT_hash_handle hh;
};

struct scan {
	pthread_mutex_t lock; /* leaf */
	pthread_cond_t ended;
	struct known *known; /* lock */
	atomic_bool over;    /* changed under the lock */
};

int scan_new(struct volume *v)
{
	struct scan *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->ended, NULL);
	v->scan = s;
	return 0;
}

static void forget(struct scan *s)
{
	struct known *k, *next;

	HASH_ITER (hh, s->known, k, next) {
		HASH_DEL(s->known, k);
		free(k);
	}
}

void scan_free(struct volume *v)
{
	if (!v->scan)
		return;
	forget(v->scan);
	pthread_cond_destroy(&v->scan->ended);
	pthread_mutex_destroy(&v->scan->lock);
	free(v->scan);
	v->scan = NULL;
}

static struct known *find(struct scan *s, const uint8_t *uuid)
{
	struct known *k;

	HASH_FIND(hh, s->known, uuid, CONTENT_UUID_LEN, k);
	return k;
}

static int add(struct scan *s, const uint8_t *uuid, uint64_t id)
{
	struct known *k;
	int r = 0;

	pthread_mutex_lock(&s->lock);
	if (!atomic_load(&s->over) && !find(s, uuid)) {
		k = calloc(1, sizeof(*k));
		if (k) {
			memcpy(k->uuid, uuid, CONTENT_UUID_LEN);
			k->id = id;
		}
		r = k ? TABLE_ADD(hh, s->known, uuid, k) : -ENOMEM;
		if (r)
			free(k);
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

int scan_note_new(struct volume *v, const uint8_t uuid[static 16])
{
	return v->scan ? add(v->scan, uuid, 0) : 0;
}

static int read_rows(struct volume *v, bool (*stop)(void *arg), void *arg)
{
	struct content_blob rows[BATCH];
	uint64_t after = 0;
	size_t n;
	int r;

	do {
		if (stop(arg))
			return -EINTR;
		db_read(v->db);
		r = content_blob_list(v->db, after, rows, BATCH, &n);
		db_unlock(v->db);
		for (size_t i = 0; !r && i < n; i++)
			r = add(v->scan, rows[i].uuid, rows[i].id);
		if (!r && n)
			after = rows[n - 1].id;
	} while (!r && n == BATCH);
	return r;
}

/* What the blob takes; free units of one that nobody uses lose their blocks before. */
static int measure_blob(struct volume *v, struct blob *b)
{
	bool unused;
	int fd, r;

	pthread_mutex_lock(&v->blobs_lock);
	unused = b->refs == 1;
	pthread_mutex_unlock(&v->blobs_lock);
	if (unused)
		return blob_units_sweep(b);
	r = blob_fd(b, false, &fd);
	if (r)
		return r;
	pthread_mutex_lock(&b->lock);
	blob_units_measure(b);
	pthread_mutex_unlock(&b->lock);
	return 0;
}

/* When its blocks are not what the row says. */
static void measure(struct volume *v, uint64_t id, uint64_t on_disk)
{
	struct content_blob row;
	struct blob *b = NULL;
	int r = db_begin(v->db);

	if (r)
		return;
	r = content_blob_get(v->db, id, &row);
	if (!r && row.alloc_bytes != on_disk)
		r = blob_get(v, id, &b);
	if (!r && b)
		r = measure_blob(v, b);
	if (!r && b) {
		blob_row(b, &row);
		r = content_blob_update(v->db, &row);
	}
	if (r)
		db_rollback(v->db);
	else
		r = db_commit(v->db);
	if (r)
		log_debug("blob %llu is not measured: %s", (unsigned long long)id, error_text(r));
	blob_unref(b);
}

static bool is_orphan(struct volume *v, const uint8_t *uuid, uint64_t *id)
{
	struct known *k;

	pthread_mutex_lock(&v->scan->lock);
	k = find(v->scan, uuid);
	*id = k ? k->id : 0;
	pthread_mutex_unlock(&v->scan->lock);
	return !k && !durable_is_doomed(v, uuid);
}

static void look_at(struct volume *v, int dirfd, const char *xx, const char *name)
{
	char hex[2 * CONTENT_UUID_LEN + 1];
	uint8_t uuid[CONTENT_UUID_LEN];
	struct stat st;
	uint64_t id;

	if (strlen(name) != sizeof(hex) - 3)
		return;
	memcpy(hex, xx, 2);
	memcpy(hex + 2, name, sizeof(hex) - 2);
	if (bytes_from_hex(hex, uuid, sizeof(uuid)) ||
		fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (is_orphan(v, uuid, &id))
		unlinkat(dirfd, name, 0);
	else if (id)
		measure(v, id, (uint64_t)st.st_blocks * 512);
}

static int scan_dir(struct volume *v, unsigned byte, bool (*stop)(void *arg), void *arg)
{
	const uint8_t b = (uint8_t)byte;
	char xx[3];
	struct dirent *e;
	DIR *dir;
	int fd, r = 0;

	bytes_to_hex(&b, 1, xx);
	fd = openat(v->blobs_fd, xx, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	dir = fdopendir(fd);
	if (!dir) {
		r = -errno;
		close(fd);
		return r;
	}
	while (!r && (e = readdir(dir))) {
		look_at(v, fd, xx, e->d_name);
		r = stop(arg) ? -EINTR : 0;
	}
	closedir(dir);
	return r;
}

void scan_run(struct volume *v, bool (*stop)(void *arg), void *arg)
{
	struct scan *s = v->scan;
	int r;

	if (!s || atomic_load(&s->over))
		return;
	r = read_rows(v, stop, arg);
	for (unsigned i = 0; i < 256 && !r; i++)
		r = scan_dir(v, i, stop, arg);
	if (r == -EINTR)
		return;
	if (r)
		log_error("what the volume takes on disk is not known: %s", error_text(r));
	pthread_mutex_lock(&s->lock);
	atomic_store(&s->over, true);
	forget(s);
	pthread_cond_broadcast(&s->ended);
	pthread_mutex_unlock(&s->lock);
}

bool scan_is_over(const struct volume *v)
{
	return !v->scan || atomic_load(&v->scan->over);
}

void scan_wait(struct volume *v)
{
	struct scan *s = v->scan;

	if (scan_is_over(v))
		return;
	pthread_mutex_lock(&s->lock);
	while (!atomic_load(&s->over))
		pthread_cond_wait(&s->ended, &s->lock);
	pthread_mutex_unlock(&s->lock);
}
