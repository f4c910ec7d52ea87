/* Private to server/: what the administration calls of server/server.h share. */
#ifndef CACHET_SERVER_ADMIN_H
#define CACHET_SERVER_ADMIN_H

#include "server/store.h"

/* Sets *error to a sentence that says it all, or to "cannot …: text of code"; returns code. */
int server_admin_explain(char **error, int code, const char *what);
/* Makes directory and database when they are missing. */
int server_admin_open(const char *dir, struct store_db **out, char **error) MUST_CHECK;
/* Only a directory that has a database. */
int server_admin_open_existing(const char *dir, struct store_db **out, char **error) MUST_CHECK;

typedef int (*server_admin_fn)(struct store_db *db, const char *who, void *arg);
/* One write transaction with `fn` in it; `who` is the local user. */
int server_admin_transact(struct store_db *db, server_admin_fn fn, void *arg) MUST_CHECK;
/* "NUMBER:HASH", a head of the audit log. CE_USAGE. */
struct audit_head;
int server_admin_parse_head(const char *text, struct audit_head *out) MUST_CHECK;
int server_admin_add_store(struct store_db *db, const char *store, char **error) MUST_CHECK;

#endif
