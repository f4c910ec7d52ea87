#include "fs/node.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "cache/tree.h"

#define NODE_SHARDS 64
#define NODE_BUCKETS_MIN 64

struct shard {
	pthread_mutex_t lock;
	struct node **buckets;
	size_t mask, count;
} __attribute__((aligned(64)));

struct node_table {
	struct volume *volume;
	struct shard shards[NODE_SHARDS];
};

/* Objects are small consecutive numbers: a multiplicative hash spreads them (Knuth, TAOCP 3, 6.4).
 */
static uint64_t node_hash(uint64_t object)
{
	return object * UINT64_C(0x9e3779b97f4a7c15);
}

static struct shard *node_shard(struct node_table *t, uint64_t hash)
{
	return &t->shards[hash >> 58];
}

static struct node **node_bucket(const struct shard *s, uint64_t hash)
{
	return &s->buckets[(hash >> 20) & s->mask];
}

/* Whether the object has a node; they are marked if it is unlinked. */
static bool shard_has(struct shard *s, uint64_t object, bool unlinked)
{
	bool has = false;

	for (struct node *n = *node_bucket(s, node_hash(object)); n; n = n->next) {
		if (n->object == object) {
			has = true;
			n->unlinked |= unlinked;
		}
	}
	return has;
}

static bool node_held(void *arg, uint64_t object, bool unlinked)
{
	struct shard *s = node_shard(arg, node_hash(object));
	bool held;

	pthread_mutex_lock(&s->lock);
	held = shard_has(s, object, unlinked);
	pthread_mutex_unlock(&s->lock);
	return held;
}

