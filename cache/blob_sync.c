/*
 * Syncing one blob. `written` counts writes, `synced` is the count that a successful fdatasync
 * covered, so that a file's own fsync and the shared one do not sync twice. The chunks written
 * since are listed with all that their seal takes to verify: when fdatasync fails the kernel may
 * mark their pages clean and forget them, and a second fdatasync would succeed without them. The
 * blob is then `suspect` and every sync of it fails until blob_sync_rescue has read those chunks
 * back, opened them, and written the same bytes to the same place: that makes the pages dirty
 * again, so that the next fdatasync does write them. What a torn write of that can leave is what
 * the failed sync could. A chunk that cannot be read back is lost, and its fsync failed; but when
 * the redo log has a copy (logged.h) the fsync may have been answered, and the blob stays suspect:
 * so the log is not started over, and the next opening writes the chunk from there.
 */
#include "cache/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/failpoint.h"
#include "base/io.h"
#include "cache/pool.h"
#include "cache/volume_priv.h"

#define AHEAD_BYTES (UINT64_C(8) << 20)

int blob_sync_note(struct blob *b, const struct content_chunk *c)
{
	struct blob_write *w = malloc(sizeof(*w));

	if (!w)
		return -ENOMEM;
	blob_sync_forget(b, c->slot);
	w->c = *c;
	w->nr = b->written + 1;
	w->logged = false;
	if (TABLE_ADD(hh, b->unsynced, c.slot, w)) {
		free(w);
		return -ENOMEM;
	}
	b->written++;
	return 0;
}

void blob_sync_logged(struct blob *b, uint64_t slot)
{
	struct blob_write *w;

	pthread_mutex_lock(&b->lock);
	HASH_FIND(hh, b->unsynced, &slot, sizeof(slot), w);
	if (w)
		w->logged = true;
	pthread_mutex_unlock(&b->lock);
}

void blob_sync_forget(struct blob *b, uint64_t slot)
{
	struct blob_write *w;

	HASH_FIND(hh, b->unsynced, &slot, sizeof(slot), w);
	if (w) {
		HASH_DEL(b->unsynced, w);
		free(w);
	}
}

/* b->lock held: the writes up to `nr` are on disk. */
static void forget_until(struct blob *b, uint64_t nr)
{
	struct blob_write *w, *next;

	HASH_ITER (hh, b->unsynced, w, next) {
		if (w->nr > nr)
			break;
		HASH_DEL(b->unsynced, w);
		free(w);
	}
}

int blob_sync(struct blob *b)
{
	uint64_t written;
	int fd, r;

	pthread_mutex_lock(&b->lock);
	written = b->written;
	r = b->suspect && !b->dead ? -EIO : 0;
	if (b->dead || b->synced == written) {
		pthread_mutex_unlock(&b->lock);
		return r;
	}
	pthread_mutex_unlock(&b->lock);
	if (r)
		return r;
	r = blob_fd(b, false, &fd);
	if (!r)
		r = FAILPOINT("blob-fdatasync");
	if (!r && b->pack)
		blob_units_lay_out(b, fd);
	if (!r && fdatasync(fd) < 0)
		r = -errno;
	pthread_mutex_lock(&b->lock);
	if (r) {
		b->suspect = true;
	} else if (written > b->synced) {
		b->synced = written;
		forget_until(b, written);
		blob_units_measure(b);
	}
	pthread_mutex_unlock(&b->lock);
	return r;
}

void blob_sync_start(struct blob *b)
{
	int fd;

	if (!blob_fd(b, false, &fd))
		sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

static bool begin_ahead(struct blob *b)
{
	bool go;

	pthread_mutex_lock(&b->lock);
	go = !b->starting && b->written - MAX_OF(b->started, b->synced) >= AHEAD_BYTES >> b->shift;
	if (go) {
		b->starting = true;
		b->started = b->written;
	}
	pthread_mutex_unlock(&b->lock);
	return go;
}

void blob_sync_ahead(struct blob *b)
{
	if (!begin_ahead(b))
		return;
	blob_sync_start(b);
	pthread_mutex_lock(&b->lock);
	b->starting = false;
	pthread_mutex_unlock(&b->lock);
}

/* b->lock held, so that nobody frees the units and writes something else there. */
static int write_again(
	struct blob *b, int fd, const struct content_chunk *c, uint8_t *plain, uint8_t *sealed)
{
	off_t at = (off_t)(c->slot << BLOB_UNIT_SHIFT);
	int r = blob_open_fd(b, fd, c, plain);

	secret_wipe(plain, c->len);
	if (!r)
		r = io_pread_full(fd, sealed, blob_bytes(c->len), at);
	if (!r)
		r = io_pwrite_full(fd, sealed, blob_bytes(c->len), at);
	return r;
}

int blob_sync_rescue(struct blob *b)
{
	uint8_t *plain = pool_get(b->v->pool, b->shift);
	uint8_t *sealed = pool_scratch_get(b->v->pool, b->shift);
	struct blob_write *w, *next;
	bool keep = false;
	int fd, r = plain && sealed ? blob_fd(b, false, &fd) : -ENOMEM;

	if (r)
		goto out;
	pthread_mutex_lock(&b->lock);
	HASH_ITER (hh, b->unsynced, w, next) {
		if (!write_again(b, fd, &w->c, plain, sealed))
			continue;
		r = -EIO;
		keep = keep || w->logged;
		if (!w->logged) {
			HASH_DEL(b->unsynced, w);
			free(w);
		}
	}
	b->suspect = keep;
	pthread_mutex_unlock(&b->lock);
out:
	pool_put(b->v->pool, b->shift, plain, 0);
	pool_scratch_put(b->v->pool, b->shift, sealed);
	return r;
}
