/* The key of an export as a person gives it: 64 hexadecimal digits, from a file, standard input
 * ("-") or the terminal (NULL). */
#ifndef CACHET_CLI_SEALED_KEY_H
#define CACHET_CLI_SEALED_KEY_H

#include "base/macros.h"
#include "base/secret.h"
#include "cli/command.h"

/* COMMAND_GO, or the exit code, the failure printed. */
int sealed_key_read(
	const struct command_common *common, const char *file, struct secret **out) MUST_CHECK;

#endif
