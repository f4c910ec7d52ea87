/*
 * Leaving the terminal: the log file in place of standard error, and the word to whoever waits for
 * the daemon to be ready.
 */
#ifndef CACHET_DAEMON_BACKGROUND_H
#define CACHET_DAEMON_BACKGROUND_H

#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"
#include "daemon/exit_code.h"

/* Appends to the file, 0600 (made if missing, refused if others can read it or it is no plain
 * file); one longer than `max` bytes is begun anew. */
int background_open_log(const char *path, size_t max, int *fd) MUST_CHECK;
/* `fd` becomes standard error (and output, in the background). */
int background_use_log(int fd, bool leave_terminal) MUST_CHECK;
/* A new session, / as working directory, /dev/null as standard input. */
int background_detach(void) MUST_CHECK;

/* Writes the line and closes `fd`; nothing for -1. sentence NULL: ok. */
void background_tell(int fd, enum exit_code code, const char *sentence);

#endif
