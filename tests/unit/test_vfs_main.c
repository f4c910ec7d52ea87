/* Goal: pages of the main file: sealed, bound to their place, and no changed byte is ever served as
 * data. */
#include "meta_fixture.h"

#include <sqlite3.h>

#include "meta/arena.h"
#include "meta/db_priv.h"
#include "meta/page.h"

static struct page_keys keys_of(struct fixture *f)
{
	struct page_keys k = { 0 };

	assert_int_equal(page_keys_init(&k, f->key), 0);
	return k;
}

/* An index whose log is empty, its counter at `n`; a few pages hold text. */
static void make_checkpointed(struct fixture *f, uint64_t n)
{
	struct db *db;
	char big[20000];

	fixture_init(f);
	db = fixture_create(f);
	memset(big, 'B', sizeof(big));
	assert_int_equal(db_begin(db), 0);
	assert_int_equal(setting_set(db, "big", big, sizeof(big)), 0); /* overflow pages */
	assert_int_equal(db_commit(db), 0);
	assert_int_equal(counter_commit(db, n), 0);
	db_close(db);
}

static int check_big(struct db *db)
{
	char big[20000];
	size_t len;
	int r;

	db_read(db);
	r = setting_get(db, "big", big, sizeof(big), &len);
	db_unlock(db);
	if (r < 0)
		return r;
	assert_int_equal(len, sizeof(big));
	for (size_t i = 0; i < len; i++)
		assert_int_equal(big[i], 'B');
	return 0;
}

/*
 * Opens and reads everything: an error, or exactly what was committed. A damage may be out of the
 * way of these reads; the check over everything must find it.
 */
static void assert_seen(struct fixture *f)
{
	struct db *db = NULL;
	int r = db_open(&f->options, &db, NULL);

	if (r < 0) {
		assert_true(r == CE_TAMPER || r == CE_CORRUPT);
		return;
	}
	if (check_big(db) == 0)
		assert_int_equal(counter_read(db) == -1 ? 7 : counter_read(db), 7);
	db_read(db);
	r = db_integrity_check(db);
	db_unlock(db);
	assert_true(r == CE_TAMPER || r == CE_CORRUPT);
	db_close(db);
}

static void test_page_is_bound_to_its_number_and_key(void **state)
{
	uint8_t plain[PAGE_SIZE_BYTES] = "text", sealed[PAGE_SIZE_BYTES], out[PAGE_SIZE_BYTES];
	struct page_keys k, other;
	struct fixture f;

	fixture_init(&f);
	k = keys_of(&f);
	secret_bytes(f.key)[31] ^= 1;
	other = keys_of(&f);
	assert_int_equal(page_seal(&k, 5, plain, sealed), 0);
	assert_int_equal(page_open(&k, 5, sealed, out), 0);
	assert_memory_equal(out, plain, PAGE_BODY_LEN);
	assert_true(page_reserve_clear(out));
	assert_int_equal(page_open(&k, 6, sealed, out), CE_TAMPER);
	assert_int_equal(page_open(&other, 5, sealed, out), CE_TAMPER);
	page_keys_done(&k);
	page_keys_done(&other);
	fixture_done(&f);
}

static void test_same_page_sealed_twice_differs(void **state)
{
	uint8_t plain[PAGE_SIZE_BYTES] = "text", a[PAGE_SIZE_BYTES], b[PAGE_SIZE_BYTES];
	struct page_keys k;
	struct fixture f;

	fixture_init(&f);
	k = keys_of(&f);
	assert_int_equal(page_seal(&k, 5, plain, a), 0);
	assert_int_equal(page_seal(&k, 5, plain, b), 0);
	assert_memory_not_equal(a, b, 32);
	assert_memory_not_equal(a + PAGE_NONCE_OFFSET, b + PAGE_NONCE_OFFSET, PAGE_NONCE_LEN);
	page_keys_done(&k);
	fixture_done(&f);
}

