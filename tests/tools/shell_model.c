#include "shell_model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/array.h"
#include "base/error.h"
#include "cache/file.h"
#include "cache/space.h"
#include "cache/tree.h"
#include "cache/volume_priv.h"
#include "cache/walk.h"

#define DEADLINE_MS 10000
#define EXCHANGE 2
#define CONTENT_MAX (4u << 20)

static struct volume *v;
static struct sync *s;
static uint8_t buf[CONTENT_MAX + 1];

static int place(const char *path, uint64_t *parent, const char **name)
{
	char dir[4096];
	struct tree_attr a;
	const char *slash = strrchr(path, '/');
	int r;

	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) : 0, path);
	r = tree_resolve(v, dir, &a);
	if (r)
		return r;
	*parent = a.object;
	*name = slash ? slash + 1 : path;
	return 0;
}

/* One word of a content as it must be; "TORN" of any other. A JSON text is its own word. */
static const char *word_of(size_t len)
{
	size_t word;

	buf[len] = 0;
	if (*buf == '{')
		return strpbrk((char *)buf, "\t\r\n") ? "TORN" : (char *)buf;
	word = strcspn((char *)buf, ";");
	for (size_t i = 0; i < len; i++)
		if (buf[i] != (i % (word + 1) == word ? ';' : buf[i % (word + 1)]))
			return "TORN";
	buf[word] = 0;
	return (char *)buf;
}

static int read_word(struct file *f, const char **word)
{
	size_t got = 0;
	int r = file_read(f, buf, CONTENT_MAX, 0, &got);

	if (!r)
		*word = word_of(got);
	return r;
}

/* What is lost when the file goes: `text` has room for a word or an ETag. */
static int destroyed(struct file *f, char *text, size_t size)
{
	struct file_range range;
	const char *word;
	int r = read_word(f, &word);

	if (!r)
		snprintf(text, size, "=%s", word);
	if (r != CE_ABSENT)
		return r;
	r = file_missing(f, 0, UINT64_MAX, UINT64_MAX, &range);
	if (!r)
		snprintf(text, size, "@%s", range.etag);
	return r;
}

/* What is looked at stays, as what a kernel knows, until it is known whether that went. */
struct look {
	uint64_t object, version;
};

static atomic_uint_fast64_t looked_at;

static bool is_looked_at(void *arg, uint64_t object, bool unlinked)
{
	return object == atomic_load(&looked_at);
}

/* Of what has other names nothing is lost. */
static int destroyed_at(const char *path, char *text, size_t size, struct look *seen)
{
	struct tree_attr a;
	struct file *f;
	int r = tree_resolve(v, path, &a);

	snprintf(text, size, "-");
	if (r || !S_ISREG(a.mode) || a.nlink > 1)
		return r;
	r = file_open(v, a.object, a.version, false, &f);
	if (r)
		return r;
	*seen = (struct look){ a.object, a.version };
	atomic_store(&looked_at, a.object);
	r = destroyed(f, text, size);
	file_unref(f, false);
	return r;
}

/* Between the look and the change a conflict may have put another file under the name, or the feed
 * another content into it: then the file that was looked at is not the one that is gone, or not in
 * that version. */
static void still_so(const struct look *seen, char *text, size_t size)
{
	struct object_row o = { .nlink = 1 };

	if (!seen->object)
		return;
	db_read(v->db);
	if (object_get(v->db, seen->object, &o) || o.version != seen->version || o.nlink)
		snprintf(text, size, "?");
	db_unlock(v->db);
	atomic_store(&looked_at, 0);
	tree_dropped(v, seen->object);
}

static int fill(struct file *f, const char *word, size_t bytes)
{
	size_t len = strlen(word) + 1;

	for (size_t i = 0; i < bytes; i++)
		buf[i] = (uint8_t)(i % len == len - 1 ? ';' : word[i % len]);
	return bytes ? file_write(f, buf, bytes, 0) : 0;
}

/* The file under `path`, open for writing. */
static int open_writer(const char *path, bool make, struct file **f, bool *fresh)
{
	const struct tree_cred cred = { getuid(), getgid() };
	struct tree_attr a;
	const char *name;
	uint64_t parent;
	int r = place(path, &parent, &name);

	if (r)
		return r;
	r = make ? tree_mknod(v, parent, name, S_IFREG | 0644, 0, &cred, &a) : -EEXIST;
	*fresh = !r;
	if (r == -EEXIST)
		r = tree_lookup(v, parent, name, &a);
	if (!r)
		r = S_ISREG(a.mode) ? file_open(v, a.object, a.version, true, f) : -EISDIR;
	return r;
}

