/*
 * Theory of operation.
 *
 * Two lists under one lock: `to_sync` for the helpers, `to_write` for the writer. Every job passes
 * through to_write exactly once and is then done. `pending` counts jobs submitted and not done;
 * stop waits for it to become 0.
 *
 * The write-ahead log is checkpointed by a thread of its own (passive: it never blocks the writer)
 * once it has CHECKPOINT_PAGES. Under steady load a passive checkpoint never sees the end of the
 * log, so the log would grow; beyond CHECKPOINT_FORCE_PAGES the writer does it itself, between two
 * transactions, when the rest is short.
 */
#include "server/commit.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "server/apply.h"

#define HELPERS_MAX 16
#define PENDING_MAX 4096
#define GROUP_CHANGES_MAX 4096
#define CHECKPOINT_PAGES 2000
#define CHECKPOINT_FORCE_PAGES 16000

struct list {
	struct commit_job *head, **tail;
};

struct commit_queue {
	struct commit_options o;
	struct store_db *db;            /* the writer's */
	struct store_db *checkpoint_db; /* the checkpointer's */
	struct tx tx;

	pthread_mutex_t lock; /* guards what follows; a leaf: nothing else is locked under it */
	pthread_cond_t sync_wake, write_wake, idle, checkpoint_wake;
	struct list to_sync, to_write;
	struct buffer to_unlink; /* names, RECORD_FILE_LEN each */
	size_t pending;
	unsigned log_pages; /* in the write-ahead log after the last commit */
	bool refusing, stopping;

	pthread_t writer, checkpointer, helpers[HELPERS_MAX];
	unsigned n_helpers;
	bool has_writer, has_checkpointer;
};

static void list_init(struct list *l)
{
	l->head = NULL;
	l->tail = &l->head;
}

static void list_push(struct list *l, struct commit_job *job)
{
	job->next = NULL;
	*l->tail = job;
	l->tail = &job->next;
}

static struct commit_job *list_pop(struct list *l)
{
	struct commit_job *job = l->head;

	if (job) {
		l->head = job->next;
		if (!l->head)
			l->tail = &l->head;
	}
	return job;
}

static bool has_files(const struct commit_job *job)
{
	for (size_t i = 0; i < job->n_changes; i++)
		if (job->changes[i].body.in_file)
			return true;
	return false;
}

/* ---- helpers: sync what was uploaded, unlink what was released ---- */

static int sync_job(struct commit_job *job)
{
	int r = 0;

	for (size_t i = 0; !r && i < job->n_changes; i++)
		r = server_body_sync(&job->changes[i].body);
	return r;
}

/* False while a backup is made: it may need the file. */
static bool unlink_one(struct commit_queue *q)
{
	int r;

	uint8_t file[RECORD_FILE_LEN];

	q->to_unlink.len -= sizeof(file);
	memcpy(file, q->to_unlink.data + q->to_unlink.len, sizeof(file));
	pthread_mutex_unlock(&q->lock);
	r = server_body_release(q->o.dirs, file);
	pthread_mutex_lock(&q->lock);
	/* There is room for it again, or it stays until the next start. */
	return r != -EBUSY || buffer_append(&q->to_unlink, file, sizeof(file)) != 0;
}

static void wait_for_backup(struct commit_queue *q)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec++;
	pthread_cond_timedwait(&q->sync_wake, &q->lock, &until);
}

static void sync_one(struct commit_queue *q, struct commit_job *job)
{
	int r;

	pthread_mutex_unlock(&q->lock);
	r = sync_job(job);
	pthread_mutex_lock(&q->lock);
	/* A job that failed here goes through the writer as well: one way out for all. */
	job->result = r;
	list_push(&q->to_write, job);
	pthread_cond_signal(&q->write_wake);
}

static void *helper_main(void *arg)
{
	struct commit_queue *q = arg;

	pthread_mutex_lock(&q->lock);
	for (;;) {
		struct commit_job *job = list_pop(&q->to_sync);

		if (job)
			sync_one(q, job);
		else if (q->to_unlink.len && unlink_one(q))
			continue;
		else if (q->stopping)
			break;
		else if (q->to_unlink.len)
			wait_for_backup(q);
		else
			pthread_cond_wait(&q->sync_wake, &q->lock);
	}
	pthread_mutex_unlock(&q->lock);
	return NULL;
}

/* ---- the writer ---- */

