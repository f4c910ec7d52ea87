/* The journal for people: what is not yet at the origin, and what to do about what it refused. */
#include "cli/journal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/options.h"
#include "cli/commands.h"
#include "cli/show.h"
#include "cli/target.h"

static const struct option_def options[] = { COMMAND_COMMON, OPTION_END };

static int run_ls(int argc, char **argv);
static int run_show(int argc, char **argv);
static int run_retry(int argc, char **argv);
static int run_hold(int argc, char **argv);
static int run_drop(int argc, char **argv);

#define LS_DETAILS                                                                                 \
	"One line each: number, state (queued, inflight, refused, held), what is done, size, "     \
	"age, path.\n"                                                                             \
	"Refused: the origin said no; `cachet journal show` says why. Held: waits for a person. "  \
	"The rest\n"                                                                               \
	"goes on meanwhile.\n"

const struct command command_journal = {
	.name = "journal",
	.usage = "[OPTIONS] [NAME|PATH]",
	.summary = "List the changes that are not yet at the origin (the same as journal ls)",
	.details = LS_DETAILS,
	.options = options,
	.run = run_ls,
};

const struct command command_journal_ls = {
	.name = "journal ls",
	.usage = "[OPTIONS] [NAME|PATH]",
	.summary = "List the changes that are not yet at the origin",
	.details = LS_DETAILS,
	.options = options,
	.run = run_ls,
};

const struct command command_journal_show = {
	.name = "journal show",
	.usage = "[OPTIONS] SEQ [NAME|PATH]",
	.summary = "Show one unsent change, what it waits for, and why it was refused",
	.options = options,
	.run = run_show,
};

const struct command command_journal_retry = {
	.name = "journal retry",
	.usage = "[OPTIONS] SEQ [NAME|PATH]",
	.summary = "Send a refused or held change again",
	.options = options,
	.run = run_retry,
};

const struct command command_journal_hold = {
	.name = "journal hold",
	.usage = "[OPTIONS] SEQ [NAME|PATH]",
	.summary = "Keep an unsent change back until `journal retry`",
	.details =
		"What depends on it waits, too; the rest goes on. Later changes of the same file "
		"go into it.\n",
	.options = options,
	.run = run_hold,
};

const struct command command_journal_drop = {
	.name = "journal drop",
	.usage = "[OPTIONS] SEQ [NAME|PATH]",
	.summary = "Give up sending a refused or held change",
	.details = "The changed file stays as it is on this disk until the origin has a newer "
		   "version of it;\n"
		   "the origin never hears of the change.\n",
	.options = options,
	.run = run_drop,
};

void journal_print(const struct json *o)
{
	char size[SHOW_MAX], age[SHOW_MAX];
	const char *path = show_string(o, "path"), *state = show_string(o, "state"),
		   *kind = show_string(o, "kind");

	printf("%8" PRIu64 "  %-8s  %-10s  %10s  %-12s  ", show_u64(o, "seq"), state ? state : "?",
		kind ? kind : "?", show_bytes(show_u64(o, "size"), size),
		show_age(show_i64(o, "created_ns"), age));
	show_text(stdout, path ? path : "(gone)");
	putchar('\n');
}

static void print_operations(const struct json *reply)
{
	const struct json *list = show_member(reply, "operations");

	for (const struct json *o = list ? json_first(list) : NULL; o; o = json_next(o))
		journal_print(o);
	if (!list || !json_first(list))
		printf("nothing is unsent\n");
}

static int run_ls(int argc, char **argv)
{
	return target_run(
		&command_journal_ls, argc, argv, "journal", TARGET_DIRECT, print_operations);
}

struct one {
	struct command_common args;
	struct target target;
	uint64_t seq;
};

static int parse_one(const struct command *c, struct one *one, int argc, char **argv)
{
	int first, r = command_parse(c, &one->args, argc, argv, 1, 2, &first);
	char *end;

	if (r != COMMAND_GO)
		return r;
	one->seq = strtoull(argv[first], &end, 10);
	if (*end || argv[first][0] < '0' || argv[first][0] > '9')
		return command_fail(&one->args, EXIT_CODE_USAGE,
			"'%.32s' is not the number of a change; `cachet journal ls` shows them in "
			"its first column",
			argv[first]);
	return target_find(&one->args, first + 1 < argc ? argv[first + 1] : NULL, &one->target);
}

