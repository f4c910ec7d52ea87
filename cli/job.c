/* Jobs: payloads for the origin's workers. They wait, sealed, until there is a link. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/secret.h"
#include "cache/jobs.h"
#include "cli/commands.h"
#include "cli/show.h"
#include "cli/target.h"

static const struct option_def options[] = { COMMAND_COMMON, OPTION_END };

static int run_run(int argc, char **argv);
static int run_ls(int argc, char **argv);
static int run_result(int argc, char **argv);

const struct command command_job_run = {
	.name = "job run",
	.usage = "[OPTIONS] TYPE [NAME|PATH] < PAYLOAD",
	.summary = "Hand a payload to a worker of the origin, and print the job's name",
	.details =
		"The payload, at most 4 MiB, is sealed in the volume until the origin has taken "
		"it; without a network it\n"
		"waits. The origin keeps it in memory only. `cachet job result` has the result.\n",
	.options = options,
	.run = run_run,
};

const struct command command_job_ls = {
	.name = "job ls",
	.usage = "[OPTIONS] [NAME|PATH]",
	.summary = "List the jobs that were handed in",
	.details =
		"One line each: name, state (waiting, sent, refused), type, size, age, why it was "
		"refused.\n",
	.options = options,
	.run = run_ls,
};

const struct command command_job_result = {
	.name = "job result",
	.usage = "[OPTIONS] JOB [NAME|PATH]",
	.summary = "Write the result of a job to standard output",
	.details = "Asks the origin, which keeps a result for a time of its own.\n",
	.options = options,
	.run = run_result,
};

static int read_payload(struct buffer *out)
{
	char piece[65536];
	ssize_t n;
	int r = 0;

	while (!r && (n = read(STDIN_FILENO, piece, sizeof(piece))) > 0)
		r = buffer_append(out, piece, (size_t)n);
	secret_wipe(piece, sizeof(piece));
	return r ? r : n < 0 ? -errno : 0;
}

static int run_run(int argc, char **argv)
{
	_cleanup_(buffer_done) struct buffer payload = { .max = JOBS_PAYLOAD_MAX };
	_cleanup_json_ struct json *request = json_new_object(), *reply = NULL;
	_cleanup_target_ struct target t = { 0 };
	struct command_common args = { 0 };
	int first, r = command_parse(&command_job_run, &args, argc, argv, 1, 2, &first), e;

	if (r == COMMAND_GO)
		r = target_find(&args, first + 1 < argc ? argv[first + 1] : NULL, &t);
	if (r != COMMAND_GO)
		return r;
	e = read_payload(&payload);
	if (e == CE_TOO_LARGE)
		return command_fail(&args, EXIT_CODE_USAGE, "a payload has at most 4 MiB");
	if (e)
		return command_fail(
			&args, exit_code_of(e), "cannot read the payload: %s", error_text(e));
	json_set_string(request, "do", "job-run");
	json_set_string(request, "type", argv[first]);
	json_set_bytes(request, "payload", (const uint8_t *)(payload.data ? payload.data : ""),
		payload.len);
	r = target_ask(&args, &t, request, TARGET_DIRECT, TARGET_TIMEOUT_MS, &reply);
	if (r != COMMAND_GO)
		return r;
	if (args.json)
		return show_json(reply);
	printf("%s\n", show_string(reply, "job"));
	return EXIT_CODE_OK;
}

static void print_line(const struct json *o)
{
	char size[SHOW_MAX], age[SHOW_MAX];
	const char *why = show_string(o, "error"), *state = show_string(o, "state");

	printf("%s  %-8s  ", show_string(o, "job"), state ? state : "?");
	show_text(stdout, show_string(o, "type"));
	printf("  %s  %s", show_bytes(show_u64(o, "size"), size),
		show_age(show_i64(o, "at_s") * 1000000000, age));
	if (why) {
		printf("  ");
		show_text(stdout, why);
	}
	putchar('\n');
}

static void print_jobs(const struct json *reply)
{
	const struct json *list = show_member(reply, "jobs");

	for (const struct json *o = list ? json_first(list) : NULL; o; o = json_next(o))
		print_line(o);
}

static int run_ls(int argc, char **argv)
{
	return target_run(&command_job_ls, argc, argv, "jobs", TARGET_DIRECT, print_jobs);
}

static int write_result(const struct command_common *args, const struct json *reply)
{
	const char *text = show_string(reply, "result");
	size_t max = text ? strlen(text) / 4 * 3 : 0, len = 0;
	_cleanup_free_ uint8_t *data = malloc(max + 1);

	if (!text || !data || bytes_from_base64(text, data, max, &len))
		return command_fail(args, EXIT_CODE_FAILED, "the result cannot be read");
	if (fwrite(data, 1, len, stdout) != len || fflush(stdout))
		return command_fail(args, EXIT_CODE_FAILED, "the result cannot be written");
	return EXIT_CODE_OK;
}

static int run_result(int argc, char **argv)
{
	_cleanup_json_ struct json *request = json_new_object(), *reply = NULL;
	_cleanup_target_ struct target t = { 0 };
	struct command_common args = { 0 };
	int first, r = command_parse(&command_job_result, &args, argc, argv, 1, 2, &first);

	if (r == COMMAND_GO)
		r = target_find(&args, first + 1 < argc ? argv[first + 1] : NULL, &t);
	if (r != COMMAND_GO)
		return r;
	json_set_string(request, "do", "job-result");
	json_set_string(request, "job", argv[first]);
	r = target_ask(&args, &t, request, TARGET_DAEMON, TARGET_TIMEOUT_MS, &reply);
	if (r != COMMAND_GO)
		return r;
	return args.json ? show_json(reply) : write_result(&args, reply);
}
