#include "server/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/io.h"
#include "base/log.h"
#include "base/secret.h"
#include "server/admin.h"
#include "server/backup.h"
#include "server/feed.h"
#include "server/house.h"
#include "server/http.h"
#include "server/import.h"
#include "server/job.h"
#include "server/limiter.h"
#include "server/server_priv.h"
#include "server/vault.h"
#include "server/tasks.h"

#define MAX_RECORD_BYTES (16ULL << 30)
#define MAX_REQUEST_BYTES (8ULL << 20)
#define THREADS 4
#define HELPERS 4
#define HEADER_TIMEOUT_S 75
#define BODY_GRACE_S 60
#define KEK_TTL_S (90 * 86400)
#define OFFLINE_TTL_S (72 * 3600)
#define TICK_MS 100
#define TASK_THREADS 2
#define TASKS_QUEUED 256
#define DAY_NS (86400 * NS_PER_SEC)
#define KEPT_DAYS_MIN 30 /* of the protocol */
#define KEPT_DAYS_MAX 36500
#define KEYS_KEPT_DAYS 30
#define TOMBSTONES_KEPT_DAYS 90
#define KEKS_KEPT_DAYS 400
#define HOUSE_INTERVAL_MS (3600 * 1000)

static int explain(char **error, int code, const char *what)
{
	return *error ? code : server_admin_explain(error, code, what);
}

/* ---- opening ---- */

static char *copy_or_null(const char *text)
{
	return text ? strdup(text) : NULL;
}

static bool is_kept(int64_t days)
{
	return days >= KEPT_DAYS_MIN && days <= KEPT_DAYS_MAX;
}

static int take_options(struct server *s, const struct server_options *o, char **error)
{
	if (!o->dir || !o->listen || !o->tls_cert != !o->tls_key)
		return explain(error, CE_USAGE,
			"a directory and an address are needed; certificate and key go together");
	s->keys_kept_days = o->keys_kept_days ? o->keys_kept_days : KEYS_KEPT_DAYS;
	s->tombstones_kept_days =
		o->tombstones_kept_days ? o->tombstones_kept_days : TOMBSTONES_KEPT_DAYS;
	s->keks_kept_days = o->keks_kept_days ? o->keks_kept_days : KEKS_KEPT_DAYS;
	if (!is_kept(s->keys_kept_days) || !is_kept(s->tombstones_kept_days) ||
		!is_kept(s->keks_kept_days))
		return explain(error, CE_USAGE,
			"idempotency keys, tombstones and earlier keys are kept 30 to 36500 days");
	s->dir = strdup(o->dir);
	s->listen = strdup(o->listen);
	s->tls_cert = copy_or_null(o->tls_cert);
	s->tls_key = copy_or_null(o->tls_key);
	s->key_source = copy_or_null(o->key_source);
	if (!s->dir || !s->listen || !s->tls_cert != !o->tls_cert || !s->tls_key != !o->tls_key)
		return explain(error, -ENOMEM, "cannot start");
	s->max_record_bytes = o->max_record_bytes ? o->max_record_bytes : MAX_RECORD_BYTES;
	s->max_request_bytes = o->max_request_bytes ? o->max_request_bytes : MAX_REQUEST_BYTES;
	s->threads = o->threads ? o->threads : THREADS;
	s->kek_ttl_s = o->kek_ttl_s ? o->kek_ttl_s : KEK_TTL_S;
	s->offline_ttl_s = o->offline_ttl_s ? MAX_OF(o->offline_ttl_s, 0) : OFFLINE_TTL_S;
	s->header_timeout_ms =
		1000LL * (o->header_timeout_s ? o->header_timeout_s : HEADER_TIMEOUT_S);
	s->body_grace_ms = 1000LL * (o->body_grace_s ? o->body_grace_s : BODY_GRACE_S);
	return 0;
}

static int open_dir(struct server *s, char **error)
{
	int r = io_mkdir_p(s->dir, 0700);

	if (!r) {
		s->dir_fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = s->dir_fd < 0 ? -errno : 0;
	}
	if (r)
		return explain(error, r, "cannot open the data directory");
	r = io_lock_file(s->dir_fd, "server.lock", &s->lock_fd);
	if (r == CE_INUSE)
		return explain(error, r, "another server serves this directory");
	if (!r)
		r = server_body_open_dirs(s->dir_fd, &s->dirs);
	return r ? explain(error, r, "cannot prepare the data directory") : 0;
}

