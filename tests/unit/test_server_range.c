/* Ranges, conditions and dates against RFC 9110 sections 13, 14 and 5.6.7; ids, names, entity tags.
 */
#include "unit.h"

#include "base/error.h"
#include "server/range.h"
#include "server/wire.h"

#define ETAG "\"1-a\""
#define CHANGED 784111777 /* Sun, 06 Nov 1994 08:49:37 GMT */

static enum range_verdict ask(
	const struct range_request *q, uint64_t size, uint64_t *first, uint64_t *len)
{
	return server_range_evaluate(q, ETAG, CHANGED, size, first, len);
}

static void range_is(
	const char *range, uint64_t size, enum range_verdict verdict, uint64_t first, uint64_t len)
{
	uint64_t f = 0, l = 0;

	assert_int_equal(ask(&(struct range_request){ .range = range }, size, &f, &l), verdict);
	if (verdict == RANGE_UNSATISFIABLE)
		return;
	assert_int_equal(f, first);
	assert_int_equal(l, len);
}

static void one_range_is_cut_to_the_content(void **state)
{
	range_is("bytes=0-0", 10, RANGE_PART, 0, 1);
	range_is("bytes=3-7", 10, RANGE_PART, 3, 5);
	range_is("bytes=3-", 10, RANGE_PART, 3, 7);
	range_is("bytes=3-100", 10, RANGE_PART, 3, 7);
	range_is("bytes=-4", 10, RANGE_PART, 6, 4);
	range_is("bytes=-100", 10, RANGE_PART, 0, 10);
	range_is("BYTES=9-9", 10, RANGE_PART, 9, 1);
	range_is("bytes=0-18446744073709551615", 10, RANGE_PART, 0, 10);
}

static void a_range_outside_the_content_is_unsatisfiable(void **state)
{
	range_is("bytes=10-", 10, RANGE_UNSATISFIABLE, 0, 0);
	range_is("bytes=10-20", 10, RANGE_UNSATISFIABLE, 0, 0);
	range_is("bytes=-0", 10, RANGE_UNSATISFIABLE, 0, 0);
	range_is("bytes=0-", 0, RANGE_UNSATISFIABLE, 0, 0);
	range_is("bytes=-1", 0, RANGE_UNSATISFIABLE, 0, 0);
	range_is("bytes=18446744073709551615-", UINT64_MAX, RANGE_UNSATISFIABLE, 0, 0);
}

static void what_is_not_one_byte_range_is_ignored(void **state)
{
	static const char *const ignored[] = { "", "bytes", "bytes=", "bytes=-", "bytes=a-b",
		"bytes=1", "bytes=5-3", "bytes=0-1,3-4", "bytes= 0-1", "bytes=0-1 ", "items=0-1",
		"bytes=-1-2", "bytes=+1-2", "bytes=18446744073709551616-",
		"bytes=0-99999999999999999999999999" };

	for (size_t i = 0; i < sizeof(ignored) / sizeof(*ignored); i++)
		range_is(ignored[i], 10, RANGE_WHOLE, 0, 10);
}

static void if_range_needs_the_strong_tag(void **state)
{
	struct range_request q = { .range = "bytes=0-1", .if_range = ETAG };
	uint64_t first, len;

	assert_int_equal(ask(&q, 10, &first, &len), RANGE_PART);
	q.if_range = "\"other\"";
	assert_int_equal(ask(&q, 10, &first, &len), RANGE_WHOLE);
	q.if_range = "W/" ETAG;
	assert_int_equal(ask(&q, 10, &first, &len), RANGE_WHOLE);
	q.if_range = "Sun, 06 Nov 1994 08:49:37 GMT";
	assert_int_equal(ask(&q, 10, &first, &len), RANGE_WHOLE);
}

