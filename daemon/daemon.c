/*
 * One function per step of the start, each with its undoing in finish(), which runs in the opposite
 * order and skips what was not reached. A failure on the way up takes the same way down.
 */
#include "daemon/daemon.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "cache/outbox.h"
#include "daemon/background.h"
#include "daemon/config_priv.h"
#include "daemon/control.h"
#include "daemon/daemon_priv.h"
#include "daemon/hidden.h"
#include "daemon/exit_code.h"
#include "daemon/holder.h"
#include "daemon/locking.h"
#include "daemon/memory.h"
#include "daemon/mountpoint.h"
#include "daemon/notify.h"
#include "daemon/opening.h"
#include "daemon/privilege.h"
#include "daemon/session.h"
#include "daemon/signals.h"
#include "daemon/watch.h"

/* How long the predecessor may take to leave, and how often it is looked for. */
#define LEAVE_MAX_MS 2000
#define SEND_LAST_MS 1000
#define LEAVE_STEP_MS 20

struct daemon {
	const struct daemon_options *o;
	struct daemon_state state;
	struct control *control;
	struct signals *signals;
	struct session *session;
	int ready_fd, log_fd;
	bool sync_started, served;
	bool memory_only;
	bool in_memory; /* to be removed at the end */
	char *error;
};

static void on_stop(void *arg)
{
	struct daemon *d = arg;

	fs_stop(d->state.fs);
}

static void on_poke(void *arg)
{
	struct daemon *d = arg;

	if (!locking_enter(d->state.locking))
		return;
	sync_poke(d->state.sync);
	locking_leave(d->state.locking);
}

/* Used once there is nothing left to say on the terminal. */
static int open_log(struct daemon *d)
{
	_cleanup_free_ char *dir = NULL, *path = NULL;
	int r = 0;

	if (d->o->foreground && !d->o->log_file)
		return 0;
	if (!d->o->log_file) {
		r = config_volume_dir(d->o->config, &dir);
		if (!r && bytes_print(&path, "%s/%s", dir, DAEMON_LOG_FILE))
			r = -ENOMEM;
	}
	if (!r)
		r = background_open_log(
			path ? path : d->o->log_file, DAEMON_LOG_MAX_BYTES, &d->log_fd);
	if (r == CE_USAGE)
		return config_say(&d->error, r,
			"the log file %s must be a plain file of yours with mode 0600; correct or "
			"remove it",
			path ? path : d->o->log_file);
	if (r)
		return config_say(&d->error, r, "the log file %s cannot be opened: %s",
			path ? path : d->o->log_file, error_text(r));
	return 0;
}

static int mount_it(struct daemon *d)
{
	const struct daemon_options *o = d->o;
	struct fs_options options = {
		.volume = d->state.volume,
		.sync = d->state.sync,
		.mountpoint = o->mountpoint,
		.allow_other = o->allow_other,
		.read_only = o->read_only,
		.deadline_ms = (unsigned)o->config->deadline_ms,
		.hidden = hidden_files,
		.n_hidden = HIDDEN_FILES,
		.hidden_arg = &d->state,
		.no_download = o->config->no_download,
	};
	int r = watch_new(d->state.volume, &d->state.watch);

	if (!r)
		r = fs_new(&options, &d->state.fs, &d->error);

	return r ? r : fs_mount(d->state.fs, &d->error);
}

static int start_threads(struct daemon *d)
{
	const struct signals_calls calls = { on_stop, d->o->foreground ? NULL : on_poke, d };
	_cleanup_free_ char *socket = NULL;
	int r = signals_start(&calls, &d->signals);

	if (!r)
		r = config_socket(d->o->config, &socket);
	if (!r)
		r = control_start(&d->state, socket, &d->control);
	if (r)
		return config_say(
			&d->error, r, "the control socket cannot be opened: %s", error_text(r));
	return 0;
}

static int free_place(struct daemon *d)
{
	return mountpoint_check(d->o->mountpoint, &d->error);
}

static int open_in_memory(struct daemon *d)
{
	const struct daemon_options *o = d->o;
	_cleanup_secret_ struct secret *kek = NULL, *token = NULL;
	int r = memory_prepare(o->config, &d->error);

	if (!r)
		r = o->ask_token(o->ask_token_arg, &token, &d->error);
	if (!r)
		r = memory_make(o->config, token, &kek, &d->error);
	d->in_memory = !r;
	return r ? r : opening_volume(o->config, kek, OPENING_OFFLINE, &d->state.volume, &d->error);
}

/* The volume on the disk is closed again and as it was. Who is asked for the token is told why
 * before; otherwise a failure is one sentence. */
static int go_to_memory(struct daemon *d)
{
	static const char told[] = "the server does not trust this machine now: memory only";
	_cleanup_free_ char *untrusted = steal_ptr(&d->error);
	bool person = isatty(STDIN_FILENO);
	int r;

	if (person)
		log_warning(told);
	d->memory_only = true;
	r = open_in_memory(d);
	if (r)
		return config_say(&d->error, CE_UNTRUSTED,
			"%s; memory only it cannot be mounted: %s",
			untrusted ? untrusted : error_text(CE_UNTRUSTED),
			d->error ? d->error : error_text(r));
	if (!person)
		log_warning(told);
	return 0;
}

static int open_volume(struct daemon *d)
{
	int r;

	if (d->memory_only)
		return open_in_memory(d);
	r = opening_volume(d->o->config, NULL, d->o->offline ? OPENING_OFFLINE : OPENING_ASK,
		&d->state.volume, &d->error);
	return r == CE_UNTRUSTED ? go_to_memory(d) : r;
}

/*
 * Takes a step again that finds something in use, as long as that is the daemon before us, which
 * was killed and still holds what it had while its last threads leave. Whoever lives is not waited
 * for.
 */
