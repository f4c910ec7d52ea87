/*
 * Reading answers. The rule of promise P3: an answer counts only when it carries the instance id
 * that we know, has the content type its status asks for, and is whole and well-formed. A login
 * page, a proxy's error, another server on the same address, half a listing are all CE_PROTOCOL
 * here, and nothing above ever sees their content.
 */
#include "sync/records_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/error.h"
#include "sync/backoff.h"

#define PROBLEM_PREFIX "urn:cachet:"
#define INSTANCE_LEN 32

static void say(struct origin_result *r, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

static void say(struct origin_result *r, int code, const char *fmt, ...)
{
	va_list args;

	r->code = code;
	va_start(args, fmt);
	vsnprintf(r->text, sizeof(r->text), fmt, args);
	va_end(args);
}

/* "application/json; charset=utf-8" is application/json. */
static bool is_type(const char *content_type, const char *want)
{
	size_t len = strlen(want);

	return !strncasecmp(content_type, want, len) &&
	       (!content_type[len] || strchr("; \t", content_type[len]));
}

static bool is_hex_id(const char *text)
{
	return strlen(text) == INSTANCE_LEN && strspn(text, "0123456789abcdef") == INSTANCE_LEN;
}

static int code_of_conflict(const char *type)
{
	if (!strcmp(type, "in-progress") || !strcmp(type, "no-upload"))
		return -EBUSY;
	if (!strcmp(type, "place-taken") || !strcmp(type, "no-parent"))
		return CE_CONFLICT;
	return CE_REFUSED;
}

static int code_of_status(int status, const char *type, bool mutation)
{
	switch (status) {
	case 401:
		return CE_AUTH;
	case 403:
		return mutation ? CE_REFUSED : CE_AUTH;
	case 404:
	case 410:
		return CE_GONE;
	case 408:
	case 424:
		return -EAGAIN;
	case 409:
		return code_of_conflict(type);
	case 412:
		return CE_CONFLICT;
	case 413:
		return CE_TOO_LARGE;
	case 416:
		return CE_STALE;
	case 429:
	case 503:
		return -EBUSY;
	default:
		return status >= 500 ? -EAGAIN : CE_REFUSED;
	}
}

/* Type, title and detail of a problem; CE_FORMAT when it is none. */
static int take_problem(
	const struct json *problem, int status, bool mutation, struct origin_result *r)
{
	const char *type, *title = "", *detail = "";

	if (json_get_string(problem, "type", &type) ||
		strncmp(type, PROBLEM_PREFIX, strlen(PROBLEM_PREFIX)))
		return CE_FORMAT;
	type += strlen(PROBLEM_PREFIX);
	if (!*type || strlen(type) >= sizeof(r->type))
		return CE_FORMAT;
	if (json_get_string(problem, "title", &title))
		title = "";
	if (json_get_string(problem, "detail", &detail))
		detail = "";
	snprintf(r->type, sizeof(r->type), "%s", type);
	r->status = status;
	say(r, code_of_status(status, type, mutation), "%d %s%s%s", status, *title ? title : type,
		*detail ? ": " : "", detail);
	return 0;
}

static bool is_problem_of(const struct json *problem, const char *instance)
{
	const char *id;

	return !json_get_string(problem, "instance_id", &id) && !strcmp(id, instance);
}

static void judge_problem(
	const struct http_answer *a, bool mutation, struct origin_result *r, struct json **problem)
{
	_cleanup_json_ struct json *tree = NULL;

	if (!is_type(a->content_type, "application/problem+json") ||
		json_parse(a->body, a->body_len, &tree) || !is_problem_of(tree, a->instance) ||
		take_problem(tree, a->status, mutation, r)) {
		say(r, CE_PROTOCOL, "an answer %d that is not a problem of the protocol",
			a->status);
		return;
	}
	*problem = steal_ptr(&tree);
}

static void judge_stranger(const struct http_answer *a, struct origin_result *r)
{
	if (a->status == 502 || a->status == 503 || a->status == 504)
		say(r, CE_OFFLINE, "a gateway answers %d: the origin is not behind it", a->status);
	else if (a->status / 100 == 3)
		say(r, CE_PROTOCOL,
			"the address redirects elsewhere (%d); redirects are not followed",
			a->status);
	else
		say(r, CE_PROTOCOL, "an answer %d without the origin's identity (a login page?)",
			a->status);
}

void records_answer_judge(const struct http_answer *a, const char *instance, bool mutation,
	struct origin_result *r, struct json **problem)
{
	*r = (struct origin_result){ .status = a->status };
	r->retry_after_ms = backoff_retry_after_ms(a->retry_after, clock_wall_ns());
	if (a->code)
		say(r, a->code, "%s", a->text);
	else if (!is_hex_id(a->instance))
		judge_stranger(a, r);
	else if (*instance && strcmp(instance, a->instance))
		say(r, CE_PROTOCOL, "another server answers (its identity is not the origin's)");
	else if (a->status >= 400)
		judge_problem(a, mutation, r, problem);
	else if (a->status / 100 != 2)
		say(r, CE_PROTOCOL, "an unexpected answer %d", a->status);
}

void records_answer_json(const struct http_answer *a, struct origin_result *r, struct json **out)
{
	if (!is_type(a->content_type, "application/json"))
		say(r, CE_PROTOCOL, "an answer that is not JSON");
	else if (json_parse(a->body, a->body_len, out) || !json_is_object(*out))
		say(r, CE_PROTOCOL, "an answer that is not valid JSON");
}

/* --- what 2xx carry --- */

static int get_id(const struct json *in, const char *key, char out[static INSTANCE_LEN + 1])
{
	const char *text;

	if (json_get_string(in, key, &text) || !is_hex_id(text))
		return CE_PROTOCOL;
	memcpy(out, text, INSTANCE_LEN + 1);
	return 0;
}

/* Optional; what is not of the form is as if it were not there: /kek says it signed. */
static void take_device(const struct json *in, struct origin_caps *out)
{
	const struct json *device;
	const char *state, *kid;

	if (json_get(in, "device", &device) || json_get_string(device, "state", &state) ||
		strlen(state) >= sizeof(out->device_state))
		return;
	if (json_get_string(device, "kid", &kid) || strlen(kid) >= sizeof(out->device_kid))
		kid = "";
	strcpy(out->device_state, state);
	strcpy(out->device_kid, kid);
}

int records_answer_caps(const struct json *in, struct origin_caps *out)
{
	struct origin_caps c = { 0 };
	const struct json *limits;
	uint64_t version, keep_s, ahead;

	if (json_get_u64(in, "protocol", &version) || version != 1 ||
		get_id(in, "instance", c.instance) || get_id(in, "epoch", c.epoch) ||
		json_get_u64(in, "last_seq", &c.last_seq) || json_get(in, "limits", &limits))
		return CE_PROTOCOL;
	if (json_get_u64(limits, "max_record_bytes", &c.max_record_bytes) ||
		json_get_u64(limits, "max_request_bytes", &c.max_request_bytes) ||
		json_get_u64(limits, "max_batch", &c.max_batch) ||
		json_get_u64(limits, "max_wait_s", &c.max_wait_s))
		return CE_PROTOCOL;
	/* Optional: a server that keeps none gets each content whole again. */
	c.keeps_uploads = !json_get_u64(limits, "upload_keep_s", &keep_s) && keep_s;
	c.takes_ahead = !json_get_u64(limits, "upload_ahead", &ahead) && ahead;
	take_device(in, &c);
	*out = c;
	return 0;
}

static bool is_store_name(const char *name)
{
	return *name && strlen(name) <= 255 && !strchr(name, '/') && strcmp(name, ".") &&
	       strcmp(name, "..");
}

/* They become names of directories: nothing but ids. */
static int take_queries(const struct json *s, struct origin_store *out)
{
	const struct json *list;
	const char *name;

	if (!json_has(s, "queries"))
		return 0;
	if (json_get_array(s, "queries", &list))
		return CE_PROTOCOL;
	out->queries = calloc(json_count(list) + 1, sizeof(*out->queries));
	if (!out->queries)
		return -ENOMEM;
	for (const struct json *q = json_first(list); q; q = json_next(q)) {
		name = json_string(q);
		if (!name || !*name || strlen(name) > 64 ||
			name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
					  "0123456789_-")])
			return CE_PROTOCOL;
		out->queries[out->n_queries++] = name;
	}
	return 0;
}

