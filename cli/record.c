#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "cli/commands.h"
#include "cli/show.h"
#include "cli/target.h"

#define WORDS_MAX 100000
#define SIGNAL_BASE 128

struct args {
	struct command_common common;
	const char *set, *volume;
};

static const struct option_def options[] = {
	{ "set", 0, OPTION_STRING, offsetof(struct args, set), .arg = "NAME",
		.help = "name of the working set (default: the command's)" },
	{ "volume", 0, OPTION_STRING, offsetof(struct args, volume), .arg = "NAME|PATH",
		.help = "which volume (default: the one of the current directory)" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run(int argc, char **argv);

const struct command command_record = {
	.name = "record",
	.usage = "[OPTIONS] -- COMMAND [ARGUMENT...]",
	.summary = "Run a command and pin the files that it opened",
	.details =
		"The files of the volume that the command, or a program it starts, opens become "
		"one working set:\n"
		"they are pinned under its name, in the place of what it had before. `cachet pin "
		"--list` shows the set,\n"
		"`cachet unpin --set NAME` forgets it. So the command works without a network "
		"afterwards.\n\n"
		"The exit code is that of the command; if recording failed that of the failure, "
		"with the reason on\n"
		"standard error. A command that fails is recorded all the same.\n",
	.options = options,
	.run = run,
};

static int tell(const struct args *args, const struct target *t, const char *what, const char *set,
	struct json **reply)
{
	_cleanup_json_ struct json *request = json_new_object();

	json_set_string(request, "do", what);
	json_set_u64(request, "pid", (uint64_t)getpid());
	if (set)
		json_set_string(request, "set", set);
	return target_ask(&args->common, t, request, TARGET_DAEMON, TARGET_TIMEOUT_MS, reply);
}

/* This process waits for the command's orphans as well, and leaves the terminal's signals to it. */
static int run_command(char **argv, int *code)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN }, old_int, old_quit;
	int status = 0;
	pid_t pid;

	if (prctl(PR_SET_CHILD_SUBREAPER, 1L, 0L, 0L, 0L) < 0)
		return -errno;
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		execvp(argv[0], argv);
		fprintf(stderr, "cachet: %s cannot be run: %s\n", argv[0], strerror(errno));
		_exit(errno == ENOENT ? 127 : 126);
	}
	sigaction(SIGINT, &ignore, &old_int);
	sigaction(SIGQUIT, &ignore, &old_quit);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
	}
	sigaction(SIGINT, &old_int, NULL);
	sigaction(SIGQUIT, &old_quit, NULL);
	*code = WIFEXITED(status) ? WEXITSTATUS(status) : SIGNAL_BASE + WTERMSIG(status);
	return 0;
}

static void print(const struct json *reply, const char *set)
{
	char files[SHOW_MAX], bytes[SHOW_MAX];

	fprintf(stderr, "cachet: recorded %s, %s, as the set ",
		show_count(show_u64(reply, "files"), "file", "files", files),
		show_bytes(show_u64(reply, "bytes"), bytes));
	show_text(stderr, set);
	fputc('\n', stderr);
}

static int run(int argc, char **argv)
{
	_cleanup_json_ struct json *reply = NULL;
	_cleanup_target_ struct target t = { 0 };
	struct args args = { 0 };
	const char *set;
	int first, code = 0, r;

	r = command_parse(&command_record, &args, argc, argv, 1, WORDS_MAX, &first);
	if (r == COMMAND_GO)
		r = target_find(&args.common, args.volume ? args.volume : ".", &t);
	if (r == COMMAND_GO)
		r = tell(&args, &t, "record-begin", NULL, NULL);
	if (r != COMMAND_GO)
		return r;
	set = args.set ? args.set : basename(argv[first]);
	if (run_command(argv + first, &code))
		r = command_fail(&args.common, EXIT_CODE_FAILED, "the command cannot be started");
	else
		r = tell(&args, &t, "record-end", set, &reply);
	if (r != COMMAND_GO)
		return r;
	if (args.common.json)
		return show_json(reply);
	print(reply, set);
	return code;
}
