/*
 * Which slots of a blob are taken: a bitmap, derived from the index when the blob is first written
 * to (every slot that a chunk or undo row of any of its maps names), kept in memory since. Nothing
 * of it is stored, so there is no free list that a crash could leave wrong: an orphan of a crash is
 * a slot that nobody names.
 *
 * A bit is cleared in two ways. blob_slot_free: no row ever named the slot. blob_slot_release: a
 * transaction stopped naming it; that transaction may be lost by a power cut until the next sync,
 * so the slot waits in `released` with the undo generation in which it was released (invariant I3
 * of durable.c). Freed slots are punched, so that `alloc_bytes` is what the file takes.
 */
#include "cache/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "cache/volume_priv.h"

#define SLOT_MAX(b) ((uint64_t)INT64_MAX >> (b)->shift)

static int grow(struct blob *b, uint64_t slot)
{
	size_t need = (size_t)(slot / 64 + 1), words = b->taken_words ? b->taken_words : 1;
	uint64_t *taken;

	while (words < need)
		words *= 2;
	if (words == b->taken_words)
		return 0;
	taken = realloc(b->taken, words * sizeof(*taken));
	if (!taken)
		return -ENOMEM;
	memset(taken + b->taken_words, 0, (words - b->taken_words) * sizeof(*taken));
	b->taken = taken;
	b->taken_words = words;
	return 0;
}

static int mark(void *arg, uint64_t slot)
{
	struct blob *b = arg;
	int r = slot <= SLOT_MAX(b) && slot / 64 < SIZE_MAX / 16 ? grow(b, slot) : CE_CORRUPT;

	if (!r)
		b->taken[slot / 64] |= UINT64_C(1) << slot % 64;
	return r;
}

int blob_slots_derive(struct blob *b)
{
	int r = 0;

	db_assert_locked(b->v->db);
	pthread_mutex_lock(&b->lock);
	if (!b->slots_known) {
		r = content_slots(b->v->db, b->id, mark, b);
		/* Released before anything was written: no row names them, but they are not free
		 * yet. */
		for (size_t i = 0; i < b->n_released && !r; i++)
			r = mark(b, b->released[i].slot);
		b->slots_known = !r;
	}
	pthread_mutex_unlock(&b->lock);
	return r;
}

int blob_slot_take(struct blob *b, uint64_t *out)
{
	bool known;
	size_t w;
	int r = 0;

	pthread_mutex_lock(&b->lock);
	known = b->slots_known;
	pthread_mutex_unlock(&b->lock);
	if (!known) {
		db_read(b->v->db);
		r = blob_slots_derive(b);
		db_unlock(b->v->db);
		if (r)
			return r;
	}
	pthread_mutex_lock(&b->lock);
	for (w = (size_t)(b->hint / 64); w < b->taken_words && b->taken[w] == UINT64_MAX; w++)
		;
	r = grow(b, (uint64_t)w * 64);
	if (!r) {
		unsigned bit = (unsigned)__builtin_ctzll(~b->taken[w]);

		b->taken[w] |= UINT64_C(1) << bit;
		b->hint = (uint64_t)w * 64 + bit + 1;
		*out = b->hint - 1;
	}
	pthread_mutex_unlock(&b->lock);
	return r;
}

/* b->lock held. A failed punch leaves the blocks: `alloc_bytes` keeps counting them, the bit is
 * cleared all the same. */
static bool punch(struct blob *b, uint64_t slot, uint32_t bytes)
{
	if (slot / 64 < b->taken_words)
		b->taken[slot / 64] &= ~(UINT64_C(1) << slot % 64);
	b->hint = MIN_OF(b->hint, slot);
	return !b->dead && b->fd >= 0 &&
	       !fallocate(b->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		       (off_t)(slot << b->shift), bytes);
}

/* b->lock held. */
static void punch_used(struct blob *b, uint64_t slot, uint32_t bytes)
{
	if (!punch(b, slot, bytes))
		return;
	b->alloc_bytes -= MIN_OF(b->alloc_bytes, bytes);
	space_free(b->v, bytes);
}

void blob_slot_abandon(struct blob *b, uint64_t slot, uint32_t bytes)
{
	pthread_mutex_lock(&b->lock);
	punch(b, slot, bytes);
	pthread_mutex_unlock(&b->lock);
}

void blob_slot_free(struct blob *b, uint64_t slot, uint32_t bytes)
{
	int fd;

	if (blob_fd(b, false, &fd))
		return;
	pthread_mutex_lock(&b->lock);
	punch_used(b, slot, bytes);
	pthread_mutex_unlock(&b->lock);
}

/* Without memory for the entry the slot stays taken until the blob is loaded again: safe, only
 * late. */
void blob_slot_release(struct blob *b, uint64_t slot, uint32_t bytes, uint64_t gen)
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
		(struct blob_release){ .slot = slot, .gen = gen, .bytes = bytes };
out:
	pthread_mutex_unlock(&b->lock);
}

void blob_slots_measure(struct blob *b)
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
	b->measured = true;
}

bool blob_slots_settle(struct blob *b, uint64_t gen)
{
	size_t kept = 0, n;
	int fd;

	if (!blob_slots_pending(b) || blob_fd(b, false, &fd))
		return false;
	pthread_mutex_lock(&b->lock);
	n = b->n_released;
	for (size_t i = 0; i < n; i++) {
		if (b->released[i].gen <= gen)
			punch_used(b, b->released[i].slot, b->released[i].bytes);
		else
			b->released[kept++] = b->released[i];
	}
	b->n_released = kept;
	if (kept < n)
		blob_slots_measure(b);
	pthread_mutex_unlock(&b->lock);
	return kept < n;
}

bool blob_slots_pending(struct blob *b)
{
	bool pending;

	pthread_mutex_lock(&b->lock);
	pending = b->n_released > 0;
	pthread_mutex_unlock(&b->lock);
	return pending;
}

uint64_t blob_slots_released_bytes(struct blob *b)
{
	uint64_t sum = 0;

	pthread_mutex_lock(&b->lock);
	for (size_t i = 0; i < b->n_released; i++)
		sum += b->released[i].bytes;
	pthread_mutex_unlock(&b->lock);
	return sum;
}

/* Runs of free slots up to the end of the file. */
static int punch_gaps(struct blob *b, int fd, off_t end)
{
	uint64_t slots = ((uint64_t)end + (UINT64_C(1) << b->shift) - 1) >> b->shift, i = 0;

	while (i < slots) {
		uint64_t from = i;

		while (i < slots && !(i / 64 < b->taken_words && b->taken[i / 64] >> i % 64 & 1))
			i++;
		if (i > from &&
			fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				(off_t)(from << b->shift), (off_t)((i - from) << b->shift)) < 0)
			return -errno;
		i++;
	}
	return 0;
}

int blob_slots_trim(struct blob *b)
{
	struct stat st;
	int fd, r = blob_slots_derive(b);

	if (!r)
		r = blob_fd(b, false, &fd);
	if (r)
		return r;
	pthread_mutex_lock(&b->lock);
	r = fstat(fd, &st) < 0 ? -errno : punch_gaps(b, fd, st.st_size);
	if (!r)
		blob_slots_measure(b);
	pthread_mutex_unlock(&b->lock);
	return r;
}
