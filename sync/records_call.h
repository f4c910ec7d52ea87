/*
 * One call of the Records driver on its way: between records.c (the driver), records_call.c (a
 * request put together and sent), records_read.c and records_send.c (the calls).
 *
 *     _cleanup_records_request_ struct records_request q = { 0 };
 *     r = records_call_begin(&q, o, "GET", store, arg, &c);  // then c's callback, path, headers,
 * body return records_call_submit(&q, done, max_body, idle_s, out);
 *
 * The request owns the call until it is on its way. A failure while putting it together is kept in
 * `error` and comes out of records_call_submit.
 */
#ifndef CACHET_SYNC_RECORDS_CALL_H
#define CACHET_SYNC_RECORDS_CALL_H

#include "sync/records_priv.h"

#define RECORDS_RECORD_MAX_BYTES (64u << 10)
#define RECORDS_MUTATION_IDLE_S 60 /* the server syncs its disk before it answers */

struct records {
	struct origin origin;
	struct http *http;
	const char *device_id;
	char instance[40];
};

struct origin_call {
	struct records *r;
	struct http_transfer *transfer;
	void *arg;
	origin_caps_fn *caps;
	origin_stores_fn *stores;
	origin_changes_fn *changes;
	origin_contents_fn *contents;
	origin_done_fn *done;
	origin_outcome_fn *outcome;
	origin_offset_fn *put_offset;
	origin_answer_fn *answer;
	origin_batch_fn *batch;
	http_sink_fn *sink;
	http_source_fn *source;
	bool mutation;
	size_t n;      /* operations of a batch */
	char etag[65]; /* get */
	uint64_t off, len, size, got;
};

/* A request in the making: texts that live until http_start has copied them. */
struct records_request {
	struct buffer path;
	char headers[14][1024]; /* a name of 255 bytes takes 765 */
	size_t headers_n;
	struct http_call call; /* its body is the request's */
	struct origin_call *origin_call;
	int error;
};
void records_call_done(struct records_request *q);
#define _cleanup_records_request_ _cleanup_(records_call_done)

struct records *records_call_of(struct origin *o);
/* Of one store, or of the server (NULL). */
int records_call_begin(struct records_request *q, struct origin *o, const char *method,
	const char *store, void *arg, struct origin_call **out) MUST_CHECK;
void records_call_header(struct records_request *q, const char *fmt, ...) PRINTF_LIKE(2, 3);
void records_call_path(struct records_request *q, const char *text);
void records_call_escaped(struct records_request *q, const char *text);
/* "NAME?a=1&b=x%2Fy", as a person wrote it: what separates stays, all else is escaped. */
void records_call_query(struct records_request *q, const char *address);
void records_call_record(struct records_request *q, const char *rid);
/* Takes the body. */
void records_call_json(struct records_request *q, char *body, size_t len);
int records_call_submit(struct records_request *q, http_done_fn *done, size_t max_body,
	unsigned idle_s, struct origin_call **out) MUST_CHECK;

/* What came back, judged. */
void records_call_judge(const struct origin_call *c, const struct http_answer *a,
	struct origin_result *r, struct json **problem);
/* Judged, and its JSON if it is a good one. */
void records_call_judge_json(const struct origin_call *c, const struct http_answer *a,
	struct origin_result *r, struct json **body);
void records_call_not_protocol(struct origin_result *r, int code, const char *what);

/* --- records_read.c, records_send.c: as struct origin_ops says --- */
int records_read_capabilities(
	struct origin *o, origin_caps_fn *fn, void *arg, struct origin_call **out) MUST_CHECK;
int records_read_stores(
	struct origin *o, origin_stores_fn *fn, void *arg, struct origin_call **out) MUST_CHECK;
int records_read_changes(struct origin *o, const char *store, const char *cursor, unsigned limit,
	unsigned wait_s, origin_changes_fn *fn, void *arg, struct origin_call **out) MUST_CHECK;
int records_read_get_small(struct origin *o, const char *store, const char *const *rids, size_t n,
	origin_contents_fn *fn, void *arg, struct origin_call **out) MUST_CHECK;
int records_read_get(struct origin *o, const struct origin_range *range, http_sink_fn *sink,
	origin_done_fn *fn, void *arg, struct origin_call **out) MUST_CHECK;
int records_read_check(struct origin *o, const char *store, const char *rid, const char *etag,
	origin_done_fn *fn, void *arg, struct origin_call **out) MUST_CHECK;
int records_read_query(struct origin *o, const char *store, const char *address, const char *etag,
	origin_answer_fn *fn, void *arg, struct origin_call **out) MUST_CHECK;
int records_send_job(struct origin *o, const struct origin_job *job, origin_answer_fn *fn,
	void *arg, struct origin_call **out) MUST_CHECK;
int records_send_put_offset(struct origin *o, const char *store, const uint8_t key[static 16],
	origin_offset_fn *fn, void *arg, struct origin_call **out) MUST_CHECK;
int records_send_put(struct origin *o, const struct outbox_op *op, uint64_t offset,
	const struct origin_ahead *ahead, http_source_fn *source, origin_outcome_fn *fn, void *arg,
	struct origin_call **out) MUST_CHECK;
int records_send_put_part(struct origin *o, const struct origin_part *part, http_source_fn *source,
	origin_offset_fn *fn, void *arg, struct origin_call **out) MUST_CHECK;
int records_send_drop_parts(struct origin *o, const char *store, const struct origin_ahead *ahead,
	origin_offset_fn *fn, void *arg, struct origin_call **out) MUST_CHECK;
int records_send_patch(struct origin *o, const struct outbox_op *op, origin_outcome_fn *fn,
	void *arg, struct origin_call **out) MUST_CHECK;
int records_send_remove(struct origin *o, const struct outbox_op *op, origin_outcome_fn *fn,
	void *arg, struct origin_call **out) MUST_CHECK;
int records_send_batch(struct origin *o, const struct origin_op *ops, size_t n, origin_batch_fn *fn,
	void *arg, struct origin_call **out) MUST_CHECK;

#endif