static void test_every_byte_of_every_page_is_authenticated(void **state)
{
	uint8_t out[PAGE_SIZE_BYTES];
	struct page_keys k;
	struct fixture f;
	struct image i;

	make_checkpointed(&f, 7);
	k = keys_of(&f);
	i = fixture_image(&f);
	assert_int_equal(i.main.len % PAGE_SIZE_BYTES, 0);
	for (size_t at = 0; at < i.main.len; at++) {
		size_t page = at / PAGE_SIZE_BYTES;
		uint8_t *p = i.main.data + page * PAGE_SIZE_BYTES;

		if (at % PAGE_SIZE_BYTES == 0)
			assert_int_equal(page_open(&k, (uint32_t)page + 1, p, out), 0);
		i.main.data[at] ^= (uint8_t)(1 << at % 8);
		assert_int_equal(page_open(&k, (uint32_t)page + 1, p, out), CE_TAMPER);
		i.main.data[at] ^= (uint8_t)(1 << at % 8);
	}
	page_keys_done(&k);
	image_done(&i);
	fixture_done(&f);
}

/* A raw connection over the sealed VFS to a small index of its own, so that 16,384 openings are
 * affordable. */
static sqlite3 *raw_open(struct fixture *f, struct vfs **v, int flags)
{
	struct vfs_options o = { .key = f->key };
	int reserve = PAGE_RESERVE;
	sqlite3 *h;

	assert_int_equal(vfs_new(&o, v), 0);
	/* A damaged page 1 fails here already; the handle then fails at each use. */
	(void)!sqlite3_open_v2(
		fixture_path(f, "raw.db"), &h, flags | SQLITE_OPEN_READWRITE, vfs_name(*v));
	assert_non_null(h);
	sqlite3_file_control(h, "main", SQLITE_FCNTL_RESERVE_BYTES, &reserve);
	return h;
}

static void raw_close(sqlite3 *h, struct vfs *v)
{
	assert_int_equal(sqlite3_close(h), SQLITE_OK);
	vfs_free(v);
}

static int raw_exec(sqlite3 *h, const char *sql)
{
	return sqlite3_exec(h, sql, NULL, NULL, NULL);
}

/* The text of row 1 into `out`, or an error. */
static int raw_read(sqlite3 *h, char *out, size_t size)
{
	sqlite3_stmt *q;
	int rc = sqlite3_prepare_v2(h, "SELECT text FROM t WHERE id = 1", -1, &q, NULL);

	if (rc != SQLITE_OK)
		return rc;
	rc = sqlite3_step(q);
	if (rc == SQLITE_ROW)
		snprintf(out, size, "%s", sqlite3_column_text(q, 0));
	sqlite3_finalize(q);
	return rc;
}

static void test_every_flipped_byte_of_a_small_index_is_an_error(void **state)
{
	struct fixture f;
	struct bytes b;
	struct vfs *v;
	sqlite3 *h;
	char text[100];

	fixture_init(&f);
	h = raw_open(&f, &v, SQLITE_OPEN_CREATE);
	assert_int_equal(raw_exec(h, "PRAGMA journal_mode = MEMORY; CREATE TABLE t(id INTEGER "
				     "PRIMARY KEY, text);"
				     "INSERT INTO t VALUES(1, 'row one')"),
		SQLITE_OK);
	assert_int_equal(raw_read(h, text, sizeof(text)), SQLITE_ROW);
	raw_close(h, v);
	b = fixture_read(&f, "raw.db");
	assert_int_equal(b.len, 2 * PAGE_SIZE_BYTES);
	for (size_t at = 0; at < b.len; at++) {
		fixture_flip(&f, "raw.db", at);
		h = raw_open(&f, &v, 0);
		assert_int_not_equal(raw_read(h, text, sizeof(text)), SQLITE_ROW);
		assert_int_equal(vfs_tampered(v), CE_TAMPER);
		raw_close(h, v);
		fixture_flip(&f, "raw.db", at);
	}
	free(b.data);
	fixture_done(&f);
}

