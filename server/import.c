/*
 * Theory of operation.
 *
 * The tree is walked depth first. What differs from the store becomes a change, as a client would
 * send it; changes gather in a group, whose files are synced before the write lock is taken, and
 * which is one transaction: a running server waits for milliseconds only. A change that is refused
 * (a client was faster) is skipped, and so is what is below it.
 *
 * A crash leaves the groups that were committed; doing it again does the rest.
 */
#include "server/import.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/io.h"
#include "base/secret.h"
#include "server/admin.h"
#include "server/apply.h"
#include "server/body.h"
#include "server/server.h"
#include "server/tx.h"

#define GROUP_MAX 256
#define GROUP_BYTES_MAX (64ULL << 20)
#define DEPTH_MAX 256
#define READ_SIZE (256u << 10)
#define NEW_DIRECTORY                                                                              \
	(-1) /* row of a directory that is only in the group yet: it has no children */

struct import {
	struct store_db *db;
	struct body_dirs dirs;
	int64_t store;
	struct tx tx;
	struct change group[GROUP_MAX];
	size_t n;
	uint64_t group_bytes;
	dev_t own_dev; /* the data directory itself is not imported */
	ino_t own_ino;
	char *buffer;
	struct server_import_report *report;
};

static int walk(struct import *im, int fd, int64_t parent_n, const char *parent_id, unsigned depth);

/* ---- groups ---- */

static void count(struct import *im, const struct change *c)
{
	struct server_import_report *report = im->report;

	if (c->out.status >= 300) {
		report->skipped++;
	} else if (c->op == CHANGE_PUT) {
		report->files += c->kind == RECORD_FILE;
		report->dirs += c->kind == RECORD_DIR;
		report->symlinks += c->kind == RECORD_SYMLINK;
		report->bytes += c->body.len;
	}
}

static int apply_group(struct import *im)
{
	int r = 0;

	for (size_t i = 0; !r && i < im->n; i++)
		r = server_body_sync(&im->group[i].body);
	if (!r)
		r = server_tx_begin(&im->tx);
	if (!r)
		r = server_apply_list(&im->tx, im->group, im->n);
	if (!r)
		r = server_tx_commit(&im->tx);
	if (r)
		server_tx_rollback(&im->tx);
	return r;
}

static int flush(struct import *im)
{
	const uint8_t *released;
	size_t n;
	int r = im->n ? apply_group(im) : 0;

	for (size_t i = 0; i < im->n; i++) {
		struct change *c = &im->group[i];

		if (!r && c->out.status < 300)
			server_body_keep(&c->body);
		if (!r)
			count(im, c);
		server_change_done(c);
	}
	released = server_tx_files(&im->tx, &n);
	for (size_t i = 0; !r && i < n; i++)
		server_body_unlink(&im->dirs, released + i * RECORD_FILE_LEN);
	server_tx_done(&im->tx);
	im->n = 0;
	im->group_bytes = 0;
	return r;
}

/* A place for one more change, initialised. */
static int next_change(struct import *im, struct change **out)
{
	int r = 0;

	if (im->n == GROUP_MAX || im->group_bytes > GROUP_BYTES_MAX)
		r = flush(im);
	if (r)
		return r;
	*out = &im->group[im->n];
	server_change_init(*out, &im->dirs, UINT64_MAX);
	(*out)->store = im->store;
	return 0;
}

static void add_change(struct import *im)
{
	im->group_bytes += im->group[im->n].body.len;
	im->n++;
}

/* ---- one entry ---- */

struct entry {
	const char *name;
	int dir_fd;
	struct stat st;
	enum record_kind kind;
	const char *parent_id;
	struct record there; /* n == 0: nothing stands there */
};

static enum record_kind kind_of(const struct stat *st)
{
	if (S_ISREG(st->st_mode))
		return RECORD_FILE;
	if (S_ISDIR(st->st_mode))
		return RECORD_DIR;
	return S_ISLNK(st->st_mode) ? RECORD_SYMLINK : RECORD_NONE;
}

static int64_t mtime_of(const struct stat *st)
{
	return st->st_mtim.tv_sec * NS_PER_SEC + st->st_mtim.tv_nsec;
}

