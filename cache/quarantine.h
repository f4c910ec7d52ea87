/*
 * What was set aside: VOLUME/quarantine/index-<UTC>-n/, with the files under their own names. All
 * of it is as sealed as before. It counts in the bound; a person removes it. Threads: the caller
 * has the volume to itself.
 */
#ifndef CACHET_CACHE_QUARANTINE_H
#define CACHET_CACHE_QUARANTINE_H

#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

struct volume;

/* A new directory; its path relative to the volume at `path`, its descriptor at *fd. */
int quarantine_make(struct volume *v, char *path, size_t size, int *fd) MUST_CHECK;
/* The directory `fd`, those above it, and with them what was moved there. */
int quarantine_sync(struct volume *v, int fd) MUST_CHECK;
/* Blocks of all that is in it. */
uint64_t quarantine_bytes(struct volume *v);

#endif
