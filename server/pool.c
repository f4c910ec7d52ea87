#include "server/pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define IDLE_MAX 64

struct pool {
	char *dir;
	pthread_mutex_t lock; /* guards what follows; a leaf */
	struct store_db *idle[IDLE_MAX];
	unsigned n_idle;
};

int server_pool_new(const char *dir, struct pool **out)
{
	struct pool *p = calloc(1, sizeof(*p));

	if (p)
		p->dir = strdup(dir);
	if (!p || !p->dir) {
		free(p);
		return -ENOMEM;
	}
	pthread_mutex_init(&p->lock, NULL);
	*out = p;
	return 0;
}

void server_pool_free(struct pool *p)
{
	if (!p)
		return;
	while (p->n_idle)
		server_store_close(p->idle[--p->n_idle]);
	pthread_mutex_destroy(&p->lock);
	free(p->dir);
	free(p);
}

int server_pool_take(struct pool *p, struct store_db **out)
{
	struct store_db *db = NULL;

	pthread_mutex_lock(&p->lock);
	if (p->n_idle)
		db = p->idle[--p->n_idle];
	pthread_mutex_unlock(&p->lock);
	if (!db)
		return server_store_open(p->dir, out);
	*out = db;
	return 0;
}

void server_pool_give(struct pool *p, struct store_db *db)
{
	pthread_mutex_lock(&p->lock);
	if (p->n_idle < IDLE_MAX) {
		p->idle[p->n_idle++] = db;
		db = NULL;
	}
	pthread_mutex_unlock(&p->lock);
	server_store_close(db);
}
