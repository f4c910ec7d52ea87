/* POST …/batch: many changes in one request, one job of the commit queue, one sync. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "server/change_json.h"
#include "server/handlers.h"

static int take_operation(struct request *r, struct change *c, const struct json *op, size_t index)
{
	int rc;

	server_change_init(c, &r->s->dirs, r->s->max_record_bytes);
	c->account = r->access.account;
	c->store = r->store.n;
	c->has_device = r->headers[HEADER_DEVICE] != NULL;
	if (c->has_device &&
		bytes_from_hex(r->headers[HEADER_DEVICE], c->device, sizeof(c->device))) {
		server_http_refuse(r, PROBLEM_BAD_REQUEST, "cachet-device is 32 hex digits");
		return 0;
	}
	rc = server_change_json_operation(c, op, index);
	return rc ? rc : server_change_seal(c);
}

static int take_operations(struct request *r, const struct json *ops)
{
	size_t n = json_count(ops);
	int rc = 0;

	if (n > SERVER_MAX_BATCH) {
		server_http_refuse(r, PROBLEM_TOO_LARGE, "max_batch");
		return 0;
	}
	r->batch = calloc(n + 1, sizeof(*r->batch));
	if (!r->batch)
		return -ENOMEM;
	for (const struct json *e = json_first(ops); !rc && !r->answer.status && e;
		e = json_next(e)) {
		/* Counted first: what was begun is freed. */
		r->n_batch++;
		rc = take_operation(r, &r->batch[r->n_batch - 1], e, r->n_batch - 1);
	}
	return rc;
}

static void parse(struct request *r)
{
	_cleanup_json_ struct json *root = NULL;
	const struct json *ops;
	int rc;

	if (json_parse(r->json.data ? r->json.data : "", r->json.len, &root) ||
		json_get_array(root, "ops", &ops)) {
		server_http_refuse(r, PROBLEM_BAD_REQUEST, "the body is not {\"ops\":[...]}");
		return;
	}
	buffer_done(&r->json);
	rc = take_operations(r, ops);
	if (rc)
		server_http_fail(r, rc);
}

void server_batch_finish(struct request *r)
{
	parse(r);
	if (r->answer.status)
		return;
	r->job.changes = r->batch;
	r->job.n_changes = r->n_batch;
	server_http_submit(r);
}

static int print_result(struct buffer *b, const struct outcome *out)
{
	int rc = buffer_printf(b, "{\"status\":%u,%s\"%s\":", out->status,
		out->replayed ? "\"replayed\":true," : "",
		out->status < 300 ? "record" : "problem");

	if (!rc)
		rc = buffer_append(b, out->text.data, out->text.len);
	return rc ? rc : buffer_append(b, "}", 1);
}

void server_batch_answer(struct request *r)
{
	struct buffer *b = &r->answer.text;
	int rc = r->job.result;

	if (!rc)
		rc = buffer_printf(b, "{\"results\":[");
	for (size_t i = 0; !rc && i < r->n_batch; i++) {
		rc = i ? buffer_append(b, ",", 1) : 0;
		if (!rc)
			rc = print_result(b, &r->batch[i].out);
	}
	if (!rc)
		rc = buffer_append(b, "]}", 2);
	if (rc) {
		server_http_fail(r, rc);
		return;
	}
	r->answer.status = 200;
	r->answer.type = ANSWER_JSON;
}
