#include <stdio.h>

#include "cli/commands.h"
#include "cli/show.h"
#include "cli/target.h"

#define WAIT_MS 1000

struct args {
	struct command_common common;
	bool status, force, wait;
};

static const struct option_def options[] = {
	{ "status", 0, OPTION_FLAG, offsetof(struct args, status),
		.help = "show whether one is under way, and how far it is" },
	{ "wait", 0, OPTION_FLAG, offsetof(struct args, wait),
		.help = "of a mounted volume: at full speed, and wait for the end" },
	{ "force", 0, OPTION_FLAG, offsetof(struct args, force),
		.help = "although damage was found, or something in quarantine/ needs the old "
			"keys" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run(int argc, char **argv);

const struct command command_rekey = {
	.name = "rekey",
	.usage = "[OPTIONS] [NAME|PATH]",
	.summary = "Change the keys inside a volume and seal everything anew",
	.details =
		"What to do after key and keyring may have been copied: `cachet rotate` changes "
		"the key around the keys,\n"
		"this the keys themselves. Every store and the index get new ones, what is cached "
		"and what is unsent is\n"
		"sealed anew, and when nothing is left under the old keys they are destroyed. What "
		"somebody copied\n"
		"before, content and keys, stays readable to him.\n\n"
		"A mounted volume stays usable: it happens in the background, at half speed, also "
		"after a restart. One that\n"
		"is not mounted is done at once; interrupted, it goes on with the next command or "
		"mount. Keys older than\n"
		"rekey_days of the configuration (180; 0 = never) are changed by themselves while "
		"the volume is mounted\n"
		"and healthy.\n\n"
		"Exit code 7: damaged content keeps the old keys.\n",
	.options = options,
	.run = run,
};

static int ask(const struct args *args, const struct target *t, bool start, struct json **reply)
{
	_cleanup_json_ struct json *request = json_new_object();

	json_set_string(request, "do", "rekey");
	json_set_bool(request, "start", start);
	json_set_bool(request, "force", args->force);
	json_set_u64(request, "wait_ms", args->wait ? WAIT_MS : 0);
	return target_ask(&args->common, t, request, TARGET_DIRECT, 0, reply);
}

static void draw(const struct json *o)
{
	show_bar(show_u64(o, "done_bytes"), show_u64(o, "total_bytes"), !show_bool(o, "active"));
}

static bool is_stuck(const struct json *o)
{
	return show_u64(o, "damaged") || show_string(o, "error");
}

static int wait(const struct args *args, const struct target *t, struct json **reply)
{
	int r = COMMAND_GO;

	while (r == COMMAND_GO && show_bool(*reply, "active") && !is_stuck(*reply)) {
		if (t->progress)
			t->progress(*reply);
		json_free(steal_ptr(reply));
		r = ask(args, t, false, reply);
	}
	if (r == COMMAND_GO && t->progress)
		t->progress(*reply);
	return r;
}

static void print(const struct json *o)
{
	char done[SHOW_MAX], total[SHOW_MAX];
	const char *error = show_string(o, "error");

	if (!show_bool(o, "active")) {
		printf("the keys are of epoch %llu; nothing is sealed under older ones\n",
			(unsigned long long)show_u64(o, "epoch"));
		return;
	}
	printf("a rekey is under way: %s of %s\n", show_bytes(show_u64(o, "done_bytes"), done),
		show_bytes(show_u64(o, "total_bytes"), total));
	if (error)
		printf("it is held up: %s; tried again by itself\n", error);
	if (show_u64(o, "damaged"))
		printf("damaged pieces of unsent content keep the old keys: `cachet verify`\n");
}

static int run(int argc, char **argv)
{
	_cleanup_target_ struct target t = { 0 };
	_cleanup_json_ struct json *reply = NULL;
	struct args args = { 0 };
	int r = target_parse(&command_rekey, &args, argc, argv, &t);

	if (r != COMMAND_GO)
		return r;
	if (isatty(STDERR_FILENO) && !args.common.json)
		t.progress = draw;
	r = ask(&args, &t, !args.status, &reply);
	if (r == COMMAND_GO && args.wait)
		r = wait(&args, &t, &reply);
	if (r != COMMAND_GO)
		return r;
	if (args.common.json)
		r = show_json(reply);
	else
		print(reply);
	if (r > 0)
		return r;
	return show_u64(reply, "damaged") ? EXIT_CODE_DAMAGED : EXIT_CODE_OK;
}
