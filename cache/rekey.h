/*
 * Rekey: new keys inside. Each store gets a new CEK and the index a new key; everything sealed
 * under the old ones is sealed anew in the background, and when nothing is left under them they are
 * destroyed. This is what a leak of key and keyring asks for, and what rotation (the KEK alone,
 * cache/enrolment.h) does not do. What was copied before, together with its key, stays readable.
 *
 *     rekey_start        a person, or the age of the keys: new keys in the keyring, the thread runs
 *     rekey_status, rekey_wait
 *     rekey_new, rekey_open, rekey_stop, rekey_free: by volume.c; what was cut short goes on
 *
 * The one state that counts is the keyring: while it has old keys a rekey is under way. What is
 * left to do is counted in the rows, so any crash costs at most the slice under way. Reads and
 * writes go on: both keys are there (keys.c), and the thread rests as long as it worked.
 * Steps and their crashes: rekey.c.
 *
 * Errors of rekey_start: -EALREADY one is under way; CE_USAGE the volume is not healthy, *error
 * says why. What fails later is in the status and tried again. Threads: any.
 */
#ifndef CACHET_CACHE_REKEY_H
#define CACHET_CACHE_REKEY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "cache/volume.h"

#define REKEY_DAYS_DEFAULT 180

struct rekey_status {
	bool active;
	uint64_t epoch;                   /* of the index key; 1 = never rekeyed */
	int64_t made_at_s;                /* when the present keys were made; never goes back */
	uint64_t done_bytes, total_bytes; /* of content, since the volume was opened */
	uint64_t damaged; /* chunks that do not open and have no other copy: the old keys stay */
	int code;         /* the last failure, or 0 */
};

/* `force`: although something is in quarantine/, or damaged, that only the old keys open. */
int rekey_start(struct volume *v, bool force, char **error) MUST_CHECK;
void rekey_status(struct volume *v, struct rekey_status *out);
/* At full speed, until it is done or `ms` are over. */
void rekey_wait(struct volume *v, unsigned ms);

/* Before the keeper starts, also after a lock; rekey_open when it runs. */
int rekey_new(struct volume *v) MUST_CHECK;
int rekey_open(struct volume *v) MUST_CHECK;
/* While the keeper runs: the thread ends, and none begins any more. */
void rekey_stop(struct volume *v);
void rekey_free(struct volume *v);
/* Now and then, by the keeper: keys that are too old are replaced. */
void rekey_tick(struct volume *v);

#endif
