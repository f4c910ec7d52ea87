/*
 * The daemon behind a mount.
 *
 *     mount point checked → volume opened → sync started → mounted → control socket → ready
 *     … serves until unmounted, SIGTERM or SIGINT …
 *     unmounted → sync stopped → control socket closed → volume committed and closed
 *
 * SIGTERM and SIGINT end it within two seconds in every link state; nothing is lost by it, nor by
 * SIGKILL: what was answered is committed already. SIGHUP probes the origin at once.
 *
 * In the background it stays on its caller's terminal until it is ready (a key source may ask for
 * a passphrase there), then leaves session and terminal. Nothing is logged that names a file.
 */
#ifndef CACHET_DAEMON_DAEMON_H
#define CACHET_DAEMON_DAEMON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "base/secret.h"
#include "daemon/config.h"

#define DAEMON_LOG_FILE "daemon.log"
#define DAEMON_LOG_MAX_BYTES (1 << 20) /* a longer one is begun anew at the next start */

struct daemon_options {
	struct config *config;  /* memory_prepare changes it */
	const char *mountpoint; /* absolute */
	bool foreground;
	bool offline;
	bool allow_other;
	bool read_only;
	bool memory_only; /* so it is too when the server's signed word is that the machine is not
			   * to be trusted (daemon/memory.h) */
	/* The origin's token, for a memory-only mount: from the person, not from the disk. */
	int (*ask_token)(void *arg, struct secret **out, char **error);
	void *ask_token_arg;
	const char *log_file; /* NULL: standard error in the foreground, VOLUME/daemon.log else */
	/* One JSON line is written when mounted or failed, {"ok":true} or
	 * {"ok":false,"code":NAME,"error":…}, names as exit_code_name(); -1: a failure is printed
	 * on standard error. Closed by the daemon. */
	int ready_fd;
};

/* Returns the process's exit code (daemon/exit_code.h). Before any other thread is started. */
int daemon_run(const struct daemon_options *o);

#endif