static int read_names(struct server *s, struct store_db *db)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_SERVER_GET);
	int r = server_store_step(db, q);

	if (r == 1 && sqlite3_column_bytes(q, 0) == 16 && sqlite3_column_bytes(q, 1) == 16) {
		bytes_to_hex(sqlite3_column_blob(q, 0), 16, s->instance);
		bytes_to_hex(sqlite3_column_blob(q, 1), 16, s->epoch);
		s->tag = load_le32(sqlite3_column_blob(q, 1));
		r = 0;
	} else if (r >= 0) {
		r = CE_CORRUPT;
	}
	server_store_reset(q);
	return r;
}

/* Not while an import runs: it makes files before it names them. */
static int sweep(struct server *s, struct store_db *db)
{
	_cleanup_fd_ int lock = -1;
	uint64_t removed = 0;
	int r = io_lock_file(s->dir_fd, IMPORT_LOCK_NAME, &lock);

	if (r == CE_INUSE)
		return 0;
	if (!r)
		r = server_body_sweep(&s->dirs, db, &removed);
	if (removed)
		log_debug("%llu left-over files removed", (unsigned long long)removed);
	return r;
}

static int open_data(struct server *s, char **error)
{
	struct store_db *db;
	int r = server_pool_new(s->dir, &s->pool);

	if (!r)
		r = server_pool_take(s->pool, &db);
	if (r == CE_FORMAT)
		return explain(
			error, r, "the database is not one of this server, or of a newer version");
	if (r)
		return explain(error, r, "cannot open the database");
	r = server_backup_note_restored(db);
	if (!r)
		r = read_names(s, db);
	if (!r)
		r = server_vault_open(db, s->dir, s->key_source, &s->vault, error);
	if (!r)
		r = sweep(s, db);
	server_pool_give(s->pool, db);
	return r ? explain(error, r, "cannot read the data directory") : 0;
}

static int open_jobs(struct server *s, const struct server_options *o, char **error)
{
	int r = server_jobs_open(o->jobs_file, s->pool, &s->jobs, error);

	return r ? explain(error, r, "cannot prepare jobs") : 0;
}

int server_open(const struct server_options *o, struct server **out, char **error)
{
	struct server *s = calloc(1, sizeof(*s));
	int r;

	*error = NULL;
	if (!s)
		return -ENOMEM;
	s->dir_fd = s->lock_fd = s->dirs.tmp_fd = s->dirs.content_fd = -1;
	pthread_mutex_init(&s->tick_lock, NULL);
	pthread_cond_init(&s->tick_wake, NULL);
	r = take_options(s, o, error);
	if (!r)
		r = server_limiter_new(&s->limiter);
	if (!r)
		r = server_uploads_new(&s->uploads);
	if (!r)
		r = open_dir(s, error);
	if (!r)
		r = open_data(s, error);
	if (!r)
		r = open_jobs(s, o, error);
	if (r) {
		server_free(s);
		return r;
	}
	*out = s;
	return 0;
}

/* ---- the ticker: everything that happens by the clock ---- */

struct house_job {
	struct commit_job job;
	struct house_limits limits;
	bool more;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool finished;
};

static int house_run(struct tx *tx, void *arg)
{
	struct house_job *h = arg;

	return server_house_step(tx, &h->limits, &h->more);
}

static void house_done(struct commit_job *job)
{
	struct house_job *h = job->arg;

	pthread_mutex_lock(&h->lock);
	h->finished = true;
	pthread_cond_signal(&h->wake);
	pthread_mutex_unlock(&h->lock);
}

/* True when there is more to forget. */
static bool house_once(struct server *s)
{
	int64_t now_ns = clock_wall_ns();
	struct house_job h = {
		.job = { .run = house_run, .done = house_done },
		/* A day longer than is promised. */
		.limits = { now_ns - (s->keys_kept_days + 1) * DAY_NS,
			now_ns - s->tombstones_kept_days * DAY_NS,
			now_ns - s->keks_kept_days * DAY_NS },
	};

	h.job.arg = &h;
	pthread_mutex_init(&h.lock, NULL);
	pthread_cond_init(&h.wake, NULL);
	if (server_commit_submit(s->queue, &h.job))
		h.finished = true;
	pthread_mutex_lock(&h.lock);
	while (!h.finished)
		pthread_cond_wait(&h.wake, &h.lock);
	pthread_mutex_unlock(&h.lock);
	pthread_cond_destroy(&h.wake);
	pthread_mutex_destroy(&h.lock);
	if (h.job.result)
		log_warning("housekeeping failed: %s", error_text(h.job.result));
	return h.more && !h.job.result;
}

