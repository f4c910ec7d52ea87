#include "meta/redo_run.h"

#include <errno.h>

#include "base/error.h"
#include "meta/db_priv.h"

struct reader {
	const uint8_t *p, *end;
	bool bad;
};

static uint64_t get_number(struct reader *r)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 64 && r->p < r->end; shift += 7) {
		uint8_t b = *r->p++;

		v |= (uint64_t)(b & 0x7f) << shift;
		if (!(b & 0x80))
			return v;
	}
	r->bad = true;
	return 0;
}

static const void *get_bytes(struct reader *r, size_t *len)
{
	const uint8_t *at;

	*len = get_number(r);
	if (r->bad || *len > (size_t)(r->end - r->p)) {
		r->bad = true;
		*len = 0;
		return r->end;
	}
	at = r->p;
	r->p += *len;
	return at;
}

static unsigned get_id(struct reader *r)
{
	uint64_t id = get_number(r);

	if (id >= REDO_IDS_MAX)
		r->bad = true;
	return r->bad ? 0 : (unsigned)id;
}

/* A refusal of the statement is the record's fault; the rest is the machine's. */
static int verdict(struct db *db, int rc)
{
	switch (rc & 0xff) {
	case SQLITE_NOMEM:
	case SQLITE_FULL:
	case SQLITE_IOERR:
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_BUSY:
		return db_error(db, rc);
	default:
		return CE_CORRUPT;
	}
}

static int define(struct redo_run *x, struct reader *r)
{
	unsigned id = get_id(r);
	size_t len;
	const char *text = get_bytes(r, &len);
	int rc;

	if (r->bad)
		return CE_CORRUPT;
	sqlite3_finalize(x->stmts[id]);
	x->stmts[id] = NULL;
	rc = sqlite3_prepare_v2(x->db->handle, text, (int)len, &x->stmts[id], NULL);
	if (rc != SQLITE_OK)
		return verdict(x->db, rc);
	/* What changes no row is not logged; COMMIT is of that kind, and would keep what a record
	 * that is refused has done so far. */
	return sqlite3_stmt_readonly(x->stmts[id]) ? CE_CORRUPT : 0;
}

static int bind(sqlite3_stmt *q, int i, struct reader *r)
{
	enum redo_value type = (enum redo_value)get_number(r);
	const void *bytes;
	size_t len;
	uint64_t v;

	switch (type) {
	case REDO_NULL:
		return sqlite3_bind_null(q, i);
	case REDO_INTEGER:
		v = get_number(r);
		return sqlite3_bind_int64(q, i, (int64_t)(v >> 1 ^ -(v & 1)));
	case REDO_TEXT:
		bytes = get_bytes(r, &len);
		return sqlite3_bind_text64(q, i, bytes, len, SQLITE_STATIC, SQLITE_UTF8);
	case REDO_BLOB:
		bytes = get_bytes(r, &len);
		return len ? sqlite3_bind_blob64(q, i, bytes, len, SQLITE_STATIC)
			   : sqlite3_bind_zeroblob(q, i, 0);
	}
	r->bad = true;
	return SQLITE_MISUSE;
}

static int run(struct redo_run *x, struct reader *r)
{
	sqlite3_stmt *q = x->stmts[get_id(r)];
	uint64_t n = get_number(r), changes, rowid;
	int rc = SQLITE_OK;

	if (r->bad || !q || n > REDO_VALUES_MAX)
		return CE_CORRUPT;
	for (uint64_t i = 1; i <= n && rc == SQLITE_OK; i++)
		rc = bind(q, (int)i, r);
	changes = get_number(r);
	rowid = get_number(r);
	if (rc != SQLITE_OK || r->bad) {
		sqlite3_reset(q);
		return r->bad ? CE_CORRUPT : verdict(x->db, rc);
	}
	sqlite3_set_last_insert_rowid(x->db->handle, 0);
	rc = sqlite3_step(q);
	sqlite3_reset(q);
	sqlite3_clear_bindings(q);
	if (rc != SQLITE_DONE)
		return rc == SQLITE_ROW ? CE_CORRUPT : verdict(x->db, rc);
	if ((uint64_t)sqlite3_changes(x->db->handle) != changes ||
		(uint64_t)sqlite3_last_insert_rowid(x->db->handle) != rowid)
		return CE_CORRUPT;
	return 0;
}

static int skip_note(struct reader *r)
{
	size_t len;

	get_number(r);
	get_bytes(r, &len);
	return r->bad ? CE_CORRUPT : 0;
}

int redo_run_payload(struct redo_run *x, const uint8_t *payload, size_t len)
{
	struct reader r = { payload, payload + len, false };
	int c = 0;

	while (c == 0 && r.p < r.end) {
		switch (*r.p++) {
		case REDO_OP_TEXT:
			c = define(x, &r);
			break;
		case REDO_OP_RUN:
			c = run(x, &r);
			break;
		case REDO_OP_NOTE:
			c = skip_note(&r);
			break;
		default:
			c = CE_CORRUPT;
		}
	}
	return c;
}

static int skip_values(struct reader *r)
{
	uint64_t n;
	size_t len;

	get_number(r);
	n = get_number(r);
	for (uint64_t i = 0; i < n && !r->bad; i++) {
		uint64_t type = get_number(r);

		if (type == REDO_INTEGER)
			get_number(r);
		else if (type != REDO_NULL)
			get_bytes(r, &len);
	}
	get_number(r);
	get_number(r);
	return r->bad ? CE_CORRUPT : 0;
}

/* What does not read as a payload ends there: the replay says what is wrong with it. */
int redo_run_notes(const uint8_t *payload, size_t len, redo_note_fn *fn, void *arg)
{
	struct reader r = { payload, payload + len, false };
	const void *bytes;
	uint64_t kind;
	size_t n;
	int c = 0;

	while (c == 0 && !r.bad && r.p < r.end) {
		switch (*r.p++) {
		case REDO_OP_TEXT:
			get_number(&r);
			get_bytes(&r, &n);
			break;
		case REDO_OP_RUN:
			c = skip_values(&r);
			break;
		case REDO_OP_NOTE:
			kind = get_number(&r);
			bytes = get_bytes(&r, &n);
			if (!r.bad)
				c = fn(arg, (unsigned)kind, bytes, n);
			break;
		default:
			r.bad = true;
		}
	}
	return c == CE_CORRUPT ? 0 : c;
}

void redo_run_done(struct redo_run *x)
{
	for (size_t i = 0; i < REDO_IDS_MAX; i++)
		sqlite3_finalize(x->stmts[i]);
}
