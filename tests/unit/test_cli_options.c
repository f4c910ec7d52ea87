/* The command table, and what is said about it elsewhere: manual pages and completions. */
#include <ctype.h>

#include "base/error.h"
#include "cli/command.h"
#include "cli/completion.h"
#include "tests/unit/unit.h"

#define PAGE_MAX (1 << 20)

static const char *root(void)
{
	const char *path = getenv("CACHET_SOURCE_ROOT");

	return path ? path : ".";
}

static void names_are_unique_and_neighbours_are_together(void **state)
{
	for (size_t i = 0; command_table[i]; i++)
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(command_table[i]->name, command_table[j]->name);
	/* "journal", "journal ls", ...: nothing of another first word in between (completion leans
	 * on it). */
	for (size_t i = 1; command_table[i]; i++) {
		size_t len = strcspn(command_table[i]->name, " ");

		for (size_t j = 0; j + 1 < i; j++)
			if (!strncmp(command_table[j]->name, command_table[i]->name, len) &&
				strcspn(command_table[j]->name, " ") == len)
				assert_int_equal(strncmp(command_table[i - 1]->name,
							 command_table[i]->name, len),
					0);
	}
}

static void every_verb_explains_itself(void **state)
{
	for (size_t i = 0; command_table[i]; i++) {
		const struct command *c = command_table[i];

		assert_non_null(c->run);
		assert_true(strlen(c->usage) > 0);
		assert_true(strlen(c->summary) > 10 && strlen(c->summary) < 78);
		assert_true(isupper((unsigned char)c->summary[0]));
		assert_true(c->summary[strlen(c->summary) - 1] != '.');
	}
}

static bool has_option(const struct command *c, const char *name)
{
	for (const struct option_def *o = c->options; o->name; o++)
		if (!strcmp(o->name, name))
			return true;
	return false;
}

static void every_verb_has_help_and_json(void **state)
{
	for (size_t i = 0; command_table[i]; i++) {
		assert_true(has_option(command_table[i], "help"));
		assert_true(has_option(command_table[i], "json"));
	}
}

static void options_of_a_verb_are_unique_and_explained(void **state)
{
	for (size_t i = 0; command_table[i]; i++)
		for (const struct option_def *o = command_table[i]->options; o->name; o++) {
			assert_true(o->help && strlen(o->help) > 5);
			assert_true(o->type == OPTION_FLAG || o->arg);
			for (const struct option_def *p = command_table[i]->options; p != o; p++) {
				assert_string_not_equal(o->name, p->name);
				assert_false(o->short_name && o->short_name == p->short_name);
			}
		}
}

static const struct command *find(const char *const *words, int n, int *used)
{
	char *argv[8];

	for (int i = 0; i < n; i++)
		argv[i] = (char *)words[i];
	return command_find(n, argv, used);
}

static void the_longest_name_is_meant(void **state)
{
	const char *serve_dir[] = {"serve", "dir"}, *token[] = {"serve", "token", "add", "x"},
		   *half[] = {"serve", "token"}, *journal[] = {"journal", "show", "7"},
		   *none[] = {"frob"};
	int used;

	assert_string_equal(find(serve_dir, 2, &used)->name, "serve");
	assert_int_equal(used, 1);
	assert_string_equal(find(token, 4, &used)->name, "serve token add");
	assert_int_equal(used, 3);
	assert_string_equal(find(half, 2, &used)->name, "serve");
	assert_string_equal(find(journal, 3, &used)->name, "journal show");
	assert_int_equal(used, 2);
	assert_null(find(none, 1, &used));
}

static void wrong_usage_is_exit_code_2(void **state)
{
	for (size_t i = 0; command_table[i]; i++) {
		char *argv[] = {"verb", "--no-such-option", NULL};

		assert_int_equal(command_table[i]->run(2, argv), EXIT_CODE_USAGE);
	}
}

static void help_is_printed_whatever_else_is_missing(void **state)
{
	FILE *quiet = freopen("/dev/null", "w", stdout);

	assert_non_null(quiet);
	for (size_t i = 0; command_table[i]; i++) {
		char *argv[] = {"verb", "--help", NULL};

		assert_int_equal(command_table[i]->run(2, argv), EXIT_CODE_OK);
	}
}

/* The text of docs/man/FILE; the caller frees. */
static char *read_page(const char *file)
{
	char path[1024], *text = malloc(PAGE_MAX);
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "%s/docs/man/%s", root(), file);
	f = fopen(path, "r");
	if (!f)
		fail_msg("there is no manual page %s", file);
	n = fread(text, 1, PAGE_MAX - 1, f);
	text[n] = '\0';
	fclose(f);
	return text;
}

