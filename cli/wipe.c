#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cache/volume.h"
#include "cli/commands.h"
#include "cli/show.h"
#include "cli/target.h"

struct args {
	struct command_common common;
	bool force;
};

static const struct option_def options[] = {
	{ "force", 0, OPTION_FLAG, offsetof(struct args, force),
		.help = "also when there is unsent work, or when it cannot be seen" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run(int argc, char **argv);

const struct command command_wipe = {
	.name = "wipe",
	.usage = "[OPTIONS] NAME",
	.summary = "Destroy a volume on this machine: its keys, its data, its configuration",
	.details = "Nothing at the origin changes. The keys go first, and with them everything on "
		   "this "
		   "disk; copies of the\n"
		   "volume's directory made earlier open with the key source's key, so destroy "
		   "that too. "
		   "The volume must not\n"
		   "be mounted. Refused when there is work that was not sent.\n\n"
		   "Exit codes: 8 the volume is mounted, 9 there is unsent work, 6 it cannot be "
		   "opened to "
		   "see that.\n",
	.options = options,
	.run = run,
};

/* Nothing unsent, or the exit code with the reason told. */
static int refuse_unsent(const struct args *args, const struct target *t)
{
	_cleanup_json_ struct json *reply = NULL;
	uint64_t pending;
	int r = target_do(&args->common, t, "wiping", TARGET_DIRECT, &reply);

	if (r != COMMAND_GO)
		return r;
	pending = show_u64(reply, "pending");
	if (!pending)
		return COMMAND_GO;
	return command_fail(&args->common, EXIT_CODE_PENDING,
		"%llu changes in '%s' were not sent; mount it and `cachet sync --wait`, or give "
		"--force to lose them",
		(unsigned long long)pending, t->config->name);
}

static int refuse_mounted(const struct args *args, const struct target *t)
{
	if (!target_is_mounted(t))
		return COMMAND_GO;
	return command_fail(&args->common, EXIT_CODE_IN_USE,
		"the volume '%s' is mounted; `cachet umount` it first", t->config->name);
}

static int wipe(const struct args *args, const struct target *t)
{
	_cleanup_free_ char *dir = NULL;
	int r = config_volume_dir(t->config, &dir);

	if (!r)
		r = volume_wipe(dir);
	if (r && r != -ENOENT)
		return command_fail(&args->common, exit_code_of(r),
			"the volume '%s' is not gone: %s", t->config->name, error_text(r));
	r = config_remove(t->config->name);
	if (r)
		return command_fail(&args->common, exit_code_of(r),
			"the configuration of '%s' cannot be removed: %s", t->config->name,
			error_text(r));
	if (args->common.json)
		printf("{\"ok\":true}\n");
	else
		printf("wiped; the key source (%s) is not touched\n", t->config->key_source);
	return EXIT_CODE_OK;
}

static int run(int argc, char **argv)
{
	_cleanup_target_ struct target t = { 0 };
	struct args args = { 0 };
	int first, r = command_parse(&command_wipe, &args, argc, argv, 1, 1, &first);

	if (r == COMMAND_GO)
		r = target_find(&args.common, argv[first], &t);
	if (r == COMMAND_GO)
		r = refuse_mounted(&args, &t);
	if (r == COMMAND_GO && !args.force)
		r = refuse_unsent(&args, &t);
	return r == COMMAND_GO ? wipe(&args, &t) : r;
}
