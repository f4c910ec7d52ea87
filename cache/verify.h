/*
 * Looking at sealed content before it is needed: each chunk is opened as a reader would. One of
 * clean content that does not open is dropped, and fetched again when it is next read; one of unsent
 * content stays where it is, sealed, and the operations that would send it are refused with
 * VERIFY_DAMAGED_TEXT, which names the file in `cachet status` and `cachet journal`. Each is an event
 * of kind tamper. Times of use are not touched.
 *
 * verify_slice() goes through the maps from `after` on until `budget_bytes` are read; called again
 * with what it returned, it goes on. verify_scrub() does the same in the background, from where the
 * last run left off. Threads: any; no lock held.
 */
#ifndef CACHET_CACHE_VERIFY_H
#define CACHET_CACHE_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

#define VERIFY_DAMAGED_TEXT "its content is damaged here and was not sent"

struct volume;

struct verify_report {
	uint64_t files, chunks, bytes; /* looked at */
	uint64_t healed;               /* chunks dropped, to be fetched again */
	uint64_t damaged;              /* chunks of unsent content that do not open */
};

/* `object`: 0 = all. *after: the last map done; *done: there is no more. Adds to *report. */
int verify_slice(struct volume *v, uint64_t object, uint64_t *after, uint64_t budget_bytes,
	bool *done, struct verify_report *report) MUST_CHECK;
/* About `bytes`; for the keeper. */
void verify_scrub(struct volume *v, uint64_t bytes);
/* SQLite's own check of the index: CE_TAMPER, CE_CORRUPT. */
int verify_index(struct volume *v) MUST_CHECK;

#endif
