/* /v1/jobs. Payloads go from the connection into the job's own memory, results the other way. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "server/handlers.h"
#include "server/job.h"

struct posting {
	struct task task;
	struct request *r;
	struct job *job;
	bool again;
	int code;
};

static void free_posting(void *own)
{
	struct posting *p = own;

	server_jobs_unref(p->job);
	free(p);
}

static int print_view(struct buffer *b, const struct job_view *v)
{
	return buffer_printf(b,
		"{\"job_id\":\"%s\",\"type\":\"%s\",\"status\":\"%s\",\"ttl\":%lld}", v->id,
		v->type, v->status, (long long)v->ttl);
}

/* ---- POST ---- */

/* Before any of the body is read: its type, and that there is room for all of it. */
static int make(struct request *r, struct posting *p, uint64_t len)
{
	uint8_t key[WIRE_KEY_LEN];
	char name[WIRE_ID_MAX + 1];
	const struct job_type *type;
	int rc;

	if (!server_http_query(r, "type", name, sizeof(name)))
		return CE_USAGE;
	type = server_jobs_type(r->s->jobs, name);
	if (!type)
		return -ENOENT;
	if (!r->headers[HEADER_IDEMPOTENCY_KEY] ||
		bytes_from_hex(r->headers[HEADER_IDEMPOTENCY_KEY], key, sizeof(key)))
		return CE_USAGE;
	rc = server_jobs_new(r->s->jobs, type, len, &p->job);
	return rc ? rc : server_jobs_name(p->job, r->access.account, key);
}

static void refuse(struct request *r, int code)
{
	if (code == CE_USAGE)
		server_http_refuse(r, PROBLEM_BAD_REQUEST,
			"a job has one ?type= and an idempotency key of 32 hex digits");
	else if (code == -ENOENT)
		server_http_refuse(r, PROBLEM_NO_JOB, "there is no such type of job");
	else if (code == CE_TOO_LARGE)
		server_http_refuse(r, PROBLEM_TOO_LARGE, "max_payload_bytes");
	else
		server_http_fail(r, code);
}

static void take(struct request *r, const void *data, size_t len)
{
	const struct posting *p = r->own;

	server_jobs_take(p->job, data, len);
}

void server_job_begin(struct request *r)
{
	struct posting *p;
	uint64_t len = 0;
	int rc;

	if (r->headers[HEADER_TRANSFER_ENCODING] || !r->headers[HEADER_CONTENT_LENGTH] ||
		server_wire_u64(r->headers[HEADER_CONTENT_LENGTH], &len)) {
		server_http_refuse(
			r, PROBLEM_LENGTH_REQUIRED, "a payload says its length beforehand");
		return;
	}
	p = calloc(1, sizeof(*p));
	if (!p) {
		server_http_fail(r, -ENOMEM);
		return;
	}
	server_http_own(r, p, free_posting);
	r->take = take;
	rc = make(r, p, len);
	if (rc && !r->answer.status)
		refuse(r, rc);
}

static void queue(struct task *t, int code)
{
	struct posting *p = (struct posting *)t;

	p->code = code ? code : server_jobs_queue(p->r->s->jobs, p->job, &p->again);
	server_http_resume(p->r);
}

void server_job_queue(struct request *r)
{
	struct posting *p = r->own;

	p->r = r;
	p->task.run = queue;
	server_http_run(r, r->s->tasks, &p->task);
}

static int look(struct request *r, const char *id, struct job_view *v)
{
	struct job *job = server_jobs_find(r->s->jobs, r->access.account, id);

	if (!job)
		return server_jobs_row(
			r->s->jobs, r->access.admin ? 0 : r->access.account, id, v);
	server_jobs_view(job, v);
	server_jobs_unref(job);
	return 0;
}

static void answer_view(struct request *r, const char *id, unsigned status)
{
	struct job_view v;
	int rc = look(r, id, &v);

	if (rc == -ENOENT) {
		server_http_refuse(r, PROBLEM_NO_JOB, NULL);
		return;
	}
	server_http_json(r, rc ? rc : print_view(&r->answer.text, &v));
	if (r->answer.status == 200)
		r->answer.status = status;
}

void server_job_queued(struct request *r)
{
	const struct posting *p = r->own;

	if (p->code)
		refuse(r, p->code);
	else
		answer_view(r, p->job->id, 202);
	if (p->again)
		server_answer_header(&r->answer, "Cachet-Replayed", "true");
}

/* ---- GET, DELETE ---- */

struct listing {
	struct buffer *b;
	bool some;
};

static int print_one(void *arg, const struct job_view *v)
{
	struct listing *l = arg;
	int r = l->some ? buffer_append(l->b, ",", 1) : 0;

	l->some = true;
	return r ? r : print_view(l->b, v);
}

void server_job_list(struct request *r)
{
	struct listing l = { .b = &r->answer.text };
	int rc = buffer_printf(l.b, "{\"jobs\":[");

	if (!rc)
		rc = server_jobs_each(
			r->s->jobs, r->access.admin ? 0 : r->access.account, print_one, &l);
	if (!rc)
		rc = buffer_append(l.b, "]}", 2);
	server_http_json(r, rc);
}

void server_job_get(struct request *r)
{
	answer_view(r, r->id, 200);
}

static void unref(void *job)
{
	server_jobs_unref(job);
}

/* Of one that is in memory. */
static void answer_result(struct request *r, struct job *job, const struct job_view *v)
{
	if (!strcmp(v->status, "done")) {
		r->answer.status = 200;
		r->answer.type = ANSWER_BYTES;
		server_answer_lend(&r->answer, job->result.data, job->result.len, job, unref);
		return;
	}
	if (!strcmp(v->status, "failed"))
		server_http_refuse(r, PROBLEM_JOB_GONE, "it failed");
	else
		server_http_refuse(r, PROBLEM_JOB_PENDING, NULL);
	server_jobs_unref(job);
}

void server_job_result(struct request *r)
{
	struct job *job = server_jobs_find(r->s->jobs, r->access.account, r->id);
	struct job_view v;
	int rc;

	if (job) {
		server_jobs_view(job, &v);
		answer_result(r, job, &v);
		return;
	}
	rc = server_jobs_row(r->s->jobs, r->access.account, r->id, &v);
	if (rc == -ENOENT)
		server_http_refuse(r, PROBLEM_NO_JOB, NULL);
	else if (rc)
		server_http_fail(r, rc);
	else
		server_http_refuse(r, PROBLEM_JOB_GONE, "it was lost when the server ended");
}

static void remove_job(struct task *t, int code)
{
	struct posting *p = (struct posting *)t;

	p->code = code ? code : server_jobs_remove(p->r->s->jobs, p->job);
	server_http_resume(p->r);
}

void server_job_delete(struct request *r)
{
	struct posting *p = calloc(1, sizeof(*p));

	if (!p) {
		server_http_fail(r, -ENOMEM);
		return;
	}
	server_http_own(r, p, free_posting);
	p->r = r;
	p->task.run = remove_job;
	p->job = server_jobs_find(r->s->jobs, r->access.account, r->id);
	if (p->job)
		server_http_run(r, r->s->tasks, &p->task);
	else
		server_http_refuse(r, PROBLEM_NO_JOB, NULL);
}

void server_job_deleted(struct request *r)
{
	const struct posting *p = r->own;

	server_http_json(r, p->code ? p->code
				    : buffer_printf(&r->answer.text,
					      "{\"job_id\":\"%s\",\"status\":\"gone\"}", r->id));
}
