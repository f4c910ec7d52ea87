#include "disk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <uthash.h>

#define MAP_BYTES (UINT64_C(8) << 30)
#define SECTOR 512
#define NAME_SIZE 80
#define LINE_SIZE 256

struct node;

struct change {
	struct change *next;
	enum { WRITE, TRUNCATE, PUNCH, ENTER, LEAVE, RENAME } kind;
	uint64_t off, len;
	const uint8_t *bytes; /* in the log */
	char name[NAME_SIZE], to[NAME_SIZE];
	struct node *node;
};

struct entry {
	struct entry *next;
	char name[NAME_SIZE];
	struct node *node;
};

struct node {
	uint64_t ino;
	bool dir;
	uint8_t *data; /* synced */
	uint64_t size;
	struct entry *entries; /* synced */
	struct change *first, **last;
	struct node *all;
	UT_hash_handle hh;
};

struct disk {
	int fd;
	const uint8_t *log;
	uint64_t at;
	bool has_synced; /* the last entry */
	struct node *root, *by_inode, *all;
};

/* The log is not what a recorder writes, or the machine gave out. */
static _Noreturn void broken(int line)
{
	fprintf(stderr, "disk.c:%d: %s\n", line, strerror(errno));
	abort();
}

uint64_t disk_random(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static void *need(void *p)
{
	if (!p)
		broken(__LINE__);
	return p;
}

/* --- names --- */

static void leave(struct entry **list, const char *name)
{
	for (; *list; list = &(*list)->next)
		if (!strcmp((*list)->name, name)) {
			struct entry *gone = *list;

			*list = gone->next;
			free(gone);
			return;
		}
}

static void enter(struct entry **list, const char *name, struct node *node)
{
	struct entry *e;

	leave(list, name);
	e = need(calloc(1, sizeof(*e)));
	snprintf(e->name, sizeof(e->name), "%s", name);
	e->node = node;
	e->next = *list;
	*list = e;
}

static struct node *find(const struct entry *e, const char *name)
{
	for (; e; e = e->next)
		if (!strcmp(e->name, name))
			return e->node;
	return NULL;
}

static void apply_name(struct entry **list, const struct change *c)
{
	if (c->kind == RENAME || c->kind == LEAVE)
		leave(list, c->name);
	if (c->kind == RENAME || c->kind == ENTER)
		enter(list, c->kind == RENAME ? c->to : c->name, c->node);
}

static void free_entries(struct entry *e)
{
	while (e) {
		struct entry *next = e->next;

		free(e);
		e = next;
	}
}

/* A directory after the first n of its changes. */
static struct entry *entries_after(const struct node *dir, size_t n)
{
	struct entry *list = NULL;

	for (const struct entry *e = dir->entries; e; e = e->next)
		enter(&list, e->name, e->node);
	for (const struct change *c = dir->first; c && n; c = c->next, n--)
		apply_name(&list, c);
	return list;
}

/* --- content --- */

static void resize(uint8_t **data, uint64_t *size, uint64_t to)
{
	if (to > *size) {
		*data = need(realloc(*data, to));
		memset(*data + *size, 0, to - *size);
	}
	*size = to;
}

static void write_piece(
	uint8_t **data, uint64_t *size, uint64_t off, const uint8_t *bytes, uint64_t len)
{
	if (off + len > *size)
		resize(data, size, off + len);
	memcpy(*data + off, bytes, len);
}

static void apply_content(
	uint8_t **data, uint64_t *size, const struct change *c, unsigned percent, uint64_t *random)
{
	if (c->kind != WRITE || percent == 100) {
		if (percent < 100 && disk_random(random) % 100 >= percent)
			return;
		if (c->kind == TRUNCATE)
			resize(data, size, c->len);
		else if (c->kind == WRITE)
			write_piece(data, size, c->off, c->bytes, c->len);
		else if (c->off < *size)
			memset(*data + c->off, 0,
				c->off + c->len > *size ? *size - c->off : c->len);
		return;
	}
	for (uint64_t at = 0, n; at < c->len; at += n) {
		n = SECTOR - (c->off + at) % SECTOR;
		n = n < c->len - at ? n : c->len - at;
		if (disk_random(random) % 100 < percent)
			write_piece(data, size, c->off + at, c->bytes + at, n);
	}
}

static void forget(struct node *n)
{
	struct change *c;

	while ((c = n->first)) {
		n->first = c->next;
		free(c);
	}
	n->last = &n->first;
}

static void synced(struct node *n)
{
	for (const struct change *c = n->first; c; c = c->next) {
		if (n->dir)
			apply_name(&n->entries, c);
		else
			apply_content(&n->data, &n->size, c, 100, NULL);
	}
	forget(n);
}

/* --- the log --- */

static struct node *add_node(struct disk *d, uint64_t ino, bool dir)
{
	struct node *n = need(calloc(1, sizeof(*n))), *old;

	n->ino = ino;
	n->dir = dir;
	n->last = &n->first;
	n->all = d->all;
	d->all = n;
	HASH_FIND(hh, d->by_inode, &ino, sizeof(ino), old);
	if (old) /* the number of a file that is gone */
		HASH_DEL(d->by_inode, old);
	HASH_ADD(hh, d->by_inode, ino, sizeof(n->ino), n);
	return n;
}

static struct node *node_of(struct disk *d, uint64_t ino)
{
	struct node *n;

	HASH_FIND(hh, d->by_inode, &ino, sizeof(ino), n);
	return n;
}

struct disk *disk_new(const char *log, uint64_t root_inode)
{
	struct disk *d = need(calloc(1, sizeof(*d)));

	d->fd = open(log, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	d->log = mmap(NULL, MAP_BYTES, PROT_READ, MAP_SHARED | MAP_NORESERVE, d->fd, 0);
	if (d->fd < 0 || d->log == MAP_FAILED)
		broken(__LINE__);
	d->root = add_node(d, root_inode, true);
	return d;
}

void disk_free(struct disk *d)
{
	struct node *n;

	HASH_CLEAR(hh, d->by_inode);
	while ((n = d->all)) {
		d->all = n->all;
		forget(n);
		free_entries(n->entries);
		free(n->data);
		free(n);
	}
	munmap((void *)d->log, MAP_BYTES);
	close(d->fd);
	free(d);
}

static struct change *add_change(struct node *n, int kind)
{
	struct change *c = need(calloc(1, sizeof(*c)));

	c->kind = kind;
	*n->last = c;
	n->last = &c->next;
	return c;
}

static void change_content(
	struct disk *d, int kind, uint64_t ino, uint64_t off, uint64_t len, const uint8_t *bytes)
{
	struct node *n = node_of(d, ino);
	struct change *c;

	if (!n)
		broken(__LINE__); /* a file that nobody made */
	c = add_change(n, kind);
	c->off = off;
	c->len = len;
	c->bytes = bytes;
}

static void change_name(
	struct disk *d, int kind, uint64_t dir, const char *name, const char *to, struct node *node)
{
	struct change *c = add_change(need(node_of(d, dir)), kind);

	snprintf(c->name, sizeof(c->name), "%s", name);
	snprintf(c->to, sizeof(c->to), "%s", to);
	c->node = node;
}

static void move(struct disk *d, uint64_t from, const char *name, uint64_t to, const char *new_name)
{
	struct entry *now = entries_after(need(node_of(d, from)), SIZE_MAX);
	struct node *node = need(find(now, name));

	free_entries(now);
	if (from == to) {
		change_name(d, RENAME, from, name, new_name, node); /* one step: both or none */
		return;
	}
	change_name(d, ENTER, to, new_name, "", node);
	change_name(d, LEAVE, from, name, "", NULL);
}

static void take(struct disk *d, const char *line, const uint8_t *bytes)
{
	unsigned long long a, b, c;
	char name[NAME_SIZE], to[NAME_SIZE];
	struct node *n;

	if (sscanf(line, "write %llu %llu %llu", &a, &b, &c) == 3)
		change_content(d, WRITE, a, b, c, bytes);
	else if (sscanf(line, "trunc %llu %llu", &a, &b) == 2)
		change_content(d, TRUNCATE, a, 0, b, NULL);
	else if (sscanf(line, "punch %llu %llu %llu", &a, &b, &c) == 3)
		change_content(d, PUNCH, a, b, c, NULL);
	else if (sscanf(line, "create %llu %llu %79s", &a, &b, name) == 3)
		change_name(d, ENTER, a, name, "", add_node(d, b, false));
	else if (sscanf(line, "mkdir %llu %llu %79s", &a, &b, name) == 3)
		change_name(d, ENTER, a, name, "", add_node(d, b, true));
	else if (sscanf(line, "rename %llu %79s %llu %79s", &a, name, &b, to) == 4)
		move(d, a, name, b, to);
	else if (sscanf(line, "unlink %llu %79s", &a, name) == 2)
		change_name(d, LEAVE, a, name, "", NULL);
	else if (sscanf(line, "sync %llu", &a) == 1 && (n = node_of(d, a))) {
		synced(n);
		d->has_synced = true;
	}
}

bool disk_next(struct disk *d, const uint8_t **note, size_t *len)
{
	const char *begin = (const char *)d->log + d->at;
	unsigned long long a, b, n = 0;
	char line[LINE_SIZE];
	const char *end;
	struct stat st;

	*note = NULL;
	d->has_synced = false;
	if (fstat(d->fd, &st) || d->at >= (uint64_t)st.st_size)
		return false;
	end = memchr(begin, '\n', (size_t)st.st_size - d->at);
	if (!end)
		return false; /* killed while it was written */
	/* sscanf looks for the end of the string, and behind that of the log is no memory. */
	snprintf(line, sizeof(line), "%.*s", (int)(end - begin), begin);
	if (sscanf(line, "note %llu", &n) != 1 &&
		sscanf(line, "write %llu %llu %llu", &a, &b, &n) != 3)
		n = 0;
	n += (uint64_t)(end - begin) + 1;
	if (n > (uint64_t)st.st_size - d->at)
		return false;
	d->at += n;
	if (!strncmp(line, "note ", 5)) {
		*note = (const uint8_t *)end + 1;
		*len = (size_t)((const char *)d->log + d->at - end - 1);
	} else if (d->root->ino) {
		take(d, line, (const uint8_t *)end + 1);
	}
	return true;
}

void disk_cut(struct disk *d)
{
	if (ftruncate(d->fd, (off_t)d->at) < 0)
		broken(__LINE__);
}

bool disk_has_synced(const struct disk *d)
{
	return d->has_synced;
}

/* --- the cut --- */

static void put_file(const struct node *n, const char *path, unsigned percent, uint64_t *random)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	uint64_t size = n->size;
	uint8_t *data = need(malloc(size + 1));

	if (size)
		memcpy(data, n->data, size);
	for (const struct change *c = n->first; c && percent; c = c->next)
		apply_content(&data, &size, c, percent, random);
	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		broken(__LINE__);
	close(fd);
	free(data);
}

static void put_node(const struct node *n, const char *path, unsigned percent, uint64_t *random)
{
	size_t changes = 0;
	struct entry *list;
	char below[PATH_MAX];

	if (!n->dir) {
		put_file(n, path, percent, random);
		return;
	}
	if (mkdir(path, 0700))
		broken(__LINE__);
	for (const struct change *c = n->first; c; c = c->next)
		changes++;
	if (percent < 100)
		changes = percent ? disk_random(random) % (changes + 1) : 0;
	list = entries_after(n, changes);
	for (const struct entry *e = list; e; e = e->next) {
		snprintf(below, sizeof(below), "%s/%s", path, e->name);
		put_node(e->node, below, percent, random);
	}
	free_entries(list);
}

void disk_crash(struct disk *d, const char *path, unsigned percent, uint64_t *random)
{
	put_node(d->root, path, percent, random);
}
