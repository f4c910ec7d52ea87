#include "faults.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/macros.h"
#include "cache/blob.h"
#include "cache/outbox.h"
#include "cache/remote.h"
#include "meta/object.h"

#define STORE "records"
#define CANARY 32 /* bytes of a page that are looked for */

static const struct tree_cred cred = { 1000, 1000 };

int told_failed(struct told *t, int r, const char *what)
{
	if (!t->note[0])
		snprintf(t->note, sizeof(t->note), "%.120s: %.30s", what, error_text(r));
	return r;
}

int told_open(struct told *t)
{
	const struct volume_options o = { .dir = t->dir,
		.key_source = t->source,
		.link = t->link,
		.uid = 1000,
		.gid = 1000,
		.host = "test" };
	char *error = NULL;
	int r = volume_open(&o, &t->v, &error);

	if (r)
		told_failed(t, r, error ? error : "volume_open");
	free(error);
	return r;
}

int told_create(struct told *t)
{
	const struct volume_create_options o = { .dir = t->dir,
		.key_source = t->source,
		.link = t->link,
		.origin = "https://records.example/" };
	char *error = NULL;
	int r = volume_create(&o, &error);

	if (r)
		told_failed(t, r, error ? error : "volume_create");
	free(error);
	return r;
}

void told_close(struct told *t)
{
	if (t->v)
		volume_close(t->v);
	t->v = NULL;
}

static int take_listed(void *arg, const struct remote_store *s)
{
	*(bool *)arg = s->listed;
	return 0;
}

int told_store(struct told *t)
{
	struct remote_report report;
	struct tree_attr a;
	bool listed = false;

	TRY(remote_store_add(t->v, STORE, false, &t->store));
	TRY(remote_stores(t->v, take_listed, &listed));
	if (!listed) {
		TRY(remote_listing_begin(t->v, t->store));
		TRY(remote_listing_end(t->v, t->store, false, &report));
	}
	TRY(tree_lookup(t->v, OBJECT_ROOT, STORE, &a));
	t->root = a.object;
	return 0;
}

int told_find(struct told *t, const char *name, struct tree_attr *a)
{
	return tree_lookup(t->v, t->root, name, a);
}

/* --- what files may be --- */

struct state told_state(struct told *t, uint32_t size)
{
	struct state s = { .size = size };

	t->tag++;
	for (unsigned p = 0; p * ORACLE_PAGE < size; p++)
		s.pages[p] = t->tag;
	return s;
}

void told_begin(struct told *t, unsigned file, const struct state *s)
{
	struct told_file *f = &t->files[file];

	if (!f->n)
		f->may[f->n++].absent = true;
	if (f->n == TOLD_STATES)
		abort();
	f->may[f->n++] = *s;
}

void told_end(struct told *t, unsigned file)
{
	struct told_file *f = &t->files[file];

	f->may[0] = f->may[f->n - 1];
	f->n = 1;
	f->split = false;
}

int told_make(struct told *t, unsigned file)
{
	struct state empty = { .size = 0 };
	struct tree_attr a;

	if (!told_find(t, t->files[file].name, &a))
		return 0;
	told_begin(t, file, &empty);
	TRY(tree_mknod(t->v, t->root, t->files[file].name, S_IFREG | 0644, 0, &cred, &a));
	told_end(t, file);
	return 0;
}

int told_file(struct told *t, unsigned file, struct file **out)
{
	struct tree_attr a;

	TRY(told_find(t, t->files[file].name, &a));
	TRY(file_open(t->v, a.object, a.version, true, out));
	return 0;
}

int told_write(struct file *f, const struct state *s, unsigned from, unsigned to)
{
	uint8_t bytes[ORACLE_BYTES];
	size_t end = MIN_OF((size_t)to * ORACLE_PAGE, s->size);

	for (unsigned p = from; p < to; p++)
		oracle_fill(bytes + (size_t)(p - from) * ORACLE_PAGE, p, s->pages[p]);
	return file_write(f, bytes, end - (size_t)from * ORACLE_PAGE, (size_t)from * ORACLE_PAGE);
}