static int read_file(struct import *im, const struct entry *e, struct body *b)
{
	_cleanup_fd_ int fd =
		openat(e->dir_fd, e->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	ssize_t n;
	int r = 0;

	if (fd < 0)
		return -errno;
	while (!r && (n = read(fd, im->buffer, READ_SIZE)) != 0) {
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			r = server_body_write(b, im->buffer, (size_t)n);
	}
	return r;
}

static int read_link(struct import *im, const struct entry *e, struct body *b)
{
	ssize_t n = readlinkat(e->dir_fd, e->name, im->buffer, READ_SIZE);

	return n < 0 ? -errno : server_body_write(b, im->buffer, (size_t)n);
}

static int read_body(struct import *im, const struct entry *e, struct body *b)
{
	int r = 0;

	if (e->kind == RECORD_FILE)
		r = read_file(im, e, b);
	else if (e->kind == RECORD_SYMLINK)
		r = read_link(im, e, b);
	return r ? r : server_body_finish(b);
}

static bool is_same(const struct entry *e, const struct body *b)
{
	const struct record *t = &e->there;

	if (!t->n || t->kind != e->kind || t->mode != (e->st.st_mode & 07777) ||
		t->mtime_ns != mtime_of(&e->st))
		return false;
	return e->kind == RECORD_DIR ||
	       (t->size == b->len && !memcmp(t->sha256, b->sha256, sizeof(t->sha256)));
}

static void give_id(char out[static WIRE_ID_MAX + 1])
{
	uint8_t random[16];

	secret_random(random, sizeof(random));
	bytes_to_hex(random, sizeof(random), out);
}

/* Something of another kind stands there: it goes first, if it may. */
static int remove_other_kind(struct import *im, struct entry *e)
{
	struct change *c;
	int r;

	if (!e->there.n || e->there.kind == e->kind)
		return 0;
	r = next_change(im, &c);
	if (r)
		return r;
	c->op = CHANGE_DELETE;
	memcpy(c->id, e->there.id, sizeof(c->id));
	server_records_etag(&e->there, c->if_match);
	add_change(im);
	e->there.n = 0;
	return 0;
}

static void describe(struct change *c, const struct entry *e)
{
	c->op = CHANGE_PUT;
	c->create = !e->there.n;
	if (c->create)
		give_id(c->id);
	else
		memcpy(c->id, e->there.id, sizeof(c->id));
	if (!c->create)
		server_records_etag(&e->there, c->if_match);
	c->has_parent = c->has_name = c->create;
	snprintf(c->parent, sizeof(c->parent), "%s", e->parent_id);
	snprintf(c->name, sizeof(c->name), "%s", e->name);
	c->kind = e->kind;
	c->has_mode = c->has_mtime = true;
	c->mode = e->st.st_mode & 07777;
	c->mtime_ns = mtime_of(&e->st);
}

/* Adds the change that makes the store like the entry, if one is needed. `id`: of the record. */
static int take_entry(struct import *im, struct entry *e, char id[static WIRE_ID_MAX + 1])
{
	struct change *c;
	int r = remove_other_kind(im, e);

	if (!r)
		r = next_change(im, &c);
	if (r)
		return r;
	r = read_body(im, e, &c->body);
	if (r || is_same(e, &c->body)) {
		memcpy(id, e->there.id, WIRE_ID_MAX + 1);
		server_change_done(c);
		return r;
	}
	describe(c, e);
	memcpy(id, c->id, WIRE_ID_MAX + 1);
	add_change(im);
	return 0;
}

static int walk_below(struct import *im, const struct entry *e, const char *id, unsigned depth)
{
	int fd = openat(e->dir_fd, e->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return walk(im, fd, e->there.n ? e->there.n : NEW_DIRECTORY, id, depth + 1);
}

/* Errors of one entry are skipped over; errors of the store are not. */
static bool is_of_entry(int r)
{
	return r == -ENOENT || r == -EACCES || r == -EPERM || r == -ELOOP || r == -ENOTDIR;
}

static int import_entry(struct import *im, struct entry *e, int64_t parent_n, unsigned depth)
{
	char id[WIRE_ID_MAX + 1];
	int r = 0;

	if (fstatat(e->dir_fd, e->name, &e->st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	e->kind = kind_of(&e->st);
	if (!e->kind || !server_wire_is_name(e->name, strlen(e->name)) || depth >= DEPTH_MAX ||
		(e->st.st_dev == im->own_dev && e->st.st_ino == im->own_ino)) {
		im->report->skipped++;
		return 0;
	}
	if (parent_n != NEW_DIRECTORY)
		r = server_records_by_place(im->db, im->store, parent_n, e->name, &e->there);
	if (r && r != -ENOENT)
		return r;
	r = take_entry(im, e, id);
	return r || e->kind != RECORD_DIR ? r : walk_below(im, e, id, depth);
}

/* Takes `fd`. */
static int walk(struct import *im, int fd, int64_t parent_n, const char *parent_id, unsigned depth)
{
	DIR *dir = fdopendir(fd);
	struct dirent *d;
	int r = 0;

	if (!dir) {
		r = -errno;
		close(fd);
		return r;
	}
	while (!r && (d = readdir(dir))) {
		struct entry e = { .name = d->d_name, .dir_fd = fd, .parent_id = parent_id };

		if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
			continue;
		r = import_entry(im, &e, parent_n, depth);
		if (is_of_entry(r)) {
			im->report->skipped++;
			r = 0;
		}
	}
	closedir(dir);
	return r;
}

/* ---- the whole ---- */

static int import_tree(struct import *im, int data_fd, const char *store, const char *from)
{
	struct store_row row;
	struct stat st;
	int fd, r = server_records_store_by_id(im->db, store, &row);

	if (r)
		return r;
	im->store = row.n;
	if (fstat(data_fd, &st) < 0)
		return -errno;
	im->own_dev = st.st_dev;
	im->own_ino = st.st_ino;
	fd = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = walk(im, fd, 0, RECORD_ROOT_ID, 0);
	return r ? r : flush(im);
}

static int read_epoch(struct store_db *db, uint32_t *tag)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_SERVER_GET);
	int r = server_store_step(db, q);

	if (r == 1 && sqlite3_column_bytes(q, 1) == 16)
		*tag = load_le32(sqlite3_column_blob(q, 1));
	server_store_reset(q);
	return r == 1 ? 0 : r ? r : CE_CORRUPT;
}

static int run(struct import *im, int data_fd, const char *store, const char *from)
{
	_cleanup_fd_ int lock = -1;
	uint32_t tag = 0;
	int r = io_lock_file(data_fd, IMPORT_LOCK_NAME, &lock);

	if (!r)
		r = server_body_open_dirs(data_fd, &im->dirs);
	if (!r)
		r = read_epoch(im->db, &tag);
	if (r)
		return r;
	/* Refusals of an import are counted, not sent: no instance is needed in them. */
	server_tx_init(&im->tx, im->db, "", tag);
	r = import_tree(im, data_fd, store, from);
	for (size_t i = 0; i < im->n; i++)
		server_change_done(&im->group[i]);
	server_tx_done(&im->tx);
	server_body_close_dirs(&im->dirs);
	return r;
}

int server_import(const char *dir, const char *store, const char *from,
	struct server_import_report *report, char **error)
{
	_cleanup_store_ struct store_db *db = NULL;
	_cleanup_free_ struct import *im = NULL;
	_cleanup_free_ char *buffer = malloc(READ_SIZE);
	_cleanup_fd_ int data_fd = -1;
	struct server_import_report done = { 0 };
	int r;

	*error = NULL;
	im = calloc(1, sizeof(*im));
	if (!im || !buffer)
		return -ENOMEM;
	r = server_admin_open(dir, &db, error);
	if (!r)
		r = server_admin_add_store(db, store, error);
	if (r)
		return r;
	data_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	im->db = db;
	im->buffer = buffer;
	im->report = &done;
	r = data_fd < 0 ? -errno : run(im, data_fd, store, from);
	if (r)
		return server_admin_explain(
			error, r, r == CE_INUSE ? "another import is running" : "cannot import");
	*report = done;
	return 0;
}
