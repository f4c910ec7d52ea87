#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/show.h"
#include "cli/target.h"

struct args {
	struct command_common common;
	bool all, check;
};

static const struct option_def options[] = {
	{ "all", 'a', OPTION_FLAG, offsetof(struct args, all),
		.help = "show every configured volume" },
	{ "check", 'c', OPTION_FLAG, offsetof(struct args, check),
		.help = "tell by the exit code whether all is well: 7, 3, 5, 4, 9 or 0" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run(int argc, char **argv);

const struct command command_status = {
	.name = "status",
	.usage = "[OPTIONS] [NAME|PATH]",
	.summary = "Show the link to the origin, unsent work, conflicts, space and damage",
	.details = "Asks the daemon when the volume is mounted, and the volume itself (which needs "
		   "its key) when it is\n"
		   "not. With --all and --json the result is {\"ok\":true,\"volumes\":[...]}.\n\n"
		   "Exit codes with --check, the first that applies: 7 something is damaged, 3 not "
		   "mounted,\n"
		   "5 the origin refuses the token, 4 it cannot be reached, 9 work is left.\n",
	.options = options,
	.run = run,
};

static void print_link(const struct json *o)
{
	const char *state = show_string(o, "state"), *error = show_string(o, "last_error");
	int64_t contact = show_i64(o, "last_contact_ns"),
		paused_s = (show_i64(o, "paused_ms") + 999) / 1000;
	char age[SHOW_MAX];

	if (!state || !show_bool(o, "mounted")) {
		printf("  link        not mounted\n");
		return;
	}
	printf("  link        %s", state);
	if (strcmp(state, "online") != 0) {
		printf(contact ? ", last contact %s" : ", no contact since the mount",
			show_age(contact, age));
		if (error) {
			printf(": ");
			show_text(stdout, error);
		}
	}
	if (paused_s)
		printf("; not asked again for %" PRId64 " s, as it wants it (`cachet sync` does)",
			paused_s);
	putchar('\n');
	if (show_bool(o, "feed_live"))
		printf("  freshness   live: changes at the origin arrive as they happen\n");
	else
		printf("  freshness   as of %s\n",
			contact ? show_age(contact, age) : "the last mount");
}

static void print_rates(const struct json *o)
{
	uint64_t up = show_u64(o, "upload_rate"), down = show_u64(o, "download_rate");
	char size[SHOW_MAX];

	if (!up && !down)
		return;
	printf("  rates       ");
	if (up)
		printf("upload at most %s a second%s", show_bytes(up, size), down ? ", " : "");
	if (down)
		printf("download at most %s a second", show_bytes(down, size));
	putchar('\n');
}

static void print_pending(const struct json *o)
{
	uint64_t n = show_u64(o, "pending"), conflicts = show_u64(o, "conflicts");
	char count[SHOW_MAX], size[SHOW_MAX], age[SHOW_MAX];

	if (n)
		printf("  pending     %s to send, %s, the oldest made %s\n",
			show_count(n, "operation", "operations", count),
			show_bytes(show_u64(o, "pending_bytes"), size),
			show_age(show_i64(o, "oldest_ns"), age));
	else
		printf("  pending     nothing: everything is at the origin\n");
	if (show_u64(o, "refused"))
		printf("  refused     %s by the origin: `cachet journal ls`\n",
			show_count(show_u64(o, "refused"), "operation", "operations", count));
	if (show_u64(o, "held"))
		printf("  held        %s for you to decide: `cachet journal ls`\n",
			show_count(
				show_u64(o, "held"), "operation waits", "operations wait", count));
	if (conflicts)
		printf("  conflicts   %" PRIu64 ": `cachet conflicts ls`\n", conflicts);
	else
		printf("  conflicts   none\n");
}

static void print_cache(const struct json *o)
{
	char used[SHOW_MAX], limit[SHOW_MAX], kept[SHOW_MAX], count[SHOW_MAX];

	printf("  cache       %s of %s", show_bytes(show_u64(o, "used_bytes"), used),
		show_bytes(show_u64(o, "limit_bytes"), limit));
	if (show_u64(o, "unfreeable_bytes"))
		printf(", %s of it unsent or in use",
			show_bytes(show_u64(o, "unfreeable_bytes"), kept));
	printf("; %s\n", show_count(show_u64(o, "objects"), "file or directory",
				 "files and directories", count));
}

static void print_stores(const struct json *o)
{
	const struct json *stores = show_member(o, "stores");
	const char *between = "";

	printf("  stores      ");
	for (const struct json *s = stores ? json_first(stores) : NULL; s; s = json_next(s)) {
		const char *name = show_string(s, "name"), *mode = show_string(s, "mode");

		printf("%s", between);
		show_text(stdout, name ? name : "?");
		printf(" (%s%s)", mode ? mode : "?",
			show_bool(s, "listed") ? "" : ", not listed yet");
		between = ", ";
	}
	printf("%s\n", *between ? "" : "none known yet");
}

static void print_rekey(const struct json *o)
{
	const struct json *k = show_member(o, "rekey");
	const char *error = k ? show_string(k, "error") : NULL;
	char done[SHOW_MAX], total[SHOW_MAX];

	if (!k || !show_bool(k, "active"))
		return;
	printf("  rekey       %s of %s sealed anew%s%s\n",
		show_bytes(show_u64(k, "done_bytes"), done),
		show_bytes(show_u64(k, "total_bytes"), total), error ? "; held up: " : "",
		error ? error : "");
}

static bool has_damaged_files(const struct json *o)
{
	const struct json *files = show_member(o, "damaged_files");

	return files && json_first(files);
}

static bool is_damaged(const struct json *o)
{
	return show_u64(o, "damaged_chunks") || show_bool(o, "wal_damaged") ||
	       has_damaged_files(o) || show_u64(o, "restored_damaged") ||
	       show_bool(o, "log_damaged") || show_bool(o, "rolled_back_volume");
}

static void print_damaged_files(const struct json *o)
{
	const struct json *files = show_member(o, "damaged_files");

	for (const struct json *f = files ? json_first(files) : NULL; f; f = json_next(f)) {
		const char *path = show_string(f, "path");

		printf("  damaged     ");
		show_text(stdout, path ? path : "?");
		printf(": not sent; write it again, or `cachet journal drop`\n");
	}
}

static void print_restored(const struct json *o)
{
	const char *aside = show_string(o, "aside");
	char count[SHOW_MAX];

	printf("  index       was lost and made anew: %s put back; the old one is in %s\n",
		show_count(show_u64(o, "restored"), "unsent change", "unsent changes", count),
		aside ? aside : "quarantine");
	if (show_u64(o, "restored_damaged"))
		printf("  damage      %s damaged and not sent: `cachet journal ls`\n",
			show_count(show_u64(o, "restored_damaged"), "of them is", "of them are",
				count));
	if (show_bool(o, "log_damaged"))
		printf("  damage      the log of unsent work was damaged too: some may be "
		       "missing\n");
}

static void print_damage(const struct json *o)
{
	char size[SHOW_MAX];

	if (!is_damaged(o))
		printf("  damage      none seen\n");
	if (show_u64(o, "damaged_chunks"))
		printf("  damage      %" PRIu64
		       " pieces of content failed authentication and were set aside\n",
			show_u64(o, "damaged_chunks"));
	if (show_bool(o, "wal_damaged"))
		printf("  damage      the write-ahead log was damaged; a copy was set aside\n");
	print_damaged_files(o);
	if (show_bool(o, "index_lost"))
		print_restored(o);
	if (show_u64(o, "aside_bytes"))
		printf("  set aside   %s in quarantine/ of the volume; remove it when you do not "
		       "need it\n",
			show_bytes(show_u64(o, "aside_bytes"), size));
	if (show_u64(o, "rolled_back_files"))
		printf("  power loss  %" PRIu64 " files fell back to their last durable state\n",
			show_u64(o, "rolled_back_files"));
	if (show_bool(o, "rolled_back_volume"))
		printf("  WARNING     this is an old copy of the volume: the origin has seen later "
		       "work of it. Nothing can be changed and nothing is sent until you say "
		       "`cachet sync --accept-old`\n");
	if (show_bool(o, "origin_full"))
		printf("  WARNING     the origin has no room: writes are refused (EDQUOT), what is "
		       "pending stays here and is sent when there is room again\n");
	if (show_bool(o, "restored_server"))
		printf("  WARNING     the origin was restored or replaced: nothing is sent until "
		       "you say "
		       "`cachet sync --accept-restored`\n");
	if (show_bool(o, "deletes_held"))
		printf("  WARNING     unusually many deletions are held: `cachet sync "
		       "--allow-deletes` "
		       "confirms them\n");
}

static void print(const struct json *o)
{
	const char *mountpoint = show_string(o, "mountpoint"), *name = show_string(o, "name"),
		   *origin = show_string(o, "origin"), *store = show_string(o, "store");

	show_text(stdout, name ? name : "?");
	if (show_bool(o, "mounted") && mountpoint) {
		printf(" on ");
		show_text(stdout, mountpoint);
	}
	if (show_bool(o, "read_only"))
		printf(" (read-only)");
	printf("\n  origin      ");
	show_text(stdout, origin ? origin : "?");
	if (store) {
		printf(", store ");
		show_text(stdout, store);
	}
	putchar('\n');
	print_link(o);
	print_rates(o);
	print_pending(o);
	print_cache(o);
	print_stores(o);
	print_rekey(o);
	print_damage(o);
}

static enum exit_code check(const struct json *o)
{
	const char *state = show_string(o, "state");

	if (is_damaged(o))
		return EXIT_CODE_DAMAGED;
	if (!show_bool(o, "mounted") || !state)
		return EXIT_CODE_NOT_MOUNTED;
	if (!strcmp(state, "auth-needed"))
		return EXIT_CODE_AUTH;
	if (strcmp(state, "online") != 0 && strcmp(state, "degraded") != 0)
		return EXIT_CODE_OFFLINE;
	if (show_u64(o, "pending") || show_u64(o, "conflicts") || show_bool(o, "deletes_held") ||
		show_bool(o, "restored_server"))
		return EXIT_CODE_PENDING;
	return EXIT_CODE_OK;
}

static int show_one(const struct args *args, const char *word)
{
	_cleanup_json_ struct json *reply = NULL;
	_cleanup_target_ struct target t = { 0 };
	int r = target_find(&args->common, word, &t);

	if (r == COMMAND_GO)
		r = target_do(&args->common, &t, "status", TARGET_DIRECT, &reply);
	if (r != COMMAND_GO)
		return r;
	if (args->common.json)
		r = show_json(reply);
	else
		print(reply);
	if (r > 0)
		return r;
	return args->check ? (int)check(reply) : EXIT_CODE_OK;
}

/* Every volume in turn; one that cannot be asked does not hide the others. */
static int show_all(const struct args *args)
{
	enum exit_code worst = EXIT_CODE_OK;
	char **names;
	size_t n;
	int r = config_names(&names, &n);

	if (r)
		return command_fail(&args->common, exit_code_of(r),
			"the configurations cannot be listed: %s", error_text(r));
	if (args->common.json)
		printf("{\"ok\":true,\"volumes\":[\n");
	for (size_t i = 0; i < n; i++) {
		if (i)
			printf(args->common.json ? ",\n" : "\n");
		r = show_one(args, names[i]);
		if (r && !worst)
			worst = (enum exit_code)r;
	}
	if (args->common.json)
		printf("]}\n");
	else if (!n)
		printf("no volume is configured; `cachet init URL` makes one\n");
	config_names_free(names, n);
	return (int)worst;
}

static int run(int argc, char **argv)
{
	struct args args = { 0 };
	int first, r = command_parse(&command_status, &args, argc, argv, 0, 1, &first);

	if (r != COMMAND_GO)
		return r;
	if (args.all)
		return show_all(&args);
	return show_one(&args, first < argc ? argv[first] : NULL);
}
