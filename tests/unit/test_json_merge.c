/* Goal: a merge is what both sides wanted, written as they wrote it, or it is refused. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/json_merge.h"
#include "tests/unit/unit.h"

static int merge(const char *base, const char *ours, const char *theirs, char **out)
{
	const struct json_text b = { base, strlen(base) }, o = { ours, strlen(ours) },
			       t = { theirs, strlen(theirs) };
	size_t len = 0;
	int r;

	*out = NULL;
	r = json_merge(&b, &o, &t, out, &len);
	if (!r)
		assert_int_equal(strlen(*out), len);
	else
		assert_null(*out);
	return r;
}

static void clean(const char *base, const char *ours, const char *theirs, const char *want)
{
	_cleanup_free_ char *out = NULL;

	assert_int_equal(merge(base, ours, theirs, &out), 0);
	assert_string_equal(out, want);
}

static void refused(int code, const char *base, const char *ours, const char *theirs)
{
	_cleanup_free_ char *out = NULL;

	assert_int_equal(merge(base, ours, theirs, &out), code);
}

static void fields_changed_on_different_sides_are_both_taken(void **state)
{
	clean("{\"a\":1,\"b\":2}", "{\"a\":3,\"b\":2}", "{\"a\":1,\"b\":4}", "{\"a\":3,\"b\":4}");
	clean("{\"a\":{\"x\":1,\"y\":2},\"b\":0}", "{\"a\":{\"x\":9,\"y\":2},\"b\":0}",
		"{\"a\":{\"x\":1,\"y\":8},\"b\":0}", "{\"a\":{\"x\":9,\"y\":8},\"b\":0}");
	clean("{\"a\":1,\"b\":2,\"c\":3}", "{\"b\":2,\"c\":3}", "{\"a\":1,\"b\":2,\"d\":4}",
		"{\"b\":2,\"d\":4}");
	clean("{}", "{\"a\":1}", "{\"b\":2}", "{\"a\":1,\"b\":2}");
	clean("{\"a\":1}", "{}", "{\"a\":1}", "{}");
}

static void one_field_changed_on_both_sides_is_a_conflict(void **state)
{
	refused(CE_CONFLICT, "{\"a\":1}", "{\"a\":2}", "{\"a\":3}");
	refused(CE_CONFLICT, "{\"a\":1}", "{\"a\":{}}", "{\"a\":[]}");
	refused(CE_CONFLICT, "{\"a\":{\"x\":1}}", "{\"a\":{\"x\":2}}", "{\"a\":5}");
	refused(CE_CONFLICT, "{}", "{\"a\":1}", "{\"a\":2}");
	refused(CE_CONFLICT, "{}", "{\"a\":{\"x\":1}}", "{\"a\":{\"y\":1}}");
	refused(CE_CONFLICT, "[1]", "[1,2]", "[1,3]");
	refused(CE_CONFLICT, "1", "2", "3");
}

static void the_same_change_on_both_sides_is_taken(void **state)
{
	clean("{\"a\":1}", "{\"a\":2}", "{ \"a\": 2 }", "{ \"a\": 2 }");
	clean("{\"a\":1,\"b\":1}", "{\"b\":1}", "{\"b\":1}", "{\"b\":1}");
	clean("{}", "{\"n\":[1, 2],\"o\":1}", "{\"n\":[1,2]}", "{\"n\":[1,2],\"o\":1}");
}

static void removed_here_and_changed_there_is_a_conflict(void **state)
{
	refused(CE_CONFLICT, "{\"a\":1}", "{}", "{\"a\":2}");
	refused(CE_CONFLICT, "{\"a\":1}", "{\"a\":2}", "{}");
	refused(CE_CONFLICT, "{\"a\":{\"x\":1}}", "{}", "{\"a\":{\"x\":1,\"y\":2}}");
}

static void an_array_is_one_value(void **state)
{
	clean("{\"a\":[1],\"b\":0}", "{\"a\":[1,2],\"b\":0}", "{\"a\":[ 1 ],\"b\":1}",
		"{\"a\":[1,2],\"b\":1}");
	refused(CE_CONFLICT, "{\"a\":[1,2]}", "{\"a\":[0,2]}", "{\"a\":[1,3]}");
	refused(CE_CONFLICT, "{\"a\":[{\"x\":1,\"y\":1}]}", "{\"a\":[{\"x\":2,\"y\":1}]}",
		"{\"a\":[{\"x\":1,\"y\":2}]}");
}

static void numbers_and_strings_keep_their_text(void **state)
{
	clean("{\"n\":1.10,\"m\":12345678901234567890,\"s\":\"\\u0041\",\"c\":0}",
		"{\"n\":1.10,\"m\":12345678901234567890,\"s\":\"\\u0041\",\"c\":1e400}",
		"{\"n\":1.10,\"m\":12345678901234567891,\"s\":\"\\u0041\",\"c\":0}",
		"{\"n\":1.10,\"m\":12345678901234567891,\"s\":\"\\u0041\",\"c\":1e400}");
	/* What is not known to be the same was changed. */
	refused(CE_CONFLICT, "{\"n\":1}", "{\"n\":1.0}", "{\"n\":2}");
	refused(CE_CONFLICT, "{\"s\":\"A\"}", "{\"s\":\"\\u0041\"}", "{\"s\":\"B\"}");
	/* White space inside a string counts. */
	refused(CE_CONFLICT, "{\"s\":\"a b\"}", "{\"s\":\"ab\"}", "{\"s\":\"a  b\"}");
}

