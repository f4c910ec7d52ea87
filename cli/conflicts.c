/* Conflicts: both sides were kept, or a rule has settled them. */
#include "cli/conflicts.h"

#include <errno.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/io.h"
#include "cli/commands.h"
#include "cli/show.h"
#include "cli/target.h"

struct args {
	struct command_common common;
	bool all;
};

static const struct option_def ls_options[] = {
	{ "all", 'a', OPTION_FLAG, offsetof(struct args, all), .help = "resolved ones too" },
	COMMAND_COMMON,
	OPTION_END,
};
static const struct option_def options[] = { COMMAND_COMMON, OPTION_END };

static int run_ls(int argc, char **argv);
static int run_show(int argc, char **argv);
static int run_diff(int argc, char **argv);

#define LS_DETAILS                                                                                 \
	"One line each: number, kind, age, the path that has the origin's version, the path that " \
	"has yours.\n"                                                                             \
	"Both are ordinary files: compare them, then `cachet conflicts resolve` with the side "    \
	"that counts.\n"                                                                           \
	"What another device met (kind elsewhere; its version is the copy) is listed as long as "  \
	"a file has the\n"                                                                         \
	"name of the copy, and is settled in the same way.\n"

const struct command command_conflicts = {
	.name = "conflicts",
	.usage = "[OPTIONS] [NAME|PATH]",
	.summary = "List conflicts (the same as conflicts ls)",
	.details = LS_DETAILS,
	.options = ls_options,
	.run = run_ls,
};

const struct command command_conflicts_ls = {
	.name = "conflicts ls",
	.usage = "[OPTIONS] [NAME|PATH]",
	.summary = "List conflicts: records that were changed here and at the origin",
	.details = LS_DETAILS,
	.options = ls_options,
	.run = run_ls,
};

const struct command command_conflicts_show = {
	.name = "conflicts show",
	.usage = "[OPTIONS] ID [NAME|PATH]",
	.summary = "Show one conflict and where its two sides are",
	.options = options,
	.run = run_show,
};

const struct command command_conflicts_diff = {
	.name = "conflicts diff",
	.usage = "[OPTIONS] ID [NAME|PATH]",
	.summary = "Compare the two sides of one conflict",
	.details = "Runs diff(1) on the two files; the volume is mounted.\n",
	.options = options,
	.run = run_diff,
};

static void print_line(const struct json *o)
{
	const char *kind = show_string(o, "kind"), *origin = show_string(o, "origin_path"),
		   *local = show_string(o, "local_path");
	char age[SHOW_MAX];

	printf("%6" PRIu64 "  %-13s  %-12s  ", show_u64(o, "id"), kind ? kind : "?",
		show_age(show_i64(o, "created_ns"), age));
	show_text(stdout, origin ? origin : "?");
	if (local && (!origin || strcmp(local, origin) != 0)) {
		printf("  |  ");
		show_text(stdout, local);
	}
	if (show_bool(o, "resolved"))
		printf("  (resolved: %s)", show_string(o, "outcome"));
	putchar('\n');
}

static int ask(
	const struct command_common *common, const struct target *t, bool all, struct json **reply)
{
	_cleanup_json_ struct json *request = json_new_object();

	json_set_string(request, "do", "conflicts");
	json_set_bool(request, "all", all);
	return target_ask(common, t, request, TARGET_DIRECT, TARGET_TIMEOUT_MS, reply);
}

static int run_ls(int argc, char **argv)
{
	_cleanup_json_ struct json *reply = NULL;
	_cleanup_target_ struct target t = { 0 };
	struct args args = { 0 };
	const struct json *list;
	int r = target_parse(&command_conflicts_ls, &args, argc, argv, &t);

	if (r == COMMAND_GO)
		r = ask(&args.common, &t, args.all, &reply);
	if (r != COMMAND_GO)
		return r;
	if (args.common.json)
		return show_json(reply);
	list = show_member(reply, "conflicts");
	for (const struct json *o = list ? json_first(list) : NULL; o; o = json_next(o))
		print_line(o);
	if (!list || !json_first(list))
		printf("no conflicts\n");
	return EXIT_CODE_OK;
}

int conflicts_parse_one(
	const struct command *c, void *args, struct target *t, uint64_t *id, int argc, char **argv)
{
	int first, r = command_parse(c, args, argc, argv, 1, 2, &first);
	char *end;

	if (r != COMMAND_GO)
		return r;
	*id = strtoull(argv[first], &end, 10);
	if (*end || argv[first][0] < '0' || argv[first][0] > '9')
		return command_fail(args, EXIT_CODE_USAGE,
			"'%.32s' is not the number of a conflict; `cachet conflicts ls` shows them "
			"in its first column",
			argv[first]);
	return target_find(args, first + 1 < argc ? argv[first + 1] : NULL, t);
}

static const char *what_happened(const char *kind)
{
	static const struct {
		const char *kind, *text;
	} table[] = {
		{ "edit-edit", "the record was changed here and at the origin" },
		{ "edit-delete", "the record was changed here and deleted at the origin; your "
				 "version was kept" },
		{ "delete-edit", "the record was deleted here and changed at the origin; the "
				 "origin's was kept" },
		{ "create-create", "a record of that name was made here and at the origin" },
		{ "move", "the record was moved here and at the origin, or to a place that was "
			  "taken" },
		{ "elsewhere", "another device kept two files; its version is the copy" },
	};

	for (size_t i = 0; kind && i < ARRAY_SIZE(table); i++)
		if (!strcmp(table[i].kind, kind))
			return table[i].text;
	return "both sides were kept";
}

