#include "server/records.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

static const char *const kind_names[] = { "", "file", "dir", "symlink" };

const char *server_records_kind_name(enum record_kind kind)
{
	return kind_names[kind];
}

enum record_kind server_records_kind(const char *name)
{
	for (enum record_kind k = RECORD_FILE; k <= RECORD_SYMLINK; k++)
		if (!strcmp(name, kind_names[k]))
			return k;
	return RECORD_NONE;
}

static void copy_text(sqlite3_stmt *q, int column, char *out, size_t size)
{
	const char *text = (const char *)sqlite3_column_text(q, column);

	snprintf(out, size, "%s", text ? text : "");
}

static bool copy_blob(sqlite3_stmt *q, int column, void *out, size_t size)
{
	const void *data = sqlite3_column_blob(q, column);

	if (!data || (size_t)sqlite3_column_bytes(q, column) != size)
		return false;
	memcpy(out, data, size);
	return true;
}

void server_records_read(sqlite3_stmt *q, struct record *out)
{
	int kind = sqlite3_column_int(q, 6);

	out->n = sqlite3_column_int64(q, 0);
	out->store = sqlite3_column_int64(q, 1);
	copy_text(q, 2, out->id, sizeof(out->id));
	out->parent_n = sqlite3_column_int64(q, 3);
	copy_text(q, 4, out->parent, sizeof(out->parent));
	copy_text(q, 5, out->name, sizeof(out->name));
	out->kind = kind >= RECORD_FILE && kind <= RECORD_SYMLINK ? (enum record_kind)kind
								  : RECORD_FILE;
	out->size = (uint64_t)sqlite3_column_int64(q, 7);
	if (!copy_blob(q, 8, out->sha256, sizeof(out->sha256)))
		memset(out->sha256, 0, sizeof(out->sha256));
	out->mode = (unsigned)sqlite3_column_int(q, 9);
	out->mtime_ns = sqlite3_column_int64(q, 10);
	out->seq = (uint64_t)sqlite3_column_int64(q, 11);
	out->tag = (uint32_t)sqlite3_column_int64(q, 12);
	out->has_key = copy_blob(q, 13, out->key, sizeof(out->key));
	out->changed_at = sqlite3_column_int64(q, 14);
	out->in_file = copy_blob(q, 15, out->file, sizeof(out->file));
	out->deleted = sqlite3_column_int(q, 16) != 0;
}

static int read_one(struct store_db *db, sqlite3_stmt *q, struct record *out)
{
	int r = server_store_step(db, q);

	if (r == 1)
		server_records_read(q, out);
	server_store_reset(q);
	return r == 1 ? 0 : r ? r : -ENOENT;
}

void server_records_root(int64_t store, struct record *out)
{
	*out = (struct record){ .store = store, .kind = RECORD_DIR, .mode = 0755 };
	snprintf(out->id, sizeof(out->id), RECORD_ROOT_ID);
}

int server_records_by_id(struct store_db *db, int64_t store, const char *id, struct record *out)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_RECORD_BY_ID);

	sqlite3_bind_int64(q, 1, store);
	sqlite3_bind_text(q, 2, id, -1, SQLITE_STATIC);
	return read_one(db, q, out);
}

int server_records_by_place(
	struct store_db *db, int64_t store, int64_t parent, const char *name, struct record *out)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_RECORD_BY_PLACE);

	sqlite3_bind_int64(q, 1, store);
	sqlite3_bind_int64(q, 2, parent);
	sqlite3_bind_text(q, 3, name, -1, SQLITE_STATIC);
	return read_one(db, q, out);
}

int server_records_with_data(
	struct store_db *db, int64_t store, const char *id, struct record *out, uint8_t **data)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_RECORD_WITH_DATA);
	uint8_t *copy = NULL;
	int r;

	sqlite3_bind_int64(q, 1, store);
	sqlite3_bind_text(q, 2, id, -1, SQLITE_STATIC);
	r = server_store_step(db, q);
	if (r == 1) {
		const void *blob = sqlite3_column_blob(q, 17);
		size_t len = (size_t)sqlite3_column_bytes(q, 17);

		server_records_read(q, out);
		if (blob) {
			copy = malloc(len + 1);
			if (copy)
				memcpy(copy, blob, len);
			/* The row and its body are one state of the database, so the lengths agree.
			 */
			r = !copy ? -ENOMEM : len != out->size ? CE_CORRUPT : 1;
		}
	}
	server_store_reset(q);
	if (r != 1) {
		free(copy);
		return r ? r : -ENOENT;
	}
	*data = copy;
	return 0;
}

int server_records_parent(struct store_db *db, int64_t n, int64_t *out)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_RECORD_PARENT);
	int r;

	sqlite3_bind_int64(q, 1, n);
	r = server_store_step(db, q);
	if (r == 1)
		*out = sqlite3_column_int64(q, 0);
	server_store_reset(q);
	return r == 1 ? 0 : r ? r : -ENOENT;
}

