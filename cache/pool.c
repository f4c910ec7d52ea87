#include "cache/pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/secret.h"
#include "cache/blob.h"

#define POOL_KEPT 256 /* buffers kept for reuse: 16 MiB */
#define POOL_SCRATCH_KEPT 16

struct stack {
	size_t n;
	uint8_t *bufs[POOL_KEPT];
};

struct pool {
	pthread_mutex_t lock; /* leaf */
	struct stack plain, scratch;
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

void pool_free(struct pool *p)
{
	size_t size = (size_t)1 << BLOB_SHIFT_DEFAULT;

	if (!p)
		return;
	while (p->plain.n)
		munmap(p->plain.bufs[--p->plain.n], size);
	while (p->scratch.n)
		munmap(p->scratch.bufs[--p->scratch.n], size);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static uint8_t *take(struct pool *p, struct stack *s, unsigned shift)
{
	size_t size = (size_t)1 << shift;
	uint8_t *buf = NULL;
	void *m;

	if (shift == BLOB_SHIFT_DEFAULT) {
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

static void give(struct pool *p, struct stack *s, size_t kept, unsigned shift, uint8_t *buf)
{
	if (shift == BLOB_SHIFT_DEFAULT) {
		pthread_mutex_lock(&p->lock);
		if (s->n < kept) {
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
	return take(p, &p->plain, shift);
}

void pool_put(struct pool *p, unsigned shift, uint8_t *buf, size_t used)
{
	if (!buf)
		return;
	secret_wipe(buf, used);
	give(p, &p->plain, POOL_KEPT, shift, buf);
}

uint8_t *pool_scratch_get(struct pool *p, unsigned shift)
{
	return take(p, &p->scratch, shift);
}

void pool_scratch_put(struct pool *p, unsigned shift, uint8_t *buf)
{
	if (buf)
		give(p, &p->scratch, POOL_SCRATCH_KEPT, shift, buf);
}
