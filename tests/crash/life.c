/*
 * A step notes what a subject may become, does it through the calls the mount uses, and notes its
 * end. Thread t has the files with numbers of its parity; thread 0 the attributes, the origin's
 * files, the sending, eviction and common syncs as well.
 */
#include "life.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/secret.h"
#include "cache/outbox.h"
#include "cache/remote.h"
#include "cache/space.h"
#include "cache/tree.h"
#include "meta/object.h"
#include "disk.h"
#include "record.h"

#define STORE "records"
#define XATTR "user.n"

struct run {
	const struct life *l;
	struct volume *v;
	uint64_t store, root, random[2];
	_Atomic uint32_t tag;
	struct state now[SUBJECTS];
};

static const struct tree_cred cred = { 1000, 1000 };

static void need_(int r, const char *what, int line)
{
	if (!r)
		return;
	fprintf(stderr, "line %d: %s: %s\n", line, what, error_text(r));
	_exit(1);
}
#define NEED(call) need_(call, #call, __LINE__)

static uint64_t roll(struct run *w, unsigned thread, uint64_t below)
{
	return disk_random(&w->random[thread]) % below;
}

static void name_of(unsigned subject, char out[static 16])
{
	char kind = subject < SUBJECT_XATTR ? 'f' : subject < SUBJECT_ORIGIN ? 'a' : 'r';

	snprintf(out, 16, "%s%c%u", kind == 'f' && subject >= 8 ? "d/" : "", kind, subject);
}

/* 0, -ENOENT or another error; *dir and *last where the name stands. */
static int locate(
	struct run *w, const char *path, uint64_t *dir, const char **last, struct tree_attr *a)
{
	struct tree_attr d;

	*dir = w->root;
	*last = path;
	if (!strncmp(path, "d/", 2)) {
		int r = tree_lookup(w->v, w->root, "d", &d);

		if (r)
			return r;
		*dir = d.object;
		*last = path + 2;
	}
	return tree_lookup(w->v, *dir, *last, a);
}

/* --- opening --- */

static int take_store(void *arg, const struct remote_store *s)
{
	*(bool *)arg = s->listed;
	return 0;
}

static void enter_store(struct run *w)
{
	struct remote_report report;
	struct tree_attr a;
	bool listed = false;

	NEED(remote_store_add(w->v, STORE, false, &w->store));
	NEED(remote_stores(w->v, take_store, &listed));
	if (!listed) {
		NEED(remote_listing_begin(w->v, w->store));
		NEED(remote_listing_end(w->v, w->store, false, &report));
	}
	NEED(tree_lookup(w->v, OBJECT_ROOT, STORE, &a));
	w->root = a.object;
}

static void note(const struct run *w, const struct note *n)
{
	if (w->l->note)
		record_note(n, sizeof(*n));
}

static int make(const char *dir, const char *source)
{
	const struct volume_create_options o = {
		.dir = dir, .key_source = source, .origin = "https://records.example/"
	};
	char *error = NULL;
	int r = volume_create(&o, &error);

	if (r)
		fprintf(stderr, "volume_create: %s\n", error ? error : "");
	free(error);
	return r;
}

static int enter(struct run *w)
{
	char dir[256], source[256], *error = NULL;
	struct volume_options o = { .uid = 1000, .gid = 1000, .host = "test" };
	struct note made = { .kind = NOTE_MADE };
	int r;

	snprintf(dir, sizeof(dir), "%s/volume", w->l->top);
	snprintf(source, sizeof(source), "file:%s/key", w->l->top);
	o.dir = dir;
	o.key_source = source;
	o.alg = w->l->seed % 2 ? AEAD_AES256GCM : AEAD_XCHACHA20POLY1305;
	r = volume_open(&o, &w->v, &error);
	if (r && !w->l->oracle->made) {
		free(error);
		error = NULL;
		NEED(make(dir, source));
		r = volume_open(&o, &w->v, &error);
	}
	if (r)
		fprintf(stderr, "volume_open: %s\n", error ? error : "");
	free(error);
	if (r)
		return r;
	note(w, &made);
	enter_store(w);
	return 0;
}