int server_records_has_child(struct store_db *db, int64_t store, int64_t n)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_RECORD_HAS_CHILD);

	sqlite3_bind_int64(q, 1, store);
	sqlite3_bind_int64(q, 2, n);
	return server_store_once(db, q);
}

int server_records_save(struct store_db *db, struct record *r)
{
	bool body = r->kind != RECORD_DIR && !r->deleted;
	sqlite3_stmt *q = server_store_statement(db, r->n ? SQL_RECORD_SAVE : SQL_RECORD_ADD);
	int rc;

	if (r->n)
		sqlite3_bind_int64(q, 1, r->n);
	sqlite3_bind_int64(q, 2, r->store);
	sqlite3_bind_text(q, 3, r->id, -1, SQLITE_STATIC);
	sqlite3_bind_int64(q, 4, r->parent_n);
	sqlite3_bind_text(q, 5, r->name, -1, SQLITE_STATIC);
	sqlite3_bind_int(q, 6, (int)r->kind);
	sqlite3_bind_int64(q, 7, (int64_t)r->size);
	if (body)
		sqlite3_bind_blob(q, 8, r->sha256, sizeof(r->sha256), SQLITE_STATIC);
	sqlite3_bind_int(q, 9, (int)r->mode);
	sqlite3_bind_int64(q, 10, r->mtime_ns);
	sqlite3_bind_int64(q, 11, (int64_t)r->seq);
	sqlite3_bind_int64(q, 12, r->tag);
	if (r->has_key)
		sqlite3_bind_blob(q, 13, r->key, sizeof(r->key), SQLITE_STATIC);
	sqlite3_bind_int64(q, 14, r->changed_at);
	if (body && r->in_file)
		sqlite3_bind_blob(q, 15, r->file, sizeof(r->file), SQLITE_STATIC);
	sqlite3_bind_int(q, 16, r->deleted);
	rc = server_store_once(db, q);
	if (!rc && !r->n)
		r->n = sqlite3_last_insert_rowid(server_store_handle(db));
	return rc;
}

static int run_with_row(struct store_db *db, enum sql which, int64_t n)
{
	sqlite3_stmt *q = server_store_statement(db, which);

	sqlite3_bind_int64(q, 1, n);
	return server_store_once(db, q);
}

int server_records_unplace(struct store_db *db, int64_t n)
{
	return run_with_row(db, SQL_RECORD_UNPLACE, n);
}

int server_records_delete_data(struct store_db *db, int64_t n)
{
	return run_with_row(db, SQL_CONTENT_DELETE, n);
}

int server_records_put_data(struct store_db *db, int64_t n, const void *data, size_t len)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_CONTENT_PUT);

	sqlite3_bind_int64(q, 1, n);
	sqlite3_bind_blob(q, 2, data, (int)len, SQLITE_STATIC);
	return server_store_once(db, q);
}

void server_records_read_store(sqlite3_stmt *q, struct store_row *out)
{
	out->n = sqlite3_column_int64(q, 0);
	copy_text(q, 1, out->id, sizeof(out->id));
	out->seq = (uint64_t)sqlite3_column_int64(q, 2);
	out->purged_seq = (uint64_t)sqlite3_column_int64(q, 3);
	out->records = (uint64_t)sqlite3_column_int64(q, 4);
	out->bytes = (uint64_t)sqlite3_column_int64(q, 5);
	out->queries_seq = (uint64_t)sqlite3_column_int64(q, 6);
}

static int read_one_store(struct store_db *db, sqlite3_stmt *q, struct store_row *out)
{
	int r = server_store_step(db, q);

	if (r == 1)
		server_records_read_store(q, out);
	server_store_reset(q);
	return r == 1 ? 0 : r ? r : -ENOENT;
}

int server_records_store_by_id(struct store_db *db, const char *id, struct store_row *out)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_STORE_BY_ID);

	sqlite3_bind_text(q, 1, id, -1, SQLITE_STATIC);
	return read_one_store(db, q, out);
}

int server_records_store_by_n(struct store_db *db, int64_t n, struct store_row *out)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_STORE_BY_N);

	sqlite3_bind_int64(q, 1, n);
	return read_one_store(db, q, out);
}

int server_records_store_save(struct store_db *db, const struct store_row *row)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_STORE_SAVE);

	sqlite3_bind_int64(q, 1, row->n);
	sqlite3_bind_int64(q, 2, (int64_t)row->seq);
	sqlite3_bind_int64(q, 3, (int64_t)row->purged_seq);
	sqlite3_bind_int64(q, 4, (int64_t)row->records);
	sqlite3_bind_int64(q, 5, (int64_t)row->bytes);
	return server_store_once(db, q);
}

void server_records_etag(const struct record *r, char out[RECORD_ETAG_SIZE])
{
	if (!r->n)
		snprintf(out, RECORD_ETAG_SIZE, "\"root\"");
	else
		snprintf(out, RECORD_ETAG_SIZE, "\"%llx-%x\"", (unsigned long long)r->seq, r->tag);
}
