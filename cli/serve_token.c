/* Tokens, accounts and stores of a server's data directory, also while a server runs on it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/error.h"
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
static int run_ls(int argc, char **argv);
static int run_revoke(int argc, char **argv);
static int run_account_ls(int argc, char **argv);
static int run_store_ls(int argc, char **argv);
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

const struct command command_serve_token_ls = {
	.name = "serve token ls",
	.usage = "[OPTIONS] DIR",
	.summary = "List the tokens of a server, without the tokens themselves",
	.options = options,
	.run = run_ls,
};

const struct command command_serve_token_revoke = {
	.name = "serve token revoke",
	.usage = "[OPTIONS] NUMBER DIR",
	.summary = "Revoke a token, at once and for ever",
	.details = "NUMBER is that of serve token ls.\n\nExit codes: 1 there is no such token.\n",
	.options = options,
	.run = run_revoke,
};

const struct command command_serve_account_ls = {
	.name = "serve account ls",
	.usage = "[OPTIONS] DIR",
	.summary = "List the accounts of a server",
	.options = options,
	.run = run_account_ls,
};

const struct command command_serve_store_ls = {
	.name = "serve store ls",
	.usage = "[OPTIONS] DIR",
	.summary = "List the stores of a server, and who opens them",
	.options = options,
	.run = run_store_ls,
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

static int failed(const struct args *args, int r, const char *error)
{
	return command_fail(&args->common, exit_code_of(r), "%s", error ? error : error_text(r));
}

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
	return r ? failed(&args, r, error) : print_token(&args, token);
}

static void print_day(const struct json *o, const char *key, const char *never)
{
	time_t t = (time_t)show_i64(o, key);
	char text[32];
	struct tm tm;

	if (t && gmtime_r(&t, &tm) && strftime(text, sizeof(text), "%Y-%m-%d %H:%MZ", &tm))
		printf("%-17s  ", text);
	else
		printf("%-17s  ", never);
}

static void print_stores(const struct json *o, const char *none)
{
	const struct json *list = show_member(o, "stores"), *e = list ? json_first(list) : NULL;

	if (!e)
		printf("%s", none);
	for (; e; e = json_next(e))
		printf("%s ", json_string(e));
}

static void print_one_token(const struct json *o)
{
	const char *state = show_string(o, "state"), *account = show_string(o, "account");

	printf("%6" PRIu64 "  %-8s  %-10s  ", show_u64(o, "id"), state ? state : "?",
		show_bool(o, "admin")      ? "admin"
		: show_bool(o, "readOnly") ? "read-only"
					   : "read-write");
	print_day(o, "createdAt", "?");
	print_day(o, "expiresAt", "no end");
	show_text(stdout, account ? account : "?");
	printf("  ");
	print_stores(o, show_bool(o, "admin") ? "-" : "all stores of the account");
	putchar('\n');
}

static void print_account(const struct json *o)
{
	const char *name = show_string(o, "name");

	print_day(o, "createdAt", "?");
	printf("%4" PRIu64 " tokens  %4" PRIu64 " devices  ", show_u64(o, "tokens"),
		show_u64(o, "devices"));
	show_text(stdout, name ? name : "?");
	printf("  ");
	print_stores(o, "");
	putchar('\n');
}

static int list(const struct command *c, enum server_list what, const char *member,
	void (*print)(const struct json *o), int argc, char **argv)
{
	_cleanup_free_ char *error = NULL;
	_cleanup_json_ struct json *o = NULL;
	struct args args = { 0 };
	const struct json *array;
	int first, r = command_parse(c, &args, argc, argv, 1, 1, &first);

	if (r != COMMAND_GO)
		return r;
	r = server_list(argv[first], what, &o, &error);
	if (r)
		return failed(&args, r, error);
	if (args.common.json) {
		json_set_bool(o, "ok", true);
		return show_json(o);
	}
	array = show_member(o, member);
	for (const struct json *e = array ? json_first(array) : NULL; e; e = json_next(e))
		print(e);
	return EXIT_CODE_OK;
}

static int run_ls(int argc, char **argv)
{
	return list(
		&command_serve_token_ls, SERVER_LIST_TOKENS, "tokens", print_one_token, argc, argv);
}

static int run_account_ls(int argc, char **argv)
{
	return list(&command_serve_account_ls, SERVER_LIST_ACCOUNTS, "accounts", print_account,
		argc, argv);
}

static void print_store(const struct json *o)
{
	const struct json *list = show_member(o, "accounts");
	char size[SHOW_MAX];

	printf("%-20s  %8" PRIu64 " records  %10s  ", show_string(o, "id"), show_u64(o, "records"),
		show_bytes(show_u64(o, "bytes"), size));
	if (show_bool(o, "open"))
		printf("open to every account");
	for (const struct json *e = list ? json_first(list) : NULL; e; e = json_next(e)) {
		show_text(stdout, json_string(e));
		putchar(' ');
	}
	putchar('\n');
}

static int run_store_ls(int argc, char **argv)
{
	return list(&command_serve_store_ls, SERVER_LIST_STORES, "stores", print_store, argc, argv);
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
	return r ? failed(&args, r, error) : done(&args, "the token is revoked");
}

static int run_account_close(int argc, char **argv)
{
	_cleanup_free_ char *error = NULL;
	struct args args = { 0 };
	int first, r = command_parse(&command_serve_account_close, &args, argc, argv, 2, 2, &first);

	if (r != COMMAND_GO)
		return r;
	r = server_account_close(argv[first + 1], argv[first], &error);
	return r ? failed(&args, r, error) : done(&args, "the account is closed");
}