static void conditions_have_their_precedence(void **state)
{
	uint64_t first, len;
	struct range_request q = { .if_match = "\"x\"", .if_none_match = ETAG };

	assert_int_equal(ask(&q, 10, &first, &len), RANGE_FAILED);
	q.if_match = "\"x\", " ETAG;
	assert_int_equal(ask(&q, 10, &first, &len), RANGE_NOT_MODIFIED);
	q = (struct range_request){ .if_match = ETAG,
		.if_unmodified_since = "Sun, 06 Nov 1994 08:49:36 GMT" };
	assert_int_equal(ask(&q, 10, &first, &len), RANGE_WHOLE);
	q.if_match = NULL;
	assert_int_equal(ask(&q, 10, &first, &len), RANGE_FAILED);
	q = (struct range_request){ .if_modified_since = "Sun, 06 Nov 1994 08:49:37 GMT" };
	assert_int_equal(ask(&q, 10, &first, &len), RANGE_NOT_MODIFIED);
	q.if_none_match = "\"x\"";
	assert_int_equal(ask(&q, 10, &first, &len), RANGE_WHOLE);
	q = (struct range_request){ .if_modified_since = "Sun, 06 Nov 1994 08:49:36 GMT" };
	assert_int_equal(ask(&q, 10, &first, &len), RANGE_WHOLE);
	q = (struct range_request){ .if_none_match = "W/" ETAG, .range = "bytes=0-1" };
	assert_int_equal(ask(&q, 10, &first, &len), RANGE_NOT_MODIFIED);
	q = (struct range_request){ .if_match = "W/" ETAG };
	assert_int_equal(ask(&q, 10, &first, &len), RANGE_FAILED);
	q = (struct range_request){ .if_match = "*" };
	assert_int_equal(ask(&q, 10, &first, &len), RANGE_WHOLE);
}

static void dates_go_both_ways(void **state)
{
	char text[RANGE_DATE_LEN];
	time_t t;

	server_range_date(CHANGED, text);
	assert_string_equal(text, "Sun, 06 Nov 1994 08:49:37 GMT");
	assert_true(server_range_parse_date(text, &t));
	assert_int_equal(t, CHANGED);
	server_range_date(0, text);
	assert_string_equal(text, "Thu, 01 Jan 1970 00:00:00 GMT");
	server_range_date(INT64_MAX, text);
}

static void the_obsolete_dates_are_read(void **state)
{
	time_t t = 0;

	assert_true(server_range_parse_date("Sunday, 06-Nov-94 08:49:37 GMT", &t));
	assert_int_equal(t, CHANGED);
	t = 0;
	assert_true(server_range_parse_date("Sun Nov  6 08:49:37 1994", &t));
	assert_int_equal(t, CHANGED);
}

static void other_dates_are_no_dates(void **state)
{
	static const char *const bad[] = { "", "now", "Mon, 06 Nov 1994 08:49:37 GMT",
		"Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 CET",
		"Monday, 06-Nov-94 08:49:37 GMT", "Sunday, 06-Nov-94", "-", "Sun, 06-Nov-1994-",
		"Sunday, 06-Nov-xx 08:49:37 GMT", "Mon Nov  6 08:49:37 1994",
		"Sun Nov 31 08:49:37 1994", "Sun Nov  6 08:49:37 1994 GMT",
		"Sun, 6 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT " };
	time_t t = 5;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_false(server_range_parse_date(bad[i], &t));
	assert_int_equal(t, 5);
}

static void ids_are_of_their_alphabet(void **state)
{
	char longest[66];

	memset(longest, 'a', sizeof(longest));
	longest[64] = 0;
	assert_true(server_wire_is_id(longest));
	longest[64] = 'a';
	longest[65] = 0;
	assert_false(server_wire_is_id(longest));
	assert_true(server_wire_is_id("aZ09_-"));
	assert_false(server_wire_is_id(""));
	assert_false(server_wire_is_id("a.b"));
	assert_false(server_wire_is_id("a/b"));
	assert_false(server_wire_is_id("\xc3\xa9"));
}

