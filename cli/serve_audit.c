/* The audit log of a server's data directory. */
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "cli/commands.h"
#include "cli/show.h"
#include "server/audit_archive.h"
#include "server/server.h"

#define PAGE 1000
#define YEAR_MS (UINT64_C(365) * 86400 * 1000)

struct args {
	struct command_common common;
	bool verify;
	const char *head, *archive;
	uint64_t since, older_ms;
};

static const struct option_def options[] = {
	{ "verify", 0, OPTION_FLAG, offsetof(struct args, verify),
		.help = "check the chain of hashes instead, and print its head" },
	{ "head", 0, OPTION_STRING, offsetof(struct args, head), .arg = "NUMBER:HASH",
		.help = "with --verify: a head noted earlier that must still be part of it" },
	{ "since", 0, OPTION_U64, offsetof(struct args, since), .arg = "NUMBER",
		.help = "only entries after this one (default: all)" },
	{ "archive", 0, OPTION_STRING, offsetof(struct args, archive), .arg = "FILE",
		.help = "move old entries into this new file, which goes on being verifiable" },
	{ "older-than", 0, OPTION_DURATION, offsetof(struct args, older_ms), .arg = "TIME",
		.help = "with --archive: entries older than this (default: 365d)" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run(int argc, char **argv);

const struct command command_serve_audit = {
	.name = "serve audit",
	.usage = "[OPTIONS] DIR|ARCHIVE",
	.summary = "Show, verify or archive the audit log of a server",
	.details =
		"Enrolments, keys issued, rotations, revocations, exports, changes of tokens and "
		"accounts: who and when,\n"
		"never a content. --json prints one object a line. --verify finds an entry that "
		"was changed, removed,\n"
		"added or moved; against somebody who rewrites the whole log, note the head that "
		"--verify prints\n"
		"elsewhere and give it with --head the next time.\n"
		"The log keeps everything until --archive moves what is old into a file of JSON "
		"lines. --verify takes such\n"
		"a file, too: its first line names the head before it, and the log goes on from "
		"the head it ends with.\n\n"
		"Exit codes: 7 the log was tampered with.\n",
	.options = options,
	.run = run,
};

static int verify(const struct args *args, const char *dir)
{
	_cleanup_free_ char *error = NULL;
	struct server_audit_report report;
	struct stat st;
	int r = !stat(dir, &st) && S_ISREG(st.st_mode)
			? server_audit_archive_check(dir, args->head, &report, &error)
			: server_audit_check(dir, args->head, &report, &error);

	if (r)
		return command_failed(&args->common, r, error);
	printf(args->common.json ? "{\"ok\":true,\"entries\":%" PRIu64 ",\"head\":\"%s\"}\n"
				 : "%" PRIu64 " entries are as they were written; head %s\n",
		report.entries, report.head);
	return EXIT_CODE_OK;
}

static int archive(const struct args *args, const char *dir)
{
	_cleanup_free_ char *error = NULL;
	struct server_audit_report report;
	int64_t before_ns =
		clock_wall_ns() - (int64_t)MIN_OF(args->older_ms, UINT64_C(1) << 42) * NS_PER_MS;
	int r = server_audit_archive(dir, args->archive, before_ns, &report, &error);

	if (r)
		return command_failed(&args->common, r, error);
	printf(args->common.json ? "{\"ok\":true,\"entries\":%" PRIu64 ",\"head\":\"%s\"}\n"
				 : "%" PRIu64 " entries are in the archive now; its head is %s\n",
		report.entries, report.head);
	return EXIT_CODE_OK;
}

static int print_json(const struct json *o)
{
	_cleanup_free_ char *text = NULL;
	int r = json_print(o, false, &text);

	if (!r)
		printf("%s\n", text);
	return r;
}

static int print_entry(const struct json *o)
{
	time_t at = (time_t)show_i64(o, "at");
	const char *who = show_string(o, "who"), *what = show_string(o, "what"),
		   *subject = show_string(o, "subject");
	char text[32] = "?";
	struct tm tm;

	if (gmtime_r(&at, &tm))
		(void)!strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%SZ", &tm);
	printf("%6" PRIu64 "  %s  %-16s ", show_u64(o, "n"), text, what ? what : "?");
	show_text(stdout, subject ? subject : "?");
	printf(" (");
	show_text(stdout, who ? who : "?");
	printf(")\n");
	return 0;
}

/* One page; *since moves on, *more says whether there is another. */
static int print_page(
	const struct args *args, const char *dir, uint64_t *since, bool *more, char **error)
{
	_cleanup_json_ struct json *page = NULL;
	const struct json *list;
	int r = server_audit_page(dir, *since, PAGE, &page, error);

	if (!r)
		r = json_get_array(page, "entries", &list);
	if (r)
		return r;
	for (const struct json *e = json_first(list); !r && e; e = json_next(e)) {
		r = args->common.json ? print_json(e) : print_entry(e);
		*since = show_u64(e, "n");
	}
	*more = show_bool(page, "more");
	return r;
}

static int run(int argc, char **argv)
{
	_cleanup_free_ char *error = NULL;
	struct args args = { .older_ms = YEAR_MS };
	bool more = true;
	int first, r = command_parse(&command_serve_audit, &args, argc, argv, 1, 1, &first);

	if (r != COMMAND_GO)
		return r;
	if (args.head && !args.verify)
		return command_fail(&args.common, EXIT_CODE_USAGE, "--head goes with --verify");
	if (args.verify && args.archive)
		return command_fail(
			&args.common, EXIT_CODE_USAGE, "--verify and --archive exclude each other");
	if (args.verify)
		return verify(&args, argv[first]);
	if (args.archive)
		return archive(&args, argv[first]);
	r = 0;
	while (!r && more)
		r = print_page(&args, argv[first], &args.since, &more, &error);
	return r ? command_failed(&args.common, r, error) : EXIT_CODE_OK;
}
