#include <inttypes.h>
#include <stdio.h>

#include "cli/commands.h"
#include "cli/show.h"
#include "cli/target.h"

static const struct option_def options[] = { COMMAND_COMMON, OPTION_END };

static int run(int argc, char **argv);

const struct command command_verify = {
	.name = "verify",
	.usage = "[OPTIONS] [NAME|PATH]",
	.summary = "Check the sealed copy, and repair what can be",
	.details =
		"Opens every piece of content that is here, or that of one file, and checks the "
		"index. What\n"
		"fails authentication and is at the origin is dropped, and fetched again when it "
		"is next read;\n"
		"what was never sent is kept as it is, not sent, and named in `cachet status`. "
		"The member\n"
		"scrub_rate of the configuration (bytes a second) does the same in the "
		"background.\n\n"
		"Exit code 7: unsent content is damaged, or the index is.\n",
	.options = options,
	.run = run,
};

struct sum {
	uint64_t files, chunks, bytes, healed, damaged, total_bytes;
};

static void add(struct sum *s, const struct json *reply)
{
	s->files += show_u64(reply, "files");
	s->chunks += show_u64(reply, "chunks");
	s->bytes += show_u64(reply, "bytes");
	s->healed += show_u64(reply, "healed");
	s->damaged += show_u64(reply, "damaged");
	s->total_bytes = show_u64(reply, "total_bytes");
}

/* `last`: the answer to the last question; NULL: this is the first. */
static int ask(const struct command_common *common, const struct target *t, const struct json *last,
	struct json **reply)
{
	_cleanup_json_ struct json *request = json_new_object();

	json_set_string(request, "do", "verify");
	json_set_u64(request, "map", show_u64(last, "map"));
	json_set_u64(request, "chunk", show_u64(last, "chunk"));
	if (t->path)
		json_set_string(request, "path", t->path);
	return target_ask(common, t, request, TARGET_DIRECT, 0, reply);
}

static int verify_all(const struct command_common *common, const struct target *t, struct sum *s)
{
	bool bar = isatty(STDERR_FILENO) && !common->json, done = false;
	_cleanup_json_ struct json *last = NULL;

	while (!done) {
		struct json *reply = NULL;
		int r = ask(common, t, last, &reply);

		if (r != COMMAND_GO)
			return r;
		json_free(last);
		last = reply;
		add(s, reply);
		done = show_bool(reply, "done");
		if (bar)
			show_bar(s->bytes, s->total_bytes, done);
	}
	return COMMAND_GO;
}

static int print_json(const struct sum *s)
{
	_cleanup_json_ struct json *o = json_new_object();

	json_set_bool(o, "ok", true);
	json_set_u64(o, "files", s->files);
	json_set_u64(o, "chunks", s->chunks);
	json_set_u64(o, "bytes", s->bytes);
	json_set_u64(o, "healed", s->healed);
	json_set_u64(o, "damaged", s->damaged);
	return show_json(o);
}

static void print(const struct sum *s)
{
	char files[SHOW_MAX], bytes[SHOW_MAX], count[SHOW_MAX];

	printf("%s, %s\n", show_count(s->files, "file", "files", files),
		show_bytes(s->bytes, bytes));
	if (s->healed)
		printf("%s dropped, to be fetched again when read\n",
			show_count(s->healed, "damaged piece", "damaged pieces", count));
	if (s->damaged)
		printf("%s of unsent content: `cachet status` names the files\n",
			show_count(s->damaged, "damaged piece", "damaged pieces", count));
	if (!s->healed && !s->damaged)
		printf("no damage\n");
}

static int run(int argc, char **argv)
{
	_cleanup_target_ struct target t = { 0 };
	struct command_common args = { 0 };
	struct sum s = { 0 };
	int r = target_parse(&command_verify, &args, argc, argv, &t);

	if (r == COMMAND_GO)
		r = verify_all(&args, &t, &s);
	if (r != COMMAND_GO)
		return r;
	if (args.json)
		r = print_json(&s);
	else
		print(&s);
	if (r > 0)
		return r;
	return s.damaged ? EXIT_CODE_DAMAGED : EXIT_CODE_OK;
}
