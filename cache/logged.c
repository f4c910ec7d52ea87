#include "cache/logged.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/array.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "cache/blob.h"
#include "cache/volume_priv.h"
#include "meta/db_note.h"
#include "meta/redo.h"

#define BATCH 256

/* Both kinds begin with 16 bytes that say of what, by which they are sorted. */
struct note {
	uint8_t *bytes;
	size_t len;
};

struct notes {
	struct note *list;
	size_t n, cap;
};

struct logged {
	struct notes chunks, frames;
	bool looked; /* the chunks are where they belong, or were already */
};

static void notes_done(struct notes *l)
{
	for (size_t i = 0; i < l->n; i++) {
		secret_wipe(l->list[i].bytes, l->list[i].len);
		free(l->list[i].bytes);
	}
	free(l->list);
}

void logged_free(struct volume *v)
{
	if (!v->logged)
		return;
	notes_done(&v->logged->chunks);
	notes_done(&v->logged->frames);
	free(v->logged);
	v->logged = NULL;
}

static int add(struct notes *l, const uint8_t *bytes, size_t len)
{
	uint8_t *copy;

	if (ARRAY_ROOM(l->list, l->n, l->cap))
		return -ENOMEM;
	copy = malloc(len);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, bytes, len);
	l->list[l->n++] = (struct note){ .bytes = copy, .len = len };
	return 0;
}

static int take(void *arg, enum db_note_kind kind, const uint8_t *bytes, size_t len)
{
	struct logged *l = arg;

	if (kind == DB_NOTE_CHUNK && len > LOGGED_CHUNK_HEAD)
		return add(&l->chunks, bytes, len);
	if (kind == DB_NOTE_FRAME && len >= LOGGED_FRAME_HEAD)
		return add(&l->frames, bytes, len);
	return 0;
}

/* Of what, then u64 slot or seq. */
static int compare(const void *a, const void *b)
{
	const uint8_t *x = ((const struct note *)a)->bytes, *y = ((const struct note *)b)->bytes;
	int c = memcmp(x, y, 16);
	uint64_t m = load_le64(x + 16), n = load_le64(y + 16);

	return c ? c : (m > n) - (m < n);
}

static void sort(struct notes *l)
{
	if (l->n)
		qsort(l->list, l->n, sizeof(*l->list), compare);
}

bool logged_pending(const struct volume *v)
{
	return v->logged && v->logged->chunks.n && !v->logged->looked;
}

int logged_keep(struct volume *v)
{
	if (!v->logged || v->logged->chunks.n + v->logged->frames.n == 0)
		return 0;
	v->logged->looked = false; /* the rows that come may name others */
	if (!linkat(v->dirfd, REDO_FILE, v->dirfd, LOGGED_LOST_FILE, 0) || errno == EEXIST ||
		errno == ENOENT)
		return 0;
	/* A disk without links: what is set aside is without the log, then. */
	return renameat(v->dirfd, REDO_FILE, v->dirfd, LOGGED_LOST_FILE) < 0 ? -errno : 0;
}

void logged_done(struct volume *v)
{
	logged_free(v);
	unlinkat(v->dirfd, LOGGED_LOST_FILE, 0);
}

int logged_load(struct volume *v, const struct secret *index_key)
{
	int r;

	if (!v->logged)
		v->logged = calloc(1, sizeof(*v->logged));
	if (!v->logged)
		return -ENOMEM;
	r = db_notes(v->dir, v->dirfd, LOGGED_LOST_FILE, index_key, take, v->logged);
	if (!r)
		r = db_notes(v->dir, v->dirfd, NULL, index_key, take, v->logged);
	sort(&v->logged->chunks);
	sort(&v->logged->frames);
	return r;
}

