/* What a server's data directory has: tokens, accounts, stores, devices. */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "cli/commands.h"
#include "cli/show.h"
#include "server/server.h"

static const struct option_def options[] = { COMMAND_COMMON, OPTION_END };

static int run_token_ls(int argc, char **argv);
static int run_account_ls(int argc, char **argv);
static int run_store_ls(int argc, char **argv);
static int run_device_ls(int argc, char **argv);

const struct command command_serve_token_ls = {
	.name = "serve token ls",
	.usage = "[OPTIONS] DIR",
	.summary = "List the tokens of a server, without the tokens themselves",
	.options = options,
	.run = run_token_ls,
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

const struct command command_serve_device_ls = {
	.name = "serve device ls",
	.usage = "[OPTIONS] DIR",
	.summary = "List the devices enrolled at a server",
	.details =
		"One line each: dkid, state, when it was last seen, its account, the id and name "
		"it gave itself,\n"
		"and the number of its token.\n",
	.options = options,
	.run = run_device_ls,
};

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
	struct command_common args = { 0 };
	const struct json *array;
	int first, r = command_parse(c, &args, argc, argv, 1, 1, &first);

	if (r != COMMAND_GO)
		return r;
	r = server_list(argv[first], what, &o, &error);
	if (r)
		return command_failed(&args, r, error);
	if (args.json) {
		json_set_bool(o, "ok", true);
		return show_json(o);
	}
	array = show_member(o, member);
	for (const struct json *e = array ? json_first(array) : NULL; e; e = json_next(e))
		print(e);
	return EXIT_CODE_OK;
}

static int run_token_ls(int argc, char **argv)
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

static void print_device(const struct json *o)
{
	const char *dkid = show_string(o, "dkid"), *state = show_string(o, "state"),
		   *account = show_string(o, "account"), *id = show_string(o, "device_id"),
		   *name = show_string(o, "name");
	char age[SHOW_MAX];

	printf("%s  %-9s  %-14s  ", dkid ? dkid : "?", state ? state : "?",
		show_age(show_i64(o, "seenAt") * NS_PER_SEC, age));
	show_text(stdout, account ? account : "?");
	printf("  ");
	show_text(stdout, id ? id : "?");
	printf("  ");
	show_text(stdout, name ? name : "-");
	printf("  token %" PRIu64 "\n", show_u64(o, "token"));
}

static int run_device_ls(int argc, char **argv)
{
	return list(
		&command_serve_device_ls, SERVER_LIST_DEVICES, "devices", print_device, argc, argv);
}
