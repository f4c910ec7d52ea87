/* Who has a volume open, seen from outside: for a mount right after the end of another daemon. */
#ifndef CACHET_DAEMON_HOLDER_H
#define CACHET_DAEMON_HOLDER_H

#include <stdbool.h>

/*
 * True when a process that is ending (killed, or a zombie whose threads are not all gone) still has
 * a lock on a file of the directory. False when it lives, and when nothing can be known.
 */
bool holder_is_ending(const char *dir);

#endif