static void test_a_flipped_byte_in_any_page_is_seen_through_the_index(void **state)
{
	struct fixture f;
	struct image i;

	make_checkpointed(&f, 7);
	i = fixture_image(&f);
	for (size_t page = 0; page < i.main.len / PAGE_SIZE_BYTES; page++) {
		fixture_flip(&f, DB_FILE, page * PAGE_SIZE_BYTES + page * 97 % PAGE_SIZE_BYTES);
		assert_seen(&f);
		fixture_restore(&f, &i);
	}
	image_done(&i);
	fixture_done(&f);
}

static void test_swapped_pages_are_seen(void **state)
{
	uint8_t page[PAGE_SIZE_BYTES];
	struct fixture f;
	struct image i;
	size_t n;

	make_checkpointed(&f, 7);
	i = fixture_image(&f);
	n = i.main.len / PAGE_SIZE_BYTES;
	for (size_t a = 0; a < n; a += 3) {
		size_t b = (a * 7 + 5) % n;

		if (a == b)
			continue;
		memcpy(page, i.main.data + a * PAGE_SIZE_BYTES, PAGE_SIZE_BYTES);
		memcpy(i.main.data + a * PAGE_SIZE_BYTES, i.main.data + b * PAGE_SIZE_BYTES,
			PAGE_SIZE_BYTES);
		memcpy(i.main.data + b * PAGE_SIZE_BYTES, page, PAGE_SIZE_BYTES);
		fixture_restore(&f, &i);
		assert_seen(&f);
		memcpy(i.main.data + b * PAGE_SIZE_BYTES, i.main.data + a * PAGE_SIZE_BYTES,
			PAGE_SIZE_BYTES);
		memcpy(i.main.data + a * PAGE_SIZE_BYTES, page, PAGE_SIZE_BYTES);
	}
	image_done(&i);
	fixture_done(&f);
}

static void test_zeroed_pages_are_seen(void **state)
{
	uint8_t page[PAGE_SIZE_BYTES];
	struct fixture f;
	struct image i;

	make_checkpointed(&f, 7);
	i = fixture_image(&f);
	for (size_t p = 0; p < i.main.len / PAGE_SIZE_BYTES; p++) {
		memcpy(page, i.main.data + p * PAGE_SIZE_BYTES, PAGE_SIZE_BYTES);
		memset(i.main.data + p * PAGE_SIZE_BYTES, 0, PAGE_SIZE_BYTES);
		fixture_restore(&f, &i);
		assert_seen(&f);
		memcpy(i.main.data + p * PAGE_SIZE_BYTES, page, PAGE_SIZE_BYTES);
	}
	image_done(&i);
	fixture_done(&f);
}

static void test_truncation_is_seen(void **state)
{
	struct fixture f;
	struct image i;
	size_t whole;

	make_checkpointed(&f, 7);
	i = fixture_image(&f);
	whole = i.main.len;
	for (size_t cut = 0; cut < whole; cut += cut % PAGE_SIZE_BYTES ? 2048 : 1000) {
		i.main.len = cut;
		fixture_restore(&f, &i);
		assert_seen(&f);
	}
	image_done(&i);
	fixture_done(&f);
}

/* A log beside it: SQLite then takes the size from the log's last commit, not from the file. */
static void test_truncation_below_a_log_is_seen(void **state)
{
	struct fixture f;
	struct image i;
	struct db *db;
	size_t whole;

	make_checkpointed(&f, 6);
	db = fixture_open(&f, NULL);
	assert_int_equal(counter_commit(db, 7), 0);
	i = fixture_image(&f);
	db_close(db);
	whole = i.main.len;
	for (size_t cut = 0; cut < whole; cut += PAGE_SIZE_BYTES) {
		i.main.len = cut;
		fixture_restore(&f, &i);
		assert_seen(&f);
	}
	image_done(&i);
	fixture_done(&f);
}

