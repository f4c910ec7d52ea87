/* The queries of a store, declared in a server's data directory. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/show.h"
#include "server/query_admin.h"

struct args {
	struct command_common common;
	const char *store, *sql;
};

#define STORE_OPTION                                                                               \
	{                                                                                          \
		"store", 's', OPTION_STRING, offsetof(struct args, store),                         \
			.arg = "STORE", .help = "the store it asks (required)"                     \
	}

static const struct option_def add_options[] = {
	STORE_OPTION,
	{ "sql", 0, OPTION_STRING, offsetof(struct args, sql), .arg = "SQL",
		.help = "the statement (default: standard input)" },
	COMMAND_COMMON,
	OPTION_END,
};
static const struct option_def other_options[] = { STORE_OPTION, COMMAND_COMMON, OPTION_END };

static int run_add(int argc, char **argv);
static int run_ls(int argc, char **argv);
static int run_rm(int argc, char **argv);

const struct command command_serve_query_add = {
	.name = "serve query add",
	.usage = "--store STORE [--sql SQL] NAME DIR",
	.summary = "Declare a query over a store's JSON records",
	.details = "The SQL is one SELECT over the table records(id, parent, name, size, mode, "
		   "mtime_ns, seq, json), which\n"
		   "has the files whose content is JSON, at most 1 MiB. Parameters are written "
		   ":name; they are text, CAST\n"
		   "where a number is meant. A query of the same name is replaced. In a mount its "
		   "answers are the files\n"
		   "STORE/queries/NAME/PARAM=VALUE.json.\n",
	.options = add_options,
	.run = run_add,
};

const struct command command_serve_query_ls = {
	.name = "serve query ls",
	.usage = "--store STORE DIR",
	.summary = "List the queries of a store",
	.options = other_options,
	.run = run_ls,
};

const struct command command_serve_query_rm = {
	.name = "serve query rm",
	.usage = "--store STORE NAME DIR",
	.summary = "Remove a query",
	.options = other_options,
	.run = run_rm,
};

static int parse(
	const struct command *c, struct args *args, int argc, char **argv, int words, int *first)
{
	int r = command_parse(c, args, argc, argv, words, words, first);

	if (r == COMMAND_GO && !args->store)
		return command_fail(
			&args->common, EXIT_CODE_USAGE, "say of which store: --store STORE");
	return r;
}

static int read_sql(struct buffer *out)
{
	char piece[4096];
	ssize_t n;
	int r = 0;

	while (!r && (n = read(STDIN_FILENO, piece, sizeof(piece))) > 0)
		r = buffer_append(out, piece, (size_t)n);
	return r ? r : n < 0 ? -errno : 0;
}

static int run_add(int argc, char **argv)
{
	_cleanup_(buffer_done) struct buffer sql = { .max = 2 * QUERY_SQL_MAX };
	_cleanup_free_ char *error = NULL;
	struct args args = { 0 };
	int first, r = parse(&command_serve_query_add, &args, argc, argv, 2, &first);

	if (r != COMMAND_GO)
		return r;
	r = args.sql ? 0 : read_sql(&sql);
	if (!r)
		r = server_query_admin_add(argv[first + 1], args.store, argv[first],
			args.sql   ? args.sql
			: sql.data ? sql.data
				   : "",
			&error);
	if (r)
		return command_failed(&args.common, r, error);
	printf("%s\n", args.common.json ? "{\"ok\":true}" : "the query is there");
	return EXIT_CODE_OK;
}

struct listing {
	struct json *array; /* or NULL: print */
};

static int show(void *arg, const struct query *q)
{
	struct listing *l = arg;
	_cleanup_json_ struct json *params = NULL;
	struct json *o;
	int r = json_parse(q->params, strlen(q->params), &params);

	if (r)
		return r;
	if (!l->array) {
		printf("%s", q->name);
		for (const struct json *p = json_first(params); p; p = json_next(p))
			printf(" :%s", json_string(p));
		putchar('\n');
		return 0;
	}
	o = json_append_object(l->array);
	json_set_string(o, "name", q->name);
	json_set_copy(o, "params", params);
	json_set_string(o, "sql", q->sql);
	return 0;
}

static int run_ls(int argc, char **argv)
{
	_cleanup_json_ struct json *o = json_new_object();
	_cleanup_free_ char *error = NULL;
	struct args args = { 0 };
	struct listing l = { 0 };
	int first, r = parse(&command_serve_query_ls, &args, argc, argv, 1, &first);

	if (r != COMMAND_GO)
		return r;
	json_set_bool(o, "ok", true);
	if (args.common.json)
		l.array = json_set_array(o, "queries");
	r = server_query_admin_each(argv[first], args.store, show, &l, &error);
	if (r)
		return command_failed(&args.common, r, error);
	return args.common.json ? show_json(o) : EXIT_CODE_OK;
}

static int run_rm(int argc, char **argv)
{
	_cleanup_free_ char *error = NULL;
	struct args args = { 0 };
	int first, r = parse(&command_serve_query_rm, &args, argc, argv, 2, &first);

	if (r != COMMAND_GO)
		return r;
	r = server_query_admin_remove(argv[first + 1], args.store, argv[first], &error);
	if (r)
		return command_failed(&args.common, r, error);
	printf("%s\n", args.common.json ? "{\"ok\":true}" : "the query is gone");
	return EXIT_CODE_OK;
}
