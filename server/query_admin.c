#include "server/query_admin.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "server/admin.h"
#include "server/audit.h"
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

struct declared {
	const struct store_row *store;
	const char *name, *sql, *params;
};

/* In a transaction with what was changed, so that whoever hears of it finds it. */
static int tell(struct store_db *db, int64_t store)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_QUERY_CHANGED);

	sqlite3_bind_int64(q, 1, store);
	return server_store_once(db, q);
}

static int put(struct store_db *db, const char *who, void *arg)
{
	const struct declared *d = arg;
	sqlite3_stmt *q = server_store_statement(db, SQL_QUERY_PUT);
	int r;

	sqlite3_bind_int64(q, 1, d->store->n);
	sqlite3_bind_text(q, 2, d->name, -1, SQLITE_STATIC);
	sqlite3_bind_text(q, 3, d->sql, -1, SQLITE_STATIC);
	sqlite3_bind_text(q, 4, d->params, -1, SQLITE_STATIC);
	sqlite3_bind_int64(q, 5, clock_wall_ns());
	r = server_store_once(db, q);
	if (!r)
		r = tell(db, d->store->n);
	return r ? r
		 : server_audit_add(
			   db, who, "query-add", "query %s, store %s", d->name, d->store->id);
}

static int drop(struct store_db *db, const char *who, void *arg)
{
	const struct declared *d = arg;
	sqlite3_stmt *q = server_store_statement(db, SQL_QUERY_DELETE);
	int r;

	sqlite3_bind_int64(q, 1, d->store->n);
	sqlite3_bind_text(q, 2, d->name, -1, SQLITE_STATIC);
	r = server_store_once(db, q);
	r = r == 1 ? tell(db, d->store->n) : r ? r : -ENOENT;
	return r ? r
		 : server_audit_add(
			   db, who, "query-remove", "query %s, store %s", d->name, d->store->id);
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
	if (!r) {
		struct declared d = { &row, name, sql, params };

		r = server_admin_transact(db, put, &d);
	}
	return r && !*error ? server_admin_explain(error, r, "cannot declare the query") : r;
}

int server_query_admin_remove(const char *dir, const char *store, const char *name, char **error)
{
	_cleanup_store_ struct store_db *db = NULL;
	struct store_row row;
	struct declared d = { .store = &row, .name = name };
	int r = open_store(dir, store, &db, &row, error);

	if (r)
		return r;
	r = server_admin_transact(db, drop, &d);
	return r ? server_admin_explain(error, r,
			   r == -ENOENT ? "there is no such query" : "cannot remove the query")
		 : 0;
}

int server_query_admin_each(
	const char *dir, const char *store, server_query_fn *fn, void *arg, char **error)
{
	_cleanup_store_ struct store_db *db = NULL;
	struct store_row row;
	int r = open_store(dir, store, &db, &row, error);

	return r ? r : server_query_each(db, row.n, fn, arg);
}
