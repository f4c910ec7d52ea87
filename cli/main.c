#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "base/secret.h"
#include "cli/command.h"
#include "cli/commands.h"

/* `cachet --help` and `cachet --version` are the verbs. */
static const char *verb_of(const char *word)
{
	if (!strcmp(word, "--help") || !strcmp(word, "-h"))
		return "help";
	if (!strcmp(word, "--version") || !strcmp(word, "-V"))
		return "version";
	return word;
}

static int no_such_verb(const char *word)
{
	return command_fail(
		NULL, EXIT_CODE_USAGE, "there is no verb '%.64s'; `cachet help` lists them", word);
}

int main(int argc, char **argv)
{
	char *only_help[] = { "cachet", "help", NULL };
	const struct command *c;
	int words;

	if (argc < 2) {
		argc = 2;
		argv = only_help;
	}
	argv[1] = (char *)verb_of(argv[1]);
	c = command_find(argc - 1, argv + 1, &words);
	if (!c)
		return no_such_verb(argv[1]);
	if (secret_init(c->mounts))
		return command_fail(NULL, EXIT_CODE_FAILED,
			"the system gives no random numbers or no "
			"process limits; cannot keep secrets");
	return c->run(argc - words, argv + words);
}
