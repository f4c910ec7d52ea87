/* Which answers are the origin's word (promise P3), and what they say. */
#include <errno.h>

#include "base/error.h"
#include "sync/records_priv.h"
#include "unit.h"

#define US "0123456789abcdef0123456789abcdef"
#define OTHER "ffffffffffffffffffffffffffffffff"

static struct http_answer answer(
	int status, const char *type, const char *instance, const char *body)
{
	struct http_answer a = {
		.status = status, .content_length = -1, .body = body, .body_len = strlen(body)
	};

	snprintf(a.content_type, sizeof(a.content_type), "%s", type);
	snprintf(a.instance, sizeof(a.instance), "%s", instance);
	return a;
}

static int judged(struct http_answer a, bool mutation, struct origin_result *r)
{
	struct json *problem = NULL;

	records_answer_judge(&a, US, mutation, r, &problem);
	json_free(problem);
	return r->code;
}

static int problem(int status, const char *type, bool mutation)
{
	struct origin_result r;
	char body[200];

	snprintf(body, sizeof(body),
		"{\"type\":\"urn:cachet:%s\",\"title\":\"T\",\"status\":%d,\"instance_id\":\"" US
		"\"}",
		type, status);
	return judged(answer(status, "application/problem+json", US, body), mutation, &r);
}

static struct json *parse(const char *text)
{
	struct json *j;

	assert_int_equal(json_parse(text, strlen(text), &j), 0);
	return j;
}

static void a_login_page_is_not_the_origins_word(void **state)
{
	struct origin_result r;

	assert_int_equal(judged(answer(200, "text/html", "", "<html>"), false, &r), CE_PROTOCOL);
	assert_int_equal(judged(answer(200, "application/json", "", "{}"), false, &r), CE_PROTOCOL);
	assert_int_equal(judged(answer(404, "text/html", "", "<html>"), false, &r), CE_PROTOCOL);
	assert_int_equal(judged(answer(401, "text/html", "", "<html>"), false, &r), CE_PROTOCOL);
}

static void a_redirect_is_not_the_origins_word(void **state)
{
	struct origin_result r;

	assert_int_equal(judged(answer(302, "", "", ""), false, &r), CE_PROTOCOL);
	assert_int_equal(judged(answer(302, "application/json", US, ""), false, &r), CE_PROTOCOL);
}

static void a_gateway_that_finds_nobody_is_offline(void **state)
{
	struct origin_result r;

	assert_int_equal(judged(answer(502, "text/html", "", ""), false, &r), CE_OFFLINE);
	assert_int_equal(judged(answer(504, "text/html", "", ""), false, &r), CE_OFFLINE);
}

static void another_server_is_not_the_origin(void **state)
{
	struct origin_result r;

	assert_int_equal(
		judged(answer(200, "application/json", OTHER, "{}"), false, &r), CE_PROTOCOL);
	assert_int_equal(judged(answer(200, "application/json", US, "{}"), false, &r), 0);
}

static void a_refusal_must_be_a_problem_of_this_instance(void **state)
{
	struct origin_result r;
	const char *stranger =
		"{\"type\":\"urn:cachet:deleted\",\"status\":410,\"instance_id\":\"" OTHER "\"}";
	const char *ours =
		"{\"type\":\"urn:cachet:deleted\",\"status\":410,\"instance_id\":\"" US "\"}";
	const char *foreign_type = "{\"type\":\"about:blank\",\"instance_id\":\"" US "\"}";

	assert_int_equal(
		judged(answer(410, "application/problem+json", US, ours), false, &r), CE_GONE);
	assert_string_equal(r.type, "deleted");
	assert_int_equal(judged(answer(410, "application/problem+json", US, stranger), false, &r),
		CE_PROTOCOL);
	assert_int_equal(
		judged(answer(410, "application/problem+json", US, foreign_type), false, &r),
		CE_PROTOCOL);
	assert_int_equal(judged(answer(410, "text/html", US, ours), false, &r), CE_PROTOCOL);
	assert_int_equal(
		judged(answer(404, "application/problem+json", US, ""), false, &r), CE_PROTOCOL);
}

