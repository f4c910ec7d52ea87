/*
 * Queries: named, parametrised, read-only SQL over the JSON records of one store.
 *
 * Whoever administers the data directory declares them (`cachet serve query add`); a client names
 * one and gives its parameters. The SQL sees one table:
 *
 *     records(id, parent, name, size, mode, mtime_ns, seq, json)
 *
 * with a row for each file of the store whose content is JSON (at most QUERY_JSON_MAX bytes), and
 * SQLite's JSON functions. Parameters are written :name and are text; CAST where a number is meant.
 *
 * The statement runs on a connection of its own that is opened read-only, with an authorizer that
 * lets it read that table and call harmless functions, and nothing else: no other store, no token,
 * no PRAGMA, ATTACH or temporary table. It ends at the limits below; an answer is whole or an
 * error.
 *
 *     r = server_query_check(&place, sql, &params, &error);   // when it is declared
 *     r = server_query_run(&place, sql, params, n, &text, &why);
 *
 * The answer is a JSON array with an object per row. A column called `json` that holds JSON is put
 * in as it is, blobs as base64.
 *
 * Threads: any; each run has its own connection.
 */
#ifndef CACHET_SERVER_QUERY_H
#define CACHET_SERVER_QUERY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "server/body.h"
#include "server/store.h"

#define QUERY_SQL_MAX 16384
#define QUERY_PARAMS_MAX 16
#define QUERY_VALUE_MAX 1024
#define QUERY_JSON_MAX (1u << 20)
#define QUERY_ROWS_MAX 100000
#define QUERY_BYTES_MAX (8u << 20)
#define QUERY_TIME_MS 5000

struct query {
	char name[WIRE_ID_MAX + 1];
	char *sql;
	char *params; /* JSON array of names */
};
void server_query_done(struct query *q);

/* A row of the table; -ENOENT. */
int server_query_get(
	struct store_db *db, int64_t store, const char *name, struct query *out) MUST_CHECK;
typedef int server_query_fn(void *arg, const struct query *q);
/* Every query of the store by name; ends early when fn answers other than 0, and returns that. */
int server_query_each(
	struct store_db *db, int64_t store, server_query_fn *fn, void *arg) MUST_CHECK;

/* Their names, a JSON array. */
int server_query_names(struct store_db *db, int64_t store, struct buffer *out) MUST_CHECK;

struct query_param {
	char name[WIRE_ID_MAX + 1];
	char value[QUERY_VALUE_MAX + 1];
};

/* Where a query runs. */
struct query_place {
	const char *dir; /* data directory */
	const struct body_dirs *dirs;
	int64_t store;
};

/*
 * CE_USAGE: the parameters are not the query's. CE_TOO_LARGE: *why names the limit. CE_REFUSED: it
 * failed, *why says in what. `*why` is a constant text, or NULL.
 */
int server_query_run(const struct query_place *place, const char *sql,
	const struct query_param *params, size_t n, struct buffer *out,
	const char **why) MUST_CHECK;
/* Could it run at all? CE_USAGE and *error, a sentence (the caller frees); else *params as in
 * struct query. */
int server_query_check(
	const struct query_place *place, const char *sql, char **params, char **error) MUST_CHECK;

#endif
