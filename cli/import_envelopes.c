#include "cli/import_envelopes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/io.h"
#include "cli/show.h"
#include "cli/view_extract.h"
#include "crypto/envelope.h"

static void record_done(struct import_record *r)
{
	if (r->content)
		secret_wipe(r->content, r->len);
	free(r->content);
	free(r->path);
	json_free(r->tree);
}

/* Every part a name. */
static bool path_is_below(const char *path)
{
	for (const char *p = path;; p++) {
		size_t n = strcspn(p, "/");

		if (!n || (n == 1 && *p == '.') || (n == 2 && !memcmp(p, "..", 2)))
			return false;
		p += n;
		if (!*p)
			return true;
	}
}

/* `len` bytes of JSON text that say "path" and "type" are a record of ours. */
static int parse_own(struct import_record *r)
{
	struct json *tree = r->tree;
	const char *path = show_string(tree, "path"), *text;
	uint8_t *content;
	size_t room;
	int e;

	r->path = strdup(path);
	r->type = show_string(tree, "type");
	r->target = show_string(tree, "target");
	r->mode = (uint32_t)show_u64(tree, "mode") & 07777;
	r->mtime_ns = show_i64(tree, "mtime_ns");
	text = show_string(tree, "content");
	r->nothing = json_has(tree, "kind") && strcmp(show_string(tree, "kind"), "put") != 0;
	if (!r->path)
		return -ENOMEM;
	room = text ? strlen(text) / 4 * 3 : 0;
	content = malloc(room + 1);
	if (!content)
		return -ENOMEM;
	e = text ? bytes_from_base64(text, content, room, &room) : 0;
	secret_wipe(r->content, r->len);
	free(r->content);
	r->content = content;
	r->len = room;
	return e ? CE_CORRUPT : 0;
}

/* A record of another program, as it is. */
static int name_foreign(const struct json *env, size_t number, struct import_record *r)
{
	const struct json *meta = show_member(env, "meta");
	const char *table = show_string(meta, "table"), *id = show_string(meta, "id");
	int n = table && id ? bytes_print(&r->path, "%s/%s", table, id)
			    : bytes_print(&r->path, "record-%zu", number);

	if (n)
		return n;
	r->type = "file";
	r->mode = 0600;
	return 0;
}

static int open_record(
	const struct json *env, const struct secret *key, size_t number, struct import_record *r)
{
	const char *kind;
	int e;

	if (secret_len(key) != AEAD_KEY_LEN)
		return -EINVAL;
	e = envelope_open(env, secret_cbytes(key), &r->content, &r->len);
	if (e)
		return e;
	r->meta = show_member(env, "meta");
	if (!json_parse((const char *)r->content, r->len, &r->tree) &&
		show_string(r->tree, "path") && show_string(r->tree, "type") &&
		(!json_has(r->tree, "kind") || !json_get_string(r->tree, "kind", &kind)))
		e = parse_own(r);
	else
		e = name_foreign(env, number, r);
	return e || path_is_below(r->path) ? e : CE_CORRUPT;
}

int import_envelopes_same(int dir, const char *name, const struct import_record *r)
{
	_cleanup_free_ char *there = NULL;
	size_t len;
	int e = io_read_file(dir, name, r->len + 1, &there, &len);

	if (e)
		return e == -EFBIG || e == -ELOOP || e == -EISDIR ? 0 : e;
	return len == r->len && (!len || !memcmp(there, r->content, len));
}

int import_envelopes_write(int dir, const char *name, const struct import_record *r)
{
	const struct timespec times[] = { { .tv_nsec = UTIME_OMIT },
		{ .tv_sec = r->mtime_ns / 1000000000, .tv_nsec = r->mtime_ns % 1000000000 } };
	_cleanup_fd_ int fd =
		openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int e;

	if (fd < 0)
		return -errno;
	e = io_write_full(fd, r->content, r->len);
	if (!e && (fchmod(fd, r->mode) < 0 || (r->mtime_ns > 0 && futimens(fd, times) < 0) ||
			  fsync(fd) < 0))
		e = -errno;
	if (e)
		unlinkat(dir, name, 0);
	return e;
}

/* 1: written or there, 0: something else is there. */
static int write_record(int target, struct import_record *r)
{
	_cleanup_fd_ int dir = -1;
	const char *name = NULL;
	int e = r->nothing ? 0 : view_extract_parent(target, r->path, &dir, &name);

	if (e || r->nothing)
		return e;
	if (!strcmp(r->type, "directory"))
		return mkdirat(dir, name, r->mode | 0700) == 0 || errno == EEXIST ? 1 : -errno;
	if (!strcmp(r->type, "symlink"))
		return r->target && symlinkat(r->target, dir, name) == 0 ? 1
		       : r->target && errno != EEXIST                    ? -errno
									 : 0;
	e = import_envelopes_write(dir, name, r);
	return e == -EEXIST ? import_envelopes_same(dir, name, r) : e ? e : 1;
}

/* Without `fn` they are only opened. */
static int each(const struct json *list, const struct secret *key, import_record_fn *fn, void *arg,
	size_t *at)
{
	int e = 0;

	*at = 0;
	for (const struct json *env = json_first(list); env && !e; env = json_next(env)) {
		_cleanup_(record_done) struct import_record r = { .len = 0 };

		e = open_record(env, key, ++*at, &r);
		if (!e && fn)
			e = fn(arg, &r);
	}
	return e;
}

int import_envelopes_each(
	const char *file, const struct secret *key, import_record_fn *fn, void *arg, size_t *at)
{
	_cleanup_json_ struct json *root = NULL;
	_cleanup_free_ char *text = NULL;
	const struct json *list;
	size_t len;
	int r = io_read_file(AT_FDCWD, file, IMPORT_ENVELOPES_FILE_MAX, &text, &len);

	*at = 0;
	if (!r)
		r = json_parse(text, len, &root);
	if (r)
		return r;
	list = json_is_array(root) ? root : show_member(root, "records");
	if (!list || !json_is_array(list))
		return CE_FORMAT;
	r = each(list, key, NULL, NULL, at);
	return r ? r : each(list, key, fn, arg, at);
}

struct writing {
	int target;
	struct import_totals *totals;
};

static int write_one(void *arg, struct import_record *r)
{
	struct writing *w = arg;
	int e = write_record(w->target, r);

	if (e < 0)
		return e;
	w->totals->files += e == 1;
	w->totals->bytes += e == 1 ? r->len : 0;
	w->totals->left += e == 0;
	return 0;
}

int import_envelopes(const char *file, const struct secret *key, const char *target,
	struct import_totals *totals, size_t *at)
{
	_cleanup_fd_ int fd = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct writing w = { fd, totals };

	*at = 0;
	return fd < 0 ? -errno : import_envelopes_each(file, key, write_one, &w, at);
}