/* --- what is there --- */

/* The bytes of a file; CE_STALE: they are the origin's, and gone. */
static int read_file(
	struct run *w, const struct tree_attr *a, uint8_t out[static ORACLE_BYTES], size_t *size)
{
	struct file *f;
	int r = file_open(w->v, a->object, a->version, false, &f);

	*size = a->size;
	if (r)
		return r;
	r = origin_fill(w->l->origin, f);
	if (!r)
		r = file_read(f, out, ORACLE_BYTES, 0, size);
	file_unref(f, false);
	if (!r && *size != a->size)
		r = CE_CORRUPT;
	return r;
}

static int look_attr(struct run *w, unsigned subject, const struct tree_attr *a, struct state *out)
{
	char *value = NULL;
	size_t len = 0;
	int r;

	*out = (struct state){ .size = 4, .pages = { a->mode & 0777 } };
	if (subject >= SUBJECT_MODE)
		return 0;
	r = tree_getxattr(w->v, a->object, XATTR, (void **)&value, &len);
	if (r == -ENODATA) {
		*out = (struct state){ .absent = true };
		return 0;
	}
	if (!r)
		out->pages[0] = (uint32_t)strtoul(value, NULL, 10);
	free(value);
	return r;
}

static bool same(const struct state *a, const struct state *b)
{
	return a->absent == b->absent &&
	       (a->absent || (a->size == b->size && !memcmp(a->pages, b->pages, sizeof(a->pages))));
}

/* Which of the states allowed, the newest first; -1: none. */
static long match(struct run *w, unsigned subject, const struct state *allowed, size_t n,
	const struct tree_attr *a, int found, int *r)
{
	static uint8_t bytes[ORACLE_BYTES];
	bool is_file = subject < SUBJECT_XATTR || subject >= SUBJECT_ORIGIN;
	struct state have = { .absent = true };
	size_t size = 0;

	*r = 0;
	if (!found && is_file)
		*r = read_file(w, a, bytes, &size);
	else if (!found)
		*r = look_attr(w, subject, a, &have);
	for (size_t i = n; i-- && !*r;)
		if (is_file && !found ? oracle_is(&allowed[i], bytes, size)
				      : same(&allowed[i], &have))
			return (long)i;
	return -1;
}

static void tell(unsigned subject, const struct state *allowed, size_t n, const struct tree_attr *a,
	int found, int r)
{
	char name[16];

	name_of(subject, name);
	fprintf(stderr, "%s (subject %u) is none of its %zu states: %s, size %llu%s%s;", name,
		subject, n, found ? "absent" : "there", found ? 0 : (unsigned long long)a->size,
		r ? ", " : "", r ? error_text(r) : "");
	for (size_t i = n > 5 ? n - 5 : 0; i < n; i++)
		fprintf(stderr, " %s%u:%u", allowed[i].absent ? "absent " : "", allowed[i].size,
			allowed[i].pages[0]);
	fprintf(stderr, "\n");
}

/* 1: not as it must be. */
static int check_subject(struct run *w, unsigned subject)
{
	struct note n = { .kind = NOTE_FOUND, .subject = (uint8_t)subject, .n = 1 };
	const struct state *allowed;
	size_t count = oracle_allowed(w->l->oracle, subject, w->l->power, &allowed);
	struct tree_attr a = { 0 };
	const char *last;
	uint64_t dir;
	char name[16];
	int found, r;
	long i;

	name_of(subject, name);
	found = locate(w, name, &dir, &last, &a);
	if (found && found != -ENOENT) {
		fprintf(stderr, "%s: %s\n", name, error_text(found));
		return 1;
	}
	i = match(w, subject, allowed, count, &a, found, &r);
	if (i < 0) {
		tell(subject, allowed, count, &a, found, r);
		return 1;
	}
	n.states[0] = w->now[subject] = allowed[i];
	note(w, &n);
	return 0;
}

