/*
 * Declaring queries (server/query.h) in a data directory, also while a server runs on it: it takes
 * them up with the next request. *error is a sentence for the user (the caller frees), set on
 * failure.
 */
#ifndef CACHET_SERVER_QUERY_ADMIN_H
#define CACHET_SERVER_QUERY_ADMIN_H

#include "base/macros.h"
#include "server/query.h"

/* Declares, or declares anew. */
int server_query_admin_add(const char *dir, const char *store, const char *name, const char *sql,
	char **error) MUST_CHECK;
int server_query_admin_remove(
	const char *dir, const char *store, const char *name, char **error) MUST_CHECK;
int server_query_admin_each(const char *dir, const char *store, server_query_fn *fn, void *arg,
	char **error) MUST_CHECK;

#endif
