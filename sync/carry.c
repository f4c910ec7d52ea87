#include "sync/carry.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "sync/records_priv.h"

#define ANSWER_MAX_BYTES (64u << 10)
#define SLICE_MS 100

struct carry {
	struct http *http;
	struct enrolment_link link;
	atomic_bool stop;
};

struct exchange {
	bool ended;
	struct origin_result result;
	struct json *body; /* of a 2xx, or the problem */
};

static void on_done(void *arg, const struct http_answer *a)
{
	struct exchange *x = arg;

	x->ended = true;
	records_answer_judge(a, "", false, &x->result, &x->body);
	if (!x->result.code)
		records_answer_json(a, &x->result, &x->body);
	x->result.status = a->status;
}

static int start(struct carry *c, const struct enrolment_post *p, struct exchange *x,
	struct http_transfer **out)
{
	char device[128];
	struct http_call call = { .method = "POST",
		.path = p->path,
		.headers = { "Content-Type: application/json", device },
		.max_body = ANSWER_MAX_BYTES,
		.done = on_done,
		.arg = x };
	int r = http_set_token(c->http, p->token);

	if (r)
		return r;
	snprintf(device, sizeof(device), "Cachet-Device: %s", p->device_id);
	call.body = strdup(p->body);
	if (!call.body)
		return -ENOMEM;
	call.body_len = strlen(call.body);
	return http_start(c->http, &call, out);
}

static int run(struct carry *c, const struct enrolment_post *p, struct exchange *x)
{
	int64_t end_ms = clock_boot_ms() + p->deadline_ms;
	struct http_transfer *t;
	int r = start(c, p, x, &t);

	if (r)
		return r;
	while (!x->ended && clock_boot_ms() < end_ms && !atomic_load(&c->stop))
		http_run(c->http, SLICE_MS);
	if (x->ended)
		return 0;
	http_abort(t);
	snprintf(x->result.text, sizeof(x->result.text), "the origin did not answer in time");
	return CE_OFFLINE;
}

static int carry_post(
	void *arg, const struct enrolment_post *p, int *status, struct json **answer, char **error)
{
	struct carry *c = arg;
	struct exchange x = { 0 };
	int r = atomic_load(&c->stop) ? CE_OFFLINE : run(c, p, &x);

	if (!r && !x.body)
		r = x.result.code ? x.result.code : CE_PROTOCOL;
	if (r) {
		json_free(x.body);
		*error = *x.result.text ? strdup(x.result.text) : NULL;
		return r;
	}
	*status = x.result.status;
	*answer = x.body;
	return 0;
}

int carry_new(
	const char *origin, const char *ca_file, bool allow_raw, struct carry **out, char **error)
{
	_cleanup_(carry_freep) struct carry *c = calloc(1, sizeof(*c));
	_cleanup_free_ char *base = NULL;
	int r = c ? http_check_url(origin, &base, error) : -ENOMEM;

	if (!r)
		r = http_new(base, ca_file, &c->http);
	if (r)
		return r;
	c->link = (struct enrolment_link){ .post = carry_post, .arg = c, .allow_raw = allow_raw };
	*out = steal_ptr(&c);
	return 0;
}

const struct enrolment_link *carry_link(struct carry *c)
{
	return &c->link;
}

void carry_stop(struct carry *c)
{
	atomic_store(&c->stop, true);
}

void carry_free(struct carry *c)
{
	if (!c)
		return;
	http_free(c->http);
	free(c);
}

void carry_freep(struct carry **c)
{
	carry_free(*c);
}
