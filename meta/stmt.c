#include "meta/stmt_priv.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "meta/db_priv.h"

static const char *const texts[STMT_COUNT] = {
#define STMT(id, sql) [STMT_##id] = (sql),
	STMT_TABLE(STMT)
#undef STMT
};

int stmt_prepare_all(struct db *db)
{
	for (size_t i = 0; i < STMT_COUNT; i++) {
		int rc = sqlite3_prepare_v3(
			db->handle, texts[i], -1, SQLITE_PREPARE_PERSISTENT, &db->stmts[i].q, NULL);

		if (rc != SQLITE_OK)
			return db_error(db, rc);
	}
	return 0;
}

void stmt_finalize_all(struct db *db)
{
	for (size_t i = 0; i < STMT_COUNT; i++) {
		sqlite3_finalize(db->stmts[i].q);
		db->stmts[i].q = NULL;
	}
}

struct stmt stmt_use(struct db *db, enum stmt_id id)
{
	struct stmt s = { .db = db, .id = id };
	struct stmt_slot *slot = &db->stmts[id];

	db_assert_locked(db);
	if (!slot->busy) {
		slot->busy = true;
		s.q = slot->q;
		return s;
	}
	s.spare = true;
	s.error = db_error(db, sqlite3_prepare_v3(db->handle, texts[id], -1, 0, &s.q, NULL));
	return s;
}

void stmt_end(struct stmt *s)
{
	if (s->spare) {
		sqlite3_finalize(s->q);
		return;
	}
	sqlite3_reset(s->q);
	sqlite3_clear_bindings(s->q);
	s->db->stmts[s->id].busy = false;
}

const char *stmt_sql(enum stmt_id id)
{
	return texts[id];
}

static void keep(struct stmt *s, int rc)
{
	if (rc != SQLITE_OK && !s->error)
		s->error = db_error(s->db, rc);
}

/* Remembers the value for the log. */
static int bound(struct stmt *s, struct redo_value_ref v)
{
	if (s->bound >= REDO_VALUES_MAX)
		db_broken("too many values for a statement");
	s->values[s->bound] = v;
	return ++s->bound;
}

void stmt_bind_u64(struct stmt *s, uint64_t v)
{
	stmt_bind_i64(s, (int64_t)v);
}

void stmt_bind_i64(struct stmt *s, int64_t v)
{
	int i = bound(s, (struct redo_value_ref){ .type = REDO_INTEGER, .i = v });

	keep(s, sqlite3_bind_int64(s->q, i, v));
}

void stmt_bind_text(struct stmt *s, const char *v)
{
	struct redo_value_ref ref = {
		.type = v ? REDO_TEXT : REDO_NULL, .bytes = v, .len = v ? strlen(v) : 0
	};
	int i = bound(s, ref);

	keep(s, sqlite3_bind_text(s->q, i, v, (int)ref.len, SQLITE_STATIC));
}

void stmt_bind_text_or_null(struct stmt *s, const char *v)
{
	stmt_bind_text(s, v && *v ? v : NULL);
}

void stmt_bind_blob(struct stmt *s, const void *v, size_t len)
{
	struct redo_value_ref ref = {
		.type = v ? REDO_BLOB : REDO_NULL, .bytes = v, .len = v ? len : 0
	};
	int i = bound(s, ref);

	if (v && len == 0)
		keep(s, sqlite3_bind_zeroblob(s->q, i, 0));
	else
		keep(s, sqlite3_bind_blob64(s->q, i, v, len, SQLITE_STATIC));
}

void stmt_bind_filename(struct stmt *s, const struct row_filename *f)
{
	stmt_bind_blob(s, f->len ? f->bytes : NULL, f->len);
}

static int step(struct stmt *s)
{
	int rc;

	if (s->error)
		return s->error;
	s->column = 0;
	rc = sqlite3_step(s->q);
	if (rc == SQLITE_ROW)
		return 1;
	return rc == SQLITE_DONE ? 0 : db_error(s->db, rc);
}

/* SQLite gives a transaction up by itself on some errors: what is read then is not what was
 * answered, and what follows must not commit alone. */
static int refused(const struct db *db)
{
	if (!db_group_lost(db))
		return 0;
	return db->lost ? db->lost : -EIO;
}

