/* Between the verbs of `cachet conflicts`. */
#ifndef CACHET_CLI_CONFLICTS_H
#define CACHET_CLI_CONFLICTS_H

#include "cli/target.h"

/* ID [NAME|PATH]; COMMAND_GO or an exit code. `args` begins with a struct command_common. */
int conflicts_parse_one(const struct command *c, void *args, struct target *t, uint64_t *id,
	int argc, char **argv) MUST_CHECK;

#endif
