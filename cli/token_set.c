#include <stdio.h>

#include "cli/commands.h"
#include "cli/target.h"
#include "cli/token.h"
#include "daemon/opening.h"

struct args {
	struct command_common common;
	const char *token_file;
};

static const struct option_def options[] = {
	{ "token-file", 0, OPTION_STRING, offsetof(struct args, token_file), .arg = "FILE",
		.help = "read it from FILE, - for standard input (default: ask)" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run(int argc, char **argv);

const struct command command_token = {
	.name = "token",
	.usage = "[OPTIONS] [NAME]",
	.summary = "Give a volume another bearer token",
	.details = "For when the origin refuses the one it was made with (auth-needed), or it is "
		   "to be replaced. It is kept\n"
		   "sealed in the volume, which must not be mounted. A volume whose key the server "
		   "holds and whose lease is\n"
		   "over takes a new token by `cachet enroll --token-file`.\n\n"
		   "Exit codes: 6 the volume cannot be opened, 8 it is mounted.\n",
	.options = options,
	.run = run,
};

static int set(const struct args *args, const struct config *c, char **error)
{
	_cleanup_secret_ struct secret *token = NULL;
	struct volume *v;
	int r = token_read("token", args->token_file, &token, error);

	if (!r)
		r = opening_volume(c, NULL, OPENING_IF_NEEDED, &v, error);
	if (r)
		return r;
	r = volume_set_token(v, token);
	volume_close(v);
	return r;
}

static int run(int argc, char **argv)
{
	_cleanup_target_ struct target t = { 0 };
	_cleanup_free_ char *error = NULL;
	struct args args = { 0 };
	int r = target_parse(&command_token, &args, argc, argv, &t);

	if (r != COMMAND_GO)
		return r;
	r = set(&args, t.config, &error);
	if (r)
		return command_failed(&args.common, r, error);
	printf(args.common.json ? "{\"ok\":true}\n" : "the volume has another token\n");
	return EXIT_CODE_OK;
}
