#include <stdio.h>

#include "cli/commands.h"
#include "cli/show.h"
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

static int run(int argc, char **argv)
{
	_cleanup_json_ struct json *reply = NULL;
	_cleanup_target_ struct target t = { 0 };
	struct command_common args = { 0 };
	int first, r = command_parse(&command_online, &args, argc, argv, 0, 1, &first);

	if (r == COMMAND_GO)
		r = target_find(&args, first < argc ? argv[first] : NULL, &t);
	if (r == COMMAND_GO)
		r = target_do(&args, &t, "online", TARGET_DAEMON, &reply);
	if (r != COMMAND_GO)
		return r;
	if (args.json)
		return show_json(reply);
	printf("online mode: the origin is being tried\n");
	return EXIT_CODE_OK;
}