/* The page of a verb: cachet-FIRST.1; help and version stand in cachet.1. */
static char *page_of(const struct command *c)
{
	char file[128];

	if (!strcmp(c->name, "help") || !strcmp(c->name, "version"))
		return read_page("cachet.1");
	snprintf(file, sizeof(file), "cachet-%.*s.1", (int)strcspn(c->name, " "), c->name);
	return read_page(file);
}

/* From ".Ss cachet NAME" to the next section. */
static char *section_of(const struct command *c, char *page)
{
	char title[160], *begin, *end;

	snprintf(title, sizeof(title), ".Ss cachet %s\n", c->name);
	begin = strstr(page, title);
	if (!begin)
		fail_msg("the manual has no section '%s'", c->name);
	begin += strlen(title);
	end = strstr(begin, "\n.S");
	if (end)
		*end = '\0';
	return begin;
}

/* The long options that have an item in `section`: each must be of the table, and how many there
 * are. */
static size_t count_documented(const struct command *c, const char *section)
{
	size_t n = 0;

	for (const char *at = section; (at = strstr(at, "Fl -")); at++) {
		const char *line = at;
		char name[64];

		while (line > section && line[-1] != '\n')
			line--;
		if (strncmp(line, ".It ", 4) != 0)
			continue;
		assert_int_equal(sscanf(at, "Fl -%63[a-z-]", name), 1);
		if (!has_option(c, name))
			fail_msg("the manual of '%s' has --%s, the program has not", c->name, name);
		n++;
	}
	return n;
}

static void assert_documented(
	const struct command *c, const struct option_def *o, const char *section)
{
	char with_short[160], plain[160], arg[64] = "";

	if (o->type != OPTION_FLAG)
		snprintf(arg, sizeof(arg), " Ar %s", o->arg);
	snprintf(with_short, sizeof(with_short), ".It Fl %c , Fl -%s%s\n", o->short_name, o->name,
		arg);
	snprintf(plain, sizeof(plain), ".It Fl -%s%s\n", o->name, arg);
	if (!strstr(section, o->short_name ? with_short : plain))
		fail_msg("the manual of '%s' lacks: %s", c->name,
			o->short_name ? with_short : plain);
}

static void manual_pages_have_exactly_the_options_of_the_table(void **state)
{
	for (size_t i = 0; command_table[i]; i++) {
		const struct command *c = command_table[i];
		char *page = page_of(c), *section = section_of(c, page);
		size_t n = 0;

		for (const struct option_def *o = c->options; o->name; o++, n++)
			assert_documented(c, o, section);
		assert_int_equal(count_documented(c, section), n);
		free(page);
	}
}

static void the_overview_lists_every_verb(void **state)
{
	char *page = read_page("cachet.1"), item[160];

	for (size_t i = 0; command_table[i]; i++) {
		snprintf(item, sizeof(item), ".It Cm %s\n", command_table[i]->name);
		if (!strstr(page, item))
			fail_msg("cachet.1 does not list '%s'", command_table[i]->name);
	}
	free(page);
}

static void completions_have_every_option(void **state)
{
	static const char *const shells[] = {"bash", "zsh", "fish"};

	for (size_t s = 0; s < ARRAY_SIZE(shells); s++) {
		char *text = NULL;
		size_t len;
		FILE *f = open_memstream(&text, &len);

		assert_int_equal(completion_print(shells[s], f), 0);
		fclose(f);
		for (size_t i = 0; command_table[i]; i++)
			for (const struct option_def *o = command_table[i]->options; o->name; o++)
				assert_non_null(strstr(text, o->name));
		free(text);
	}
	assert_int_equal(completion_print("tcsh", stdout), CE_USAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_unique_and_neighbours_are_together),
		cmocka_unit_test(every_verb_explains_itself),
		cmocka_unit_test(every_verb_has_help_and_json),
		cmocka_unit_test(options_of_a_verb_are_unique_and_explained),
		cmocka_unit_test(the_longest_name_is_meant),
		cmocka_unit_test(wrong_usage_is_exit_code_2),
		cmocka_unit_test(manual_pages_have_exactly_the_options_of_the_table),
		cmocka_unit_test(the_overview_lists_every_verb),
		cmocka_unit_test(completions_have_every_option),
		cmocka_unit_test(help_is_printed_whatever_else_is_missing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
