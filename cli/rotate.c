#include <stdio.h>

#include "cli/commands.h"
#include "cli/target.h"

static const struct option_def options[] = { COMMAND_COMMON, OPTION_END };

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
		"`cachet rekey`.\n\n"
		"Exit codes: 4 the server cannot be reached, 6 it revoked this device.\n",
	.options = options,
	.run = run,
};

static void print(const struct json *reply)
{
	const char *kid;

	if (!json_get_string(reply, "kid", &kid))
		printf("the keys are wrapped by %s now\n", kid);
	printf("note: after a leak the keys inside must change too: `cachet rekey`\n");
}

static int run(int argc, char **argv)
{
	return target_run(&command_rotate, argc, argv, "rotate", TARGET_DIRECT, print);
}
