/*
 * The daemon behind a mount: opens the volume, starts sync and mount, serves the control socket, and ends
 * in order: control, mount, sync, volume. SIGTERM and SIGINT end it within two seconds in every link state; nothing is lost by it.
 */
#ifndef CACHET_DAEMON_DAEMON_H
#define CACHET_DAEMON_DAEMON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "daemon/config.h"

struct daemon_options {
	const struct config *config;
	const char *mountpoint;  /* absolute */
	bool foreground;
	bool offline;
	bool allow_other;
	bool read_only;
	const char *log_file;    /* NULL: standard error in the foreground, VOLUME/daemon.log else */
	int ready_fd;            /* background: one JSON line {"ok":true} or {"error":…,"code":N} is written when mounted or failed; -1 */
};

/* Returns the process's exit code (cli/exit.h). */
int daemon_run(const struct daemon_options *o);

#endif
