/* Administration of a data directory, with or without a server running on it. */
#include "server/admin.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/io.h"
#include "server/server.h"
#include "server/tokens.h"
#include "server/wire.h"

int server_admin_explain(char **error, int code, const char *what)
{
	if (asprintf(error, "%s: %s", what, error_text(code)) < 0)
		*error = NULL;
	return code;
}

int server_admin_open(const char *dir, struct store_db **out, char **error)
{
	int r = io_mkdir_p(dir, 0700);

	if (r)
		return server_admin_explain(error, r, "cannot open the data directory");
	r = server_store_open(dir, out);
	if (r == CE_FORMAT)
		return server_admin_explain(
			error, r, "the database is not one of this server, or of a newer version");
	return r ? server_admin_explain(error, r, "cannot open the database") : 0;
}

int server_admin_add_store(struct store_db *db, const char *store, char **error)
{
	sqlite3_stmt *q;
	int r;

	if (!server_wire_is_id(store))
		return server_admin_explain(error, CE_USAGE,
			"a store's name has 1 to 64 characters of A-Z a-z 0-9 _ -");
	q = server_store_statement(db, SQL_STORE_ADD);
	sqlite3_bind_text(q, 1, store, -1, SQLITE_STATIC);
	sqlite3_bind_int64(q, 2, clock_wall_ns());
	r = server_store_step(db, q);
	server_store_reset(q);
	return r ? server_admin_explain(error, r, "cannot add the store") : 0;
}

int server_store_add(const char *dir, const char *store, char **error)
{
	_cleanup_store_ struct store_db *db = NULL;
	int r;

	*error = NULL;
	r = server_admin_open(dir, &db, error);
	return r ? r : server_admin_add_store(db, store, error);
}

int server_token_add(const char *dir, const char *account, const char *store, bool read_only,
	char **token, char **error)
{
	_cleanup_store_ struct store_db *db = NULL;
	int r;

	*error = NULL;
	if (!*account || strlen(account) > WIRE_NAME_MAX)
		return server_admin_explain(
			error, CE_USAGE, "an account's name has 1 to 255 bytes");
	r = server_admin_open(dir, &db, error);
	if (r)
		return r;
	r = server_tokens_add(db, account, store, read_only, token);
	if (r == -ENOENT)
		return server_admin_explain(error, r, "there is no such store");
	return r ? server_admin_explain(error, r, "cannot add the token") : 0;
}
