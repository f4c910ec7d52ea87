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

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "base/macros.h"
#include "base/secret.h"
#include "cli/import_copy.h"

#define IMPORT_ENVELOPES_FILE_MAX (256u << 20)

/* What an envelope had in it, during the call. */
struct import_record {
	const struct json *meta;
	char *path;
	const char *type;
	uint8_t *content; /* of a file */
	size_t len;
	const char *target;
	uint32_t mode;
	int64_t mtime_ns;
	struct json *tree; /* that of ours, or NULL */
	bool nothing;      /* a change without content */
};
typedef int import_record_fn(void *arg, struct import_record *r);

/* Opens all before `fn` gets the first; fn returns 0 to go on. */
int import_envelopes_each(const char *file, const struct secret *key, import_record_fn *fn,
	void *arg, size_t *at) MUST_CHECK;

/* *at: the number of the envelope that failed, from 1. CE_FORMAT, CE_TAMPER, CE_CORRUPT (a path
 * that leads elsewhere). */
int import_envelopes(const char *file, const struct secret *key, const char *target,
	struct import_totals *totals, size_t *at) MUST_CHECK;

/* One file of a record, new in its directory: whole and on the disk, or not there. -EEXIST. */
int import_envelopes_write(int dir, const char *name, const struct import_record *r) MUST_CHECK;
/* 1: a file with just this content is there, 0: something else is. */
int import_envelopes_same(int dir, const char *name, const struct import_record *r) MUST_CHECK;

#endif
