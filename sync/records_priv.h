/* Between records_call.h (calls), records_answer.c (what came back) and records_body.c (what is sent).
 * Pure but for memory. */
#ifndef CACHET_SYNC_RECORDS_PRIV_H
#define CACHET_SYNC_RECORDS_PRIV_H

#include "base/bytes.h"
#include "base/json.h"
#include "sync/origin.h"

/*
 * Is this the origin's word, and what does it say? `instance` "" = any identity (first contact).
 * *problem becomes the problem's JSON, if it is one; the caller frees.
 */
void records_answer_judge(const struct http_answer *a, const char *instance, bool mutation,
	struct origin_result *r, struct json **problem);
/* A 2xx that must be JSON: parsed into *out, else r->code becomes CE_PROTOCOL. */
void records_answer_json(const struct http_answer *a, struct origin_result *r, struct json **out);

int records_answer_caps(const struct json *in, struct origin_caps *out) MUST_CHECK;
int records_answer_stores(const struct json *in, struct origin_store **out, size_t *n) MUST_CHECK;
/* The names of queries are borrowed from `in`. */
void records_answer_stores_free(struct origin_store *stores, size_t n);
int records_answer_page(const struct json *in, struct origin_page *out) MUST_CHECK;
int records_answer_contents(
	const struct json *in, struct origin_content **out, size_t *n) MUST_CHECK;
void records_answer_contents_free(struct origin_content *c, size_t n);

/* An outcome with the records it points to. */
struct records_outcome {
	struct origin_outcome outcome;
	struct remote_record record, standing;
};
/* From a judged answer: `body` is the record (2xx) or the problem; NULL if there is none. */
void records_answer_outcome(
	const struct origin_result *r, const struct json *body, struct records_outcome *out);
int records_answer_batch(const struct json *in, size_t n, struct records_outcome *out) MUST_CHECK;

/* "bytes FIRST-LAST/SIZE" is exactly that. */
bool records_answer_is_range(const char *content_range, uint64_t off, uint64_t len, uint64_t size);

int records_body_patch(const struct outbox_op *op, char **out) MUST_CHECK;
int records_body_ids(const char *const *rids, size_t n, char **out) MUST_CHECK;
int records_body_batch(const struct origin_op *ops, size_t n, struct buffer *out) MUST_CHECK;
const char *records_body_kind(const struct outbox_op *op);

#endif
