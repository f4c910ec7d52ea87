/* Tokens and accounts of a server's data directory, also while a server runs on it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/secret.h"
#include "cli/commands.h"
#include "cli/show.h"
#include "server/server.h"

struct args {
	struct command_common common;
	const char *account, *stores;
	bool read_only, admin;
	uint64_t expires_ms;
};

static const struct option_def add_options[] = {
	{ "account", 'a', OPTION_STRING, offsetof(struct args, account), .arg = "ACCOUNT",
		.help = "whose token it is (required)" },
	{ "store", 's', OPTION_STRING, offsetof(struct args, stores), .arg = "STORE[,STORE]",
		.help = "the only stores it opens (default: all of the account)" },
	{ "read-only", 'r', OPTION_FLAG, offsetof(struct args, read_only),
		.help = "it changes nothing" },
	{ "admin", 0, OPTION_FLAG, offsetof(struct args, admin),
		.help = "it administers the server over HTTP, and opens no store" },
	{ "expires", 'e', OPTION_DURATION, offsetof(struct args, expires_ms), .arg = "TIME",
		.help = "it is good for so long, as 90d (default: until revoked)" },
	COMMAND_COMMON,
	OPTION_END,
};

static const struct option_def options[] = { COMMAND_COMMON, OPTION_END };

static int run_add(int argc, char **argv);
static int run_revoke(int argc, char **argv);
static int run_account_close(int argc, char **argv);

const struct command command_serve_token_add = {
	.name = "serve token add",
	.usage = "--account ACCOUNT [OPTIONS] DIR",
	.summary = "Make a token and print it, once",
	.details = "The server keeps only a hash of it. Hand it to `cachet init --token-file -` or "
		   "keep it in a file\n"
		   "with mode 0600. The account is made if it is new.\n",
	.options = add_options,
	.run = run_add,
};

const struct command command_serve_token_revoke = {
	.name = "serve token revoke",
	.usage = "[OPTIONS] NUMBER DIR",
	.summary = "Revoke a token, at once and for ever",
	.details = "NUMBER is that of serve token ls.\n\nExit codes: 1 there is no such token.\n",
	.options = options,
	.run = run_revoke,
};

const struct command command_serve_account_close = {
	.name = "serve account close",
	.usage = "[OPTIONS] ACCOUNT DIR",
	.summary = "Revoke all tokens of an account and take its stores away",
	.details = "What it wrote stays, and so do its keys: a new token opens the account "
		   "again.\n",
	.options = options,
	.run = run_account_close,
};

static int print_token(const struct args *args, char *token)
{
	printf(args->common.json ? "{\"ok\":true,\"token\":\"%s\"}\n" : "%s\n", token);
	fflush(stdout);
	secret_wipe(token, strlen(token));
	free(token);
	return EXIT_CODE_OK;
}

static int run_add(int argc, char **argv)
{
	_cleanup_free_ char *error = NULL;
	struct args args = { 0 };
	struct server_token_options o;
	char *token;
	int first, r = command_parse(&command_serve_token_add, &args, argc, argv, 1, 1, &first);

	if (r != COMMAND_GO)
		return r;
	if (!args.account)
		return command_fail(
			&args.common, EXIT_CODE_USAGE, "say whose token it is: --account ACCOUNT");
	o = (struct server_token_options){
		.account = args.account,
		.stores = args.stores,
		.read_only = args.read_only,
		.admin = args.admin,
	};
	if (args.expires_ms)
		o.expires_at = clock_wall_ns() / NS_PER_SEC +
			       (int64_t)MIN_OF(args.expires_ms, UINT64_C(1) << 50) / 1000;
	r = server_token_add(argv[first], &o, &token, &error);
	return r ? command_failed(&args.common, r, error) : print_token(&args, token);
}

static int done(const struct args *args, const char *sentence)
{
	printf("%s\n", args->common.json ? "{\"ok\":true}" : sentence);
	return EXIT_CODE_OK;
}

static int run_revoke(int argc, char **argv)
{
	_cleanup_free_ char *error = NULL;
	struct args args = { 0 };
	char *end;
	int64_t n;
	int first, r = command_parse(&command_serve_token_revoke, &args, argc, argv, 2, 2, &first);

	if (r != COMMAND_GO)
		return r;
	n = strtoll(argv[first], &end, 10);
	if (*end || n <= 0)
		return command_fail(&args.common, EXIT_CODE_USAGE,
			"say which token by its number; `cachet serve token ls` has it");
	r = server_token_revoke(argv[first + 1], n, &error);
	return r ? command_failed(&args.common, r, error) : done(&args, "the token is revoked");
}

static int run_account_close(int argc, char **argv)
{
	_cleanup_free_ char *error = NULL;
	struct args args = { 0 };
	int first, r = command_parse(&command_serve_account_close, &args, argc, argv, 2, 2, &first);

	if (r != COMMAND_GO)
		return r;
	r = server_account_close(argv[first + 1], argv[first], &error);
	return r ? command_failed(&args.common, r, error) : done(&args, "the account is closed");
}
