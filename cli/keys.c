#include <stdio.h>

#include "base/clock.h"
#include "cli/commands.h"
#include "cli/show.h"
#include "cli/target.h"

#define DAY_S 86400

static const struct option_def options[] = { COMMAND_COMMON, OPTION_END };

static int run(int argc, char **argv);

const struct command command_keys = {
	.name = "keys",
	.usage = "[OPTIONS] [NAME|PATH]",
	.summary = "List the wrapped keys of a volume",
	.details = "One line for the index key and for each store: its key epoch, its age, and the "
		   "name of the key that\n"
		   "wraps it. With a key of the server also the device's names, the SHA-256 of its "
		   "public key and the\n"
		   "end of the offline lease. Key bytes are never shown.\n",
	.options = options,
	.run = run,
};

static void print(const struct json *reply)
{
	int64_t until = show_i64(reply, "lease_until_s"), now_s = clock_wall_ns() / NS_PER_SEC;
	const struct json *list = show_member(reply, "keys");

	for (const struct json *k = list ? json_first(list) : NULL; k; k = json_next(k)) {
		printf("%-6s ", show_string(k, "purpose"));
		show_text(stdout, *show_string(k, "store") ? show_string(k, "store") : "-");
		printf(": epoch %llu, %lld days old, wrapped by %s\n",
			(unsigned long long)show_u64(k, "epoch"),
			(long long)((now_s - show_i64(k, "created_at_s")) / DAY_S),
			show_string(k, "kid"));
	}
	if (!show_string(reply, "dkid"))
		return;
	printf("device %s (%s), public key SHA-256 %s\n", show_string(reply, "dkid"),
		show_string(reply, "device_id"), show_string(reply, "pub_sha256"));
	if (until)
		printf("offline lease: %lld minutes left\n", (long long)((until - now_s) / 60));
	else
		printf("no offline lease\n");
}

static int run(int argc, char **argv)
{
	return target_run(&command_keys, argc, argv, "keys", TARGET_DIRECT, print);
}