static bool is_at_its_last(struct run *w, unsigned i)
{
	const struct oracle *o = w->l->oracle;

	return same(&w->now[i], &o->subjects[i].states[o->subjects[i].n - 1]);
}

/* A rename happened, or it did not. */
static int check_moves(struct run *w)
{
	const struct oracle *o = w->l->oracle;
	int bad = 0;

	for (unsigned i = 0; i < SUBJECTS && !w->l->power; i++) {
		int to = o->subjects[i].moving_to, with = o->subjects[i].swapping_with;

		if (!o->subjects[i].begun)
			continue;
		if ((to >= 0 && w->now[i].absent != is_at_its_last(w, (unsigned)to)) ||
			(with >= 0 && is_at_its_last(w, i) != is_at_its_last(w, (unsigned)with))) {
			fprintf(stderr, "subject %u moved half to %d\n", i, to >= 0 ? to : with);
			bad++;
		}
	}
	return bad;
}

/* 1: something was taken for tampering. Neither kill nor power cut leaves a chunk that does not
 * open in a file, not even in one that the origin has. */
static int check_status(struct run *w, int bad)
{
	struct volume_status s;

	NEED(volume_status(w->v, &s));
	if (bad || s.damaged)
		fprintf(stderr,
			"unclean %d, rolled back %llu, damaged %llu, log of the index damaged %d, "
			"index lost %d\n",
			s.unclean, (unsigned long long)s.rolled_back, (unsigned long long)s.damaged,
			s.wal_damaged, s.index_lost);
	return s.damaged != 0;
}

static int check_all(struct run *w)
{
	int bad = 0;

	for (unsigned i = 0; i < SUBJECTS; i++)
		bad += check_subject(w, i);
	bad = bad ? bad : check_moves(w);
	NEED(origin_look(w->v));
	return bad + check_status(w, bad);
}

/* --- steps --- */

static void begin(struct run *w, uint8_t kind, unsigned subject, unsigned other,
	const struct state *first, const struct state *last)
{
	struct note n = { .kind = kind, .subject = (uint8_t)subject, .other = (uint8_t)other };

	if (first)
		n.states[n.n++] = *first;
	n.states[n.n++] = *last;
	note(w, &n);
}

static void end(
	struct run *w, unsigned subject, unsigned other, bool durable, const struct state *is)
{
	struct note n = { .kind = NOTE_END,
		.subject = (uint8_t)subject,
		.other = (uint8_t)other,
		.durable = durable };

	note(w, &n);
	w->now[subject] = *is;
}

static uint32_t random_size(struct run *w, unsigned t)
{
	static const uint32_t sizes[] = { 5, 700, 4096, 9000, 65536, 70000, ORACLE_BYTES };

	return sizes[roll(w, t, 7)];
}

static struct state new_state(struct run *w, uint32_t size)
{
	struct state s = { .size = size };
	uint32_t tag = ++w->tag;

	for (unsigned p = 0; p * ORACLE_PAGE < s.size; p++)
		s.pages[p] = tag;
	return s;
}

static struct file *open_file(struct run *w, const char *path, bool create)
{
	struct tree_attr a;
	struct file *f;
	const char *last;
	uint64_t dir;
	int r = locate(w, path, &dir, &last, &a);

	if (r == -ENOENT && create)
		r = tree_mknod(w->v, dir, last, S_IFREG | 0644, 0, &cred, &a);
	NEED(r);
	NEED(file_open(w->v, a.object, a.version, true, &f));
	NEED(origin_fill(w->l->origin, f));
	return f;
}

/* Pages [from, to) as the state has them. */
static void write_pages(struct file *f, const struct state *s, unsigned from, unsigned to)
{
	uint8_t page[ORACLE_PAGE];

	for (unsigned p = from; p < to; p++) {
		size_t at = p * (size_t)ORACLE_PAGE, len = s->size - at;

		oracle_fill(page, p, s->pages[p]);
		NEED(file_write(f, page, len < ORACLE_PAGE ? len : ORACLE_PAGE, at));
	}
}

