#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/completion.h"
#include "cli/show.h"

struct args {
	struct command_common common;
	const char *completion;
};

static const struct option_def options[] = {
	{ "completion", 0, OPTION_STRING, offsetof(struct args, completion), .arg = "SHELL",
		.help = "print the completion script for bash, zsh or fish" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run(int argc, char **argv);

const struct command command_help = {
	.name = "help",
	.usage = "[OPTIONS] [VERB]",
	.summary = "Print the list of verbs, or the help of one",
	.options = options,
	.run = run,
};

#define COLUMN 22

static void print_list(void)
{
	printf("Usage: cachet VERB [OPTIONS] [ARGUMENTS]\n\n"
	       "Mounts a server's records as ordinary files, keeps a sealed copy on this disk so "
	       "that they are\n"
	       "there without a network, and carries edits back.\n\nVerbs:\n");
	for (size_t i = 0; command_table[i]; i++)
		printf("  %-*s%s\n", COLUMN, command_table[i]->name, command_table[i]->summary);
	printf("\n`cachet VERB --help` shows the options of one; the manual is cachet(1).\n");
}

static int print_json(void)
{
	_cleanup_json_ struct json *o = json_new_object();
	struct json *verbs = json_set_array(o, "verbs");

	for (size_t i = 0; command_table[i]; i++) {
		const struct command *c = command_table[i];
		struct json *verb = json_append_object(verbs), *list;

		json_set_string(verb, "name", c->name);
		json_set_string(verb, "usage", c->usage);
		json_set_string(verb, "summary", c->summary);
		list = json_set_array(verb, "options");
		for (const struct option_def *def = c->options; def->name; def++)
			json_append_string(list, def->name);
	}
	return show_json(o);
}

static int run(int argc, char **argv)
{
	const struct command *c;
	struct args args = { 0 };
	int words, first, r = command_parse(&command_help, &args, argc, argv, 0, 8, &first);

	if (r != COMMAND_GO)
		return r;
	if (args.completion && completion_print(args.completion, stdout))
		return command_fail(&args.common, EXIT_CODE_USAGE,
			"there is no completion for '%.32s'; there is for bash, zsh and fish",
			args.completion);
	if (args.completion)
		return EXIT_CODE_OK;
	if (args.common.json)
		return print_json();
	if (first == argc) {
		print_list();
		return EXIT_CODE_OK;
	}
	c = command_find(argc - first, argv + first, &words);
	if (!c || words < argc - first)
		return command_fail(&args.common, EXIT_CODE_USAGE,
			"there is no verb of that name; `cachet help` lists them");
	command_print_help(c);
	return EXIT_CODE_OK;
}
