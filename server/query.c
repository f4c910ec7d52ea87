#include "server/query.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "server/query_db.h"
#include "server/wire.h"

#define TRIES 3

void server_query_done(struct query *q)
{
	free(q->sql);
	free(q->params);
	*q = (struct query){ 0 };
}

/* ---- declarations ---- */

static int from_row(sqlite3_stmt *q, struct query *out)
{
	snprintf(out->name, sizeof(out->name), "%s", (const char *)sqlite3_column_text(q, 0));
	out->sql = strdup((const char *)sqlite3_column_text(q, 1));
	out->params = strdup((const char *)sqlite3_column_text(q, 2));
	if (out->sql && out->params)
		return 0;
	server_query_done(out);
	return -ENOMEM;
}

int server_query_get(struct store_db *db, int64_t store, const char *name, struct query *out)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_QUERY_GET);
	int r;

	sqlite3_bind_int64(q, 1, store);
	sqlite3_bind_text(q, 2, name, -1, SQLITE_STATIC);
	r = server_store_step(db, q);
	if (r == 1)
		r = from_row(q, out);
	else if (!r)
		r = -ENOENT;
	server_store_reset(q);
	return r;
}

int server_query_each(struct store_db *db, int64_t store, server_query_fn *fn, void *arg)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_QUERY_LIST);
	int r;

	sqlite3_bind_int64(q, 1, store);
	while ((r = server_store_step(db, q)) == 1) {
		struct query row;

		r = from_row(q, &row);
		if (r)
			break;
		r = fn(arg, &row);
		server_query_done(&row);
		if (r)
			break;
	}
	server_store_reset(q);
	return r;
}

struct names {
	struct buffer *b;
	bool some;
};

static int print_name(void *arg, const struct query *q)
{
	struct names *n = arg;
	int r = buffer_printf(n->b, "%s\"%s\"", n->some ? "," : "", q->name);

	n->some = true;
	return r;
}

int server_query_names(struct store_db *db, int64_t store, struct buffer *out)
{
	struct names n = { .b = out };
	int r = buffer_append(out, "[", 1);

	if (!r)
		r = server_query_each(db, store, print_name, &n);
	return r ? r : buffer_append(out, "]", 1);
}

static int explain(char **error, const char *what)
{
	(void)!bytes_print(error, "%s", what);
	return CE_USAGE;
}

/* One statement that reads, with parameters by name. */
static const char *fault_of(sqlite3_stmt *stmt, const char *tail)
{
	int n = sqlite3_bind_parameter_count(stmt);

	if (tail[strspn(tail, " \t\r\n;")])
		return "a query is one statement";
	if (!stmt || !sqlite3_stmt_readonly(stmt) || !sqlite3_column_count(stmt))
		return "a query is a SELECT";
	if (n > QUERY_PARAMS_MAX)
		return "a query has at most 16 parameters";
	for (int i = 1; i <= n; i++) {
		const char *name = sqlite3_bind_parameter_name(stmt, i);

		if (!name || name[0] != ':' || !server_wire_is_id(name + 1))
			return "parameters are written :name";
	}
	return NULL;
}

static int print_params(sqlite3_stmt *stmt, char **out)
{
	_cleanup_json_ struct json *names = json_new_array();

	for (int i = 1; i <= sqlite3_bind_parameter_count(stmt); i++)
		json_append_string(names, sqlite3_bind_parameter_name(stmt, i) + 1);
	return json_print(names, false, out);
}

int server_query_check(
	const struct query_place *place, const char *sql, char **params, char **error)
{
	_cleanup_query_db_ struct query_db q = { 0 };
	sqlite3_stmt *stmt = NULL;
	const char *tail = "", *fault;
	int r = server_query_db_open(place, &q);

	if (r)
		return r;
	if (strlen(sql) > QUERY_SQL_MAX)
		return explain(error, "a query has at most 16384 bytes");
	if (sqlite3_prepare_v2(q.db, sql, -1, &stmt, &tail))
		return explain(error, sqlite3_errmsg(q.db));
	fault = fault_of(stmt, tail);
	r = fault ? explain(error, fault) : print_params(stmt, params);
	sqlite3_finalize(stmt);
	return r;
}

/* ---- running ---- */

static int bind_all(sqlite3_stmt *stmt, const struct query_param *params, size_t n)
{
	size_t wanted = (size_t)sqlite3_bind_parameter_count(stmt);
	char name[WIRE_ID_MAX + 2];

	if (n != wanted)
		return CE_USAGE;
	/* As many as there are, each found, none twice: so all of them. */
	for (size_t i = 0; i < n; i++) {
		int at;

		for (size_t j = 0; j < i; j++)
			if (!strcmp(params[i].name, params[j].name))
				return CE_USAGE;
		snprintf(name, sizeof(name), ":%s", params[i].name);
		at = sqlite3_bind_parameter_index(stmt, name);
		if (!at)
			return CE_USAGE;
		if (sqlite3_bind_text(stmt, at, params[i].value, -1, SQLITE_STATIC))
			return -ENOMEM;
	}
	return 0;
}