static int run_job(struct commit_queue *q, struct commit_job *job)
{
	if (job->result)
		return 0; /* its files could not be synced: it has its answer */
	if (job->run)
		return job->run(&q->tx, job->arg);
	return server_apply_list(&q->tx, job->changes, job->n_changes);
}

static int commit(struct commit_queue *q, struct commit_job *first)
{
	int r = server_tx_begin(&q->tx);

	for (struct commit_job *job = first; !r && job; job = job->next)
		r = run_job(q, job);
	if (!r)
		r = FAILPOINT("server-before-commit");
	if (!r)
		r = server_tx_commit(&q->tx);
	if (!r)
		r = FAILPOINT("server-after-commit");
	if (r)
		server_tx_rollback(&q->tx);
	return r;
}

static void keep_bodies(struct commit_job *job)
{
	for (size_t i = 0; i < job->n_changes; i++) {
		const struct outcome *out = &job->changes[i].out;

		if (!out->replayed && out->status < 300)
			server_body_keep(&job->changes[i].body);
	}
}

static void release_files(struct commit_queue *q)
{
	size_t n;
	const uint8_t *files = server_tx_files(&q->tx, &n);

	if (!n)
		return;
	pthread_mutex_lock(&q->lock);
	/* Out of memory here leaves rubbish on the disk until the next start, nothing worse. */
	if (!buffer_append(&q->to_unlink, files, n * RECORD_FILE_LEN))
		pthread_cond_signal(&q->sync_wake);
	pthread_mutex_unlock(&q->lock);
}

/* A durable group: tell the feed, then everybody. */
static void finish(struct commit_queue *q, struct commit_job *first)
{
	size_t n;
	const struct store_row *stores = server_tx_stores(&q->tx, &n);

	release_files(q);
	for (struct commit_job *job = first; job; job = job->next)
		if (!job->result)
			keep_bodies(job);
	if (n && q->o.changed)
		q->o.changed(q->o.changed_arg, stores, n);
	for (struct commit_job *job = first, *next; job; job = next) {
		next = job->next; /* `done` hands the job back */
		job->done(job);
	}
}

static void fail(struct commit_job *job, int r)
{
	log_debug("commit failed: %s", error_text(r));
	job->result = r;
	job->done(job);
}

static size_t write_group(struct commit_queue *q, struct commit_job *first)
{
	size_t n = 0;
	int r;

	for (struct commit_job *job = first; job; job = job->next)
		n++;
	r = commit(q, first);
	if (!r) {
		finish(q, first);
		return n;
	}
	for (struct commit_job *job = first, *next; job; job = next) {
		next = job->next;
		job->next = NULL;
		if (n > 1)
			r = commit(q, job);
		if (r)
			fail(job, r);
		else
			finish(q, job);
	}
	return n;
}

/* All that wait, up to a bound that keeps one transaction short. */
static struct commit_job *take_group(struct commit_queue *q)
{
	struct commit_job *first = NULL, **tail = &first, *job;
	size_t changes = 0;

	while (changes < GROUP_CHANGES_MAX && (job = list_pop(&q->to_write))) {
		changes += job->n_changes + 1;
		*tail = job;
		tail = &job->next;
	}
	*tail = NULL;
	return first;
}

static int count_pages(void *arg, sqlite3 *db, const char *name, int pages)
{
	struct commit_queue *q = arg;

	(void)db;
	(void)name;
	pthread_mutex_lock(&q->lock);
	q->log_pages = (unsigned)pages;
	if (pages >= CHECKPOINT_PAGES)
		pthread_cond_signal(&q->checkpoint_wake);
	pthread_mutex_unlock(&q->lock);
	return SQLITE_OK;
}

