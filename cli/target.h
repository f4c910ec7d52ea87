/*
 * Which volume a verb is about, and asking it: its daemon when it is mounted, the volume itself
 * (which needs the key) when it is not.
 *
 *     r = target_find(&args.common, argc > first ? argv[first] : NULL, &target);
 *     if (r == COMMAND_GO)
 *             r = target_ask(&args.common, &target, request, TARGET_DIRECT, &reply);
 *
 * Both print the failure and return its exit code, or return COMMAND_GO.
 */
#ifndef CACHET_CLI_TARGET_H
#define CACHET_CLI_TARGET_H

#include "base/json.h"
#include "cli/command.h"
#include "daemon/config.h"

#define TARGET_TIMEOUT_MS 60000

struct target {
	struct config *config;
	char *socket;
	char *mountpoint; /* of a path: what it lies under; NULL for a name */
	char *path;       /* of a path: below the mount point, "" = its root */
	void (*progress)(const struct json *answer); /* of long work without a daemon; or NULL */
};
void target_done(struct target *t);
#define _cleanup_target_ _cleanup_(target_done)

/* A word with a '/' (or . or ..) is a path, else the name of a volume; NULL: the default one. */
int target_find(
	const struct command_common *common, const char *word, struct target *out) MUST_CHECK;
/* `path` is a path whatever it looks like. */
int target_find_path(
	const struct command_common *common, const char *path, struct target *out) MUST_CHECK;

/* For a verb of at most one word, the volume; `args` as command_parse takes it. */
int target_parse(
	const struct command *c, void *args, int argc, char **argv, struct target *out) MUST_CHECK;

/* Whether a daemon has it; one that does not answer has it too. */
bool target_is_mounted(const struct target *t) MUST_CHECK;

enum target_how {
	TARGET_DIRECT, /* without a daemon the volume is opened */
	TARGET_DAEMON, /* without a daemon: EXIT_CODE_NOT_MOUNTED */
};
/* timeout_ms 0 = as long as it takes. */
int target_ask(const struct command_common *common, const struct target *t,
	const struct json *request, enum target_how how, unsigned timeout_ms,
	struct json **reply) MUST_CHECK;
/* The same, for a request without members; the answer is not wanted if reply is NULL. */
int target_do(const struct command_common *common, const struct target *t, const char *request,
	enum target_how how, struct json **reply) MUST_CHECK;

/* A verb with no options of its own and at most one word, the volume: asks `request`, shows the
 * answer by `print` or as JSON. */
int target_run(const struct command *c, int argc, char **argv, const char *request,
	enum target_how how, void (*print)(const struct json *reply));

/* A path as typed made absolute, symbolic links above its last part resolved. The caller frees. */
int target_absolute(const char *path, char **out) MUST_CHECK;

#endif
