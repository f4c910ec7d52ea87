/*
 * Theory of operation.
 *
 * Two temporary views. The inner one reads the real tables, of one store, and turns contents into
 * JSON texts by a function of ours; the outer one, `records`, is what queries see. SQLite tells the
 * authorizer through which view a table is read, but a query can name a subquery as it likes: so
 * the inner view has a random name, and only what comes through it may read tables or call the
 * function.
 */
#include "server/query_db.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/io.h"
#include "base/json.h"
#include "base/secret.h"

#define FUNCTION "cachet_json"
#define OPS_PER_LOOK 1000

/* ---- content as JSON ---- */

static int read_file(struct query_db *q, const uint8_t *file, uint64_t size)
{
	_cleanup_fd_ int fd = -1;
	_cleanup_free_ char *text = NULL;
	int r = server_body_open(q->dirs, file, &fd);

	if (r) {
		/* Replaced since this statement began: it has to begin again. */
		q->file_gone = r == -ENOENT;
		return r;
	}
	text = malloc(size);
	if (!text)
		return -ENOMEM;
	r = io_pread_full(fd, text, size, 0);
	return r ? r : buffer_append(&q->last, text, size);
}

/* Leaves q->last empty when it is no JSON. */
static int load(struct query_db *q, sqlite3_value **arg)
{
	uint64_t size = (uint64_t)sqlite3_value_int64(arg[3]);
	_cleanup_json_ struct json *json = NULL;
	int r = 0;

	q->last.len = 0;
	q->last_n = sqlite3_value_int64(arg[0]);
	if (!size || size > QUERY_JSON_MAX)
		return 0;
	if (sqlite3_value_bytes(arg[2]) == RECORD_FILE_LEN)
		r = read_file(q, sqlite3_value_blob(arg[2]), size);
	else
		r = buffer_append(
			&q->last, sqlite3_value_blob(arg[1]), (size_t)sqlite3_value_bytes(arg[1]));
	if (r)
		return r;
	if (!bytes_is_utf8((const uint8_t *)q->last.data, q->last.len) ||
		json_parse(q->last.data, q->last.len, &json))
		q->last.len = 0;
	return 0;
}

/* (row, inline content, content file, size) */
static void json_of(sqlite3_context *ctx, int argc, sqlite3_value **arg)
{
	struct query_db *q = sqlite3_user_data(ctx);

	(void)argc;
	if (sqlite3_value_int64(arg[0]) != q->last_n && load(q, arg)) {
		q->last_n = 0;
		sqlite3_result_error(ctx, "a content cannot be read", -1);
		return;
	}
	if (q->last.len)
		sqlite3_result_text(ctx, q->last.data, (int)q->last.len, SQLITE_TRANSIENT);
}

/* ---- what a query may do ---- */

static bool is_table_function(const char *table)
{
	return !strcmp(table, "json_each") || !strcmp(table, "json_tree");
}

static bool is_real_table(const struct query_db *q, const char *table)
{
	const char *name = q->tables.data;

	for (; *name; name += strlen(name) + 1)
		if (!strcasecmp(name, table))
			return true;
	return false;
}

/* A read without column is one that counts rows; it may be of a subquery, and then has no database.
 */
static bool may_read(const struct query_db *q, const char *table, const char *column,
	const char *db, bool inside)
{
	if (is_table_function(table))
		return true;
	if (!*column && !db)
		return !strcmp(table, "records") || !is_real_table(q, table);
	if (db && !strcmp(db, "temp"))
		return !strcmp(table, "records") || !strcmp(table, q->inner);
	return inside && (!strcmp(table, "records") || !strcmp(table, "contents"));
}

static bool may_call(const char *function, bool inside)
{
	return strcmp(function, FUNCTION) != 0 ? strncasecmp(function, "sqlite_", 7) != 0 &&
							 strcasecmp(function, "load_extension") != 0
					       : inside;
}

static int authorize(
	void *arg, int action, const char *a, const char *b, const char *db, const char *through)
{
	const struct query_db *q = arg;
	bool inside = through && !strcmp(through, q->inner);

	switch (action) {
	case SQLITE_SELECT:
	case SQLITE_RECURSIVE:
		return SQLITE_OK;
	case SQLITE_READ:
		return may_read(q, a, b, db, inside) ? SQLITE_OK : SQLITE_DENY;
	case SQLITE_FUNCTION:
		return may_call(b, inside) ? SQLITE_OK : SQLITE_DENY;
	default:
		return SQLITE_DENY;
	}
}

