#include "base/json.h"

#include <errno.h>

#include "base/bytes.h"
#include "base/error.h"
#include "unit.h"

static int parse(const char *text)
{
	_cleanup_json_ struct json *root = NULL;

	return json_parse(text, strlen(text), &root);
}

static void values_of_every_type_are_read(void **state)
{
	static const char text[] = " {\"s\":\"a\\u00e9\\n\",\"n\":-12,\"b\":true,\"z\":null,"
				   "\"l\":[\"x\",\"y\",{}],\"d\":\"AAEC\"}\r\n";
	_cleanup_json_ struct json *root = NULL;
	const struct json *list, *v;
	const char *s;
	uint8_t bytes[3];
	int64_t n;
	bool b;

	assert_int_equal(json_parse(text, strlen(text), &root), 0);
	assert_int_equal(json_get_string(root, "s", &s), 0);
	assert_string_equal(s, "a\xc3\xa9\n");
	assert_int_equal(json_get_i64(root, "n", &n), 0);
	assert_true(n == -12);
	assert_int_equal(json_get_bool(root, "b", &b), 0);
	assert_true(b);
	assert_true(json_has(root, "z"));
	assert_int_equal(json_get_bytes(root, "d", bytes, 3), 0);
	assert_memory_equal(bytes, "\0\1\2", 3);
	assert_int_equal(json_get_array(root, "l", &list), 0);
	assert_int_equal(json_count(list), 3);
	v = json_first(list);
	assert_string_equal(json_string(v), "x");
	v = json_next(json_next(v));
	assert_true(json_is_object(v));
	assert_null(json_next(v));
	assert_null(json_string(v));
	assert_string_equal(json_key(json_first(root)), "s");
}

static void missing_or_of_another_type_is_a_format_error(void **state)
{
	static const char text[] =
		"{\"s\":\"x\",\"n\":1.5,\"neg\":-1,\"l\":[],\"S\":1,\"d\":\"AAE=\"}";
	_cleanup_json_ struct json *root = NULL;
	const struct json *v;
	const char *s = "kept";
	uint8_t bytes[3];
	uint64_t u = 42;
	int64_t i;
	bool b;

	assert_int_equal(json_parse(text, strlen(text), &root), 0);
	assert_int_equal(json_get(root, "none", &v), CE_FORMAT);
	assert_int_equal(json_get_string(root, "n", &s), CE_FORMAT);
	assert_string_equal(s, "kept");
	assert_int_equal(json_get_u64(root, "n", &u), CE_FORMAT);
	assert_int_equal(json_get_u64(root, "neg", &u), CE_FORMAT);
	assert_int_equal(json_get_u64(root, "s", &u), CE_FORMAT);
	assert_true(u == 42);
	assert_int_equal(json_get_i64(root, "l", &i), CE_FORMAT);
	assert_int_equal(json_get_bool(root, "S", &b), CE_FORMAT);
	assert_int_equal(json_get_array(root, "s", &v), CE_FORMAT);
	assert_int_equal(json_get_bytes(root, "d", bytes, 3), CE_FORMAT);
	assert_int_equal(json_get_bytes(root, "d", bytes, 1), CE_FORMAT);
	assert_int_equal(json_get_string(json_first(root), "s", &s), CE_FORMAT);
	assert_int_equal(json_get_string(NULL, "s", &s), CE_FORMAT);
}

