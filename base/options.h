/*
 * The command line: one table per subcommand gives parsing, --help, and the checks of man pages
 * and completion.
 *
 *     static const struct option_def options[] = {
 *             { "cache-size", 0, OPTION_BYTES, offsetof(struct args, cache_bytes),
 *               .min = 16777216, .arg = "SIZE", .help = "bound of the volume on disk" },
 *             ...
 *             OPTION_END
 *     };
 *     r = options_parse(options, &args, argc, argv, &first_positional, &error_text);
 *
 * Values are written into the caller's struct at `offset`. Long options take `--name value` or
 * `--name=value`; `--` ends options; options and positionals may be mixed: argv is permuted so that
 * positionals follow at argv[*first]; argv[0] is the command and is left alone. Short flags may be
 * joined (-ab), a short option takes `-nVALUE` or `-n VALUE`. On failure: CE_USAGE and *error is a
 * sentence that says what to do (caller frees); argv is as it was, values read so far are written.
 */
#ifndef CACHET_BASE_OPTIONS_H
#define CACHET_BASE_OPTIONS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/macros.h"

enum option_type {
	OPTION_FLAG,     /* bool, set to true */
	OPTION_STRING,   /* const char *, borrowed from argv */
	OPTION_U64,      /* uint64_t */
	OPTION_BYTES,    /* uint64_t; suffixes K M G T (powers of 1024), KB MB GB (of 1000) */
	OPTION_DURATION, /* uint64_t milliseconds; suffixes ms s m h d, plain = seconds */
	OPTION_TYPE_END
};

struct option_def {
	const char *name;  /* without the dashes; NULL ends the table */
	char short_name;   /* or 0 */
	enum option_type type;
	size_t offset;
	uint64_t min, max; /* numbers: bounds; max 0 = none */
	const char *arg;   /* placeholder in help */
	const char *help;  /* one line; says unit and default */
};

#define OPTION_END { .name = NULL }

int options_parse(const struct option_def *defs, void *into, int argc, char **argv, int *first,
	char **error) MUST_CHECK;
void options_print_help(const struct option_def *defs, FILE *out);

int options_parse_bytes(const char *text, uint64_t *out) MUST_CHECK;
int options_parse_duration_ms(const char *text, uint64_t *out) MUST_CHECK;

#endif
