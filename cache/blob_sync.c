/*
 * Syncing one blob. `written` counts writes, `synced` is the count that a successful fdatasync
 * covered, so that a file's own fsync and the shared one do not sync twice. The slots written since
 * are listed: when fdatasync fails the kernel may mark their pages clean and forget them, and a
 * second fdatasync would succeed without them. The blob is then `suspect` and every sync of it
 * fails until rescue.c has written those chunks elsewhere.
 */
#include "cache/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/failpoint.h"
#include "cache/volume_priv.h"

int blob_sync_note(struct blob *b, uint64_t slot)
{
	int r = 0;

	pthread_mutex_lock(&b->lock);
	b->written++;
	if (b->n_unsynced && b->unsynced[b->n_unsynced - 1] == slot)
		goto out;
	if (b->n_unsynced == b->cap_unsynced) {
		size_t cap = b->cap_unsynced ? b->cap_unsynced * 2 : 16;
		uint64_t *list = realloc(b->unsynced, cap * sizeof(*list));

		if (!list) {
			r = -ENOMEM;
			goto out;
		}
		b->unsynced = list;
		b->cap_unsynced = cap;
	}
	b->unsynced[b->n_unsynced++] = slot;
out:
	pthread_mutex_unlock(&b->lock);
	return r ? r : durable_note_blob(b->v, b);
}

/* b->lock held. Forgets the list up to position `end`, counted from the blob's first write. */
static void forget(struct blob *b, uint64_t end)
{
	size_t n;

	if (end <= b->unsynced_base)
		return;
	n = MIN_OF((size_t)(end - b->unsynced_base), b->n_unsynced);
	memmove(b->unsynced, b->unsynced + n, (b->n_unsynced - n) * sizeof(*b->unsynced));
	b->n_unsynced -= n;
	b->unsynced_base += n;
}

int blob_sync(struct blob *b)
{
	uint64_t written, end;
	int fd, r;

	pthread_mutex_lock(&b->lock);
	written = b->written;
	end = b->unsynced_base + b->n_unsynced;
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
	if (!r && fdatasync(fd) < 0)
		r = -errno;
	pthread_mutex_lock(&b->lock);
	if (r) {
		b->suspect = true;
	} else if (written > b->synced) {
		b->synced = written;
		/* The last one may have been written again meanwhile without a new entry. */
		forget(b, b->written == written ? end : end - 1);
		blob_slots_measure(b);
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

int blob_sync_suspects(struct blob *b, uint64_t **slots, size_t *n)
{
	uint64_t *copy = NULL;
	size_t count = 0;
	int r = 0;

	pthread_mutex_lock(&b->lock);
	if (b->suspect && b->n_unsynced) {
		count = b->n_unsynced;
		copy = malloc(count * sizeof(*copy));
		if (copy)
			memcpy(copy, b->unsynced, count * sizeof(*copy));
		else
			r = -ENOMEM;
	}
	pthread_mutex_unlock(&b->lock);
	if (!r) {
		*slots = copy;
		*n = count;
	}
	return r;
}

void blob_sync_rescued(struct blob *b, size_t n)
{
	pthread_mutex_lock(&b->lock);
	forget(b, b->unsynced_base + n);
	b->suspect = false;
	pthread_mutex_unlock(&b->lock);
}
