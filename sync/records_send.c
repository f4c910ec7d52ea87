/* The calls that change something: jobs and mutations. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "sync/records_call.h"

#define JOB_MAX_BYTES (64u << 20)

/* --- jobs --- */

static void job_done(void *arg, const struct http_answer *a)
{
	_cleanup_free_ struct origin_call *c = arg;
	_cleanup_json_ struct json *problem = NULL;
	struct origin_result r;

	records_call_judge(c, a, &r, &problem);
	c->answer(c->arg, &r, "", a->body ? a->body : "", a->body_len);
}

int records_send_job(struct origin *o, const struct origin_job *job, origin_answer_fn *fn,
	void *arg, struct origin_call **out)
{
	_cleanup_records_request_ struct records_request q = { 0 };
	struct origin_call *c;
	int r;

	q.call.body = job->data;
	r = records_call_begin(&q, o, job->result_of ? "GET" : "POST", NULL, arg, &c);
	if (r)
		return r;
	c->answer = fn;
	c->mutation = !job->result_of;
	records_call_path(&q, job->result_of ? "/jobs/" : "/jobs?type=");
	records_call_escaped(&q, job->result_of ? job->result_of : job->type);
	if (job->result_of) {
		records_call_path(&q, "/result");
	} else {
		q.call.body_len = job->len;
		records_call_header(&q, "Idempotency-Key: %s", job->key);
		records_call_header(&q, "Content-Type: application/octet-stream");
	}
	return records_call_submit(&q, job_done, JOB_MAX_BYTES, RECORDS_MUTATION_IDLE_S, out);
}

/* --- mutations --- */

static void add_mutation(struct records_request *q, const struct outbox_op *op)
{
	char key[2 * sizeof(op->key) + 1];

	bytes_to_hex(op->key, sizeof(op->key), key);
	records_call_record(q, op->rid);
	records_call_header(q, "Idempotency-Key: %s", key);
	records_call_header(q, "Cachet-Seq: %" PRIu64, op->seq);
	if (*op->if_match)
		records_call_header(q, "If-Match: %s", op->if_match);
	else
		records_call_header(q, "If-None-Match: *");
}

static void outcome_done(void *arg, const struct http_answer *a)
{
	_cleanup_free_ struct origin_call *c = arg;
	_cleanup_json_ struct json *problem = NULL, *body = NULL;
	_cleanup_free_ struct records_outcome *o = calloc(1, sizeof(*o));
	struct origin_result r;

	records_call_judge(c, a, &r, &problem);
	if (!r.code)
		records_answer_json(a, &r, &body);
	if (!o) {
		struct origin_outcome none = { .result = { .code = -ENOMEM } };

		c->outcome(c->arg, &none);
		return;
	}
	records_answer_outcome(&r, r.code ? problem : body, o);
	o->outcome.replayed = a->replayed;
	c->outcome(c->arg, &o->outcome);
}

static int begin_mutation(struct records_request *q, struct origin *o, const char *method,
	const struct outbox_op *op, origin_outcome_fn *fn, void *arg)
{
	struct origin_call *c;
	int r = records_call_begin(q, o, method, op->store_name, arg, &c);

	if (r)
		return r;
	c->outcome = fn;
	c->mutation = true;
	add_mutation(q, op);
	return 0;
}

static int submit_mutation(struct records_request *q, struct origin_call **out)
{
	return records_call_submit(
		q, outcome_done, RECORDS_RECORD_MAX_BYTES, RECORDS_MUTATION_IDLE_S, out);
}

static ssize_t put_source(void *arg, void *buf, size_t len, uint64_t off)
{
	struct origin_call *c = arg;

	return c->source(c->arg, buf, len, c->off + off);
}

static ssize_t no_source(void *arg, void *buf, size_t len, uint64_t off)
{
	return -EIO;
}

