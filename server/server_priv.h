/* The parts of a running server. Private to server/. */
#ifndef CACHET_SERVER_SERVER_PRIV_H
#define CACHET_SERVER_SERVER_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "server/body.h"
#include "server/commit.h"
#include "server/pool.h"
#include "server/server.h"

#define SERVER_INSTANCE_SIZE 33
#define SERVER_MAX_BATCH 1000
#define SERVER_MAX_GET 1000
#define SERVER_MAX_WAIT_S 60
#define SERVER_GET_INLINE_MAX (256 << 10) /* larger records come without content in POST …/get */
#define SERVER_GET_TOTAL_MAX                                                                       \
	(16ULL << 20) /* and so do those beyond this much content in one answer */

struct feed;
struct http;
struct tasks;
struct jobs;
struct limiter;
struct uploads;
struct vault;

struct server {
	char *dir, *listen;
	char *tls_cert, *tls_key; /* file names */
	uint64_t max_record_bytes, max_request_bytes;
	unsigned threads;
	char *key_source; /* or NULL */
	int64_t keys_kept_days, tombstones_kept_days, keks_kept_days;
	int64_t kek_ttl_s, offline_ttl_s;
	int64_t header_timeout_ms, body_grace_ms;

	int dir_fd, lock_fd;
	struct body_dirs dirs;
	char instance[SERVER_INSTANCE_SIZE], epoch[SERVER_INSTANCE_SIZE];
	uint32_t tag; /* first 4 bytes of the epoch: marks ETags and cursors */

	struct pool *pool;
	struct limiter *limiter;
	struct uploads *uploads;
	struct vault *vault;
	struct commit_queue *queue;
	struct feed *feed;
	struct jobs *jobs;
	struct tasks *tasks; /* queries and exports */
	struct http *http;
	uint16_t port;
	atomic_bool stopping;

	pthread_t ticker;
	bool has_ticker;
	pthread_mutex_t tick_lock; /* guards tick_stop; a leaf */
	pthread_cond_t tick_wake;
	bool tick_stop;
};

#endif
