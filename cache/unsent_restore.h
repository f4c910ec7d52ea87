/*
 * The index is gone or beyond repair: unsent work is put back from unsent.log and the blobs into a
 * new one (promise P8).
 *
 * unsent_restore_load() reads the log; it fails when there is none that opens, and then nothing may
 * be touched. unsent_restore_aside() moves what is there of the index to quarantine/index-<UTC>-n/.
 * unsent_restore_rows(), with the new index open, writes one transaction: settings, stores, the
 * directories above unsent work, names, content, journal rows under their old numbers and keys. The
 * origin's listing then fills in the rest.
 *
 * Every chunk is opened before it is believed. A file of which one does not open, or whose map has
 * a gap, keeps its place and what opens of it; its rows are refused, so that it is named in `cachet
 * journal` and never sent, evicted or taken for whole.
 *
 * When frames were missing, blobs that the log does not name are set aside too: they may be what
 * those frames spoke of. Else they are clean content, and go.
 *
 * A crash: the next open finds an index that is older than the log, or none, and does it again; the
 * log is replaced only after the rows are durable.
 */
#ifndef CACHET_CACHE_UNSENT_RESTORE_H
#define CACHET_CACHE_UNSENT_RESTORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

struct volume;
struct unsent_restore;

struct unsent_restored {
	uint64_t records; /* with unsent work, put back */
	uint64_t damaged; /* of these, content that does not open or is not there */
	bool log_damaged; /* frames were missing */
	char quarantine[64];
};

int unsent_restore_load(struct volume *v, struct unsent_restore **out) MUST_CHECK;
int unsent_restore_aside(struct volume *v, struct unsent_restore *u) MUST_CHECK;
/* `why`: a word for the event. */
int unsent_restore_rows(struct volume *v, struct unsent_restore *u, const char *why,
	struct unsent_restored *out) MUST_CHECK;
void unsent_restore_free(struct unsent_restore *u);

#endif
