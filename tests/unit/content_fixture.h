/*
 * For tests of content (cache/file.h) without names: a volume in a temporary directory, one store,
 * and files that are made as rows. Private headers of cache/ are used where a test has to look
 * behind the calls.
 */
#ifndef CACHET_TESTS_UNIT_CONTENT_FIXTURE_H
#define CACHET_TESTS_UNIT_CONTENT_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/secret.h"
#include "cache/file_priv.h"
#include "cache/volume_priv.h"

#define CF_STORE_REF "00112233445566778899aabbccddeeff"

struct content_fixture {
	char top[64], dir[96], key[128], source[160];
	uint64_t limit;
	enum aead_alg alg;
	uint64_t store;
	struct volume *v;
};

#define ok(expr) assert_int_equal(expr, 0)

static inline void cf_open(struct content_fixture *f)
{
	const struct volume_options o = { .dir = f->dir,
		.key_source = f->source,
		.limit_bytes = f->limit,
		.alg = f->alg,
		.host = "test" };
	char *error = NULL;
	int r = volume_open(&o, &f->v, &error);

	if (r)
		print_error("volume_open: %s\n", error ? error : "");
	free(error);
	ok(r);
}

static inline void cf_create(struct content_fixture *f)
{
	const struct volume_create_options o = {
		.dir = f->dir, .key_source = f->source, .origin = "https://records.example/"
	};
	char *error = NULL;
	int r = volume_create(&o, &error);

	if (r)
		print_error("volume_create: %s\n", error ? error : "");
	free(error);
	ok(r);
}

static inline void cf_store(struct content_fixture *f)
{
	struct store_row s = { .ref = CF_STORE_REF, .name = "records", .root = OBJECT_ROOT };

	ok(db_begin(f->v->db));
	ok(store_insert(f->v->db, &s));
	ok(db_commit(f->v->db));
	f->store = s.id;
}

static inline void cf_paths(struct content_fixture *f)
{
	const char *base = getenv("TMPDIR");

	*f = (struct content_fixture){ .limit = 0 };
	snprintf(f->top, sizeof(f->top), "%.40s/cachet-content-XXXXXX", base ? base : "/tmp");
	secret_allow_unlocked();
	assert_non_null(mkdtemp(f->top));
	snprintf(f->dir, sizeof(f->dir), "%s/volume", f->top);
	snprintf(f->key, sizeof(f->key), "%s/key", f->top);
	snprintf(f->source, sizeof(f->source), "file:%s", f->key);
}

static inline void cf_init(struct content_fixture *f)
{
	cf_paths(f);
	cf_create(f);
	cf_open(f);
	cf_store(f);
}

static inline void cf_close(struct content_fixture *f)
{
	volume_close(f->v);
	f->v = NULL;
}

static inline void cf_reopen(struct content_fixture *f)
{
	cf_close(f);
	cf_open(f);
}

static inline int cf_remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	return remove(path);
}