static void add_put_headers(struct records_request *q, const struct outbox_op *op)
{
	_cleanup_(buffer_done) struct buffer name = { 0 };

	if (*op->parent) {
		records_call_header(q, "Cachet-Parent: %s", op->parent);
		if (http_escape(&name, op->name))
			q->error = -ENOMEM;
		else if (name.len < 1000)
			records_call_header(q, "Cachet-Name: %s", name.data);
		else
			q->error = CE_TOO_LARGE;
	}
	records_call_header(q, "Cachet-Kind: %s", records_body_kind(op));
	records_call_header(q, "Cachet-Mode: %u", op->mode & 07777);
	records_call_header(q, "Cachet-Mtime-Ns: %" PRId64, op->mtime_ns);
	if (*op->other_rid)
		records_call_header(q, "Cachet-Replaces: %s %s", op->other_rid, op->other_etag);
	records_call_header(q, "Content-Type: application/octet-stream");
}

static void offset_done(void *arg, const struct http_answer *a)
{
	_cleanup_free_ struct origin_call *c = arg;
	_cleanup_json_ struct json *body = NULL;
	struct origin_result r;
	uint64_t offset = 0;

	records_call_judge_json(c, a, &r, &body);
	if (!r.code && json_get_u64(body, "offset", &offset))
		records_call_not_protocol(&r, CE_PROTOCOL, "an offset");
	c->put_offset(c->arg, &r, offset);
}

static int begin_upload(struct records_request *q, struct origin *o, const char *method,
	const char *store, const uint8_t key[static 16], void *arg)
{
	char hex[2 * 16 + 1];
	int r = records_call_begin(q, o, method, store, arg, &q->origin_call);

	if (r)
		return r;
	bytes_to_hex(key, 16, hex);
	records_call_path(q, "/uploads/");
	records_call_path(q, hex);
	return 0;
}

int records_send_put_offset(struct origin *o, const char *store, const uint8_t key[static 16],
	origin_offset_fn *fn, void *arg, struct origin_call **out)
{
	_cleanup_records_request_ struct records_request q = { 0 };
	int r = begin_upload(&q, o, "GET", store, key, arg);

	if (r)
		return r;
	q.origin_call->put_offset = fn;
	return records_call_submit(&q, offset_done, RECORDS_RECORD_MAX_BYTES, 0, out);
}

int records_send_put_part(struct origin *o, const struct origin_part *part, http_source_fn *source,
	origin_offset_fn *fn, void *arg, struct origin_call **out)
{
	_cleanup_records_request_ struct records_request q = { 0 };
	int r = begin_upload(&q, o, "PUT", part->store, part->ahead->key, arg);

	if (r)
		return r;
	q.origin_call->put_offset = fn;
	q.origin_call->mutation = true;
	q.origin_call->source = source;
	q.origin_call->off = part->off;
	if (part->off)
		records_call_header(&q, "Cachet-Offset: %" PRIu64, part->off);
	q.call.source = put_source;
	q.call.source_len = part->end - part->off;
	return records_call_submit(&q, offset_done, RECORDS_RECORD_MAX_BYTES, 0, out);
}

int records_send_drop_parts(struct origin *o, const char *store, const struct origin_ahead *ahead,
	origin_offset_fn *fn, void *arg, struct origin_call **out)
{
	_cleanup_records_request_ struct records_request q = { 0 };
	int r = begin_upload(&q, o, "DELETE", store, ahead->key, arg);

	if (r)
		return r;
	q.origin_call->put_offset = fn;
	q.origin_call->mutation = true;
	return records_call_submit(&q, offset_done, RECORDS_RECORD_MAX_BYTES, 0, out);
}

static void add_ahead(struct records_request *q, const struct origin_ahead *ahead)
{
	char key[2 * sizeof(ahead->key) + 1], sha256[2 * sizeof(ahead->sha256) + 1];

	bytes_to_hex(ahead->key, sizeof(ahead->key), key);
	bytes_to_hex(ahead->sha256, sizeof(ahead->sha256), sha256);
	records_call_header(q, "Cachet-Ahead: %s %s", key, sha256);
}