int node_table_new(struct volume *v, struct node_table **out)
{
	struct node_table *t = aligned_alloc(64, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->volume = v;
	for (size_t i = 0; i < NODE_SHARDS; i++) {
		struct shard *s = &t->shards[i];

		pthread_mutex_init(&s->lock, NULL);
		s->mask = NODE_BUCKETS_MIN - 1;
		s->count = 0;
		s->buckets = calloc(NODE_BUCKETS_MIN, sizeof(struct node *));
		if (!s->buckets) {
			for (size_t j = i + 1; j < NODE_SHARDS; j++) {
				t->shards[j].buckets = NULL;
				pthread_mutex_init(&t->shards[j].lock, NULL);
			}
			node_table_free(t);
			return -ENOMEM;
		}
	}
	tree_held_by(v, node_held, t);
	*out = t;
	return 0;
}

void node_table_free(struct node_table *t)
{
	if (!t)
		return;
	tree_held_by(t->volume, NULL, NULL);
	for (size_t i = 0; i < NODE_SHARDS; i++) {
		struct shard *s = &t->shards[i];

		for (size_t b = 0; s->buckets && b <= s->mask; b++) {
			while (s->buckets[b]) {
				struct node *n = s->buckets[b];

				s->buckets[b] = n->next;
				if (n->unlinked)
					tree_dropped(t->volume, n->object);
				free(n);
			}
		}
		free(s->buckets);
		pthread_mutex_destroy(&s->lock);
	}
	free(t);
}

/* Without memory the chains only grow longer. */
static void shard_resize(struct shard *s, size_t mask)
{
	struct shard other = { .mask = mask, .buckets = calloc(mask + 1, sizeof(struct node *)) };

	if (!other.buckets)
		return;
	for (size_t b = 0; b <= s->mask; b++) {
		while (s->buckets[b]) {
			struct node *n = s->buckets[b];
			struct node **to = node_bucket(&other, node_hash(n->object));

			s->buckets[b] = n->next;
			n->next = *to;
			*to = n;
		}
	}
	free(s->buckets);
	s->buckets = other.buckets;
	s->mask = mask;
}

static struct node *shard_find(struct shard *s, uint64_t hash, uint64_t object, uint64_t version)
{
	struct node *n = *node_bucket(s, hash);

	while (n && (n->object != object || n->version != version))
		n = n->next;
	return n;
}

static struct node *shard_add(struct shard *s, uint64_t hash, uint64_t object, uint64_t version)
{
	struct node *n = calloc(1, sizeof(*n));
	struct node **bucket;

	if (!n)
		return NULL;
	if (s->count++ > s->mask)
		shard_resize(s, s->mask * 2 + 1);
	n->object = object;
	n->version = version;
	bucket = node_bucket(s, hash);
	n->next = *bucket;
	*bucket = n;
	return n;
}

int node_get(struct node_table *t, uint64_t object, uint64_t version, struct node **out)
{
	uint64_t hash = node_hash(object);
	struct shard *s = node_shard(t, hash);
	struct node *n;

	pthread_mutex_lock(&s->lock);
	n = shard_find(s, hash, object, version);
	if (!n)
		n = shard_add(s, hash, object, version);
	if (n && n->lookups < NODE_LOOKUPS_MAX)
		n->lookups++;
	pthread_mutex_unlock(&s->lock);
	if (!n)
		return -ENOMEM;
	*out = n;
	return 0;
}

static void shard_remove(struct shard *s, struct node *n)
{
	struct node **link = node_bucket(s, node_hash(n->object));

	while (*link != n)
		link = &(*link)->next;
	*link = n->next;
	s->count--;
	if (s->count < s->mask / 8 && s->mask >= NODE_BUCKETS_MIN)
		shard_resize(s, s->mask / 2);
}

void node_forget(struct node_table *t, struct node *n, uint64_t count)
{
	struct shard *s = node_shard(t, node_hash(n->object));
	uint64_t object = n->object;
	bool last, gone = false;

	pthread_mutex_lock(&s->lock);
	if (n->lookups < NODE_LOOKUPS_MAX)
		n->lookups -= (uint32_t)MIN_OF(count, n->lookups);
	last = n->lookups == 0;
	if (last) {
		shard_remove(s, n);
		/* The others inherit the mark. */
		gone = n->unlinked && !shard_has(s, object, true);
	}
	pthread_mutex_unlock(&s->lock);
	if (last)
		free(n);
	if (gone)
		tree_dropped(t->volume, object);
}

size_t node_ids(struct node_table *t, uint64_t object, uint64_t *ids, size_t max)
{
	uint64_t hash = node_hash(object);
	struct shard *s = node_shard(t, hash);
	size_t n = 0;

	pthread_mutex_lock(&s->lock);
	for (struct node *at = *node_bucket(s, hash); at && n < max; at = at->next) {
		if (at->object == object)
			ids[n++] = (uintptr_t)at;
	}
	pthread_mutex_unlock(&s->lock);
	return n;
}

uint64_t *node_all(struct node_table *t, size_t *n)
{
	uint64_t *ids = NULL;
	size_t cap = 0;

	*n = 0;
	for (size_t i = 0; i < NODE_SHARDS; i++) {
		struct shard *s = &t->shards[i];

		pthread_mutex_lock(&s->lock);
		if (*n + s->count > cap || !ids) {
			uint64_t *grown;

			cap = 2 * (*n + s->count) + 16;
			grown = reallocarray(ids, cap, sizeof(*ids));
			if (!grown) {
				pthread_mutex_unlock(&s->lock);
				free(ids);
				return NULL;
			}
			ids = grown;
		}
		for (size_t b = 0; s->buckets && b <= s->mask; b++)
			for (struct node *at = s->buckets[b]; at && *n < cap; at = at->next)
				ids[(*n)++] = (uintptr_t)at;
		pthread_mutex_unlock(&s->lock);
	}
	return ids;
}

void node_open(struct node *n, bool writer)
{
	atomic_fetch_add(&n->opens, 1);
	if (writer)
		atomic_fetch_add(&n->writers, 1);
}

void node_close(struct node *n, bool writer)
{
	if (writer)
		atomic_fetch_sub(&n->writers, 1);
	atomic_fetch_sub(&n->opens, 1);
}

void node_doubt_mode(struct node_table *t, uint64_t object)
{
	uint64_t hash = node_hash(object);
	struct shard *s = node_shard(t, hash);

	pthread_mutex_lock(&s->lock);
	for (struct node *n = *node_bucket(s, hash); n; n = n->next) {
		if (n->object == object)
			atomic_store(&n->privileged, true);
	}
	pthread_mutex_unlock(&s->lock);
}

void node_set_xattrs(struct node_table *t, uint64_t object)
{
	uint64_t hash = node_hash(object);
	struct shard *s = node_shard(t, hash);

	pthread_mutex_lock(&s->lock);
	for (struct node *n = *node_bucket(s, hash); n; n = n->next) {
		if (n->object == object)
			atomic_store(&n->xattrs, NODE_XATTRS_SOME);
	}
	pthread_mutex_unlock(&s->lock);
}

void node_no_xattrs(struct node *n)
{
	uint8_t unknown = NODE_XATTRS_UNKNOWN;

	atomic_compare_exchange_strong(&n->xattrs, &unknown, NODE_XATTRS_NONE);
}
