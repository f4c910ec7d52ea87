/*
 * The files of an index, changed as the input says: what opens holds a prefix of the commits, each
 * as it was; what was checkpointed is there or the index does not open. Whatever is reported, a
 * second opening says the same or better.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "fuzz.h"
#include "meta/db.h"
#include "meta/store.h"

#define CHECKPOINTED 5
#define COMMITS 12
#define VALUE_LEN 700 /* several pages a commit */
#define FILES_MAX 8
#define CHANGES_MAX 4

static struct {
	char path[400];
	struct fuzz_bytes content;
} files[FILES_MAX];
static size_t n_files;
static struct secret *key;

static void key_name(char out[static 16], unsigned i)
{
	snprintf(out, 16, "k%u", i);
}

static void value(uint8_t out[static VALUE_LEN], unsigned i)
{
	memset(out, (int)(i * 37 + 11), VALUE_LEN);
}

static void commit(struct db *db, unsigned i)
{
	uint8_t v[VALUE_LEN];
	char name[16];

	key_name(name, i);
	value(v, i);
	FUZZ_CHECK(db_begin(db) == 0);
	FUZZ_CHECK(setting_set(db, name, v, sizeof(v)) == 0);
	FUZZ_CHECK(db_commit(db) == 0);
}

static void keep_files(void)
{
	struct dirent *e;
	DIR *dir = opendir(fuzz_dir());

	FUZZ_CHECK(dir);
	while ((e = readdir(dir))) {
		if (e->d_type != DT_REG)
			continue;
		FUZZ_CHECK(n_files < FILES_MAX);
		snprintf(
			files[n_files].path, sizeof(files[0].path), "%s/%s", fuzz_dir(), e->d_name);
		files[n_files].content = fuzz_load(files[n_files].path);
		n_files++;
	}
	closedir(dir);
	FUZZ_CHECK(n_files >= 2);
}

/* As SIGKILL leaves it: copied while the index is open. */
static void prepare(void)
{
	struct db_options o = { .dir = fuzz_dir(), .create = true };
	struct db *db;

	if (key)
		return;
	FUZZ_CHECK(secret_new(32, &key) == 0);
	memset(secret_bytes(key), 0x3c, 32);
	o.key = key;
	FUZZ_CHECK(db_open(&o, &db, NULL) == 0);
	for (unsigned i = 0; i < COMMITS; i++) {
		commit(db, i);
		if (i == CHECKPOINTED - 1)
			FUZZ_CHECK(db_checkpoint(db, true) == 0);
		if (i == CHECKPOINTED + 2)
			FUZZ_CHECK(db_sync(db) == 0);
	}
	keep_files();
	db_close(db);
}

/* -1: an error on the way, which is an answer, too. */
static int count(struct db *db)
{
	uint8_t v[VALUE_LEN], want[VALUE_LEN];
	char name[16];
	unsigned n = 0, i;
	size_t len;
	int r = 0;

	db_read(db);
	for (i = 0; i < COMMITS; i++) {
		key_name(name, i);
		r = setting_get(db, name, v, sizeof(v), &len);
		if (r == -ENOENT)
			continue;
		if (r)
			break;
		value(want, i);
		FUZZ_CHECK(len == sizeof(want) && !memcmp(v, want, len));
		FUZZ_CHECK(n == i); /* a prefix */
		n++;
	}
	db_unlock(db);
	return r && r != -ENOENT ? -1 : (int)n;
}

static int open_and_count(void)
{
	struct db_options o = { .dir = fuzz_dir(), .key = key };
	struct db_recovery rec;
	struct db *db = NULL;
	int r = db_open(&o, &db, &rec), n;

	if (r)
		return -1;
	n = count(db);
	if (n >= 0)
		FUZZ_CHECK(n >= CHECKPOINTED);
	db_close(db);
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	size_t changed[FILES_MAX] = { 0 };
	int n;

	prepare();
	fuzz_clear();
	for (size_t i = 0; i < n_files; i++)
		fuzz_store(files[i].path, &files[i].content);
	for (unsigned i = 0; i < CHANGES_MAX && in.len; i++) {
		size_t at = fuzz_take(&in, 1) % n_files;
		struct fuzz_bytes b = fuzz_load(files[at].path);

		changed[at] += fuzz_mutate(&b, &in);
		fuzz_store(files[at].path, &b);
		free(b.data);
	}
	n = open_and_count();
	if (n >= 0)
		FUZZ_CHECK(open_and_count() == n); /* what was served once stays */
	for (size_t i = 0; i < n_files; i++)
		if (changed[i])
			return 0;
	FUZZ_CHECK(n == COMMITS);
	return 0;
}
