/* What a hostile server may answer: judged and parsed without a crash; what is accepted keeps the
 * limits that the rest of the client relies on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "fuzz.h"
#include "sync/records_priv.h"

static void check_record(const struct remote_record *r)
{
	FUZZ_CHECK(memchr(r->id, 0, sizeof(r->id)) && memchr(r->parent, 0, sizeof(r->parent)));
	FUZZ_CHECK(memchr(r->name, 0, sizeof(r->name)) && memchr(r->etag, 0, sizeof(r->etag)));
	FUZZ_CHECK(!strchr(r->name, '/') && strcmp(r->name, ".") && strcmp(r->name, ".."));
}

static void page(const struct json *in)
{
	struct origin_page p = { 0 };

	if (records_answer_page(in, &p))
		return;
	for (size_t i = 0; i < p.n; i++)
		check_record(&p.records[i]);
	FUZZ_CHECK(memchr(p.cursor, 0, sizeof(p.cursor)));
	origin_page_done(&p);
}

static void contents(const struct json *in)
{
	struct origin_content *c = NULL;
	size_t n = 0;

	if (records_answer_contents(in, &c, &n))
		return;
	for (size_t i = 0; i < n; i++)
		FUZZ_CHECK(c[i].code || c[i].data);
	records_answer_contents_free(c, n);
}

static void stores(const struct json *in)
{
	struct origin_store *s = NULL;
	size_t n = 0;

	if (records_answer_stores(in, &s, &n) == 0)
		free(s);
}

static void outcomes(const struct origin_result *r, const struct json *in)
{
	struct records_outcome one, batch[3];

	memset(&one, 0, sizeof(one));
	records_answer_outcome(r, in, &one);
	if (one.outcome.record)
		check_record(one.outcome.record);
	memset(batch, 0, sizeof(batch));
	if (records_answer_batch(in, ARRAY_SIZE(batch), batch))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(batch); i++)
		if (batch[i].outcome.record)
			check_record(batch[i].outcome.record);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int statuses[] = { 200, 201, 204, 206, 301, 304, 400, 401, 403, 404, 409, 410,
		412, 413, 416, 424, 429, 500, 503, 507 };
	static const char *const types[] = { "application/json", "application/problem+json",
		"text/html", "" };
	struct fuzz_input in = { data, size };
	struct http_answer a = { .content_length = -1 };
	struct origin_result r = { 0 };
	struct origin_caps caps;
	struct json *body = NULL, *problem = NULL;
	char *text;

	a.status = statuses[fuzz_take(&in, 1) % ARRAY_SIZE(statuses)];
	snprintf(a.content_type, sizeof(a.content_type), "%s", types[fuzz_take(&in, 1) % 4]);
	if (fuzz_take(&in, 1) & 1)
		strcpy(a.instance, "a7dae845fc1df8d3b8e9d7d533a9cd0f");
	for (size_t i = 0, n = fuzz_take(&in, 1) % 79; i < n; i++)
		a.content_range[i] = (char)fuzz_take(&in, 1);
	text = calloc(1, in.len + 1);
	FUZZ_CHECK(text);
	memcpy(text, in.data, in.len);
	a.body = text;
	a.body_len = in.len;
	(void)records_answer_is_range(a.content_range, 0, 4096, 10000);
	records_answer_judge(&a, a.instance, true, &r, &problem);
	r.code = 0;
	records_answer_json(&a, &r, &body);
	if (body) {
		(void)!records_answer_caps(body, &caps);
		stores(body);
		page(body);
		contents(body);
		outcomes(&r, body);
	}
	json_free(problem);
	json_free(body);
	free(text);
	return 0;
}
