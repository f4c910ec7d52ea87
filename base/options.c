#include "base/options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/options_priv.h"

#define HELP_COLUMN 28

/* One run over argv. Options and positionals are gathered apart and put together at the end. */
struct parse {
	const struct option_def *defs;
	char *into;
	int argc, next;
	char **argv;
	char **options, **positionals;
	int n_options, n_positionals;
	char **error;
};

static int fail(struct parse *p, const char *fmt, ...) PRINTF_LIKE(2, 3);

static int fail(struct parse *p, const char *fmt, ...)
{
	va_list args;
	int r;

	va_start(args, fmt);
	r = bytes_vprint(p->error, fmt, args);
	va_end(args);
	return r ? r : CE_USAGE;
}

static const struct option_def *find_long(
	const struct option_def *defs, const char *name, size_t len)
{
	for (; defs->name; defs++)
		if (strlen(defs->name) == len && !memcmp(defs->name, name, len))
			return defs;
	return NULL;
}

static const struct option_def *find_short(const struct option_def *defs, char name)
{
	for (; defs->name; defs++)
		if (defs->short_name == name)
			return defs;
	return NULL;
}

static int read_number(const struct option_def *def, const char *text, uint64_t *out)
{
	if (def->type == OPTION_BYTES)
		return options_parse_bytes(text, out);
	if (def->type == OPTION_DURATION)
		return options_parse_duration_ms(text, out);
	return options_value_u64(text, out);
}

static int number_error(struct parse *p, const struct option_def *def, const char *text)
{
	static const char *const expected[OPTION_TYPE_END] = {
		[OPTION_U64] = "a whole number",
		[OPTION_BYTES] =
			"a size: a number, then K, M, G or T (powers of 1024), or KB, MB or GB",
		[OPTION_DURATION] = "a time: a number, then ms, s, m, h or d (seconds without)",
	};

	return fail(p, "--%s takes %s, not '%.64s'", def->name, expected[def->type], text);
}

static int store_number(struct parse *p, const struct option_def *def, const char *text)
{
	const char *unit = def->type == OPTION_BYTES      ? " bytes"
			   : def->type == OPTION_DURATION ? " ms"
							  : "";
	uint64_t value;

	if (read_number(def, text, &value))
		return number_error(p, def, text);
	if (value < def->min)
		return fail(p, "--%s must be at least %" PRIu64 "%s", def->name, def->min, unit);
	if (def->max && value > def->max)
		return fail(p, "--%s must be at most %" PRIu64 "%s", def->name, def->max, unit);
	memcpy(p->into + def->offset, &value, sizeof(value));
	return 0;
}

static int store_value(struct parse *p, const struct option_def *def, const char *text)
{
	if (def->type != OPTION_STRING)
		return store_number(p, def, text);
	memcpy(p->into + def->offset, &text, sizeof(text));
	return 0;
}

static void store_flag(struct parse *p, const struct option_def *def)
{
	*(bool *)(p->into + def->offset) = true;
}

/* The value of `def`: the rest of its word, or the next word of argv. */
static int take_value(struct parse *p, const struct option_def *def, const char *attached)
{
	if (!attached) {
		if (p->next == p->argc)
			return fail(p, "--%s needs a value: --%s %s", def->name, def->name,
				def->arg ? def->arg : "VALUE");
		attached = p->argv[p->next];
		p->options[p->n_options++] = p->argv[p->next++];
	}
	return store_value(p, def, attached);
}

static int parse_long(struct parse *p, const char *word)
{
	const char *equals = strchr(word, '=');
	size_t len = equals ? (size_t)(equals - word) : strlen(word);
	const struct option_def *def = find_long(p->defs, word, len);

	if (!def)
		return fail(
			p, "there is no option --%.*s; see --help", (int)MIN_OF(len, 64u), word);
	if (def->type != OPTION_FLAG)
		return take_value(p, def, equals ? equals + 1 : NULL);
	if (equals)
		return fail(p, "--%s takes no value", def->name);
	store_flag(p, def);
	return 0;
}

static int parse_short(struct parse *p, const char *word)
{
	for (; *word; word++) {
		const struct option_def *def = find_short(p->defs, *word);

		if (!def && *word > ' ' && *word < 0x7f)
			return fail(p, "there is no option -%c; see --help", *word);
		if (!def)
			return fail(p, "there is no such short option; see --help");
		if (def->type != OPTION_FLAG)
			return take_value(p, def, word[1] ? word + 1 : NULL);
		store_flag(p, def);
	}
	return 0;
}

static int parse_word(struct parse *p, char *word, bool *ended)
{
	if (*ended || word[0] != '-' || !word[1]) {
		p->positionals[p->n_positionals++] = word;
		return 0;
	}
	p->options[p->n_options++] = word;
	if (!strcmp(word, "--")) {
		*ended = true;
		return 0;
	}
	return word[1] == '-' ? parse_long(p, word + 2) : parse_short(p, word + 1);
}

static int parse_words(struct parse *p)
{
	bool ended = false;
	int r = 0;

	while (!r && p->next < p->argc) {
		char *word = p->argv[p->next++];

		r = parse_word(p, word, &ended);
	}
	return r;
}

int options_parse(
	const struct option_def *defs, void *into, int argc, char **argv, int *first, char **error)
{
	_cleanup_free_ char **words = calloc(2 * (size_t)MAX_OF(argc, 1), sizeof(*words));
	struct parse p = { .defs = defs, .into = into, .argc = argc, .argv = argv, .next = 1 };
	int r;

	if (!words)
		return -ENOMEM;
	p.options = words;
	p.positionals = words + MAX_OF(argc, 1);
	p.error = error;
	r = parse_words(&p);
	if (r)
		return r;
	for (int i = 0; i < p.n_options; i++)
		argv[1 + i] = p.options[i];
	for (int i = 0; i < p.n_positionals; i++)
		argv[1 + p.n_options + i] = p.positionals[i];
	*first = MIN_OF(1 + p.n_options, argc);
	return 0;
}

void options_print_help(const struct option_def *defs, FILE *out)
{
	for (; defs->name; defs++) {
		int n = defs->short_name ? fprintf(out, "  -%c, ", defs->short_name)
					 : fprintf(out, "      ");

		n += fprintf(out, "--%s", defs->name);
		if (defs->type != OPTION_FLAG)
			n += fprintf(out, " %s", defs->arg ? defs->arg : "VALUE");
		if (n >= HELP_COLUMN - 1) {
			fputc('\n', out);
			n = 0;
		}
		fprintf(out, "%*s%s\n", HELP_COLUMN - n, "", defs->help ? defs->help : "");
	}
}
