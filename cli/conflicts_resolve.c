#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/io.h"
#include "base/secret.h"
#include "cache/merge.h"
#include "cli/commands.h"
#include "cli/conflicts.h"
#include "cli/show.h"

struct args {
	struct command_common common;
	bool ours, theirs, both;
	const char *merged;
};

static const struct option_def options[] = {
	{ "ours", 0, OPTION_FLAG, offsetof(struct args, ours),
		.help = "the name gets what you wrote (the copy's content); the copy goes" },
	{ "theirs", 0, OPTION_FLAG, offsetof(struct args, theirs),
		.help = "the name keeps the origin's version; the copy goes" },
	{ "both", 0, OPTION_FLAG, offsetof(struct args, both),
		.help = "both files stay; the copy's name has no `conflict` any more (the "
			"default)" },
	{ "merged", 0, OPTION_STRING, offsetof(struct args, merged), .arg = "FILE",
		.help = "the name gets the content of FILE (at most 4 MiB); the copy goes" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run(int argc, char **argv);

const struct command command_conflicts_resolve = {
	.name = "conflicts resolve",
	.usage = "[OPTIONS] ID [NAME|PATH]",
	.summary = "Settle a conflict by the side that counts",
	.details = "One step: the name gets the content and the copy goes, or nothing is changed. "
		   "It is "
		   "sent as a\n"
		   "change of the origin's version, so a newer one there is never overwritten: "
		   "that would "
		   "be the\n"
		   "next conflict. Where one side was a deletion, --ours or --theirs carries it "
		   "out.\n",
	.options = options,
	.run = run,
};

static const char *pick_of(const struct args *args)
{
	return args->ours ? "ours" : args->theirs ? "theirs" : args->merged ? "merged" : "both";
}

static int add_content(const struct args *args, struct json *request)
{
	char *text = NULL;
	size_t len;
	int r;

	if (!args->merged)
		return COMMAND_GO;
	r = io_read_file(AT_FDCWD, args->merged, MERGE_MAX_BYTES, &text, &len);
	if (r)
		return command_fail(&args->common, EXIT_CODE_USAGE, "%s cannot be read: %s",
			args->merged, error_text(r));
	json_set_bytes(request, "content", (const uint8_t *)text, len);
	secret_wipe(text, len);
	free(text);
	return COMMAND_GO;
}

static int run(int argc, char **argv)
{
	_cleanup_json_ struct json *request = json_new_object(), *reply = NULL;
	_cleanup_target_ struct target t = { 0 };
	struct args args = { 0 };
	uint64_t id;
	int r = conflicts_parse_one(&command_conflicts_resolve, &args, &t, &id, argc, argv);

	if (r == COMMAND_GO && args.ours + args.theirs + args.both + (args.merged != NULL) > 1)
		r = command_fail(&args.common, EXIT_CODE_USAGE,
			"only one of --ours, --theirs, --both and --merged can be what counts");
	if (r == COMMAND_GO)
		r = add_content(&args, request);
	if (r != COMMAND_GO)
		return r;
	json_set_string(request, "do", "resolve");
	json_set_u64(request, "id", id);
	json_set_string(request, "pick", pick_of(&args));
	r = target_ask(&args.common, &t, request, TARGET_DIRECT, TARGET_TIMEOUT_MS, &reply);
	if (r != COMMAND_GO)
		return r;
	if (args.common.json)
		return show_json(reply);
	printf("settled\n");
	return EXIT_CODE_OK;
}
