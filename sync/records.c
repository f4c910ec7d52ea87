#include "sync/records.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "sync/records_priv.h"

#define CAPS_MAX_BYTES (64u << 10)
#define STORES_MAX_BYTES (4u << 20)
#define PAGE_MAX_BYTES (32u << 20)
#define RECORD_MAX_BYTES (64u << 10)
#define SMALL_MAX_BYTES (512u << 20)
#define MUTATION_IDLE_S 60 /* the server syncs its disk before it answers */
#define POLL_GRACE_S 15
#define QUERY_MAX_BYTES (16u << 20)
#define JOB_MAX_BYTES (64u << 20)
#define QUERY_IDLE_S 30 /* it may take long to begin */

struct records {
	struct origin origin;
	struct http *http;
	const char *device_id;
	char instance[40];
};

struct origin_call {
	struct records *r;
	struct http_transfer *transfer;
	void *arg;
	origin_caps_fn *caps;
	origin_stores_fn *stores;
	origin_changes_fn *changes;
	origin_contents_fn *contents;
	origin_done_fn *done;
	origin_outcome_fn *outcome;
	origin_answer_fn *answer;
	origin_batch_fn *batch;
	http_sink_fn *sink;
	http_source_fn *source;
	bool mutation;
	size_t n;      /* operations of a batch */
	char etag[65]; /* get */
	uint64_t off, len, size, got;
};

static struct records *records_of(struct origin *o)
{
	return (struct records *)o;
}

static int records_open(const struct origin_options *o, struct origin **out)
{
	struct records *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->origin.ops = &records_ops;
	r->http = o->http;
	r->device_id = o->device_id;
	*out = &r->origin;
	return 0;
}

static void records_close(struct origin *o)
{
	free(o);
}

static void records_expect(struct origin *o, const char *instance)
{
	snprintf(records_of(o)->instance, sizeof(records_of(o)->instance), "%s", instance);
}

/* --- a request in the making --- */

/* Texts that live until http_start has copied them. */
struct request {
	struct buffer path;
	char headers[12][1024]; /* a name of 255 bytes takes 765 */
	size_t headers_n;
	struct http_call call;
	int error;
};

static void request_done(struct request *q)
{
	buffer_done(&q->path);
	free(q->call.body);
}
#define _cleanup_request_ _cleanup_(request_done)

