#include <stdio.h>

#include "cache/passphrase.h"
#include "cli/commands.h"
#include "cli/target.h"

static const struct option_def options[] = { COMMAND_COMMON, OPTION_END };

static int run(int argc, char **argv);

const struct command command_passphrase = {
	.name = "passphrase",
	.usage = "[OPTIONS] [NAME]",
	.summary = "Change the passphrase of a volume",
	.details =
		"For volumes made with the key source passphrase:, alone or behind server:. The "
		"old "
		"one is asked for, then\n"
		"the new one twice; with passphrase:fd=N the old and the new are one line each of "
		"that file descriptor.\n"
		"Nothing is encrypted again. The new one is proved to open the volume before the "
		"old one goes; killed at\n"
		"any moment it is one or the other. The volume must not be mounted.\n\n"
		"What it does not do: copies of the volume's keyring.json made earlier open with "
		"the old passphrase, and\n"
		"the keys inside stay the same.\n\n"
		"Exit codes: 6 this is not the passphrase, 8 the volume is mounted.\n",
	.options = options,
	.run = run,
};

static int run(int argc, char **argv)
{
	_cleanup_target_ struct target t = { 0 };
	_cleanup_free_ char *dir = NULL, *error = NULL;
	struct command_common args = { 0 };
	int r = target_parse(&command_passphrase, &args, argc, argv, &t);

	if (r != COMMAND_GO)
		return r;
	r = config_volume_dir(t.config, &dir);
	if (!r)
		r = passphrase_change(dir, t.config->key_source, &error);
	if (r)
		return command_failed(&args, r, error);
	printf(args.json ? "{\"ok\":true}\n" : "the passphrase is changed\n");
	return EXIT_CODE_OK;
}