static void print_waits(const struct json *w)
{
	static const struct {
		const char *why, *text;
	} table[] = {
		{ "next", "nothing: it goes with the next request" },
		{ "answer", "the origin's answer" },
		{ "link", "the link: `cachet status` says what is wrong with it" },
		{ "directory", "its directory, which is made by a later change" },
		{ "refused", "you: the origin refused it; `cachet journal retry` or `drop`" },
		{ "held", "you: `cachet journal retry`" },
		{ "brake", "you: it is one of many deletions; `cachet sync --allow-deletes`" },
	};
	const char *why = show_string(w, "why");

	printf("waits for ");
	for (size_t i = 0; why && i < ARRAY_SIZE(table); i++)
		if (!strcmp(table[i].why, why))
			printf("%s", table[i].text);
	if (why && !strcmp(why, "behind"))
		printf("change %" PRIu64 ", about the same record, place or directory",
			show_u64(w, "behind"));
	if (why && !strcmp(why, "retry"))
		printf("its next try, in %" PRId64 " s",
			MAX_OF(show_i64(w, "until_ms") / 1000 - (int64_t)time(NULL), 0));
	putchar('\n');
}

static void print_one(const struct json *o, const struct json *waits)
{
	const char *error = show_string(o, "error"), *store = show_string(o, "store");
	char age[SHOW_MAX];

	journal_print(o);
	printf("store     ");
	show_text(stdout, store ? store : "?");
	printf("\nattempts  %" PRIu64 "\nmade      %s\n", show_u64(o, "attempts"),
		show_age(show_i64(o, "created_ns"), age));
	if (show_i64(o, "status"))
		printf("answer    HTTP %" PRId64 "\n", show_i64(o, "status"));
	print_waits(waits);
	if (error && !json_has(o, "held_by")) {
		printf("origin    ");
		show_text(stdout, error);
		putchar('\n');
	}
}

static int print_found(const struct one *one, const struct json *o, const struct json *waits)
{
	_cleanup_json_ struct json *all = NULL;

	if (!one->args.json) {
		print_one(o, waits);
		return EXIT_CODE_OK;
	}
	if (json_copy(o, &all))
		return command_fail(&one->args, EXIT_CODE_FAILED, "out of memory");
	json_set_copy(all, "waits", waits);
	return show_json(all);
}

static int find_and_print(const struct one *one, const struct json *reply)
{
	const struct json *list = show_member(reply, "operations"), *o;
	_cleanup_json_ struct json *request = json_new_object(), *explained = NULL;
	int r;

	for (o = list ? json_first(list) : NULL; o; o = json_next(o))
		if (show_u64(o, "seq") == one->seq)
			break;
	if (!o)
		return command_fail(&one->args, EXIT_CODE_FAILED,
			"no unsent change has the number %" PRIu64
			"; it may have been sent already",
			one->seq);
	json_set_string(request, "do", "explain");
	json_set_u64(request, "seq", one->seq);
	r = target_ask(
		&one->args, &one->target, request, TARGET_DIRECT, TARGET_TIMEOUT_MS, &explained);
	return r == COMMAND_GO ? print_found(one, o, show_member(explained, "waits")) : r;
}

static int run_show(int argc, char **argv)
{
	_cleanup_json_ struct json *reply = NULL;
	struct one one = { 0 };
	int r = parse_one(&command_journal_show, &one, argc, argv);

	if (r == COMMAND_GO)
		r = target_do(&one.args, &one.target, "journal", TARGET_DIRECT, &reply);
	if (r == COMMAND_GO)
		r = find_and_print(&one, reply);
	target_done(&one.target);
	return r;
}

static int change_one(
	const struct command *c, const char *request, const char *done, int argc, char **argv)
{
	_cleanup_json_ struct json *o = json_new_object(), *reply = NULL;
	struct one one = { 0 };
	int r = parse_one(c, &one, argc, argv);

	if (r == COMMAND_GO) {
		json_set_string(o, "do", request);
		json_set_u64(o, "seq", one.seq);
		r = target_ask(&one.args, &one.target, o, TARGET_DIRECT, TARGET_TIMEOUT_MS, &reply);
	}
	target_done(&one.target);
	if (r != COMMAND_GO)
		return r;
	if (one.args.json)
		return show_json(reply);
	printf("%s\n", done);
	return EXIT_CODE_OK;
}

static int run_retry(int argc, char **argv)
{
	return change_one(&command_journal_retry, "retry", "queued again", argc, argv);
}

static int run_hold(int argc, char **argv)
{
	return change_one(
		&command_journal_hold, "hold", "held until `cachet journal retry`", argc, argv);
}

static int run_drop(int argc, char **argv)
{
	return change_one(&command_journal_drop, "drop",
		"given up: the origin will not hear of this change", argc, argv);
}