static void percent_decoding_is_strict_and_bounded(void **state)
{
	char out[8];
	size_t len;

	assert_int_equal(server_wire_percent_decode("a%2Fb%c3%A9", out, sizeof(out), &len), 0);
	assert_int_equal(len, 5);
	assert_memory_equal(out, "a/b\xc3\xa9", 6);
	assert_int_equal(server_wire_percent_decode("a%00b", out, sizeof(out), &len), 0);
	assert_int_equal(len, 3);
	assert_int_equal(server_wire_percent_decode("1234567", out, sizeof(out), &len), 0);
	assert_int_equal(
		server_wire_percent_decode("12345678", out, sizeof(out), &len), CE_TOO_LARGE);
	assert_int_equal(server_wire_percent_decode("%", out, sizeof(out), &len), CE_FORMAT);
	assert_int_equal(server_wire_percent_decode("%1", out, sizeof(out), &len), CE_FORMAT);
	assert_int_equal(server_wire_percent_decode("%g0", out, sizeof(out), &len), CE_FORMAT);
	assert_int_equal(server_wire_percent_decode("a b", out, sizeof(out), &len), CE_FORMAT);
}

static void tag_lists_are_taken_whole_or_not(void **state)
{
	assert_true(server_wire_is_etag_list("\"a\""));
	assert_true(server_wire_is_etag_list("W/\"a\" , \"b\""));
	assert_true(server_wire_is_etag_list("*"));
	assert_false(server_wire_is_etag_list(""));
	assert_false(server_wire_is_etag_list("a"));
	assert_false(server_wire_is_etag_list("\"a"));
	assert_false(server_wire_is_etag_list("\"a\","));
	assert_false(server_wire_is_etag_list("\"a\" \"b\""));
	assert_false(server_wire_is_etag_list("*, \"a\""));
	assert_true(server_wire_etag_in("\"x\",\"1-a\"", ETAG, false));
	assert_false(server_wire_etag_in("\"x\",\"1-a", ETAG, false));
	assert_false(server_wire_etag_in("\"1-ab\"", ETAG, false));
}

static void numbers_are_decimal_and_fit(void **state)
{
	uint64_t u = 7;
	int64_t i = 7;

	assert_int_equal(server_wire_u64("18446744073709551615", &u), 0);
	assert_true(u == UINT64_MAX);
	assert_int_equal(server_wire_u64("18446744073709551616", &u), CE_FORMAT);
	assert_int_equal(server_wire_u64("", &u), CE_FORMAT);
	assert_int_equal(server_wire_u64("-1", &u), CE_FORMAT);
	assert_int_equal(server_wire_u64(" 1", &u), CE_FORMAT);
	assert_int_equal(server_wire_u64("0x1", &u), CE_FORMAT);
	assert_int_equal(server_wire_i64("-9223372036854775807", &i), 0);
	assert_true(i == -INT64_MAX);
	assert_int_equal(server_wire_i64("9223372036854775808", &i), CE_FORMAT);
	assert_int_equal(server_wire_i64("--1", &i), CE_FORMAT);
	assert_int_equal(server_wire_i64("-", &i), CE_FORMAT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_range_is_cut_to_the_content),
		cmocka_unit_test(a_range_outside_the_content_is_unsatisfiable),
		cmocka_unit_test(what_is_not_one_byte_range_is_ignored),
		cmocka_unit_test(if_range_needs_the_strong_tag),
		cmocka_unit_test(conditions_have_their_precedence),
		cmocka_unit_test(dates_go_both_ways),
		cmocka_unit_test(the_obsolete_dates_are_read),
		cmocka_unit_test(other_dates_are_no_dates),
		cmocka_unit_test(ids_are_of_their_alphabet),
		cmocka_unit_test(percent_decoding_is_strict_and_bounded),
		cmocka_unit_test(tag_lists_are_taken_whole_or_not),
		cmocka_unit_test(numbers_are_decimal_and_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
