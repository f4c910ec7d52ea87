/*
 * Process-only jobs: payload and result are in memory, never on the disk.
 *
 *     server_jobs_open(file, &jobs, &error);     // the types that are configured
 *     r = server_jobs_new(jobs, type, len, &job) // room for a payload; a reference
 *     server_jobs_take(job, data, len)           // the payload as it comes
 *     r = server_jobs_queue(jobs, job)           // whole: it waits for its worker
 *     job = server_jobs_find(jobs, account, id)  // a reference, or NULL
 *     server_jobs_tick(jobs)                     // every second or so: what is over its time goes
 *     server_jobs_unref(job)
 *
 * A type names a command, which reads the payload on its standard input and writes the result to
 * its standard output (job_run.h). Payloads and results are in pages of their own that no core dump
 * has and that are wiped when the job goes: by DELETE, at its ttl, at the end of the server. All of
 * them together are at most JOBS_MEMORY_MAX, and at most JOBS_QUEUED_MAX wait.
 *
 * The database has of a job {job_id, type, status, ttl} and nothing else. Its id is made of the
 * account and the request's idempotency key, so that a request that is sent again, even to the next
 * process of the server, makes no second job. A job that was lost with its process is `lost`.
 *
 *     queued ─▶ running ─▶ done | failed        each of them ─▶ gone at its ttl
 *
 * Threads: any. The lock guards the list and what members say; the payload belongs to who takes it,
 * then to the worker; the result is not changed once the status is done.
 */
#ifndef CACHET_SERVER_JOB_H
#define CACHET_SERVER_JOB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/macros.h"
#include "crypto/kdf.h"
#include "server/tasks.h"
#include "server/wire.h"

#define JOBS_TYPES_MAX 64
#define JOBS_QUEUED_MAX 64
#define JOBS_KEPT_MAX 4096
#define JOBS_MEMORY_MAX (256ULL << 20)
#define JOBS_WORKERS 2
#define JOB_ID_LEN 32 /* hex digits */

struct pool;
struct jobs;

enum job_status { JOB_TAKING, JOB_QUEUED, JOB_RUNNING, JOB_DONE, JOB_FAILED };

struct job_type {
	char name[WIRE_ID_MAX + 1];
	char **command; /* NULL at its end */
	uint64_t max_payload_bytes, max_result_bytes;
	unsigned timeout_s, ttl_s;
};

/* Memory that is wiped when it goes. */
struct job_bytes {
	uint8_t *data;
	size_t len, size;
};

struct job {
	struct task task;
	struct jobs *jobs;
	struct job *next; /* lock */
	atomic_uint refs;
	char id[JOB_ID_LEN + 1];
	int64_t account;
	const struct job_type *type;
	enum job_status status; /* lock */
	int64_t ttl;            /* Unix seconds; lock */
	atomic_bool cancelled;
	struct job_bytes payload, result;
};

/* `file`: JSON, docs/protocol.md; NULL: no types. The pool outlives the jobs. */
int server_jobs_open(
	const char *file, struct pool *pool, struct jobs **out, char **error) MUST_CHECK;
/* Cancels and wipes all; NULL-safe. Nothing may be using them any more. */
void server_jobs_close(struct jobs *jobs);

const struct job_type *server_jobs_type(const struct jobs *jobs, const char *name);
/* CE_TOO_LARGE beyond the type's limit; -EBUSY: no memory is left for jobs. */
int server_jobs_new(
	struct jobs *jobs, const struct job_type *type, uint64_t len, struct job **out) MUST_CHECK;
void server_jobs_take(struct job *job, const void *data, size_t len);
/* Its id, from who sends it under which key, and with a mark of whose it is. */
int server_jobs_name(
	struct job *job, int64_t account, const uint8_t key[static WIRE_KEY_LEN]) MUST_CHECK;
/* *again: there is one of this id already, and `job` is not queued. -EBUSY: the queue is full. */
int server_jobs_queue(struct jobs *jobs, struct job *job, bool *again) MUST_CHECK;

struct job *server_jobs_find(struct jobs *jobs, int64_t account, const char *id);
void server_jobs_unref(struct job *job);
/* It goes now, whatever it is doing. */
int server_jobs_remove(struct jobs *jobs, struct job *job) MUST_CHECK;
void server_jobs_tick(struct jobs *jobs);

struct job_view {
	char id[JOB_ID_LEN + 1], type[WIRE_ID_MAX + 1], status[16];
	int64_t ttl;
};
void server_jobs_view(struct job *job, struct job_view *out);
/* Of a job of the account (0: of any) that is not in memory; -ENOENT. */
int server_jobs_row(
	struct jobs *jobs, int64_t account, const char *id, struct job_view *out) MUST_CHECK;
/* Calls fn for each job of the account; 0: of all. */
typedef int server_jobs_fn(void *arg, const struct job_view *v);
int server_jobs_each(struct jobs *jobs, int64_t account, server_jobs_fn *fn, void *arg) MUST_CHECK;

/* For the worker. CE_TOO_LARGE beyond `max`; -EBUSY: no memory is left for jobs. */
int server_jobs_grow(struct jobs *jobs, struct job_bytes *b, size_t more, uint64_t max) MUST_CHECK;

#endif
