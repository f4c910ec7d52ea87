/* The audit log: whatever is done to its rows behind its back is found. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>

#include "base/error.h"
#include "base/io.h"
#include "base/secret.h"
#include "server/audit.h"
#include "server/audit_archive.h"

#define ROWS 6

struct fixture {
	struct unit_dir dir;
	struct store_db *db;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_int_equal(secret_init(false), 0);
	unit_dir_init(&f->dir);
	assert_int_equal(server_store_open(f->dir.path, &f->db), 0);
	for (int i = 0; i < ROWS; i++) {
		assert_int_equal(server_store_run(f->db, SQL_BEGIN_WRITE), 0);
		assert_int_equal(server_audit_add(f->db, "who", "what", "subject %d", i), 0);
		assert_int_equal(server_store_run(f->db, SQL_COMMIT), 0);
	}
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	server_store_close(f->db);
	unit_dir_done(&f->dir);
	free(f);
	return 0;
}

static int verify(struct fixture *f, const struct audit_head *noted, uint64_t *bad)
{
	struct audit_head head;

	return server_audit_verify(f->db, noted, &head, bad);
}

/* Does `sql`, sees it found at entry `where`, and takes it back. */
static void is_found(struct fixture *f, const char *sql, uint64_t where)
{
	sqlite3 *db = server_store_handle(f->db);
	uint64_t bad = 0;

	assert_int_equal(
		sqlite3_exec(db,
			"CREATE TEMP TABLE IF NOT EXISTS kept AS SELECT * FROM audit;"
			"CREATE TEMP TABLE IF NOT EXISTS kept_head AS SELECT * FROM audit_head",
			NULL, NULL, NULL),
		SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	if (verify(f, NULL, &bad) != CE_TAMPER)
		fail_msg("not found: %s", sql);
	assert_int_equal(bad, where);
	assert_int_equal(
		sqlite3_exec(db,
			"DELETE FROM audit; INSERT INTO audit SELECT * FROM kept;"
			"DELETE FROM audit_head; INSERT INTO audit_head SELECT * FROM kept_head",
			NULL, NULL, NULL),
		SQLITE_OK);
	assert_int_equal(verify(f, NULL, &bad), 0);
}

static void every_change_of_a_row_is_found(void **state)
{
	static const char *const changes[] = { "at = at + 1", "who = 'x'", "what = 'x'",
		"subject = 'x'", "subject = subject || char(0) || 'y'", "who = who || 'w'",
		"hash = zeroblob(32)", "hash = x'00'", "n = 100 + n" };

	for (int row = 1; row <= ROWS; row++)
		for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
			char sql[128];

			snprintf(sql, sizeof(sql), "UPDATE audit SET %s WHERE n = %d", changes[i],
				row);
			is_found(*state, sql, (uint64_t)row);
		}
}

static void every_row_taken_away_is_found(void **state)
{
	for (int row = 1; row <= ROWS; row++) {
		char sql[64];

		snprintf(sql, sizeof(sql), "DELETE FROM audit WHERE n = %d", row);
		is_found(*state, sql, (uint64_t)row);
	}
	is_found(*state, "DELETE FROM audit", 1);
	is_found(*state, "DELETE FROM audit WHERE n > 3", 4);
}

static void rows_added_or_exchanged_are_found(void **state)
{
	is_found(*state,
		"INSERT INTO audit SELECT 7, at, who, what, subject, hash FROM audit WHERE n = 6",
		7);
	is_found(*state,
		"INSERT INTO audit SELECT 0, at, who, what, subject, hash FROM audit WHERE n = 1",
		1);
	is_found(*state,
		"UPDATE audit SET n = 99 WHERE n = 2; UPDATE audit SET n = 2 WHERE n = 3;"
		"UPDATE audit SET n = 3 WHERE n = 99",
		2);
}

static void a_false_head_is_found(void **state)
{
	is_found(*state, "UPDATE audit_head SET n = 5", ROWS + 1);
	is_found(*state, "UPDATE audit_head SET hash = zeroblob(32)", ROWS + 1);
	is_found(*state, "DELETE FROM audit_head", ROWS + 1);
}

/* Who rewrites the whole log is found only by a head noted elsewhere. */
static void a_log_written_anew_is_found_by_a_noted_head(void **state)
{
	struct fixture *f = *state;
	struct audit_head noted;
	uint64_t bad;

	assert_int_equal(server_audit_verify(f->db, NULL, &noted, &bad), 0);
	assert_int_equal(verify(f, &noted, &bad), 0);
	assert_int_equal(
		sqlite3_exec(server_store_handle(f->db),
			"DELETE FROM audit; UPDATE audit_head SET n = 0, hash = zeroblob(32)", NULL,
			NULL, NULL),
		SQLITE_OK);
	assert_int_equal(verify(f, &noted, &bad), CE_TAMPER);
	for (int i = 0; i < ROWS + 2; i++)
		assert_int_equal(server_audit_add(f->db, "who", "what", "another %d", i), 0);
	assert_int_equal(verify(f, NULL, &bad), 0);
	assert_int_equal(verify(f, &noted, &bad), CE_TAMPER);
	assert_int_equal(bad, ROWS);
}

static int64_t time_of(struct fixture *f, int n)
{
	sqlite3_stmt *q = server_store_statement(f->db, SQL_AUDIT_LIST);
	int64_t at;

	sqlite3_bind_int64(q, 1, n - 1);
	sqlite3_bind_int64(q, 2, 1);
	assert_int_equal(server_store_step(f->db, q), 1);
	at = sqlite3_column_int64(q, 1);
	server_store_reset(q);
	return at;
}

