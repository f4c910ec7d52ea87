#include <stdio.h>

#include "base/json.h"
#include "cli/commands.h"

static const struct option_def options[] = { COMMAND_COMMON, OPTION_END };

static int run(int argc, char **argv);

const struct command command_version = {
	.name = "version",
	.usage = "[--json]",
	.summary = "Print the version of this program",
	.options = options,
	.run = run,
};

static int run(int argc, char **argv)
{
	struct command_common args = { 0 };
	int first, r = command_parse(&command_version, &args, argc, argv, 0, 0, &first);

	if (r != COMMAND_GO)
		return r;
	if (args.json)
		printf("{\"version\":\"%s\"}\n", CACHET_VERSION);
	else
		printf("cachet %s\n", CACHET_VERSION);
	return EXIT_CODE_OK;
}
