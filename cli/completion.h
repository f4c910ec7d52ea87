/* Shell completion scripts, made from the command table at build time (data/meson.build). */
#ifndef CACHET_CLI_COMPLETION_H
#define CACHET_CLI_COMPLETION_H

#include <stdio.h>

#include "base/macros.h"

/* shell: "bash", "zsh", "fish"; CE_USAGE for another. */
int completion_print(const char *shell, FILE *out) MUST_CHECK;

#endif