static unsigned pages_of(const struct state *s)
{
	return (s->size + ORACLE_PAGE - 1) / ORACLE_PAGE;
}

static void finish(struct file *f, bool sync)
{
	if (sync)
		NEED(file_sync(f));
	else
		NEED(file_commit(f));
	file_unref(f, true);
}

static void step_put(struct run *w, unsigned i, const char *path, uint32_t size, bool sync)
{
	struct state s = new_state(w, size), empty = { .size = 0 };
	struct file *f;

	begin(w, NOTE_BEGIN, i, SUBJECTS, &empty, &s);
	f = open_file(w, path, true);
	NEED(file_truncate(f, 0));
	write_pages(f, &s, 0, pages_of(&s));
	finish(f, sync);
	end(w, i, SUBJECTS, sync, &s);
}

/* As an editor saves: a file beside it, synced or not, renamed over it. Where nothing is replaced,
 * what was not synced may be empty after a power cut. */
static void step_save(struct run *w, unsigned i, const char *path, uint32_t size, bool sync)
{
	struct state s = new_state(w, size), empty = { .size = 0 };
	struct tree_attr a;
	const char *last;
	char tmp[16];
	uint64_t dir;
	struct file *f;

	snprintf(tmp, sizeof(tmp), "t%u", i);
	begin(w, NOTE_BEGIN, i, SUBJECTS, w->now[i].absent && !sync ? &empty : NULL, &s);
	if (!locate(w, tmp, &dir, &last, &a)) /* left by a kill */
		NEED(tree_unlink(w->v, dir, last));
	f = open_file(w, tmp, true);
	write_pages(f, &s, 0, pages_of(&s));
	finish(f, sync);
	(void)!locate(w, path, &dir, &last, &a);
	NEED(tree_rename(w->v, w->root, tmp, dir, last, 0));
	if (sync)
		NEED(volume_sync(w->v));
	end(w, i, SUBJECTS, sync, &s);
}

/* A range overwritten, punched out or cut off, or more at the end. */
static void step_change(struct run *w, unsigned t, unsigned i, const char *path)
{
	struct state s = w->now[i];
	unsigned n = pages_of(&s), from = (unsigned)roll(w, t, n), what = (unsigned)roll(w, t, 5);
	unsigned to = from + 1 + (unsigned)roll(w, t, n - from);
	bool sync = !roll(w, t, 3);
	uint32_t tag = what == 3 ? 0 : ++w->tag;
	struct file *f;

	if (what == 2) { /* from the last page on */
		from = n - 1;
		to = n + (unsigned)roll(w, t, ORACLE_PAGES - n + 1);
		s.size = to > n ? to * ORACLE_PAGE - (uint32_t)roll(w, t, 2) * 1000 : s.size;
	}
	if (what == 4) {
		s.size = (uint32_t)roll(w, t, s.size);
		for (unsigned p = pages_of(&s); p < ORACLE_PAGES; p++)
			s.pages[p] = 0;
	}
	for (unsigned p = from; p < to && what < 4; p++)
		s.pages[p] = tag;
	begin(w, NOTE_BEGIN, i, SUBJECTS, NULL, &s);
	f = open_file(w, path, false);
	if (what == 4)
		NEED(file_truncate(f, s.size));
	else if (what == 3)
		NEED(file_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			from * (uint64_t)ORACLE_PAGE, (to - from) * (uint64_t)ORACLE_PAGE));
	else
		write_pages(f, &s, from, to);
	finish(f, sync);
	end(w, i, SUBJECTS, sync, &s);
}