static void test_empty_file_beside_a_log_does_not_cost_the_log(void **state)
{
	struct image i, after;
	struct fixture f;
	struct db *db, *other;

	make_checkpointed(&f, 6);
	db = fixture_open(&f, NULL);
	assert_int_equal(counter_commit(db, 7), 0);
	i = fixture_image(&f);
	db_close(db);
	i.main.len = 0;
	fixture_restore(&f, &i);
	assert_int_equal(db_open(&f.options, &other, NULL), CE_TAMPER);
	after = fixture_image(&f);
	assert_int_equal(after.wal.len, i.wal.len);
	image_done(&after);
	image_done(&i);
	fixture_done(&f);
}

static void test_page_1_torn_by_a_checkpoint_costs_nothing(void **state)
{
	struct image before, after;
	struct fixture f;
	struct db *db;
	char big[60000];

	make_checkpointed(&f, 6);
	db = fixture_open(&f, NULL);
	memset(big, 'C', sizeof(big));
	assert_int_equal(db_begin(db), 0);
	assert_int_equal(setting_set(db, "grows", big, sizeof(big)), 0); /* page 1 holds the size */
	assert_int_equal(db_commit(db), 0);
	assert_int_equal(counter_commit(db, 7), 0);
	before = fixture_image(&f);
	db_close(db);
	after = fixture_image(&f);
	for (size_t torn = 512; torn < PAGE_SIZE_BYTES; torn += 512) {
		struct image i = { .main = fixture_read(&f, DB_FILE), .wal = before.wal };

		i.main.len = before.main.len;
		memcpy(i.main.data, after.main.data, torn);
		memcpy(i.main.data + torn, before.main.data + torn, before.main.len - torn);
		fixture_restore(&f, &i);
		db = fixture_open(&f, NULL);
		assert_int_equal(counter_read(db), 7);
		assert_int_equal(check_big(db), 0);
		db_read(db);
		assert_int_equal(db_integrity_check(db), 0);
		db_unlock(db);
		db_close(db);
		free(i.main.data);
	}
	image_done(&before);
	image_done(&after);
	fixture_done(&f);
}

static void test_damaged_page_1_without_a_log_is_tampering_not_a_wrong_key(void **state)
{
	struct fixture f;
	struct db *db;

	make_checkpointed(&f, 7);
	fixture_flip(&f, DB_FILE, 50);
	assert_int_equal(db_open(&f.options, &db, NULL), CE_TAMPER);
	fixture_done(&f);
}

static sqlite3_file *file_of(sqlite3 *h)
{
	sqlite3_file *file = NULL;

	assert_int_equal(
		sqlite3_file_control(h, "main", SQLITE_FCNTL_FILE_POINTER, &file), SQLITE_OK);
	return file;
}

static void test_holes_are_filled_with_sealed_pages(void **state)
{
	uint8_t plain[PAGE_SIZE_BYTES] = { 0 };
	struct page_keys k;
	struct fixture f;
	struct bytes b;
	struct vfs *v;
	sqlite3 *h;
	sqlite3_file *file;

	fixture_init(&f);
	k = keys_of(&f);
	h = raw_open(&f, &v, SQLITE_OPEN_CREATE);
	file = file_of(h);
	assert_int_equal(file->pMethods->xWrite(file, plain, PAGE_SIZE_BYTES, 4 * PAGE_SIZE_BYTES),
		SQLITE_OK);
	assert_int_equal(file->pMethods->xTruncate(file, 8 * PAGE_SIZE_BYTES), SQLITE_OK);
	assert_int_equal(vfs_main_bytes(v), 8 * PAGE_SIZE_BYTES);
	raw_close(h, v);
	b = fixture_read(&f, "raw.db");
	assert_int_equal(b.len, 8 * PAGE_SIZE_BYTES);
	for (uint32_t p = 0; p < 8; p++)
		assert_int_equal(page_open(&k, p + 1, b.data + p * PAGE_SIZE_BYTES, plain), 0);
	free(b.data);
	page_keys_done(&k);
	fixture_done(&f);
}

