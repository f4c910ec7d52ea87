#include <stdio.h>

#include "cli/commands.h"
#include "cli/show.h"
#include "cli/target.h"

struct args {
	struct command_common common;
	bool wait, allow_deletes, accept_restored, accept_old;
	uint64_t timeout_ms;
};

static const struct option_def options[] = {
	{ "wait", 'w', OPTION_FLAG, offsetof(struct args, wait),
		.help = "return when everything is sent and the change feeds are caught up" },
	{ "timeout", 't', OPTION_DURATION, offsetof(struct args, timeout_ms), .max = 86400000,
		.arg = "TIME", .help = "with --wait: give up after this time (default: never)" },
	{ "allow-deletes", 0, OPTION_FLAG, offsetof(struct args, allow_deletes),
		.help = "confirm deletions that are held because they are so many" },
	{ "accept-restored", 0, OPTION_FLAG, offsetof(struct args, accept_restored),
		.help = "go on with a server that was restored from a backup or replaced" },
	{ "accept-old", 0, OPTION_FLAG, offsetof(struct args, accept_old),
		.help = "go on with this volume although it is an old copy that was put back" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run(int argc, char **argv);

const struct command command_sync = {
	.name = "sync",
	.usage = "[OPTIONS] [NAME|PATH]",
	.summary = "Send and fetch changes now",
	.details = "The daemon does both by itself; this makes it try at once, whatever its timers "
		   "say. Without\n"
		   "--wait it returns immediately.\n\n"
		   "Exit codes with --wait: 4 the origin cannot be reached, 5 it refuses the "
		   "token, 9 changes\n"
		   "are refused or held (`cachet journal ls`), 10 the time is over, or the origin "
		   "wants not to be\n"
		   "asked for more than a minute. Nothing is lost in any of them: unsent changes "
		   "stay on this disk, sealed.\n",
	.options = options,
	.run = run,
};

static int run(int argc, char **argv)
{
	_cleanup_json_ struct json *request = json_new_object(), *reply = NULL;
	_cleanup_target_ struct target t = { 0 };
	struct args args = { 0 };
	int r = target_parse(&command_sync, &args, argc, argv, &t);

	if (r == COMMAND_GO && args.timeout_ms && !args.wait)
		return command_fail(&args.common, EXIT_CODE_USAGE, "--timeout goes with --wait");
	if (r == COMMAND_GO && args.allow_deletes)
		r = target_do(&args.common, &t, "allow-deletes", TARGET_DAEMON, NULL);
	if (r == COMMAND_GO && args.accept_restored)
		r = target_do(&args.common, &t, "accept-restored", TARGET_DAEMON, NULL);
	if (r == COMMAND_GO && args.accept_old)
		r = target_do(&args.common, &t, "accept-old", TARGET_DAEMON, NULL);
	if (r != COMMAND_GO)
		return r;
	json_set_string(request, "do", "sync");
	json_set_bool(request, "wait", args.wait);
	json_set_u64(request, "timeout_ms", args.timeout_ms);
	r = target_ask(&args.common, &t, request, TARGET_DAEMON, args.wait ? 0 : TARGET_TIMEOUT_MS,
		&reply);
	if (r != COMMAND_GO)
		return r;
	if (args.common.json)
		return show_json(reply);
	if (args.wait)
		printf("everything is sent and up to date\n");
	return EXIT_CODE_OK;
}