/* What is older than entry `n` into the file of this name. */
static int archive(struct fixture *f, const char *name, int n, struct server_audit_report *report)
{
	_cleanup_free_ char *error = NULL;
	char file[PATH_MAX];

	snprintf(file, sizeof(file), "%s/%s", f->dir.path, name);
	return server_audit_archive(f->dir.path, file, time_of(f, n), report, &error);
}

static int check(
	struct fixture *f, const char *name, const char *head, struct server_audit_report *report)
{
	_cleanup_free_ char *error = NULL;
	char file[PATH_MAX];

	snprintf(file, sizeof(file), "%s/%s", f->dir.path, name);
	return server_audit_archive_check(file, head, report, &error);
}

static int check_log(struct fixture *f, const char *head, struct server_audit_report *report)
{
	_cleanup_free_ char *error = NULL;

	return server_audit_check(f->dir.path, head, report, &error);
}

static void old_entries_go_into_files_that_prove_themselves(void **state)
{
	struct fixture *f = *state;
	struct server_audit_report first, second, log, again;

	assert_int_equal(archive(f, "one", 4, &first), 0);
	assert_int_equal(first.entries, 3);
	assert_int_equal(archive(f, "two", 6, &second), 0);
	assert_int_equal(second.entries, 2);
	/* One left, and one for each archive. */
	assert_int_equal(check_log(f, NULL, &log), 0);
	assert_int_equal(log.entries, 3);
	assert_int_equal(check(f, "one", NULL, &again), 0);
	assert_string_equal(again.head, first.head);
	assert_int_equal(check(f, "two", NULL, &again), 0);
	assert_string_equal(again.head, second.head);
	/* A head of earlier is looked for where it is, or where it must be followed. */
	assert_int_equal(check(f, "one", first.head, &again), 0);
	assert_int_equal(check(f, "two", first.head, &again), 0);
	assert_int_equal(check_log(f, first.head, &again), -ENOENT);
	assert_int_equal(check_log(f, second.head, &again), 0);
	assert_int_equal(check(f, "one", second.head, &again), CE_TAMPER);
}

static void a_log_that_does_not_follow_its_archive_is_found(void **state)
{
	struct fixture *f = *state;
	struct server_audit_report report;

	assert_int_equal(archive(f, "one", 4, &report), 0);
	is_found(f, "UPDATE audit_head SET base_n = 0", 1);
	is_found(f, "UPDATE audit_head SET base_n = 2", 3);
	is_found(f, "UPDATE audit_head SET base_hash = zeroblob(32)", 4);
	is_found(f, "DELETE FROM audit WHERE n = 4", 4);
}

/* As the file `changed`. */
static void put(int dirfd, const char *text, size_t len)
{
	_cleanup_fd_ int fd = openat(dirfd, "changed", O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_int_equal(io_write_full(fd, text, len), 0);
}

static void every_byte_of_an_archive_counts(void **state)
{
	struct fixture *f = *state;
	struct server_audit_report report;
	_cleanup_free_ char *text = NULL;
	_cleanup_fd_ int dirfd = open(f->dir.path, O_RDONLY | O_DIRECTORY);
	size_t len;

	assert_int_equal(archive(f, "one", 4, &report), 0);
	assert_int_equal(io_read_file(dirfd, "one", 1 << 16, &text, &len), 0);
	for (size_t i = 0; i < len; i++) {
		int r;

		text[i] ^= 1;
		put(dirfd, text, len);
		text[i] ^= 1;
		r = check(f, "changed", NULL, &report);
		if (r != CE_TAMPER && r != CE_FORMAT)
			fail_msg("byte %zu: %d", i, r);
	}
	/* Cut inside a line it is not whole; cut behind one, its head is another. */
	put(dirfd, text, len - 1);
	assert_int_equal(check(f, "changed", NULL, &report), CE_TAMPER);
}

static void nothing_is_archived_that_cannot_be(void **state)
{
	struct fixture *f = *state;
	struct server_audit_report report;
	char file[PATH_MAX];

	snprintf(file, sizeof(file), "%s/one", f->dir.path);
	assert_int_equal(archive(f, "one", 1, &report), -ENOENT);
	assert_int_equal(access(file, F_OK), -1);
	assert_int_equal(archive(f, "records.db", 4, &report), -EEXIST);
	assert_int_equal(sqlite3_exec(server_store_handle(f->db),
				 "UPDATE audit SET who = 'x' WHERE n = 5", NULL, NULL, NULL),
		SQLITE_OK);
	assert_int_equal(archive(f, "one", 4, &report), CE_TAMPER);
	assert_int_equal(access(file, F_OK), -1);
	assert_int_equal(check(f, "records.db", NULL, &report), CE_FORMAT);
}

/* A long subject is cut, and still verifies. */
static void a_long_subject_is_cut(void **state)
{
	struct fixture *f = *state;
	uint64_t bad;

	assert_int_equal(server_audit_add(f->db, "who", "what", "%*d", 5000, 7), 0);
	assert_int_equal(verify(f, NULL, &bad), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_change_of_a_row_is_found, setup, teardown),
		cmocka_unit_test_setup_teardown(every_row_taken_away_is_found, setup, teardown),
		cmocka_unit_test_setup_teardown(rows_added_or_exchanged_are_found, setup, teardown),
		cmocka_unit_test_setup_teardown(a_false_head_is_found, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_log_written_anew_is_found_by_a_noted_head, setup, teardown),
		cmocka_unit_test_setup_teardown(
			old_entries_go_into_files_that_prove_themselves, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_log_that_does_not_follow_its_archive_is_found, setup, teardown),
		cmocka_unit_test_setup_teardown(every_byte_of_an_archive_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(
			nothing_is_archived_that_cannot_be, setup, teardown),
		cmocka_unit_test_setup_teardown(a_long_subject_is_cut, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
