#include <inttypes.h>
#include <stdio.h>

#include "cli/commands.h"
#include "cli/show.h"
#include "cli/target.h"
#include "sync/sync.h"

#define NOT_SAID UINT64_MAX

struct args {
	struct command_common common;
	uint64_t upload_rate, download_rate;
};

static const struct option_def options[] = {
	{ "upload-rate", 0, OPTION_BYTES, offsetof(struct args, upload_rate), .arg = "BYTES",
		.help = "send at most so much a second; 0: no bound" },
	{ "download-rate", 0, OPTION_BYTES, offsetof(struct args, download_rate), .arg = "BYTES",
		.help = "fetch at most so much a second; 0: no bound" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run(int argc, char **argv);

const struct command command_online = {
	.name = "online",
	.usage = "[OPTIONS] [NAME|PATH]",
	.summary = "Connect again after `cachet offline`; bound what the link may take",
	.details =
		"Probes the origin at once. The bounds (32768 bytes a second or more) hold for all "
		"transfers together, until\n"
		"the volume is mounted again; the members upload_rate and download_rate of the "
		"configuration hold\n"
		"always. Small changes do not wait for large uploads.\n\n"
		"Exit code 3: the volume is not mounted.\n",
	.options = options,
	.run = run,
};

static void print_rate(const struct json *o, const char *key, const char *what)
{
	char size[SHOW_MAX];

	if (show_u64(o, key))
		printf("%s: at most %s a second\n", what, show_bytes(show_u64(o, key), size));
}

static int run(int argc, char **argv)
{
	_cleanup_json_ struct json *request = json_new_object(), *reply = NULL;
	_cleanup_target_ struct target t = { 0 };
	struct args args = { .upload_rate = NOT_SAID, .download_rate = NOT_SAID };
	int r = target_parse(&command_online, &args, argc, argv, &t);

	if (r != COMMAND_GO)
		return r;
	json_set_string(request, "do", "online");
	if (args.upload_rate != NOT_SAID)
		json_set_u64(request, "upload_rate", args.upload_rate);
	if (args.download_rate != NOT_SAID)
		json_set_u64(request, "download_rate", args.download_rate);
	r = target_ask(&args.common, &t, request, TARGET_DAEMON, TARGET_TIMEOUT_MS, &reply);
	if (r != COMMAND_GO)
		return r;
	if (args.common.json)
		return show_json(reply);
	printf("online mode: the origin is being tried\n");
	print_rate(reply, "upload_rate", "upload");
	print_rate(reply, "download_rate", "download");
	return EXIT_CODE_OK;
}
