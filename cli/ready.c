#include <stdio.h>

#include "cli/commands.h"
#include "cli/show.h"
#include "cli/target.h"

struct args {
	struct command_common common;
	uint64_t for_ms;
};

static const struct option_def options[] = {
	{ "for", 'f', OPTION_DURATION, offsetof(struct args, for_ms), .max = UINT64_C(31536000000),
		.arg = "TIME",
		.help = "how long the volume has to do without the origin: 3d, 12h" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run(int argc, char **argv);

const struct command command_ready = {
	.name = "ready",
	.usage = "[OPTIONS] [NAME|PATH]",
	.summary = "Say what is missing before a time without a network",
	.details = "Looks whether all that is pinned is here, whether the origin has all changes, "
		   "whether it takes the\n"
		   "token, and whether the lease of a key that a server holds lasts for the time "
		   "given with --for, as do rules of freshness. Unsent\n"
		   "changes are sent and a short lease is renewed first, if the origin answers.\n\n"
		   "Exit code 9: something is missing; each line says what.\n",
	.options = options,
	.run = run,
};

static void print(const struct json *reply)
{
	const struct json *problems = show_member(reply, "problems");

	for (const struct json *o = problems ? json_first(problems) : NULL; o; o = json_next(o)) {
		show_text(stdout, show_string(o, "text"));
		putchar('\n');
	}
	if (show_bool(reply, "ready"))
		printf("ready\n");
}

static int run(int argc, char **argv)
{
	_cleanup_json_ struct json *request = json_new_object(), *reply = NULL;
	_cleanup_target_ struct target t = { 0 };
	struct args args = { 0 };
	int r = target_parse(&command_ready, &args, argc, argv, &t);

	json_set_string(request, "do", "ready");
	json_set_u64(request, "for_ms", args.for_ms);
	if (r == COMMAND_GO)
		r = target_ask(&args.common, &t, request, TARGET_DIRECT, TARGET_TIMEOUT_MS, &reply);
	if (r != COMMAND_GO)
		return r;
	if (args.common.json)
		r = show_json(reply);
	else
		print(reply);
	if (r > 0)
		return r;
	return show_bool(reply, "ready") ? EXIT_CODE_OK : EXIT_CODE_PENDING;
}
