#include "server/query_admin.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "server/admin.h"
#include "server/wire.h"

static int open_store(const char *dir, const char *store, struct store_db **db,
	struct store_row *row, char **error)
{
	int r;

	*error = NULL;
	r = server_admin_open(dir, db, error);
	if (r)
		return r;
	r = server_records_store_by_id(*db, store, row);
	if (r == -ENOENT)
		return server_admin_explain(error, r, "there is no such store");
	return r ? server_admin_explain(error, r, "cannot read the store") : 0;
}

static int put(
	struct store_db *db, int64_t store, const char *name, const char *sql, const char *params)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_QUERY_PUT);
	int r;

	sqlite3_bind_int64(q, 1, store);
	sqlite3_bind_text(q, 2, name, -1, SQLITE_STATIC);
	sqlite3_bind_text(q, 3, sql, -1, SQLITE_STATIC);
	sqlite3_bind_text(q, 4, params, -1, SQLITE_STATIC);
	sqlite3_bind_int64(q, 5, clock_wall_ns());
	r = server_store_step(db, q);
	server_store_reset(q);
	return r;
}

int server_query_admin_add(
	const char *dir, const char *store, const char *name, const char *sql, char **error)
{
	_cleanup_store_ struct store_db *db = NULL;
	_cleanup_free_ char *params = NULL;
	struct body_dirs none = { -1, -1 };
	struct query_place place = { .dir = dir, .dirs = &none };
	struct store_row row;
	int r = open_store(dir, store, &db, &row, error);

	if (r)
		return r;
	if (!server_wire_is_id(name))
		return server_admin_explain(error, CE_USAGE,
			"a query's name has 1 to 64 characters of A-Z a-z 0-9 _ -");
	place.store = row.n;
	r = server_query_check(&place, sql, &params, error);
	if (!r)
		r = put(db, row.n, name, sql, params);
	return r && !*error ? server_admin_explain(error, r, "cannot declare the query") : r;
}

int server_query_admin_remove(const char *dir, const char *store, const char *name, char **error)
{
	_cleanup_store_ struct store_db *db = NULL;
	struct store_row row;
	sqlite3_stmt *q;
	int r = open_store(dir, store, &db, &row, error);

	if (r)
		return r;
	q = server_store_statement(db, SQL_QUERY_DELETE);
	sqlite3_bind_int64(q, 1, row.n);
	sqlite3_bind_text(q, 2, name, -1, SQLITE_STATIC);
	r = server_store_step(db, q);
	server_store_reset(q);
	if (r == 0)
		return server_admin_explain(error, -ENOENT, "there is no such query");
	return r < 0 ? server_admin_explain(error, r, "cannot remove the query") : 0;
}

int server_query_admin_each(
	const char *dir, const char *store, server_query_fn *fn, void *arg, char **error)
{
	_cleanup_store_ struct store_db *db = NULL;
	struct store_row row;
	int r = open_store(dir, store, &db, &row, error);

	return r ? r : server_query_each(db, row.n, fn, arg);
}
