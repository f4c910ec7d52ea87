/*
 * Which units of a blob are taken: a bitmap, derived from the index when the blob is first changed
 * (every run that a chunk or undo row of any of its maps names), kept in memory since. Nothing
 * of it is stored, so there is no free list that a crash could leave wrong: an orphan of a crash is
 * a unit that nobody names.
 *
 * A run becomes free in two ways. blob_units_free: no row ever named it. blob_units_release: a
 * transaction stopped naming it; that transaction may be lost by a power cut until the next sync,
 * so it waits in `released` with the undo generation in which it was released (invariant I3
 * of durable.c).
 *
 * A second bitmap says which units are known to have blocks: those written or named since the blob
 * was loaded. A free unit with blocks is slack. It is counted as used and taken first: writing to
 * it costs the disk no allocation and its journal no commit, which is what an fsync of a small file
 * waits for. Blocks that are not known of (left by a crash) are found by measuring.
 */
#include "cache/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/io.h"
#include "cache/space.h"
#include "cache/volume_priv.h"

#define UNIT_MAX ((uint64_t)INT64_MAX >> BLOB_UNIT_SHIFT)
#define AHEAD_UNITS 64 /* laid out at a time */
#define AHEAD_LEAST 16 /* when fewer are left */

static bool has(const uint64_t *bits, uint64_t unit)
{
	return bits[unit / 64] >> unit % 64 & 1;
}

static void set(uint64_t *bits, uint64_t unit, bool on)
{
	uint64_t bit = UINT64_C(1) << unit % 64;

	bits[unit / 64] = on ? bits[unit / 64] | bit : bits[unit / 64] & ~bit;
}

static uint64_t *grown(uint64_t *bits, size_t from, size_t to)
{
	uint64_t *more = realloc(bits, to * sizeof(*bits));

	if (more)
		memset(more + from, 0, (to - from) * sizeof(*bits));
	return more;
}

/* b->lock held, as for all static functions here: room for units below `end`. */
static int grow(struct blob *b, uint64_t end)
{
	size_t need = (size_t)((end + 63) / 64), words = b->n_words ? b->n_words : 1;
	uint64_t *bits;

	if (need <= b->n_words)
		return 0;
	while (words < need)
		words *= 2;
	bits = grown(b->taken, b->n_words, words);
	if (!bits)
		return -ENOMEM;
	b->taken = bits;
	bits = grown(b->backed, b->n_words, words);
	if (!bits)
		return -ENOMEM;
	b->backed = bits;
	b->n_words = words;
	return 0;
}

static int take_run(struct blob *b, uint64_t slot, uint64_t units)
{
	int r = grow(b, slot + units);

	for (uint64_t u = slot; u < slot + units && !r; u++) {
		b->n_taken += !has(b->taken, u);
		if (!has(b->taken, u) && has(b->backed, u))
			b->slack_bytes -= BLOB_PAD;
		set(b->taken, u, true);
	}
	return r;
}

static void free_run(struct blob *b, uint64_t slot, uint64_t units)
{
	for (uint64_t u = slot; u < slot + units; u++) {
		b->n_taken--;
		set(b->taken, u, false);
		if (has(b->backed, u))
			b->slack_bytes += BLOB_PAD;
	}
	b->hint = MIN_OF(b->hint, slot);
	blob_sync_forget(b, slot);
}

static int mark(void *arg, uint64_t slot, uint32_t len, uint64_t seq)
{
	struct blob *b = arg;
	uint64_t units = blob_bytes(len) / BLOB_PAD;
	int r;

	if (len > UINT32_C(1) << b->shift || slot > UNIT_MAX - units || slot / 64 > SIZE_MAX / 32)
		return CE_CORRUPT;
	r = take_run(b, slot, units);
	for (uint64_t u = slot; u < slot + units && !r; u++)
		set(b->backed, u, true);
	return r;
}

int blob_units_derive(struct blob *b)
{
	int r = 0;

	db_assert_locked(b->v->db);
	pthread_mutex_lock(&b->lock);
	if (!b->units_known) {
		r = content_slots(b->v->db, b->id, mark, b);
		b->units_known = !r;
	}
	pthread_mutex_unlock(&b->lock);
	return r;
}

/* The first `units` free ones in a row; beyond the bitmap all are free. */
static uint64_t find_run(struct blob *b, uint64_t units)
{
	uint64_t end = (uint64_t)b->n_words * 64, start = b->hint, u = start;

	while (u < end && u - start < units) {
		uint64_t word = b->taken[u / 64];

		if (word == UINT64_MAX)
			start = u = (u / 64 + 1) * 64;
		else if (has(b->taken, u))
			start = ++u;
		else
			u++;
	}
	return start;
}

static bool is_free(const struct blob *b, uint64_t start, uint64_t units)
{
	for (uint64_t u = start; u < start + units && u / 64 < b->n_words; u++)
		if (has(b->taken, u))
			return false;
	return true;
}