static void each_status_has_its_meaning(void **state)
{
	assert_int_equal(problem(401, "unauthorized", true), CE_AUTH);
	assert_int_equal(problem(403, "forbidden", false), CE_AUTH);
	assert_int_equal(problem(403, "forbidden", true), CE_REFUSED);
	assert_int_equal(problem(404, "no-record", true), CE_GONE);
	assert_int_equal(problem(409, "place-taken", true), CE_CONFLICT);
	assert_int_equal(problem(409, "no-parent", true), CE_CONFLICT);
	assert_int_equal(problem(409, "in-progress", true), -EBUSY);
	assert_int_equal(problem(409, "loop", true), CE_REFUSED);
	assert_int_equal(problem(412, "precondition", true), CE_CONFLICT);
	assert_int_equal(problem(413, "too-large", true), CE_TOO_LARGE);
	assert_int_equal(problem(422, "key-reused", true), CE_REFUSED);
	assert_int_equal(problem(428, "precondition-required", true), CE_REFUSED);
	assert_int_equal(problem(429, "busy", true), -EBUSY);
	assert_int_equal(problem(500, "internal", true), -EAGAIN);
	assert_int_equal(problem(503, "busy", false), -EBUSY);
	assert_int_equal(problem(507, "no-space", true), -EAGAIN);
}

static void retry_after_is_taken_along(void **state)
{
	struct http_answer a = answer(503, "application/problem+json", US,
		"{\"type\":\"urn:cachet:busy\",\"instance_id\":\"" US "\"}");
	struct origin_result r;

	snprintf(a.retry_after, sizeof(a.retry_after), "3");
	assert_int_equal(judged(a, false, &r), -EBUSY);
	assert_int_equal(r.retry_after_ms, 3000);
}

static void json_must_be_called_json_and_be_it(void **state)
{
	static const char *const bad[] = { "", "{", "[1]", "{} x", "{\"a\":1,\"a\":2}", "<html>" };
	struct origin_result r = { 0 };
	struct json *out = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct http_answer a = answer(200, "application/json", US, bad[i]);

		r.code = 0;
		out = NULL;
		records_answer_json(&a, &r, &out);
		json_free(out);
		assert_int_equal(r.code, CE_PROTOCOL);
	}
	{
		struct http_answer a = answer(200, "text/plain", US, "{}");

		r.code = 0;
		out = NULL;
		records_answer_json(&a, &r, &out);
		assert_int_equal(r.code, CE_PROTOCOL);
	}
}

#define RECORD(name)                                                                               \
	"{\"id\":\"r1\",\"parent\":\"root\",\"name\":\"" name                                      \
	"\",\"kind\":\"file\",\"size\":3,\"etag\":\"\\\"1\\\"\",\"seq\":1}"
#define GOOD RECORD("a")

static int page_of(const char *text)
{
	_cleanup_json_ struct json *j = parse(text);
	struct origin_page p;
	int r = records_answer_page(j, &p);

	if (!r)
		origin_page_done(&p);
	return r;
}

static void a_page_is_taken_whole(void **state)
{
	_cleanup_json_ struct json *j =
		parse("{\"changes\":[" GOOD "],\"cursor\":\"c7\",\"more\":true}");
	struct origin_page p;

	assert_int_equal(records_answer_page(j, &p), 0);
	assert_int_equal(p.n, 1);
	assert_string_equal(p.records[0].name, "a");
	assert_string_equal(p.cursor, "c7");
	assert_true(p.more);
	origin_page_done(&p);
}

static void one_bad_record_refuses_the_page(void **state)
{
	static const char *const names[] = { RECORD("a/b"), RECORD(".."), RECORD("."), RECORD("") };
	char text[2000], longest[400];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(text, sizeof(text),
			"{\"changes\":[" GOOD ",%s],\"cursor\":\"c\",\"more\":false}", names[i]);
		assert_int_equal(page_of(text), CE_PROTOCOL);
	}
	memset(longest, 'n', 300);
	longest[300] = 0;
	snprintf(text, sizeof(text),
		"{\"changes\":[{\"id\":\"r1\",\"parent\":\"root\",\"name\":\"%s\",\"kind\":"
		"\"file\",\"size\":3,"
		"\"etag\":\"\\\"1\\\"\",\"seq\":1}],\"cursor\":\"c\",\"more\":false}",
		longest);
	assert_int_equal(page_of(text), CE_PROTOCOL);
}

