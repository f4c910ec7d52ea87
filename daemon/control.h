/*
 * The control socket: Unix stream, mode 0600 in a 0700 directory, peer's uid checked (SO_PEERCRED:
 * the owner or root). One request per line, one answer per line, both JSON:
 *
 *     {"do":"status"} → {"ok":true, …} or {"ok":false,"code":"offline","error":"sentence"}
 *
 * The requests are listed in daemon/requests.h. One may take long (sync with wait): each connection
 * has its own thread, at most CONTROL_CONNECTIONS; one more is told so and closed. A client that
 * goes away ends its waiting request.
 *
 * Crash: the socket file stays and refuses connections; the next control_start() replaces it. The
 * volume's lock, not the socket, keeps a second daemon out, so this is called with the volume open.
 */
#ifndef CACHET_DAEMON_CONTROL_H
#define CACHET_DAEMON_CONTROL_H

#include "base/json.h"
#include "base/macros.h"

#define CONTROL_CONNECTIONS 16
#define CONTROL_REQUEST_MAX_BYTES (6u << 20) /* a job's payload in base64 */
#define CONTROL_REPLY_MAX_BYTES (256u << 20)

struct control;
struct daemon_state; /* daemon/daemon_priv.h: volume, sync, fs, config */

int control_start(struct daemon_state *d, const char *socket_path, struct control **out) MUST_CHECK;
/* Ends waiting requests, joins all threads, removes the socket file. NULL-safe. */
void control_stop(struct control *c);

/*
 * Client side: one request, its answer. CE_OFFLINE here means that no daemon listens (-ENOENT,
 * -ECONNREFUSED); -ETIMEDOUT after timeout_ms (0 = never); CE_PROTOCOL when the daemon ended in
 * between. *reply is the whole answer object.
 */
int control_call(const char *socket_path, const struct json *request, unsigned timeout_ms,
	struct json **reply) MUST_CHECK;

#endif
