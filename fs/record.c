/*
 * Which files a command opens: those of a process and of all that descend from it. The process
 * takes in orphans of its descendants (`cachet record` is a subreaper), so that the way up by
 * parents leads to it from each of them.
 *
 * A recording whose process is gone is given up by the next one. Lock: a leaf.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/fs_priv.h"

#define GENERATIONS_MAX 256
#define FILES_MAX 200000

static pid_t parent_of(pid_t pid)
{
	char path[32], text[512], *at;
	FILE *f;
	size_t n;
	int parent;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = 0;
	at = strrchr(text, ')'); /* the name before it may hold anything */
	return at && sscanf(at + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

static bool descends(pid_t pid, pid_t from)
{
	for (unsigned i = 0; pid > 1 && i < GENERATIONS_MAX; i++) {
		if (pid == from)
			return true;
		pid = parent_of(pid);
	}
	return false;
}

static int by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static size_t sort(uint64_t *objects, size_t n)
{
	size_t kept = 0;

	if (n)
		qsort(objects, n, sizeof(*objects), by_number);
	for (size_t i = 0; i < n; i++)
		if (!kept || objects[kept - 1] != objects[i])
			objects[kept++] = objects[i];
	return kept;
}

/* Lock held. Twice the same costs room only until the array would have to grow. */
static void add(struct fs_record *k, uint64_t object)
{
	uint64_t *grown;

	if (k->n == k->cap) {
		k->n = sort(k->objects, k->n);
		if (k->n > k->cap / 2 || !k->cap) {
			grown = k->cap >= FILES_MAX
					? NULL
					: realloc(k->objects, (2 * k->cap + 256) * sizeof(*grown));
			if (!grown)
				return; /* the set is not complete, and warm enough */
			k->objects = grown;
			k->cap = 2 * k->cap + 256;
		}
	}
	k->objects[k->n++] = object;
}

void record_open(fuse_req_t req, uint64_t object)
{
	struct fs_record *k = &fs_of(req)->record;
	pid_t pid = atomic_load_explicit(&k->pid, memory_order_relaxed);

	if (!pid || !descends(fuse_req_ctx(req)->pid, pid))
		return;
	pthread_mutex_lock(&k->lock);
	if (atomic_load(&k->pid) == pid)
		add(k, object);
	pthread_mutex_unlock(&k->lock);
}

/* Lock held. */
static void reset(struct fs_record *k, pid_t pid)
{
	free(k->objects);
	k->objects = NULL;
	k->n = k->cap = 0;
	atomic_store(&k->pid, pid);
}

int fs_record_begin(struct fs *f, pid_t pid)
{
	struct fs_record *k = &f->record;
	pid_t old;
	int r = 0;

	pthread_mutex_lock(&k->lock);
	old = atomic_load(&k->pid);
	if (old && (!kill(old, 0) || errno == EPERM))
		r = -EBUSY;
	else
		reset(k, pid);
	pthread_mutex_unlock(&k->lock);
	return r;
}

int fs_record_end(struct fs *f, pid_t pid, int (*fn)(void *arg, uint64_t object), void *arg)
{
	struct fs_record *k = &f->record;
	uint64_t *objects;
	size_t n;
	int r = 0;

	pthread_mutex_lock(&k->lock);
	if (atomic_load(&k->pid) != pid) {
		pthread_mutex_unlock(&k->lock);
		return -ENOENT;
	}
	n = sort(k->objects, k->n);
	objects = steal_ptr(&k->objects);
	reset(k, 0);
	pthread_mutex_unlock(&k->lock);
	for (size_t i = 0; i < n && !r; i++)
		r = fn(arg, objects[i]);
	free(objects);
	return r;
}
