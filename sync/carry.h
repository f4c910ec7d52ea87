/*
 * Carries the opaque messages of cache/enrolment.h to the origin and back: one blocking call at a
 * time, with a connection of its own, before a volume (and with it the sync loop) can be opened,
 * and beside the loop afterwards. What the messages say is none of its business.
 *
 *     carry_new → carry_link → volume_open, volume_create, volume_renew_keys … → carry_free
 *
 * Only an answer with an origin's identity and of the protocol's form is handed on (promise P3).
 * Threads: one at a time; carry_stop from any.
 */
#ifndef CACHET_SYNC_CARRY_H
#define CACHET_SYNC_CARRY_H

#include <stdbool.h>

#include "base/macros.h"
#include "cache/enrolment.h"

struct carry;

/* CE_USAGE and *error, a sentence (the caller frees), for a URL that is none. */
int carry_new(const char *origin, const char *ca_file, bool allow_raw, struct carry **out,
	char **error) MUST_CHECK;
/* Borrowed, as long as the carry. */
const struct enrolment_link *carry_link(struct carry *c);
/* The call under way ends soon with CE_OFFLINE, and so does every later one. */
void carry_stop(struct carry *c);
void carry_free(struct carry *c);
void carry_freep(struct carry **c);

#endif
