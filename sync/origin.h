/*
 * An origin behind its driver. Records (sync/records.h) is one; WebDAV and S3 are others.
 *
 * Every call is asynchronous: it runs on the sync thread's HTTP loop and ends exactly once by its
 * callback on that thread (never inside the call itself), or by origin_abort() without it.
 * Arguments are copied or used up during the call, except where it says "kept". A callback may make
 * further calls.
 *
 * The driver alone judges whether an answer is the origin's word: identity, type, length, form.
 * What is not, is CE_PROTOCOL or CE_OFFLINE, whatever its status says; then nothing above believes
 * anything (promise P3).
 *
 *   code          meaning
 *   0             done, as said
 *   CE_OFFLINE    no connection, time-out, reset: for a mutation the outcome is unknown
 *   CE_PROTOCOL   an answer that is not the origin's word: likewise unknown
 *   CE_AUTH       401, or 403 of a read
 *   -EBUSY        429, 503: later, after retry_after_ms; also 409 in-progress
 *   -EAGAIN       5xx, 507: the origin's own trouble
 *   CE_CONFLICT   412, 409 with `standing` or without parent: another state than the operation was
 * based on CE_GONE       404, 410: the origin says that it does not exist CE_STALE      get:
 * another version is there now CE_TOO_LARGE  413 CE_REFUSED    any other 4xx other         local:
 * -ENOMEM, what a source or sink returned
 */
#ifndef CACHET_SYNC_ORIGIN_H
#define CACHET_SYNC_ORIGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "cache/outbox.h"
#include "cache/remote.h"
#include "sync/http.h"

#define ORIGIN_TEXT_MAX 200
#define ORIGIN_TYPE_MAX 32

struct origin;
struct origin_call;

struct origin_result {
	int code;
	int status;
	char type[ORIGIN_TYPE_MAX]; /* of the problem, "place-taken" */
	uint64_t retry_after_ms;
	char text[ORIGIN_TEXT_MAX]; /* for people */
};

struct origin_caps {
	char instance[33], epoch[33];
	uint64_t last_seq;
	char device_kid[129], device_state[32]; /* "" when this device is not enrolled */
	uint64_t max_record_bytes, max_request_bytes, max_batch, max_wait_s;
	bool keeps_uploads; /* a PUT that was cut off can go on */
	bool takes_ahead;   /* put_part */
};
typedef void origin_caps_fn(
	void *arg, const struct origin_result *r, const struct origin_caps *caps);

struct origin_store {
	char name[256];
	bool read_only;
	const char **queries; /* names; borrowed during the callback */
	size_t n_queries;
};
typedef void origin_stores_fn(
	void *arg, const struct origin_result *r, const struct origin_store *stores, size_t n);

struct origin_page {
	struct remote_record *records;
	size_t n;
	char cursor[256];
	bool more;
	bool queries; /* the store's queries are others: ask for the stores */
};
void origin_page_done(struct origin_page *p);
/* The callee may take the page's content (set it to zero). */
typedef void origin_changes_fn(void *arg, const struct origin_result *r, struct origin_page *page);

/* What became of one mutation. The records are borrowed during the callback. */
struct origin_outcome {
	struct origin_result result;
	bool replayed;
	const struct remote_record
		*record; /* 2xx: as it is now; 412, 410: as the origin has it; or NULL */
	const struct remote_record *standing; /* 409 place-taken */
};
typedef void origin_outcome_fn(void *arg, const struct origin_outcome *o);
/* `r` is about the request as a whole; only if its code is 0 there are n outcomes. */
typedef void origin_batch_fn(
	void *arg, const struct origin_result *r, const struct origin_outcome *outcomes, size_t n);
typedef void origin_done_fn(void *arg, const struct origin_result *r);
/* code 0: so many bytes of it have come. */
typedef void origin_offset_fn(void *arg, const struct origin_result *r, uint64_t offset);

/* Small contents, asked for by id: `code` 0 with record and content, CE_TOO_LARGE with the record alone, or CE_GONE. */
struct origin_content {
	int code;
	struct remote_record record;
	char *data; /* NUL behind it */
	size_t len;
};
typedef void origin_contents_fn(
	void *arg, const struct origin_result *r, const struct origin_content *contents, size_t n);

/* code 0: `data` is the answer with `etag`; or data NULL: the one that is here stands (304). */
typedef void origin_answer_fn(void *arg, const struct origin_result *r, const char *etag,
	const void *data, size_t len);

/* A payload to hand in, or a result to fetch. */
struct origin_job {
	const char *type, *key;
	char *data; /* taken, wiped when it is sent */
	size_t len;
	const char *result_of; /* a job's id: then nothing else counts */
};

