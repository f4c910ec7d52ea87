/*
 * The connection a query runs on: read-only, with the one table `records` and the authorizer of
 * server/query.h. Opened for one run. Threads: one.
 */
#ifndef CACHET_SERVER_QUERY_DB_H
#define CACHET_SERVER_QUERY_DB_H

#include "server/query.h"

struct query_db {
	sqlite3 *db;
	const struct body_dirs *dirs;
	char inner[40]; /* the view over the real tables; its name is known to nobody else */
	struct buffer tables; /* names of the real tables, each ended by NUL */
	int64_t until_ms;
	bool timed_out, file_gone;
	int64_t last_n; /* whose text is in `last`; columns of a row ask for it again and again */
	struct buffer last;
};

int server_query_db_open(const struct query_place *place, struct query_db *out) MUST_CHECK;
void server_query_db_close(struct query_db *q);
#define _cleanup_query_db_ _cleanup_(server_query_db_close)

#endif