/* The first run for `units`, and as many times that, at most *n, as are free there. */
static int take_first(struct blob *b, uint64_t units, uint64_t *slot, unsigned *n)
{
	uint64_t start = find_run(b, units);
	unsigned max = *n;
	int r;

	if (b->pack &&
		(b->dead || start + units > BLOB_PACK_UNITS || b->seals >= BLOB_PACK_SEALS_MAX))
		return -ENOBUFS;
	if (start > UNIT_MAX - max * units)
		return -EFBIG;
	for (*n = 1; *n < max && is_free(b, start + *n * units, units); ++*n)
		;
	units *= *n;
	r = take_run(b, start, units);
	if (r)
		return r;
	if (start <= b->hint)
		b->hint = start + units;
	*slot = start;
	return 0;
}

int blob_units_take_run(struct blob *b, uint32_t len, uint64_t *slot, unsigned *n)
{
	bool known;
	int r = 0;

	pthread_mutex_lock(&b->lock);
	known = b->units_known;
	pthread_mutex_unlock(&b->lock);
	if (!known) {
		db_read(b->v->db);
		r = blob_units_derive(b);
		db_unlock(b->v->db);
	}
	pthread_mutex_lock(&b->lock);
	if (!r)
		r = take_first(b, blob_bytes(len) / BLOB_PAD, slot, n);
	pthread_mutex_unlock(&b->lock);
	return r;
}

int blob_units_take(struct blob *b, uint32_t len, uint64_t *slot)
{
	unsigned n = 1;

	return blob_units_take_run(b, len, slot, &n);
}

uint32_t blob_units_written(struct blob *b, uint64_t slot, uint32_t bytes)
{
	uint32_t fresh = 0;

	for (uint64_t u = slot; u < slot + bytes / BLOB_PAD; u++) {
		fresh += has(b->backed, u) ? 0 : BLOB_PAD;
		set(b->backed, u, true);
	}
	b->alloc_bytes += fresh;
	b->row_stale = true;
	return fresh;
}

static bool punch(struct blob *b, uint64_t slot, uint64_t units)
{
	return !b->dead && b->fd >= 0 &&
	       !fallocate(b->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		       (off_t)(slot << BLOB_UNIT_SHIFT), (off_t)(units << BLOB_UNIT_SHIFT));
}

/* Blocks of free units are given back. Where the disk refuses they stay, and stay counted. */
static void punch_run(struct blob *b, uint64_t slot, uint64_t units)
{
	uint64_t gone = 0;

	if (!punch(b, slot, units))
		return;
	for (uint64_t u = slot; u < slot + units; u++) {
		gone += has(b->backed, u) ? BLOB_PAD : 0;
		set(b->backed, u, false);
	}
	b->slack_bytes -= gone;
	gone = MIN_OF(gone, b->alloc_bytes);
	b->alloc_bytes -= gone;
	b->row_stale = true;
	space_free(b->v, gone);
}

/* From the end, as the first are taken first. */
static void trim(struct blob *b, uint64_t keep)
{
	uint64_t end = (uint64_t)b->n_words * 64;

	while (end && b->slack_bytes > keep) {
		uint64_t max = (b->slack_bytes - keep + BLOB_PAD - 1) / BLOB_PAD, u = end;

		if (end % 64 == 0 && !(b->backed[end / 64 - 1] & ~b->taken[end / 64 - 1])) {
			end -= 64;
			continue;
		}
		while (u && end - u < max && has(b->backed, u - 1) && !has(b->taken, u - 1))
			u--;
		if (u < end)
			punch_run(b, u, end - u);
		end = u < end ? u : end - 1;
	}
}

void blob_units_trim(struct blob *b)
{
	int fd;

	if (!blob_units_reclaimable(b) || blob_fd(b, false, &fd))
		return;
	pthread_mutex_lock(&b->lock);
	trim(b, 0);
	pthread_mutex_unlock(&b->lock);
}

void blob_units_abandon(struct blob *b, uint64_t slot, uint32_t len)
{
	uint64_t units = blob_bytes(len) / BLOB_PAD;

	pthread_mutex_lock(&b->lock);
	free_run(b, slot, units);
	punch_run(b, slot, units);
	pthread_mutex_unlock(&b->lock);
}

void blob_units_free(struct blob *b, uint64_t slot, uint32_t len)
{
	pthread_mutex_lock(&b->lock);
	free_run(b, slot, blob_bytes(len) / BLOB_PAD);
	pthread_mutex_unlock(&b->lock);
}

/* Without memory for the entry the units stay taken until the blob is loaded again: safe, only
 * late. */
void blob_units_release(struct blob *b, uint64_t slot, uint32_t len, uint64_t gen)
{
	pthread_mutex_lock(&b->lock);
	if (b->n_released == b->cap_released) {
		size_t cap = b->cap_released ? b->cap_released * 2 : 16;
		struct blob_release *list = realloc(b->released, cap * sizeof(*list));

		if (!list)
			goto out;
		b->released = list;
		b->cap_released = cap;
	}
	b->released[b->n_released++] =
		(struct blob_release){ .slot = slot, .gen = gen, .len = len };
	b->released_bytes += blob_bytes(len);
out:
	pthread_mutex_unlock(&b->lock);
}

