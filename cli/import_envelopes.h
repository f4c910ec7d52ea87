/*
 * Record envelopes into a mounted volume: what `cachet export --records`, `cachet journal export`
 * and other programs of the field write, an array of them or an object with the array as `records`.
 *
 * All are opened before anything is written. A record of ours goes to its path below the target;
 * any other to TABLE/ID, or record-N where it has neither. Nothing is replaced; what is there with
 * the same content counts as imported. Changes that are no content (moves, deletions) are left.
 */
#ifndef CACHET_CLI_IMPORT_ENVELOPES_H
#define CACHET_CLI_IMPORT_ENVELOPES_H

#include "base/json.h"
#include "base/macros.h"
#include "base/secret.h"
#include "cli/import_copy.h"

#define IMPORT_ENVELOPES_FILE_MAX (256u << 20)

/* *at: the number of the envelope that failed, from 1. CE_FORMAT, CE_TAMPER, CE_CORRUPT (a path
 * that leads elsewhere). */
int import_envelopes(const char *file, const struct secret *key, const char *target,
	struct import_totals *totals, size_t *at) MUST_CHECK;

#endif