static int after_predecessor(struct daemon *d, int (*step)(struct daemon *), bool left_a_mount)
{
	const struct timespec pause = { .tv_nsec = LEAVE_STEP_MS * NS_PER_MS };
	_cleanup_free_ char *dir = NULL;
	int64_t until = clock_boot_ms() + LEAVE_MAX_MS;
	int r;

	if (config_volume_dir(d->o->config, &dir))
		return step(d); /* which says why */
	while ((r = step(d)) == CE_INUSE && clock_boot_ms() < until &&
		(left_a_mount || holder_is_ending(dir))) {
		free(steal_ptr(&d->error));
		nanosleep(&pause, NULL);
	}
	return r;
}

static int start(struct daemon *d)
{
	const struct daemon_options *o = d->o;
	bool left_a_mount = fs_is_stale(o->mountpoint);
	int r = signals_block();

	if (!r) {
		r = privilege_drop(o->config->key_source);
		if (r)
			return config_say(
				&d->error, r, "privileges cannot be given up: %s", error_text(r));
	}
	if (!r)
		r = after_predecessor(d, free_place, false);
	if (!r)
		r = after_predecessor(d, open_volume, left_a_mount);
	/* In the volume's directory, of which opening it decides. */
	if (!r)
		r = open_log(d);
	if (!r)
		r = locking_new(&d->state, o->offline, &d->state.locking);
	if (!r)
		r = locking_sync(d->state.locking, &d->state.sync, &d->error);
	/* Before the mount, which waits for the listing of a store that was never listed. */
	if (!r) {
		r = sync_start(d->state.sync);
		d->sync_started = !r;
	}
	if (!r)
		r = mount_it(d);
	if (!r)
		r = start_threads(d);
	return r ? r : locking_watch(d->state.locking);
}

/* Leaves the terminal, then says that it is ready: whoever waited may go. */
static int become_ready(struct daemon *d)
{
	int r = 0;

	if (!d->o->foreground)
		r = background_detach();
	if (!r && d->log_fd >= 0)
		r = background_use_log(d->log_fd, !d->o->foreground);
	if (r)
		return config_say(
			&d->error, r, "the daemon cannot leave the terminal: %s", error_text(r));
	r = session_start(d->state.locking, d->o->config, &d->session, &d->error);
	if (r)
		return r;
	d->state.started_ns = clock_wall_ns();
	background_tell(steal_fd(&d->ready_fd), EXIT_CODE_OK, NULL);
	notify_ready();
	log_info("mounted");
	return 0;
}

/* What was saved just before the end is not to wait for the next mount, if it goes at once. */
void daemon_send_last(struct daemon_state *d)
{
	struct outbox_counts n;

	if (!d->sync || outbox_counts(d->volume, &n) || !(n.queued + n.inflight))
		return;
	if (sync_wait_idle(d->sync, SEND_LAST_MS))
		log_debug("end: not everything is at the origin");
}

static void warn_of_damage(struct volume *v)
{
	struct volume_status s;

	if (volume_status(v, &s))
		return;
	if (s.wal_damaged)
		log_warning("the write-ahead log was damaged; a copy was set aside in the volume");
	if (s.index_lost)
		log_warning(
			"the index was lost and made anew: %llu unsent changes put back, %llu of "
			"them with damaged content%s",
			(unsigned long long)s.restored, (unsigned long long)s.restored_damaged,
			s.log_damaged ? "; some may be missing" : "");
	if (s.rolled_back)
		log_warning("%llu files fell back to an earlier committed state after a power loss",
			(unsigned long long)s.rolled_back);
}

/* Unmounted already, unless the start failed behind the mount: the kernel has handed its dirty
 * pages over while everything still worked. */
static void finish(struct daemon *d)
{
	locking_stop(d->state.locking);
	session_stop(d->session);
	if (d->state.fs && !d->served)
		fs_stop(d->state.fs);
	if (d->served)
		daemon_send_last(&d->state);
	/* Lets the requests go that wait for the origin, so that the control socket can end. */
	if (d->sync_started && d->state.sync)
		sync_stop(d->state.sync);
	control_stop(d->control);
	signals_stop(d->signals);
	watch_free(d->state.watch);
	fs_free(d->state.fs);
	sync_free(d->state.sync);
	if (d->state.volume)
		volume_close(d->state.volume);
	locking_free(d->state.locking);
	if (d->in_memory)
		memory_remove(d->o->config);
}

static enum exit_code report_failure(struct daemon *d, int r)
{
	const char *sentence = d->error ? d->error : error_text(r);

	if (d->ready_fd >= 0)
		background_tell(steal_fd(&d->ready_fd), exit_code_of(r), sentence);
	else
		fprintf(stderr, "cachet: %s\n", sentence);
	return exit_code_of(r);
}

int daemon_run(const struct daemon_options *o)
{
	struct daemon d = {
		.o = o,
		.state = { .config = o->config,
			.mountpoint = o->mountpoint,
			.read_only = o->read_only },
		.memory_only = o->memory_only,
		.ready_fd = o->ready_fd,
		.log_fd = -1,
	};
	enum exit_code code = EXIT_CODE_OK;
	int r = start(&d);

	if (!r)
		r = become_ready(&d);
	if (!r) {
		warn_of_damage(d.state.volume);
		r = fs_run(d.state.fs);
		d.served = true;
		notify_stopping();
		if (r)
			log_error("the mount ended: %s", error_text(r));
	}
	if (r)
		code = report_failure(&d, r);
	finish(&d);
	if (!r)
		log_info("unmounted; the volume is closed");
	if (d.log_fd >= 0)
		close(d.log_fd);
	free(d.error);
	return (int)code;
}
