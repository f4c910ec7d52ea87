#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/io.h"
#include "base/json.h"
#include "server/devices.h"
#include "server/handlers.h"
#include "server/query.h"
#include "server/range.h"

#define SEEN_EVERY_NS (60 * NS_PER_SEC)

/* ---- GET /v1 ---- */

struct device_news {
	uint64_t last_seq;
	bool is_enrolled;
	struct device device;
};

static int read_last_seq(struct request *r, struct store_db *db, uint64_t *out)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_DEVICE_GET);
	uint8_t device[WIRE_KEY_LEN];
	int rc;

	if (bytes_from_hex(r->headers[HEADER_DEVICE], device, sizeof(device))) {
		server_http_refuse(r, PROBLEM_BAD_REQUEST, "cachet-device is 32 hex digits");
		return 0;
	}
	sqlite3_bind_int64(q, 1, r->access.account);
	sqlite3_bind_blob(q, 2, device, WIRE_KEY_LEN, SQLITE_STATIC);
	rc = server_store_step(db, q);
	if (rc == 1)
		*out = (uint64_t)sqlite3_column_int64(q, 0);
	server_store_reset(q);
	return rc < 0 ? rc : 0;
}

static int read_device(struct request *r, struct device_news *out)
{
	struct store_db *db;
	int rc;

	if (!r->headers[HEADER_DEVICE])
		return 0;
	rc = server_pool_take(r->s->pool, &db);
	if (rc)
		return rc;
	rc = read_last_seq(r, db, &out->last_seq);
	if (!rc)
		rc = server_devices_by_id(
			db, r->access.account, r->headers[HEADER_DEVICE], &out->device);
	out->is_enrolled = !rc;
	server_pool_give(r->s->pool, db);
	return rc == -ENOENT ? 0 : rc;
}

static int print_device(struct buffer *b, const struct device *d)
{
	const char *quote = *d->kid ? "\"" : "";

	return buffer_printf(b, ",\"device\":{\"dkid\":\"%s\",\"kid\":%s%s%s,\"state\":\"%s\"}",
		d->dkid, quote, *d->kid ? d->kid : "null", quote,
		server_devices_state_name(d->state));
}

static int note_seen(struct tx *tx, void *arg)
{
	struct request *r = arg;

	return server_devices_seen(tx->db, r->seen_device);
}

void server_read_capabilities(struct request *r)
{
	const struct server *s = r->s;
	struct device_news news = { 0 };
	int rc = read_device(r, &news);

	if (r->answer.status)
		return;
	if (!rc)
		rc = buffer_printf(&r->answer.text,
			"{\"protocol\":1,\"instance\":\"%s\",\"epoch\":\"%s\",\"server\":"
			"\"cachet " CACHET_VERSION "\",\"time_ns\":\"%lld\",\"last_seq\":%llu,"
						   "\"idempotency_days\":%d,\"limits\":{"
			"\"max_record_bytes\":%llu,\"max_request_bytes\":%llu,\"max_batch\":%d,"
			"\"max_wait_s\":%d,\"upload_keep_s\":%d,\"upload_ahead\":1}",
			s->instance, s->epoch, (long long)clock_wall_ns(),
			(unsigned long long)news.last_seq, (int)s->keys_kept_days,
			(unsigned long long)s->max_record_bytes,
			(unsigned long long)s->max_request_bytes, SERVER_MAX_BATCH,
			SERVER_MAX_WAIT_S, (int)(UPLOAD_KEEP_MS / 1000));
	if (!rc && news.is_enrolled)
		rc = print_device(&r->answer.text, &news.device);
	if (!rc)
		rc = buffer_append(&r->answer.text, "}", 1);
	server_http_json(r, rc);
	/* Noted now and then only; the answer waits for it but does not depend on it. */
	if (!rc && news.is_enrolled && clock_wall_ns() - news.device.seen_at_ns > SEEN_EVERY_NS) {
		r->seen_device = news.device.n;
		r->job.run = note_seen;
		server_http_submit(r);
	}
}

/* ---- GET /v1/stores ---- */

static int print_stores(struct request *r, struct store_db *db)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_STORE_LIST_OPEN);
	struct buffer *b = &r->answer.text;
	struct store_row row;
	bool some = false;
	int rc = buffer_printf(b, "{\"stores\":["), step = 0;

	sqlite3_bind_int64(q, 1, r->access.token);
	while (!rc && (step = server_store_step(db, q)) == 1) {
		server_records_read_store(q, &row);
		rc = buffer_printf(b,
			"%s{\"id\":\"%s\",\"mode\":\"%s\",\"records\":%llu,\"bytes\":%llu,"
			"\"queries\":",
			some ? "," : "", row.id, r->access.read_only ? "ro" : "rw",
			(unsigned long long)row.records, (unsigned long long)row.bytes);
		if (!rc)
			rc = server_query_names(db, row.n, b);
		if (!rc)
			rc = buffer_append(b, "}", 1);
		some = true;
	}
	server_store_reset(q);
	if (!rc && step < 0)
		rc = step;
	return rc ? rc : buffer_append(b, "]}", 2);
}