/* Sleeps one tick; false when the server stops. Needs the lock. */
static bool tick_wait(struct server *s)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += TICK_MS * NS_PER_MS;
	if (until.tv_nsec >= NS_PER_SEC) {
		until.tv_nsec -= NS_PER_SEC;
		until.tv_sec++;
	}
	if (!s->tick_stop)
		pthread_cond_timedwait(&s->tick_wake, &s->tick_lock, &until);
	return !s->tick_stop;
}

static void *ticker_main(void *arg)
{
	struct server *s = arg;
	int64_t next_house_ms = 0;

	pthread_mutex_lock(&s->tick_lock);
	while (tick_wait(s)) {
		pthread_mutex_unlock(&s->tick_lock);
		server_feed_tick(s->feed);
		server_http_tick(s);
		server_jobs_tick(s->jobs);
		server_uploads_tick(s->uploads, clock_boot_ms());
		if (clock_boot_ms() >= next_house_ms)
			next_house_ms = house_once(s) ? 0 : clock_boot_ms() + HOUSE_INTERVAL_MS;
		pthread_mutex_lock(&s->tick_lock);
	}
	pthread_mutex_unlock(&s->tick_lock);
	return NULL;
}

/* ---- start and stop ---- */

int server_start(struct server *s, char **error)
{
	struct commit_options o = {
		.dir = s->dir,
		.dirs = &s->dirs,
		.instance = s->instance,
		.tag = s->tag,
		.helpers = HELPERS,
		.changed = server_feed_changed,
	};
	int r;

	*error = NULL;
	r = server_tasks_new(TASK_THREADS, TASKS_QUEUED, &s->tasks);
	if (!r)
		r = server_feed_new(s, &s->feed);
	o.changed_arg = s->feed;
	if (!r)
		r = server_commit_start(&o, &s->queue);
	if (!r)
		r = server_http_start(s, &s->port, error);
	if (!r) {
		r = -pthread_create(&s->ticker, NULL, ticker_main, s);
		s->has_ticker = !r;
	}
	if (r)
		server_stop(s, 0);
	return r ? explain(error, r, "cannot start serving") : 0;
}

int server_reload(struct server *s, char **error)
{
	*error = NULL;
	return server_http_reload(s, error);
}

uint16_t server_port(const struct server *s)
{
	return s->port;
}

static void stop_ticker(struct server *s)
{
	if (!s->has_ticker)
		return;
	pthread_mutex_lock(&s->tick_lock);
	s->tick_stop = true;
	pthread_cond_signal(&s->tick_wake);
	pthread_mutex_unlock(&s->tick_lock);
	pthread_join(s->ticker, NULL);
	s->has_ticker = false;
}

/*
 * The order matters: libmicrohttpd must not be stopped while a connection is suspended, so first
 * nobody can be suspended any more (feed, commit queue), then those that were have their answers,
 * then it is stopped.
 */
void server_stop(struct server *s, unsigned grace_ms)
{
	atomic_store(&s->stopping, true);
	server_http_quiesce(s);
	if (s->feed)
		server_feed_stop(s->feed);
	server_http_drain(s, grace_ms);
	stop_ticker(s);
	if (s->tasks)
		server_tasks_stop(s->tasks);
	if (s->queue)
		server_commit_stop(s->queue);
	server_http_stop(s);
	server_commit_free(steal_ptr(&s->queue));
	server_feed_free(steal_ptr(&s->feed));
	server_tasks_free(steal_ptr(&s->tasks));
}

void server_free(struct server *s)
{
	if (!s)
		return;
	server_stop(s, 0);
	server_jobs_close(s->jobs);
	server_pool_free(s->pool);
	server_limiter_free(s->limiter);
	server_uploads_free(s->uploads);
	server_vault_free(s->vault);
	server_body_close_dirs(&s->dirs);
	cleanup_fd(&s->lock_fd);
	cleanup_fd(&s->dir_fd);
	pthread_cond_destroy(&s->tick_wake);
	pthread_mutex_destroy(&s->tick_lock);
	free(s->dir);
	free(s->listen);
	free(s->tls_cert);
	free(s->tls_key);
	free(s->key_source);
	free(s);
}
