#include "fs/notify.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "fs/fs_priv.h"

#define NOTIFY_BUCKETS 4096 /* a power of two */
#define NOTIFY_IDS 16
#define NOTIFY_WHOLE_DIR                                                                           \
	0xffff /* name_len of an item that stands for all names of its directory                   \
		*/

struct item {
	struct item *chain; /* same bucket */
	struct item *next;  /* order of arrival */
	uint64_t parent;    /* 0: the item is about the object's inode */
	uint64_t object;
	bool content;
	uint16_t name_len;
	char name[];
};

struct notify {
	struct fs *fs;
	pthread_t thread;
	pthread_mutex_t lock; /* leaf: all below */
	pthread_cond_t wake;
	struct item *buckets[NOTIFY_BUCKETS];
	struct item *head, **tail;
	size_t count;
	bool stop;
};

static uint32_t item_hash(uint64_t parent, uint64_t object, const char *name, size_t len)
{
	uint64_t h = (parent + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ object;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (uint8_t)name[i]) * UINT64_C(0x100000001b3);
	return (uint32_t)(h >> 24) & (NOTIFY_BUCKETS - 1);
}

static struct item *notify_find(struct notify *q, uint32_t bucket, uint64_t parent, uint64_t object,
	const char *name, size_t len)
{
	struct item *i = q->buckets[bucket];

	while (i && (i->parent != parent || i->object != object || i->name_len != len ||
			    (len != NOTIFY_WHOLE_DIR && memcmp(i->name, name, len))))
		i = i->chain;
	return i;
}

/* Lock held. For names `object` is 0, so that a name is one item whatever it named. */
static void notify_add(struct notify *q, uint64_t parent, uint64_t object, const char *name,
	size_t len, bool content)
{
	size_t stored = len == NOTIFY_WHOLE_DIR ? 0 : len;
	uint32_t bucket = item_hash(parent, object, name, stored);
	struct item *i = notify_find(q, bucket, parent, object, name, len);

	if (i) {
		i->content |= content;
		return;
	}
	i = malloc(sizeof(*i) + stored);
	if (!i) {
		log_error(
			"out of memory: the mount may show an old state until it is listed again");
		return;
	}
	*i = (struct item){ .chain = q->buckets[bucket],
		.parent = parent,
		.object = object,
		.content = content,
		.name_len = (uint16_t)len };
	if (stored)
		memcpy(i->name, name, stored);
	q->buckets[bucket] = i;
	*q->tail = i;
	q->tail = &i->next;
	q->count++;
}

static void notify_add_change(struct notify *q, const struct volume_change *c)
{
	if (c->what == CHANGE_ENTRY) {
		bool whole = q->count >= NOTIFY_MAX && c->parent != q->fs->root->object;

		notify_add(q, c->parent, 0, c->name, whole ? NOTIFY_WHOLE_DIR : c->name_len, false);
		/* The directory's listing, which the kernel keeps apart from the names. */
		notify_add(q, 0, c->parent, NULL, 0, true);
	}
	if (c->object)
		notify_add(q, 0, c->object, NULL, 0, c->what != CHANGE_ATTR);
}

void notify_push(void *arg, const struct volume_change *changes, size_t n)
{
	struct notify *q = arg;

	pthread_mutex_lock(&q->lock);
	for (size_t i = 0; i < n; i++)
		notify_add_change(q, &changes[i]);
	pthread_cond_signal(&q->wake);
	pthread_mutex_unlock(&q->lock);
}

static uint64_t notify_wire_id(const struct fs *f, uint64_t id)
{
	return id == (uintptr_t)f->root ? FUSE_ROOT_ID : id;
}

static void notify_names(struct fs *f, uint64_t dir, const char *name, size_t len)
{
	uint64_t ids[NOTIFY_IDS];
	size_t n = node_ids(f->nodes, dir, ids, NOTIFY_IDS);

	for (size_t k = 0; k < n; k++)
		fuse_lowlevel_notify_inval_entry(f->session, notify_wire_id(f, ids[k]), name, len);
}

/* Invalidates the directory's own name: the kernel drops every name below it that is not in use. */
static void notify_whole_dir(struct fs *f, uint64_t dir)
{
	_cleanup_free_ char *path = NULL;
	const char *name;
	uint64_t parent;

	if (tree_parent(f->volume, dir, &parent) || tree_path(f->volume, dir, &path))
		return;
	name = strrchr(path, '/');
	name = name ? name + 1 : path;
	notify_names(f, parent, name, strlen(name));
}

static void notify_inode(struct fs *f, uint64_t object, bool content)
{
	uint64_t ids[NOTIFY_IDS];
	size_t n = node_ids(f->nodes, object, ids, NOTIFY_IDS);

	node_doubt_mode(f->nodes, object);
	/* Offset -1: the attributes alone. */
	for (size_t k = 0; k < n; k++)
		fuse_lowlevel_notify_inval_inode(
			f->session, notify_wire_id(f, ids[k]), content ? 0 : -1, 0);
}

void notify_listing_now(struct fs *f, uint64_t dir)
{
	notify_inode(f, dir, true);
}

static void notify_send(struct fs *f, const struct item *i)
{
	if (i->parent && i->name_len == NOTIFY_WHOLE_DIR) {
		notify_whole_dir(f, i->parent);
	} else if (i->parent) {
		notify_names(f, i->parent, i->name, i->name_len);
	} else {
		notify_inode(f, i->object, i->content);
	}
}

/* Lock held. Everything queued so far, in order. */
static struct item *notify_take(struct notify *q)
{
	struct item *head = q->head;

	memset(q->buckets, 0, sizeof(q->buckets));
	q->head = NULL;
	q->tail = &q->head;
	q->count = 0;
	return head;
}

static void notify_batch(struct notify *q, struct item *i, bool send)
{
	while (i) {
		struct item *next = i->next;

		if (send && !atomic_load(&q->fs->stopping) &&
			gate_enter(&q->fs->gate, GATE_PROGRAM)) {
			notify_send(q->fs, i);
			gate_leave(&q->fs->gate);
		}
		free(i);
		i = next;
	}
}

static void *notify_thread(void *arg)
{
	struct notify *q = arg;

	pthread_mutex_lock(&q->lock);
	while (!q->stop) {
		struct item *batch;

		if (!q->head) {
			pthread_cond_wait(&q->wake, &q->lock);
			continue;
		}
		batch = notify_take(q);
		pthread_mutex_unlock(&q->lock);
		notify_batch(q, batch, true);
		pthread_mutex_lock(&q->lock);
	}
	pthread_mutex_unlock(&q->lock);
	return NULL;
}

int notify_start(struct fs *f, struct notify **out)
{
	struct notify *q = calloc(1, sizeof(*q));
	sigset_t all, old;
	int r;

	if (!q)
		return -ENOMEM;
	q->fs = f;
	q->tail = &q->head;
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->wake, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = -pthread_create(&q->thread, NULL, notify_thread, q);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r) {
		free(q);
		return r;
	}
	*out = q;
	return 0;
}

void notify_stop(struct notify *q)
{
	if (!q)
		return;
	pthread_mutex_lock(&q->lock);
	q->stop = true;
	pthread_cond_signal(&q->wake);
	pthread_mutex_unlock(&q->lock);
	pthread_join(q->thread, NULL);
	notify_batch(q, notify_take(q), false);
	pthread_cond_destroy(&q->wake);
	pthread_mutex_destroy(&q->lock);
	free(q);
}