static void test_any_range_inside_a_page_is_served_and_none_across(void **state)
{
	uint8_t whole[PAGE_SIZE_BYTES], part[PAGE_SIZE_BYTES];
	struct fixture f;
	struct vfs *v;
	sqlite3 *h;
	sqlite3_file *file;

	fixture_init(&f);
	h = raw_open(&f, &v, SQLITE_OPEN_CREATE);
	assert_int_equal(
		raw_exec(h, "PRAGMA journal_mode = MEMORY; CREATE TABLE t(id)"), SQLITE_OK);
	file = file_of(h);
	assert_int_equal(file->pMethods->xRead(file, whole, PAGE_SIZE_BYTES, 0), SQLITE_OK);
	assert_memory_equal(whole, "SQLite format 3", 16);
	for (int len = 1; len < 200; len += 33)
		for (int at = 0; at + len <= PAGE_SIZE_BYTES; at += 101) {
			assert_int_equal(file->pMethods->xRead(file, part, len, at), SQLITE_OK);
			assert_memory_equal(part, whole + at, (size_t)len);
		}
	assert_int_not_equal(
		file->pMethods->xRead(file, part, 20, PAGE_SIZE_BYTES - 10), SQLITE_OK);
	assert_int_not_equal(file->pMethods->xWrite(file, whole, 512, 0), SQLITE_OK);
	raw_close(h, v);
	fixture_done(&f);
}

static void test_nothing_is_mapped_and_only_powersafe_overwrite_is_claimed(void **state)
{
	struct fixture f;
	struct vfs *v;
	sqlite3 *h;
	sqlite3_file *file;

	fixture_init(&f);
	h = raw_open(&f, &v, SQLITE_OPEN_CREATE);
	file = file_of(h);
	assert_int_equal(file->pMethods->iVersion, 2);
	assert_int_equal(
		file->pMethods->xDeviceCharacteristics(file), SQLITE_IOCAP_POWERSAFE_OVERWRITE);
	raw_close(h, v);
	fixture_done(&f);
}

static void test_copying_a_plain_database_in_is_refused(void **state)
{
	struct fixture f;
	struct vfs *v;
	sqlite3 *h, *plain;
	sqlite3_backup *b;
	struct bytes bytes;
	int rc = SQLITE_OK;

	fixture_init(&f);
	assert_int_equal(sqlite3_open(":memory:", &plain), SQLITE_OK);
	assert_int_equal(raw_exec(plain, "CREATE TABLE t(x); INSERT INTO t VALUES('CANARY-PLAIN')"),
		SQLITE_OK);
	h = raw_open(&f, &v, SQLITE_OPEN_CREATE);
	assert_int_equal(raw_exec(h, "PRAGMA journal_mode = MEMORY"), SQLITE_OK);
	b = sqlite3_backup_init(h, "main", plain, "main");
	if (b) {
		rc = sqlite3_backup_step(b, -1);
		sqlite3_backup_finish(b);
	}
	assert_true(!b || rc != SQLITE_DONE);
	raw_close(h, v);
	sqlite3_close(plain);
	bytes = fixture_read(&f, "raw.db");
	assert_null(memmem(bytes.data, bytes.len, "CANARY-PLAIN", 12));
	free(bytes.data);
	fixture_done(&f);
}