static int look_at_clock(void *arg)
{
	struct query_db *q = arg;

	q->timed_out = clock_boot_ms() > q->until_ms;
	return q->timed_out;
}

/* ---- opening ---- */

static const struct {
	int id, value;
} limits[] = {
	{ SQLITE_LIMIT_LENGTH, 2 * QUERY_BYTES_MAX },
	{ SQLITE_LIMIT_SQL_LENGTH, QUERY_SQL_MAX },
	{ SQLITE_LIMIT_COLUMN, 100 },
	{ SQLITE_LIMIT_EXPR_DEPTH, 100 },
	{ SQLITE_LIMIT_COMPOUND_SELECT, 20 },
	{ SQLITE_LIMIT_VDBE_OP, 100000 },
	{ SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1000 },
	{ SQLITE_LIMIT_ATTACHED, 0 },
};

static int make_views(struct query_db *q, int64_t store)
{
	uint8_t name[16];
	char sql[1024];

	secret_random(name, sizeof(name));
	memcpy(q->inner, "v_", 2);
	bytes_to_hex(name, sizeof(name), q->inner + 2);
	snprintf(sql, sizeof(sql),
		"CREATE TEMP VIEW %s AS SELECT r.id AS id,"
		" coalesce((SELECT p.id FROM main.records p WHERE p.n = r.parent), 'root') AS "
		"parent,"
		" r.name AS name, r.size AS size, r.mode AS mode, r.mtime_ns AS mtime_ns,"
		" r.seq AS seq, " FUNCTION "(r.n, c.data, r.file, r.size) AS json"
		" FROM main.records r LEFT JOIN main.contents c ON c.n = r.n"
		" WHERE r.store = %lld AND r.deleted = 0 AND r.kind = 1;"
		"CREATE TEMP VIEW records AS SELECT id, parent, name, size, mode, mtime_ns, seq,"
		" json FROM %s WHERE json IS NOT NULL",
		q->inner, (long long)store, q->inner);
	return server_store_error(sqlite3_exec(q->db, sql, NULL, NULL, NULL));
}

/* The names of all tables, each ended by NUL, the list by an empty one. */
static int list_tables(struct query_db *q)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(
		q->db, "SELECT name FROM main.sqlite_schema WHERE type = 'table'", -1, &stmt, NULL);
	int r = server_store_error(rc);

	while (!r && (rc = sqlite3_step(stmt)) == SQLITE_ROW)
		r = buffer_append(&q->tables, sqlite3_column_text(stmt, 0),
			(size_t)sqlite3_column_bytes(stmt, 0) + 1);
	if (!r && rc != SQLITE_DONE)
		r = server_store_error(rc);
	sqlite3_finalize(stmt);
	return r ? r : buffer_append(&q->tables, "", 1);
}

/* Table functions declare themselves at their first use: before the authorizer sees it. */
static int connect_json(sqlite3 *db)
{
	return server_store_error(sqlite3_exec(
		db, "SELECT 1 FROM json_each('[]'), json_tree('[]')", NULL, NULL, NULL));
}

static int configure(struct query_db *q, int64_t store)
{
	int r;

	sqlite3_busy_timeout(q->db, QUERY_TIME_MS);
	sqlite3_db_config(q->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(q->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	r = server_store_error(sqlite3_exec(
		q->db, "PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0", NULL, NULL, NULL));
	if (!r)
		r = server_store_error(sqlite3_create_function(
			q->db, FUNCTION, 4, SQLITE_UTF8, q, json_of, NULL, NULL));
	if (!r)
		r = make_views(q, store);
	if (!r)
		r = list_tables(q);
	if (!r)
		r = connect_json(q->db);
	if (r)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
		sqlite3_limit(q->db, limits[i].id, limits[i].value);
	sqlite3_progress_handler(q->db, OPS_PER_LOOK, look_at_clock, q);
	return server_store_error(sqlite3_set_authorizer(q->db, authorize, q));
}

int server_query_db_open(const struct query_place *place, struct query_db *out)
{
	_cleanup_free_ char *path = NULL;
	int r;

	*out = (struct query_db){ .dirs = place->dirs };
	out->until_ms = clock_boot_ms() + QUERY_TIME_MS;
	if (bytes_print(&path, "%s/" STORE_DB_NAME, place->dir))
		return -ENOMEM;
	r = server_store_error(sqlite3_open_v2(path, &out->db,
		SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, NULL));
	return r ? r : configure(out, place->store);
}

void server_query_db_close(struct query_db *q)
{
	sqlite3_close(q->db);
	buffer_done(&q->last);
	buffer_done(&q->tables);
}
