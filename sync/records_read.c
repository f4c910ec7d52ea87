/* The calls that change nothing: capabilities, stores, changes, contents, queries. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "sync/records_call.h"

#define CAPS_MAX_BYTES (64u << 10)
#define STORES_MAX_BYTES (4u << 20)
#define PAGE_MAX_BYTES (32u << 20)
#define SMALL_MAX_BYTES (512u << 20)
#define POLL_GRACE_S 15
#define QUERY_MAX_BYTES (16u << 20)
#define QUERY_IDLE_S 30 /* it may take long to begin */

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
			records_call_not_protocol(&r, e ? e : CE_PROTOCOL, "capabilities");
	}
	c->caps(c->arg, &r, r.code ? NULL : &caps);
}

/* The one call that any identity may answer: the caller compares. */
int records_read_capabilities(
	struct origin *o, origin_caps_fn *fn, void *arg, struct origin_call **out)
{
	_cleanup_records_request_ struct records_request q = { 0 };
	struct origin_call *c;
	int r = records_call_begin(&q, o, "GET", NULL, arg, &c);

	if (r)
		return r;
	c->caps = fn;
	return records_call_submit(&q, caps_done, CAPS_MAX_BYTES, 0, out);
}

static void stores_done(void *arg, const struct http_answer *a)
{
	_cleanup_free_ struct origin_call *c = arg;
	_cleanup_json_ struct json *body = NULL;
	struct origin_store *stores = NULL;
	struct origin_result r;
	size_t n = 0;
	int e;

	records_call_judge_json(c, a, &r, &body);
	if (!r.code) {
		e = records_answer_stores(body, &stores, &n);
		if (e)
			records_call_not_protocol(&r, e, "a list of stores");
	}
	c->stores(c->arg, &r, stores, n);
	records_answer_stores_free(stores, n);
}

int records_read_stores(struct origin *o, origin_stores_fn *fn, void *arg, struct origin_call **out)
{
	_cleanup_records_request_ struct records_request q = { 0 };
	struct origin_call *c;
	int r = records_call_begin(&q, o, "GET", NULL, arg, &c);

	if (r)
		return r;
	c->stores = fn;
	records_call_path(&q, "/stores");
	return records_call_submit(&q, stores_done, STORES_MAX_BYTES, 0, out);
}

static void changes_done(void *arg, const struct http_answer *a)
{
	_cleanup_free_ struct origin_call *c = arg;
	_cleanup_json_ struct json *body = NULL;
	struct origin_page page = { 0 };
	struct origin_result r;
	int e;

	records_call_judge_json(c, a, &r, &body);
	if (!r.code) {
		e = records_answer_page(body, &page);
		if (e)
			records_call_not_protocol(&r, e, "a page of changes");
	}
	c->changes(c->arg, &r, &page);
	origin_page_done(&page);
}

int records_read_changes(struct origin *o, const char *store, const char *cursor, unsigned limit,
	unsigned wait_s, origin_changes_fn *fn, void *arg, struct origin_call **out)
{
	_cleanup_records_request_ struct records_request q = { 0 };
	struct origin_call *c;
	char rest[64];
	int r = records_call_begin(&q, o, "GET", store, arg, &c);

	if (r)
		return r;
	c->changes = fn;
	snprintf(rest, sizeof(rest), "/changes?limit=%u&wait=%u&since=", limit, wait_s);
	records_call_path(&q, rest);
	records_call_escaped(&q, cursor);
	return records_call_submit(
		&q, changes_done, PAGE_MAX_BYTES, wait_s ? wait_s + POLL_GRACE_S : 0, out);
}

static void small_done(void *arg, const struct http_answer *a)
{
	_cleanup_free_ struct origin_call *c = arg;
	_cleanup_json_ struct json *body = NULL;
	struct origin_content *contents = NULL;
	struct origin_result r;
	size_t n = 0;
	int e;

	records_call_judge_json(c, a, &r, &body);
	if (!r.code) {
		e = records_answer_contents(body, &contents, &n);
		if (!e && n != c->n)
			e = CE_PROTOCOL;
		if (e)
			records_call_not_protocol(&r, e, "contents");
	}
	c->contents(c->arg, &r, contents, n);
	records_answer_contents_free(contents, n);
}

