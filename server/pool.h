/*
 * A pool of read connections: one per thread that reads at the same time, kept open. A connection
 * taken is the caller's alone until it is given back, without a transaction open on it.
 */
#ifndef CACHET_SERVER_POOL_H
#define CACHET_SERVER_POOL_H

#include "server/store.h"

struct pool;

int server_pool_new(const char *dir, struct pool **out) MUST_CHECK;
void server_pool_free(struct pool *p);
int server_pool_take(struct pool *p, struct store_db **out) MUST_CHECK;
void server_pool_give(struct pool *p, struct store_db *db);

#endif
