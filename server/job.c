#include "server/job.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/io.h"
#include "base/json.h"
#include "base/log.h"
#include "base/secret.h"
#include "server/job_run.h"
#include "server/pool.h"

#define CONFIG_MAX (64u << 10)
#define COMMAND_WORDS_MAX 64
#define PAYLOAD_DEFAULT (16ULL << 20)
#define TIMEOUT_DEFAULT 60
#define TTL_DEFAULT 3600
#define PAGE 65536
#define MARK_LEN 4 /* of an id's bytes */
#define TICKS_PER_PURGE 600

struct jobs {
	struct pool *pool;
	struct tasks *tasks;
	struct job_type types[JOBS_TYPES_MAX];
	size_t n_types;
	atomic_uint_fast64_t memory;
	pthread_mutex_t lock; /* guards what follows; a leaf */
	struct job *first;
	unsigned n;
	bool closing;
	unsigned ticks; /* the ticker's */
};

static const char *const status_names[] = { "taking", "queued", "running", "done", "failed" };

static int64_t now_s(void)
{
	return clock_wall_ns() / NS_PER_SEC;
}

/* ---- memory ---- */

static int reserve(struct jobs *jobs, size_t size)
{
	if (atomic_fetch_add(&jobs->memory, size) + size <= JOBS_MEMORY_MAX)
		return 0;
	atomic_fetch_sub(&jobs->memory, size);
	return -EBUSY;
}

static void wipe(struct jobs *jobs, struct job_bytes *b)
{
	if (!b->data)
		return;
	secret_wipe(b->data, b->size);
	munmap(b->data, b->size);
	atomic_fetch_sub(&jobs->memory, b->size);
	*b = (struct job_bytes){ 0 };
}

/* Pages that no core dump has; kept out of swap where the limits allow it. */
static int map(size_t size, uint8_t **out)
{
	uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return -errno;
	(void)madvise(p, size, MADV_DONTDUMP);
	(void)mlock(p, size);
	*out = p;
	return 0;
}

int server_jobs_grow(struct jobs *jobs, struct job_bytes *b, size_t more, uint64_t max)
{
	struct job_bytes grown = { .len = b->len, .size = MAX_OF(b->size, (size_t)PAGE) };
	int r;

	if (b->len + more > max)
		return CE_TOO_LARGE;
	if (b->len + more <= b->size)
		return 0;
	while (grown.size < b->len + more)
		grown.size *= 2;
	r = reserve(jobs, grown.size);
	if (r)
		return r;
	r = map(grown.size, &grown.data);
	if (r) {
		atomic_fetch_sub(&jobs->memory, grown.size);
		return r;
	}
	if (b->len)
		memcpy(grown.data, b->data, b->len);
	wipe(jobs, b);
	*b = grown;
	return 0;
}

/* ---- types ---- */

static int explain(char **error, int code, const char *what)
{
	if (!*error)
		(void)!bytes_print(error, "the file of jobs: %s", what);
	return code;
}

static int take_command(const struct json *words, struct job_type *t)
{
	size_t n = json_count(words), i = 0;

	if (!n || n > COMMAND_WORDS_MAX)
		return CE_USAGE;
	t->command = calloc(n + 1, sizeof(*t->command));
	if (!t->command)
		return -ENOMEM;
	for (const struct json *w = json_first(words); w; w = json_next(w)) {
		if (!json_string(w))
			return CE_USAGE;
		t->command[i] = strdup(json_string(w));
		if (!t->command[i++])
			return -ENOMEM;
	}
	return t->command[0][0] == '/' ? 0 : CE_USAGE;
}

static int take_number(const struct json *in, const char *key, uint64_t max, uint64_t *out)
{
	if (!json_has(in, key))
		return 0;
	return json_get_u64(in, key, out) || !*out || *out > max ? CE_USAGE : 0;
}

static int take_type(struct jobs *jobs, const struct json *in)
{
	uint64_t timeout = TIMEOUT_DEFAULT, ttl = TTL_DEFAULT;
	const struct json *command;
	const char *name = json_key(in);
	struct job_type *t;
	int r;

	if (jobs->n_types == JOBS_TYPES_MAX || !server_wire_is_id(name) ||
		json_get_array(in, "command", &command))
		return CE_USAGE;
	t = &jobs->types[jobs->n_types++];
	snprintf(t->name, sizeof(t->name), "%s", name);
	t->max_payload_bytes = t->max_result_bytes = PAYLOAD_DEFAULT;
	r = take_command(command, t);
	if (!r)
		r = take_number(in, "max_payload_bytes", JOBS_MEMORY_MAX, &t->max_payload_bytes);
	if (!r)
		r = take_number(in, "max_result_bytes", JOBS_MEMORY_MAX, &t->max_result_bytes);
	if (!r)
		r = take_number(in, "timeout_s", 86400, &timeout);
	if (!r)
		r = take_number(in, "ttl_s", 30 * 86400, &ttl);
	t->timeout_s = (unsigned)timeout;
	t->ttl_s = (unsigned)ttl;
	return r;
}

