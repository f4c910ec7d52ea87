#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/show.h"
#include "cli/target.h"

#define WAIT_MS 20000
#define LOCKED_S 1

static const struct option_def options[] = { COMMAND_COMMON, OPTION_END };

static int run(int argc, char **argv);

const struct command command_watch = {
	.name = "watch",
	.usage = "[OPTIONS] [NAME|PATH]",
	.summary = "Print what other devices change, as it happens",
	.details = "One JSON object a line, until interrupted: \"event\" is created, changed or "
		   "removed "
		   "(with \"path\", below\n"
		   "the mount point), conflict, link (with \"state\"; the first line is of the "
		   "state now), "
		   "locked, or overflow:\n"
		   "too much happened at once to be kept, look at everything again. A rename is a "
		   "removed and a created. With\n"
		   "a PATH below the mount point changes elsewhere are left out. What programs on "
		   "this "
		   "machine change is not\n"
		   "told: inotify(7) tells it.\n\n"
		   "Exit code 3: the volume is not mounted, or not any more.\n",
	.options = options,
	.run = run,
};

static int print_events(const struct json *reply)
{
	const struct json *events = show_member(reply, "events");

	for (const struct json *e = events ? json_first(events) : NULL; e; e = json_next(e)) {
		_cleanup_free_ char *text = NULL;

		if (json_print(e, false, &text))
			return EXIT_CODE_FAILED;
		puts(text);
	}
	return fflush(stdout) ? EXIT_CODE_FAILED : COMMAND_GO;
}

/* The next request: from where the last answer ended. */
static struct json *next_request(const struct target *t, const struct json *reply)
{
	struct json *o = json_new_object();

	json_set_string(o, "do", "watch");
	json_set_string(o, "path", t->path ? t->path : "");
	if (!reply)
		return o;
	json_set_u64(o, "after", show_u64(reply, "after"));
	json_set_u64(o, "conflict", show_u64(reply, "conflict"));
	json_set_string(o, "state", show_string(reply, "state"));
	json_set_u64(o, "wait_ms", WAIT_MS);
	return o;
}

static void print_locked(void)
{
	puts("{\"event\":\"locked\"}");
	fflush(stdout);
}

static int follow(const struct command_common *common, const struct target *t)
{
	struct json *last = NULL, *reply;
	struct command_common quiet = *common;
	bool locked = false;
	int r = COMMAND_GO;

	while (r == COMMAND_GO) {
		_cleanup_json_ struct json *request = next_request(t, last);

		reply = NULL;
		quiet.quiet = true;
		r = target_ask(&quiet, t, request, TARGET_DAEMON, 0, &reply);
		if (r == EXIT_CODE_KEY) {
			if (!locked)
				print_locked();
			locked = true;
			sleep(LOCKED_S);
			r = COMMAND_GO;
			continue;
		}
		if (r == EXIT_CODE_NOT_MOUNTED || r == EXIT_CODE_FAILED)
			r = target_ask(common, t, request, TARGET_DAEMON, 0, &reply);
		if (r != COMMAND_GO)
			break;
		locked = false;
		json_free(last);
		last = reply;
		r = print_events(reply);
	}
	json_free(last);
	return r;
}

static int run(int argc, char **argv)
{
	_cleanup_target_ struct target t = { 0 };
	struct command_common args = { 0 };
	int r = target_parse(&command_watch, &args, argc, argv, &t);

	return r == COMMAND_GO ? follow(&args, &t) : r;
}
