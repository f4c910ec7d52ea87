/*
 * Looking at sealed content before it is needed: each chunk is opened as a reader would. One of
 * clean content that does not open is dropped, and fetched again when it is next read; one of
 * unsent content stays where it is, sealed, and the operations that would send it are refused with
 * VERIFY_DAMAGED_TEXT, which names the file in `cachet status` and `cachet journal`. Each is an
 * event of kind tamper. Times of use are not touched.
 *
 * verify_slice() looks at chunks from *at on until `budget_bytes` are read, a chunk more at most;
 * called again with what it returned, it goes on, in the middle of a large file too. verify_scrub()
 * does the same in the background, from where the last run left off. Threads: any; no lock held.
 */
#ifndef CACHET_CACHE_VERIFY_H
#define CACHET_CACHE_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

#define VERIFY_SCRUB_MS_MAX 2000
#define VERIFY_DAMAGED_TEXT "its content is damaged here and was not sent"

struct volume;

struct verify_report {
	uint64_t files, chunks, bytes; /* looked at */
	uint64_t healed;               /* chunks dropped, to be fetched again */
	uint64_t damaged;              /* chunks of unsent content that do not open */
};

/* The next map, and in that one the next chunk; zeros: the beginning. */
struct verify_at {
	uint64_t map, chunk;
};

/* `object`: 0 = all. *done: there is no more. Adds to *report. */
int verify_slice(struct volume *v, uint64_t object, struct verify_at *at, uint64_t budget_bytes,
	bool *done, struct verify_report *report) MUST_CHECK;
/* For the keeper, `age_ms` after the last time: what the volume's scrub_rate allows, but no more
 * than of VERIFY_SCRUB_MS_MAX, and nothing while something is being written. */
void verify_scrub(struct volume *v, int64_t age_ms);
/* SQLite's own check of the index: CE_TAMPER, CE_CORRUPT. */
int verify_index(struct volume *v) MUST_CHECK;

#endif
