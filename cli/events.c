#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "cli/commands.h"
#include "cli/show.h"
#include "cli/target.h"

struct args {
	struct command_common common;
	bool verify;
};

static const struct option_def options[] = {
	{ "verify", 'V', OPTION_FLAG, offsetof(struct args, verify),
		.help = "check the chain of hashes as well" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run(int argc, char **argv);

const struct command command_events = {
	.name = "events",
	.usage = "[OPTIONS] [NAME|PATH]",
	.summary = "Show what happened to the volume: damage, keys, conflicts",
	.details = "One line for each event, the oldest first: when, what, and its details. No "
		   "names and no\n"
		   "content are in them. Each is chained to the one before by a hash, so that none "
		   "can be\n"
		   "changed, left out or cut off unseen.\n\n"
		   "Exit code 7 with --verify: the chain is broken.\n",
	.options = options,
	.run = run,
};

static void print_time(int64_t ns)
{
	time_t s = (time_t)(ns / NS_PER_SEC);
	struct tm tm;
	char text[32];

	localtime_r(&s, &tm);
	strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
	printf("%s", text);
}

static void print(const struct json *reply, bool verify)
{
	const struct json *events = show_member(reply, "events");

	for (const struct json *e = events ? json_first(events) : NULL; e; e = json_next(e)) {
		const char *kind = show_string(e, "kind"), *detail = show_string(e, "detail");

		print_time(show_i64(e, "time_ns"));
		printf("  %-10s ", kind ? kind : "?");
		show_text(stdout, detail ? detail : "");
		putchar('\n');
	}
	if (verify && show_u64(reply, "bad_id"))
		printf("the chain is broken at event %" PRIu64 "\n", show_u64(reply, "bad_id"));
	else if (verify)
		printf("the chain is whole\n");
}

static int run(int argc, char **argv)
{
	_cleanup_json_ struct json *request = json_new_object(), *reply = NULL;
	_cleanup_target_ struct target t = { 0 };
	struct args args = { 0 };
	int r = target_parse(&command_events, &args, argc, argv, &t);

	json_set_string(request, "do", "events");
	json_set_bool(request, "verify", args.verify);
	if (r == COMMAND_GO)
		r = target_ask(&args.common, &t, request, TARGET_DIRECT, TARGET_TIMEOUT_MS, &reply);
	if (r != COMMAND_GO)
		return r;
	if (args.common.json)
		r = show_json(reply);
	else
		print(reply, args.verify);
	if (r > 0)
		return r;
	return args.verify && show_u64(reply, "bad_id") ? EXIT_CODE_DAMAGED : EXIT_CODE_OK;
}