static void test_decrypted_pages_live_in_memory_left_out_of_dumps(void **state)
{
	unsigned long from = 0, to = 0, covered = 0;
	const uint8_t *memory;
	struct fixture f;
	struct db *db;
	char line[256];
	size_t len;
	FILE *maps;

	fixture_init(&f);
	db = fixture_create(&f);
	assert_int_equal(counter_commit(db, 25), 0);
	memory = arena_memory(&len);
	assert_non_null(memory);
	assert_non_null(memmem(memory, len, "zzzzzzzzzzzzzzzzzzzz", 20));
	maps = fopen("/proc/self/smaps", "r");
	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps)) {
		unsigned long a, b;

		if (sscanf(line, "%lx-%lx ", &a, &b) == 2) {
			from = MAX_OF(a, (unsigned long)memory);
			to = MIN_OF(b, (unsigned long)memory + len);
		}
		if (strncmp(line, "VmFlags:", 8) == 0 && from < to) {
			assert_non_null(strstr(line, " dd"));
			covered += to - from;
		}
	}
	fclose(maps);
	assert_true(covered >= len);
	db_close(db);
	fixture_done(&f);
}

static int setup(void **state)
{
	return secret_init(false);
}

/* As "unix-excl" when the first open fails for whatever reason: the file is there to be read only.
 */
static int open_to_read(sqlite3_vfs *v, const char *name, sqlite3_file *file, int flags, int *out)
{
	sqlite3_vfs *real = sqlite3_vfs_find("unix-excl");
	int to_read =
		(flags & ~(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)) | SQLITE_OPEN_READONLY;
	int rc = real->xOpen(real, name, file, to_read, NULL);

	if (out)
		*out = to_read;
	return rc;
}

/* It would refuse every change until it is opened anew. */
static void test_an_index_that_can_only_be_read_is_not_opened(void **state)
{
	sqlite3_vfs reluctant = *sqlite3_vfs_find("unix-excl");
	struct db *db = NULL;
	struct fixture f;

	make_checkpointed(&f, 7);
	reluctant.zName = "reluctant";
	reluctant.xOpen = open_to_read;
	assert_int_equal(sqlite3_vfs_register(&reluctant, 0), SQLITE_OK);
	f.options.base_vfs = "reluctant";
	assert_int_not_equal(db_open(&f.options, &db, NULL), 0);
	assert_null(db);
	f.options.base_vfs = NULL;
	sqlite3_vfs_unregister(&reluctant);
	db = fixture_open(&f, NULL);
	assert_int_equal(counter_read(db), 7);
	db_close(db);
	fixture_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			test_decrypted_pages_live_in_memory_left_out_of_dumps), /* sets SQLite up */
		cmocka_unit_test(test_page_is_bound_to_its_number_and_key),
		cmocka_unit_test(test_same_page_sealed_twice_differs),
		cmocka_unit_test(test_every_byte_of_every_page_is_authenticated),
		cmocka_unit_test(test_every_flipped_byte_of_a_small_index_is_an_error),
		cmocka_unit_test(test_a_flipped_byte_in_any_page_is_seen_through_the_index),
		cmocka_unit_test(test_swapped_pages_are_seen),
		cmocka_unit_test(test_zeroed_pages_are_seen),
		cmocka_unit_test(test_truncation_is_seen),
		cmocka_unit_test(test_truncation_below_a_log_is_seen),
		cmocka_unit_test(test_empty_file_beside_a_log_does_not_cost_the_log),
		cmocka_unit_test(test_page_1_torn_by_a_checkpoint_costs_nothing),
		cmocka_unit_test(test_damaged_page_1_without_a_log_is_tampering_not_a_wrong_key),
		cmocka_unit_test(test_holes_are_filled_with_sealed_pages),
		cmocka_unit_test(test_any_range_inside_a_page_is_served_and_none_across),
		cmocka_unit_test(test_nothing_is_mapped_and_only_powersafe_overwrite_is_claimed),
		cmocka_unit_test(test_copying_a_plain_database_in_is_refused),
		cmocka_unit_test(test_an_index_that_can_only_be_read_is_not_opened),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
