#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/io.h"
#include "base/secret.h"
#include "cli/commands.h"
#include "cli/export_form.h"
#include "cli/export_pack.h"
#include "cli/show.h"
#include "cli/target.h"
#include "crypto/bundle.h"

#define KEY_TEXT_LEN ((size_t)2 * BUNDLE_KEY_LEN)
#define WARNING "Store this key securely. Without it, the encrypted data cannot be decrypted."

struct args {
	struct command_common common;
	bool html;
	const char *output;
};

static const struct option_def options[] = {
	{ "output", 'o', OPTION_STRING, offsetof(struct args, output), .arg = "FILE",
		.help = "write the sealed export to FILE, which must not exist" },
	{ "html", 0, OPTION_FLAG, offsetof(struct args, html),
		.help = "FILE becomes a page that opens in a browser with the key (at most 256 "
			"MiB)" },
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
	if (asprintf(&root->path, "%s%s%s", t->mountpoint, *t->path ? "/" : "", t->path) < 0)
		root->path = NULL;
	if (!root->name || !root->path)
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

static int seal(struct export *x, char **error)
{
	struct bundle_sink sink = export_form_sink(&x->form);
	struct bundle_writer *w = NULL;
	int r = secret_new_random(BUNDLE_KEY_LEN, &x->key);

	if (!r)
		r = bundle_writer_new(secret_cbytes(x->key), BUNDLE_TAR, &sink, &w);
	if (!r)
		r = export_pack(w, x->roots, x->n_roots, &x->totals, error);
	if (!r)
		r = bundle_finish(w);
	bundle_writer_free(w);
	return r ? r : export_form_finish(&x->form);
}

static int fail(const struct export *x, int r, const char *path)
{
	const struct command_common *c = &x->args->common;

	if (r == CE_TOO_LARGE && x->args->html)
		return command_fail(c, EXIT_CODE_FAILED,
			"a page holds at most %" PRIu64 " MiB; leave out --html, or export less",
			EXPORT_FORM_PAGE_MAX_BYTES >> 20);
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

/* `before` key `after`, to standard output, through no buffer that is not wiped. */
static int print_key(const struct export *x, const char *before, const char *after)
{
	_cleanup_secret_ struct secret *text = NULL;
	int r = secret_new(KEY_TEXT_LEN + 1, &text);

	if (r)
		return r;
	bytes_to_hex(secret_cbytes(x->key), BUNDLE_KEY_LEN, (char *)secret_bytes(text));
	if (fflush(stdout))
		return -errno;
	r = io_write_full(STDOUT_FILENO, before, strlen(before));
	if (!r)
		r = io_write_full(STDOUT_FILENO, secret_cbytes(text), KEY_TEXT_LEN);
	return r ? r : io_write_full(STDOUT_FILENO, after, strlen(after));
}

static int print_sealed(const struct export *x)
{
	uint8_t data[4096];
	char hex[2 * sizeof(data) + 1];
	off_t at = 0;

	printf(",\"encrypted_data\":\"");
	for (;;) {
		ssize_t n = pread(x->form.fd, data, sizeof(data), at);

		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		bytes_to_hex(data, (size_t)n, hex);
		fputs(hex, stdout);
		at += n;
	}
	printf("\"");
	return ferror(stdout) ? -EIO : 0;
}

static int default_name(const struct export *x, char **out)
{
	return asprintf(out, "%s.cachet", x->roots[0].name) < 0 ? -ENOMEM : 0;
}

static int print_json(const struct export *x)
{
	_cleanup_json_ struct json *o = json_new_object();
	_cleanup_free_ char *text = NULL, *name = NULL;
	const char *slash = x->args->output ? strrchr(x->args->output, '/') : NULL;
	int r = x->args->output ? 0 : default_name(x, &name);

	json_set_bool(o, "ok", true);
	json_set_string(o, "filename", slash ? slash + 1 : name ? name : x->args->output);
	json_set_string(o, "warning", WARNING);
	json_set_u64(o, "files", x->totals.files);
	json_set_u64(o, "bytes", x->totals.bytes);
	json_set_u64(o, "skipped", x->totals.skipped);
	if (!r)
		r = json_print(o, false, &text);
	if (r)
		return r;
	text[strlen(text) - 1] = '\0'; /* the brace comes last */
	fputs(text, stdout);
	r = print_key(x, ",\"encryption_key\":\"", "\"");
	if (!r && !x->args->html)
		r = print_sealed(x);
	puts("}");
	return !r && fflush(stdout) ? -errno : r;
}

static int print(const struct export *x)
{
	char files[SHOW_MAX], skipped[SHOW_MAX], bytes[SHOW_MAX];

	printf("sealed    %s, %s, in ", show_count(x->totals.files, "file", "files", files),
		show_bytes(x->totals.bytes, bytes));
	show_text(stdout, x->args->output);
	putchar('\n');
	if (x->totals.skipped)
		printf("left out  %s\n", show_count(x->totals.skipped, "socket, fifo or device",
						 "sockets, fifos and devices", skipped));
	return print_key(x, "key       ", "\n" WARNING "\n");
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
		r = x->args->common.json ? print_json(x) : print(x);
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
	if (!args.output && (args.html || !args.common.json))
		return command_fail(
			&args.common, EXIT_CODE_USAGE, "say where the export goes: -o FILE");
	r = find_roots(&x, argv + first, (size_t)(argc - first));
	return r == COMMAND_GO ? export(&x) : r;
}
