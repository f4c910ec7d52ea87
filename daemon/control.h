/*
 * The control socket: Unix stream, mode 0600 in a 0700 directory, peer's uid checked (SO_PEERCRED: the owner or root).
 * One request per line, one answer per line, both JSON: {"do":"status"} → {"ok":true, …} or
 * {"ok":false,"code":"offline","error":"sentence"}. A request may take long (sync --wait); each connection has its own thread, at most 16.
 *
 * Requests: status, ls-journal, conflicts, resolve {id, keep?}, online, offline, sync {wait, timeout_ms}, retry/drop {seq},
 * stat {path}, allow-deletes, umount, ping.
 */
#ifndef CACHET_DAEMON_CONTROL_H
#define CACHET_DAEMON_CONTROL_H

#include "base/json.h"
#include "base/macros.h"

struct control;
struct daemon_state; /* daemon/daemon_priv.h: volume, sync, fs, config */

int control_start(struct daemon_state *d, const char *socket_path, struct control **out) MUST_CHECK;
void control_stop(struct control *c);

/* Client side. CE_OFFLINE here means that no daemon listens (-ENOENT, -ECONNREFUSED). *reply is the whole answer object. */
int control_call(const char *socket_path, const struct json *request, unsigned timeout_ms,
	struct json **reply) MUST_CHECK;

#endif
