/* The listening socket: "127.0.0.1:8080", "[::1]:0" (port 0: a free one). Numeric addresses only.
 */
#ifndef CACHET_SERVER_LISTEN_H
#define CACHET_SERVER_LISTEN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

/* `loopback_only`: any other address is refused (CE_USAGE). *error as in server.h. */
int server_listen_open(const char *where, bool loopback_only, int *out_fd, uint16_t *port,
	char **error) MUST_CHECK;

#endif