static int do_write(const char *path, const char *word, size_t bytes, char *text, size_t size)
{
	struct file *f;
	bool fresh;
	int r = open_writer(path, true, &f, &fresh);

	if (r)
		return r;
	r = fresh ? 0 : destroyed(f, text, size);
	if (!r)
		r = file_truncate(f, 0);
	if (!r)
		r = fill(f, word, bytes);
	if (!r)
		r = file_commit(f);
	file_unref(f, true);
	return r;
}

/* All of it is here and its word read. */
static int complete(struct file *f, const char **word)
{
	int r = read_word(f, word);

	if (r == CE_ABSENT)
		r = sync_fetch(s, f, 0, UINT64_MAX, DEADLINE_MS, NULL);
	return r ? r : read_word(f, word);
}

/* {"a":"w1","b":"w2"}: `field` becomes `word`; what it was goes to `text`. */
static int json_with(
	const char *old, const char *field, const char *word, char *out, char *text, size_t size)
{
	const char *at, *end;
	char name[64];

	if (*old && *old != '{')
		return -EINVAL;
	snprintf(name, sizeof(name), "\"%s\":\"", field);
	at = strstr(old, name);
	if (!at) {
		snprintf(out, size, "%.*s%s%s%s\"}", *old ? (int)strlen(old) - 1 : 0, old,
			*old ? "," : "{", name, word);
		return 0;
	}
	at += strlen(name);
	end = strchrnul(at, '"');
	snprintf(text, size, "=%.*s", (int)(end - at), at);
	snprintf(out, size, "%.*s%s%s", (int)(at - old), old, word, end);
	return 0;
}

static int do_jset(const char *path, const char *field, const char *word, char *text, size_t size)
{
	char made[4096];
	const char *old = "";
	struct file *f;
	bool fresh;
	int r = open_writer(path, true, &f, &fresh);

	if (r)
		return r;
	if (!fresh)
		r = complete(f, &old);
	if (!r)
		r = json_with(old, field, word, made, text, MIN_OF(size, sizeof(made)));
	if (!r)
		r = file_truncate(f, 0);
	if (!r)
		r = file_write(f, made, strlen(made), 0);
	if (!r)
		r = file_commit(f);
	file_unref(f, true);
	return r;
}

/* Shorter, the same word. */
static int do_trim(const char *path, size_t bytes, char *text, size_t size)
{
	const char *word;
	struct file *f;
	bool fresh;
	int r = open_writer(path, false, &f, &fresh);

	if (r)
		return r;
	r = complete(f, &word);
	if (!r && (*word == '{' || file_size(f) <= bytes))
		r = -EINVAL;
	if (!r) {
		snprintf(text, size, "%.64s", word);
		r = file_truncate(f, bytes);
	}
	if (!r)
		r = file_commit(f);
	file_unref(f, true);
	return r;
}

/* A part is read and only what it needs fetched; its word. */
static int do_peek(const char *path, uint64_t off, size_t len, char *text, size_t size)
{
	struct tree_attr a;
	const char *word, *at, *end;
	struct file *f;
	size_t got = 0;
	int r = tree_resolve(v, path, &a);

	if (r || !S_ISREG(a.mode))
		return r ? r : -EISDIR;
	r = file_open(v, a.object, a.version, false, &f);
	if (r)
		return r;
	len = MIN_OF(len, CONTENT_MAX);
	r = file_read(f, buf, len, off, &got);
	if (r == CE_ABSENT)
		r = sync_fetch(s, f, off, len, DEADLINE_MS, NULL);
	if (!r)
		r = file_read(f, buf, len, off, &got);
	file_unref(f, false);
	if (r)
		return r;
	at = memchr(buf, ';', got);
	end = at ? memchr(at + 1, ';', got - (size_t)(at + 1 - (char *)buf)) : NULL;
	if (*buf == '{' || !end)
		return 0;
	/* From a word's start on it is as a whole file must be. */
	got -= (size_t)(at + 1 - (char *)buf);
	memmove(buf, at + 1, got);
	word = word_of(got);
	snprintf(text, size, "%.64s", word);
	return 0;
}