static int take_store(const struct json *in, struct origin_store *out)
{
	const char *id, *mode;

	if (json_get_string(in, "id", &id) || !is_store_name(id) ||
		json_get_string(in, "mode", &mode))
		return CE_PROTOCOL;
	if (strcmp(mode, "rw") && strcmp(mode, "ro"))
		return CE_PROTOCOL;
	snprintf(out->name, sizeof(out->name), "%s", id);
	out->read_only = !strcmp(mode, "ro");
	return take_queries(in, out);
}

void records_answer_stores_free(struct origin_store *stores, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(stores[i].queries);
	free(stores);
}

int records_answer_stores(const struct json *in, struct origin_store **out, size_t *n)
{
	struct origin_store *stores;
	const struct json *list;
	size_t i = 0;
	int r = 0;

	if (json_get_array(in, "stores", &list))
		return CE_PROTOCOL;
	stores = calloc(json_count(list) + 1, sizeof(*stores));
	if (!stores)
		return -ENOMEM;
	for (const struct json *s = json_first(list); s && !r; s = json_next(s))
		r = take_store(s, &stores[i++]);
	if (r) {
		records_answer_stores_free(stores, i);
		return r;
	}
	*out = stores;
	*n = i;
	return 0;
}

void origin_page_done(struct origin_page *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->records[i].target);
	free(p->records);
	*p = (struct origin_page){ 0 };
}

