/* Each check prints one line, and counts when it found something. Nothing is changed. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/io.h"
#include "cli/commands.h"
#include "cli/show.h"
#include "cli/target.h"

#define MEMLOCK_WANTED (4u << 20)

struct args {
	struct command_common common;
};

static const struct option_def options[] = {
	COMMAND_COMMON,
	OPTION_END,
};

static int run(int argc, char **argv);

const struct command command_doctor = {
	.name = "doctor",
	.usage = "[OPTIONS] [NAME|PATH]",
	.summary = "Look for what weakens a volume on this machine",
	.details =
		"Swap that is not encrypted, limits that are too low for locked memory, a key file "
		"that others can read,\n"
		"and, with a key of the server, whether the server has the public key that this "
		"machine has. Changes\n"
		"nothing. Exit code 1 when something was found.\n",
	.options = options,
	.run = run,
};

struct doctor {
	struct json *list;
	unsigned found;
};

static void tell(struct doctor *d, const char *check, bool good, const char *text)
{
	struct json *o = json_append_object(d->list);

	json_set_string(o, "check", check);
	json_set_bool(o, "ok", good);
	json_set_string(o, "text", text);
	d->found += !good;
}

/* A device mapper volume may be encrypted (its uuid begins with CRYPT-); zram is memory. */
static bool swap_is_sealed(const char *path)
{
	_cleanup_free_ char *real = realpath(path, NULL), *file = NULL, *text = NULL;
	const char *name = real ? strrchr(real, '/') + 1 : path;
	size_t len;

	if (!strncmp(name, "zram", 4))
		return true;
	if (bytes_print(&file, "/sys/class/block/%s/dm/uuid", name))
		return false;
	return !io_read_file(AT_FDCWD, file, 4096, &text, &len) && !strncmp(text, "CRYPT-", 6);
}

static void check_swap(struct doctor *d)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	char *line, *at;
	bool good = true;

	if (io_read_file(AT_FDCWD, "/proc/swaps", 1u << 16, &text, &len))
		return;
	at = text;
	(void)strsep(&at, "\n"); /* the heading */
	while ((line = strsep(&at, "\n")))
		if (*line) {
			line[strcspn(line, " \t")] = '\0';
			good = good && swap_is_sealed(line);
		}
	tell(d, "swap", good,
		good ? "no swap that is not encrypted"
		     : "there is swap that is not encrypted: what a program read from the mount "
		       "can "
		       "be written there in the clear; encrypt it or turn it off");
}

static void check_limits(struct doctor *d)
{
	struct rlimit lock, core;
	bool good = !getrlimit(RLIMIT_MEMLOCK, &lock) && lock.rlim_cur >= MEMLOCK_WANTED;

	tell(d, "locked-memory", good,
		good ? "enough memory can be locked"
		     : "less than 4 MiB can be locked (ulimit -l): keys may not fit");
	good = !getrlimit(RLIMIT_CORE, &core) && core.rlim_cur == 0;
	tell(d, "core-files", good,
		good ? "no core files are written"
		     : "core files are written; cachet's own are not");
}

static void check_key_file(struct doctor *d, const struct config *c)
{
	const char *at = strstr(c->key_source, "file:");
	struct stat st;
	bool good;

	if (!at || stat(at + strlen("file:"), &st) < 0)
		return;
	good = !(st.st_mode & 077) && st.st_uid == getuid();
	tell(d, "key-file", good,
		good ? "the key file is yours alone (it is the weakest source all the same)"
		     : "others can read the key file: chmod 600");
}

static int check_device(
	struct doctor *d, const struct command_common *common, const struct target *t)
{
	_cleanup_json_ struct json *reply = NULL;
	const char *finding;
	int r = target_do(common, t, "check-device", TARGET_DIRECT, &reply);

	if (r != COMMAND_GO)
		return r;
	finding = show_string(reply, "finding");
	tell(d, "device", show_bool(reply, "agrees"),
		finding ? finding : "the server has this machine's public key");
	return r;
}

static int print(struct doctor *d, struct json *out, bool as_json)
{
	json_set_bool(out, "ok", !d->found);
	json_set_string(out, "version", CACHET_VERSION);
	if (as_json)
		return show_json(out);
	for (const struct json *o = json_first(d->list); o; o = json_next(o)) {
		printf("%-6s %s: ", show_bool(o, "ok") ? "good" : "FOUND", show_string(o, "check"));
		show_text(stdout, show_string(o, "text"));
		putchar('\n');
	}
	printf("cachet %s\n", CACHET_VERSION);
	return EXIT_CODE_OK;
}

static int run(int argc, char **argv)
{
	_cleanup_json_ struct json *out = json_new_object();
	_cleanup_target_ struct target t = { 0 };
	struct doctor d = { .list = json_set_array(out, "checks") };
	struct args args = { 0 };
	int r = target_parse(&command_doctor, &args, argc, argv, &t);

	if (r != COMMAND_GO)
		return r;
	check_swap(&d);
	check_limits(&d);
	check_key_file(&d, t.config);
	if (!strncmp(t.config->key_source, "server:", strlen("server:")))
		r = check_device(&d, &args.common, &t);
	if (r != COMMAND_GO)
		return r;
	r = print(&d, out, args.common.json);
	return r ? r : d.found ? EXIT_CODE_FAILED : EXIT_CODE_OK;
}
