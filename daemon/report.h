/*
 * What there is to know about a volume, as JSON: the answers of `status`, `journal`, `conflicts`
 * and `stat` (daemon/requests.h). Works with and without a daemon behind it (sync NULL).
 *
 * Times are nanoseconds since 1970 in members ending in _ns (decimal strings from 2^53 on, so
 * nearly always). Names that are not UTF-8 are shown with U+FFFD in place of the wrong bytes.
 */
#ifndef CACHET_DAEMON_REPORT_H
#define CACHET_DAEMON_REPORT_H

#include <stdbool.h>

#include "base/json.h"
#include "base/macros.h"

struct daemon_state;

/* Each adds its members to the object `out`. */
int report_status(struct daemon_state *d, struct json *out) MUST_CHECK;
int report_journal(struct daemon_state *d, struct json *out) MUST_CHECK;
/* "waits": {why, behind?, until_ms?} of one operation. */
int report_explain(struct daemon_state *d, uint64_t seq, struct json *out) MUST_CHECK;
/* "operation": one change with its content, and store, record, version of it; -ENOENT.
 * CE_TOO_LARGE beyond REPORT_CONTENT_MAX. */
#define REPORT_CONTENT_MAX (11u << 20)
int report_operation(struct daemon_state *d, uint64_t seq, struct json *out) MUST_CHECK;
/* "file", "directory", … */
const char *report_type_name(uint32_t mode);
/* Where a record is here: path, based_on, pending. -ENOENT. */
int report_find(
	struct daemon_state *d, const char *store, const char *record, struct json *out) MUST_CHECK;
const char *report_kind_name(int kind); /* of enum outbox_kind */
struct verify_at;
struct verify_report;
/* One slice of `verify`. */
int report_verify(struct daemon_state *d, const struct verify_report *v, const struct verify_at *at,
	bool done, struct json *out) MUST_CHECK;
/* `verify`: "bad_id" is 0 when the chain is whole. */
int report_events(struct daemon_state *d, bool verify, struct json *out) MUST_CHECK;
int report_conflicts(struct daemon_state *d, bool open_only, struct json *out) MUST_CHECK;
/* -ENOENT, CE_ABSENT (in a directory never listed). */
int report_stat(
	struct daemon_state *d, const char *path, unsigned check_ms, struct json *out) MUST_CHECK;

/* Sets a string member, as UTF-8 whatever the text is; NULL is null. */
void report_text(struct json *o, const char *key, const char *text);

#endif
