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
	struct known *known;  /* lock */
	bool over;            /* lock */
};

int scan_new(struct volume *v)
{
	struct scan *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	pthread_mutex_init(&s->lock, NULL);
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
	if (!s->over && !find(s, uuid)) {
		k = calloc(1, sizeof(*k));
		if (k) {
			memcpy(k->uuid, uuid, CONTENT_UUID_LEN);
			k->id = id;
			HASH_ADD(hh, s->known, uuid, CONTENT_UUID_LEN, k);
		} else {
			r = -ENOMEM;
		}
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

int scan_note_new(struct volume *v, const uint8_t uuid[static 16])
{
	return v->scan ? add(v->scan, uuid, 0) : 0;
}

/* Ids are given in order and never twice: the next one, asked for and given back, bounds them. */
static int next_id(struct volume *v, uint64_t *out)
{
	struct content_blob probe = { .alg = v->alg, .shift = BLOB_SHIFT_DEFAULT };
	int r = db_begin(v->db);

	if (r)
		return r;
	r = content_blob_insert(v->db, &probe);
	db_rollback(v->db);
	if (!r)
		*out = probe.id;
	return r;
}

static int read_rows(struct volume *v, uint64_t end, bool (*stop)(void *arg), void *arg)
{
	struct content_blob row;
	int r = 0;

	for (uint64_t id = 1; id < end && !r; id += BATCH) {
		if (stop(arg))
			return -EINTR;
		db_read(v->db);
		for (uint64_t i = id; i < id + BATCH && i < end && !r; i++) {
			r = content_blob_get(v->db, i, &row);
			if (!r)
				r = add(v->scan, row.uuid, i);
			else if (r == -ENOENT)
				r = 0;
		}
		db_unlock(v->db);
	}
	return r;
}

/* Only a blob that nothing uses, and whose blocks are not what the row says. */
static void measure(struct volume *v, uint64_t id, uint64_t on_disk)
{
	struct content_blob row;
	struct blob *b;
	bool unused;

	if (db_begin(v->db))
		return;
	if (content_blob_get(v->db, id, &row) || row.alloc_bytes == on_disk ||
		blob_get(v, id, &b)) {
		db_rollback(v->db);
		return;
	}
	pthread_mutex_lock(&v->blobs_lock);
	unused = b->refs == 1;
	pthread_mutex_unlock(&v->blobs_lock);
	if (unused && !blob_units_sweep(b)) {
		row.alloc_bytes = b->alloc_bytes;
		if (!content_blob_update(v->db, &row) && !db_commit(v->db))
			goto out;
	}
	db_rollback(v->db);
out:
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

static void scan_dir(struct volume *v, unsigned byte, bool (*stop)(void *arg), void *arg)
{
	const uint8_t b = (uint8_t)byte;
	char xx[3];
	struct dirent *e;
	DIR *dir;
	int fd;

	bytes_to_hex(&b, 1, xx);
	fd = openat(v->blobs_fd, xx, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while (!stop(arg) && (e = readdir(dir)))
		look_at(v, fd, xx, e->d_name);
	closedir(dir);
}

void scan_run(struct volume *v, bool (*stop)(void *arg), void *arg)
{
	uint64_t end;
	int r;

	if (!v->scan)
		return;
	r = next_id(v, &end);
	if (!r)
		r = read_rows(v, end, stop, arg);
	for (unsigned i = 0; i < 256 && !r && !stop(arg); i++)
		scan_dir(v, i, stop, arg);
	if (r)
		log_debug("scan for orphans stopped: %s", error_text(r));
	pthread_mutex_lock(&v->scan->lock);
	v->scan->over = true;
	forget(v->scan);
	pthread_mutex_unlock(&v->scan->lock);
}