static int read_types(struct jobs *jobs, const char *file, char **error)
{
	_cleanup_json_ struct json *root = NULL;
	_cleanup_free_ char *text = NULL;
	const struct json *types;
	size_t len;
	int r = io_read_file(AT_FDCWD, file, CONFIG_MAX, &text, &len);

	if (r)
		return explain(error, r, error_text(r));
	if (json_parse(text, len, &root) || json_get(root, "jobs", &types) ||
		!json_is_object(types))
		return explain(
			error, CE_USAGE, "it is not {\"jobs\":{\"TYPE\":{\"command\":[...]}}}");
	for (const struct json *t = json_first(types); t && !r; t = json_next(t))
		r = take_type(jobs, t);
	return r ? explain(error, r,
			   "a type has a command (an absolute path and its words), and numbers "
			   "max_payload_bytes, max_result_bytes, timeout_s, ttl_s")
		 : 0;
}

const struct job_type *server_jobs_type(const struct jobs *jobs, const char *name)
{
	for (size_t i = 0; i < jobs->n_types; i++)
		if (!strcmp(jobs->types[i].name, name))
			return &jobs->types[i];
	return NULL;
}

/* ---- rows ---- */

static int write_row(struct jobs *jobs, enum sql which, const struct job *job, int64_t ttl)
{
	struct store_db *db;
	sqlite3_stmt *q;
	int r = server_pool_take(jobs->pool, &db);

	if (r)
		return r;
	q = server_store_statement(db, which);
	sqlite3_bind_text(q, 1, job->id, -1, SQLITE_STATIC);
	if (which != SQL_JOB_DELETE) {
		sqlite3_bind_text(q, 2, job->type->name, -1, SQLITE_STATIC);
		sqlite3_bind_text(q, 3, status_names[job->status], -1, SQLITE_STATIC);
		sqlite3_bind_int64(q, 4, ttl);
	}
	r = server_store_once(db, q);
	server_pool_give(jobs->pool, db);
	return r;
}

static int forget_rows(struct jobs *jobs, enum sql which)
{
	struct store_db *db;
	sqlite3_stmt *q;
	int r = server_pool_take(jobs->pool, &db);

	if (r)
		return r;
	q = server_store_statement(db, which);
	sqlite3_bind_int64(q, 1, now_s());
	r = server_store_once(db, q);
	server_pool_give(jobs->pool, db);
	return r;
}

static int hash_of(
	int64_t account, const uint8_t *data, size_t len, uint8_t out[static KDF_SHA256_LEN])
{
	uint8_t in[8 + WIRE_KEY_LEN];

	store_le64(in, (uint64_t)account);
	memcpy(in + 8, data, len);
	return kdf_sha256(in, 8 + len, out);
}

/* By the end of its id: nothing else of it says whose a job was. */
static bool is_of(int64_t account, const char *text)
{
	uint8_t id[JOB_ID_LEN / 2], mark[KDF_SHA256_LEN];

	return !bytes_from_hex(text, id, sizeof(id)) &&
	       !hash_of(account, id, sizeof(id) - MARK_LEN, mark) &&
	       !memcmp(id + sizeof(id) - MARK_LEN, mark, MARK_LEN);
}

int server_jobs_row(struct jobs *jobs, int64_t account, const char *id, struct job_view *out)
{
	struct store_db *db;
	sqlite3_stmt *q;
	int r = account && !is_of(account, id) ? -ENOENT : server_pool_take(jobs->pool, &db);

	if (r)
		return r;
	q = server_store_statement(db, SQL_JOB_GET);
	sqlite3_bind_text(q, 1, id, -1, SQLITE_STATIC);
	r = server_store_step(db, q);
	if (r == 1) {
		snprintf(out->id, sizeof(out->id), "%s", id);
		snprintf(out->type, sizeof(out->type), "%s",
			(const char *)sqlite3_column_text(q, 0));
		snprintf(out->status, sizeof(out->status), "%s",
			(const char *)sqlite3_column_text(q, 1));
		out->ttl = sqlite3_column_int64(q, 2);
	}
	server_store_reset(q);
	server_pool_give(jobs->pool, db);
	return r == 1 ? 0 : r ? r : -ENOENT;
}

/* ---- the list ---- */