static void add_header(struct request *q, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void add_header(struct request *q, const char *fmt, ...)
{
	char *to = q->headers[q->headers_n];
	va_list args;
	int n;

	assert(q->headers_n < ARRAY_SIZE(q->headers));
	va_start(args, fmt);
	n = vsnprintf(to, sizeof(q->headers[0]), fmt, args);
	va_end(args);
	if (n < 0 || (size_t)n >= sizeof(q->headers[0]))
		q->error = CE_TOO_LARGE;
	q->call.headers[q->headers_n++] = to;
}

static void add_path(struct request *q, const char *text)
{
	if (!q->error)
		q->error = buffer_append(&q->path, text, strlen(text));
}

static void add_escaped(struct request *q, const char *text)
{
	if (!q->error)
		q->error = http_escape(&q->path, text);
}

static void request_init(
	struct request *q, struct records *r, const char *method, const char *store)
{
	q->call.method = method;
	add_header(q, "Cachet-Device: %s", r->device_id);
	add_path(q, "/v1");
	if (!store)
		return;
	add_path(q, "/stores/");
	add_escaped(q, store);
}

/* "NAME?a=1&b=x%2Fy", as a person wrote it: what separates stays, all else is escaped. */
static void add_query(struct request *q, const char *address)
{
	char one[2] = "";

	add_path(q, "/queries/");
	for (; *address; address++) {
		one[0] = *address;
		if (strchr("?&=%", *one))
			add_path(q, one);
		else
			add_escaped(q, one);
	}
}

static void add_record(struct request *q, const char *rid)
{
	if (strchr(rid, '?')) {
		add_query(q, rid);
		return;
	}
	add_path(q, "/records/");
	add_escaped(q, rid);
}

static void set_json(struct request *q, char *body, size_t len)
{
	q->call.body = body;
	q->call.body_len = len;
	add_header(q, "Content-Type: application/json");
}

/* Sends it; the call (made by the caller with new_call) is used up. */
static int submit(struct request *q, struct origin_call *call, http_done_fn *done, size_t max_body,
	unsigned idle_s, struct origin_call **out)
{
	int r = q->error;

	q->call.path = q->path.data;
	q->call.max_body = max_body;
	q->call.idle_s = idle_s;
	q->call.done = done;
	q->call.arg = call;
	if (!r) {
		r = http_start(call->r->http, &q->call, &call->transfer);
		q->call.body = NULL;
	}
	if (r) {
		free(call);
		return r;
	}
	*out = call;
	return 0;
}

static int new_call(struct records *r, void *arg, struct origin_call **out)
{
	struct origin_call *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->r = r;
	c->arg = arg;
	*out = c;
	return 0;
}

static void records_abort(struct origin_call *c)
{
	http_abort(c->transfer);
	free(c);
}

static void records_resume(struct origin_call *c)
{
	http_resume(c->transfer);
}

static void judge(const struct origin_call *c, const struct http_answer *a, struct origin_result *r,
	struct json **problem)
{
	records_answer_judge(a, c->r->instance, c->mutation, r, problem);
}

/* Judged, and its JSON if it is a good one. */
static void judge_json(const struct origin_call *c, const struct http_answer *a,
	struct origin_result *r, struct json **body)
{
	_cleanup_json_ struct json *problem = NULL;

	judge(c, a, r, &problem);
	if (!r->code)
		records_answer_json(a, r, body);
}

static void not_protocol(struct origin_result *r, int code, const char *what)
{
	r->code = code;
	snprintf(r->text, sizeof(r->text), "%s that breaks the protocol", what);
}

/* --- capabilities, stores, changes, small contents --- */

static void caps_done(void *arg, const struct http_answer *a)
{
	_cleanup_free_ struct origin_call *c = arg;
	_cleanup_json_ struct json *body = NULL, *problem = NULL;
	struct origin_caps caps = { 0 };
	struct origin_result r;
	int e;

	records_answer_judge(a, "", false, &r, &problem);
	if (!r.code)
		records_answer_json(a, &r, &body);
	if (!r.code) {
		e = records_answer_caps(body, &caps);
		if (e || strcmp(caps.instance, a->instance))
			not_protocol(&r, e ? e : CE_PROTOCOL, "capabilities");
	}
	c->caps(c->arg, &r, r.code ? NULL : &caps);
}

/* The one call that any identity may answer: the caller compares. */
static int records_capabilities(
	struct origin *o, origin_caps_fn *fn, void *arg, struct origin_call **out)
{
	_cleanup_request_ struct request q = { 0 };
	struct origin_call *c;
	int r = new_call(records_of(o), arg, &c);

	if (r)
		return r;
	c->caps = fn;
	request_init(&q, c->r, "GET", NULL);
	return submit(&q, c, caps_done, CAPS_MAX_BYTES, 0, out);
}

static void stores_done(void *arg, const struct http_answer *a)
{
	_cleanup_free_ struct origin_call *c = arg;
	_cleanup_json_ struct json *body = NULL;
	struct origin_store *stores = NULL;
	struct origin_result r;
	size_t n = 0;
	int e;

	judge_json(c, a, &r, &body);
	if (!r.code) {
		e = records_answer_stores(body, &stores, &n);
		if (e)
			not_protocol(&r, e, "a list of stores");
	}
	c->stores(c->arg, &r, stores, n);
	records_answer_stores_free(stores, n);
}

static int records_stores(
	struct origin *o, origin_stores_fn *fn, void *arg, struct origin_call **out)
{
	_cleanup_request_ struct request q = { 0 };
	struct origin_call *c;
	int r = new_call(records_of(o), arg, &c);

	if (r)
		return r;
	c->stores = fn;
	request_init(&q, c->r, "GET", NULL);
	add_path(&q, "/stores");
	return submit(&q, c, stores_done, STORES_MAX_BYTES, 0, out);
}

static void changes_done(void *arg, const struct http_answer *a)
{
	_cleanup_free_ struct origin_call *c = arg;
	_cleanup_json_ struct json *body = NULL;
	struct origin_page page = { 0 };
	struct origin_result r;
	int e;

	judge_json(c, a, &r, &body);
	if (!r.code) {
		e = records_answer_page(body, &page);
		if (e)
			not_protocol(&r, e, "a page of changes");
	}
	c->changes(c->arg, &r, &page);
	origin_page_done(&page);
}

static int records_changes(struct origin *o, const char *store, const char *cursor, unsigned limit,
	unsigned wait_s, origin_changes_fn *fn, void *arg, struct origin_call **out)
{
	_cleanup_request_ struct request q = { 0 };
	struct origin_call *c;
	char rest[64];
	int r = new_call(records_of(o), arg, &c);

	if (r)
		return r;
	c->changes = fn;
	request_init(&q, c->r, "GET", store);
	snprintf(rest, sizeof(rest), "/changes?limit=%u&wait=%u&since=", limit, wait_s);
	add_path(&q, rest);
	add_escaped(&q, cursor);
	return submit(&q, c, changes_done, PAGE_MAX_BYTES, wait_s ? wait_s + POLL_GRACE_S : 0, out);
}

static void small_done(void *arg, const struct http_answer *a)
{
	_cleanup_free_ struct origin_call *c = arg;
	_cleanup_json_ struct json *body = NULL;
	struct origin_content *contents = NULL;
	struct origin_result r;
	size_t n = 0;
	int e;

	judge_json(c, a, &r, &body);
	if (!r.code) {
		e = records_answer_contents(body, &contents, &n);
		if (!e && n != c->n)
			e = CE_PROTOCOL;
		if (e)
			not_protocol(&r, e, "contents");
	}
	c->contents(c->arg, &r, contents, n);
	records_answer_contents_free(contents, n);
}

static int records_get_small(struct origin *o, const char *store, const char *const *rids, size_t n,
	origin_contents_fn *fn, void *arg, struct origin_call **out)
{
	_cleanup_request_ struct request q = { 0 };
	struct origin_call *c;
	char *body;
	int r = records_body_ids(rids, n, &body);

	if (r)
		return r;
	r = new_call(records_of(o), arg, &c);
	if (r) {
		free(body);
		return r;
	}
	c->contents = fn;
	c->n = n;
	request_init(&q, c->r, "POST", store);
	add_path(&q, "/get");
	set_json(&q, body, strlen(body));
	return submit(&q, c, small_done, SMALL_MAX_BYTES, 0, out);
}

/* --- one content, in part --- */

/* 0 = this is the range asked for, of the version asked for. */
static int judge_range(const struct origin_call *c, const struct http_answer *a)
{
	bool ours = !strcmp(a->instance, c->r->instance);

	if (!ours || (a->status != 206 && a->status != 200))
		return CE_PROTOCOL;
	if (strcmp(a->etag, c->etag) || a->status == 200)
		return CE_STALE;
	return records_answer_is_range(a->content_range, c->off, c->len, c->size) ? 0 : CE_PROTOCOL;
}

static int get_begin(void *arg, const struct http_answer *a)
{
	struct origin_call *c = arg;

	return a->status / 100 == 2 ? judge_range(c, a) : 1;
}

static int get_sink(void *arg, const void *data, size_t len)
{
	struct origin_call *c = arg;
	int r;

	if (len > c->len - c->got)
		return CE_PROTOCOL;
	r = c->sink(c->arg, data, len);
	if (!r)
		c->got += len;
	return r;
}

static void get_done(void *arg, const struct http_answer *a)
{
	_cleanup_free_ struct origin_call *c = arg;
	_cleanup_json_ struct json *problem = NULL;
	struct origin_result r;

	judge(c, a, &r, &problem);
	if (!r.code)
		r.code = judge_range(c, a);
	if (!r.code && c->got != c->len)
		r.code = CE_PROTOCOL;
	if (r.code == CE_CONFLICT)
		r.code = CE_STALE;
	if (r.code && !*r.text)
		snprintf(r.text, sizeof(r.text), "a content that is not the range asked for");
	c->done(c->arg, &r);
}

static int records_get(struct origin *o, const struct origin_range *range, http_sink_fn *sink,
	origin_done_fn *fn, void *arg, struct origin_call **out)
{
	_cleanup_request_ struct request q = { 0 };
	struct origin_call *c;
	int r = new_call(records_of(o), arg, &c);

	if (r)
		return r;
	c->done = fn;
	c->sink = sink;
	c->off = range->off;
	c->len = range->len;
	c->size = range->size;
	snprintf(c->etag, sizeof(c->etag), "%s", range->etag);
	request_init(&q, c->r, "GET", range->store);
	add_record(&q, range->rid);
	add_header(
		&q, "Range: bytes=%" PRIu64 "-%" PRIu64, range->off, range->off + range->len - 1);
	add_header(&q, "If-Match: %s", range->etag);
	q.call.begin = get_begin;
	q.call.sink = get_sink;
	return submit(&q, c, get_done, 0, 0, out);
}

/* --- is a version the current one --- */

static int check_begin(void *arg, const struct http_answer *a)
{
	return a->status / 100 == 2 ? 0 : 1;
}

/* A version that is sent after all has answered the question by its ETag: its content is not taken. */
static int check_sink(void *arg, const void *data, size_t len)
{
	return -ECANCELED;
}

static void check_done(void *arg, const struct http_answer *a)
{
	_cleanup_free_ struct origin_call *c = arg;
	_cleanup_json_ struct json *problem = NULL;
	struct origin_result r = { .status = a->status };
	bool ours = !strcmp(a->instance, c->r->instance) && (!a->code || a->code == -ECANCELED);

	if (ours && a->status / 100 == 2)
		r.code = strcmp(a->etag, c->etag) ? CE_STALE : 0;
	else if (!ours || a->status != 304)
		judge(c, a, &r, &problem);
	if (r.code == -ECANCELED)
		not_protocol(&r, CE_PROTOCOL, "an answer of another server");
	c->done(c->arg, &r);
}

static int records_check(struct origin *o, const char *store, const char *rid, const char *etag, origin_done_fn *fn,
	void *arg, struct origin_call **out)
{
	_cleanup_request_ struct request q = { 0 };
	struct origin_call *c;
	int r = new_call(records_of(o), arg, &c);

	if (r)
		return r;
	c->done = fn;
	snprintf(c->etag, sizeof(c->etag), "%s", etag);
	request_init(&q, c->r, "GET", store);
	add_record(&q, rid);
	add_header(&q, "If-None-Match: %s", etag);
	q.call.begin = check_begin;
	q.call.sink = check_sink;
	return submit(&q, c, check_done, RECORD_MAX_BYTES, 0, out);
}

/* --- a query's answer --- */

static void query_done(void *arg, const struct http_answer *a)
{
	_cleanup_free_ struct origin_call *c = arg;
	_cleanup_json_ struct json *problem = NULL;
	struct origin_result r = { .status = a->status };
	bool current = !a->code && a->status == 304 && *c->etag &&
		       !strcmp(a->instance, c->r->instance);

	if (!current)
		judge(c, a, &r, &problem);
	if (!r.code && !current && (!*a->etag || strlen(a->etag) > 64 || *a->etag != '"'))
		not_protocol(&r, CE_PROTOCOL, "an answer without a strong ETag");
	if (r.code || current)
		c->answer(c->arg, &r, NULL, NULL, 0);
	else
		c->answer(c->arg, &r, a->etag, a->body ? a->body : "", a->body_len);
}

static int records_query(struct origin *o, const char *store, const char *address,
	const char *etag, origin_answer_fn *fn, void *arg, struct origin_call **out)
{
	_cleanup_request_ struct request q = { 0 };
	struct origin_call *c;
	int r = new_call(records_of(o), arg, &c);

	if (r)
		return r;
	c->answer = fn;
	snprintf(c->etag, sizeof(c->etag), "%s", etag);
	request_init(&q, c->r, "GET", store);
	add_query(&q, address);
	if (*etag)
		add_header(&q, "If-None-Match: %s", etag);
	return submit(&q, c, query_done, QUERY_MAX_BYTES, QUERY_IDLE_S, out);
}

/* --- jobs --- */

static void job_done(void *arg, const struct http_answer *a)
{
	_cleanup_free_ struct origin_call *c = arg;
	_cleanup_json_ struct json *problem = NULL;
	struct origin_result r;

	judge(c, a, &r, &problem);
	c->answer(c->arg, &r, "", a->body ? a->body : "", a->body_len);
}

static int records_job(struct origin *o, const struct origin_job *job, origin_answer_fn *fn,
	void *arg, struct origin_call **out)
{
	_cleanup_request_ struct request q = { 0 };
	struct origin_call *c;

	q.call.body = job->data;
	if (new_call(records_of(o), arg, &c))
		return -ENOMEM;
	c->answer = fn;
	c->mutation = !job->result_of;
	request_init(&q, c->r, job->result_of ? "GET" : "POST", NULL);
	add_path(&q, job->result_of ? "/jobs/" : "/jobs?type=");
	add_escaped(&q, job->result_of ? job->result_of : job->type);
	if (job->result_of) {
		add_path(&q, "/result");
	} else {
		q.call.body_len = job->len;
		add_header(&q, "Idempotency-Key: %s", job->key);
		add_header(&q, "Content-Type: application/octet-stream");
	}
	return submit(&q, c, job_done, JOB_MAX_BYTES, MUTATION_IDLE_S, out);
}

/* --- mutations --- */

static void add_mutation(struct request *q, const struct outbox_op *op)
{
	char key[2 * sizeof(op->key) + 1];

	bytes_to_hex(op->key, sizeof(op->key), key);
	add_record(q, op->rid);
	add_header(q, "Idempotency-Key: %s", key);
	add_header(q, "Cachet-Seq: %" PRIu64, op->seq);
	if (*op->if_match)
		add_header(q, "If-Match: %s", op->if_match);
	else
		add_header(q, "If-None-Match: *");
}

static void outcome_done(void *arg, const struct http_answer *a)
{
	_cleanup_free_ struct origin_call *c = arg;
	_cleanup_json_ struct json *problem = NULL, *body = NULL;
	_cleanup_free_ struct records_outcome *o = calloc(1, sizeof(*o));
	struct origin_result r;

	judge(c, a, &r, &problem);
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

static int new_mutation(
	struct records *r, origin_outcome_fn *fn, void *arg, struct origin_call **out)
{
	int e = new_call(r, arg, out);

	if (e)
		return e;
	(*out)->outcome = fn;
	(*out)->mutation = true;
	return 0;
}

static ssize_t put_source(void *arg, void *buf, size_t len, uint64_t off)
{
	struct origin_call *c = arg;

	return c->source(c->arg, buf, len, off);
}

static ssize_t no_source(void *arg, void *buf, size_t len, uint64_t off)
{
	return -EIO;
}

static void add_put_headers(struct request *q, const struct outbox_op *op)
{
	_cleanup_(buffer_done) struct buffer name = { 0 };

	if (*op->parent) {
		add_header(q, "Cachet-Parent: %s", op->parent);
		if (http_escape(&name, op->name))
			q->error = -ENOMEM;
		else if (name.len < 1000)
			add_header(q, "Cachet-Name: %s", name.data);
		else
			q->error = CE_TOO_LARGE;
	}
	add_header(q, "Cachet-Kind: %s", records_body_kind(op));
	add_header(q, "Cachet-Mode: %u", op->mode & 07777);
	add_header(q, "Cachet-Mtime-Ns: %" PRId64, op->mtime_ns);
	if (*op->other_rid)
		add_header(q, "Cachet-Replaces: %s %s", op->other_rid, op->other_etag);
	add_header(q, "Content-Type: application/octet-stream");
}

static int records_put(struct origin *o, const struct outbox_op *op, http_source_fn *source,
	origin_outcome_fn *fn, void *arg, struct origin_call **out)
{
	_cleanup_request_ struct request q = { 0 };
	struct origin_call *c;
	int r = new_mutation(records_of(o), fn, arg, &c);

	if (r)
		return r;
	c->source = source;
	request_init(&q, c->r, "PUT", op->store_name);
	add_mutation(&q, op);
	add_put_headers(&q, op);
	q.call.source = source ? put_source : no_source;
	q.call.source_len = source ? op->size : 0;
	return submit(&q, c, outcome_done, RECORD_MAX_BYTES, MUTATION_IDLE_S, out);
}

static int records_patch(struct origin *o, const struct outbox_op *op, origin_outcome_fn *fn,
	void *arg, struct origin_call **out)
{
	_cleanup_request_ struct request q = { 0 };
	struct origin_call *c;
	char *body;
	int r = records_body_patch(op, &body);

	if (r)
		return r;
	r = new_mutation(records_of(o), fn, arg, &c);
	if (r) {
		free(body);
		return r;
	}
	request_init(&q, c->r, "PATCH", op->store_name);
	add_mutation(&q, op);
	set_json(&q, body, strlen(body));
	return submit(&q, c, outcome_done, RECORD_MAX_BYTES, MUTATION_IDLE_S, out);
}

static int records_remove(struct origin *o, const struct outbox_op *op, origin_outcome_fn *fn,
	void *arg, struct origin_call **out)
{
	_cleanup_request_ struct request q = { 0 };
	struct origin_call *c;
	int r = new_mutation(records_of(o), fn, arg, &c);

	if (r)
		return r;
	request_init(&q, c->r, "DELETE", op->store_name);
	add_mutation(&q, op);
	return submit(&q, c, outcome_done, RECORD_MAX_BYTES, MUTATION_IDLE_S, out);
}

static void batch_answer(struct origin_call *c, const struct http_answer *a,
	struct records_outcome *outcomes, struct origin_outcome *plain)
{
	_cleanup_json_ struct json *body = NULL;
	struct origin_result r;
	int e;

	judge_json(c, a, &r, &body);
	if (!r.code) {
		e = records_answer_batch(body, c->n, outcomes);
		if (e)
			not_protocol(&r, e, "results of a batch");
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

static int records_batch(struct origin *o, const struct origin_op *ops, size_t n,
	origin_batch_fn *fn, void *arg, struct origin_call **out)
{
	_cleanup_(buffer_done) struct buffer body = { 0 };
	_cleanup_request_ struct request q = { 0 };
	struct origin_call *c;
	int r = records_body_batch(ops, n, &body);

	if (!r)
		r = new_call(records_of(o), arg, &c);
	if (r)
		return r;
	c->batch = fn;
	c->n = n;
	c->mutation = true;
	request_init(&q, c->r, "POST", ops[0].op->store_name);
	add_path(&q, "/batch");
	set_json(&q, body.data, body.len);
	body.data = NULL;
	return submit(&q, c, batch_done, (size_t)n * RECORD_MAX_BYTES, MUTATION_IDLE_S, out);
}

const struct origin_ops records_ops = {
	.name = "records",
	.batch_supported = true,
	.open = records_open,
	.close = records_close,
	.expect = records_expect,
	.capabilities = records_capabilities,
	.stores = records_stores,
	.changes = records_changes,
	.get_small = records_get_small,
	.check = records_check,
	.query = records_query,
	.job = records_job,
	.get = records_get,
	.put = records_put,
	.patch = records_patch,
	.remove = records_remove,
	.batch = records_batch,
	.abort = records_abort,
	.resume = records_resume,
};
