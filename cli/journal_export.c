#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/envelope_list.h"
#include "cli/export_result.h"
#include "cli/show.h"
#include "cli/target.h"
#include "crypto/aead.h"

struct args {
	struct command_common common;
	const char *output;
};

static const struct option_def options[] = {
	{ "output", 'o', OPTION_STRING, offsetof(struct args, output), .arg = "FILE",
		.help = "write the sealed changes to FILE, which must not exist" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run(int argc, char **argv);

const struct command command_journal_export = {
	.name = "journal export",
	.usage = "[OPTIONS] [NAME|PATH] -o FILE",
	.summary = "Seal the changes that are not yet at the origin, for other programs",
	.details =
		"FILE becomes a JSON array of record envelopes, {enc, meta}, one for each change, "
		"in "
		"their order, under\n"
		"a fresh key that is printed once and kept nowhere. The journal stays as it is. "
		"With "
		"--json, -o is not\n"
		"needed: the result has the array as records. Works also while the volume is not "
		"mounted.\n",
	.options = options,
	.run = run,
};

struct export
{
	const struct args *args;
	struct target target;
	struct export_form form;
	struct export_totals totals;
	struct secret *key;
};

static void export_done(struct export *x)
{
	target_done(&x->target);
	secret_free(x->key);
	export_form_done(&x->form);
}

/* One change; it may have been sent since the list was made. */
static int add(struct export *x, struct envelope_list *list, uint64_t seq)
{
	_cleanup_json_ struct json *request = json_new_object(), *reply = NULL;
	const struct json *operation;
	int r;

	json_set_string(request, "do", "operation");
	json_set_u64(request, "seq", seq);
	r = target_ask(
		&x->args->common, &x->target, request, TARGET_DIRECT, TARGET_TIMEOUT_MS, &reply);
	if (r != COMMAND_GO)
		return r;
	operation = show_member(reply, "operation");
	if (!operation)
		return COMMAND_GO;
	r = envelope_list_add(list, reply, operation);
	if (r)
		return command_fail(&x->args->common, exit_code_of(r),
			"change %" PRIu64 " cannot be sealed: %s", seq, error_text(r));
	x->totals.files++;
	x->totals.bytes += show_u64(operation, "size");
	return COMMAND_GO;
}

static int add_all(struct export *x)
{
	struct envelope_list list = { .form = &x->form, .key = x->key };
	_cleanup_json_ struct json *reply = NULL;
	const struct json *operations;
	int r = target_do(&x->args->common, &x->target, "journal", TARGET_DIRECT, &reply);

	operations = r == COMMAND_GO ? show_member(reply, "operations") : NULL;
	for (const struct json *o = operations ? json_first(operations) : NULL;
		o && r == COMMAND_GO; o = json_next(o))
		r = add(x, &list, show_u64(o, "seq"));
	if (r != COMMAND_GO)
		return r;
	r = envelope_list_end(&list);
	if (!r)
		r = export_form_finish(&x->form);
	return r ? command_fail(&x->args->common, exit_code_of(r),
			   "the changes cannot be written: %s", error_text(r))
		 : COMMAND_GO;
}

static int record(const struct export *x)
{
	_cleanup_json_ struct json *o = json_new_object();

	json_set_string(o, "do", "exported");
	json_set_u64(o, "files", x->totals.files);
	json_set_u64(o, "bytes", x->totals.bytes);
	return target_ask(&x->args->common, &x->target, o, TARGET_DIRECT, TARGET_TIMEOUT_MS, NULL);
}

static int export(struct export *x)
{
	const struct export_result result = {
		.common = &x->args->common,
		.form = &x->form,
		.key = x->key,
		.name = "journal.json",
		.totals = &x->totals,
		.content = x->args->output ? EXPORT_RESULT_KEY : EXPORT_RESULT_RECORDS,
	};
	int r = add_all(x);

	if (r == COMMAND_GO)
		r = record(x);
	if (r != COMMAND_GO)
		return r;
	r = export_result_print(&result);
	return r ? command_fail(&x->args->common, exit_code_of(r), "the key cannot be written: %s",
			   error_text(r))
		 : EXIT_CODE_OK;
}

static int run(int argc, char **argv)
{
	struct args args = { 0 };
	_cleanup_(export_done) struct export x = { .args = &args, .form.fd = -1 };
	int r = target_parse(&command_journal_export, &args, argc, argv, &x.target);

	if (r != COMMAND_GO)
		return r;
	if (!args.output && !args.common.json)
		return command_fail(
			&args.common, EXIT_CODE_USAGE, "say where the changes go: -o FILE");
	r = secret_new_random(AEAD_KEY_LEN, &x.key);
	if (!r)
		r = export_form_open(&x.form, args.output, false);
	if (r)
		return command_fail(&args.common, r == -EEXIST ? EXIT_CODE_USAGE : exit_code_of(r),
			"%s cannot be made: %s", args.output ? args.output : "a temporary file",
			error_text(r));
	r = export(&x);
	if (r != EXIT_CODE_OK)
		export_form_discard(&x.form);
	return r;
}