int server_jobs_open(const char *file, struct pool *pool, struct jobs **out, char **error)
{
	struct jobs *jobs = calloc(1, sizeof(*jobs));
	int r;

	if (!jobs)
		return -ENOMEM;
	jobs->pool = pool;
	pthread_mutex_init(&jobs->lock, NULL);
	r = file ? read_types(jobs, file, error) : 0;
	if (!r)
		r = forget_rows(jobs, SQL_JOB_PURGE);
	if (!r)
		r = forget_rows(jobs, SQL_JOB_LOSE);
	if (!r && jobs->n_types)
		r = server_tasks_new(JOBS_WORKERS, JOBS_QUEUED_MAX, &jobs->tasks);
	if (r) {
		server_jobs_close(jobs);
		return r;
	}
	*out = jobs;
	return 0;
}

static void free_types(struct jobs *jobs)
{
	for (size_t i = 0; i < jobs->n_types; i++) {
		for (char **w = jobs->types[i].command; w && *w; w++)
			free(*w);
		free(jobs->types[i].command);
	}
}

void server_jobs_close(struct jobs *jobs)
{
	struct job *job;

	if (!jobs)
		return;
	pthread_mutex_lock(&jobs->lock);
	jobs->closing = true;
	for (job = jobs->first; job; job = job->next)
		atomic_store(&job->cancelled, true);
	pthread_mutex_unlock(&jobs->lock);
	if (jobs->tasks)
		server_tasks_stop(jobs->tasks);
	server_tasks_free(jobs->tasks);
	while ((job = jobs->first)) {
		jobs->first = job->next;
		server_jobs_unref(job);
	}
	free_types(jobs);
	pthread_mutex_destroy(&jobs->lock);
	free(jobs);
}

int server_jobs_new(struct jobs *jobs, const struct job_type *type, uint64_t len, struct job **out)
{
	struct job *job;
	int r = 0;

	if (len > type->max_payload_bytes)
		return CE_TOO_LARGE;
	job = calloc(1, sizeof(*job));
	if (!job)
		return -ENOMEM;
	job->jobs = jobs;
	job->type = type;
	atomic_store(&job->refs, 1);
	if (len)
		r = server_jobs_grow(jobs, &job->payload, len, type->max_payload_bytes);
	if (r) {
		server_jobs_unref(job);
		return r;
	}
	*out = job;
	return 0;
}

void server_jobs_unref(struct job *job)
{
	if (!job || atomic_fetch_sub(&job->refs, 1) != 1)
		return;
	wipe(job->jobs, &job->payload);
	wipe(job->jobs, &job->result);
	free(job);
}