int told_put(struct told *t, unsigned file, uint32_t size, bool sync)
{
	struct state s;
	struct file *f;
	int r;

	TRY(told_make(t, file));
	TRY(told_file(t, file, &f));
	s = told_state(t, size);
	told_begin(t, file, &s);
	t->files[file].split = true;
	r = file_size(f) > size ? file_truncate(f, size) : 0;
	if (!r)
		r = told_write(f, &s, 0, (size + ORACLE_PAGE - 1) / ORACLE_PAGE);
	if (!r)
		r = sync ? file_sync(f) : file_commit(f);
	if (!r)
		r = file_take_lost(f);
	file_unref(f, true);
	if (r)
		return told_failed(t, r, "told_put");
	told_end(t, file);
	return 0;
}

const struct remote_record *told_publish(
	struct told *t, unsigned file, uint32_t size, const char *rid)
{
	struct state s = told_state(t, size);
	uint8_t bytes[ORACLE_BYTES];

	for (unsigned p = 0; p * ORACLE_PAGE < size; p++)
		oracle_fill(bytes + (size_t)p * ORACLE_PAGE, p, s.pages[p]);
	told_begin(t, file, &s);
	return origin_publish(t->origin, rid, bytes, size, t->tag);
}

int told_origin(struct told *t, unsigned file, uint32_t size)
{
	const struct remote_record *r = told_publish(t, file, size, t->files[file].name);
	struct remote_report report;
	char cursor[16];

	snprintf(cursor, sizeof(cursor), "%u", t->tag);
	TRY(remote_apply(t->v, t->store, r, 1, cursor, true, &report));
	told_end(t, file);
	return 0;
}

int told_send(struct told *t)
{
	struct outbox_counts c;

	do {
		int r = origin_take(t->origin, t->v, 16);

		t->wrong = t->wrong || r == -1;
		TRY(r);
		TRY(outbox_counts(t->v, &c));
	} while (c.queued + c.inflight);
	return 0;
}

int told_gone(struct told *t, unsigned file)
{
	struct state gone = { .absent = true };
	int r;

	told_begin(t, file, &gone);
	r = tree_unlink(t->v, t->root, t->files[file].name);
	if (r && r != -ENOENT)
		return told_failed(t, r, "told_gone");
	told_end(t, file);
	return 0;
}

int told_move(struct told *t, unsigned from, unsigned to)
{
	struct state moved = t->files[from].may[t->files[from].n - 1], gone = { .absent = true };
	struct tree_attr a;
	int r = told_find(t, t->files[from].name, &a);

	if (r == -ENOENT) /* it was done, and the answer an error */
		return 0;
	TRY(r);
	told_begin(t, to, &moved);
	told_begin(t, from, &gone);
	TRY(tree_rename(t->v, t->root, t->files[from].name, t->root, t->files[to].name, 0));
	told_end(t, to);
	told_end(t, from);
	return 0;
}

/* --- what they are --- */

static bool bytes_are_zero(const uint8_t *p, size_t len)
{
	return !len || (!*p && !memcmp(p, p + 1, len - 1));
}

/* The page of that state, or (cut off at a size of another) its beginning and zeros. */
static bool page_is(const struct told_file *f, const uint8_t *bytes, size_t len, unsigned page,
	const struct state *s)
{
	uint8_t want[ORACLE_PAGE];

	oracle_fill(want, page, s->pages[page]);
	for (unsigned i = 0; i <= f->n; i++) {
		size_t size = i < f->n ? f->may[i].size : SIZE_MAX, at = page * (size_t)ORACLE_PAGE;
		size_t cut = size > at ? MIN_OF(size - at, len) : 0;

		if (!memcmp(want, bytes, cut) && bytes_are_zero(bytes + cut, len - cut))
			return true;
	}
	return false;
}

/* Each page from any of the states, or the zeros before it was written; a write that was refused
 * may have taken some chunks. */
