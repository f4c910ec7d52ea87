/*
 * Lock and unlock of a mounted volume, by request, when nobody used it for a while, when the lease
 * is over, on the server's signed word, and with screen and sleep (daemon/session.h).
 *
 * Order of a lock: programs refused and the kernel's pages dropped (fs_lock_begin), network
 * stopped, requests of the control socket waited for, operations waited for, volume closed
 * (volume_lock), cipher contexts of all threads wiped. Unlocking goes the other way and needs the
 * key source again.
 *
 *     locking_start → locking_enter / locking_leave around each request → locking_stop
 *
 * Threads: one of its own looks at the clock; the others by any. locking_later does not block.
 */
#ifndef CACHET_DAEMON_LOCKING_H
#define CACHET_DAEMON_LOCKING_H

#include <stdbool.h>

#include "base/macros.h"
#include "base/secret.h"
#include "daemon/daemon_priv.h"

struct locking;

/* Before sync is made: `later` is its on_keys. The thread begins with locking_watch. */
int locking_new(struct daemon_state *d, bool offline, struct locking **out) MUST_CHECK;
int locking_watch(struct locking *l) MUST_CHECK;
/* After it nothing is locked or unlocked any more. NULL-safe. */
void locking_stop(struct locking *l);
void locking_free(struct locking *l);

/* False while locked: the request is not to be run. */
bool locking_enter(struct locking *l);
void locking_leave(struct locking *l);
/* Somebody waits for requests to end. */
bool locking_is_wanted(const struct locking *l);
const char *locking_reason(struct locking *l); /* NULL: not locked. Static storage */

struct locking_result {
	unsigned kept; /* files of which the kernel kept pages */
	int code;      /* why something was not committed; 0 */
};
/* 0 also when it was locked before. */
int locking_lock(struct locking *l, const char *reason, struct locking_result *out) MUST_CHECK;
/* `secret`: what the key source gives, from whoever asks if it needs a person; else NULL. */
int locking_unlock(struct locking *l, const struct secret *secret, char **error) MUST_CHECK;

/* A sync_options.on_keys; `arg` is the locking. */
void locking_on_keys(void *arg, int code);
int locking_sync(struct locking *l, struct sync **out, char **error) MUST_CHECK;

#endif
