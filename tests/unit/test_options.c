#include "base/options.h"

#include <ctype.h>

#include "base/error.h"
#include "unit.h"

struct args {
	bool json, verbose;
	const char *name;
	uint64_t size, wait_ms, count;
};

static const struct option_def defs[] = {
	{ "json", 'j', OPTION_FLAG, offsetof(struct args, json), .help = "print JSON" },
	{ "verbose", 'v', OPTION_FLAG, offsetof(struct args, verbose), .help = "say more" },
	{ "name", 'n', OPTION_STRING, offsetof(struct args, name), .arg = "NAME",
		.help = "a name" },
	{ "cache-size", 0, OPTION_BYTES, offsetof(struct args, size), .min = 16777216,
		.arg = "SIZE", .help = "bound of the volume on disk, default 500MB" },
	{ "wait", 'w', OPTION_DURATION, offsetof(struct args, wait_ms), .max = 60000 },
	{ "count", 'c', OPTION_U64, offsetof(struct args, count), .help = "how many" }, OPTION_END
};

/* Splits `line` at spaces into argv behind a command name. Strings live as long as the test. */
static int run(
	const char *line, struct args *a, char ***argv_out, int *argc, int *first, char **error)
{
	static char words[512];
	static char *argv[32];

	*a = (struct args){ 0 };
	snprintf(words, sizeof(words), "%s", line);
	*argc = 0;
	argv[(*argc)++] = (char *)"cmd";
	for (char *w = strtok(words, " "); w; w = strtok(NULL, " "))
		argv[(*argc)++] = w;
	argv[*argc] = NULL;
	*argv_out = argv;
	*error = NULL;
	return options_parse(defs, a, *argc, argv, first, error);
}

static void options_and_positionals_may_be_mixed(void **state)
{
	struct args a;
	char **argv, *error;
	int argc, first;

	assert_int_equal(
		run("one --json --name=x two -w 5 three", &a, &argv, &argc, &first, &error), 0);
	assert_true(a.json);
	assert_false(a.verbose);
	assert_string_equal(a.name, "x");
	assert_true(a.wait_ms == 5000);
	assert_int_equal(argc - first, 3);
	assert_string_equal(argv[0], "cmd");
	assert_string_equal(argv[first], "one");
	assert_string_equal(argv[first + 1], "two");
	assert_string_equal(argv[first + 2], "three");
}

static void two_dashes_end_the_options(void **state)
{
	struct args a;
	char **argv, *error;
	int argc, first;

	assert_int_equal(run("-j -- --name -v", &a, &argv, &argc, &first, &error), 0);
	assert_false(a.verbose);
	assert_int_equal(argc - first, 2);
	assert_string_equal(argv[first], "--name");
	assert_int_equal(run("-", &a, &argv, &argc, &first, &error), 0);
	assert_string_equal(argv[first], "-");
}

static void short_options_join_and_take_values(void **state)
{
	struct args a;
	char **argv, *error;
	int argc, first;

	assert_int_equal(run("-jvnfoo -c 7", &a, &argv, &argc, &first, &error), 0);
	assert_true(a.json && a.verbose);
	assert_string_equal(a.name, "foo");
	assert_true(a.count == 7);
	assert_int_equal(first, argc);
}

static void an_empty_command_line_is_fine(void **state)
{
	struct args a;
	char **argv, *error;
	int argc, first;

	assert_int_equal(run("", &a, &argv, &argc, &first, &error), 0);
	assert_int_equal(first, 1);
	assert_int_equal(argc, 1);
}

static void each_mistake_gives_one_sentence_that_names_the_option(void **state)
{
	static const struct {
		const char *line, *says;
	} bad[] = {
		{ "--nosuch", "--nosuch" },
		{ "--nosuch=secret-value", "--nosuch" },
		{ "-x", "-x" },
		{ "-jx", "-x" },
		{ "--json=1", "--json takes no value" },
		{ "--name", "--name needs a value: --name NAME" },
		{ "-n", "--name needs a value" },
		{ "--cache-size=12x", "'12x'" },
		{ "--cache-size=", "--cache-size takes a size" },
		{ "--cache-size=-1", "--cache-size" },
		{ "--cache-size=1M", "at least 16777216 bytes" },
		{ "--cache-size=99999999999999999999", "--cache-size" },
		{ "--cache-size=18446744073709551615T", "--cache-size" },
		{ "--wait=61s", "at most 60000 ms" },
		{ "--wait=1.5", "--wait takes a time" },
		{ "--count=1K", "--count takes a whole number" },
		{ "--count 0x10", "--count" },
		{ "--jso", "--jso" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct args a;
		char **argv, *error;
		int argc, first = -7;

		assert_int_equal(run(bad[i].line, &a, &argv, &argc, &first, &error), CE_USAGE);
		assert_non_null(error);
		if (!strstr(error, bad[i].says))
			fail_msg("'%s' gives: %s", bad[i].line, error);
		assert_null(strchr(error, '\n'));
		assert_null(strstr(error, "secret-value"));
		assert_int_equal(first, -7);
		free(error);
	}
}

static void sizes_have_both_kinds_of_units(void **state)
{
	uint64_t v = 9;

	assert_int_equal(options_parse_bytes("0", &v), 0);
	assert_true(v == 0);
	assert_int_equal(options_parse_bytes("3K", &v), 0);
	assert_true(v == 3072);
	assert_int_equal(options_parse_bytes("500MB", &v), 0);
	assert_true(v == 500000000);
	assert_int_equal(options_parse_bytes("2T", &v), 0);
	assert_true(v == UINT64_C(2) << 40);
	assert_int_equal(options_parse_bytes("", &v), CE_USAGE);
	assert_int_equal(options_parse_bytes("K", &v), CE_USAGE);
	assert_int_equal(options_parse_bytes("1 K", &v), CE_USAGE);
	assert_int_equal(options_parse_bytes("1k", &v), CE_USAGE);
	assert_int_equal(options_parse_bytes("16777216T", &v), CE_USAGE);
	assert_true(v == UINT64_C(2) << 40);
}

static void durations_are_seconds_without_a_unit(void **state)
{
	uint64_t v;

	assert_int_equal(options_parse_duration_ms("30", &v), 0);
	assert_true(v == 30000);
	assert_int_equal(options_parse_duration_ms("250ms", &v), 0);
	assert_true(v == 250);
	assert_int_equal(options_parse_duration_ms("2d", &v), 0);
	assert_true(v == 172800000);
	assert_int_equal(options_parse_duration_ms("2w", &v), CE_USAGE);
	assert_int_equal(options_parse_duration_ms("-2", &v), CE_USAGE);
}

static void help_shows_every_option_in_columns(void **state)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	options_print_help(defs, f);
	fclose(f);
	assert_non_null(strstr(text, "  -j, --json                print JSON\n"));
	assert_non_null(strstr(text, "      --cache-size SIZE     bound of the volume on disk"));
	assert_non_null(strstr(text, "  -w, --wait VALUE"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_and_positionals_may_be_mixed),
		cmocka_unit_test(two_dashes_end_the_options),
		cmocka_unit_test(short_options_join_and_take_values),
		cmocka_unit_test(an_empty_command_line_is_fine),
		cmocka_unit_test(each_mistake_gives_one_sentence_that_names_the_option),
		cmocka_unit_test(sizes_have_both_kinds_of_units),
		cmocka_unit_test(durations_are_seconds_without_a_unit),
		cmocka_unit_test(help_shows_every_option_in_columns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