static void step_over(struct run *w, unsigned i, const char *path, unsigned pages, bool sync)
{
	struct state s = w->now[i];
	uint32_t tag = ++w->tag;
	struct file *f;

	for (unsigned p = 0; p < pages; p++)
		s.pages[p] = tag;
	begin(w, NOTE_BEGIN, i, SUBJECTS, NULL, &s);
	f = open_file(w, path, false);
	write_pages(f, &s, 0, pages);
	finish(f, sync);
	end(w, i, SUBJECTS, sync, &s);
}

static void step_move(struct run *w, unsigned i, const char *path, unsigned to)
{
	struct state moved = w->now[i], absent = { .absent = true };
	const char *last, *new_last;
	struct tree_attr a;
	uint64_t dir, new_dir;
	char new_path[16];

	if (to == i)
		return;
	name_of(to, new_path);
	begin(w, NOTE_MOVE, to, i, NULL, &moved);
	NEED(locate(w, path, &dir, &last, &a));
	(void)!locate(w, new_path, &new_dir, &new_last, &a);
	NEED(tree_rename(w->v, dir, last, new_dir, new_last, 0));
	end(w, to, i, false, &moved);
	w->now[i] = absent;
}

static void step_swap(struct run *w, unsigned i, unsigned with)
{
	struct note n = {
		.kind = NOTE_SWAP, .subject = (uint8_t)i, .other = (uint8_t)with, .n = 2
	};
	const char *last, *other_last;
	uint64_t dir, other_dir;
	char path[16], other[16];
	struct tree_attr a;

	name_of(i, path);
	name_of(with, other);
	n.states[0] = w->now[with];
	n.states[1] = w->now[i];
	note(w, &n);
	NEED(locate(w, path, &dir, &last, &a));
	NEED(locate(w, other, &other_dir, &other_last, &a));
	NEED(tree_rename(w->v, dir, last, other_dir, other_last, RENAME_EXCHANGE));
	end(w, i, with, false, &n.states[0]);
	w->now[with] = n.states[1];
}

static void step_remove(struct run *w, unsigned i, const char *path)
{
	struct state absent = { .absent = true };
	struct tree_attr a;
	const char *last;
	uint64_t dir;

	begin(w, NOTE_BEGIN, i, SUBJECTS, NULL, &absent);
	NEED(locate(w, path, &dir, &last, &a));
	NEED(tree_unlink(w->v, dir, last));
	end(w, i, SUBJECTS, false, &absent);
}

static void step_file(struct run *w, unsigned t)
{
	unsigned i = (unsigned)roll(w, t, SUBJECT_XATTR / 2) * 2 + t,
		 what = (unsigned)roll(w, t, 100);
	char path[16];

	name_of(i, path);
	if (what < 35)
		step_put(w, i, path, random_size(w, t), !roll(w, t, 3));
	else if (what < 55)
		step_save(w, i, path, random_size(w, t), roll(w, t, 3));
	else if (w->now[i].absent)
		return;
	else if (what < 82 && w->now[i].size)
		step_change(w, t, i, path);
	else if (what < 92)
		step_move(w, i, path, (unsigned)roll(w, t, SUBJECT_XATTR / 2) * 2 + t);
	else
		step_remove(w, i, path);
}

/* An attribute of a file that stays. */
static void step_attr(struct run *w)
{
	unsigned i = SUBJECT_XATTR + (unsigned)roll(w, 0, SUBJECT_ORIGIN - SUBJECT_XATTR);
	struct state s = { .size = 4, .pages = { ++w->tag } };
	struct tree_attr a, set = { 0 };
	const char *last;
	char path[16], value[16];
	uint64_t dir;

	if (i >= SUBJECT_MODE)
		s.pages[0] &= 0777;
	name_of(i, path);
	if (locate(w, path, &dir, &last, &a)) {
		struct state made = { .size = 4, .pages = { 0644 }, .absent = i < SUBJECT_MODE };

		begin(w, NOTE_BEGIN, i, SUBJECTS, NULL, &made);
		NEED(tree_mknod(w->v, dir, last, S_IFREG | 0644, 0, &cred, &a));
		end(w, i, SUBJECTS, false, &made);
	}
	begin(w, NOTE_BEGIN, i, SUBJECTS, NULL, &s);
	set.mode = s.pages[0];
	snprintf(value, sizeof(value), "%u", s.pages[0]);
	if (i >= SUBJECT_MODE)
		NEED(tree_setattr(w->v, a.object, a.version, &set, TREE_SET_MODE, &a));
	else
		NEED(tree_setxattr(w->v, a.object, XATTR, value, strlen(value) + 1, 0));
	end(w, i, SUBJECTS, false, &s);
}