/* Content that comes before the operation that it is of. */
struct origin_ahead {
	uint8_t key[16];
	uint8_t sha256[32]; /* put: of all that was sent */
};
/* Of it, from `off` to `end`. */
struct origin_part {
	const char *store;
	const struct origin_ahead *ahead;
	uint64_t off, end;
};

struct origin_range {
	const char *store, *rid, *etag;
	uint64_t off, len, size; /* size of the whole */
};

/* One operation of a batch. */
struct origin_op {
	const struct outbox_op *op;
	const char *content; /* PUT: op->size bytes */
	const uint16_t *after;
	size_t after_n;
};

struct origin_options {
	struct http *http;     /* kept */
	const char *device_id; /* kept */
};

struct origin_ops {
	const char *name;
	bool batch_supported;
	int (*open)(const struct origin_options *o, struct origin **out) MUST_CHECK;
	void (*close)(struct origin *o);
	/* Answers of another identity are refused from now on. */
	void (*expect)(struct origin *o, const char *instance);

	int (*capabilities)(struct origin *o, origin_caps_fn *fn, void *arg,
		struct origin_call **out) MUST_CHECK;
	int (*stores)(struct origin *o, origin_stores_fn *fn, void *arg,
		struct origin_call **out) MUST_CHECK;
	/* cursor "" = from nothing; wait_s 0 = answer at once. */
	int (*changes)(struct origin *o, const char *store, const char *cursor, unsigned limit,
		unsigned wait_s, origin_changes_fn *fn, void *arg,
		struct origin_call **out) MUST_CHECK;
	int (*get_small)(struct origin *o, const char *store, const char *const *rids, size_t n,
		origin_contents_fn *fn, void *arg, struct origin_call **out) MUST_CHECK;
	/* Conditional GET: 0 = `etag` is current (304), CE_STALE = another version is. No content is transferred. */
	int (*check)(struct origin *o, const char *store, const char *rid, const char *etag, origin_done_fn *fn,
		void *arg, struct origin_call **out) MUST_CHECK;
	/* Conditional GET of a query's answer, "NAME?a=1"; etag "" = none here. */
	int (*query)(struct origin *o, const char *store, const char *address, const char *etag,
		origin_answer_fn *fn, void *arg, struct origin_call **out) MUST_CHECK;
	/* `data` of fn is the answer's body. */
	int (*job)(struct origin *o, const struct origin_job *job, origin_answer_fn *fn, void *arg,
		struct origin_call **out) MUST_CHECK;
	/* A rid with '?' is such an address. `sink` gets exactly range->len bytes before fn's code is 0. */
	int (*get)(struct origin *o, const struct origin_range *range, http_sink_fn *sink,
		origin_done_fn *fn, void *arg, struct origin_call **out) MUST_CHECK;
	/* How much the origin has of an unfinished put of the operation with that key, or of parts; CE_GONE: nothing. NULL: it keeps none. */
	int (*put_offset)(struct origin *o, const char *store, const uint8_t key[static 16], origin_offset_fn *fn,
		void *arg, struct origin_call **out) MUST_CHECK;
	/* Content from `source` (op->size bytes), or NULL: none, or op->target. From `offset`, which put_offset said, or what
	 * was sent ahead, or 0. */
	int (*put)(struct origin *o, const struct outbox_op *op, uint64_t offset, const struct origin_ahead *ahead,
		http_source_fn *source, origin_outcome_fn *fn, void *arg, struct origin_call **out) MUST_CHECK;
	/* A part of content ahead of its put; fn: how much of it is there. Nobody sees any of it until a put names it. */
	int (*put_part)(struct origin *o, const struct origin_part *part, http_source_fn *source,
		origin_offset_fn *fn, void *arg, struct origin_call **out) MUST_CHECK;
	/* There will be no put. */
	int (*drop_parts)(struct origin *o, const char *store, const struct origin_ahead *ahead,
		origin_offset_fn *fn, void *arg, struct origin_call **out) MUST_CHECK;
	int (*patch)(struct origin *o, const struct outbox_op *op, origin_outcome_fn *fn, void *arg,
		struct origin_call **out) MUST_CHECK;
	int (*remove)(struct origin *o, const struct outbox_op *op, origin_outcome_fn *fn,
		void *arg, struct origin_call **out) MUST_CHECK;
	/* All of one store, in this order. */
	int (*batch)(struct origin *o, const struct origin_op *ops, size_t n, origin_batch_fn *fn,
		void *arg, struct origin_call **out) MUST_CHECK;

	void (*abort)(struct origin_call *call);
	void (*resume)(struct origin_call *call); /* after a sink said HTTP_PAUSE, a source 0 */
};

struct origin {
	const struct origin_ops *ops;
};

/* The driver for a URL; NULL when there is none. */
const struct origin_ops *origin_driver(const char *url);
void origin_abort(struct origin *o, struct origin_call **call); /* NULL-safe; *call becomes NULL */

#endif
