/* Devices and keys of a server's data directory, also while a server runs on it. */
#include <inttypes.h>
#include <stdio.h>

#include "cli/commands.h"
#include "cli/show.h"
#include "server/server.h"

struct args {
	struct command_common common;
	const char *account, *device;
	bool all;
};

static const struct option_def options[] = { COMMAND_COMMON, OPTION_END };

static const struct option_def rotate_options[] = {
	{ "account", 'a', OPTION_STRING, offsetof(struct args, account), .arg = "ACCOUNT",
		.help = "all devices of this account" },
	{ "device", 'd', OPTION_STRING, offsetof(struct args, device), .arg = "DKID",
		.help = "this device" },
	{ "all", 0, OPTION_FLAG, offsetof(struct args, all), .help = "all devices" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run_revoke(int argc, char **argv);
static int run_trust(int argc, char **argv);
static int run_untrust(int argc, char **argv);
static int run_rotate(int argc, char **argv);

const struct command command_serve_device_revoke = {
	.name = "serve device revoke",
	.usage = "[OPTIONS] DKID DIR",
	.summary = "Revoke a device for ever: it erases its keys when it next asks for them",
	.details =
		"Its token stays good, so that it can be told. Who has a token can enrol again, as "
		"a new device: revoke\n"
		"the token of a device that was lost as well (serve token revoke). Unsent work "
		"can be opened again by\n"
		"its owner after enrolling anew. Against a copy of the keys that was made before, "
		"only rekey helps.\n",
	.options = options,
	.run = run_revoke,
};

const struct command command_serve_device_trust = {
	.name = "serve device trust",
	.usage = "[OPTIONS] DKID DIR",
	.summary = "Let an untrusted device keep things on its disk again",
	.options = options,
	.run = run_trust,
};

const struct command command_serve_device_untrust = {
	.name = "serve device untrust",
	.usage = "[OPTIONS] DKID DIR",
	.summary = "Tell a device to keep nothing on its disk",
	.options = options,
	.run = run_untrust,
};

const struct command command_serve_rotate = {
	.name = "serve rotate",
	.usage = "--account ACCOUNT | --device DKID | --all [OPTIONS] DIR",
	.summary = "Give devices new keys; they rewrap theirs when they next look",
	.details =
		"The master key is not needed: the new key is made when the device asks for it. "
		"Old "
		"keys stay on the\n"
		"server, sealed. Rotation does not change the keys of the content: after a leak, "
		"rekey as well.\n",
	.options = rotate_options,
	.run = run_rotate,
};

static int change(const struct command *c, enum server_device_verb verb, const char *sentence,
	int argc, char **argv)
{
	_cleanup_free_ char *error = NULL;
	struct args args = { 0 };
	int first, r = command_parse(c, &args, argc, argv, 2, 2, &first);

	if (r != COMMAND_GO)
		return r;
	r = server_device_do(argv[first + 1], verb, argv[first], &error);
	if (r)
		return command_failed(&args.common, r, error);
	printf("%s\n", args.common.json ? "{\"ok\":true}" : sentence);
	return EXIT_CODE_OK;
}

static int run_revoke(int argc, char **argv)
{
	return change(&command_serve_device_revoke, SERVER_DEVICE_REVOKE,
		"the device is revoked; its token is not", argc, argv);
}

static int run_trust(int argc, char **argv)
{
	return change(&command_serve_device_trust, SERVER_DEVICE_TRUST, "the device is trusted",
		argc, argv);
}

static int run_untrust(int argc, char **argv)
{
	return change(&command_serve_device_untrust, SERVER_DEVICE_UNTRUST,
		"the device is not trusted", argc, argv);
}

static int run_rotate(int argc, char **argv)
{
	_cleanup_free_ char *error = NULL;
	struct args args = { 0 };
	uint64_t n = 0;
	int first, r = command_parse(&command_serve_rotate, &args, argc, argv, 1, 1, &first);

	if (r != COMMAND_GO)
		return r;
	if ((args.account != NULL) + (args.device != NULL) + args.all != 1)
		return command_fail(&args.common, EXIT_CODE_USAGE,
			"say whose keys: one of --account, --device and --all");
	r = server_rotate(argv[first], args.device, args.account, &n, &error);
	if (r)
		return command_failed(&args.common, r, error);
	printf(args.common.json ? "{\"ok\":true,\"rotated\":%" PRIu64 "}\n"
				: "%" PRIu64 " devices have a new key to ask for\n",
		n);
	return EXIT_CODE_OK;
}
