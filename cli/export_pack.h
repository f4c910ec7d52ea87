/*
 * Files and directories into a sealed bundle, by reading them through the mount: what is not on
 * this disk is fetched as with any read. Links of files become copies; sockets, fifos and devices
 * are left out and counted. A file whose content ends before its size, or that cannot be read, ends
 * it all: half an export is none.
 */
#ifndef CACHET_CLI_EXPORT_PACK_H
#define CACHET_CLI_EXPORT_PACK_H

#include <stdint.h>

#include "base/macros.h"
#include "crypto/bundle.h"

struct export_root {
	char *path; /* absolute */
	char *name; /* what stands for it in the archive: "notes" */
};

struct export_totals {
	uint64_t files, bytes, skipped;
};

/* An archive of the `n` roots, without its end of the bundle. *error: the path that failed (the
 * caller frees), or NULL when it was not a path. */
int export_pack(struct bundle_writer *w, const struct export_root *roots, size_t n,
	struct export_totals *totals, char **error) MUST_CHECK;

#endif
