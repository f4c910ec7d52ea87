#include <stdio.h>

#include "cli/commands.h"
#include "cli/handover.h"
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
	.usage = "[OPTIONS] [NAME|PATH]",
	.summary = "Give a volume another bearer token",
	.details = "For when the origin refuses the one it was made with (auth-needed), or it is "
		   "to be replaced. It is kept\n"
		   "sealed in the volume; a mounted one uses it at once. A volume whose key the "
		   "server "
		   "holds and whose lease is\n"
		   "over takes a new token by `cachet enroll --token-file`.\n\n"
		   "Exit code 6: the volume is locked or cannot be opened.\n",
	.options = options,
	.run = run,
};

/* Of a volume that no daemon has. */
static int set(const struct target *t, const struct secret *token, char **error)
{
	struct volume *v;
	int r = opening_volume(t->config, NULL, OPENING_IF_NEEDED, &v, error);

	if (r)
		return r;
	r = volume_set_token(v, token);
	volume_close(v);
	return r;
}

static int give(
	const struct command_common *common, const struct target *t, const struct secret *token)
{
	_cleanup_json_ struct json *request = json_new_object();
	_cleanup_free_ char *error = NULL;
	int r;

	json_set_string(request, "do", "token");
	if (target_is_mounted(t))
		return handover_ask(common, t, request, "token", token, NULL);
	r = set(t, token, &error);
	return r ? command_failed(common, r, error) : COMMAND_GO;
}

static int run(int argc, char **argv)
{
	_cleanup_secret_ struct secret *token = NULL;
	_cleanup_target_ struct target t = { 0 };
	_cleanup_free_ char *error = NULL;
	struct args args = { 0 };
	int r = target_parse(&command_token, &args, argc, argv, &t);

	if (r != COMMAND_GO)
		return r;
	r = token_read("token", args.token_file, &token, &error);
	if (r)
		return command_failed(&args.common, r, error);
	r = give(&args.common, &t, token);
	if (r != COMMAND_GO)
		return r;
	printf(args.common.json ? "{\"ok\":true}\n" : "the volume has another token\n");
	return EXIT_CODE_OK;
}
