/* What the tests of meta/ share: a volume directory with a fixed key, and its files as bytes. */
#ifndef CACHET_TESTS_META_FIXTURE_H
#define CACHET_TESTS_META_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/macros.h"
#include "base/secret.h"
#include "meta/db.h"
#include "meta/object.h"
#include "meta/recover.h"
#include "meta/redo.h"
#include "meta/store.h"

/* What fixture_init() asks for: with a redo log or, as long as it is 0, without. */
static uint64_t fixture_log_bytes;

struct fixture {
	char dir[64];
	struct secret *key;
	struct db_options options;
};

static inline void fixture_init(struct fixture *f)
{
	const char *base = getenv("TMPDIR");

	memset(f, 0, sizeof(*f));
	snprintf(f->dir, sizeof(f->dir), "%.40s/cachet-meta-XXXXXX", base ? base : "/tmp");
	assert_non_null(mkdtemp(f->dir));
	assert_int_equal(secret_new(32, &f->key), 0);
	memset(secret_bytes(f->key), 0x5a, 32);
	f->options = (struct db_options){
		.dir = f->dir, .key = f->key, .log_bytes = fixture_log_bytes
	};
}

static inline void fixture_done(struct fixture *f)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", f->dir);
	assert_int_equal(system(command), 0);
	secret_free(f->key);
}

static inline struct db *fixture_create(struct fixture *f)
{
	struct db_options o = f->options;
	struct db *db = NULL;

	o.create = true;
	assert_int_equal(db_open(&o, &db, NULL), 0);
	return db;
}

static inline struct db *fixture_open(struct fixture *f, struct db_recovery *rec)
{
	struct db *db = NULL;

	assert_int_equal(db_open(&f->options, &db, rec), 0);
	return db;
}

static inline char *fixture_path(const struct fixture *f, const char *name)
{
	static _Thread_local char path[512];

	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	return path;
}

struct bytes {
	uint8_t *data;
	size_t len;
};

static inline struct bytes fixture_read(const struct fixture *f, const char *name)
{
	struct bytes b = { 0 };
	struct stat st;
	int fd = open(fixture_path(f, name), O_RDONLY);

	if (fd < 0)
		return b;
	assert_int_equal(fstat(fd, &st), 0);
	b.len = (size_t)st.st_size;
	b.data = malloc(b.len + 1);
	assert_int_equal(read(fd, b.data, b.len), (ssize_t)b.len);
	close(fd);
	return b;
}

static inline void fixture_write(
	const struct fixture *f, const char *name, const void *data, size_t len)
{
	int fd = open(fixture_path(f, name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), (ssize_t)len);
	close(fd);
}

static inline void fixture_flip(const struct fixture *f, const char *name, size_t at)
{
	int fd = open(fixture_path(f, name), O_RDWR);
	uint8_t b;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &b, 1, (off_t)at), 1);
	b ^= 0x10;
	assert_int_equal(pwrite(fd, &b, 1, (off_t)at), 1);
	close(fd);
}

/* The files of an index whose daemon was killed now: copied while it is open, the open one goes on.
 */
struct image {
	struct bytes main, wal, redo;
};

static inline struct image fixture_image(const struct fixture *f)
{
	return (struct image){ fixture_read(f, DB_FILE), fixture_read(f, DB_WAL_FILE),
		fixture_read(f, REDO_FILE) };
}

static inline void fixture_restore_file(
	const struct fixture *f, const char *name, const struct bytes *b)
{
	if (b->data)
		fixture_write(f, name, b->data, b->len);
	else
		unlink(fixture_path(f, name));
}

static inline void fixture_restore(const struct fixture *f, const struct image *i)
{
	fixture_restore_file(f, DB_FILE, &i->main);
	fixture_restore_file(f, DB_WAL_FILE, &i->wal);
	fixture_restore_file(f, REDO_FILE, &i->redo);
	unlink(fixture_path(f, RECOVER_LOSS_FILE));
}

static inline void image_done(struct image *i)
{
	free(i->main.data);
	free(i->wal.data);
	free(i->redo.data);
}

/* One transaction that sets the counter to n and rewrites a text that depends on it. */
static inline int counter_commit(struct db *db, uint64_t n)
{
	char text[600];
	int r;

	memset(text, 'a' + (int)(n % 26), sizeof(text));
	r = db_begin(db);
	if (r < 0)
		return r;
	r = setting_set_u64(db, "counter", n);
	if (r == 0)
		r = setting_set(db, "text", text, sizeof(text));
	if (r < 0) {
		db_rollback(db);
		return r;
	}
	return db_commit(db);
}

/* The counter, 0 when there is none; -1 when counter and text are not of one transaction. */
static inline int64_t counter_read(struct db *db)
{
	char text[600];
	uint64_t n = 0;
	size_t len = 0;
	int r, r2;

	db_read(db);
	r = setting_get_u64(db, "counter", &n);
	r2 = setting_get(db, "text", text, sizeof(text), &len);
	db_unlock(db);
	if (r == -ENOENT && r2 == -ENOENT)
		return 0;
	if (r < 0 || r2 < 0 || len != sizeof(text))
		return -1;
	for (size_t i = 0; i < len; i++)
		if (text[i] != 'a' + (int)(n % 26))
			return -1;
	return (int64_t)n;
}

static inline unsigned fixture_times(const char *variable, unsigned otherwise)
{
	const char *v = getenv(variable);

	return v ? (unsigned)strtoul(v, NULL, 10) : otherwise;
}

#endif
