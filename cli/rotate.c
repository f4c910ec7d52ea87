#include <stdio.h>

#include "cli/commands.h"
#include "cli/show.h"
#include "cli/target.h"

struct args {
	struct command_common common;
	bool rekey;
};

static const struct option_def options[] = {
	{ "rekey", 0, OPTION_FLAG, offsetof(struct args, rekey),
		.help = "afterwards change the keys inside too, as `cachet rekey` does" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run(int argc, char **argv);

const struct command command_rotate = {
	.name = "rotate",
	.usage = "[OPTIONS] [NAME|PATH]",
	.summary = "Put a new key of the server around the keys of a volume",
	.details =
		"The server makes a new key; the keys of the index and of the stores are wrapped "
		"under it anew. That costs\n"
		"the number of stores, not of files. Other devices of the account follow at "
		"their next contact.\n\n"
		"What it does not do: the keys inside stay the same. Who has copied the old key "
		"and an old keyring can\n"
		"still open what is written later. After a leak the inner keys must change too: "
		"--rekey, or later `cachet rekey`.\n\n"
		"Exit codes: 4 the server cannot be reached, 6 it revoked this device.\n",
	.options = options,
	.run = run,
};

static void draw(const struct json *o)
{
	show_bar(show_u64(o, "done_bytes"), show_u64(o, "total_bytes"), !show_bool(o, "active"));
}

static int rekey(const struct command_common *common, struct target *t)
{
	_cleanup_json_ struct json *request = json_new_object();

	json_set_string(request, "do", "rekey");
	json_set_bool(request, "start", true);
	if (isatty(STDERR_FILENO) && !common->json)
		t->progress = draw;
	return target_ask(common, t, request, TARGET_DIRECT, 0, NULL);
}

static int run(int argc, char **argv)
{
	_cleanup_target_ struct target target = { 0 };
	_cleanup_json_ struct json *reply = NULL;
	struct args args = { 0 };
	const char *kid;
	int r = target_parse(&command_rotate, &args, argc, argv, &target);

	if (r == COMMAND_GO)
		r = target_do(&args.common, &target, "rotate", TARGET_DIRECT, &reply);
	if (r == COMMAND_GO && args.rekey)
		r = rekey(&args.common, &target);
	if (r != COMMAND_GO)
		return r;
	if (args.common.json)
		return show_json(reply);
	if (!json_get_string(reply, "kid", &kid))
		printf("the keys are wrapped by %s now\n", kid);
	printf(args.rekey ? "and those inside are being changed: `cachet rekey --status`\n"
			  : "note: after a leak the keys inside must change too: `cachet rekey`\n");
	return EXIT_CODE_OK;
}
