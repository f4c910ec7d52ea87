#include <stdio.h>

#include "cli/commands.h"
#include "cli/show.h"
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

static int run(int argc, char **argv)
{
	_cleanup_json_ struct json *reply = NULL;
	_cleanup_target_ struct target t = { 0 };
	struct command_common args = { 0 };
	int first, r = command_parse(&command_offline, &args, argc, argv, 0, 1, &first);

	if (r == COMMAND_GO)
		r = target_find(&args, first < argc ? argv[first] : NULL, &t);
	if (r == COMMAND_GO)
		r = target_do(&args, &t, "offline", TARGET_DAEMON, &reply);
	if (r != COMMAND_GO)
		return r;
	if (args.json)
		return show_json(reply);
	printf("offline until `cachet online`\n");
	return EXIT_CODE_OK;
}