static int evict_one(void *arg, const struct walk_file *f)
{
	uint64_t bytes = 0;
	int r = space_drop(v, f->object, &bytes);

	return r == -EBUSY || r == -ENOENT ? 0 : r;
}

/* Nothing stays here that the server can give again. */
static int do_evict(const char *pattern)
{
	int r = volume_sync(v);

	if (!r)
		r = walk_pattern(v, pattern, evict_one, NULL, NULL);
	return r ? r : space_dropped(v);
}

static int do_unlink(const char *path, char *text, size_t size)
{
	const char *name;
	struct look seen = { .object = 0 };
	uint64_t parent;
	int r = destroyed_at(path, text, size, &seen);

	if (!r)
		r = place(path, &parent, &name);
	if (!r)
		r = tree_unlink(v, parent, name);
	still_so(&seen, text, size);
	return r;
}

static int do_rename(const char *from, const char *to, unsigned flags, char *text, size_t size)
{
	const char *a_name, *b_name;
	struct look seen = { .object = 0 };
	struct tree_attr x, y;
	uint64_t a, b;
	int r = place(from, &a, &a_name);

	if (!r)
		r = place(to, &b, &b_name);
	if (!r)
		r = tree_resolve(v, from, &x);
	if (!r && !flags && !tree_resolve(v, to, &y) && x.object != y.object)
		r = destroyed_at(to, text, size, &seen);
	if (!r)
		r = tree_rename(v, a, a_name, b, b_name, flags);
	still_so(&seen, text, size);
	return r;
}

/* A link is a record of its own and needs the content. */
static int do_link(const char *from, const char *to)
{
	struct tree_attr a, made;
	struct file *f;
	const char *name;
	uint64_t parent;
	int r = tree_resolve(v, from, &a);

	if (!r)
		r = place(to, &parent, &name);
	if (!r)
		r = tree_link(v, a.object, parent, name, &made);
	if (r != CE_ABSENT)
		return r;
	r = file_open(v, a.object, a.version, false, &f);
	if (r)
		return r;
	r = sync_fetch(s, f, 0, UINT64_MAX, DEADLINE_MS, NULL);
	file_unref(f, false);
	return r ? r : tree_link(v, a.object, parent, name, &made);
}

static int do_chmod(const char *path, unsigned mode)
{
	struct tree_attr a, set = { .mode = mode };
	int r = tree_resolve(v, path, &a);

	if (!r && S_ISLNK(a.mode))
		r = -EINVAL;
	return r ? r : tree_setattr(v, a.object, a.version, &set, TREE_SET_MODE, &a);
}

/* --- the whole tree --- */

struct entries {
	struct {
		char name[256];
		struct tree_attr a;
	} * e;
	size_t n;
};

static int add_entry(void *arg, const char *name, uint64_t cookie, const struct tree_attr *a)
{
	struct entries *all = arg;
	void *bigger = reallocarray(all->e, all->n + 1, sizeof(*all->e));

	if (!bigger)
		return -ENOMEM;
	all->e = bigger;
	snprintf(all->e[all->n].name, sizeof(all->e->name), "%s", name);
	all->e[all->n++].a = *a;
	return 0;
}

static int content(const struct tree_attr *a, char *text, size_t size)
{
	_cleanup_free_ char *target = NULL;
	const char *word = "-";
	struct file *f;
	int r;

	if (S_ISLNK(a->mode)) {
		r = tree_readlink(v, a->object, &target);
		snprintf(text, size, "%s", target ? target : "?");
		return r;
	}
	r = file_open(v, a->object, a->version, false, &f);
	if (r)
		return r;
	r = read_word(f, &word);
	for (int i = 0; r == CE_ABSENT && i < 3; i++) {
		r = sync_fetch(s, f, 0, a->size, DEADLINE_MS, NULL);
		if (!r)
			r = read_word(f, &word);
	}
	snprintf(text, size, "%s", r ? error_text(r) : *word ? word : "-");
	file_unref(f, false);
	return 0;
}

static int walk(uint64_t dir, const char *prefix)
{
	struct entries all = { 0 };
	char path[4096], text[4096] = "-";
	int r = tree_readdir(v, dir, 0, add_entry, &all);

	for (size_t i = 0; !r && i < all.n; i++) {
		const struct tree_attr *a = &all.e[i].a;

		snprintf(path, sizeof(path), "%s%s", prefix, all.e[i].name);
		snprintf(text, sizeof(text), "-");
		if (!S_ISDIR(a->mode))
			r = content(a, text, sizeof(text));
		printf("\t%s\t%s\t%o\t%s", path,
			S_ISDIR(a->mode)   ? "dir"
			: S_ISLNK(a->mode) ? "symlink"
					   : "file",
			S_ISLNK(a->mode) ? 0 : a->mode & 07777, text);
		if (!r && S_ISDIR(a->mode)) {
			strncat(path, "/", sizeof(path) - strlen(path) - 1);
			r = walk(a->object, path);
		}
	}
	free(all.e);
	return r;
}

