/*
 * After an unclean end, in the background: files under blobs/ that no row names are removed, slots that no row names are punched, and
 * what each blob takes is measured. Nothing waits for it. Stops early when `stop` says so: the next unclean end scans again.
 *
 * scan_new before the first blob is made, scan_note_new for each one made since (before its file is there), scan_run in the
 * keeper, scan_free. Threads: scan_run in one; scan_note_new in any, cheap when no scan goes on.
 */
#ifndef CACHET_CACHE_SCAN_H
#define CACHET_CACHE_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

struct volume;

int scan_new(struct volume *v) MUST_CHECK;
void scan_free(struct volume *v);
int scan_note_new(struct volume *v, const uint8_t uuid[static 16]) MUST_CHECK;
void scan_run(struct volume *v, bool (*stop)(void *arg), void *arg);

#endif
