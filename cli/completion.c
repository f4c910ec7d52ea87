#include "cli/completion.h"

#include <string.h>

#include "base/error.h"
#include "cli/command.h"

/* Every option of `c` as words: "--name -n --json ...". */
static void print_option_words(const struct command *c, FILE *out)
{
	for (const struct option_def *o = c->options; o->name; o++) {
		fprintf(out, " --%s", o->name);
		if (o->short_name)
			fprintf(out, " -%c", o->short_name);
	}
}

/* `name` as part of a shell pattern or word: its spaces become '_'. */
static void print_joined(const char *name, FILE *out)
{
	for (; *name; name++)
		putc(*name == ' ' ? '_' : *name, out);
}

/* The word of `c` that follows the words of `prefix` (length len, 0 = the first); NULL if it does
 * not begin with them. */
static const char *next_word(const struct command *c, const char *prefix, size_t len, size_t *n)
{
	const char *at = c->name;

	if (len) {
		if (strncmp(at, prefix, len) != 0 || at[len] != ' ')
			return NULL;
		at += len + 1;
	}
	*n = strcspn(at, " ");
	return at;
}

/* The distinct words that may follow `prefix`. The table keeps verbs of one beginning together. */
static void print_next_words(const char *prefix, size_t len, FILE *out)
{
	const char *last = "";
	size_t last_n = 0, n;

	for (size_t i = 0; command_table[i]; i++) {
		const char *word = next_word(command_table[i], prefix, len, &n);

		if (!word || (n == last_n && !strncmp(word, last, n)))
			continue;
		fprintf(out, " %.*s", (int)n, word);
		last = word;
		last_n = n;
	}
}

/* The words that may follow: further words of longer verbs, then options. */
static void print_bash_case(const struct command *c, FILE *out)
{
	putc('\t', out);
	print_joined(c->name, out);
	putc('|', out);
	print_joined(c->name, out);
	fputs("_*) words='", out);
	print_next_words(c->name, strlen(c->name), out);
	print_option_words(c, out);
	fputs("' ;;\n", out);
}

/* A bash function that zsh uses too, by its bashcompinit. */
static void print_bash(FILE *out)
{
	fputs("# bash completion for cachet, made from its command table\n"
	      "_cachet()\n{\n"
	      "\tlocal cur=${COMP_WORDS[COMP_CWORD]} verb= words= i\n"
	      "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	      "\t\t[[ ${COMP_WORDS[i]} == -* ]] || verb+=${verb:+_}${COMP_WORDS[i]}\n"
	      "\tdone\n"
	      "\tcase $verb in\n"
	      "\t'') words='",
		out);
	print_next_words("", 0, out);
	fputs(" --help --version' ;;\n", out);
	/* Verbs of several words first: "serve_token_add" before "serve". */
	for (size_t i = 0; command_table[i]; i++)
		if (strchr(command_table[i]->name, ' '))
			print_bash_case(command_table[i], out);
	for (size_t i = 0; command_table[i]; i++)
		if (!strchr(command_table[i]->name, ' '))
			print_bash_case(command_table[i], out);
	fputs("\tesac\n"
	      "\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
	      "\t[[ $cur == -* || -z $verb ]] || COMPREPLY+=($(compgen -f -- \"$cur\"))\n"
	      "}\n"
	      "complete -o filenames -F _cachet cachet\n",
		out);
}

static void print_zsh(FILE *out)
{
	fputs("#compdef cachet\n"
	      "autoload -U +X bashcompinit && bashcompinit\n",
		out);
	print_bash(out);
}

/* Inside '...' of fish. */
static void print_quoted(const char *text, FILE *out)
{
	putc('\'', out);
	for (; *text; text++) {
		if (*text == '\'' || *text == '\\')
			putc('\\', out);
		putc(*text, out);
	}
	putc('\'', out);
}

static void print_fish_condition(const struct command *c, FILE *out)
{
	size_t first = strcspn(c->name, " ");

	fprintf(out, "complete -c cachet -n '__fish_seen_subcommand_from %.*s", (int)first,
		c->name);
	for (const char *at = c->name + first; *at; at += strcspn(at, " ")) {
		at++;
		fprintf(out, "; and __fish_seen_subcommand_from %.*s", (int)strcspn(at, " "), at);
	}
	fputs("' ", out);
}

static void print_fish(FILE *out)
{
	fputs("# fish completion for cachet, made from its command table\n", out);
	for (size_t i = 0; command_table[i]; i++) {
		const struct command *c = command_table[i];

		if (!strchr(c->name, ' ')) {
			fprintf(out, "complete -c cachet -n __fish_use_subcommand -a %s -d ",
				c->name);
			print_quoted(c->summary, out);
			putc('\n', out);
		}
		for (const struct option_def *o = c->options; o->name; o++) {
			print_fish_condition(c, out);
			fprintf(out, "-l %s ", o->name);
			if (o->short_name)
				fprintf(out, "-s %c ", o->short_name);
			fputs(o->type == OPTION_FLAG ? "-d " : "-r -d ", out);
			print_quoted(o->help, out);
			putc('\n', out);
		}
	}
}

int completion_print(const char *shell, FILE *out)
{
	if (!strcmp(shell, "bash"))
		print_bash(out);
	else if (!strcmp(shell, "zsh"))
		print_zsh(out);
	else if (!strcmp(shell, "fish"))
		print_fish(out);
	else
		return CE_USAGE;
	return 0;
}