static int do_tree(const char *path)
{
	struct tree_attr a;
	int r = tree_resolve(v, path, &a);

	if (r) {
		printf("%d %s\n", r, error_text(r));
		return 0;
	}
	printf("ok");
	r = walk(a.object, "");
	printf(r ? "\tFAILED %d\n" : "\n", r);
	return 0;
}

/* --- what it takes for the origin's versions --- */

struct names {
	struct name_row *rows;
	size_t n, cap;
};

static int add_name(void *arg, const struct name_row *n, const struct object_row *o)
{
	struct names *all = arg;

	(void)o;
	if (ARRAY_ROOM(all->rows, all->n, all->cap))
		return -ENOMEM;
	all->rows[all->n++] = *n;
	return 0;
}

static int tell_version(const struct name_row *n)
{
	struct content_map m = { .id = 0 };
	struct object_row o;
	int r = object_get(v->db, n->object, &o);

	if (!r && S_ISREG(o.mode) && o.map)
		r = content_map_get(v->db, o.map, &m);
	printf("\t%s\t%s\t%s", *n->rid.text ? n->rid.text : "-", *n->etag.text ? n->etag.text : "-",
		*m.etag.text ? m.etag.text : "-");
	return r;
}

/* Index lock held. */
static int tell_versions(uint64_t dir)
{
	struct names all = { 0 };
	int r = name_each(v->db, dir, 0, add_name, &all);

	for (size_t i = 0; r >= 0 && i < all.n; i++) {
		r = tell_version(&all.rows[i]);
		if (!r)
			r = tell_versions(all.rows[i].object);
	}
	free(all.rows);
	return r;
}

static int do_versions(const char *path)
{
	struct tree_attr a;
	int r = tree_resolve(v, path, &a);

	printf("ok");
	db_read(v->db);
	if (!r)
		r = tell_versions(a.object);
	db_unlock(v->db);
	printf(r ? "\tFAILED %d\n" : "\n", r);
	return 0;
}

int shell_model_run(struct volume *volume, struct sync *sync, char **w)
{
	char text[4096] = "-";
	int r;

	v = volume;
	tree_held_by(v, is_looked_at, NULL);
	s = sync;
	if (!strcmp(w[0], "tree"))
		return do_tree(w[1] ? w[1] : "");
	if (!strcmp(w[0], "versions"))
		return do_versions(w[1] ? w[1] : "");
	if (!strcmp(w[0], "write"))
		r = do_write(w[1], w[2], MIN_OF(strtoul(w[3], NULL, 10), CONTENT_MAX), text,
			sizeof(text));
	else if (!strcmp(w[0], "jset"))
		r = do_jset(w[1], w[2], w[3], text, sizeof(text));
	else if (!strcmp(w[0], "trim"))
		r = do_trim(w[1], strtoul(w[2], NULL, 10), text, sizeof(text));
	else if (!strcmp(w[0], "peek"))
		r = do_peek(w[1], strtoull(w[2], NULL, 10), strtoul(w[3], NULL, 10), text,
			sizeof(text));
	else if (!strcmp(w[0], "evict"))
		r = do_evict(w[1] ? w[1] : "");
	else if (!strcmp(w[0], "unlink"))
		r = do_unlink(w[1], text, sizeof(text));
	else if (!strcmp(w[0], "rename"))
		r = do_rename(w[1], w[2], 0, text, sizeof(text));
	else if (!strcmp(w[0], "exchange"))
		r = do_rename(w[1], w[2], EXCHANGE, text, sizeof(text));
	else if (!strcmp(w[0], "link"))
		r = do_link(w[1], w[2]);
	else if (!strcmp(w[0], "chmod"))
		r = do_chmod(w[1], (unsigned)strtoul(w[2], NULL, 8));
	else
		return -ENOSYS;
	if (r)
		printf("%d %s\n", r, error_text(r));
	else
		printf("ok %s\n", text);
	return 0;
}
