/* Jobs: payloads for the origin's workers. They wait, sealed, until there is a link. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/secret.h"
#include "cache/jobs.h"
#include "cli/commands.h"
#include "cli/show.h"
#include "cli/target.h"

#define WAIT_MS 60000

struct run_args {
	struct command_common common;
	bool no_wait;
	uint64_t timeout_ms;
};

static const struct option_def run_options[] = {
	{ "no-wait", 0, OPTION_FLAG, offsetof(struct run_args, no_wait),
		.help = "do not wait for the result: print the job's name" },
	{ "timeout", 0, OPTION_DURATION, offsetof(struct run_args, timeout_ms), .arg = "TIME",
		.help = "wait so long for the result, 0 = for ever (default: 60s)" },
	COMMAND_COMMON,
	OPTION_END,
};
static const struct option_def options[] = { COMMAND_COMMON, OPTION_END };

static int run_run(int argc, char **argv);
static int run_ls(int argc, char **argv);
static int run_result(int argc, char **argv);

const struct command command_job_run = {
	.name = "job run",
	.usage = "[OPTIONS] TYPE [NAME|PATH] < PAYLOAD",
	.summary = "Hand a payload to a worker of the origin, and print the result",
	.details =
		"The payload, at most 4 MiB, is sealed in the volume until the origin has taken "
		"it; the origin keeps it in\n"
		"memory only. Without a network, or a mount, it waits, sealed, and is sent later: "
		"this is said, with the\n"
		"job's name, and `cachet job result` has the result then. Interrupting leaves the "
		"job where it is.\n\n"
		"Exit codes: 9 it waits to be sent, 10 there was no result in time.\n",
	.options = run_options,
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
	.details = "Asks the origin, which keeps a result for a time of its own.\n\n"
		   "Exit codes: 9 there is none yet.\n",
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

static int hand_in(const struct command_common *args, const struct target *t, const char *type,
	struct json **reply)
{
	_cleanup_(buffer_done) struct buffer payload = { .max = JOBS_PAYLOAD_MAX };
	_cleanup_json_ struct json *request = json_new_object();
	int e = read_payload(&payload);

	if (e == CE_TOO_LARGE)
		return command_fail(args, EXIT_CODE_USAGE, "a payload has at most 4 MiB");
	if (e)
		return command_fail(
			args, exit_code_of(e), "cannot read the payload: %s", error_text(e));
	json_set_string(request, "do", "job-run");
	json_set_string(request, "type", type);
	json_set_bytes(request, "payload", (const uint8_t *)(payload.data ? payload.data : ""),
		payload.len);
	return target_ask(args, t, request, TARGET_DIRECT, TARGET_TIMEOUT_MS, reply);
}

static int ask_result(const struct command_common *args, const struct target *t, const char *name,
	struct json **reply)
{
	_cleanup_json_ struct json *request = json_new_object();

	json_set_string(request, "do", "job-result");
	json_set_string(request, "job", name);
	return target_ask(args, t, request, TARGET_DAEMON, TARGET_TIMEOUT_MS, reply);
}

/* It was handed in all the same: the name is needed to ask again. */
static int unfinished(
	const struct command_common *args, enum exit_code code, const char *name, const char *why)
{
	_cleanup_json_ struct json *o = NULL;

	if (!args->json)
		return command_fail(args, code, "%s; later: cachet job result %s", why, name);
	o = json_new_object();
	json_set_bool(o, "ok", false);
	json_set_string(o, "code", exit_code_name(code));
	json_set_string(o, "error", why);
	json_set_string(o, "job", name);
	(void)show_json(o);
	return code;
}

/* Asks again and again; what is neither a result nor a matter of time is said by the last. */
static int wait_result(
	const struct run_args *args, const struct target *t, const char *name, struct json **reply)
{
	struct command_common quiet = args->common;
	int64_t until = clock_boot_ms() + (int64_t)args->timeout_ms;
	unsigned pause_ms = 50;
	int r;

	quiet.quiet = true;
	while ((r = ask_result(&quiet, t, name, reply)) == EXIT_CODE_PENDING) {
		if (args->timeout_ms && clock_boot_ms() >= until)
			return unfinished(
				&args->common, EXIT_CODE_TIMEOUT, name, "there is no result yet");
		usleep(pause_ms * 1000);
		pause_ms = MIN_OF(2 * pause_ms, 1000u);
	}
	if (r == EXIT_CODE_OFFLINE)
		return unfinished(&args->common, EXIT_CODE_PENDING, name,
			"there is no network; the job stays sealed in the journal until the origin "
			"has taken it");
	if (r == EXIT_CODE_AUTH)
		return unfinished(&args->common, EXIT_CODE_AUTH, name,
			"the origin refuses the token; the job stays sealed in the journal");
	if (r == EXIT_CODE_NOT_MOUNTED)
		return unfinished(&args->common, EXIT_CODE_PENDING, name,
			"the volume is not mounted: the job waits in it, sealed");
	return r == COMMAND_GO ? r : ask_result(&args->common, t, name, reply);
}

static int write_result(const struct command_common *args, const struct json *reply)
{
	const char *text = show_string(reply, "result");
	size_t max = text ? strlen(text) / 4 * 3 : 0, len = 0;
	_cleanup_free_ uint8_t *data = malloc(max + 1);

	if (args->json)
		return show_json(reply);
	if (!text || !data || bytes_from_base64(text, data, max, &len))
		return command_fail(args, EXIT_CODE_FAILED, "the result cannot be read");
	if (fwrite(data, 1, len, stdout) != len || fflush(stdout))
		return command_fail(args, EXIT_CODE_FAILED, "the result cannot be written");
	return EXIT_CODE_OK;
}

static int run_run(int argc, char **argv)
{
	_cleanup_json_ struct json *taken = NULL, *reply = NULL;
	_cleanup_target_ struct target t = { 0 };
	struct run_args args = { .timeout_ms = WAIT_MS };
	const char *name;
	int first, r = command_parse(&command_job_run, &args, argc, argv, 1, 2, &first);

	if (r == COMMAND_GO)
		r = target_find(&args.common, first + 1 < argc ? argv[first + 1] : NULL, &t);
	if (r == COMMAND_GO)
		r = hand_in(&args.common, &t, argv[first], &taken);
	if (r != COMMAND_GO)
		return r;
	name = show_string(taken, "job");
	if (args.no_wait) {
		if (args.common.json)
			return show_json(taken);
		printf("%s\n", name);
		return EXIT_CODE_OK;
	}
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "waiting for job %s\n", name);
	r = wait_result(&args, &t, name, &reply);
	if (r != COMMAND_GO)
		return r;
	json_set_string(reply, "job", name);
	return write_result(&args.common, reply);
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

static int run_result(int argc, char **argv)
{
	_cleanup_json_ struct json *reply = NULL;
	_cleanup_target_ struct target t = { 0 };
	struct command_common args = { 0 };
	int first, r = command_parse(&command_job_result, &args, argc, argv, 1, 2, &first);

	if (r == COMMAND_GO)
		r = target_find(&args, first + 1 < argc ? argv[first + 1] : NULL, &t);
	if (r == COMMAND_GO)
		r = ask_result(&args, &t, argv[first], &reply);
	return r == COMMAND_GO ? write_result(&args, reply) : r;
}
