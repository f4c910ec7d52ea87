#include <inttypes.h>
#include <stdio.h>

#include "cli/commands.h"
#include "cli/show.h"
#include "cli/target.h"

#define PATHS_MAX 10000

static const struct option_def options[] = { COMMAND_COMMON, OPTION_END };

static int run(int argc, char **argv);

const struct command command_free = {
	.name = "free",
	.usage = "[OPTIONS] PATH...",
	.summary = "Drop the content of files from this disk that the origin has",
	.details =
		"Names and attributes stay; the content is fetched again when it is next read. "
		"What was not sent\n"
		"yet, is pinned or is open stays, and is counted. PATH is a file, a directory with "
		"all below it,\n"
		"or a quoted pattern as of `cachet pin`.\n",
	.options = options,
	.run = run,
};

struct sum {
	uint64_t files, bytes, pinned, kept;
};

static int free_one(const struct command_common *common, const char *word, struct sum *s)
{
	_cleanup_json_ struct json *request = json_new_object(), *reply = NULL;
	_cleanup_target_ struct target t = { 0 };
	int r = target_find_path(common, word, &t);

	json_set_string(request, "do", "free");
	json_set_string(request, "path", t.path);
	if (r == COMMAND_GO)
		r = target_ask(common, &t, request, TARGET_DIRECT, 0, &reply);
	if (r != COMMAND_GO)
		return r;
	s->files += show_u64(reply, "files");
	s->bytes += show_u64(reply, "bytes");
	s->pinned += show_u64(reply, "pinned");
	s->kept += show_u64(reply, "kept");
	return COMMAND_GO;
}

static int print_json(const struct sum *s)
{
	_cleanup_json_ struct json *o = json_new_object();

	json_set_bool(o, "ok", true);
	json_set_u64(o, "files", s->files);
	json_set_u64(o, "bytes", s->bytes);
	json_set_u64(o, "pinned", s->pinned);
	json_set_u64(o, "kept", s->kept);
	return show_json(o);
}

static void print(const struct sum *s)
{
	char files[SHOW_MAX], bytes[SHOW_MAX];

	printf("%s dropped, %s\n", show_count(s->files, "file", "files", files),
		show_bytes(s->bytes, bytes));
	if (s->pinned)
		printf("%s kept: pinned\n", show_count(s->pinned, "file", "files", files));
	if (s->kept)
		printf("%s kept: not sent yet, or open\n",
			show_count(s->kept, "file", "files", files));
}

static int run(int argc, char **argv)
{
	struct command_common args = { 0 };
	struct sum s = { 0 };
	int first, r = command_parse(&command_free, &args, argc, argv, 1, PATHS_MAX, &first);

	for (int i = first; r == COMMAND_GO && i < argc; i++)
		r = free_one(&args, argv[i], &s);
	if (r != COMMAND_GO)
		return r;
	if (args.json)
		return print_json(&s);
	print(&s);
	return EXIT_CODE_OK;
}