static void a_page_without_its_members_is_refused(void **state)
{
	char text[600];

	assert_int_equal(page_of("{}"), CE_PROTOCOL);
	assert_int_equal(page_of("{\"changes\":[],\"cursor\":\"c\"}"), CE_PROTOCOL);
	assert_int_equal(page_of("{\"changes\":[],\"more\":false}"), CE_PROTOCOL);
	assert_int_equal(page_of("{\"changes\":{},\"cursor\":\"c\",\"more\":false}"), CE_PROTOCOL);
	assert_int_equal(page_of("{\"changes\":[],\"cursor\":\"c\",\"more\":0}"), CE_PROTOCOL);
	snprintf(text, sizeof(text), "{\"changes\":[],\"cursor\":\"%0300d\",\"more\":false}", 1);
	assert_int_equal(page_of(text), CE_PROTOCOL);
	assert_int_equal(page_of("{\"changes\":[],\"cursor\":\"\",\"more\":false}"), 0);
}

static void stores_have_plain_names_and_a_known_mode(void **state)
{
	static const char *const bad[] = { "{\"id\":\"..\",\"mode\":\"rw\"}",
		"{\"id\":\"a/b\",\"mode\":\"rw\"}", "{\"id\":\"\",\"mode\":\"rw\"}",
		"{\"id\":\"a\",\"mode\":\"wo\"}", "{\"id\":\"a\"}", "7" };
	struct origin_store *stores;
	char text[200];
	size_t n;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_json_ struct json *j = NULL;

		snprintf(text, sizeof(text), "{\"stores\":[%s]}", bad[i]);
		j = parse(text);
		assert_int_equal(records_answer_stores(j, &stores, &n), CE_PROTOCOL);
	}
	{
		_cleanup_json_ struct json *j =
			parse("{\"stores\":[{\"id\":\"a\",\"mode\":\"ro\",\"records\":1}]}");

		assert_int_equal(records_answer_stores(j, &stores, &n), 0);
		assert_int_equal(n, 1);
		assert_true(stores[0].read_only);
		free(stores);
	}
}

static void a_range_is_that_range_of_that_size(void **state)
{
	assert_true(records_answer_is_range("bytes 0-9/100", 0, 10, 100));
	assert_false(records_answer_is_range("bytes 0-8/100", 0, 10, 100));
	assert_false(records_answer_is_range("bytes 1-10/100", 0, 10, 100));
	assert_false(records_answer_is_range("bytes 0-9/101", 0, 10, 100));
	assert_false(records_answer_is_range("bytes 0-9/*", 0, 10, 100));
	assert_false(records_answer_is_range("bytes 0-9/100 ", 0, 10, 100));
	assert_false(records_answer_is_range("", 0, 10, 100));
}

static void a_batch_answer_has_one_result_for_each_operation(void **state)
{
	_cleanup_json_ struct json *j = parse(
		"{\"results\":[{\"status\":201,\"record\":" GOOD "},"
		"{\"status\":412,\"problem\":{\"type\":\"urn:cachet:precondition\",\"record\":" GOOD
		"}},"
		"{\"status\":409,\"problem\":{\"type\":\"urn:cachet:place-taken\",\"record\":" GOOD
		"}}]}");
	struct records_outcome out[3] = { 0 };

	assert_int_equal(records_answer_batch(j, 2, out), CE_PROTOCOL);
	assert_int_equal(records_answer_batch(j, 4, out), CE_PROTOCOL);
	assert_int_equal(records_answer_batch(j, 3, out), 0);
	assert_int_equal(out[0].outcome.result.code, 0);
	assert_non_null(out[0].outcome.record);
	assert_int_equal(out[1].outcome.result.code, CE_CONFLICT);
	assert_non_null(out[1].outcome.record);
	assert_null(out[1].outcome.standing);
	assert_non_null(out[2].outcome.standing);
	assert_null(out[2].outcome.record);
}

static void a_batch_answer_with_a_hole_is_refused_whole(void **state)
{
	static const char *const bad[] = { "{\"status\":201}", "{\"record\":" GOOD "}",
		"{\"status\":100,\"record\":" GOOD "}",
		"{\"status\":302,\"problem\":{\"type\":\"urn:cachet:x\"}}", "{\"status\":404}",
		"{\"status\":404,\"problem\":{\"type\":\"x\"}}", "{\"status\":200,\"record\":{}}" };
	struct records_outcome out[2] = { 0 };
	char text[600];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_json_ struct json *j = NULL;

		snprintf(text, sizeof(text),
			"{\"results\":[{\"status\":200,\"record\":" GOOD "},%s]}", bad[i]);
		j = parse(text);
		assert_int_equal(records_answer_batch(j, 2, out), CE_PROTOCOL);
	}
}

