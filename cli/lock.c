/* unlock: a daemon has no terminal, so where the key source asks a person this process does. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "cache/passphrase.h"
#include "cli/commands.h"
#include "cli/handover.h"
#include "cli/show.h"
#include "cli/target.h"
#include "crypto/keyring.h"
#include "crypto/keysource.h"

static const struct option_def options[] = { COMMAND_COMMON, OPTION_END };

static int run_lock(int argc, char **argv);
static int run_unlock(int argc, char **argv);

const struct command command_lock = {
	.name = "lock",
	.usage = "[OPTIONS] [NAME|PATH]",
	.summary = "Take the keys of a mounted volume out of memory",
	.details =
		"The mount stays, open files stay open; every access is refused (EACCES, SIGBUS "
		"for mappings) until\n"
		"`cachet unlock`. What was written is committed first, the kernel's pages of the "
		"mount are dropped. Not\n"
		"wiped are pages that the kernel has freed, names in its directory cache, and what "
		"programs have read.\n\n"
		"Exit code 3: the volume is not mounted.\n",
	.options = options,
	.run = run_lock,
};

const struct command command_unlock = {
	.name = "unlock",
	.usage = "[OPTIONS] [NAME|PATH]",
	.summary = "Open a locked volume again",
	.details =
		"Open files go on where they were. A passphrase is asked on the terminal.\n\n"
		"Exit codes: 3 the volume is not mounted, 6 the key is wrong or cannot be had.\n",
	.options = options,
	.run = run_unlock,
};

static int run_lock(int argc, char **argv)
{
	_cleanup_json_ struct json *reply = NULL;
	_cleanup_target_ struct target t = { 0 };
	struct command_common args = { 0 };
	int r = target_parse(&command_lock, &args, argc, argv, &t);

	if (r == COMMAND_GO)
		r = target_do(&args, &t, "lock", TARGET_DAEMON, &reply);
	if (r != COMMAND_GO)
		return r;
	if (args.json)
		return show_json(reply);
	printf("locked\n");
	if (show_u64(reply, "kept"))
		printf("note: of %llu files the kernel kept pages\n",
			(unsigned long long)show_u64(reply, "kept"));
	if (show_string(reply, "uncommitted"))
		printf("note: what was written last could not be committed (%s)\n",
			show_string(reply, "uncommitted"));
	return EXIT_CODE_OK;
}

/* What the key source gives, by the parameters in the keyring. */
static int ask_source(const struct config *c, struct secret **out, char **error)
{
	_cleanup_free_ char *dir = NULL;
	_cleanup_fd_ int dirfd = -1;
	struct keyring *k = NULL;
	int r = config_volume_dir(c, &dir);

	if (!r) {
		dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = dirfd < 0 ? -errno : keyring_load(dirfd, &k);
	}
	if (!r)
		r = keysource_fetch(c->key_source, keyring_source_params(k), out, error);
	keyring_free(k);
	return r;
}

static int ask_daemon(const struct command_common *args, const struct target *t,
	const struct secret *key, struct json **reply)
{
	_cleanup_json_ struct json *request = json_new_object();

	json_set_string(request, "do", "unlock");
	if (key)
		return handover_ask(args, t, request, "key", key, reply);
	return target_ask(args, t, request, TARGET_DAEMON, TARGET_TIMEOUT_MS, reply);
}

static int unlock_with_person(
	const struct command_common *args, const struct target *t, struct json **reply)
{
	_cleanup_secret_ struct secret *secret = NULL;
	_cleanup_free_ char *error = NULL;
	int r = ask_source(t->config, &secret, &error);

	return r ? command_failed(args, r, error) : ask_daemon(args, t, secret, reply);
}

static int run_unlock(int argc, char **argv)
{
	_cleanup_json_ struct json *reply = NULL;
	_cleanup_target_ struct target t = { 0 };
	struct command_common args = { 0 };
	int r = target_parse(&command_unlock, &args, argc, argv, &t);

	if (r != COMMAND_GO)
		return r;
	if (passphrase_is_asked(t.config->key_source))
		r = unlock_with_person(&args, &t, &reply);
	else
		r = ask_daemon(&args, &t, NULL, &reply);
	if (r != COMMAND_GO)
		return r;
	if (args.json)
		return show_json(reply);
	printf("unlocked\n");
	return EXIT_CODE_OK;
}
