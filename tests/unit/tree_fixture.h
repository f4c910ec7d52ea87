/* For tests of names, journal and records: a real volume with one listed store, and short calls by
 * path. */
#ifndef CACHET_TESTS_UNIT_TREE_FIXTURE_H
#define CACHET_TESTS_UNIT_TREE_FIXTURE_H

#include <errno.h>
#include <ftw.h>
#include <sys/stat.h>

#include "unit.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/secret.h"
#include "cache/fold_priv.h"
#include "cache/remote_priv.h"
#include "cache/tree_priv.h"

#define ok(expr) assert_int_equal(expr, 0)

struct tree_fixture {
	char top[64], dir[96], source[160];
	struct volume *v;
	uint64_t store, root;
	uint64_t limit; /* of the next opening; 0 = the default */
};

static const struct tree_cred tf_cred = { 1000, 1000 };

static inline void tf_open(struct tree_fixture *f)
{
	const struct volume_options o = {
		.dir = f->dir,
		.key_source = f->source,
		.limit_bytes = f->limit,
		.uid = 1000,
		.gid = 1000,
		.host = "test",
	};
	char *error = NULL;
	int r = volume_open(&o, &f->v, &error);

	if (r)
		print_error("volume_open: %s\n", error ? error : "");
	free(error);
	ok(r);
}

/* A store that was once listed completely. */
static inline void tf_store(struct tree_fixture *f, const char *name)
{
	struct remote_report report;
	struct tree_attr a;

	ok(remote_store_add(f->v, name, false, &f->store));
	ok(remote_listing_begin(f->v, f->store));
	ok(remote_listing_end(f->v, f->store, false, &report));
	ok(tree_lookup(f->v, OBJECT_ROOT, name, &a));
	f->root = a.object;
}

static inline void tf_init(struct tree_fixture *f)
{
	struct volume_create_options o = { .origin = "https://records.example/" };
	const char *base = getenv("TMPDIR");
	char *error = NULL;

	*f = (struct tree_fixture){ .store = 0 };
	snprintf(f->top, sizeof(f->top), "%.40s/cachet-tree-XXXXXX", base ? base : "/tmp");
	secret_allow_unlocked();
	assert_non_null(mkdtemp(f->top));
	snprintf(f->dir, sizeof(f->dir), "%s/volume", f->top);
	snprintf(f->source, sizeof(f->source), "file:%s/key", f->top);
	o.dir = f->dir;
	o.key_source = f->source;
	ok(volume_create(&o, &error));
	tf_open(f);
	tf_store(f, "records");
}

/* After an opening: the store of before. */
static inline void tf_find_store(struct tree_fixture *f)
{
	struct tree_attr a;

	ok(remote_store_add(f->v, "records", false, &f->store));
	ok(tree_lookup(f->v, OBJECT_ROOT, "records", &a));
	f->root = a.object;
}

static inline void tf_reopen(struct tree_fixture *f)
{
	volume_close(f->v);
	tf_open(f);
}

static inline int tf_remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	return remove(path);
}

