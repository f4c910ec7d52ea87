#include "sync/records_call.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

struct records *records_call_of(struct origin *o)
{
	return (struct records *)o;
}

void records_call_done(struct records_request *q)
{
	buffer_done(&q->path);
	free(q->call.body);
	free(q->origin_call);
}

void records_call_header(struct records_request *q, const char *fmt, ...)
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

void records_call_path(struct records_request *q, const char *text)
{
	if (!q->error)
		q->error = buffer_append(&q->path, text, strlen(text));
}

void records_call_escaped(struct records_request *q, const char *text)
{
	if (!q->error)
		q->error = http_escape(&q->path, text);
}

/* "NAME?a=1&b=x%2Fy", as a person wrote it: what separates stays, all else is escaped. */
void records_call_query(struct records_request *q, const char *address)
{
	char one[2] = "";

	records_call_path(q, "/queries/");
	for (; *address; address++) {
		one[0] = *address;
		if (strchr("?&=%", *one))
			records_call_path(q, one);
		else
			records_call_escaped(q, one);
	}
}

void records_call_record(struct records_request *q, const char *rid)
{
	if (strchr(rid, '?')) {
		records_call_query(q, rid);
		return;
	}
	records_call_path(q, "/records/");
	records_call_escaped(q, rid);
}

void records_call_json(struct records_request *q, char *body, size_t len)
{
	q->call.body = body;
	q->call.body_len = len;
	records_call_header(q, "Content-Type: application/json");
}

int records_call_begin(struct records_request *q, struct origin *o, const char *method,
	const char *store, void *arg, struct origin_call **out)
{
	struct origin_call *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->r = records_call_of(o);
	c->arg = arg;
	q->origin_call = c;
	q->call.method = method;
	records_call_header(q, "Cachet-Device: %s", c->r->device_id);
	records_call_path(q, "/v1");
	if (store) {
		records_call_path(q, "/stores/");
		records_call_escaped(q, store);
	}
	*out = c;
	return 0;
}

int records_call_submit(struct records_request *q, http_done_fn *done, size_t max_body,
	unsigned idle_s, struct origin_call **out)
{
	struct origin_call *c = q->origin_call;
	int r = q->error;

	q->call.path = q->path.data;
	q->call.max_body = max_body;
	q->call.idle_s = idle_s;
	q->call.done = done;
	q->call.arg = c;
	if (r)
		return r;
	r = http_start(c->r->http, &q->call, &c->transfer);
	q->call.body = NULL;
	if (!r)
		*out = steal_ptr(&q->origin_call);
	return r;
}

void records_call_judge(const struct origin_call *c, const struct http_answer *a,
	struct origin_result *r, struct json **problem)
{
	records_answer_judge(a, c->r->instance, c->mutation, r, problem);
}

/* Judged, and its JSON if it is a good one. */
void records_call_judge_json(const struct origin_call *c, const struct http_answer *a,
	struct origin_result *r, struct json **body)
{
	_cleanup_json_ struct json *problem = NULL;

	records_call_judge(c, a, r, &problem);
	if (!r->code)
		records_answer_json(a, r, body);
}

void records_call_not_protocol(struct origin_result *r, int code, const char *what)
{
	r->code = code;
	snprintf(r->text, sizeof(r->text), "%s that breaks the protocol", what);
}
