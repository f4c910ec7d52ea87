#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/show.h"
#include "cli/target.h"

#define MS_PER_MINUTE 60000

struct args {
	struct command_common common;
	bool check;
};

static const struct option_def options[] = {
	{ "check", 'c', OPTION_FLAG, offsetof(struct args, check),
		.help = "ask the origin whether the version known here is the current one" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run(int argc, char **argv);

const struct command command_stat = {
	.name = "stat",
	.usage = "[OPTIONS] PATH",
	.summary = "Show what is known about one file: how much of it is here, what is unsent",
	.details = "PATH is a path below a mount point, also when nothing is mounted there now "
		   "(but for\n"
		   "--check). State: full (all content is on this disk), partial, none. For "
		   "everything\n"
		   "else use stat(1).\n\n"
		   "Exit codes: 4 the origin cannot be reached, and --check was given or the "
		   "directory was\n"
		   "never listed.\n",
	.options = options,
	.run = run,
};

static void print(const struct json *o)
{
	char size[SHOW_MAX], age[SHOW_MAX], missing[SHOW_MAX], pending[SHOW_MAX];
	const char *state = show_string(o, "state"), *path = show_string(o, "path");

	printf("path      ");
	show_text(stdout, path && *path ? path : ".");
	printf("\ntype      %s, mode %04" PRIo64 "\n", show_string(o, "type"), show_u64(o, "mode"));
	if (state) {
		printf("size      %s\n", show_bytes(show_u64(o, "size"), size));
		printf("content   %s", state);
		if (show_u64(o, "missing_bytes"))
			printf(", %s to fetch", show_bytes(show_u64(o, "missing_bytes"), missing));
		putchar('\n');
	}
	printf("changed   %s\n", show_age(show_i64(o, "mtime_ns"), age));
	printf("unsent    %s\n",
		show_count(show_u64(o, "pending"), "operation", "operations", pending));
	printf("as of     %s%s\n",
		show_bool(o, "feed_live") ? "now" : show_age(show_i64(o, "validated_ns"), age),
		show_bool(o, "strict") ? "; asked anew at each open" : "");
	if (show_u64(o, "max_stale_ms"))
		printf("opens     for %" PRIu64 " min after that\n",
			show_u64(o, "max_stale_ms") / MS_PER_MINUTE);
	if (show_bool(o, "pinned"))
		printf("pinned    yes\n");
	if (show_string(o, "etag"))
		printf("version   %s\n", show_string(o, "etag"));
	if (show_string(o, "origin"))
		printf("origin    %s\n", show_string(o, "origin"));
}

static int run(int argc, char **argv)
{
	_cleanup_json_ struct json *request = json_new_object(), *reply = NULL;
	_cleanup_target_ struct target t = { 0 };
	struct args args = { 0 };
	int first, r = command_parse(&command_stat, &args, argc, argv, 1, 1, &first);

	if (r == COMMAND_GO)
		r = target_find_path(&args.common, argv[first], &t);
	if (r != COMMAND_GO)
		return r;
	json_set_string(request, "do", "stat");
	json_set_string(request, "path", t.path);
	json_set_bool(request, "check", args.check);
	r = target_ask(&args.common, &t, request, args.check ? TARGET_DAEMON : TARGET_DIRECT,
		TARGET_TIMEOUT_MS, &reply);
	if (r != COMMAND_GO)
		return r;
	if (args.common.json)
		return show_json(reply);
	print(reply);
	return EXIT_CODE_OK;
}