/* The first that is not before (id, n). */
static size_t find(const struct notes *l, const uint8_t *id, uint64_t n)
{
	uint8_t bytes[24];
	const struct note key = { .bytes = bytes };
	size_t low = 0, high = l->n;

	memcpy(bytes, id, 16);
	store_le64(bytes + 16, n);
	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (compare(&l->list[mid], &key) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

bool logged_frame(void *arg, const uint8_t *id, uint64_t from, uint64_t *seq, const uint8_t **data,
	size_t *len)
{
	const struct logged *l = arg;
	size_t at = l ? find(&l->frames, id, from) : 0;

	if (!l || at == l->frames.n || memcmp(l->frames.list[at].bytes, id, 16) != 0)
		return false;
	*seq = load_le64(l->frames.list[at].bytes + 16);
	*data = l->frames.list[at].bytes + LOGGED_FRAME_HEAD;
	*len = l->frames.list[at].len - LOGGED_FRAME_HEAD;
	return true;
}

/* --- chunks --- */

/* By unit of a pack, the sequence number of the last seal that a row names there. */
struct seals {
	uint64_t newest[BLOB_PACK_UNITS];
};

static uint64_t units_of(uint64_t slot, uint64_t len)
{
	uint64_t n = blob_bytes((uint32_t)len) / BLOB_PAD;

	return slot < BLOB_PACK_UNITS ? MIN_OF(n, BLOB_PACK_UNITS - slot) : 0;
}

static int mark(void *arg, uint64_t slot, uint32_t len, uint64_t seq)
{
	struct seals *s = arg;

	for (uint64_t i = 0, n = units_of(slot, len); i < n; i++)
		s->newest[slot + i] = MAX_OF(s->newest[slot + i], seq);
	return 0;
}

/* Undo rows that are not needed any more may still name units that were given to others since; of
 * all seals that rows name at one place the last one counts. */
static bool is_wanted(const struct seals *s, const struct note *n)
{
	uint64_t slot = load_le64(n->bytes + 16), seq = load_le64(n->bytes + 24);
	uint64_t units = units_of(slot, n->len - LOGGED_CHUNK_HEAD);

	for (uint64_t i = 0; i < units; i++)
		if (s->newest[slot + i] != seq)
			return false;
	return units;
}

static int write_chunk(int fd, const struct note *n)
{
	uint32_t len = (uint32_t)(n->len - LOGGED_CHUNK_HEAD), bytes = blob_bytes(len);
	_cleanup_free_ uint8_t *padded = malloc(bytes);

	if (!padded)
		return -ENOMEM;
	memcpy(padded, n->bytes + LOGGED_CHUNK_HEAD, len);
	secret_random(padded + len, bytes - len);
	return io_pwrite_full(
		fd, padded, bytes, (off_t)(load_le64(n->bytes + 16) << BLOB_UNIT_SHIFT));
}

static bool is_of(const struct note *n, const uint8_t *uuid)
{
	return !memcmp(n->bytes, uuid, CONTENT_UUID_LEN);
}

static int write_chunks(struct blob *b, const struct seals *s, const struct notes *l)
{
	int fd, r = blob_fd(b, true, &fd);

	for (size_t i = find(l, b->uuid, 0); !r && i < l->n && is_of(&l->list[i], b->uuid); i++)
		if (is_wanted(s, &l->list[i]))
			r = write_chunk(fd, &l->list[i]);
	if (!r)
		r = FAILPOINT("logged-sync");
	if (!r && fdatasync(fd) < 0)
		r = -errno;
	if (r)
		return r;
	pthread_mutex_lock(&b->lock);
	blob_units_measure(b);
	pthread_mutex_unlock(&b->lock);
	durable_note_dir(b->v, b->uuid[0]);
	r = durable_sync_dir(b->v, b->uuid[0]);
	return r ? r : durable_note_blob(b->v, b);
}

static int write_blob(struct volume *v, const struct content_blob *row)
{
	const struct notes *l = &v->logged->chunks;
	_cleanup_free_ struct seals *s = NULL;
	struct blob *b = NULL;
	size_t at = find(l, row->uuid, 0);
	int r;

	if (!row->pack || at == l->n || !is_of(&l->list[at], row->uuid))
		return 0;
	s = calloc(1, sizeof(*s));
	r = s ? content_slots(v->db, row->id, mark, s) : -ENOMEM;
	if (!r)
		r = blob_get(v, row->id, &b);
	if (!r)
		r = write_chunks(b, s, l);
	blob_unref(b);
	return r;
}

int logged_restore(struct blob *b, const struct content_chunk *c)
{
	const struct notes *l = b->v->logged ? &b->v->logged->chunks : NULL;
	int fd, r = 0;

	for (size_t i = l ? find(l, b->uuid, c->slot) : 0; l && !r && i < l->n; i++) {
		const struct note *n = &l->list[i];

		if (!is_of(n, b->uuid) || load_le64(n->bytes + 16) != c->slot)
			break;
		if (load_le64(n->bytes + 24) != c->seq || n->len - LOGGED_CHUNK_HEAD != c->len)
			continue;
		r = blob_fd(b, true, &fd);
		if (!r)
			r = write_chunk(fd, n);
	}
	return r;
}

int logged_write_back(struct volume *v)
{
	_cleanup_free_ struct content_blob *rows = NULL;
	uint64_t after = 0;
	size_t n = 0;
	int r;

	if (!logged_pending(v))
		return 0;
	if (!v->unclean && !v->index_lost) {
		v->logged->looked = true;
		return 0;
	}
	rows = calloc(BATCH, sizeof(*rows));
	r = rows ? 0 : -ENOMEM;
	while (!r && (!after || n == BATCH)) {
		r = content_blob_list(v->db, after, rows, BATCH, &n);
		for (size_t i = 0; i < n && !r; i++)
			r = write_blob(v, &rows[i]);
		after = !r && n ? rows[n - 1].id : UINT64_MAX;
	}
	v->logged->looked = !r;
	return r;
}