void server_read_stores(struct request *r)
{
	struct store_db *db;
	int rc = server_pool_take(r->s->pool, &db);

	if (!rc) {
		rc = print_stores(r, db);
		server_pool_give(r->s->pool, db);
	}
	server_http_json(r, rc);
}

/* ---- GET, HEAD of a record ---- */

/*
 * The record with its body: inline in *data, or an open content file in *fd. A file that was
 * replaced between the two looks is found under its new name by looking again.
 */
static int load(struct request *r, const char *id, struct record *record, uint8_t **data, int *fd)
{
	struct store_db *db;
	int rc = server_pool_take(r->s->pool, &db);

	if (rc)
		return rc;
	for (int tries = 0; tries < 5; tries++) {
		rc = server_records_with_data(db, r->store.n, id, record, data);
		if (rc || !record->in_file)
			break;
		rc = server_body_open(&r->s->dirs, record->file, fd);
		if (rc != -ENOENT)
			break;
		rc = CE_CORRUPT;
	}
	server_pool_give(r->s->pool, db);
	return rc;
}

static void set_record_header(struct request *r, const struct record *record)
{
	char date[RANGE_DATE_LEN], etag[RECORD_ETAG_SIZE];

	server_records_etag(record, etag);
	server_answer_header(&r->answer, MHD_HTTP_HEADER_ETAG, "%s", etag);
	if (record->n) {
		server_range_date(record->changed_at / NS_PER_SEC, date);
		server_answer_header(&r->answer, MHD_HTTP_HEADER_LAST_MODIFIED, "%s", date);
	}
	if (server_records_print(&r->answer.record, record, false))
		r->answer.record.len = 0;
}

static void refuse_with_record(struct request *r, enum problem p, const struct record *record)
{
	server_answer_problem(&r->answer, r->s->instance, p, NULL, record);
}

/* Hands the body over to the answer. */
static void set_body(struct request *r, uint8_t **data, int *fd, uint64_t first, uint64_t len)
{
	struct answer *a = &r->answer;

	if (*fd >= 0) {
		a->fd = steal_fd(fd);
		a->first = first;
		a->len = len;
	} else if (*data) {
		memmove(*data, *data + first, len);
		a->text = (struct buffer){
			.data = (char *)steal_ptr(data), .len = len, .cap = len + 1
		};
	}
}

/*
 * The request's conditions and range, on a content of `size`: status and headers are set. Without
 * `record` there is no date to compare. False: answered already.
 */
static bool select_part(struct request *r, const struct record *record, const char *etag,
	uint64_t size, uint64_t *first, uint64_t *len)
{
	struct answer *a = &r->answer;
	const struct range_request q = {
		.if_match = r->headers[HEADER_IF_MATCH],
		.if_none_match = r->headers[HEADER_IF_NONE_MATCH],
		.if_modified_since = record ? r->headers[HEADER_IF_MODIFIED_SINCE] : NULL,
		.if_unmodified_since = record ? r->headers[HEADER_IF_UNMODIFIED_SINCE] : NULL,
		.if_range = r->headers[HEADER_IF_RANGE],
		/* RFC 9110 section 14.2: a range is of GET only. */
		.range = r->head || (record && record->kind == RECORD_DIR)
				 ? NULL
				 : r->headers[HEADER_RANGE],
	};

	switch (server_range_evaluate(
		&q, etag, record ? record->changed_at / NS_PER_SEC : 0, size, first, len)) {
	case RANGE_FAILED:
		refuse_with_record(r, PROBLEM_PRECONDITION, record);
		return false;
	case RANGE_UNSATISFIABLE:
		refuse_with_record(r, PROBLEM_RANGE, NULL);
		server_answer_header(a, MHD_HTTP_HEADER_CONTENT_RANGE, "bytes */%llu",
			(unsigned long long)size);
		return false;
	case RANGE_NOT_MODIFIED:
		a->status = 304;
		break;
	case RANGE_PART:
		a->status = 206;
		server_answer_header(a, MHD_HTTP_HEADER_CONTENT_RANGE, "bytes %llu-%llu/%llu",
			(unsigned long long)*first, (unsigned long long)(*first + *len - 1),
			(unsigned long long)size);
		break;
	case RANGE_WHOLE:
		a->status = 200;
		break;
	}
	return true;
}

static void answer_content(struct request *r, const struct record *record, uint8_t **data, int *fd)
{
	struct answer *a = &r->answer;
	char etag[RECORD_ETAG_SIZE];
	uint64_t first, len;

	server_records_etag(record, etag);
	if (!select_part(r, record, etag, record->size, &first, &len))
		return;
	set_record_header(r, record);
	if (a->status == 304) {
		/* A directory's content is its record. */
		a->len = record->kind == RECORD_DIR ? a->record.len : record->size;
		return;
	}
	if (record->kind == RECORD_DIR) {
		a->type = ANSWER_JSON;
		if (server_records_print(&a->text, record, false))
			server_http_fail(r, -ENOMEM);
		return;
	}
	a->type = ANSWER_BYTES;
	server_answer_header(a, MHD_HTTP_HEADER_ACCEPT_RANGES, "bytes");
	set_body(r, data, fd, first, len);
}