/* Its length was declared, and HTTP holds it to that. */
void server_jobs_take(struct job *job, const void *data, size_t len)
{
	struct job_bytes *b = &job->payload;

	len = MIN_OF(len, b->size - b->len);
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

int server_jobs_name(struct job *job, int64_t account, const uint8_t key[static WIRE_KEY_LEN])
{
	uint8_t id[KDF_SHA256_LEN], mark[KDF_SHA256_LEN];
	int r = hash_of(account, key, WIRE_KEY_LEN, id);

	if (!r)
		r = hash_of(account, id, JOB_ID_LEN / 2 - MARK_LEN, mark);
	if (r)
		return r;
	memcpy(id + JOB_ID_LEN / 2 - MARK_LEN, mark, MARK_LEN);
	bytes_to_hex(id, JOB_ID_LEN / 2, job->id);
	job->account = account;
	return 0;
}

/* Lock held. */
static struct job *find(const struct jobs *jobs, const char *id)
{
	struct job *job = jobs->first;

	while (job && strcmp(job->id, id) != 0)
		job = job->next;
	return job;
}

/* Lock held: out of the list, whose reference is the caller's now. */
static bool unlink_job(struct jobs *jobs, struct job *job)
{
	struct job **at = &jobs->first;

	while (*at && *at != job)
		at = &(*at)->next;
	if (!*at)
		return false;
	*at = job->next;
	jobs->n--;
	return true;
}

static void set_status(struct job *job, enum job_status status)
{
	int64_t ttl;
	int r;

	pthread_mutex_lock(&job->jobs->lock);
	job->status = status;
	if (status == JOB_DONE || status == JOB_FAILED)
		job->ttl = now_s() + job->type->ttl_s;
	ttl = job->ttl;
	pthread_mutex_unlock(&job->jobs->lock);
	if (atomic_load(&job->cancelled))
		return;
	r = write_row(job->jobs, SQL_JOB_SAVE, job, ttl);
	if (r)
		log_warning("the status of a job is not written: %s", error_text(r));
}

/* In a thread of the pool; its reference ends here. */
static void run(struct task *t, int code)
{
	struct job *job = (struct job *)t;

	if (!code && !atomic_load(&job->cancelled)) {
		set_status(job, JOB_RUNNING);
		code = server_job_run(job);
		wipe(job->jobs, &job->payload);
		if (code)
			wipe(job->jobs, &job->result);
		set_status(job, code ? JOB_FAILED : JOB_DONE);
	}
	server_jobs_unref(job);
}

/* Into the list, unless one of its id is there or was there in an earlier life of the server. */
static int enter(struct jobs *jobs, struct job *job, bool *again)
{
	struct job_view v;
	int r = server_jobs_row(jobs, 0, job->id, &v);

	if (!r)
		*again = true;
	if (r != -ENOENT)
		return r;
	pthread_mutex_lock(&jobs->lock);
	*again = find(jobs, job->id) != NULL;
	r = jobs->closing || jobs->n == JOBS_KEPT_MAX ? -EBUSY : 0;
	if (!*again && !r) {
		job->status = JOB_QUEUED;
		job->ttl = now_s() + job->type->timeout_s + job->type->ttl_s;
		job->next = jobs->first;
		jobs->first = job;
		jobs->n++;
		atomic_fetch_add(&job->refs, 2); /* the list's, the worker's */
	}
	pthread_mutex_unlock(&jobs->lock);
	return *again ? 0 : r;
}

int server_jobs_queue(struct jobs *jobs, struct job *job, bool *again)
{
	int r;

	*again = false;
	r = enter(jobs, job, again);
	if (r || *again)
		return r;
	job->task.run = run;
	r = write_row(jobs, SQL_JOB_ADD, job, job->ttl);
	if (!r)
		r = server_tasks_submit(jobs->tasks, &job->task);
	if (!r)
		return 0;
	server_jobs_unref(job); /* the worker's */
	if (server_jobs_remove(jobs, job))
		log_warning("the row of a job is not removed");
	return r;
}

struct job *server_jobs_find(struct jobs *jobs, int64_t account, const char *id)
{
	struct job *job;

	pthread_mutex_lock(&jobs->lock);
	job = find(jobs, id);
	if (job && job->account != account)
		job = NULL;
	if (job)
		atomic_fetch_add(&job->refs, 1);
	pthread_mutex_unlock(&jobs->lock);
	return job;
}

int server_jobs_remove(struct jobs *jobs, struct job *job)
{
	bool was_there;
	int r;

	atomic_store(&job->cancelled, true);
	pthread_mutex_lock(&jobs->lock);
	was_there = unlink_job(jobs, job);
	pthread_mutex_unlock(&jobs->lock);
	r = write_row(jobs, SQL_JOB_DELETE, job, 0);
	if (was_there)
		server_jobs_unref(job);
	return r;
}

void server_jobs_view(struct job *job, struct job_view *out)
{
	memcpy(out->id, job->id, sizeof(out->id));
	memcpy(out->type, job->type->name, sizeof(out->type));
	pthread_mutex_lock(&job->jobs->lock);
	snprintf(out->status, sizeof(out->status), "%s", status_names[job->status]);
	out->ttl = job->ttl;
	pthread_mutex_unlock(&job->jobs->lock);
}

int server_jobs_each(struct jobs *jobs, int64_t account, server_jobs_fn *fn, void *arg)
{
	int r = 0;

	pthread_mutex_lock(&jobs->lock);
	for (struct job *job = jobs->first; job && !r; job = job->next) {
		struct job_view v = { .ttl = job->ttl };

		if (account && job->account != account)
			continue;
		memcpy(v.id, job->id, sizeof(v.id));
		memcpy(v.type, job->type->name, sizeof(v.type));
		snprintf(v.status, sizeof(v.status), "%s", status_names[job->status]);
		r = fn(arg, &v);
	}
	pthread_mutex_unlock(&jobs->lock);
	return r;
}

/* Lock held. */
static struct job *expired(const struct jobs *jobs, int64_t now)
{
	struct job *job = jobs->first;

	while (job && job->ttl > now)
		job = job->next;
	return job;
}

void server_jobs_tick(struct jobs *jobs)
{
	struct job *job;
	bool any = ++jobs->ticks % TICKS_PER_PURGE == 0;

	for (;;) {
		pthread_mutex_lock(&jobs->lock);
		job = expired(jobs, now_s());
		if (job) {
			atomic_store(&job->cancelled, true);
			unlink_job(jobs, job);
		}
		pthread_mutex_unlock(&jobs->lock);
		if (!job)
			break;
		any = true;
		server_jobs_unref(job);
	}
	if (any && forget_rows(jobs, SQL_JOB_PURGE))
		log_warning("rows of jobs are not removed");
}
