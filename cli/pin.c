#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/show.h"
#include "cli/target.h"

#define PATHS_MAX 10000

struct args {
	struct command_common common;
	bool list;
	const char *set;
};

static const struct option_def pin_options[] = {
	{ "list", 'l', OPTION_FLAG, offsetof(struct args, list),
		.help = "show what is pinned, and how much of it is here" },
	COMMAND_COMMON,
	OPTION_END,
};

static const struct option_def unpin_options[] = {
	{ "set", 0, OPTION_STRING, offsetof(struct args, set), .arg = "NAME",
		.help = "forget a working set that `cachet record` made" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run_pin(int argc, char **argv);
static int run_unpin(int argc, char **argv);

const struct command command_pin = {
	.name = "pin",
	.usage = "[OPTIONS] PATH... | --list [NAME|PATH]",
	.summary = "Keep files and directories on this disk, always",
	.details =
		"What is pinned is fetched at once and is never dropped to make room. A directory "
		"pins all that\n"
		"is below it, also what appears there later, here or at the origin. A PATH may be "
		"a "
		"quoted pattern:\n"
		"* ? [...] match within a name, ** any number of directories ('mnt/**/*.pdf'). A "
		"file that is moved\n"
		"away from under a pin is not pinned any more. Pins are kept by path, sealed, in "
		"the "
		"volume.\n\n"
		"Refused, with nothing changed, when all pins together would not fit into the "
		"bound "
		"of the volume.\n"
		"While the origin cannot be reached, or the volume is not mounted, what is missing "
		"is "
		"fetched later.\n",
	.options = pin_options,
	.run = run_pin,
};

const struct command command_unpin = {
	.name = "unpin",
	.usage = "[OPTIONS] PATH... | --set NAME [NAME|PATH]",
	.summary = "Let files that were pinned go when room is needed",
	.details = "PATH is one that was given to `cachet pin` (`cachet pin --list` shows them). "
		   "The content stays\n"
		   "here until room is needed; `cachet free` drops it now.\n",
	.options = unpin_options,
	.run = run_unpin,
};

/* All paths must be of one volume: that of the first. */
static int gather_paths(
	const struct args *args, char **words, int n, struct json *request, struct target *out)
{
	struct json *list = json_set_array(request, "paths");
	int r = target_find_path(&args->common, words[0], out);

	for (int i = 0; i < n && r == COMMAND_GO; i++) {
		_cleanup_target_ struct target t = { 0 };

		r = target_find_path(&args->common, words[i], &t);
		if (r == COMMAND_GO && strcmp(t.socket, out->socket) != 0)
			return command_fail(&args->common, EXIT_CODE_USAGE,
				"%s belongs to another volume than %s: name those of one at a time",
				words[i], words[0]);
		if (r == COMMAND_GO)
			json_append_string(list, t.path);
	}
	return r;
}

static const char *amount(const struct json *o, char out[static 2 * SHOW_MAX + 8])
{
	char files[SHOW_MAX], bytes[SHOW_MAX];

	snprintf(out, 2 * SHOW_MAX + 8, "%s, %s",
		show_count(show_u64(o, "files"), "file", "files", files),
		show_bytes(show_u64(o, "bytes"), bytes));
	return out;
}

static void print_state(const struct json *o)
{
	char text[2 * SHOW_MAX + 8], bytes[SHOW_MAX], files[SHOW_MAX];

	printf("%s", amount(o, text));
	if (show_u64(o, "missing_files"))
		printf("; %s, %s, to fetch",
			show_count(show_u64(o, "missing_files"), "file", "files", files),
			show_bytes(show_u64(o, "missing_bytes"), bytes));
	putchar('\n');
}

static void print_entry(const struct json *o, const char *key, const char *prefix)
{
	printf("%s", prefix);
	show_text(stdout, show_string(o, key) && *show_string(o, key) ? show_string(o, key) : ".");
	printf("  ");
	print_state(o);
}

static void print_list(const struct json *reply)
{
	const struct json *pins = show_member(reply, "pins"), *sets = show_member(reply, "sets");
	char most[SHOW_MAX];

	for (const struct json *o = pins ? json_first(pins) : NULL; o; o = json_next(o))
		print_entry(o, "pattern", "");
	for (const struct json *o = sets ? json_first(sets) : NULL; o; o = json_next(o))
		print_entry(o, "set", "set ");
	printf("in all  ");
	print_state(reply);
	printf("there is room for %s\n", show_bytes(show_u64(reply, "most_bytes"), most));
}

static int run_list(const struct args *args, const char *word)
{
	_cleanup_json_ struct json *reply = NULL;
	_cleanup_target_ struct target t = { 0 };
	int r = target_find(&args->common, word, &t);

	if (r == COMMAND_GO)
		r = target_do(&args->common, &t, "pins", TARGET_DIRECT, &reply);
	if (r != COMMAND_GO)
		return r;
	if (args->common.json)
		return show_json(reply);
	print_list(reply);
	return EXIT_CODE_OK;
}

static int run_pin(int argc, char **argv)
{
	_cleanup_json_ struct json *request = json_new_object(), *reply = NULL;
	_cleanup_target_ struct target t = { 0 };
	struct args args = { 0 };
	int first, r = command_parse(&command_pin, &args, argc, argv, 0, PATHS_MAX, &first);

	if (r != COMMAND_GO)
		return r;
	if (args.list && argc - first > 1)
		return command_fail(&args.common, EXIT_CODE_USAGE, "--list takes one volume");
	if (args.list)
		return run_list(&args, first < argc ? argv[first] : NULL);
	if (first == argc)
		return command_fail(&args.common, EXIT_CODE_USAGE,
			"an argument is missing: cachet pin %s", command_pin.usage);
	json_set_string(request, "do", "pin");
	r = gather_paths(&args, argv + first, argc - first, request, &t);
	if (r == COMMAND_GO)
		r = target_ask(&args.common, &t, request, TARGET_DIRECT, TARGET_TIMEOUT_MS, &reply);
	if (r != COMMAND_GO)
		return r;
	if (args.common.json)
		return show_json(reply);
	printf("pinned in all: ");
	print_state(reply);
	return EXIT_CODE_OK;
}

static int run_unpin(int argc, char **argv)
{
	_cleanup_json_ struct json *request = json_new_object(), *reply = NULL;
	_cleanup_target_ struct target t = { 0 };
	struct args args = { 0 };
	int first, r = command_parse(&command_unpin, &args, argc, argv, 0, PATHS_MAX, &first);

	if (r != COMMAND_GO)
		return r;
	json_set_string(request, "do", "unpin");
	if (args.set) {
		json_set_string(request, "set", args.set);
		r = target_find(&args.common, first < argc ? argv[first] : NULL, &t);
	} else if (first == argc) {
		return command_fail(&args.common, EXIT_CODE_USAGE,
			"an argument is missing: cachet unpin %s", command_unpin.usage);
	} else {
		r = gather_paths(&args, argv + first, argc - first, request, &t);
	}
	if (r == COMMAND_GO)
		r = target_ask(&args.common, &t, request, TARGET_DIRECT, TARGET_TIMEOUT_MS, &reply);
	if (r != COMMAND_GO)
		return r;
	return args.common.json ? show_json(reply) : EXIT_CODE_OK;
}
