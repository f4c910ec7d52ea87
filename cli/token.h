/*
 * Reading a secret word (`what`: "token", "key"), given with --token-file and the like: from a
 * file, from standard input ("-"), or asked on the terminal without echo (NULL). Never from the
 * command line or the environment, where other processes see it.
 */
#ifndef CACHET_CLI_TOKEN_H
#define CACHET_CLI_TOKEN_H

#include "base/macros.h"
#include "base/secret.h"

#define TOKEN_MAX 4096

/* One line of printable ASCII; blanks around it are dropped. CE_USAGE with a sentence (the caller
 * frees). */
int token_read(const char *what, const char *file, struct secret **out, char **error) MUST_CHECK;

#endif
