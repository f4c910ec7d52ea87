#include <inttypes.h>
#include <stdio.h>

#include "cli/commands.h"
#include "cli/show.h"
#include "cli/target.h"

#define PATHS_MAX 10000
#define BAR 30

static const struct option_def options[] = { COMMAND_COMMON, OPTION_END };

static int run(int argc, char **argv);

const struct command command_warm = {
	.name = "warm",
	.usage = "[OPTIONS] PATH...",
	.summary = "Fetch files now, behind whatever programs read",
	.details =
		"PATH is a file, a directory with all below it, or a quoted pattern as of `cachet "
		"pin`. Interrupted, or\n"
		"when the link breaks, what has come stays, and the same command goes on from "
		"there. What is warm may be\n"
		"dropped later when room is needed; `cachet pin` keeps it.\n\n"
		"Exit codes: 1 some files could not be fetched (the bound leaves no room, or the "
		"origin does not give\n"
		"them), 4 the origin cannot be reached, 5 it refuses the token.\n",
	.options = options,
	.run = run,
};

struct sum {
	uint64_t files, bytes, failed, left_files, left_bytes;
};

static void draw(const struct sum *s, bool done)
{
	uint64_t of = s->bytes + s->left_bytes;
	int filled = done || !of ? BAR : (int)((double)s->bytes / (double)of * BAR);
	char bytes[SHOW_MAX], files[SHOW_MAX];

	fprintf(stderr, "\r[%.*s%*s] %s, %s   ", filled, "##############################",
		BAR - filled, "", show_count(s->files, "file", "files", files),
		show_bytes(s->bytes, bytes));
	if (done)
		fputc('\n', stderr);
}

static int ask(const struct command_common *common, const struct target *t, uint64_t skip,
	struct json **reply)
{
	_cleanup_json_ struct json *request = json_new_object();

	json_set_string(request, "do", "warm");
	json_set_string(request, "path", t->path);
	json_set_u64(request, "skip", skip);
	return target_ask(common, t, request, TARGET_DAEMON, 0, reply);
}

/* Slice after slice: each looks at what is still missing. */
static int warm_one(const struct command_common *common, const char *word, bool bar, struct sum *s)
{
	_cleanup_target_ struct target t = { 0 };
	uint64_t skip = 0;
	int r = target_find_path(common, word, &t);

	while (r == COMMAND_GO) {
		_cleanup_json_ struct json *reply = NULL;

		r = ask(common, &t, skip, &reply);
		if (r != COMMAND_GO)
			break;
		s->files += show_u64(reply, "files");
		s->bytes += show_u64(reply, "bytes");
		skip += show_u64(reply, "failed");
		s->left_files = show_u64(reply, "left_files");
		s->left_bytes = show_u64(reply, "left_bytes");
		if (bar)
			draw(s, !s->left_files);
		if (!s->left_files)
			break;
	}
	s->failed += skip;
	return r;
}

static int print_json(const struct sum *s)
{
	_cleanup_json_ struct json *o = json_new_object();

	json_set_bool(o, "ok", !s->failed);
	json_set_u64(o, "files", s->files);
	json_set_u64(o, "bytes", s->bytes);
	json_set_u64(o, "failed", s->failed);
	return show_json(o);
}

static int run(int argc, char **argv)
{
	struct command_common args = { 0 };
	char files[SHOW_MAX], bytes[SHOW_MAX];
	struct sum s = { 0 };
	int first, r = command_parse(&command_warm, &args, argc, argv, 1, PATHS_MAX, &first);
	bool bar = r == COMMAND_GO && isatty(STDERR_FILENO) && !args.json;

	for (int i = first; r == COMMAND_GO && i < argc; i++)
		r = warm_one(&args, argv[i], bar, &s);
	if (r != COMMAND_GO)
		return r;
	if (args.json) {
		r = print_json(&s);
	} else {
		printf("%s fetched, %s\n", show_count(s.files, "file", "files", files),
			show_bytes(s.bytes, bytes));
		if (s.failed)
			printf("%s could not be fetched\n",
				show_count(s.failed, "file", "files", files));
	}
	return s.failed ? EXIT_CODE_FAILED : EXIT_CODE_OK;
}
