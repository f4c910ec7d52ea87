/*
 * Old entries of the audit log, moved into a file that proves itself.
 *
 *     server_audit_archive(dir, file, before_ns, &report, &error)
 *     server_audit_archive_check(file, noted, &report, &error)
 *
 * The file is lines of JSON: first {"cachet":"audit archive","after":"N:HASH"}, the head of what
 * came before, then an entry each, as `GET /v1/audit` has them. So an archive is checked without
 * the database, and its place between the one before (whose head it names) and the next. The log
 * goes on from the archive's head, which is in its own entry `audit-archive` as well.
 *
 * The file is synced before anything is taken out of the log: a crash in between leaves entries in
 * both, or a file that is not whole and a log that is. An existing file is never touched (-EEXIST).
 * The whole log is checked first: CE_TAMPER, and nothing is written.
 */
#ifndef CACHET_SERVER_AUDIT_ARCHIVE_H
#define CACHET_SERVER_AUDIT_ARCHIVE_H

#include "server/server.h"

/* Entries before the first that is not older than `before_ns` (since 1970). *error as in server.h. */
int server_audit_archive(const char *dir, const char *file, int64_t before_ns,
	struct server_audit_report *report, char **error) MUST_CHECK;
int server_audit_archive_check(const char *file, const char *noted,
	struct server_audit_report *report, char **error) MUST_CHECK;

#endif