void server_read_text(struct request *r, struct buffer *text, const char *etag)
{
	struct answer *a = &r->answer;
	uint64_t first, len;
	int none = -1;

	if (!select_part(r, NULL, etag, text->len, &first, &len))
		return;
	server_answer_header(a, MHD_HTTP_HEADER_ETAG, "%s", etag);
	if (a->status == 304) {
		a->len = text->len;
		return;
	}
	a->type = ANSWER_JSON;
	server_answer_header(a, MHD_HTTP_HEADER_ACCEPT_RANGES, "bytes");
	set_body(r, (uint8_t **)&text->data, &none, first, len);
	*text = (struct buffer){ 0 };
}

void server_read_record(struct request *r)
{
	_cleanup_free_ uint8_t *data = NULL;
	_cleanup_fd_ int fd = -1;
	struct record record;
	int rc = 0;

	if (!strcmp(r->id, RECORD_ROOT_ID))
		server_records_root(r->store.n, &record);
	else
		rc = load(r, r->id, &record, &data, &fd);
	if (rc == -ENOENT)
		server_http_refuse(r, PROBLEM_NO_RECORD, NULL);
	else if (rc)
		server_http_fail(r, rc);
	else if (record.deleted)
		refuse_with_record(r, PROBLEM_DELETED, &record);
	else
		answer_content(r, &record, &data, &fd);
}

/* ---- POST …/get ---- */

static int print_base64(struct buffer *b, const uint8_t *data, size_t len)
{
	_cleanup_free_ char *text = NULL;
	int rc = bytes_to_base64(data, len, &text);

	if (!rc)
		rc = buffer_append(b, ",\"content\":\"", 12);
	if (!rc)
		rc = buffer_append(b, text, strlen(text));
	return rc ? rc : buffer_append(b, "\"", 1);
}

static int print_content(struct buffer *b, const struct record *record, const uint8_t *data, int fd)
{
	_cleanup_free_ uint8_t *copy = NULL;
	int rc;

	if (data)
		return print_base64(b, data, record->size);
	copy = malloc(record->size);
	if (!copy)
		return -ENOMEM;
	rc = io_pread_full(fd, copy, record->size, 0);
	return rc ? rc : print_base64(b, copy, record->size);
}

static int print_one(struct request *r, const char *id, uint64_t *total)
{
	_cleanup_free_ uint8_t *data = NULL;
	_cleanup_fd_ int fd = -1;
	struct buffer *b = &r->answer.text;
	struct record record;
	bool with_content;
	int rc = load(r, id, &record, &data, &fd);

	if (rc == -ENOENT || (!rc && record.deleted))
		return buffer_printf(b, "{\"id\":\"%s\",\"status\":%d}", id, rc ? 404 : 410);
	if (rc)
		return rc;
	with_content = record.kind != RECORD_DIR && record.size <= SERVER_GET_INLINE_MAX &&
		       *total + record.size <= SERVER_GET_TOTAL_MAX;
	rc = buffer_printf(b, "{\"record\":");
	if (!rc)
		rc = server_records_print(b, &record, false);
	if (!rc && with_content) {
		*total += record.size;
		rc = print_content(b, &record, data, fd);
	}
	return rc ? rc : buffer_append(b, "}", 1);
}

static int print_many(struct request *r, const struct json *ids)
{
	struct buffer *b = &r->answer.text;
	uint64_t total = 0;
	int rc = buffer_printf(b, "{\"records\":[");

	for (const struct json *e = json_first(ids); !rc && e; e = json_next(e)) {
		const char *id = json_string(e);

		if (!id || !server_wire_is_id(id)) {
			server_http_refuse(r, PROBLEM_BAD_REQUEST, "ids are record ids");
			return 0;
		}
		if (e != json_first(ids))
			rc = buffer_append(b, ",", 1);
		if (!rc)
			rc = print_one(r, id, &total);
	}
	return rc ? rc : buffer_append(b, "]}", 2);
}

void server_read_many(struct request *r)
{
	_cleanup_json_ struct json *root = NULL;
	const struct json *ids;
	int rc;

	if (json_parse(r->json.data ? r->json.data : "", r->json.len, &root) ||
		json_get_array(root, "ids", &ids)) {
		server_http_refuse(r, PROBLEM_BAD_REQUEST, "the body is not {\"ids\":[...]}");
		return;
	}
	if (json_count(ids) > SERVER_MAX_GET) {
		server_http_refuse(r, PROBLEM_TOO_LARGE, "at most 1000 ids");
		return;
	}
	rc = print_many(r, ids);
	if (!r->answer.status)
		server_http_json(r, rc);
}
