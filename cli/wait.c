#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/commands.h"
#include "cli/show.h"
#include "cli/target.h"

#define WAIT_MS 1000

struct args {
	struct command_common common;
	bool gone, changed, sent;
	uint64_t timeout_ms;
};

static const struct option_def options[] = {
	{ "gone", 0, OPTION_FLAG, offsetof(struct args, gone), .help = "until PATH is not there" },
	{ "changed", 0, OPTION_FLAG, offsetof(struct args, changed),
		.help = "until the origin has another version of PATH than now" },
	{ "sent", 0, OPTION_FLAG, offsetof(struct args, sent),
		.help = "until the origin has confirmed all local changes of PATH" },
	{ "timeout", 't', OPTION_DURATION, offsetof(struct args, timeout_ms), .max = 86400000,
		.arg = "TIME", .help = "give up after this time (default: never)" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run(int argc, char **argv);

const struct command command_wait = {
	.name = "wait",
	.usage = "[OPTIONS] PATH",
	.summary = "Wait until a file is there, or gone, changed or sent",
	.details =
		"Without an option: until PATH is there, made here or by another device.\n\n"
		"Exit codes: 3 the volume is not mounted, or not any more, 10 the time is over.\n",
	.options = options,
	.run = run,
};

/* *reply NULL: there is no such file. */
static int look(const struct args *args, const struct target *t, struct json **reply)
{
	_cleanup_json_ struct json *request = json_new_object();
	struct command_common quiet = args->common;
	int r;

	quiet.quiet = true;
	json_set_string(request, "do", "stat");
	json_set_string(request, "path", t->path);
	r = target_ask(&quiet, t, request, TARGET_DAEMON, TARGET_TIMEOUT_MS, reply);
	if (r != EXIT_CODE_NOT_MOUNTED)
		return COMMAND_GO;
	return target_ask(&args->common, t, request, TARGET_DAEMON, TARGET_TIMEOUT_MS, reply);
}

static const char *version(const struct json *stat)
{
	const char *etag = show_string(stat, "etag");

	return etag ? etag : "";
}

static bool is_so(const struct args *args, const struct json *first, const struct json *now)
{
	if (args->gone)
		return !now;
	if (!now)
		return false;
	if (args->changed)
		return strcmp(version(first), version(now)) != 0;
	return !args->sent || show_bool(now, "at_origin");
}

/* Comes back early when another device changed something. */
static void pause_for_news(const struct args *args, const struct target *t, struct json **last)
{
	_cleanup_json_ struct json *request = json_new_object();
	struct json *reply = NULL;
	struct command_common quiet = args->common;

	quiet.quiet = true;
	json_set_string(request, "do", "watch");
	if (*last) {
		json_set_u64(request, "after", show_u64(*last, "after"));
		json_set_u64(request, "conflict", show_u64(*last, "conflict"));
		json_set_string(request, "state", show_string(*last, "state"));
		json_set_u64(request, "wait_ms", args->sent ? WAIT_MS / 10 : WAIT_MS);
	}
	if (target_ask(&quiet, t, request, TARGET_DAEMON, 0, &reply) == COMMAND_GO) {
		json_free(*last);
		*last = reply;
	} else {
		usleep(WAIT_MS * 1000 / 10);
	}
}

static int wait_for(const struct args *args, const struct target *t, struct json **now)
{
	_cleanup_json_ struct json *first = NULL, *last = NULL;
	int64_t end_ms = args->timeout_ms ? clock_boot_ms() + (int64_t)args->timeout_ms : INT64_MAX;
	int r;

	pause_for_news(args, t, &last);
	r = look(args, t, &first);
	if (r == COMMAND_GO && first && json_copy(first, now))
		return EXIT_CODE_FAILED;
	while (r == COMMAND_GO && !is_so(args, first, *now)) {
		if (clock_boot_ms() >= end_ms)
			return command_fail(&args->common, EXIT_CODE_TIMEOUT,
				"it is not so yet, and the time is over");
		pause_for_news(args, t, &last);
		json_free(steal_ptr(now));
		r = look(args, t, now);
	}
	return r;
}

static int run(int argc, char **argv)
{
	_cleanup_json_ struct json *now = NULL;
	_cleanup_target_ struct target t = { 0 };
	struct args args = { 0 };
	int first, r = command_parse(&command_wait, &args, argc, argv, 1, 1, &first);

	if (r == COMMAND_GO && args.gone + args.changed + args.sent > 1)
		return command_fail(&args.common, EXIT_CODE_USAGE,
			"--gone, --changed and --sent exclude each other");
	if (r == COMMAND_GO)
		r = target_find_path(&args.common, argv[first], &t);
	if (r == COMMAND_GO)
		r = wait_for(&args, &t, &now);
	if (r != COMMAND_GO)
		return r;
	if (args.common.json && now)
		return show_json(now);
	return EXIT_CODE_OK;
}
