/*
 * Statements: one table (stmt_table.h), prepared once when the index opens, bound and read by
 * position.
 *
 *     _cleanup_stmt_ struct stmt s = stmt_use(db, STMT_OBJECT_GET);
 *     stmt_bind_u64(&s, id);
 *     r = stmt_row(&s);            // 1 a row, 0 none, < 0 an error
 *     o->size = stmt_u64(&s);      // columns from the left
 *
 * Binding errors are kept and come out of stmt_row/stmt_run. The end of the scope resets the
 * statement on every path. Texts and blobs are bound without a copy: they must live as long as the
 * scope. A change is gathered for the redo log as it is made, values and all: it has to do the same
 * when it is run again on the same state, so no time, no chance, no LIMIT without an order. A
 * statement that is still in use (a callback that asks again) is prepared a second time
 * for the nested use.
 */
#ifndef CACHET_META_STMT_PRIV_H
#define CACHET_META_STMT_PRIV_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "meta/redo.h"
#include "meta/row.h"
#include "meta/stmt_table.h"

struct db;

enum stmt_id {
#define STMT(id, sql) STMT_##id,
	STMT_TABLE(STMT)
#undef STMT
	STMT_COUNT
};

struct stmt_slot {
	sqlite3_stmt *q;
	bool busy;
};

struct stmt {
	struct db *db;
	sqlite3_stmt *q;
	enum stmt_id id;
	int bound, column;
	int error;
	bool spare;
	struct redo_value_ref values[REDO_VALUES_MAX];
};

_Static_assert(STMT_COUNT <= REDO_IDS_MAX, "the log knows each statement by its number");

int stmt_prepare_all(struct db *db) MUST_CHECK;
void stmt_finalize_all(struct db *db);

const char *stmt_sql(enum stmt_id id);
struct stmt stmt_use(struct db *db, enum stmt_id id);
void stmt_end(struct stmt *s);
#define _cleanup_stmt_ _cleanup_(stmt_end)

void stmt_bind_u64(struct stmt *s, uint64_t v);
void stmt_bind_i64(struct stmt *s, int64_t v);
/* "" binds "". */
void stmt_bind_text(struct stmt *s, const char *v);
/* "" binds NULL. */
void stmt_bind_text_or_null(struct stmt *s, const char *v);
/* len 0 binds an empty blob, v NULL binds NULL. */
void stmt_bind_blob(struct stmt *s, const void *v, size_t len);

/* 1: a row is there; 0: no more; < 0. */
int stmt_row(struct stmt *s) MUST_CHECK;
/* As stmt_row, but no row is -ENOENT: 0 or < 0. */
int stmt_one(struct stmt *s) MUST_CHECK;
/* A savepoint. */
int stmt_control(struct stmt *s) MUST_CHECK;
/* A change, inside a transaction. */
int stmt_run(struct stmt *s) MUST_CHECK;
/* The same; -ENOENT when it touched no row. */
int stmt_run_one(struct stmt *s) MUST_CHECK;
uint64_t stmt_last_id(const struct stmt *s);

uint64_t stmt_u64(struct stmt *s);
int64_t stmt_i64(struct stmt *s);
bool stmt_is_null(const struct stmt *s); /* the next column; does not move on */
/* Copies; CE_CORRUPT is kept in s->error when it does not fit. NULL gives "". */
void stmt_text(struct stmt *s, char *out, size_t size);
/* At most max bytes; the rest of `out` is zeroed. NULL gives length 0. */
size_t stmt_blob(struct stmt *s, void *out, size_t max);
/* A NUL-terminated copy the caller frees; NULL stays NULL. -ENOMEM is kept in s->error. */
char *stmt_dup(struct stmt *s, size_t *len);

void stmt_rid(struct stmt *s, struct row_rid *out);
void stmt_etag(struct stmt *s, struct row_etag *out);
void stmt_filename(struct stmt *s, struct row_filename *out);
void stmt_bind_filename(struct stmt *s, const struct row_filename *f); /* len 0 binds NULL */

/* Runs a query of one number. */
int stmt_count(struct stmt *s, uint64_t *out) MUST_CHECK;

#endif
