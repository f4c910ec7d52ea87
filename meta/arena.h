/*
 * Memory for SQLite's page cache: decrypted pages of the index live there. It is left out of core
 * dumps, and locked as far as half of RLIMIT_MEMLOCK goes (the other half is for keys). When it is
 * full SQLite takes ordinary memory; the process is not dumpable either way (base/secret.h).
 *
 * arena_setup() before the first use of SQLite in the process; later calls do nothing.
 */
#ifndef CACHET_META_ARENA_H
#define CACHET_META_ARENA_H

#include <stddef.h>

#define ARENA_PAGES 4096

void arena_setup(void);

/* Wipes it, when no index of the process is open; nobody opens one meanwhile. */
void arena_wipe(void);

/* The memory, NULL when SQLite was in use before arena_setup(). */
const void *arena_memory(size_t *len);

#endif