static void step_origin(struct run *w, unsigned i, uint32_t size, bool fetch)
{
	struct state s = new_state(w, size);
	uint8_t bytes[ORACLE_BYTES];
	struct tree_attr a;
	const char *last;
	char rid[16];
	uint64_t dir;
	size_t got;

	name_of(i, rid);
	for (unsigned p = 0; p < pages_of(&s); p++)
		oracle_fill(bytes + p * (size_t)ORACLE_PAGE, p, s.pages[p]);
	begin(w, NOTE_BEGIN, i, SUBJECTS, NULL, &s);
	NEED(origin_change(w->l->origin, w->v, w->store, rid, bytes, s.size, s.pages[0]));
	end(w, i, SUBJECTS, false, &s);
	if (!locate(w, rid, &dir, &last, &a) && fetch)
		NEED(read_file(w, &a, bytes, &got));
}

static void step_sync(struct run *w)
{
	struct note n = { .kind = NOTE_SYNC };

	note(w, &n);
	NEED(volume_sync(w->v));
	n.kind = NOTE_SYNCED;
	note(w, &n);
}

static void step_send(struct run *w, size_t most)
{
	int r = origin_take(w->l->origin, w->v, most);

	if (r == -1)
		_exit(1);
	NEED(r);
}

static void begin_sending(struct run *w)
{
	struct outbox_op ops[16];
	uint64_t wait;
	size_t n = 0;

	NEED(outbox_next(w->v, clock_wall_ns() / NS_PER_MS, 0, ops, ARRAY_SIZE(ops), &n, &wait));
	NEED(outbox_begin(w->v, ops, n));
	for (size_t i = 0; i < n; i++)
		outbox_op_done(&ops[i]);
}

static void step_other(struct run *w)
{
	bool online = w->l->online && origin_has_room(w->l->origin);
	unsigned what = (unsigned)roll(w, 0, 10);
	uint64_t freed;

	if (what < 3)
		step_attr(w);
	else if (what < 4)
		step_sync(w);
	else if (what < 6 && online)
		step_origin(w, SUBJECT_ORIGIN + (unsigned)roll(w, 0, SUBJECTS - SUBJECT_ORIGIN),
			random_size(w, 0), roll(w, 0, 2));
	else if (what < 8 && online)
		step_send(w, 1 + roll(w, 0, 8));
	else if (what < 9 && online)
		begin_sending(w);
	else
		NEED(space_evict(w->v, roll(w, 0, 4) << 20, &freed));
}

/* --- a script --- */

static void script_step(struct run *w, const char *word, unsigned i, unsigned n)
{
	size_t len = strlen(word);
	bool sync = len && word[len - 1] == 's';
	char path[16];

	name_of(i, path);
	if (!strcmp(word, "put") || !strcmp(word, "puts"))
		step_put(w, i, path, n, sync);
	else if (!strcmp(word, "over") || !strcmp(word, "overs"))
		step_over(w, i, path, n, sync);
	else if (!strcmp(word, "save"))
		step_save(w, i, path, n, false);
	else if (!strcmp(word, "move"))
		step_move(w, i, path, n);
	else if (!strcmp(word, "remove"))
		step_remove(w, i, path);
	else if (!strcmp(word, "origin"))
		step_origin(w, i, n, true);
	else if (!strcmp(word, "send"))
		step_send(w, 16);
	else if (!strcmp(word, "begin"))
		begin_sending(w);
	else if (!strcmp(word, "sync"))
		step_sync(w);
	else
		abort();
}