int stmt_row(struct stmt *s)
{
	int r = refused(s->db);

	if (!s->error && !sqlite3_stmt_readonly(s->q))
		db_broken("a change that is not logged");
	return r < 0 ? r : step(s);
}

int stmt_control(struct stmt *s)
{
	int r = step(s);

	return r < 0 ? r : 0;
}

int stmt_one(struct stmt *s)
{
	int r = stmt_row(s);

	if (r == 0)
		return -ENOENT;
	return r < 0 ? r : 0;
}

/* What changed nothing need not be done again. */
static void record(struct stmt *s)
{
	struct db *db = s->db;
	uint64_t changes = (uint64_t)sqlite3_changes(db->handle);

	db->touched += changes;
	if (changes && db->redo)
		redo_run(db->redo, s->id, texts[s->id], s->values, (unsigned)s->bound, changes,
			sqlite3_last_insert_rowid(db->handle));
}

int stmt_run(struct stmt *s)
{
	int r = refused(s->db);

	if (r == 0)
		r = db_txn_write(s->db);
	if (r < 0)
		return r;
	sqlite3_set_last_insert_rowid(s->db->handle, 0);
	r = step(s);
	if (r == CE_TAMPER || r == CE_CORRUPT)
		s->db->doubtful = true;
	if (r < 0)
		return r;
	record(s);
	return 0;
}

int stmt_run_one(struct stmt *s)
{
	int r = stmt_run(s);

	if (r < 0)
		return r;
	return sqlite3_changes(s->db->handle) ? 0 : -ENOENT;
}

uint64_t stmt_last_id(const struct stmt *s)
{
	return (uint64_t)sqlite3_last_insert_rowid(s->db->handle);
}

uint64_t stmt_u64(struct stmt *s)
{
	return (uint64_t)stmt_i64(s);
}

int64_t stmt_i64(struct stmt *s)
{
	return sqlite3_column_int64(s->q, s->column++);
}

bool stmt_is_null(const struct stmt *s)
{
	return sqlite3_column_type(s->q, s->column) == SQLITE_NULL;
}

void stmt_text(struct stmt *s, char *out, size_t size)
{
	const unsigned char *t = sqlite3_column_text(s->q, s->column);
	size_t len = (size_t)sqlite3_column_bytes(s->q, s->column++);

	*out = 0;
	if (len >= size) {
		s->error = CE_CORRUPT;
		return;
	}
	if (t)
		memcpy(out, t, len);
	out[t ? len : 0] = 0;
}

size_t stmt_blob(struct stmt *s, void *out, size_t max)
{
	const void *b = sqlite3_column_blob(s->q, s->column);
	size_t len = (size_t)sqlite3_column_bytes(s->q, s->column++);

	memset(out, 0, max);
	if (len > max) {
		s->error = CE_CORRUPT;
		return 0;
	}
	if (b)
		memcpy(out, b, len);
	return len;
}

char *stmt_dup(struct stmt *s, size_t *len)
{
	bool null = stmt_is_null(s);
	const void *b = sqlite3_column_blob(s->q, s->column);
	size_t n = (size_t)sqlite3_column_bytes(s->q, s->column++);
	char *copy;

	if (null)
		return NULL;
	copy = malloc(n + 1);
	if (!copy) {
		s->error = -ENOMEM;
		return NULL;
	}
	if (n)
		memcpy(copy, b, n);
	copy[n] = 0;
	if (len)
		*len = n;
	return copy;
}

void stmt_rid(struct stmt *s, struct row_rid *out)
{
	stmt_text(s, out->text, sizeof(out->text));
}

void stmt_etag(struct stmt *s, struct row_etag *out)
{
	stmt_text(s, out->text, sizeof(out->text));
}

void stmt_filename(struct stmt *s, struct row_filename *out)
{
	out->len = (uint16_t)stmt_blob(s, out->bytes, ROW_NAME_MAX);
	out->bytes[out->len] = 0;
}

int stmt_count(struct stmt *s, uint64_t *out)
{
	int r = stmt_one(s);

	if (r == 0)
		*out = stmt_u64(s);
	return r;
}
