/*
 * Memory-only mode: a volume for a machine that is not trusted to keep one.
 *
 * The volume is made anew on a memory file system (/dev/shm, a tmpfs) for this one mount, sealed
 * like any other, under a key that is in locked memory and nowhere else, and removed at the end.
 * What a killed daemon leaves there is sealed under a key that is gone; the next start removes it,
 * and so does the end of the machine. The volume on the disk is not opened, read or changed.
 *
 *     memory_prepare(config)        the configuration is of the memory volume from here on
 *     memory_make(config, token, &kek)
 *     opening_volume(config, kek …)
 *     … volume_close …
 *     memory_remove(config)
 */
#ifndef CACHET_DAEMON_MEMORY_H
#define CACHET_DAEMON_MEMORY_H

#include <stdbool.h>

#include "base/macros.h"
#include "base/secret.h"
#include "daemon/config.h"

/* Sets the directory. CE_INUSE: a daemon has this volume mounted. */
int memory_prepare(struct config *c, char **error) MUST_CHECK;
int memory_make(const struct config *c, const struct secret *token, struct secret **kek,
	char **error) MUST_CHECK;
/* Once memory_make has succeeded: before that the directory may be somebody else's. */
void memory_remove(const struct config *c);

/* Runs the command of the configuration that says whether this machine is trusted; true when there
 * is none. Not within a minute, or any exit code but 0, is no. */
bool memory_machine_is_trusted(const struct config *c);

#endif