static int print_text(struct buffer *b, const char *text, size_t len, bool raw)
{
	_cleanup_json_ struct json *json = NULL;

	if (!bytes_is_utf8((const uint8_t *)text, len))
		return buffer_append(b, "null", 4);
	if (raw && !json_parse(text, len, &json))
		return buffer_append(b, text, len);
	return server_records_print_string(b, text);
}

static int print_blob(struct buffer *b, const void *data, size_t len)
{
	_cleanup_free_ char *text = NULL;
	int r = bytes_to_base64(data, len, &text);

	return r ? r : buffer_printf(b, "\"%s\"", text);
}

static int print_value(struct buffer *b, sqlite3_stmt *stmt, int column, bool raw)
{
	switch (sqlite3_column_type(stmt, column)) {
	case SQLITE_INTEGER:
		return buffer_printf(b, "%lld", (long long)sqlite3_column_int64(stmt, column));
	case SQLITE_FLOAT:
		if (!isfinite(sqlite3_column_double(stmt, column)))
			return buffer_append(b, "null", 4);
		return buffer_printf(b, "%.17g", sqlite3_column_double(stmt, column));
	case SQLITE_TEXT:
		return print_text(b, (const char *)sqlite3_column_text(stmt, column),
			(size_t)sqlite3_column_bytes(stmt, column), raw);
	case SQLITE_BLOB:
		return print_blob(b, sqlite3_column_blob(stmt, column),
			(size_t)sqlite3_column_bytes(stmt, column));
	default:
		return buffer_append(b, "null", 4);
	}
}

static int print_row(struct buffer *b, sqlite3_stmt *stmt, bool first)
{
	int r = buffer_append(b, first ? "\n{" : ",\n{", first ? 2 : 3);

	for (int i = 0; !r && i < sqlite3_column_count(stmt); i++) {
		const char *name = sqlite3_column_name(stmt, i);

		if (!name)
			return -ENOMEM;
		r = i ? buffer_append(b, ",", 1) : 0;
		if (!r)
			r = server_records_print_string(b, name);
		if (!r)
			r = buffer_append(b, ":", 1);
		if (!r)
			r = print_value(b, stmt, i, !strcmp(name, "json"));
	}
	return r ? r : buffer_append(b, "}", 1);
}

/* What a failed step means. */
static int judge(const struct query_db *q, int rc, const char **why)
{
	if (q->timed_out || (rc & 0xff) == SQLITE_INTERRUPT) {
		*why = "max_query_ms";
		return CE_TOO_LARGE;
	}
	if ((rc & 0xff) == SQLITE_TOOBIG) {
		*why = "max_query_bytes";
		return CE_TOO_LARGE;
	}
	if ((rc & 0xff) == SQLITE_ERROR || (rc & 0xff) == SQLITE_AUTH) {
		*why = "the query failed with these parameters";
		return CE_REFUSED;
	}
	return server_store_error(rc);
}

static int print_rows(struct query_db *q, sqlite3_stmt *stmt, struct buffer *out, const char **why)
{
	uint64_t rows = 0;
	int rc, r = buffer_append(out, "[", 1);

	while (!r && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		if (++rows > QUERY_ROWS_MAX) {
			*why = "max_query_rows";
			return CE_TOO_LARGE;
		}
		r = print_row(out, stmt, rows == 1);
	}
	if (!r && rc != SQLITE_DONE)
		return judge(q, rc, why);
	if (!r)
		r = buffer_append(out, rows ? "\n]\n" : "]\n", rows ? 3 : 2);
	if (r == CE_TOO_LARGE)
		*why = "max_query_bytes";
	return r;
}

static int run_once(const struct query_place *place, const char *sql,
	const struct query_param *params, size_t n, struct buffer *out, const char **why,
	bool *again)
{
	_cleanup_query_db_ struct query_db q = { 0 };
	sqlite3_stmt *stmt = NULL;
	int rc, r = server_query_db_open(place, &q);

	*again = false;
	if (r)
		return r;
	rc = sqlite3_prepare_v2(q.db, sql, -1, &stmt, NULL);
	r = rc ? judge(&q, rc, why) : bind_all(stmt, params, n);
	if (!r)
		r = print_rows(&q, stmt, out, why);
	*again = r && q.file_gone;
	sqlite3_finalize(stmt);
	return r;
}

int server_query_run(const struct query_place *place, const char *sql,
	const struct query_param *params, size_t n, struct buffer *out, const char **why)
{
	struct buffer text = { .max = QUERY_BYTES_MAX };
	bool again = true;
	int r = 0;

	*why = NULL;
	for (int tries = 0; tries < TRIES && again; tries++) {
		text.len = 0;
		r = run_once(place, sql, params, n, &text, why, &again);
	}
	if (r) {
		buffer_done(&text);
		return r;
	}
	*out = text;
	return 0;
}
