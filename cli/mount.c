#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/replace.h"
#include "cli/target.h"
#include "cli/token.h"
#include "crypto/keysource.h"
#include "daemon/config.h"
#include "daemon/daemon.h"
#include "daemon/memory.h"

#define READY_LINE_MAX 65536
#define KEY_RETRY_US 1000000

struct args {
	struct command_common common;
	bool foreground, offline, allow_other, read_only;
	bool memory_only, replace, strict;
	uint64_t max_stale_ms;
	const char *log_file, *fs_options, *token_file;
};

static const struct option_def options[] = {
	{ "foreground", 'f', OPTION_FLAG, offsetof(struct args, foreground),
		.help = "stay on this terminal; log to standard error" },
	{ "offline", 0, OPTION_FLAG, offsetof(struct args, offline),
		.help = "send no request until `cachet online`" },
	{ "allow-other", 0, OPTION_FLAG, offsetof(struct args, allow_other),
		.help = "other users may use the mount (needs user_allow_other in "
			"/etc/fuse.conf)" },
	{ "read-only", 'r', OPTION_FLAG, offsetof(struct args, read_only),
		.help = "refuse every change" },
	{ "strict", 0, OPTION_FLAG, offsetof(struct args, strict),
		.help = "ask the origin at each open whether the file is the current version" },
	{ "max-stale", 0, OPTION_DURATION, offsetof(struct args, max_stale_ms), .min = 1000,
		.arg = "TIME",
		.help = "open nothing that the origin has not confirmed for so long" },
	{ "memory-only", 0, OPTION_FLAG, offsetof(struct args, memory_only),
		.help = "write nothing to a disk; the volume on the disk is left alone" },
	{ "replace", 0, OPTION_FLAG, offsetof(struct args, replace),
		.help = "if its key is lost or wrong, set the volume aside and make a new one" },
	{ "token-file", 0, OPTION_STRING, offsetof(struct args, token_file), .arg = "FILE",
		.help = "memory-only, replace: read the token from FILE, - for standard input "
			"(default: ask)" },
	{ "log-file", 0, OPTION_STRING, offsetof(struct args, log_file), .arg = "FILE",
		.help = "append the log here (default: daemon.log in the volume)" },
	{ "options", 'o', OPTION_STRING, offsetof(struct args, fs_options), .arg = "LIST",
		.help = "as mount(8) gives them: ro, offline, allow_other; generic ones are "
			"ignored" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run(int argc, char **argv);

const struct command command_mount = {
	.name = "mount",
	.usage = "[OPTIONS] [NAME] [MOUNTPOINT]",
	.summary = "Mount a volume",
	.details =
		"NAME may be left out when there is one volume, or one named default; "
		"MOUNTPOINT when `cachet init`\n"
		"was given one. A word with a '/' is the mount point. Returns when the files "
		"can be used; the daemon\n"
		"stays in the background. Works without a network: what was listed and read "
		"before is there.\n"
		"A dead mount that a killed daemon left there is replaced.\n\n"
		"With --memory-only, or when the command trust_check of the configuration fails or "
		"the server says that\n"
		"this machine is not to be trusted, a sealed volume of this mount alone is made in "
		"memory and forgotten at\n"
		"the end, with what is not at the origin by then; the token is asked for. The "
		"volume on the disk is not\n"
		"touched; the next mount resumes it.\n\n"
		"When the key is missing or wrong it is tried once more after a moment. With "
		"--replace, or replace_lost in the\n"
		"configuration, the volume is then set aside, with all that is unsent in it, under "
		"the name NAME-aside-N, and\n"
		"a new one is made and listed from the origin, for which a token is needed. When "
		"its key is found, every verb\n"
		"works on NAME-aside-N; a key file is looked for beside the other, with "
		".NAME-aside-N behind its name.\n\n"
		"Exit codes: 6 the key is wrong or missing, 7 the volume is damaged, 8 the "
		"volume or the mount\n"
		"point is in use.\n",
	.options = options,
	.mounts = true,
	.run = run,
};

static int apply_fs_option(struct args *args, const char *word)
{
	static const char *const ignored[] = { "rw", "defaults", "auto", "noauto", "user", "nouser",
		"users", "owner", "group", "nofail", "_netdev", "nodev", "nosuid", "noexec", "exec",
		"dev", "suid", "relatime", "noatime", "sync", "async" };

	if (!strcmp(word, "ro"))
		args->read_only = true;
	else if (!strcmp(word, "offline"))
		args->offline = true;
	else if (!strcmp(word, "allow_other"))
		args->allow_other = true;
	else if (*word && strncmp(word, "x-", 2) != 0 && strncmp(word, "comment=", 8) != 0) {
		for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
			if (!strcmp(ignored[i], word))
				return COMMAND_GO;
		return command_fail(&args->common, EXIT_CODE_USAGE,
			"the mount option '%.64s' is not known; known are ro, offline and "
			"allow_other",
			word);
	}
	return COMMAND_GO;
}

static int apply_fs_options(struct args *args)
{
	_cleanup_free_ char *list = strdup(args->fs_options ? args->fs_options : "");
	char *at = list, *word;
	int r = COMMAND_GO;

	while (r == COMMAND_GO && at && (word = strsep(&at, ",")))
		r = apply_fs_option(args, word);
	return r;
}

/* Sorts up to two words into name and mount point: a '/' tells a path, otherwise the order does. */
static int sort_words(
	const struct args *args, int n, char **words, const char **name, const char **place)
{
	bool path0 = n > 0 && strchr(words[0], '/'), path1 = n > 1 && strchr(words[1], '/');

	if (path0 && path1)
		return command_fail(&args->common, EXIT_CODE_USAGE,
			"both '%.64s' and '%.64s' are paths: name one volume and one mount point",
			words[0], words[1]);
	*name = n == 0 ? NULL : n == 1 ? (path0 ? NULL : words[0]) : path0 ? words[1] : words[0];
	*place = n == 0 ? NULL : n == 1 ? (path0 ? words[0] : NULL) : path0 ? words[0] : words[1];
	return COMMAND_GO;
}

/* The mount point as the kernel will name it, which is how paths are found again. */
static int resolve_place(
	const struct args *args, const struct config *c, const char *place, char **out)
{
	int r;

	if (!place && !c->mountpoint)
		return command_fail(&args->common, EXIT_CODE_USAGE,
			"the volume '%s' has no mount point of its own: cachet mount %s MOUNTPOINT",
			c->name, c->name);
	r = target_absolute(place ? place : c->mountpoint, out);
	if (r)
		return command_fail(&args->common, exit_code_of(r),
			"the mount point cannot be named: %s", error_text(r));
	return COMMAND_GO;
}

/* The daemon: ends with its parent until it is ready. */
static _Noreturn void run_child(struct daemon_options *o, int ready_fd, pid_t parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(EXIT_CODE_FAILED);
	o->ready_fd = ready_fd;
	exit(daemon_run(o));
}

static int read_ready(int fd, struct json **out)
{
	struct buffer line = { .max = READY_LINE_MAX };
	char chunk[1024];
	ssize_t n;
	int r = 0;

	while (!r && (n = read(fd, chunk, sizeof(chunk))) != 0) {
		if (n < 0 && errno != EINTR)
			break;
		if (n > 0)
			r = buffer_append(&line, chunk, (size_t)n);
	}
	if (!r)
		r = line.data ? json_parse(line.data, line.len, out) : -ENODATA;
	buffer_done(&line);
	return r;
}

static bool is_ok(const struct json *ready)
{
	bool ok = false;

	return ready && !json_get_bool(ready, "ok", &ok) && ok;
}

/* `hint`: what may be done about a failure, after its sentence; "" = nothing. */
static int report(const struct args *args, const struct daemon_options *o, const struct json *ready,
	const char *hint)
{
	const char *code = "failed", *error = "the daemon ended before it was ready";

	if (is_ok(ready)) {
		if (args->common.json)
			printf("{\"ok\":true}\n");
		else
			printf("mounted '%s' on %s%s\n", o->config->name, o->mountpoint,
				o->offline ? ", offline" : "");
		return EXIT_CODE_OK;
	}
	if (ready &&
		(json_get_string(ready, "code", &code) || json_get_string(ready, "error", &error)))
		code = "failed";
	return command_fail(&args->common, exit_code_by_name(code), "%s%s", error, hint);
}

static int start(const struct args *args, struct daemon_options *o, struct json **ready)
{
	pid_t parent = getpid(), child;
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return command_fail(
			&args->common, EXIT_CODE_FAILED, "no pipe: %s", strerror(errno));
	fflush(NULL);
	child = fork();
	if (child < 0)
		return command_fail(
			&args->common, EXIT_CODE_FAILED, "no process: %s", strerror(errno));
	if (child == 0) {
		close(fds[0]);
		run_child(o, fds[1], parent);
	}
	close(fds[1]);
	if (read_ready(fds[0], ready))
		*ready = NULL;
	close(fds[0]);
	return COMMAND_GO;
}

static int ask_token(void *arg, struct secret **out, char **error)
{
	const struct args *args = arg;

	return token_read("token", args->token_file, out, error);
}

/* --- the key is lost --- */

/* Asking a person again is not trying again: a word that was mistyped is for him to see. */
static bool asks_a_person(const struct config *c)
{
	const char *local;

	(void)keysource_is_server(c->key_source, &local);
	return !strncmp(local, "passphrase:", strlen("passphrase:"));
}

static int replace(struct args *args, struct config *c)
{
	_cleanup_secret_ struct secret *token = NULL;
	_cleanup_free_ char *aside = NULL, *error = NULL;
	int r = token_read("token", args->token_file, &token, &error);

	if (!r)
		r = replace_volume(c, token, &aside, &error);
	if (r)
		return command_fail(&args->common, exit_code_of(r),
			"the volume '%s' could not be replaced, nothing of it is lost: %s", c->name,
			error ? error : error_text(r));
	fprintf(stderr,
		"cachet: the key of '%s' is lost: it was set aside as '%s', with all that is "
		"unsent in it, and a new one was made; `cachet warm` fetches its content now\n",
		c->name, aside);
	return COMMAND_GO;
}

#define LOST_HINT                                                                                  \
	"; if the key is lost, `cachet mount --replace` sets the volume aside and makes a new one"

/* COMMAND_GO: mount it again. */
static int consider(struct args *args, struct config *c, bool first)
{
	bool consent = args->replace || (c->replace_lost && !asks_a_person(c));

	if (first && !asks_a_person(c) && replace_is_needed(c)) {
		usleep(KEY_RETRY_US);
		return COMMAND_GO;
	}
	if ((first && !asks_a_person(c)) || !consent || !replace_is_needed(c))
		return EXIT_CODE_KEY;
	return replace(args, c);
}

/* In the foreground the daemon is this process: what is to be done is done before. */
static int consider_before(struct args *args, struct config *c)
{
	if ((!args->replace && !c->replace_lost) || asks_a_person(c) || !replace_is_needed(c))
		return COMMAND_GO;
	usleep(KEY_RETRY_US);
	return replace_is_needed(c) ? replace(args, c) : COMMAND_GO;
}

static int run_background(struct args *args, struct daemon_options *o)
{
	bool first = true, replaced = false;

	for (;;) {
		_cleanup_json_ struct json *ready = NULL;
		int r = start(args, o, &ready);

		if (r != COMMAND_GO)
			return r;
		if (is_ok(ready) || replaced || o->memory_only)
			return report(args, o, ready, "");
		r = consider(args, o->config, first);
		if (r == EXIT_CODE_KEY)
			return report(args, o, ready, first ? "" : LOST_HINT);
		if (r != COMMAND_GO)
			return r;
		replaced = !first || asks_a_person(o->config);
		first = false;
	}
}

static bool is_memory_only(const struct args *args, const struct config *c)
{
	if (args->memory_only || memory_machine_is_trusted(c))
		return args->memory_only;
	fprintf(stderr, "cachet: this machine is not trusted: memory only\n");
	return true;
}

static int run_mount(struct args *args, const char *name, const char *place)
{
	_cleanup_(config_freep) struct config *config = NULL;
	_cleanup_free_ char *error = NULL, *mountpoint = NULL, *log_file = NULL;
	struct daemon_options o = { .ready_fd = -1 };
	int r = config_load(name, &config, &error);

	if (r)
		return command_failed(&args->common, r, error);
	r = resolve_place(args, config, place, &mountpoint);
	if (r != COMMAND_GO)
		return r;
	if (args->log_file && target_absolute(args->log_file, &log_file))
		return command_fail(&args->common, EXIT_CODE_USAGE, "the log file cannot be named");
	config->strict = args->strict;
	config->max_stale_ms = args->max_stale_ms;
	o.memory_only = is_memory_only(args, config);
	o.ask_token = ask_token;
	o.ask_token_arg = args;
	o.config = config;
	o.mountpoint = mountpoint;
	o.foreground = args->foreground;
	o.offline = args->offline;
	o.allow_other = args->allow_other;
	o.read_only = args->read_only;
	o.log_file = log_file;
	if (!o.foreground)
		return run_background(args, &o);
	r = o.memory_only ? COMMAND_GO : consider_before(args, config);
	return r == COMMAND_GO ? daemon_run(&o) : r;
}

static int run(int argc, char **argv)
{
	const char *name = NULL, *place = NULL;
	struct args args = { 0 };
	int first, r = command_parse(&command_mount, &args, argc, argv, 0, 2, &first);

	if (r == COMMAND_GO)
		r = apply_fs_options(&args);
	if (r == COMMAND_GO)
		r = sort_words(&args, argc - first, argv + first, &name, &place);
	return r == COMMAND_GO ? run_mount(&args, name, place) : r;
}
