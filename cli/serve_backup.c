/* Backups of a server's data directory, also while a server runs on it. */
#include <inttypes.h>
#include <stdio.h>

#include "cli/commands.h"
#include "cli/show.h"
#include "server/server.h"

static const struct option_def options[] = { COMMAND_COMMON, OPTION_END };

static int run_backup(int argc, char **argv);
static int run_restored(int argc, char **argv);

const struct command command_serve_backup = {
	.name = "serve backup",
	.usage = "[OPTIONS] DIR DEST",
	.summary = "Make a consistent copy of a server's data, also while it runs",
	.details =
		"DEST must not exist. To restore, copy it to where the server is to serve it: "
		"clients "
		"then see that the\n"
		"server went back, stop, and ask their users. The master key is not in it: keep a "
		"copy of DIR/master.key\n"
		"elsewhere, and put it into what is restored.\n"
		"What devices were given after the backup (keys, tokens, enrolments) is not in it "
		"either.\n",
	.options = options,
	.run = run_backup,
};

const struct command command_serve_restored = {
	.name = "serve restored",
	.usage = "[OPTIONS] DIR",
	.summary = "Say that DIR went back in time some other way than by a backup",
	.details =
		"After a snapshot or a plain copy of DIR was put back: the next server that starts "
		"on it has a new epoch,\n"
		"as after restoring a backup.\n\nExit codes: 8 a server serves DIR.\n",
	.options = options,
	.run = run_restored,
};

static int run_backup(int argc, char **argv)
{
	_cleanup_free_ char *error = NULL;
	struct server_backup_report report;
	struct command_common args = { 0 };
	char size[SHOW_MAX];
	int first, r = command_parse(&command_serve_backup, &args, argc, argv, 2, 2, &first);

	if (r != COMMAND_GO)
		return r;
	r = server_backup(argv[first], argv[first + 1], &report, &error);
	if (r)
		return command_failed(&args, r, error);
	if (args.json)
		printf("{\"ok\":true,\"files\":%" PRIu64 ",\"bytes\":%" PRIu64 "}\n", report.files,
			report.bytes);
	else
		printf("the backup is complete: the database and %" PRIu64 " content files (%s); "
		       "the master key is not in it\n",
			report.files, show_bytes(report.bytes, size));
	return EXIT_CODE_OK;
}

static int run_restored(int argc, char **argv)
{
	_cleanup_free_ char *error = NULL;
	struct command_common args = { 0 };
	int first, r = command_parse(&command_serve_restored, &args, argc, argv, 1, 1, &first);

	if (r != COMMAND_GO)
		return r;
	r = server_restored(argv[first], &error);
	if (r)
		return command_failed(&args, r, error);
	printf("%s\n", args.json ? "{\"ok\":true}" : "the next server on it has a new epoch");
	return EXIT_CODE_OK;
}