static int contents_of(const char *text)
{
	_cleanup_json_ struct json *j = parse(text);
	struct origin_content *c;
	size_t n;
	int r = records_answer_contents(j, &c, &n);

	if (!r)
		records_answer_contents_free(c, n);
	return r;
}

static void contents_have_the_size_their_record_says(void **state)
{
	assert_int_equal(
		contents_of("{\"records\":[{\"record\":" GOOD ",\"content\":\"YWJj\"}]}"), 0);
	assert_int_equal(contents_of("{\"records\":[{\"id\":\"r1\",\"status\":404}]}"), 0);
	assert_int_equal(contents_of("{\"records\":[{\"record\":" GOOD ",\"content\":\"YWI=\"}]}"),
		CE_PROTOCOL);
	assert_int_equal(contents_of("{\"records\":[{\"record\":" GOOD ",\"content\":\"YWJj!\"}]}"),
		CE_PROTOCOL);
	assert_int_equal(contents_of("{\"records\":[{\"record\":" GOOD ",\"content\":3}]}"),
		CE_PROTOCOL);
	assert_int_equal(
		contents_of("{\"records\":[{\"id\":\"r1\",\"status\":500}]}"), CE_PROTOCOL);
}

static void a_record_may_come_without_its_content(void **state)
{
	_cleanup_json_ struct json *j = parse("{\"records\":[{\"record\":" GOOD "}]}");
	struct origin_content *c;
	size_t n;

	assert_int_equal(records_answer_contents(j, &c, &n), 0);
	assert_int_equal(c->code, CE_TOO_LARGE);
	assert_null(c->data);
	records_answer_contents_free(c, n);
}

static void capabilities_need_an_identity_and_limits(void **state)
{
	static const char good[] =
		"{\"protocol\":1,\"instance\":\"" US "\",\"epoch\":\"" OTHER
		"\",\"last_seq\":5,\"limits\":{\"max_record_bytes\":1,\"max_request_bytes\":2,"
		"\"max_batch\":3,\"max_wait_s\":4}}";
	_cleanup_json_ struct json *j = parse(good);
	_cleanup_json_ struct json *newer = parse("{\"protocol\":2}");
	_cleanup_json_ struct json *nobody = parse("{\"protocol\":1,\"instance\":\"x\"}");
	struct origin_caps c;

	assert_int_equal(records_answer_caps(j, &c), 0);
	assert_string_equal(c.instance, US);
	assert_int_equal(c.last_seq, 5);
	assert_int_equal(c.max_wait_s, 4);
	assert_int_equal(records_answer_caps(newer, &c), CE_PROTOCOL);
	assert_int_equal(records_answer_caps(nobody, &c), CE_PROTOCOL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_login_page_is_not_the_origins_word),
		cmocka_unit_test(a_redirect_is_not_the_origins_word),
		cmocka_unit_test(a_gateway_that_finds_nobody_is_offline),
		cmocka_unit_test(another_server_is_not_the_origin),
		cmocka_unit_test(a_refusal_must_be_a_problem_of_this_instance),
		cmocka_unit_test(each_status_has_its_meaning),
		cmocka_unit_test(retry_after_is_taken_along),
		cmocka_unit_test(json_must_be_called_json_and_be_it),
		cmocka_unit_test(a_page_is_taken_whole),
		cmocka_unit_test(one_bad_record_refuses_the_page),
		cmocka_unit_test(a_page_without_its_members_is_refused),
		cmocka_unit_test(stores_have_plain_names_and_a_known_mode),
		cmocka_unit_test(a_range_is_that_range_of_that_size),
		cmocka_unit_test(a_batch_answer_has_one_result_for_each_operation),
		cmocka_unit_test(a_batch_answer_with_a_hole_is_refused_whole),
		cmocka_unit_test(contents_have_the_size_their_record_says),
		cmocka_unit_test(a_record_may_come_without_its_content),
		cmocka_unit_test(capabilities_need_an_identity_and_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
