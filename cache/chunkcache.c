#include "cache/chunkcache.h"

#include <errno.h>
#include <string.h>

#include "cache/pool.h"
#include "cache/volume_priv.h"

#define PLACES 32

struct place {
	pthread_mutex_t lock;
	uint8_t uuid[CONTENT_UUID_LEN];
	uint64_t seq;
	uint8_t *buf; /* NULL: empty */
	unsigned shift;
	uint32_t len;
	uint32_t from, to; /* what of it is open */
};

struct chunkcache {
	struct pool *pool;
	struct place places[PLACES];
};

int chunkcache_new(struct pool *pool, struct chunkcache **out)
{
	struct chunkcache *cc = calloc(1, sizeof(*cc));

	if (!cc)
		return -ENOMEM;
	cc->pool = pool;
	for (unsigned i = 0; i < PLACES; i++)
		pthread_mutex_init(&cc->places[i].lock, NULL);
	*out = cc;
	return 0;
}

static void empty(struct chunkcache *cc, struct place *p)
{
	pool_put(cc->pool, p->shift, p->buf, p->len);
	p->buf = NULL;
}

void chunkcache_empty(struct chunkcache *cc)
{
	for (unsigned i = 0; i < PLACES; i++) {
		pthread_mutex_lock(&cc->places[i].lock);
		empty(cc, &cc->places[i]);
		pthread_mutex_unlock(&cc->places[i].lock);
	}
}

void chunkcache_free(struct chunkcache *cc)
{
	if (!cc)
		return;
	for (unsigned i = 0; i < PLACES; i++) {
		empty(cc, &cc->places[i]);
		pthread_mutex_destroy(&cc->places[i].lock);
	}
	free(cc);
}

/* A buffer in the place for chunk `c`. What is overwritten at once is not wiped before: of a read of
 * 4 KiB that was a tenth. */
static bool make_room(
	struct chunkcache *cc, struct place *p, const struct blob *b, const struct content_chunk *c)
{
	if (p->buf && p->shift == b->shift && p->len > c->len)
		secret_wipe(p->buf + c->len, p->len - c->len);
	if (p->shift != b->shift)
		empty(cc, p);
	if (!p->buf)
		p->buf = pool_get(cc->pool, b->shift);
	p->shift = b->shift;
	p->len = MIN_OF(c->len, UINT32_C(1) << b->shift); /* of a longer one blob_open says so */
	memcpy(p->uuid, b->uuid, sizeof(p->uuid));
	p->seq = c->seq;
	return p->buf;
}

/* Into the place, under its lock: bytes `from` to `to`, or, if something else of the chunk was wanted
 * before, all. */
static int fill(struct chunkcache *cc, struct place *p, struct blob *b,
	const struct content_chunk *c, uint32_t from, uint32_t to)
{
	int r;

	if (p->buf && p->seq == c->seq && !memcmp(p->uuid, b->uuid, sizeof(p->uuid))) {
		if (from >= p->from && to <= p->to)
			return 0;
		from = 0;
		to = c->len;
	} else if (!make_room(cc, p, b, c)) {
		return -ENOMEM;
	}
	p->from = from;
	p->to = to;
	r = blob_open_part(b, c, &p->from, &p->to, p->buf);
	if (r)
		empty(cc, p);
	return r;
}

static int read_aside(struct chunkcache *cc, struct blob *b, const struct content_chunk *c,
	uint32_t in, uint32_t len, void *out)
{
	uint8_t *buf = pool_get(cc->pool, b->shift);
	uint32_t from = in, to = in + len;
	int r = buf ? blob_open_part(b, c, &from, &to, buf) : -ENOMEM;

	if (!r)
		memcpy(out, buf + in, len);
	pool_put(cc->pool, b->shift, buf, to);
	return r;
}

int chunkcache_read(struct chunkcache *cc, struct blob *b, const struct content_chunk *c,
	uint32_t in, uint32_t len, void *out)
{
	/* By blob and a window of the index, so that a sequential reader stays in one place; in a
	 * pack every chunk is a file. */
	struct place *p = &cc->places[(b->uuid[0] + (b->pack ? c->seq : c->idx >> 6)) % PLACES];
	int r;

	if (pthread_mutex_trylock(&p->lock))
		return read_aside(cc, b, c, in, len, out);
	r = fill(cc, p, b, c, in, in + len);
	if (!r)
		memcpy(out, p->buf + in, len);
	pthread_mutex_unlock(&p->lock);
	return r;
}
