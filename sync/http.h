/*
 * HTTP: one libcurl multi loop, driven by one thread.
 *
 *     http_new → http_set_token → http_start ... http_run (again and again) → http_free
 *
 * http_run() waits for the network, for http_wake() (any thread) or for the time given, then calls
 * `done` of each call that ended. A call ends exactly once: by `done`, or by http_abort() without
 * it. `done` may start and abort calls; `begin`, `sink` and `source` run inside libcurl and may
 * not.
 *
 * What this layer guarantees to those above:
 *   - `code` 0 only when the answer arrived whole (length as announced) and within the limits on
 * header and body;
 *   - no redirect is followed: a 3xx is an answer like another, and the token goes to no other
 * host;
 *   - plain http on loopback only, never through a proxy; https with a verified certificate,
 * TLS 1.2 at least;
 *   - a peer that is silent or slower than HTTP_SLOW_BYTES a second for the call's `idle_s` is cut
 * off.
 *
 * codes: CE_OFFLINE (no connection, time-out, reset), CE_PROTOCOL (cut off, too long, not HTTP,
 * certificate not trusted), what begin, sink or source returned, -ENOMEM. The token: one copy in
 * secret memory, borrowed by each call's header list; libcurl's request buffer holds another while
 * it is sent.
 */
#ifndef CACHET_SYNC_HTTP_H
#define CACHET_SYNC_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/macros.h"
#include "base/secret.h"

#define HTTP_HEADER_MAX_BYTES (64u << 10)
#define HTTP_ERROR_MAX_BYTES (256u << 10)
#define HTTP_CONNECT_MS 10000
#define HTTP_SLOW_BYTES 1024
#define HTTP_SLOW_S 10
#define HTTP_TEXT_MAX 160

struct http;
struct http_transfer;

/*
 * What a person wrote as origin: https, or http on loopback; no user, query or fragment. *base has
 * no slash at its end; the caller frees. Else CE_USAGE and *error, a sentence (the caller frees).
 */
int http_check_url(const char *url, char **base, char **error) MUST_CHECK;

int http_new(const char *base, const char *ca_file, struct http **out) MUST_CHECK;
/* Calls under way are forgotten as by http_abort. */
void http_free(struct http *h);
/* Copied; NULL = none. CE_USAGE when it has bytes that a header cannot carry. */
int http_set_token(struct http *h, const struct secret *token) MUST_CHECK;

/* Bytes a second of all bodies together; 0 = no bound. Of calls that begin from now on and those under way. */
void http_set_rates(struct http *h, uint64_t up, uint64_t down);

struct http_answer {
	int code;
	int status; /* 0 = none arrived */
	char content_type[64];
	char etag[80];
	char instance[40];
	char content_range[80];
	char retry_after[64];
	bool replayed;
	int64_t content_length; /* -1 = not given */
	const char *body;       /* what was buffered; NUL behind it */
	size_t body_len;
	char text[HTTP_TEXT_MAX]; /* for people, when code is not 0 */
};

/* First byte of a body: 0 = to `sink`, 1 = to the buffer (an error), negative = end the call. */
typedef int http_begin_fn(void *arg, const struct http_answer *a);
/* 0, negative = end the call, HTTP_PAUSE = not now: again after http_resume. */
#define HTTP_PAUSE 1
typedef int http_sink_fn(void *arg, const void *data, size_t len);
/* Up to `len` bytes of the body from `off` (the end is source_len); negative = end the call, 0 = not now: again after
 * http_resume. */
typedef ssize_t http_source_fn(void *arg, void *buf, size_t len, uint64_t off);
typedef void http_done_fn(void *arg, const struct http_answer *a);

struct http_call {
	const char *method;
	const char *path;        /* behind the base, with query, percent-encoded */
	const char *headers[16]; /* "Name: value", NULL-terminated; copied */
	char *body;              /* taken, also on failure; or source */
	size_t body_len;
	http_source_fn *source;
	uint64_t source_len;
	http_begin_fn *begin; /* with sink */
	http_sink_fn *sink;
	size_t max_body; /* of a buffered 2xx; others HTTP_ERROR_MAX_BYTES */
	unsigned idle_s; /* 0 = HTTP_SLOW_S */
	http_done_fn *done;
	void *arg; /* of all four */
};
int http_start(struct http *h, struct http_call *c, struct http_transfer **out) MUST_CHECK;
void http_abort(struct http_transfer *t);
void http_resume(struct http_transfer *t);

void http_run(struct http *h, unsigned timeout_ms);
void http_wake(struct http *h);

/* Percent-encodes every byte that is not unreserved (RFC 3986). */
struct buffer;
int http_escape(struct buffer *b, const char *text) MUST_CHECK;

struct http_counts {
	uint64_t received, sent, requests;
};
void http_counts(const struct http *h, struct http_counts *out);

#endif