int records_answer_page(const struct json *in, struct origin_page *out)
{
	_cleanup_free_ struct remote_record *records = NULL;
	struct origin_page page = { 0 };
	const struct json *list;
	const char *cursor;
	size_t i = 0;

	if (json_has(in, "queries") && json_get_bool(in, "queries", &page.queries))
		return CE_PROTOCOL;
	if (json_get_array(in, "changes", &list) || json_get_string(in, "cursor", &cursor) ||
		json_get_bool(in, "more", &page.more) || strlen(cursor) >= sizeof(page.cursor))
		return CE_PROTOCOL;
	records = calloc(json_count(list) + 1, sizeof(*records));
	if (!records)
		return -ENOMEM;
	for (const struct json *c = json_first(list); c; c = json_next(c), i++)
		if (remote_record_parse(c, &records[i]))
			return CE_PROTOCOL;
	memcpy(page.cursor, cursor, strlen(cursor));
	page.records = steal_ptr(&records);
	page.n = i;
	*out = page;
	return 0;
}

static int take_content(const struct json *in, struct origin_content *out)
{
	const struct json *record;
	const char *text;
	uint64_t status;

	out->code = CE_GONE;
	if (!json_get_u64(in, "status", &status))
		return status == 404 || status == 410 ? 0 : CE_PROTOCOL;
	if (json_get(in, "record", &record) || remote_record_parse(record, &out->record))
		return CE_PROTOCOL;
	out->code = CE_TOO_LARGE;
	if (!json_has(in, "content"))
		return 0;
	if (json_get_string(in, "content", &text))
		return CE_PROTOCOL;
	out->data = calloc(1, strlen(text) + 1);
	if (!out->data)
		return -ENOMEM;
	if (bytes_from_base64(text, (uint8_t *)out->data, strlen(text), &out->len) ||
		out->len != out->record.size)
		return CE_PROTOCOL;
	out->data[out->len] = 0;
	out->code = 0;
	return 0;
}

void records_answer_contents_free(struct origin_content *c, size_t n)
{
	for (size_t i = 0; c && i < n; i++)
		free(c[i].data);
	free(c);
}

int records_answer_contents(const struct json *in, struct origin_content **out, size_t *n)
{
	struct origin_content *contents;
	const struct json *list;
	size_t count, i = 0;
	int r = 0;

	if (json_get_array(in, "records", &list))
		return CE_PROTOCOL;
	count = json_count(list);
	contents = calloc(count + 1, sizeof(*contents));
	if (!contents)
		return -ENOMEM;
	for (const struct json *c = json_first(list); c && !r; c = json_next(c), i++)
		r = take_content(c, &contents[i]);
	if (r) {
		records_answer_contents_free(contents, count);
		return r;
	}
	*out = contents;
	*n = count;
	return 0;
}

/* --- outcomes --- */

static bool take_record(const struct json *in, struct remote_record *out)
{
	return in && !remote_record_parse(in, out);
}

/* A record with a refusal: the one that stands in the place, or the one there is instead of what we
 * thought. */
static void take_refusal(const struct json *problem, struct records_outcome *o)
{
	const struct json *record = NULL;
	struct remote_record r = { 0 };

	if (!problem || json_get(problem, "record", &record) || !take_record(record, &r))
		return;
	if (!strcmp(o->outcome.result.type, "place-taken")) {
		o->standing = r;
		o->outcome.standing = &o->standing;
	} else {
		o->record = r;
		o->outcome.record = &o->record;
	}
}

void records_answer_outcome(
	const struct origin_result *r, const struct json *body, struct records_outcome *o)
{
	o->outcome = (struct origin_outcome){ .result = *r };
	if (r->code) {
		take_refusal(body, o);
		return;
	}
	if (!take_record(body, &o->record)) {
		say(&o->outcome.result, CE_PROTOCOL, "a confirmation without a record");
		return;
	}
	o->outcome.record = &o->record;
}

static int take_batch_result(const struct json *in, struct records_outcome *o)
{
	const struct json *body = NULL;
	struct origin_result r = { 0 };
	uint64_t status;

	if (json_get_u64(in, "status", &status) || status < 200 || status > 599)
		return CE_PROTOCOL;
	r.status = (int)status;
	if (status / 100 == 2) {
		if (json_get(in, "record", &body))
			return CE_PROTOCOL;
	} else if (status < 400 || json_get(in, "problem", &body) ||
		   take_problem(body, r.status, true, &r)) {
		return CE_PROTOCOL;
	}
	records_answer_outcome(&r, body, o);
	return o->outcome.result.code == CE_PROTOCOL ? CE_PROTOCOL : 0;
}

int records_answer_batch(const struct json *in, size_t n, struct records_outcome *out)
{
	const struct json *list, *item;
	size_t i = 0;
	int r = 0;

	if (json_get_array(in, "results", &list) || json_count(list) != n)
		return CE_PROTOCOL;
	for (item = json_first(list); item && !r; item = json_next(item), i++)
		r = take_batch_result(item, &out[i]);
	return r;
}

bool records_answer_is_range(const char *content_range, uint64_t off, uint64_t len, uint64_t size)
{
	uint64_t first, last, whole;
	char end;

	return sscanf(content_range, "bytes %20" SCNu64 "-%20" SCNu64 "/%20" SCNu64 "%c", &first,
		       &last, &whole, &end) == 3 &&
	       first == off && last == off + len - 1 && whole == size;
}
