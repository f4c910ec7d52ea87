/*
 * Runs the payload of a record (meta/redo_format.h) on a connection, in the transaction that is
 * open there. One struct redo_run per replay: it keeps the statements that the log has named.
 *
 * What was run must do the same again: as many rows changed, the same row id. If not, or if a
 * statement is refused, the record does not fit what it is replayed on: CE_CORRUPT, and the
 * transaction is to be rolled back. -ENOMEM, -ENOSPC, -EIO, CE_TAMPER...: as db_error() says; the
 * record may be good.
 */
#ifndef CACHET_META_REDO_RUN_H
#define CACHET_META_REDO_RUN_H

#include <sqlite3.h>
#include <stdint.h>

#include "meta/redo.h"

struct db;

struct redo_run {
	struct db *db;
	sqlite3_stmt *stmts[REDO_IDS_MAX];
};

int redo_run_payload(struct redo_run *x, const uint8_t *payload, size_t len) MUST_CHECK;
/* The notes of a payload, without running anything. */
typedef int redo_note_fn(void *arg, unsigned kind, const uint8_t *bytes, size_t len);
int redo_run_notes(
	const uint8_t *payload, size_t len, redo_note_fn *fn, void *arg) MUST_CHECK;
void redo_run_done(struct redo_run *x);

#endif