static void print_one(const struct json *o)
{
	const char *origin = show_string(o, "origin_path"), *local = show_string(o, "local_path");
	char age[SHOW_MAX];

	printf("conflict  %" PRIu64 ", %s%s\n", show_u64(o, "id"),
		show_age(show_i64(o, "created_ns"), age),
		show_bool(o, "resolved") ? ", resolved" : "");
	if (show_bool(o, "resolved"))
		printf("outcome   %s\n", show_string(o, "outcome"));
	printf("what      %s\n", what_happened(show_string(o, "kind")));
	printf("origin's  ");
	show_text(stdout, origin ? origin : "?");
	printf("\nyours     ");
	show_text(stdout, local ? local : "?");
	putchar('\n');
}

static int find_one(const struct command_common *args, const struct target *t, uint64_t id,
	struct json **reply, const struct json **out)
{
	const struct json *list, *o;
	int r = ask(args, t, true, reply);

	if (r != COMMAND_GO)
		return r;
	list = show_member(*reply, "conflicts");
	for (o = list ? json_first(list) : NULL; o; o = json_next(o))
		if (show_u64(o, "id") == id)
			break;
	if (!o)
		return command_fail(
			args, EXIT_CODE_FAILED, "no conflict has the number %" PRIu64, id);
	*out = o;
	return COMMAND_GO;
}

static int run_show(int argc, char **argv)
{
	_cleanup_json_ struct json *reply = NULL;
	_cleanup_target_ struct target t = { 0 };
	struct command_common args = { 0 };
	const struct json *o;
	uint64_t id;
	int r = conflicts_parse_one(&command_conflicts_show, &args, &t, &id, argc, argv);

	if (r == COMMAND_GO)
		r = find_one(&args, &t, id, &reply, &o);
	if (r != COMMAND_GO)
		return r;
	if (args.json)
		return show_json(o);
	print_one(o);
	return EXIT_CODE_OK;
}

/* diff's own exit: 0 and 1 have compared. With out_fd >= 0 it writes there. */
static int compare(const struct command_common *args, char *origin, char *local, int out_fd)
{
	char *argv[] = { "diff", "-u", "--label", "origin's", "--label", "yours", "--", origin,
		local, NULL };
	posix_spawn_file_actions_t actions;
	int status = 0, r;
	pid_t child;

	fflush(stdout);
	if (posix_spawn_file_actions_init(&actions))
		return command_fail(args, EXIT_CODE_FAILED, "out of memory");
	r = out_fd < 0 ? 0 : posix_spawn_file_actions_adddup2(&actions, out_fd, STDOUT_FILENO);
	if (!r)
		r = posix_spawnp(&child, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (r)
		return command_fail(args, EXIT_CODE_FAILED, "diff cannot be run");
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status) > 1)
		return command_fail(args, EXIT_CODE_FAILED, "the two sides cannot be compared");
	return EXIT_CODE_OK;
}

/* Through memory: plaintext does not get to a disk by us. */
static int compare_json(
	const struct command_common *args, char *origin, char *local, const struct json *conflict)
{
	_cleanup_fd_ int fd = memfd_create("cachet-diff", MFD_CLOEXEC);
	_cleanup_json_ struct json *o = json_new_object();
	_cleanup_free_ char *text = NULL;
	off_t len;
	int r = fd < 0 ? command_fail(args, EXIT_CODE_FAILED, "no memory for the comparison")
		       : compare(args, origin, local, fd);

	if (r != EXIT_CODE_OK)
		return r;
	len = lseek(fd, 0, SEEK_END);
	text = len < 0 ? NULL : calloc(1, (size_t)len + 1);
	if (!text || io_pread_full(fd, text, (size_t)len, 0))
		return command_fail(args, EXIT_CODE_FAILED, "the comparison cannot be read");
	json_set_copy(o, "conflict", conflict);
	if (bytes_is_utf8((const uint8_t *)text, (size_t)len))
		json_set_string(o, "diff", text);
	else
		json_set_bytes(o, "diff_base64", (const uint8_t *)text, (size_t)len);
	return show_json(o);
}

static int run_diff(int argc, char **argv)
{
	_cleanup_json_ struct json *reply = NULL, *status = NULL;
	_cleanup_free_ char *a = NULL, *b = NULL;
	_cleanup_target_ struct target t = { 0 };
	const char *origin, *local, *mountpoint;
	struct command_common args = { 0 };
	const struct json *o;
	uint64_t id;
	int r = conflicts_parse_one(&command_conflicts_diff, &args, &t, &id, argc, argv);

	if (r == COMMAND_GO)
		r = find_one(&args, &t, id, &reply, &o);
	if (r == COMMAND_GO)
		r = target_do(&args, &t, "status", TARGET_DAEMON, &status);
	if (r != COMMAND_GO)
		return r;
	origin = show_string(o, "origin_path");
	local = show_string(o, "local_path");
	mountpoint = show_string(status, "mountpoint");
	if (!origin || !local || !mountpoint || !strcmp(origin, local))
		return command_fail(&args, EXIT_CODE_FAILED,
			"this conflict has one side only: `cachet conflicts show` says why");
	if (bytes_print(&a, "%s/%s", mountpoint, origin) ||
		bytes_print(&b, "%s/%s", mountpoint, local))
		return command_fail(&args, EXIT_CODE_FAILED, "out of memory");
	return args.json ? compare_json(&args, a, b, o) : compare(&args, a, b, -1);
}