int records_send_put(struct origin *o, const struct outbox_op *op, uint64_t offset,
	const struct origin_ahead *ahead, http_source_fn *source, origin_outcome_fn *fn, void *arg,
	struct origin_call **out)
{
	_cleanup_records_request_ struct records_request q = { 0 };
	int r = begin_mutation(&q, o, "PUT", op, fn, arg);

	if (r)
		return r;
	q.origin_call->source = source;
	q.origin_call->off = offset;
	add_put_headers(&q, op);
	if (offset)
		records_call_header(&q, "Cachet-Offset: %" PRIu64, offset);
	if (ahead)
		add_ahead(&q, ahead);
	q.call.source = source ? put_source : no_source;
	q.call.source_len = source ? op->size - offset : 0;
	return submit_mutation(&q, out);
}

int records_send_patch(struct origin *o, const struct outbox_op *op, origin_outcome_fn *fn,
	void *arg, struct origin_call **out)
{
	_cleanup_records_request_ struct records_request q = { 0 };
	char *body;
	int r = begin_mutation(&q, o, "PATCH", op, fn, arg);

	if (!r)
		r = records_body_patch(op, &body);
	if (r)
		return r;
	records_call_json(&q, body, strlen(body));
	return submit_mutation(&q, out);
}

int records_send_remove(struct origin *o, const struct outbox_op *op, origin_outcome_fn *fn,
	void *arg, struct origin_call **out)
{
	_cleanup_records_request_ struct records_request q = { 0 };
	int r = begin_mutation(&q, o, "DELETE", op, fn, arg);

	return r ? r : submit_mutation(&q, out);
}

static void batch_answer(struct origin_call *c, const struct http_answer *a,
	struct records_outcome *outcomes, struct origin_outcome *plain)
{
	_cleanup_json_ struct json *body = NULL;
	struct origin_result r;
	int e;

	records_call_judge_json(c, a, &r, &body);
	if (!r.code) {
		e = records_answer_batch(body, c->n, outcomes);
		if (e)
			records_call_not_protocol(&r, e, "results of a batch");
	}
	for (size_t i = 0; i < c->n && !r.code; i++)
		plain[i] = outcomes[i].outcome;
	c->batch(c->arg, &r, plain, r.code ? 0 : c->n);
}

static void batch_done(void *arg, const struct http_answer *a)
{
	_cleanup_free_ struct origin_call *c = arg;
	_cleanup_free_ struct records_outcome *outcomes = calloc(c->n, sizeof(*outcomes));
	_cleanup_free_ struct origin_outcome *plain = calloc(c->n, sizeof(*plain));

	if (outcomes && plain) {
		batch_answer(c, a, outcomes, plain);
	} else {
		struct origin_result r = { .code = -ENOMEM };

		c->batch(c->arg, &r, NULL, 0);
	}
}

int records_send_batch(struct origin *o, const struct origin_op *ops, size_t n, origin_batch_fn *fn,
	void *arg, struct origin_call **out)
{
	_cleanup_(buffer_done) struct buffer body = { 0 };
	_cleanup_records_request_ struct records_request q = { 0 };
	struct origin_call *c;
	int r = records_body_batch(ops, n, &body);

	if (!r)
		r = records_call_begin(&q, o, "POST", ops[0].op->store_name, arg, &c);
	if (r)
		return r;
	c->batch = fn;
	c->n = n;
	c->mutation = true;
	records_call_path(&q, "/batch");
	records_call_json(&q, body.data, body.len);
	body.data = NULL;
	return records_call_submit(
		&q, batch_done, (size_t)n * RECORDS_RECORD_MAX_BYTES, RECORDS_MUTATION_IDLE_S, out);
}
