/*
 * Files, directories and symbolic links as record envelopes, one each: what `cachet export
 * --records` writes. Read through the mount; the daemon says which record each is.
 */
#ifndef CACHET_CLI_EXPORT_RECORDS_H
#define CACHET_CLI_EXPORT_RECORDS_H

#include "base/json.h"
#include "base/macros.h"
#include "cli/envelope_list.h"
#include "cli/export_pack.h"

struct export_records {
	struct envelope_list *list;
	int (*ask)(void *arg, const char *path, struct json **reply); /* `cachet stat` of it */
	void *arg;
	const char *mountpoint;
};

/* As export_pack. CE_TOO_LARGE: the file at *error is beyond ENVELOPE_LIST_CONTENT_MAX. CE_FORMAT:
 * its name is not UTF-8. */
int export_records(const struct export_records *x, const struct export_root *roots, size_t n,
	struct export_totals *totals, char **error) MUST_CHECK;

#endif