void blob_units_settle(struct blob *b, uint64_t gen, bool in_use)
{
	uint64_t keep = 0;
	size_t kept = 0;
	int fd;

	if (!blob_units_reclaimable(b) || blob_fd(b, false, &fd))
		return;
	pthread_mutex_lock(&b->lock);
	for (size_t i = 0; i < b->n_released; i++) {
		const struct blob_release *r = &b->released[i];

		if (r->gen > gen) {
			b->released[kept++] = *r;
			continue;
		}
		free_run(b, r->slot, blob_bytes(r->len) / BLOB_PAD);
		b->released_bytes -= blob_bytes(r->len);
	}
	b->n_released = kept;
	if (in_use)
		keep = MAX_OF(BLOB_SLACK_LEAST, b->alloc_bytes / 8);
	if (b->slack_bytes > keep) {
		trim(b, keep - keep / 4); /* not again with the next sync */
		blob_units_measure(b);
	}
	pthread_mutex_unlock(&b->lock);
}

/* b->lock held: behind the last unit that is taken or has blocks. */
static uint64_t known_end(const struct blob *b)
{
	size_t i = b->n_words;

	while (i && !(b->taken[i - 1] | b->backed[i - 1]))
		i--;
	return i ? i * 64 - (size_t)__builtin_clzll(b->taken[i - 1] | b->backed[i - 1]) : 0;
}

static bool take_ahead(struct blob *b, uint64_t *slot)
{
	bool ok;

	pthread_mutex_lock(&b->lock);
	*slot = known_end(b);
	ok = b->current && b->units_known && !b->dead && b->slack_bytes < AHEAD_LEAST * BLOB_PAD &&
	     *slot + AHEAD_UNITS <= BLOB_PACK_UNITS && !take_run(b, *slot, AHEAD_UNITS);
	b->in_flight += ok;
	pthread_mutex_unlock(&b->lock);
	return ok;
}

void blob_units_lay_out(struct blob *b, int fd)
{
	static const uint8_t zeros[AHEAD_UNITS * BLOB_PAD];
	uint32_t fresh = 0;
	uint64_t slot;

	if (space_try_reserve(b->v, sizeof(zeros)))
		return;
	if (take_ahead(b, &slot)) {
		bool ok =
			!io_pwrite_full(fd, zeros, sizeof(zeros), (off_t)(slot << BLOB_UNIT_SHIFT));

		pthread_mutex_lock(&b->lock);
		b->in_flight--;
		if (ok)
			fresh = blob_units_written(b, slot, sizeof(zeros));
		free_run(b, slot, AHEAD_UNITS);
		pthread_mutex_unlock(&b->lock);
	}
	space_use(b->v, fresh);
	space_release(b->v, sizeof(zeros) - fresh);
}

uint64_t blob_units_reclaimable(struct blob *b)
{
	uint64_t bytes;

	pthread_mutex_lock(&b->lock);
	bytes = b->dead ? 0 : b->released_bytes + b->slack_bytes;
	pthread_mutex_unlock(&b->lock);
	return bytes;
}

void blob_units_measure(struct blob *b)
{
	struct stat st;
	uint64_t now;

	if (b->in_flight || b->dead || b->fd < 0 || fstat(b->fd, &st) < 0)
		return;
	now = (uint64_t)st.st_blocks * 512;
	if (now == b->alloc_bytes)
		return;
	space_correct(b->v, b->alloc_bytes, now);
	b->alloc_bytes = now;
	b->row_stale = true;
}

/* Runs of free units up to the end of the file. */
static int punch_gaps(struct blob *b, int fd)
{
	struct stat st;
	uint64_t units, u = 0;

	if (fstat(fd, &st) < 0)
		return -errno;
	units = ((uint64_t)st.st_size + BLOB_PAD - 1) / BLOB_PAD;
	while (u < units) {
		uint64_t from = u;

		while (u < units && !(u / 64 < b->n_words && has(b->taken, u)))
			u++;
		if (u > from && !punch(b, from, u - from))
			return -errno;
		u++;
	}
	return 0;
}

int blob_units_sweep(struct blob *b)
{
	int fd, r = blob_units_derive(b);

	if (!r)
		r = blob_fd(b, false, &fd);
	if (r)
		return r;
	pthread_mutex_lock(&b->lock);
	r = punch_gaps(b, fd);
	if (!r)
		blob_units_measure(b);
	pthread_mutex_unlock(&b->lock);
	return r;
}

bool blob_units_retire(struct blob *b)
{
	bool empty;

	pthread_mutex_lock(&b->lock);
	empty = b->pack && b->units_known && !b->n_taken && !b->current && !b->dead;
	if (empty)
		b->dead = true;
	pthread_mutex_unlock(&b->lock);
	return empty;
}
