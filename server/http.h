/*
 * HTTP: libmicrohttpd on one side, handlers on the other.
 *
 * A request goes through: header checks, token, route (routes.c), store and access, declared
 * length; then the route's `begin` (headers only), the body, the route's `finish`. A handler
 * answers by filling r->answer. `finish` may instead suspend the request (a job of the commit
 * queue, the feed); when somebody resumes it, the route's `resumed` is called. Everything of one
 * request runs in the thread of its connection; only resuming comes from others.
 *
 * Refusals are sent when the request is wholly read, so that the connection can be used again,
 * unless the rest is long: then at once, and the connection is closed.
 */
#ifndef CACHET_SERVER_HTTP_H
#define CACHET_SERVER_HTTP_H

#include <microhttpd.h>

#include "server/answer.h"
#include "server/change.h"
#include "server/commit.h"
#include "server/server_priv.h"
#include "server/tokens.h"
#include "server/upload.h"

enum header {
	HEADER_AUTHORIZATION,
	HEADER_CONTENT_ENCODING,
	HEADER_CONTENT_LENGTH,
	HEADER_EXPECT,
	HEADER_HOST,
	HEADER_IDEMPOTENCY_KEY,
	HEADER_IF_MATCH,
	HEADER_IF_MODIFIED_SINCE,
	HEADER_IF_NONE_MATCH,
	HEADER_IF_RANGE,
	HEADER_IF_UNMODIFIED_SINCE,
	HEADER_RANGE,
	HEADER_TRANSFER_ENCODING,
	HEADER_AHEAD,
	HEADER_DEVICE,
	HEADER_KIND,
	HEADER_MODE,
	HEADER_MTIME_NS,
	HEADER_NAME,
	HEADER_OFFSET,
	HEADER_PARENT,
	HEADER_REPLACES,
	HEADER_SEQ,
	HEADER_COUNT
};

enum body_kind {
	BODY_NONE,    /* a body is refused */
	BODY_JSON,    /* gathered in r->json */
	BODY_CONTENT, /* streamed into r->change.body */
	BODY_OWN,     /* given to r->take, set by begin, which has checked its length */
};

#define ROUTE_STORE 1u /* has {s}; r->store is looked up and the token's right to it checked */
#define ROUTE_WRITE 2u /* a read-only token is refused */
#define ROUTE_ADMIN 4u /* needs an admin token */
#define ROUTE_DEVICE 8u /* {id} is a dkid of the token's account; admin tokens: of any */
#define ROUTE_OWN 16u   /* an admin token is refused */
#define ROUTE_PUBLIC 64u  /* no token is asked for, and one that is sent is not looked at */
#define ROUTE_REVOKED 32u /* a revoked device's header is let in: the answer says what it needs */

struct request;

struct route {
	const char *method;
	const char *path; /* segments; {s} a store, {id} a record; others see handlers.h */
	unsigned flags;
	enum body_kind body;
	void (*begin)(struct request *r);
	void (*finish)(struct request *r);
	void (*resumed)(struct request *r);
};

/* routes.c; ends with a row without method. */
extern const struct route server_routes[];

struct feed_query {
	bool from_start, begun;
	uint64_t seq, base, limit;
	uint64_t queries; /* the store's queries_seq that this client has heard of */
	int64_t deadline_ms; /* on the boot clock, 0: do not wait */
};

struct request {
	struct server *s;
	struct MHD_Connection *conn;
	const struct route *route;
	bool head;
	const char *headers[HEADER_COUNT]; /* borrowed, NULL when absent */
	struct access access;
	struct store_row store;
	char id[WIRE_ID_MAX + 1];

	int64_t started_ms;
	uint64_t received, dropped; /* bytes of body; of those, after it was refused */
	bool finished;              /* the body is in and `finish` was called */
	bool suspended;             /* somebody will resume it */
	struct buffer json;
	uint64_t reserved; /* of the server's budget for JSON bodies */

	bool has_change;
	struct change change; /* PUT, PATCH, DELETE */
	struct upload_use upload; /* of a large PUT: has the body until all of it is here */
	struct change *batch;
	size_t n_batch;
	struct commit_job job;
	struct feed_query feed;
	int64_t seen_device; /* GET /v1 */
	void *own; /* of the route; server_http_own */
	void (*free_own)(void *own);
	void (*take)(struct request *r, const void *data, size_t len);
	struct request *next_waiter; /* in the feed's list */

	struct answer answer;
};

int server_http_start(struct server *s, uint16_t *port, char **error) MUST_CHECK;
/* Reads certificate and key again: new connections get them, old ones go on. On failure nothing
 * changes. Nothing to do without TLS. */
int server_http_reload(struct server *s, char **error) MUST_CHECK;
/* No new connections, no new requests. */
void server_http_quiesce(struct server *s);
/* Waits until no request is under way, or the time is over. */
void server_http_drain(struct server *s, unsigned grace_ms);
/* Nothing may be suspended any more. */
void server_http_stop(struct server *s);
/* Ends connections that have been sending a header for too long; about once a second. */
void server_http_tick(struct server *s);

/* For handlers. */
void server_http_refuse(struct request *r, enum problem p, const char *detail);
void server_http_fail(struct request *r, int code);
/* The value of a query parameter, percent-decoded, or NULL; refuses the request when it is given
 * twice or badly. */
const char *server_http_query(struct request *r, const char *name, char *out, size_t size);
/* Suspends it; exactly one server_http_resume() must follow, and may come before this returns to
 * the caller's caller. */
void server_http_suspend(struct request *r);
void server_http_resume(struct request *r);
/* Suspends it and hands r->job to the commit queue; job.done resumes. */
void server_http_submit(struct request *r);

/* Suspends it until the task has run; `run` must end with server_http_resume(). */
struct tasks;
struct task;
void server_http_run(struct request *r, struct tasks *tasks, struct task *task);
/* Goes with the request. */
void server_http_own(struct request *r, void *own, void (*free_own)(void *own));
/* Status 200 with the JSON in r->answer.text, or the failure. */
void server_http_json(struct request *r, int rc);

#endif