static inline void tf_done(struct tree_fixture *f)
{
	if (f->v)
		volume_close(f->v);
	nftw(f->top, tf_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline int tf_setup(void **state)
{
	struct tree_fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	tf_init(f);
	*state = f;
	return 0;
}

static inline int tf_teardown(void **state)
{
	tf_done(*state);
	free(*state);
	return 0;
}

#define tf_test(fn) cmocka_unit_test_setup_teardown(fn, tf_setup, tf_teardown)

/* The object at a path below the store, 0 if there is none. */
static inline uint64_t tf_at(struct tree_fixture *f, const char *path)
{
	uint64_t dir = f->root;
	struct tree_attr a = { .object = dir };
	char part[256];

	while (*path) {
		size_t len = strcspn(path, "/");

		memcpy(part, path, len);
		part[len] = 0;
		if (tree_lookup(f->v, dir, part, &a))
			return 0;
		dir = a.object;
		path += len + (path[len] == '/');
	}
	return a.object;
}

static inline struct tree_attr tf_attr(struct tree_fixture *f, const char *path)
{
	struct tree_attr a = { 0 };
	struct object_row o;
	uint64_t object = tf_at(f, path);

	db_read(f->v->db);
	ok(object_get(f->v->db, object, &o));
	db_unlock(f->v->db);
	ok(tree_getattr(f->v, o.id, o.version, &a));
	return a;
}

/* Splits a path into directory and last name; 0 when the directory is not there. */
static inline uint64_t tf_split(struct tree_fixture *f, const char *path, const char **name)
{
	const char *slash = strrchr(path, '/');
	char dir[4096];

	*name = slash ? slash + 1 : path;
	if (!slash)
		return f->root;
	memcpy(dir, path, (size_t)(slash - path));
	dir[slash - path] = 0;
	return tf_at(f, dir);
}

static inline int tf_mkdir(struct tree_fixture *f, const char *path)
{
	const char *name;
	uint64_t dir = tf_split(f, path, &name);
	struct tree_attr a;

	return tree_mkdir(f->v, dir, name, 0755, &tf_cred, &a);
}

static inline int tf_create(struct tree_fixture *f, const char *path)
{
	const char *name;
	uint64_t dir = tf_split(f, path, &name);
	struct tree_attr a;

	return tree_mknod(f->v, dir, name, S_IFREG | 0644, 0, &tf_cred, &a);
}

static inline int tf_symlink(struct tree_fixture *f, const char *path, const char *target)
{
	const char *name;
	uint64_t dir = tf_split(f, path, &name);
	struct tree_attr a;

	return tree_symlink(f->v, dir, name, target, &tf_cred, &a);
}

static inline int tf_unlink(struct tree_fixture *f, const char *path)
{
	const char *name;
	uint64_t dir = tf_split(f, path, &name);

	return tree_unlink(f->v, dir, name);
}

static inline int tf_rmdir(struct tree_fixture *f, const char *path)
{
	const char *name;
	uint64_t dir = tf_split(f, path, &name);

	return tree_rmdir(f->v, dir, name);
}

static inline int tf_rename(
	struct tree_fixture *f, const char *from, const char *to, unsigned flags)
{
	const char *name, *new_name;
	uint64_t dir = tf_split(f, from, &name), new_dir = tf_split(f, to, &new_name);

	return tree_rename(f->v, dir, name, new_dir, new_name, flags);
}

static inline int tf_link(struct tree_fixture *f, const char *from, const char *to)
{
	const char *name;
	uint64_t dir = tf_split(f, to, &name);
	struct tree_attr a;

	return tree_link(f->v, tf_at(f, from), dir, name, &a);
}

/* Replaces the content of a file, making it if need be. */
static inline int tf_write_object(struct tree_fixture *f, uint64_t object, const char *text)
{
	struct file *file;
	struct object_row o;
	int r;

	db_read(f->v->db);
	ok(object_get(f->v->db, object, &o));
	db_unlock(f->v->db);
	r = file_open(f->v, object, o.version, true, &file);
	if (r)
		return r;
	r = file_truncate(file, 0);
	if (!r && *text)
		r = file_write(file, text, strlen(text), 0);
	if (!r)
		r = file_commit(file);
	file_unref(file, true);
	return r;
}

static inline int tf_write(struct tree_fixture *f, const char *path, const char *text)
{
	int r;

	if (!tf_at(f, path)) {
		r = tf_create(f, path);
		if (r)
			return r;
	}
	return tf_write_object(f, tf_at(f, path), text);
}

/* The one operation there is to send, on its way. */
static inline struct outbox_op tf_begun(struct tree_fixture *f)
{
	struct outbox_op op;
	uint64_t wait;
	size_t n;

	ok(outbox_next(f->v, clock_wall_ns() / NS_PER_MS, 0, &op, 1, &n, &wait));
	assert_int_equal(n, 1);
	ok(outbox_begin(f->v, &op, 1));
	return op;
}

/* The journal as text: one word per row that is sent, "PUT+" for one that makes its record, in
 * order. */
static inline int tf_journal_row(void *arg, const struct op_row *op)
{
	static const char *const kinds[] = { "", "PUT", "ATTR", "MOVE", "SWAP", "DELETE" };
	char *text = arg;

	if (fold_row_is_shadow(op))
		return 0;
	if (*text)
		strcat(text, " ");
	strcat(text, kinds[op->kind]);
	if (fold_row_is_make(op) && !op->base_etag.text[0])
		strcat(text, "+");
	if (op->kind == OP_MOVE && op->other_rid.text[0])
		strcat(text, "*");
	if (op->r_name.len && op->kind != OP_DELETE) {
		strcat(text, ":");
		strcat(text, (const char *)op->r_name.bytes);
	}
	if (op->state == OP_INFLIGHT)
		strcat(text, "!");
	return 0;
}

static inline const char *tf_journal(struct tree_fixture *f)
{
	static char text[65536];

	text[0] = 0;
	db_read(f->v->db);
	ok(op_each(f->v->db, 0, tf_journal_row, text));
	db_unlock(f->v->db);
	return text;
}

#define assert_journal(f, text) assert_string_equal(tf_journal(f), text)

#endif
