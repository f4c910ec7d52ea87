/*
 * Locks the volume when the user's screen is locked and before the machine sleeps, as logind tells
 * it on the system bus; and unlocks it afterwards when its key source needs no person.
 *
 *     session_parse → session_start → session_stop
 *
 * Sleep is held up by a "delay" inhibitor of ours until the lock is done; logind waits five seconds
 * by default. A volume that was locked otherwise (asked for, idle, the lease over) is not unlocked.
 * Nothing is kept: a crash gives the inhibitor back with its descriptor.
 *
 * Errors: without a bus the volume is not locked by it; that is logged once, and tried again every
 * few seconds. CE_USAGE: the list is wrong, or this build has no libsystemd.
 * Threads: one of its own, which alone talks to the bus.
 */
#ifndef CACHET_DAEMON_SESSION_H
#define CACHET_DAEMON_SESSION_H

#include "base/macros.h"
#include "daemon/locking.h"

#define SESSION_SCREEN 1u
#define SESSION_SLEEP 2u

struct session;

/* "screen", "sleep" or both with a comma; NULL is neither. */
int session_parse(const char *list, unsigned *out) MUST_CHECK;
/* *out is NULL when nothing is to be listened for. */
int session_start(
	struct locking *l, const struct config *c, struct session **out, char **error) MUST_CHECK;
/* After locking_stop. NULL-safe. */
void session_stop(struct session *s);

#endif