static void what_is_not_strict_json_is_refused(void **state)
{
	static const char *const bad[] = { "", " ", "{", "}", "[1,]", "[,1]", "{\"a\":1,}", "{a:1}",
		"{'a':1}", "[1 2]", "[01]", "[-]", "[1.]", "[.5]", "[1e]", "[+1]", "[0x1]", "[NaN]",
		"[Infinity]", "[tru]", "[True]", "[nul]", "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"",
		"\"a", "\"a\nb\"", "\"\tb\"", "// c\n1", "[1]/**/", "\v1", "\xef\xbb\xbf[1]",
		"\"\\ud800\"", "\"\\udc00\\ud800\"", "\"\\ud800x\"", "[1}", "{\"a\" 1}", "{\"a\":}",
		"{\"a\"}", "[\"a\\\"]" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (parse(bad[i]) != CE_FORMAT)
			fail_msg("accepted: %s", bad[i]);
}

static void strict_json_of_every_form_is_taken(void **state)
{
	static const char *const good[] = { "0", "-0", "1e9", "1E+2", "-1.5e-3", "\"\"", "[]", "{}",
		"[[],{}]", "{\"\":0}", " [ 1 , 2 ] ", "{ \"a\" : [ ] , \"b\":null }", "true",
		"null", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\"", "\"\\ud83d\\ude00\"",
		"\"\xf0\x9f\x98\x80\"" };

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		if (parse(good[i]) != 0)
			fail_msg("refused: %s", good[i]);
}

static void bytes_behind_the_value_are_refused(void **state)
{
	assert_int_equal(parse("{} x"), CE_FORMAT);
	assert_int_equal(parse("{}{}"), CE_FORMAT);
	assert_int_equal(parse("1 1"), CE_FORMAT);
	assert_int_equal(parse("{}]"), CE_FORMAT);
	assert_int_equal(parse("{}\n \t"), 0);
}

static void a_text_cut_anywhere_is_refused(void **state)
{
	static const char text[] = "{\"a\":[1,\"b\\u0041\",{\"c\":null}],\"d\":true}";

	for (size_t len = 0; len < strlen(text); len++) {
		char *cut =
			strndup(text, len); /* exact size: the sanitizer sees a read behind it */

		assert_int_equal(parse(cut), CE_FORMAT);
		free(cut);
	}
	assert_int_equal(parse(text), 0);
}

static void duplicate_keys_are_refused_at_every_level(void **state)
{
	assert_int_equal(parse("{\"a\":1,\"b\":2,\"a\":3}"), CE_FORMAT);
	assert_int_equal(parse("[{\"x\":{\"a\":1,\"a\":1}}]"), CE_FORMAT);
	assert_int_equal(parse("{\"a\":1,\"\\u0061\":1}"), CE_FORMAT);
	assert_int_equal(parse("{\"a\":{\"a\":1},\"A\":1}"), 0);
}

static void an_object_of_many_keys_is_checked_without_quadratic_cost(void **state)
{
	_cleanup_json_ struct json *root = NULL;
	struct buffer b = { 0 };

	assert_int_equal(buffer_append(&b, "{", 1), 0);
	for (int i = 0; i < 200000; i++)
		assert_int_equal(buffer_printf(&b, "\"%d\":0,", i), 0);
	assert_int_equal(buffer_printf(&b, "\"199999\":0}"), 0);
	assert_int_equal(json_parse(b.data, b.len, &root), CE_FORMAT);
	buffer_done(&b);
}

static int parse_nested(char open, char close, int depth)
{
	char text[4 * JSON_DEPTH_MAX + 1] = "";
	size_t n = 0;

	for (int i = 0; i < depth; i++)
		text[n++] = open;
	for (int i = 0; i < depth; i++)
		text[n++] = close;
	return parse(text);
}

static void nesting_stops_at_the_limit(void **state)
{
	_cleanup_free_ char *deep = malloc(1000000);

	assert_int_equal(parse_nested('[', ']', JSON_DEPTH_MAX), 0);
	assert_int_equal(parse_nested('[', ']', JSON_DEPTH_MAX + 1), CE_FORMAT);
	memset(deep, '[', 999999);
	deep[999999] = '\0';
	assert_int_equal(parse(deep), CE_FORMAT);
}

static void a_nul_in_any_form_is_refused(void **state)
{
	_cleanup_json_ struct json *root = NULL;

	assert_int_equal(parse("\"a\\u0000b\""), CE_FORMAT);
	assert_int_equal(parse("{\"\\u0000\":1}"), CE_FORMAT);
	assert_int_equal(json_parse("\"a\0b\"", 5, &root), CE_FORMAT);
	assert_int_equal(json_parse("1\0", 2, &root), CE_FORMAT);
	assert_null(root);
}

static void invalid_utf8_is_refused(void **state)
{
	assert_int_equal(parse("\"\xff\""), CE_FORMAT);
	assert_int_equal(parse("\"\xc0\x80\""), CE_FORMAT);
	assert_int_equal(parse("\"\xed\xa0\x80\""), CE_FORMAT);
	assert_int_equal(parse("\"\xe2\x82\""), CE_FORMAT);
}

static uint64_t u64_of(const char *value)
{
	_cleanup_json_ struct json *root = NULL;
	char text[100];
	uint64_t u;

	snprintf(text, sizeof(text), "{\"n\":%s}", value);
	assert_int_equal(json_parse(text, strlen(text), &root), 0);
	return json_get_u64(root, "n", &u) ? UINT64_MAX - 1 : u;
}

#define REFUSED (UINT64_MAX - 1)

static void integers_are_exact_or_refused(void **state)
{
	assert_true(u64_of("9007199254740991") == (UINT64_C(1) << 53) - 1);
	assert_true(u64_of("9007199254740992") == REFUSED);
	assert_true(u64_of("9007199254740993") == REFUSED);
	assert_true(u64_of("18446744073709551615") == REFUSED);
	assert_true(u64_of("1e400") == REFUSED);
	assert_true(u64_of("1e3") == 1000);
	assert_true(u64_of("0.5") == REFUSED);
	assert_true(u64_of("\"18446744073709551615\"") == UINT64_MAX);
	assert_true(u64_of("\"18446744073709551616\"") == REFUSED);
	assert_true(u64_of("\"99999999999999999999999\"") == REFUSED);
	assert_true(u64_of("\"9007199254740993\"") == 9007199254740993);
}

static void decimal_strings_have_one_form(void **state)
{
	static const char *const bad[] = { "\"\"", "\"01\"", "\"+1\"", "\" 1\"", "\"1 \"",
		"\"1e3\"", "\"0x1\"", "\"-0\"", "\"-1\"", "\"-\"", "\"--1\"" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_true(u64_of(bad[i]) == REFUSED);
	assert_true(u64_of("\"0\"") == 0);
}

static void integers_survive_writing_and_reading(void **state)
{
	static const uint64_t values[] = { 0, 1, 2147483648, 999999999999999, 1000000000000000,
		1234567890123450, (UINT64_C(1) << 53) - 1, UINT64_C(1) << 53,
		(UINT64_C(1) << 53) + 1, UINT64_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		_cleanup_json_ struct json *root = json_new_object(), *back = NULL;
		_cleanup_free_ char *text = NULL;
		uint64_t built, read;

		json_set_u64(root, "n", values[i]);
		assert_int_equal(json_get_u64(root, "n", &built), 0);
		assert_int_equal(json_print(root, false, &text), 0);
		assert_null(strchr(text, 'e')); /* no exponent: other parsers would read a float */
		assert_int_equal(json_parse(text, strlen(text), &back), 0);
		assert_int_equal(json_get_u64(back, "n", &read), 0);
		assert_true(built == values[i] && read == values[i]);
	}
}

static void signed_integers_survive_at_both_ends(void **state)
{
	static const int64_t values[] = { INT64_MIN, INT64_MIN + 1, -(INT64_C(1) << 53),
		-(INT64_C(1) << 53) + 1, -1, 0, INT64_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		_cleanup_json_ struct json *root = json_new_object(), *back = NULL;
		_cleanup_free_ char *text = NULL;
		int64_t read;

		json_set_i64(root, "n", values[i]);
		assert_int_equal(json_print(root, false, &text), 0);
		assert_int_equal(json_parse(text, strlen(text), &back), 0);
		assert_int_equal(json_get_i64(back, "n", &read), 0);
		assert_true(read == values[i]);
	}
}

static void a_signed_integer_beyond_64_bits_is_refused(void **state)
{
	static const char text[] = "{\"a\":\"9223372036854775808\",\"b\":\"-9223372036854775809\"}";
	_cleanup_json_ struct json *root = NULL;
	int64_t n;

	assert_int_equal(json_parse(text, strlen(text), &root), 0);
	assert_int_equal(json_get_i64(root, "a", &n), CE_FORMAT);
	assert_int_equal(json_get_i64(root, "b", &n), CE_FORMAT);
}

static void a_built_tree_prints_as_expected(void **state)
{
	_cleanup_json_ struct json *root = json_new_object(), *copy = NULL;
	_cleanup_free_ char *text = NULL, *again = NULL;
	struct json *list = json_set_array(root, "l");

	json_append_string(list, "x\"\n");
	json_set_bool(json_append_object(list), "b", false);
	json_set_null(root, "z");
	json_set_string(root, "absent", NULL);
	json_set_bytes(json_set_object(root, "o"), "d", (const uint8_t *)"foo", 3);
	assert_int_equal(json_print(root, false, &text), 0);
	assert_string_equal(text, "{\"l\":[\"x\\\"\\n\",{\"b\":false}],\"z\":null,\"absent\":null,"
				  "\"o\":{\"d\":\"Zm9v\"}}");
	assert_int_equal(json_copy(root, &copy), 0);
	assert_int_equal(json_print(copy, false, &again), 0);
	assert_string_equal(text, again);
}

static void a_setter_that_failed_makes_printing_fail(void **state)
{
	_cleanup_json_ struct json *root = json_new_object();
	_cleanup_free_ char *text = NULL;

	json_set_string(json_append_object(json_set_array(root, "l")), "name", "bad \xff name");
	assert_int_equal(json_print(root, false, &text), CE_FORMAT);
	assert_null(text);
	json_set_string(NULL, "x", "y");
	assert_null(json_set_object(NULL, "x"));
	assert_int_equal(json_print(NULL, false, &text), -ENOMEM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_of_every_type_are_read),
		cmocka_unit_test(missing_or_of_another_type_is_a_format_error),
		cmocka_unit_test(what_is_not_strict_json_is_refused),
		cmocka_unit_test(strict_json_of_every_form_is_taken),
		cmocka_unit_test(bytes_behind_the_value_are_refused),
		cmocka_unit_test(a_text_cut_anywhere_is_refused),
		cmocka_unit_test(duplicate_keys_are_refused_at_every_level),
		cmocka_unit_test(an_object_of_many_keys_is_checked_without_quadratic_cost),
		cmocka_unit_test(nesting_stops_at_the_limit),
		cmocka_unit_test(a_nul_in_any_form_is_refused),
		cmocka_unit_test(invalid_utf8_is_refused),
		cmocka_unit_test(integers_are_exact_or_refused),
		cmocka_unit_test(decimal_strings_have_one_form),
		cmocka_unit_test(integers_survive_writing_and_reading),
		cmocka_unit_test(signed_integers_survive_at_both_ends),
		cmocka_unit_test(a_signed_integer_beyond_64_bits_is_refused),
		cmocka_unit_test(a_built_tree_prints_as_expected),
		cmocka_unit_test(a_setter_that_failed_makes_printing_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