static void checkpoint(struct store_db *db)
{
	sqlite3_wal_checkpoint_v2(
		server_store_handle(db), NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
}

static void *writer_main(void *arg)
{
	struct commit_queue *q = arg;

	pthread_mutex_lock(&q->lock);
	for (;;) {
		struct commit_job *first = take_group(q);
		bool force = q->log_pages >= CHECKPOINT_FORCE_PAGES;
		size_t n;

		if (!first) {
			if (q->stopping)
				break;
			pthread_cond_wait(&q->write_wake, &q->lock);
			continue;
		}
		pthread_mutex_unlock(&q->lock);
		n = write_group(q, first);
		if (force)
			checkpoint(q->db);
		pthread_mutex_lock(&q->lock);
		q->pending -= n;
		if (!q->pending)
			pthread_cond_broadcast(&q->idle);
	}
	pthread_mutex_unlock(&q->lock);
	return NULL;
}

static void *checkpointer_main(void *arg)
{
	struct commit_queue *q = arg;

	pthread_mutex_lock(&q->lock);
	while (!q->stopping) {
		pthread_cond_wait(&q->checkpoint_wake, &q->lock);
		if (q->stopping || q->log_pages < CHECKPOINT_PAGES)
			continue;
		pthread_mutex_unlock(&q->lock);
		checkpoint(q->checkpoint_db);
		pthread_mutex_lock(&q->lock);
	}
	pthread_mutex_unlock(&q->lock);
	return NULL;
}

/* ---- life ---- */

static int open_databases(struct commit_queue *q)
{
	int r = server_store_open(q->o.dir, &q->db);

	if (!r)
		r = server_store_open(q->o.dir, &q->checkpoint_db);
	if (r)
		return r;
	sqlite3_wal_autocheckpoint(server_store_handle(q->db), 0);
	sqlite3_wal_hook(server_store_handle(q->db), count_pages, q);
	server_tx_init(&q->tx, q->db, q->o.instance, q->o.tag);
	return 0;
}

static int start_threads(struct commit_queue *q)
{
	int r = pthread_create(&q->writer, NULL, writer_main, q);

	q->has_writer = !r;
	if (!r)
		r = pthread_create(&q->checkpointer, NULL, checkpointer_main, q);
	q->has_checkpointer = !r;
	while (!r && q->n_helpers < MIN_OF(MAX_OF(q->o.helpers, 1u), (unsigned)HELPERS_MAX)) {
		r = pthread_create(&q->helpers[q->n_helpers], NULL, helper_main, q);
		q->n_helpers += !r;
	}
	return -r;
}

int server_commit_start(const struct commit_options *o, struct commit_queue **out)
{
	struct commit_queue *q = calloc(1, sizeof(*q));
	int r;

	if (!q)
		return -ENOMEM;
	q->o = *o;
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->sync_wake, NULL);
	pthread_cond_init(&q->write_wake, NULL);
	pthread_cond_init(&q->idle, NULL);
	pthread_cond_init(&q->checkpoint_wake, NULL);
	list_init(&q->to_sync);
	list_init(&q->to_write);
	r = open_databases(q);
	if (!r)
		r = start_threads(q);
	if (r) {
		server_commit_free(q);
		return r;
	}
	*out = q;
	return 0;
}

int server_commit_submit(struct commit_queue *q, struct commit_job *job)
{
	int r = 0;

	job->result = 0;
	pthread_mutex_lock(&q->lock);
	if (q->refusing) {
		r = -ESHUTDOWN;
	} else if (q->pending >= PENDING_MAX) {
		r = -EBUSY;
	} else if (has_files(job)) {
		list_push(&q->to_sync, job);
		pthread_cond_signal(&q->sync_wake);
	} else {
		list_push(&q->to_write, job);
		pthread_cond_signal(&q->write_wake);
	}
	q->pending += !r;
	pthread_mutex_unlock(&q->lock);
	return r;
}

void server_commit_stop(struct commit_queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->refusing = true;
	while (q->pending)
		pthread_cond_wait(&q->idle, &q->lock);
	pthread_mutex_unlock(&q->lock);
}

static void join_threads(struct commit_queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->stopping = true;
	pthread_cond_broadcast(&q->sync_wake);
	pthread_cond_broadcast(&q->write_wake);
	pthread_cond_broadcast(&q->checkpoint_wake);
	pthread_mutex_unlock(&q->lock);
	if (q->has_writer)
		pthread_join(q->writer, NULL);
	if (q->has_checkpointer)
		pthread_join(q->checkpointer, NULL);
	for (unsigned i = 0; i < q->n_helpers; i++)
		pthread_join(q->helpers[i], NULL);
}

void server_commit_free(struct commit_queue *q)
{
	if (!q)
		return;
	server_commit_stop(q);
	join_threads(q);
	server_tx_done(&q->tx);
	buffer_done(&q->to_unlink);
	server_store_close(q->db);
	server_store_close(q->checkpoint_db);
	pthread_cond_destroy(&q->checkpoint_wake);
	pthread_cond_destroy(&q->idle);
	pthread_cond_destroy(&q->write_wake);
	pthread_cond_destroy(&q->sync_wake);
	pthread_mutex_destroy(&q->lock);
	free(q);
}