static void order_and_white_space_are_kept(void **state)
{
	clean("{\n  \"z\": 1,\n  \"a\": 2\n}\n", "{\n  \"z\": 1,\n  \"new\": 7,\n  \"a\": 2\n}\n",
		"{\n  \"z\": 5,\n  \"a\": 2\n}\n",
		"{\n  \"z\": 5,\n  \"new\": 7,\n  \"a\": 2\n}\n");
	/* Only we sorted them. */
	clean("{\"z\":1,\"a\":2,\"k\":1}", "{\"a\":2,\"k\":9,\"z\":1}", "{\"z\":4,\"a\":2,\"k\":1}",
		"{\"a\":2,\"k\":9,\"z\":4}");
	clean("{\"z\":1,\"a\":2}", "{\"z\":5,\"a\":2}", "{\"a\":3,\"z\":1}", "{\"a\":3,\"z\":5}");
	clean("{\"a\":1,\"b\":2}", "{\"a\":1,\"b\":2,\"y\":1}", "{\"x\":0,\"a\":1,\"b\":2}",
		"{\"x\":0,\"a\":1,\"b\":2,\"y\":1}");
}

static void names_are_compared_as_characters(void **state)
{
	clean("{\"\\u0061\":1,\"b\":1}", "{\"a\":2,\"b\":1}", "{\"\\u0061\":1,\"b\":3}",
		"{\"\\u0061\":2,\"b\":3}");
	clean("{\"a\\\"}\":1,\"b\":1}", "{\"a\\\"}\":2,\"b\":1}", "{\"a\\\"}\":1,\"b\":{\"]\":1}}",
		"{\"a\\\"}\":2,\"b\":{\"]\":1}}");
}

static void what_is_not_json_is_not_merged(void **state)
{
	static const char *const bad[] = { "", " ", "{", "{\"a\":1}x", "{\"a\":1,\"a\":2}",
		"{\"a\":1,\"\\u0061\":2}", "\xef\xbb\xbf{}", "{\"a\":\"\xff\"}",
		"{\"a\":\"\\ud800\"}", "{'a':1}", "{\"a\":01}", "{\"a\":1,}",
		"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "<<<<<<< ours\n{}\n" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		refused(CE_FORMAT, bad[i], "{}", "{}");
		refused(CE_FORMAT, "{}", bad[i], "{}");
		refused(CE_FORMAT, "{}", "{}", bad[i]);
	}
}

