#include <stdio.h>

#include "cli/commands.h"
#include "cli/target.h"

static const struct option_def options[] = { COMMAND_COMMON, OPTION_END };

static int run(int argc, char **argv);

const struct command command_online = {
	.name = "online",
	.usage = "[OPTIONS] [NAME|PATH]",
	.summary = "Connect again after `cachet offline`",
	.details = "Probes the origin at once. It does nothing when the volume is not held "
		   "offline.\n\n"
		   "Exit code 3: the volume is not mounted.\n",
	.options = options,
	.run = run,
};

static void print(const struct json *reply)
{
	printf("online mode: the origin is being tried\n");
}

static int run(int argc, char **argv)
{
	return target_run(&command_online, argc, argv, "online", TARGET_DAEMON, print);
}
