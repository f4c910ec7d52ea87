/* The journal as it drains, as top(1) shows processes. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/journal.h"
#include "cli/show.h"
#include "cli/target.h"

#define EVERY_S 2
#define HEAD_LINES 3
#define CLEAR "\033[H\033[2J"
#define WRAP_OFF "\033[?7l" /* a long path is cut off, not continued */
#define WRAP_ON "\033[?7h"

static const struct option_def options[] = { COMMAND_COMMON, OPTION_END };

static int run(int argc, char **argv);

const struct command command_journal_top = {
	.name = "journal top",
	.usage = "[OPTIONS] [NAME|PATH]",
	.summary = "Show the changes that are being sent, until interrupted",
	.details =
		"What is on its way stands first, then what was refused or waits for you, then "
		"the queue.\n"
		"Shown anew every two seconds; once when the output is no terminal, with --json, "
		"or when\n"
		"the volume is not mounted. Lines as in `cachet journal ls`.\n",
	.options = options,
	.run = run,
};

struct frame {
	struct json *status, *journal;
};

static void frame_done(struct frame *f)
{
	json_free(f->status);
	json_free(f->journal);
	*f = (struct frame){ 0 };
}

static int take(const struct command_common *common, const struct target *t, struct frame *f)
{
	int r = target_do(common, t, "journal", TARGET_DIRECT, &f->journal);

	return r == COMMAND_GO ? target_do(common, t, "status", TARGET_DIRECT, &f->status) : r;
}

static void print_head(const struct frame *f, uint64_t sent_before)
{
	const char *state = show_string(f->status, "state");
	const uint64_t sent = show_u64(f->status, "sent_bytes");
	char count[SHOW_MAX], size[SHOW_MAX], rate[SHOW_MAX];

	printf("%s: %s to send, %s", state ? state : "not mounted",
		show_count(show_u64(f->status, "pending"), "operation", "operations", count),
		show_bytes(show_u64(f->status, "pending_bytes"), size));
	if (sent >= sent_before)
		printf(", %s a second", show_bytes((sent - sent_before) / EVERY_S, rate));
	printf("\nrefused %" PRIu64 ", held %" PRIu64 ", conflicts %" PRIu64 "\n\n",
		show_u64(f->status, "refused"), show_u64(f->status, "held"),
		show_u64(f->status, "conflicts"));
}

static void print_operations(const struct json *reply, size_t most)
{
	static const char *const states[] = { "inflight", "refused", "held", "queued" };
	const struct json *list = show_member(reply, "operations");

	for (size_t i = 0; i < sizeof(states) / sizeof(*states); i++) {
		const struct json *o = list ? json_first(list) : NULL;

		for (; o && most; o = json_next(o)) {
			const char *state = show_string(o, "state");

			if (!state || strcmp(state, states[i]) != 0)
				continue;
			journal_print(o);
			most--;
		}
	}
}

static size_t lines_of_terminal(void)
{
	struct winsize w;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) < 0 || w.ws_row <= HEAD_LINES + 1)
		return 20;
	return w.ws_row - HEAD_LINES - 1U;
}

static int follow(const struct command_common *common, const struct target *t)
{
	uint64_t sent = UINT64_MAX;
	int r;

	for (;;) {
		struct frame f = { 0 };

		r = take(common, t, &f);
		if (r == COMMAND_GO) {
			fputs(CLEAR WRAP_OFF, stdout);
			print_head(&f, sent);
			print_operations(f.journal, lines_of_terminal());
			fputs(WRAP_ON, stdout);
			sent = show_u64(f.status, "sent_bytes");
		}
		frame_done(&f);
		if (r != COMMAND_GO || fflush(stdout))
			return r == COMMAND_GO ? EXIT_CODE_FAILED : r;
		sleep(EVERY_S);
	}
}

static int once(const struct command_common *common, const struct target *t)
{
	struct frame f = { 0 };
	int r = take(common, t, &f);

	if (r == COMMAND_GO && common->json) {
		r = show_json(f.journal);
	} else if (r == COMMAND_GO) {
		print_head(&f, UINT64_MAX);
		print_operations(f.journal, SIZE_MAX);
		r = EXIT_CODE_OK;
	}
	frame_done(&f);
	return r;
}

static int run(int argc, char **argv)
{
	_cleanup_target_ struct target t = { 0 };
	struct command_common args = { 0 };
	int r = target_parse(&command_journal_top, &args, argc, argv, &t);

	if (r != COMMAND_GO)
		return r;
	if (args.json || !isatty(STDOUT_FILENO) || !target_is_mounted(&t))
		return once(&args, &t);
	return follow(&args, &t);
}
