/* Tells systemd (Type=notify) how far the daemon is; nothing when it was not started by it or built
 * without libsystemd. */
#ifndef CACHET_DAEMON_NOTIFY_H
#define CACHET_DAEMON_NOTIFY_H

void notify_ready(void);
/* Until the next notify_ready(). */
void notify_reloading(void);
void notify_stopping(void);

#endif
