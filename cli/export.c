#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/secret.h"
#include "cli/commands.h"
#include "cli/export_form.h"
#include "cli/export_pack.h"
#include "cli/export_records.h"
#include "cli/export_result.h"
#include "cli/target.h"
#include "crypto/bundle.h"

struct args {
	struct command_common common;
	bool html, records;
	const char *output;
};

static const struct option_def options[] = {
	{ "output", 'o', OPTION_STRING, offsetof(struct args, output), .arg = "FILE",
		.help = "write the sealed export to FILE, which must not exist" },
	{ "html", 0, OPTION_FLAG, offsetof(struct args, html),
		.help = "FILE becomes a page that opens in a browser with the key (at most 256 "
			"MiB)" },
	{ "records", 0, OPTION_FLAG, offsetof(struct args, records),
		.help = "FILE becomes a JSON array of record envelopes, for other programs" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run(int argc, char **argv);

const struct command command_export = {
	.name = "export",
	.usage = "[OPTIONS] PATH... -o FILE",
	.summary = "Seal files and directories into one file under a fresh key",
	.details =
		"PATHs lie in one mounted volume. Files that are not on this disk are fetched. The "
		"key is made for\n"
		"this export, printed once and kept nowhere: who loses it has lost the export. "
		"`cachet view FILE`\n"
		"opens it, and so does any browser the page of --html, without a network. Links of "
		"files become\n"
		"copies; sockets, fifos and owners are left out.\n\n"
		"With --json the result is {encrypted_data, encryption_key, filename, warning}, "
		"and "
		"-o is not\n"
		"needed; encrypted_data is in hexadecimal and left out with --html. The event log "
		"records that an\n"
		"export was made, not of what.\n\n"
		"Exit codes: 3 the volume is not mounted, 4 a file has to be fetched and the "
		"origin "
		"cannot be\n"
		"reached.\n",
	.options = options,
	.run = run,
};

struct export
{
	const struct args *args;
	struct target target; /* of the first path; the others are of the same volume */
	struct export_root *roots;
	size_t n_roots;
	struct export_form form;
	struct export_totals totals;
	struct secret *key;
};

static void export_done(struct export *x)
{
	for (size_t i = 0; i < x->n_roots; i++) {
		free(x->roots[i].path);
		free(x->roots[i].name);
	}
	free(x->roots);
	target_done(&x->target);
	secret_free(x->key);
	export_form_done(&x->form);
}

static int set_root(struct export *x, const struct target *t, struct export_root *root)
{
	const char *slash = strrchr(t->path, '/');
	const char *name = slash ? slash + 1 : *t->path ? t->path : t->config->name;

	root->name = strdup(name);
	if (!root->name ||
		bytes_print(&root->path, "%s%s%s", t->mountpoint, *t->path ? "/" : "", t->path))
		return command_fail(&x->args->common, EXIT_CODE_FAILED, "out of memory");
	for (struct export_root *other = x->roots; other < root; other++)
		if (!strcmp(other->name, name))
			return command_fail(&x->args->common, EXIT_CODE_USAGE,
				"two of the paths have the same name, %s; export the directory "
				"above them, or one after the other",
				name);
	return COMMAND_GO;
}

static int add_root(struct export *x, const char *path)
{
	_cleanup_target_ struct target t = { 0 };
	int r = target_find_path(&x->args->common, path, &t);

	if (r != COMMAND_GO)
		return r;
	if (!t.path)
		return command_fail(
			&x->args->common, EXIT_CODE_USAGE, "%s does not lie in a volume", path);
	if (x->n_roots && strcmp(t.socket, x->target.socket) != 0)
		return command_fail(&x->args->common, EXIT_CODE_USAGE,
			"the paths lie in different volumes; export them one after the other");
	r = set_root(x, &t, &x->roots[x->n_roots++]);
	if (x->n_roots == 1) {
		x->target = t;
		t = (struct target){ 0 };
	}
	return r;
}

static int find_roots(struct export *x, char **paths, size_t n)
{
	int r = COMMAND_GO;

	x->roots = calloc(n, sizeof(*x->roots));
	if (!x->roots)
		return command_fail(&x->args->common, EXIT_CODE_FAILED, "out of memory");
	for (size_t i = 0; i < n && r == COMMAND_GO; i++)
		r = add_root(x, paths[i]);
	return r == COMMAND_GO
		       ? target_do(&x->args->common, &x->target, "ping", TARGET_DAEMON, NULL)
		       : r;
}

/* What the daemon knows of a file of the export. */
static int ask(void *arg, const char *path, struct json **reply)
{
	_cleanup_json_ struct json *request = json_new_object();
	const struct export *x = arg;
	const char *below = path + strlen(x->target.mountpoint);

	json_set_string(request, "do", "stat");
	json_set_string(request, "path", below + strspn(below, "/"));
	return target_ask(&x->args->common, &x->target, request, TARGET_DAEMON, TARGET_TIMEOUT_MS,
		       reply) == COMMAND_GO
		       ? 0
		       : CE_HELD;
}

static int seal_records(struct export *x, char **error)
{
	struct envelope_list list = { .form = &x->form, .key = x->key };
	struct export_records records = { &list, ask, x, x->target.mountpoint };

	return export_records(&records, x->roots, x->n_roots, &x->totals, error);
}

static int seal_bundle(struct export *x, char **error)
{
	struct bundle_sink sink = export_form_sink(&x->form);
	struct bundle_writer *w;
	int r = bundle_writer_new(secret_cbytes(x->key), BUNDLE_TAR, &sink, &w);

	if (r)
		return r;
	r = export_pack(w, x->roots, x->n_roots, &x->totals, error);
	if (!r)
		r = bundle_finish(w);
	bundle_writer_free(w);
	return r;
}

static int seal(struct export *x, char **error)
{
	int r = secret_new_random(BUNDLE_KEY_LEN, &x->key);

	if (!r)
		r = x->args->records ? seal_records(x, error) : seal_bundle(x, error);
	return r ? r : export_form_finish(&x->form);
}

static int fail(const struct export *x, int r, const char *path)
{
	const struct command_common *c = &x->args->common;

	if (r == CE_TOO_LARGE && x->args->html)
		return command_fail(c, EXIT_CODE_FAILED,
			"a page holds at most %" PRIu64 " MiB; leave out --html, or export less",
			EXPORT_FORM_PAGE_MAX_BYTES >> 20);
	if (r == CE_TOO_LARGE && path)
		return command_fail(c, EXIT_CODE_FAILED,
			"%s is larger than an envelope holds (%u MiB); export it without --records",
			path, ENVELOPE_LIST_CONTENT_MAX >> 20);
	if (r == CE_FORMAT && path)
		return command_fail(c, EXIT_CODE_FAILED,
			"%s has a name that is not UTF-8, and JSON can have no other; export it "
			"without --records",
			path);
	if (r == CE_STALE && path)
		return command_fail(
			c, EXIT_CODE_FAILED, "%s changed while it was read; try again", path);
	if (path)
		return command_fail(c, r == -EHOSTUNREACH ? EXIT_CODE_OFFLINE : EXIT_CODE_FAILED,
			"%s cannot be read: %s", path, error_text(r));
	return command_fail(c, exit_code_of(r), "the export cannot be written: %s", error_text(r));
}

/* The log knows of the export before anybody has its key. */
static int record(const struct export *x)
{
	_cleanup_json_ struct json *o = json_new_object();

	json_set_string(o, "do", "exported");
	json_set_u64(o, "files", x->totals.files);
	json_set_u64(o, "bytes", x->totals.bytes);
	return target_ask(&x->args->common, &x->target, o, TARGET_DAEMON, TARGET_TIMEOUT_MS, NULL);
}

static int print(const struct export *x)
{
	_cleanup_free_ char *name = NULL;
	const bool records = x->args->records;
	struct export_result result = {
		.common = &x->args->common,
		.form = &x->form,
		.key = x->key,
		.totals = &x->totals,
		.content = x->args->html     ? EXPORT_RESULT_KEY
			   : !records        ? EXPORT_RESULT_SEALED
			   : x->args->output ? EXPORT_RESULT_KEY
					     : EXPORT_RESULT_RECORDS,
	};

	if (bytes_print(&name, "%s.%s", x->roots[0].name, records ? "json" : "cachet"))
		return -ENOMEM;
	result.name = name;
	return export_result_print(&result);
}

static int export(struct export *x)
{
	_cleanup_free_ char *path = NULL;
	int r = export_form_open(&x->form, x->args->output, x->args->html);

	if (r == -EEXIST)
		return command_fail(&x->args->common, EXIT_CODE_USAGE,
			"%s exists; an export replaces nothing", x->args->output);
	if (r)
		return fail(x, r, NULL);
	r = seal(x, &path);
	r = r ? fail(x, r, path) : record(x);
	if (r == COMMAND_GO) {
		r = print(x);
		r = r ? fail(x, r, NULL) : EXIT_CODE_OK;
	}
	if (r != EXIT_CODE_OK)
		export_form_discard(&x->form);
	return r;
}

static int run(int argc, char **argv)
{
	struct args args = { 0 };
	_cleanup_(export_done) struct export x = { .args = &args, .form.fd = -1 };
	int first, r = command_parse(&command_export, &args, argc, argv, 1, INT16_MAX, &first);

	if (r != COMMAND_GO)
		return r;
	if (args.html && args.records)
		return command_fail(&args.common, EXIT_CODE_USAGE,
			"--html and --records cannot be given together");
	if (!args.output && (args.html || !args.common.json))
		return command_fail(
			&args.common, EXIT_CODE_USAGE, "say where the export goes: -o FILE");
	r = find_roots(&x, argv + first, (size_t)(argc - first));
	return r == COMMAND_GO ? export(&x) : r;
}
