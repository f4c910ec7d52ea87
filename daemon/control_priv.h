/* Between control.c and control_client.c. */
#ifndef CACHET_DAEMON_CONTROL_PRIV_H
#define CACHET_DAEMON_CONTROL_PRIV_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

#include "base/bytes.h"
#include "base/macros.h"

/*
 * The address of `path` by way of its open directory (/proc/self/fd/N/name), so that a long
 * XDG_RUNTIME_DIR does not meet the 108 bytes of sun_path. *dirfd must stay open as long as the
 * address is used.
 */
int control_address(
	const char *path, struct sockaddr_un *out, int *dirfd, const char **name) MUST_CHECK;

/* Reads up to a newline (taken off). -ENODATA at the end of the stream, -ETIMEDOUT, CE_TOO_LARGE
 * (line->max). deadline_ms on CLOCK_BOOTTIME, 0 = none. */
int control_read_line(int fd, struct buffer *line, int64_t deadline_ms) MUST_CHECK;
/* The text and a newline, without SIGPIPE. */
int control_write_line(int fd, const char *text) MUST_CHECK;

#endif
