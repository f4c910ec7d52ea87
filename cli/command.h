/*
 * Subcommands: one file and one table entry each. `cachet help`, `cachet VERB --help`, the man pages' synopsis and
 * the completions are made from, or checked against, these entries.
 */
#ifndef CACHET_CLI_COMMAND_H
#define CACHET_CLI_COMMAND_H

#include "base/options.h"

/* Exit codes: a stable interface (man cachet). */
enum exit_code {
	EXIT_CODE_OK = 0,
	EXIT_CODE_FAILED = 1,        /* the operation failed; the message says why */
	EXIT_CODE_USAGE = 2,         /* wrong flag, argument or configuration */
	EXIT_CODE_NOT_MOUNTED = 3,   /* no daemon serves this volume */
	EXIT_CODE_OFFLINE = 4,       /* the origin cannot be reached */
	EXIT_CODE_AUTH = 5,          /* the origin refused the credentials */
	EXIT_CODE_KEY = 6,           /* wrong or missing key */
	EXIT_CODE_DAMAGED = 7,       /* index, keyring or content fails authentication */
	EXIT_CODE_IN_USE = 8,        /* another process has the volume, or the mount point is taken */
	EXIT_CODE_PENDING = 9,       /* work is left: unsent, refused, held or in conflict */
	EXIT_CODE_TIMEOUT = 10,
};

struct command {
	const char *name;
	const char *usage;   /* after the verb: "[OPTIONS] URL" */
	const char *summary; /* one line */
	const char *details; /* paragraphs for --help: what it does, what it does not, exit codes other than 0, 1, 2 */
	const struct option_def *options;
	int (*run)(int argc, char **argv); /* argv[0] is the verb */
};

extern const struct command *const command_table[]; /* NULL-terminated */

#endif
