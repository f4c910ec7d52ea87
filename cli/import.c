#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/error.h"
#include "cli/commands.h"
#include "cli/import_copy.h"
#include "cli/import_envelopes.h"
#include "cli/sealed_key.h"
#include "cli/show.h"
#include "cli/target.h"

struct args {
	struct command_common common;
	bool keep, envelopes;
	const char *key_file;
};

static const struct option_def options[] = {
	{ "keep", 0, OPTION_FLAG, offsetof(struct args, keep),
		.help = "leave the originals where they are" },
	{ "envelopes", 0, OPTION_FLAG, offsetof(struct args, envelopes),
		.help = "DIR is a file of record envelopes; it is opened and stays" },
	{ "key-file", 'k', OPTION_STRING, offsetof(struct args, key_file), .arg = "FILE",
		.help = "with --envelopes: read the key from FILE, - for standard input (default: "
			"ask)" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run(int argc, char **argv);

const struct command command_import = {
	.name = "import",
	.usage = "[OPTIONS] DIR TARGET",
	.summary = "Move plain files into a mounted volume, and seal them there",
	.details =
		"DIR, a directory or a file, becomes an entry of TARGET, a directory of a mounted "
		"volume. When all of it\n"
		"is copied, the changes are sent; an original is removed when the origin has "
		"confirmed its copy and the\n"
		"two have been compared again. Killed at any time nothing is lost, and the same "
		"command goes on.\n"
		"What TARGET has already with another content is left alone, like its original. "
		"Sockets, fifos and\n"
		"devices stay where they are. Removed is not overwritten: what a disk keeps of "
		"removed files is there\n"
		"until it uses the place again.\n\n"
		"Exit codes: 3 the volume is not mounted, 4 the origin cannot be reached: nothing "
		"was removed, 9 some\n"
		"originals were left.\n",
	.options = options,
	.run = run,
};

struct import {
	const struct args *args;
	struct target target;
	char *from, *to;
	struct import_copy copy;
};

static void import_done(struct import *m)
{
	import_copy_done(&m->copy);
	target_done(&m->target);
	free(m->from);
	free(m->to);
}

/* Codes of the program, made negative for those between: told apart from errors by their size. */
#define SAID(code) (-20000 - (code))
#define SAID_CODE(r) (-20000 - (r))

static int wait_sent(void *arg)
{
	_cleanup_json_ struct json *request = json_new_object();
	struct import *m = arg;
	int r;

	json_set_string(request, "do", "sync");
	json_set_bool(request, "wait", true);
	r = target_ask(&m->args->common, &m->target, request, TARGET_DAEMON, 0, NULL);
	return r == COMMAND_GO ? 0 : SAID(r);
}

static int confirmed(void *arg, const char *path)
{
	_cleanup_json_ struct json *request = json_new_object(), *reply = NULL;
	struct import *m = arg;
	const char *below = path + strlen(m->target.mountpoint);
	int r;

	/* Such a name never leaves this device, and no request can have it. */
	if (!bytes_is_utf8((const uint8_t *)below, strlen(below)))
		return 0;
	json_set_string(request, "do", "stat");
	json_set_string(request, "path", below + strspn(below, "/"));
	r = target_ask(
		&m->args->common, &m->target, request, TARGET_DAEMON, TARGET_TIMEOUT_MS, &reply);
	return r == COMMAND_GO ? show_bool(reply, "at_origin") : SAID(r);
}

static int fail(const struct import *m, int r)
{
	const struct command_common *c = &m->args->common;

	if (r <= SAID(0))
		return SAID_CODE(r);
	if (r == -ENOSPC)
		return command_fail(c, EXIT_CODE_FAILED,
			"%s is larger than the room that is left in the volume; nothing was "
			"removed",
			m->copy.failed ? m->copy.failed : m->from);
	return command_fail(c, exit_code_of(r), "%s cannot be imported: %s",
		m->copy.failed ? m->copy.failed : m->from, error_text(r));
}

/* Both places as they are; the entry must not be one that lies in the volume already. */
static int find_places(struct import *m, const char *dir, const char *target)
{
	const struct command_common *c = &m->args->common;
	struct stat from, to;
	int r = target_find_path(c, target, &m->target);

	if (r == COMMAND_GO)
		r = target_do(c, &m->target, "ping", TARGET_DAEMON, NULL);
	if (r != COMMAND_GO)
		return r;
	m->from = realpath(dir, NULL);
	if (!m->from || lstat(m->from, &from) < 0)
		return command_fail(
			c, EXIT_CODE_FAILED, "%s cannot be read: %s", dir, strerror(errno));
	if (stat(target, &to) < 0 || !S_ISDIR(to.st_mode))
		return command_fail(c, EXIT_CODE_USAGE, "%s is not a directory", target);
	if (from.st_dev == to.st_dev)
		return command_fail(c, EXIT_CODE_USAGE, "%s lies in the volume already", dir);
	if (!strcmp(m->from, "/"))
		return command_fail(c, EXIT_CODE_USAGE, "not all of the system; name a directory");
	if (bytes_print(&m->to, "%s%s%s%s", m->target.mountpoint, *m->target.path ? "/" : "",
		    m->target.path, strrchr(m->from, '/')))
		return command_fail(c, EXIT_CODE_FAILED, "out of memory");
	return COMMAND_GO;
}

static int print_json(const struct import *m, bool complete)
{
	_cleanup_json_ struct json *o = json_new_object();
	const struct import_totals *t = &m->copy.totals;

	json_set_bool(o, "ok", complete);
	json_set_u64(o, "files", t->files);
	json_set_u64(o, "bytes", t->bytes);
	json_set_u64(o, "removed", t->removed);
	json_set_u64(o, "left", t->left);
	return show_json(o);
}

/* Before the originals go. */
static int record(const struct import *m)
{
	_cleanup_json_ struct json *o = json_new_object();
	int r;

	json_set_string(o, "do", "imported");
	json_set_u64(o, "files", m->copy.totals.files);
	json_set_u64(o, "bytes", m->copy.totals.bytes);
	r = target_ask(&m->args->common, &m->target, o, TARGET_DAEMON, TARGET_TIMEOUT_MS, NULL);
	return r == COMMAND_GO ? 0 : SAID(r);
}

static int print(const struct import *m)
{
	const struct import_totals *t = &m->copy.totals;
	char files[SHOW_MAX], bytes[SHOW_MAX], removed[SHOW_MAX];
	int r = EXIT_CODE_OK;

	if (m->args->common.json)
		r = print_json(m, !t->left);
	else
		printf("imported  %s, %s\nremoved   %s\n",
			show_count(t->files, "file", "files", files), show_bytes(t->bytes, bytes),
			show_count(t->removed, "original", "originals", removed));
	if (r || !t->left)
		return r;
	if (m->args->common.json)
		return EXIT_CODE_PENDING;
	return command_fail(&m->args->common, EXIT_CODE_PENDING,
		"%" PRIu64 " were left: the volume has something else in their place, "
		"or cannot have them%s%s",
		t->left, t->first_left ? "; the first is " : "",
		t->first_left ? t->first_left : "");
}

static int fail_envelopes(const struct import *m, const char *file, size_t at, int r)
{
	const struct command_common *c = &m->args->common;

	if (r == CE_TAMPER)
		return command_fail(c, EXIT_CODE_KEY,
			"envelope %zu of %s does not open: it was changed, or the key is another; "
			"nothing was written",
			at, file);
	if (r == CE_FORMAT && !at)
		return command_fail(
			c, EXIT_CODE_DAMAGED, "%s is not a JSON array of record envelopes", file);
	if (r == CE_FORMAT || r == CE_CORRUPT)
		return command_fail(c, EXIT_CODE_DAMAGED,
			"envelope %zu of %s is of no known form; nothing was written", at, file);
	return command_fail(c, exit_code_of(r), "%s cannot be imported: %s", file, error_text(r));
}

static int run_envelopes(struct import *m, const char *file, const char *target)
{
	_cleanup_secret_ struct secret *key = NULL;
	size_t at;
	int r = target_find_path(&m->args->common, target, &m->target);

	if (r == COMMAND_GO)
		r = target_do(&m->args->common, &m->target, "ping", TARGET_DAEMON, NULL);
	if (r == COMMAND_GO)
		r = sealed_key_read(&m->args->common, m->args->key_file, &key);
	if (r != COMMAND_GO)
		return r;
	r = import_envelopes(file, key, target, &m->copy.totals, &at);
	if (r)
		return fail_envelopes(m, file, at, r);
	r = record(m);
	return r ? fail(m, r) : print(m);
}

static int run(int argc, char **argv)
{
	struct args args = { 0 };
	_cleanup_(import_done) struct import m = { .args = &args };
	int first, r = command_parse(&command_import, &args, argc, argv, 2, 2, &first);

	if (r == COMMAND_GO && args.envelopes)
		return run_envelopes(&m, argv[first], argv[first + 1]);
	if (r == COMMAND_GO)
		r = find_places(&m, argv[first], argv[first + 1]);
	if (r != COMMAND_GO)
		return r;
	m.copy.from = m.from;
	m.copy.to = m.to;
	m.copy.confirmed = confirmed;
	m.copy.full = wait_sent;
	m.copy.arg = &m;
	r = import_copy_in(&m.copy);
	if (!r)
		r = record(&m);
	if (!r && !args.keep)
		r = wait_sent(&m);
	if (!r && !args.keep)
		r = import_copy_remove(&m.copy);
	return r ? fail(&m, r) : print(&m);
}