static bool mixture_is(const struct told_file *f, const uint8_t *bytes, size_t size)
{
	bool sized = size % (UINT32_C(1) << BLOB_SHIFT_LARGE) == 0;

	for (unsigned i = 0; i < f->n; i++)
		sized = sized || (!f->may[i].absent && f->may[i].size == size);
	for (unsigned p = 0; p * (size_t)ORACLE_PAGE < size; p++) {
		size_t at = p * (size_t)ORACLE_PAGE, len = MIN_OF(size - at, (size_t)ORACLE_PAGE);
		bool found = bytes_are_zero(bytes + at, len);

		for (unsigned i = 0; i < f->n && !found; i++)
			found = page_is(f, bytes + at, len, p, &f->may[i]);
		if (!found)
			return false;
	}
	return sized;
}

static bool allowed(const struct told_file *f, const uint8_t *bytes, size_t size)
{
	for (unsigned i = 0; i < f->n; i++)
		if (oracle_is(&f->may[i], bytes, size))
			return true;
	return f->split && mixture_is(f, bytes, size);
}

static bool read_whole(struct told *t, const struct tree_attr *a, uint8_t *out, size_t *size)
{
	struct file *f = NULL;
	int r = file_open(t->v, a->object, a->version, false, &f);

	/* A chunk that was damaged is found by reading, and fetched again. */
	for (int tries = 0; !r && tries < 2; tries++) {
		r = origin_fill(t->origin, f);
		if (!r)
			r = file_read(f, out, ORACLE_BYTES, 0, size);
		if (r != CE_ABSENT || tries)
			break;
		r = 0;
	}
	if (f)
		file_unref(f, false);
	if (r)
		fprintf(stderr, "reading: %s\n", error_text(r));
	return !r;
}

static bool one_holds(struct told *t, const struct told_file *f)
{
	static uint8_t bytes[ORACLE_BYTES];
	struct tree_attr a;
	size_t size = 0;
	int r = told_find(t, f->name, &a);

	if (r == -ENOENT) {
		for (unsigned i = 0; i < f->n; i++)
			if (f->may[i].absent)
				return true;
		fprintf(stderr, "%s is not there\n", f->name);
		return false;
	}
	if (!r && read_whole(t, &a, bytes, &size) && allowed(f, bytes, size))
		return true;
	fprintf(stderr, "%s is none of its %u states: %s, size %zu\n", f->name, f->n,
		r ? error_text(r) : "there", size);
	for (unsigned i = 0; i < f->n; i++)
		fprintf(stderr, "  %s%u bytes, page %u\n", f->may[i].absent ? "absent " : "",
			f->may[i].size, f->may[i].pages[0]);
	return false;
}

bool told_holds(struct told *t)
{
	bool all = true;

	for (unsigned i = 0; i < TOLD_FILES; i++)
		if (t->files[i].n)
			all = one_holds(t, &t->files[i]) && all;
	return all;
}

/* --- what is on the disk --- */

static const struct told *looking;
static bool seen;

static void look(const char *path, const uint8_t *bytes, size_t len)
{
	seen = memmem(bytes, len, "canary-", 7); /* in all names */
	for (unsigned i = 0; i < TOLD_FILES; i++) {
		const struct told_file *f = &looking->files[i];

		for (unsigned k = 0; k < f->n && !f->may[k].absent && f->may[k].size; k++) {
			uint8_t page[ORACLE_PAGE];

			oracle_fill(page, 0, f->may[k].pages[0]);
			if (f->may[k].pages[0] && memmem(bytes, len, page + 64, CANARY))
				seen = true;
		}
	}
	if (seen)
		fprintf(stderr, "%s has a name or content in the clear\n", path);
}

static int look_at(const char *path, const struct stat *st, int type, struct FTW *at)
{
	int fd = type == FTW_F && st->st_size ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *bytes;

	if (fd < 0)
		return 0;
	bytes = mmap(NULL, (size_t)st->st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (bytes == MAP_FAILED)
		return 0;
	look(path, bytes, (size_t)st->st_size);
	munmap(bytes, (size_t)st->st_size);
	return seen;
}

bool told_sealed(struct told *t)
{
	looking = t;
	seen = false;
	nftw(t->dir, look_at, 16, FTW_PHYS);
	return !seen;
}
