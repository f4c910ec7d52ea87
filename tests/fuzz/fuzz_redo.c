/*
 * The redo log of the index. As a file: changed anywhere it gives a prefix of the records that were
 * appended, each as it was, and after the tail was wiped the same again. As a payload: what stands
 * behind the seal is run on an index, or refused and rolled back, and what was there before stays.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "fuzz.h"
#include "meta/db.h"
#include "meta/db_priv.h"
#include "meta/redo.h"
#include "meta/redo_run.h"
#include "meta/store.h"

#define RECORDS 10
#define RECORD_MAX 4096

static struct secret *key;
static struct db *db;
static struct redo_mark start;
static struct fuzz_bytes whole;
static struct {
	uint8_t bytes[RECORD_MAX];
	size_t len;
} records[RECORDS];

static void path(char out[static 300])
{
	snprintf(out, 300, "%s/%s", fuzz_dir(), REDO_FILE);
}

static struct redo *open_log(uint64_t bytes)
{
	const struct redo_options o = {
		.dir = fuzz_dir(), .dirfd = fuzz_dirfd(), .key = key, .bytes = bytes
	};
	struct redo *r = NULL;

	FUZZ_CHECK(redo_open(&o, &r) == 0);
	return r;
}

static void open_index(void)
{
	struct db_options o = { .dir = fuzz_dir(), .create = true, .key = key };

	FUZZ_CHECK(db_open(&o, &db, NULL) == 0);
	FUZZ_CHECK(db_begin(db) == 0);
	FUZZ_CHECK(setting_set(db, "kept", "value", 5) == 0);
	FUZZ_CHECK(db_commit(db) == 0);
}

static void append(struct redo *r, unsigned n)
{
	const struct redo_value_ref v[3] = { { .type = REDO_INTEGER, .i = -(int64_t)n },
		{ .type = REDO_TEXT, .bytes = "text", .len = 4 },
		{ .type = REDO_BLOB, .bytes = records, .len = n * 97 % 900 } };

	for (unsigned i = 0; i <= n % 3; i++)
		redo_run(r, n % 4, "INSERT INTO setting VALUES (?, ?, ?)", v, 3, 1, n);
	FUZZ_CHECK(redo_append(r) == 0);
}

/* How many records it gives, each as it was; `first`: they are noted. */
static unsigned read_all(struct redo *r, bool first, struct redo_place *p)
{
	const uint8_t *payload;
	unsigned n = 0;
	size_t len;

	FUZZ_CHECK(redo_locate(r, &start, p) == 0);
	for (; redo_next(r, p, &payload, &len); n++) {
		FUZZ_CHECK(n < RECORDS && len <= RECORD_MAX);
		if (first) {
			records[n].len = len;
			memcpy(records[n].bytes, payload, len);
		}
		FUZZ_CHECK(records[n].len == len && !memcmp(records[n].bytes, payload, len));
	}
	return n;
}

static void prepare(void)
{
	static const uint8_t bytes[32] = { 11 };
	struct redo_place p;
	struct redo *r;
	char name[300];

	if (key)
		return;
	FUZZ_CHECK(secret_new_copy(bytes, sizeof(bytes), &key) == 0);
	open_index();
	r = open_log(8192);
	FUZZ_CHECK(redo_locate(r, &start, &p) == 0);
	redo_done_reading(r);
	redo_go_on(r, &p);
	for (unsigned i = 0; i < RECORDS; i++)
		append(r, i);
	FUZZ_CHECK(redo_sync(r, redo_number(r)) == 0);
	FUZZ_CHECK(read_all(r, true, &p) == RECORDS);
	redo_free(r);
	path(name);
	whole = fuzz_load(name);
}

static void file(struct fuzz_input *in)
{
	struct redo_place p;
	struct redo_tail t;
	bool changed;
	struct redo *r;
	char name[300];
	unsigned n;

	path(name);
	changed = fuzz_store_changed(name, &whole, in);
	r = open_log(0);
	n = read_all(r, false, &p);
	redo_tail(r, &p, &t);
	FUZZ_CHECK(changed || (n == RECORDS && !t.damaged));
	FUZZ_CHECK(redo_wipe(r, &p) == 0);
	FUZZ_CHECK(read_all(r, false, &p) == n);
	redo_tail(r, &p, &t);
	FUZZ_CHECK(!t.damaged);
	redo_free(r);
}

/* Statements that an index has and some that it has not, then runs of them, or bytes as they come.
 */
static size_t put_statement(uint8_t *out, struct fuzz_input *in)
{
	static const char *const texts[] = {
		"INSERT INTO setting VALUES (?, ?)",
		"DELETE FROM setting WHERE key = ?",
		"UPDATE setting SET value = ? WHERE key = ?",
		"SELECT * FROM setting",
		"DROP TABLE setting",
		"COMMIT",
		"",
		"nonsense ?",
	};
	const char *text = texts[fuzz_take(in, 1) % 8];
	size_t len = strlen(text);

	out[0] = REDO_OP_TEXT;
	out[1] = (uint8_t)fuzz_take(in, 1) & 3;
	out[2] = (uint8_t)len;
	memcpy(out + 3, text, len);
	return len + 3;
}

static void payload(struct fuzz_input *in)
{
	struct redo_run *x = calloc(1, sizeof(*x));
	uint8_t bytes[8192], value[8];
	size_t n = 0, len = 0;

	FUZZ_CHECK(x);
	x->db = db;
	for (unsigned i = (unsigned)fuzz_take(in, 1) % 4; i; i--)
		n += put_statement(bytes + n, in);
	len = in->len < sizeof(bytes) - n ? in->len : sizeof(bytes) - n;
	if (len)
		memcpy(bytes + n, in->data, len);
	FUZZ_CHECK(db_begin(db) == 0);
	(void)!redo_run_payload(x, bytes, n + len);
	redo_run_done(x);
	free(x);
	db_rollback(db);
	db_read(db);
	FUZZ_CHECK(setting_get(db, "kept", value, sizeof(value), &len) == 0);
	FUZZ_CHECK(len == 5 && !memcmp(value, "value", 5));
	db_unlock(db);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };

	prepare();
	if (fuzz_take(&in, 1) & 1)
		payload(&in);
	else
		file(&in);
	return 0;
}