static void a_huge_text_is_not_merged(void **state)
{
	_cleanup_free_ char *big = malloc(JSON_MERGE_MAX_BYTES + 2);

	memset(big, ' ', JSON_MERGE_MAX_BYTES + 1);
	big[0] = '1';
	big[JSON_MERGE_MAX_BYTES + 1] = 0;
	refused(CE_TOO_LARGE, "1", big, "1");
}

#define FIELDS 12

/* Field i of a record: -1 = it is not there. */
static void print(char *out, size_t size, const int *fields, const int *order)
{
	size_t n = 0;

	n += (size_t)snprintf(out + n, size - n, "{");
	for (int i = 0; i < FIELDS; i++)
		if (fields[order[i]] >= 0)
			n += (size_t)snprintf(out + n, size - n, "%s\"f%d\":{\"v\":%d}",
				n > 1 ? "," : "", order[i], fields[order[i]]);
	snprintf(out + n, size - n, "}");
}

static void shuffle(int *order)
{
	for (int i = 0; i < FIELDS; i++)
		order[i] = i;
	for (int i = FIELDS - 1; rand() % 2 && i > 0; i--) {
		int k = rand() % (i + 1), was = order[i];

		order[i] = order[k];
		order[k] = was;
	}
}

static void check_fields(const char *text, const int *want)
{
	_cleanup_json_ struct json *tree = NULL;

	assert_int_equal(json_parse(text, strlen(text), &tree), 0);
	for (int i = 0; i < FIELDS; i++) {
		const struct json *field;
		uint64_t v = 0;
		char key[8];

		snprintf(key, sizeof(key), "f%d", i);
		assert_int_equal(json_has(tree, key), want[i] >= 0);
		if (want[i] < 0)
			continue;
		assert_int_equal(json_get(tree, key, &field), 0);
		assert_int_equal(json_get_u64(field, "v", &v), 0);
		assert_int_equal(v, want[i]);
	}
}

/* Any order, any fields: each is what the rules say, or the whole is refused. */
static void random_records_merge_by_the_rules(void **state)
{
	srand(20);
	for (int round = 0; round < 20000; round++) {
		int f[3][FIELDS], want[FIELDS], order[FIELDS];
		char text[3][512];
		_cleanup_free_ char *out = NULL;
		bool conflict = false;
		int r;

		for (int i = 0; i < FIELDS; i++) {
			f[0][i] = rand() % 4 - 1;
			f[1][i] = rand() % 12 ? f[0][i] : rand() % 4 - 1;
			f[2][i] = rand() % 12 ? f[0][i] : rand() % 4 - 1;
			want[i] = f[1][i] == f[0][i] ? f[2][i] : f[1][i];
			conflict |= f[1][i] != f[0][i] && f[2][i] != f[0][i] && f[1][i] != f[2][i];
		}
		for (int s = 0; s < 3; s++) {
			shuffle(order);
			print(text[s], sizeof(text[s]), f[s], order);
		}
		r = merge(text[0], text[1], text[2], &out);
		assert_int_equal(r, conflict ? CE_CONFLICT : 0);
		if (!conflict)
			check_fields(out, want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields_changed_on_different_sides_are_both_taken),
		cmocka_unit_test(one_field_changed_on_both_sides_is_a_conflict),
		cmocka_unit_test(the_same_change_on_both_sides_is_taken),
		cmocka_unit_test(removed_here_and_changed_there_is_a_conflict),
		cmocka_unit_test(an_array_is_one_value),
		cmocka_unit_test(numbers_and_strings_keep_their_text),
		cmocka_unit_test(order_and_white_space_are_kept),
		cmocka_unit_test(names_are_compared_as_characters),
		cmocka_unit_test(what_is_not_json_is_not_merged),
		cmocka_unit_test(a_huge_text_is_not_merged),
		cmocka_unit_test(random_records_merge_by_the_rules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
