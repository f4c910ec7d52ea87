/* The administration of a server's data directory, also while a server runs on it. */
#include <inttypes.h>
#include <stdio.h>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/show.h"
#include "server/server.h"

struct args {
	struct command_common common;
	const char *account, *store;
};

static const struct option_def store_options[] = {
	{ "account", 'a', OPTION_STRING, offsetof(struct args, account), .arg = "ACCOUNT",
		.help = "give it to this account; once given, only accounts it was given to open "
			"it" },
	COMMAND_COMMON,
	OPTION_END,
};

static const struct option_def import_options[] = {
	{ "store", 's', OPTION_STRING, offsetof(struct args, store), .arg = "STORE",
		.help = "the store to fill, made if missing (required)" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run_store_add(int argc, char **argv);
static int run_import(int argc, char **argv);

const struct command command_serve_store_add = {
	.name = "serve store add",
	.usage = "[OPTIONS] NAME DIR",
	.summary = "Make a store, or give it to an account",
	.details =
		"A store is open to every account until it is given to one; run it again to give "
		"it to others.\n",
	.options = store_options,
	.run = run_store_add,
};

const struct command command_serve_import = {
	.name = "serve import",
	.usage = "--store STORE [OPTIONS] DIR SRC",
	.summary = "Copy a plain directory into a store",
	.details = "SRC stays as it is. Files, directories and symbolic links are taken, other "
		   "kinds are skipped and\n"
		   "counted. Importing the same tree again changes only what differs.\n",
	.options = import_options,
	.run = run_import,
};

static int run_store_add(int argc, char **argv)
{
	_cleanup_free_ char *error = NULL;
	struct args args = { 0 };
	int first, r = command_parse(&command_serve_store_add, &args, argc, argv, 2, 2, &first);

	if (r != COMMAND_GO)
		return r;
	r = server_store_add(argv[first + 1], argv[first], &error);
	if (!r && args.account)
		r = server_store_grant(argv[first + 1], argv[first], args.account, &error);
	if (r)
		return command_failed(&args.common, r, error);
	printf("%s\n", args.common.json ? "{\"ok\":true}" : "the store is there");
	return EXIT_CODE_OK;
}

static int print_import(const struct args *args, const struct server_import_report *n)
{
	_cleanup_json_ struct json *o = NULL;
	char size[SHOW_MAX];

	if (!args->common.json) {
		printf("imported %" PRIu64 " files (%s), %" PRIu64 " directories, %" PRIu64
		       " symbolic links",
			n->files, show_bytes(n->bytes, size), n->dirs, n->symlinks);
		if (n->skipped)
			printf("; skipped %" PRIu64 " of other kinds", n->skipped);
		putchar('\n');
		return EXIT_CODE_OK;
	}
	o = json_new_object();
	json_set_bool(o, "ok", true);
	json_set_u64(o, "files", n->files);
	json_set_u64(o, "directories", n->dirs);
	json_set_u64(o, "symlinks", n->symlinks);
	json_set_u64(o, "bytes", n->bytes);
	json_set_u64(o, "skipped", n->skipped);
	return show_json(o);
}

static int run_import(int argc, char **argv)
{
	_cleanup_free_ char *error = NULL;
	struct server_import_report report = { 0 };
	struct args args = { 0 };
	int first, r = command_parse(&command_serve_import, &args, argc, argv, 2, 2, &first);

	if (r != COMMAND_GO)
		return r;
	if (!args.store)
		return command_fail(
			&args.common, EXIT_CODE_USAGE, "say into which store: --store STORE");
	r = server_import(argv[first], args.store, argv[first + 1], &report, &error);
	return r ? command_failed(&args.common, r, error) : print_import(&args, &report);
}
