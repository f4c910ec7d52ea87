/*
 * After an unclean end, in the background: files under blobs/ that no row names are removed, slots that no row names are punched, and
 * what each blob takes is measured. One look at each file of the volume, which has packs and files of more than a chunk.
 *
 * Until then nobody knows how much the volume takes: the rows tell of what was recorded, and up to the bound may be there besides. So whoever needs
 * space waits (scan_wait, promise P11); mounting, listing and reading do not.
 *
 * scan_new before the first blob is made, scan_note_new for each one made since (before its file is there), scan_run in the
 * keeper, scan_free. When `stop` says so, scan_run ends early; the next one begins again. Threads: scan_run in one; the others in any, cheap when no
 * scan goes on; scan_wait with no lock held.
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
void scan_wait(struct volume *v);
/* scan_wait would not wait, now or later. */
bool scan_is_over(const struct volume *v);

#endif