int records_read_get_small(struct origin *o, const char *store, const char *const *rids, size_t n,
	origin_contents_fn *fn, void *arg, struct origin_call **out)
{
	_cleanup_records_request_ struct records_request q = { 0 };
	struct origin_call *c;
	char *body;
	int r = records_call_begin(&q, o, "POST", store, arg, &c);

	if (!r)
		r = records_body_ids(rids, n, &body);
	if (r)
		return r;
	c->contents = fn;
	c->n = n;
	records_call_path(&q, "/get");
	records_call_json(&q, body, strlen(body));
	return records_call_submit(&q, small_done, SMALL_MAX_BYTES, 0, out);
}

/* --- one content, in part --- */

/* 0 = this is the range asked for, of the version asked for. */
static int judge_range(const struct origin_call *c, const struct http_answer *a)
{
	bool ours = !strcmp(a->instance, c->r->instance);

	if (!ours || (a->status != 206 && a->status != 200))
		return CE_PROTOCOL;
	/* Known before a byte of it is kept. */
	if (a->status == 206 && a->content_length >= 0 && (uint64_t)a->content_length != c->len)
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

	records_call_judge(c, a, &r, &problem);
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

int records_read_get(struct origin *o, const struct origin_range *range, http_sink_fn *sink,
	origin_done_fn *fn, void *arg, struct origin_call **out)
{
	_cleanup_records_request_ struct records_request q = { 0 };
	struct origin_call *c;
	int r = records_call_begin(&q, o, "GET", range->store, arg, &c);

	if (r)
		return r;
	c->done = fn;
	c->sink = sink;
	c->off = range->off;
	c->len = range->len;
	c->size = range->size;
	snprintf(c->etag, sizeof(c->etag), "%s", range->etag);
	records_call_record(&q, range->rid);
	records_call_header(
		&q, "Range: bytes=%" PRIu64 "-%" PRIu64, range->off, range->off + range->len - 1);
	records_call_header(&q, "If-Match: %s", range->etag);
	q.call.begin = get_begin;
	q.call.sink = get_sink;
	return records_call_submit(&q, get_done, 0, 0, out);
}

/* --- is a version the current one --- */

static int check_begin(void *arg, const struct http_answer *a)
{
	return a->status / 100 == 2 ? 0 : 1;
}

/* A version that is sent after all has answered the question by its ETag: its content is not taken.
 */
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
		records_call_judge(c, a, &r, &problem);
	if (r.code == -ECANCELED)
		records_call_not_protocol(&r, CE_PROTOCOL, "an answer of another server");
	c->done(c->arg, &r);
}

int records_read_check(struct origin *o, const char *store, const char *rid, const char *etag,
	origin_done_fn *fn, void *arg, struct origin_call **out)
{
	_cleanup_records_request_ struct records_request q = { 0 };
	struct origin_call *c;
	int r = records_call_begin(&q, o, "GET", store, arg, &c);

	if (r)
		return r;
	c->done = fn;
	snprintf(c->etag, sizeof(c->etag), "%s", etag);
	records_call_record(&q, rid);
	records_call_header(&q, "If-None-Match: %s", etag);
	q.call.begin = check_begin;
	q.call.sink = check_sink;
	return records_call_submit(&q, check_done, RECORDS_RECORD_MAX_BYTES, 0, out);
}

/* --- a query's answer --- */

static void query_done(void *arg, const struct http_answer *a)
{
	_cleanup_free_ struct origin_call *c = arg;
	_cleanup_json_ struct json *problem = NULL;
	struct origin_result r = { .status = a->status };
	bool current =
		!a->code && a->status == 304 && *c->etag && !strcmp(a->instance, c->r->instance);

	if (!current)
		records_call_judge(c, a, &r, &problem);
	if (!r.code && !current && (!*a->etag || strlen(a->etag) > 64 || *a->etag != '"'))
		records_call_not_protocol(&r, CE_PROTOCOL, "an answer without a strong ETag");
	if (r.code || current)
		c->answer(c->arg, &r, NULL, NULL, 0);
	else
		c->answer(c->arg, &r, a->etag, a->body ? a->body : "", a->body_len);
}

int records_read_query(struct origin *o, const char *store, const char *address, const char *etag,
	origin_answer_fn *fn, void *arg, struct origin_call **out)
{
	_cleanup_records_request_ struct records_request q = { 0 };
	struct origin_call *c;
	int r = records_call_begin(&q, o, "GET", store, arg, &c);

	if (r)
		return r;
	c->answer = fn;
	snprintf(c->etag, sizeof(c->etag), "%s", etag);
	records_call_query(&q, address);
	if (*etag)
		records_call_header(&q, "If-None-Match: %s", etag);
	return records_call_submit(&q, query_done, QUERY_MAX_BYTES, QUERY_IDLE_S, out);
}
