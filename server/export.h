/*
 * A store as one SQLite file, sealed under a fresh key.
 *
 *     r = server_export_make(&place, id, key, &fd, &len);
 *
 * The file has
 *
 *     store(id, instance, exported_at)
 *     records(id, parent, name, kind, size, sha256, mode, mtime_ns)     parent 'root' = the top
 *     contents(id, part, data)                                          parts of 1 MiB, in order
 *
 * and is made in tmp/ under a name that a start of the server sweeps; it is sealed
 * (crypto/bundle.h, content BUNDLE_FILE) into a file without a name, overwritten and removed.
 * Records are whole each, as they are when they are read; while others write, it is no picture of
 * one instant. Memory: a page cache and a chunk, whatever the size.
 *
 * Threads: any.
 */
#ifndef CACHET_SERVER_EXPORT_H
#define CACHET_SERVER_EXPORT_H

#include <stdint.h>

#include "crypto/bundle.h"
#include "server/body.h"
#include "server/records.h"

struct export_place {
	const char *dir; /* data directory */
	const struct body_dirs *dirs;
	const char *instance;
};

/* *fd: the sealed file, from its start; the caller closes. -ENOSPC. */
int server_export_make(const struct export_place *place, struct store_db *db,
	const struct store_row *store, const uint8_t key[static BUNDLE_KEY_LEN], int *fd,
	uint64_t *len) MUST_CHECK;

#endif