/* Changed here once the origin has made it: then it is not changed there any more. */
#define SUBJECT_TAKEN (SUBJECT_ORIGIN + 1)

/* Few files, so that what is done to one meets what was done to it before. */
static void draw_word(struct run *w)
{
	unsigned i = roll(w, 0, 8) ? (unsigned)roll(w, 0, 3) : SUBJECT_TAKEN;
	unsigned to = (unsigned)roll(w, 0, 3), what = (unsigned)roll(w, 0, 15);
	bool own = i < SUBJECT_ORIGIN, is = !w->now[i].absent, sync = roll(w, 0, 2);
	uint64_t freed;
	char path[16];

	name_of(i, path);
	if (what < 3 && own)
		step_put(w, i, path, random_size(w, 0), sync);
	else if (what < 5 && own)
		step_save(w, i, path, random_size(w, 0), !roll(w, 0, 4));
	else if (what < 7 && is && w->now[i].size)
		step_change(w, 0, i, path);
	else if (what < 8 && own && is && !w->l->online && to != i && !w->now[to].absent)
		step_swap(w, i, to); /* the model of an origin knows no exchange */
	else if (what < 8 && own && is)
		step_move(w, i, path, to);
	else if (what < 9 && own && is)
		step_remove(w, i, path);
	else if (what < 11)
		begin_sending(w);
	else if (what < 12 && w->l->online)
		step_send(w, 1 + roll(w, 0, 16));
	else if (what < 13 && w->l->online && origin_has_room(w->l->origin))
		step_origin(w, w->now[SUBJECT_TAKEN].absent ? SUBJECT_TAKEN : SUBJECT_ORIGIN,
			random_size(w, 0), sync);
	else if (what < 14 && w->l->online)
		NEED(space_evict(w->v, roll(w, 0, 4) << 20, &freed));
	else if (!roll(w, 0, 3))
		step_sync(w);
}

_Noreturn static void play_words(struct run *w)
{
	for (unsigned i = 0; i < w->l->words; i++)
		draw_word(w);
	record_die();
}

_Noreturn static void play(struct run *w)
{
	const char *at = w->l->script;
	char word[16];
	unsigned i, n;
	int len;

	for (; sscanf(at, " %15[a-z]%n", word, &len) == 1; at += len) {
		at += len;
		i = n = 0;
		len = 0;
		(void)!sscanf(at, " %u%n %u%n", &i, &len, &n, &len);
		script_step(w, word, i, n);
	}
	record_die();
}

static void *work(void *arg)
{
	struct run *w = arg;

	for (unsigned i = 0; i < w->l->steps; i++)
		step_file(w, 1);
	return NULL;
}

_Noreturn void life_lead(const struct life *l)
{
	struct run w = { .l = l, .random = { l->seed, l->seed + 1 } };
	struct tree_attr a;
	pthread_t other;

	secret_allow_unlocked();
	w.tag = (uint32_t)(l->seed << 16 & 0x7fff0000);
	if (enter(&w) || check_all(&w))
		_exit(1);
	if (tree_lookup(w.v, w.root, "d", &a))
		NEED(tree_mkdir(w.v, w.root, "d", 0755, &cred, &a));
	if (l->script)
		play(&w);
	if (l->words)
		play_words(&w);
	if (pthread_create(&other, NULL, work, &w))
		_exit(1);
	for (unsigned i = 0; i < l->steps; i++) {
		if (roll(&w, 0, 4))
			step_file(&w, 0);
		else
			step_other(&w);
	}
	pthread_join(other, NULL);
	volume_close(w.v);
	_exit(0);
}

int life_check(const struct life *l)
{
	struct run w = { .l = l };
	int bad;

	secret_allow_unlocked();
	if (enter(&w))
		return 1;
	bad = check_all(&w);
	volume_close(w.v);
	return bad;
}
