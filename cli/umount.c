#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/error.h"
#include "cli/commands.h"
#include "cli/show.h"
#include "cli/target.h"
#include "fs/fs.h"

#define SEND_LAST_MS 1000
#define BUSY_PAUSE_MS 50
#define BUSY_TRIES 16
#define END_TIMEOUT_MS 60000

struct args {
	struct command_common common;
	bool lazy, discard;
};

static const struct option_def options[] = {
	{ "lazy", 'l', OPTION_FLAG, offsetof(struct args, lazy),
		.help = "also when files are open: programs that have them open get errors from "
			"then on" },
	{ "discard", 0, OPTION_FLAG, offsetof(struct args, discard),
		.help = "memory-only: give up what is not at the origin" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run(int argc, char **argv);

const struct command command_umount = {
	.name = "umount",
	.usage = "[OPTIONS] MOUNTPOINT|NAME",
	.summary = "Unmount a volume and end its daemon",
	.details = "Everything is committed first. Work that is not at the origin yet stays on "
		   "this disk, sealed, and\n"
		   "is sent after the next mount; how much it is, is said. A dead mount that a "
		   "killed daemon left is\n"
		   "removed as well.\n\n"
		   "Exit codes: 3 it is not mounted, 8 files on it are open, 9 it is memory-only "
		   "and has "
		   "unsent work, 10 the daemon did not "
		   "end in a minute.\n",
	.options = options,
	.mounts = true,
	.run = run,
};

/* What is in memory only would go with it. */
static int guard_memory(const struct args *args, const struct json *status)
{
	uint64_t n = show_u64(status, "pending");
	char count[SHOW_MAX];

	if (args->discard || !n || !show_bool(status, "memory_only"))
		return COMMAND_GO;
	return command_fail(&args->common, EXIT_CODE_PENDING,
		"%s in memory only and not at the origin; `cachet sync --wait` sends them, "
		"--discard gives them up",
		show_count(n, "change is", "changes are", count));
}

/* No daemon answers: what is left is a dead mount, or nothing. */
static int unmount_dead(const struct args *args, const struct target *t, const char *word)
{
	_cleanup_free_ char *error = NULL, *absolute = NULL;
	const char *place =
		t->config ? t->mountpoint ? t->mountpoint : t->config->mountpoint : NULL;
	int r;

	if (!t->config) {
		r = target_absolute(word, &absolute);
		if (r)
			return command_fail(&args->common, exit_code_of(r), "%s", error_text(r));
		place = absolute;
	}
	if (!place || !fs_is_stale(place))
		return command_fail(
			&args->common, EXIT_CODE_NOT_MOUNTED, "'%.256s' is not mounted", word);
	r = fs_detach_stale(place, &error);
	if (r)
		return command_failed(&args->common, r, error);
	if (args->common.json)
		printf("{\"ok\":true,\"dead\":true}\n");
	else
		printf("the daemon had died; its dead mount is removed and nothing is lost\n");
	return EXIT_CODE_OK;
}

static int run_fusermount(const char *mountpoint)
{
	char *argv[] = { "fusermount3", "-u", "-q", "--", (char *)mountpoint, NULL };
	pid_t child;
	int status;

	if (posix_spawnp(&child, argv[0], NULL, NULL, argv, environ))
		return -ENOENT;
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

static int try_unmount(const char *mountpoint)
{
	int r = umount2(mountpoint, UMOUNT_NOFOLLOW) == 0 ? 0 : -errno;

	return r == -EPERM ? run_fusermount(mountpoint) : r;
}

/* `df`, an indexer or a process that ends holds a mount for a moment: busy is what stays busy. */
static int unmount_patiently(const char *mountpoint)
{
	const struct timespec pause = { .tv_nsec = BUSY_PAUSE_MS * NS_PER_MS };
	int r = try_unmount(mountpoint);

	for (int i = 0; r == -EBUSY && i < BUSY_TRIES; i++) {
		nanosleep(&pause, NULL);
		r = try_unmount(mountpoint);
	}
	return r;
}

static int unmount_live(const struct args *args, const struct target *t, const char *mountpoint)
{
	int r;

	if (args->lazy)
		return target_do(&args->common, t, "umount", TARGET_DAEMON, NULL);
	r = unmount_patiently(mountpoint);
	if (r == -EBUSY)
		return command_fail(&args->common, EXIT_CODE_IN_USE,
			"files on %s are in use (`fuser -m %s` shows by whom); close them, or use "
			"--lazy",
			mountpoint, mountpoint);
	if (r)
		return command_fail(&args->common, exit_code_of(r), "%s cannot be unmounted: %s",
			mountpoint, error_text(r));
	return COMMAND_GO;
}

static int wait_end(const struct args *args, int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	int n;

	/* Without a pidfd (gone already) there is nothing to wait for. */
	if (pidfd < 0)
		return COMMAND_GO;
	do {
		n = poll(&p, 1, END_TIMEOUT_MS);
	} while (n < 0 && errno == EINTR);
	if (n == 0)
		return command_fail(&args->common, EXIT_CODE_TIMEOUT,
			"it is unmounted, but the daemon is still busy writing; do not switch off "
			"yet");
	return COMMAND_GO;
}

static int print(const struct args *args, const struct target *t, const struct json *status)
{
	uint64_t n = show_u64(status, "pending");
	char count[SHOW_MAX];

	if (args->common.json) {
		printf("{\"ok\":true,\"unsent_operations\":%" PRIu64 "}\n", n);
		return EXIT_CODE_OK;
	}
	printf("unmounted '%s'\n", t->config->name);
	if (n && show_bool(status, "memory_only"))
		printf("%s given up\n", show_count(n, "change is", "changes are", count));
	else if (n)
		printf("%s not at the origin yet: kept on this disk, sealed, and sent after the "
		       "next mount\n",
			show_count(n, "change is", "changes are", count));
	return EXIT_CODE_OK;
}

/* What was saved just before goes now, if it goes within a second: how much stays is then told. */
static int send_last(const struct args *args, const struct target *t, struct json **status)
{
	static const struct command_common quiet = { .quiet = true };
	_cleanup_json_ struct json *request = json_new_object(), *reply = NULL;
	int r = target_do(&args->common, t, "status", TARGET_DAEMON, status);
	const char *state = r == COMMAND_GO ? show_string(*status, "state") : NULL;

	if (!request || !state || strcmp(state, "online") || !show_u64(*status, "pending"))
		return r;
	json_set_string(request, "do", "sync");
	json_set_bool(request, "wait", true);
	json_set_u64(request, "timeout_ms", SEND_LAST_MS);
	if (target_ask(&quiet, t, request, TARGET_DAEMON, 0, &reply) != COMMAND_GO)
		return r; /* offline, held, not enough time: the status says what stays */
	json_free(steal_ptr(status));
	return target_do(&args->common, t, "status", TARGET_DAEMON, status);
}

static int unmount(const struct args *args, const struct target *t, const struct json *ping)
{
	_cleanup_json_ struct json *status = NULL;
	_cleanup_fd_ int pidfd = -1;
	const char *mountpoint = show_string(ping, "mountpoint");
	int r;

	if (!mountpoint || (t->path && *t->path))
		return command_fail(&args->common, EXIT_CODE_USAGE,
			"name the mount point itself: cachet umount %s",
			mountpoint ? mountpoint : "MOUNTPOINT");
	pidfd = (int)syscall(SYS_pidfd_open, (pid_t)show_u64(ping, "pid"), 0);
	r = send_last(args, t, &status);
	if (r == COMMAND_GO)
		r = guard_memory(args, status);
	if (r == COMMAND_GO)
		r = unmount_live(args, t, mountpoint);
	if (r == COMMAND_GO)
		r = wait_end(args, pidfd);
	return r == COMMAND_GO ? print(args, t, status) : r;
}

static int run(int argc, char **argv)
{
	static const struct command_common quiet = { .quiet = true };
	_cleanup_json_ struct json *ping = NULL;
	_cleanup_target_ struct target t = { 0 };
	struct args args = { 0 };
	int first, r = command_parse(&command_umount, &args, argc, argv, 1, 1, &first);

	if (r != COMMAND_GO)
		return r;
	/* A path that no daemon and no configuration knows may still be a dead mount. */
	r = target_find(strchr(argv[first], '/') ? &quiet : &args.common, argv[first], &t);
	if (r != COMMAND_GO && !strchr(argv[first], '/'))
		return r;
	if (r == COMMAND_GO)
		r = target_do(&quiet, &t, "ping", TARGET_DAEMON, &ping);
	if (r != COMMAND_GO)
		return unmount_dead(&args, &t, argv[first]);
	return unmount(&args, &t, ping);
}