static inline void cf_remove(const char *path)
{
	nftw(path, cf_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void cf_done(struct content_fixture *f)
{
	if (f->v)
		cf_close(f);
	cf_remove(f->top);
}

/* An empty regular file. */
static inline uint64_t cf_object(struct content_fixture *f)
{
	struct object_row o = { .store = f->store, .mode = S_IFREG | 0644, .nlink = 1 };

	ok(db_begin(f->v->db));
	ok(object_insert(f->v->db, &o, NULL, 0));
	ok(db_commit(f->v->db));
	return o.id;
}

/* A file at the origin of which nothing is here. */
static inline uint64_t cf_remote(struct content_fixture *f, uint64_t size, const char *etag)
{
	struct object_row o = {
		.store = f->store, .mode = S_IFREG | 0644, .nlink = 1, .size = size
	};
	struct content_map m = { .size = size };

	snprintf(m.etag.text, sizeof(m.etag.text), "%s", etag);
	ok(db_begin(f->v->db));
	ok(object_insert(f->v->db, &o, NULL, 0));
	m.object = o.id;
	ok(content_map_insert(f->v->db, &m));
	o.map = m.id;
	ok(object_update(f->v->db, &o));
	ok(db_commit(f->v->db));
	return o.id;
}

static inline struct file *cf_file(struct content_fixture *f, uint64_t object)
{
	struct file *file;

	ok(file_open(f->v, object, 0, true, &file));
	return file;
}

static inline struct object_row cf_row(struct content_fixture *f, uint64_t object)
{
	struct object_row o;

	db_read(f->v->db);
	ok(object_get(f->v->db, object, &o));
	db_unlock(f->v->db);
	return o;
}

/* Content that tells position and seed apart. */
static inline void cf_pattern(uint8_t *buf, size_t len, uint64_t off, uint32_t seed)
{
	for (size_t i = 0; i < len; i++) {
		uint64_t x = (off + i) / 8 * UINT64_C(0x9e3779b97f4a7c15) + seed;

		x ^= x >> 29;
		buf[i] = (uint8_t)(x >> 8 * ((off + i) % 8));
	}
}

static inline void cf_write(struct file *file, size_t len, uint64_t off, uint32_t seed)
{
	uint8_t *buf = malloc(len);

	assert_non_null(buf);
	cf_pattern(buf, len, off, seed);
	ok(file_write(file, buf, len, off));
	free(buf);
}

/* What the origin would send of it with seed 5. */
static inline int cf_fill(struct file *file, const char *etag, uint64_t off, size_t len)
{
	uint8_t *buf = malloc(len);
	int r;

	assert_non_null(buf);
	cf_pattern(buf, len, off, 5);
	r = file_fill(file, etag, buf, len, off);
	free(buf);
	return r;
}

static inline bool cf_holds(struct file *file, size_t len, uint64_t off, uint32_t seed)
{
	uint8_t *buf = malloc(len), *want = malloc(len);
	size_t got = 0;
	bool same;

	assert_true(buf && want);
	cf_pattern(want, len, off, seed);
	same = !file_read(file, buf, len, off, &got) && got == len && !memcmp(buf, want, len);
	free(buf);
	free(want);
	return same;
}

/* A file's first `len` bytes, committed and closed. */
static inline void cf_rewrite(struct content_fixture *f, uint64_t object, size_t len, uint32_t seed)
{
	struct file *file = cf_file(f, object);

	cf_write(file, len, 0, seed);
	ok(file_commit(file));
	file_unref(file, true);
}

static inline uint64_t cf_make(struct content_fixture *f, size_t len, uint32_t seed)
{
	uint64_t object = cf_object(f);

	cf_rewrite(f, object, len, seed);
	return object;
}

/* Is that its whole content? */
static inline bool cf_is(struct content_fixture *f, uint64_t object, size_t len, uint32_t seed)
{
	struct file *file = cf_file(f, object);
	bool same = file_size(file) == len && cf_holds(file, len, 0, seed);

	file_unref(file, true);
	return same;
}

static uint64_t cf_du_sum;

static inline int cf_du_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	cf_du_sum += type == FTW_F ? (uint64_t)st->st_blocks * 512 : 0;
	return 0;
}

/* Blocks of all regular files under `path`. */
static inline uint64_t cf_du(const char *path)
{
	cf_du_sum = 0;
	nftw(path, cf_du_one, 16, FTW_PHYS);
	return cf_du_sum;
}

/* The path of the blob of an object. */
static inline void cf_blob_path(struct content_fixture *f, uint64_t object, char *out, size_t size)
{
	struct object_row o = cf_row(f, object);
	char name[BLOB_NAME_LEN];
	struct content_blob b;
	struct content_map m;

	db_read(f->v->db);
	ok(content_map_get(f->v->db, o.map, &m));
	ok(content_blob_get(f->v->db, m.blob, &b));
	db_unlock(f->v->db);
	blob_path(b.uuid, name);
	snprintf(out, size, "%s/blobs/%s", f->dir, name);
}

#endif
