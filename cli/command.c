#include "cli/command.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/show.h"

const struct command *const command_table[] = {
	&command_init,
	&command_mount,
	&command_umount,
	&command_status,
	&command_sync,
	&command_online,
	&command_offline,
	&command_stat,
	&command_pin,
	&command_unpin,
	&command_free,
	&command_warm,
	&command_ready,
	&command_record,
	&command_watch,
	&command_wait,
	&command_journal,
	&command_journal_ls,
	&command_journal_top,
	&command_journal_show,
	&command_journal_retry,
	&command_journal_hold,
	&command_journal_drop,
	&command_journal_export,
	&command_journal_import,
	&command_conflicts,
	&command_conflicts_ls,
	&command_conflicts_show,
	&command_conflicts_diff,
	&command_conflicts_resolve,
	&command_events,
	&command_verify,
	&command_export,
	&command_view,
	&command_import,
	&command_lock,
	&command_unlock,
	&command_wipe,
	&command_enroll,
	&command_keys,
	&command_rotate,
	&command_rekey,
	&command_passphrase,
	&command_token,
	&command_doctor,
	&command_job_run,
	&command_job_ls,
	&command_job_result,
	&command_serve,
	&command_serve_token_add,
	&command_serve_token_ls,
	&command_serve_token_revoke,
	&command_serve_account_ls,
	&command_serve_account_close,
	&command_serve_audit,
	&command_serve_device_ls,
	&command_serve_device_revoke,
	&command_serve_device_trust,
	&command_serve_device_untrust,
	&command_serve_rotate,
	&command_serve_backup,
	&command_serve_restored,
	&command_serve_store_add,
	&command_serve_store_ls,
	&command_serve_import,
	&command_serve_query_add,
	&command_serve_query_ls,
	&command_serve_query_rm,
	&command_help,
	&command_version,
	NULL,
};

/* How many words `name` has, if argv begins with all of them; else 0. */
static int match_words(const char *name, int argc, char **argv)
{
	int words = 0;

	for (;; name++) {
		size_t len = strcspn(name, " ");

		if (words == argc || strlen(argv[words]) != len ||
			memcmp(argv[words], name, len) != 0)
			return 0;
		words++;
		name += len;
		if (!*name)
			return words;
	}
}

const struct command *command_find(int argc, char **argv, int *words)
{
	const struct command *best = NULL;

	*words = 0;
	for (size_t i = 0; command_table[i]; i++) {
		int n = match_words(command_table[i]->name, argc, argv);

		if (n > *words) {
			*words = n;
			best = command_table[i];
		}
	}
	return best;
}

void command_print_help(const struct command *c)
{
	printf("Usage: cachet %s %s\n\n%s.\n", c->name, c->usage, c->summary);
	if (c->details)
		printf("\n%s", c->details);
	printf("\nOptions:\n");
	options_print_help(c->options, stdout);
}

/* A sentence may have a path in it, and a path any bytes. */
static int format(char **out, const char *fmt, va_list args) PRINTF_LIKE(2, 0);

static int format(char **out, const char *fmt, va_list args)
{
	_cleanup_free_ char *raw = NULL;
	size_t len;
	FILE *f;

	if (bytes_vprint(&raw, fmt, args))
		return -ENOMEM;
	f = open_memstream(out, &len);
	if (!f)
		return -ENOMEM;
	show_text(f, raw);
	return fclose(f) ? -ENOMEM : 0;
}

int command_fail(const struct command_common *common, enum exit_code code, const char *fmt, ...)
{
	_cleanup_free_ char *sentence = NULL;
	va_list args;
	int r;

	if (common && common->quiet)
		return (int)code;
	va_start(args, fmt);
	r = format(&sentence, fmt, args);
	va_end(args);
	if (r) {
		fputs("cachet: out of memory\n", stderr);
		return EXIT_CODE_FAILED;
	}
	if (common && common->json) {
		_cleanup_json_ struct json *o = json_new_object();
		_cleanup_free_ char *text = NULL;

		json_set_bool(o, "ok", false);
		json_set_string(o, "code", exit_code_name(code));
		json_set_string(o, "error", sentence);
		if (!json_print(o, true, &text))
			printf("%s\n", text);
	} else {
		fprintf(stderr, "cachet: %s\n", sentence);
	}
	return (int)code;
}

int command_failed(const struct command_common *common, int r, const char *error)
{
	return command_fail(common, exit_code_of(r), "%s", error ? error : error_text(r));
}

int command_parse(
	const struct command *c, void *args, int argc, char **argv, int min, int max, int *first)
{
	struct command_common *common = args;
	_cleanup_free_ char *error = NULL;
	int n, r;

	r = options_parse(c->options, args, argc, argv, &n, &error);
	if (common->help) {
		command_print_help(c);
		return EXIT_CODE_OK;
	}
	if (r)
		return command_fail(common, EXIT_CODE_USAGE, "%s", error ? error : "out of memory");
	if (argc - n < min)
		return command_fail(common, EXIT_CODE_USAGE, "an argument is missing: cachet %s %s",
			c->name, c->usage);
	if (argc - n > max)
		return command_fail(common, EXIT_CODE_USAGE, "too many arguments: cachet %s %s",
			c->name, c->usage);
	*first = n;
	return COMMAND_GO;
}
