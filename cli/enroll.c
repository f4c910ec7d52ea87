#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cache/enrolment.h"
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
		.help = "a new bearer token, from FILE, or from standard input if -" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run(int argc, char **argv);

const struct command command_enroll = {
	.name = "enroll",
	.usage = "[OPTIONS] [NAME]",
	.summary = "Enrol this machine at the server that holds the key of a volume",
	.details =
		"For volumes made with `cachet init --key server`, which enrols them; again "
		"after the server revoked this\n"
		"machine and its owner allows it anew: what had not been sent then is sent at "
		"the next mount. The volume\n"
		"must not be mounted. A failure names the step that failed.\n\n"
		"Exit codes: 4 the server cannot be reached, 5 it refuses the token, 6 the device "
		"secret is wrong.\n",
	.options = options,
	.run = run,
};

static int enrol(const struct args *args, const struct config *c, char **error)
{
	_cleanup_(carry_freep) struct carry *carry = NULL;
	_cleanup_secret_ struct secret *token = NULL;
	_cleanup_free_ char *dir = NULL;
	struct volume_enrol_options o = { .key_source = c->key_source };
	int r = opening_carry(c, &carry, error);

	if (!r && !carry) {
		*error = strdup("the key of this volume is not one of the server's");
		return CE_USAGE;
	}
	if (!r && args->token_file)
		r = token_read("token", args->token_file, &token, error);
	if (!r)
		r = config_volume_dir(c, &dir);
	if (r)
		return r;
	o.dir = dir;
	o.link = carry_link(carry);
	o.token = token;
	return volume_enrol(&o, error);
}

static int run(int argc, char **argv)
{
	_cleanup_target_ struct target target = { 0 };
	_cleanup_free_ char *error = NULL;
	struct args args = { 0 };
	int r = target_parse(&command_enroll, &args, argc, argv, &target);

	if (r != COMMAND_GO)
		return r;
	r = enrol(&args, target.config, &error);
	if (r)
		return command_failed(&args.common, r, error);
	if (args.common.json)
		printf("{\"ok\":true}\n");
	else
		printf("enrolled; `cachet mount %s` opens the volume\n", target.config->name);
	return EXIT_CODE_OK;
}
