/* Private to server/: what the administration calls of server/server.h share. */
#ifndef CACHET_SERVER_ADMIN_H
#define CACHET_SERVER_ADMIN_H

#include "server/store.h"

/* Sets *error to "what: text of code"; returns code. */
int server_admin_explain(char **error, int code, const char *what);
int server_admin_open(const char *dir, struct store_db **out, char **error) MUST_CHECK;
int server_admin_add_store(struct store_db *db, const char *store, char **error) MUST_CHECK;

#endif
