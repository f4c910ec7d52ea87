#include "cache/pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/secret.h"
#include "cache/blob.h"

/* Buffers kept for reuse: 16 MiB of each size of plaintext, 1 MiB of ciphertext. (No plaintext has
 * the size of a run.) */
#define PLAIN_KEPT_SHIFT 24
#define SCRATCH_KEPT_SHIFT 20
#define KEPT_MAX (1u << (PLAIN_KEPT_SHIFT - BLOB_SHIFT_LARGE))

static const unsigned class_shift[] = { BLOB_SHIFT_LARGE, BLOB_SHIFT_PACK, BLOB_RUN_SHIFT };

struct stack {
	size_t n;
	uint8_t *bufs[KEPT_MAX];
};

struct pool {
	pthread_mutex_t lock; /* leaf */
	struct stack plain[ARRAY_SIZE(class_shift)], scratch[ARRAY_SIZE(class_shift)];
};

int pool_new(struct pool **out)
{
	struct pool *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	pthread_mutex_init(&p->lock, NULL);
	*out = p;
	return 0;
}

static void unmap_all(struct stack *s, unsigned shift)
{
	while (s->n)
		munmap(s->bufs[--s->n], (size_t)1 << shift);
}

void pool_free(struct pool *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(class_shift); i++) {
		unmap_all(&p->plain[i], class_shift[i]);
		unmap_all(&p->scratch[i], class_shift[i]);
	}
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* NULL: buffers of that size are not kept. */
static struct stack *stack_of(struct stack *stacks, unsigned shift)
{
	for (size_t i = 0; i < ARRAY_SIZE(class_shift); i++) {
		if (class_shift[i] == shift)
			return &stacks[i];
	}
	return NULL;
}

static uint8_t *take(struct pool *p, struct stack *stacks, unsigned shift)
{
	struct stack *s = stack_of(stacks, shift);
	size_t size = (size_t)1 << shift;
	uint8_t *buf = NULL;
	void *m;

	if (s) {
		pthread_mutex_lock(&p->lock);
		if (s->n)
			buf = s->bufs[--s->n];
		pthread_mutex_unlock(&p->lock);
	}
	if (buf)
		return buf;
	m = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED)
		return NULL;
	madvise(m, size, MADV_DONTDUMP);
	return m;
}

static void give(
	struct pool *p, struct stack *stacks, unsigned kept_shift, unsigned shift, uint8_t *buf)
{
	struct stack *s = stack_of(stacks, shift);

	if (s) {
		pthread_mutex_lock(&p->lock);
		if (s->n < (size_t)1 << (kept_shift - shift)) {
			s->bufs[s->n++] = buf;
			buf = NULL;
		}
		pthread_mutex_unlock(&p->lock);
	}
	if (buf)
		munmap(buf, (size_t)1 << shift);
}

uint8_t *pool_get(struct pool *p, unsigned shift)
{
	return take(p, p->plain, shift);
}

void pool_put(struct pool *p, unsigned shift, uint8_t *buf, size_t used)
{
	if (!buf)
		return;
	secret_wipe(buf, used);
	give(p, p->plain, PLAIN_KEPT_SHIFT, shift, buf);
}

uint8_t *pool_scratch_get(struct pool *p, unsigned shift)
{
	return take(p, p->scratch, shift);
}

void pool_scratch_put(struct pool *p, unsigned shift, uint8_t *buf)
{
	if (buf)
		give(p, p->scratch, SCRATCH_KEPT_SHIFT, shift, buf);
}
