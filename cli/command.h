/*
 * Subcommands: one table entry each. `cachet help`, `cachet VERB --help` and the completions are
 * made from these entries; the man pages are checked against them (tests/unit/test_cli_options.c).
 *
 * A name may have several words ("serve token add"); the longest name that the words of the command
 * line begin with is meant. Each verb answers --help and --json: its argument struct begins with a
 * struct command_common and its option table with COMMAND_COMMON.
 *
 * run() returns the exit code. A failure is one sentence on standard error, or with --json an
 * object
 * {"ok":false,"code":…,"error":…} on standard output: command_fail().
 */
#ifndef CACHET_CLI_COMMAND_H
#define CACHET_CLI_COMMAND_H

#include <stdbool.h>

#include "base/macros.h"
#include "base/options.h"
#include "daemon/exit_code.h"

struct command {
	const char *name;
	const char *usage;   /* after the verb: "[OPTIONS] URL" */
	const char *summary; /* one line */
	const char *details; /* paragraphs for --help: what it does, what it does not, exit codes
				other than 0, 1, 2 */
	const struct option_def *options;
	bool mounts;                       /* may start the setuid mount helper */
	int (*run)(int argc, char **argv); /* argv[0] is the last word of the verb */
};

extern const struct command *const command_table[]; /* NULL-terminated */

/* The command whose name the words of argv begin with, the longest; *words = how many. NULL: none.
 */
const struct command *command_find(int argc, char **argv, int *words);

struct command_common {
	bool help, json;
	bool quiet; /* no failure is printed: the caller has a better word */
};
#define COMMAND_COMMON                                                                             \
	{ "json", 0, OPTION_FLAG, offsetof(struct command_common, json),                           \
		.help = "print the result as JSON" },                                              \
	{                                                                                          \
		"help", 'h', OPTION_FLAG, offsetof(struct command_common, help),                   \
			.help = "print this help"                                                  \
	}

/*
 * Parses into `args` (which begins with a struct command_common). COMMAND_GO to go on, else the
 * exit code: help was printed, or the usage was wrong and the sentence is printed. `min` to `max`
 * positionals are accepted.
 */
#define COMMAND_GO (-1)
int command_parse(const struct command *c, void *args, int argc, char **argv, int min, int max,
	int *first) MUST_CHECK;
void command_print_help(const struct command *c);

/* Prints the failure and returns its exit code. `sentence` without a full stop at the end or a line
 * break. */
int command_fail(const struct command_common *common, enum exit_code code, const char *fmt, ...)
	PRINTF_LIKE(3, 4);
/* The same for a code, with what *error says of it or, where that is NULL, the code's own text. */
int command_failed(const struct command_common *common, int r, const char *error);

#endif
