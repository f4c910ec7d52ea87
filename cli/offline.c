#include <stdio.h>

#include "cli/commands.h"
#include "cli/target.h"

static const struct option_def options[] = { COMMAND_COMMON, OPTION_END };

static int run(int argc, char **argv);

const struct command command_offline = {
	.name = "offline",
	.usage = "[OPTIONS] [NAME|PATH]",
	.summary = "Work without the origin until told otherwise",
	.details = "No request is sent any more: reads are answered from the sealed copy, writes "
		   "are kept and sent\n"
		   "later. Content that is not here is refused at once instead of waited for. It "
		   "lasts until\n"
		   "`cachet online` or until the volume is mounted again.\n\n"
		   "Exit code 3: the volume is not mounted.\n",
	.options = options,
	.run = run,
};

static void print(const struct json *reply)
{
	printf("offline until `cachet online`\n");
}

static int run(int argc, char **argv)
{
	return target_run(&command_offline, argc, argv, "offline", TARGET_DAEMON, print);
}
