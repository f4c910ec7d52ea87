/*
 * Calls of a few JSON members: administration, devices, keys. A route's handlers are two lines:
 *
 *     void server_x_finish(struct request *r) { server_call_submit(r, work); }   // or _read
 *     resumed: server_call_answer
 *
 * `work` runs in the writer's transaction with the body parsed in c->in, and sets members of
 * c->out, the answer of a 200. What it cannot do it refuses with server_call_refuse() before it
 * writes anything, and returns 0; an error code fails the whole call, and nothing of it is stored.
 * It may run twice (commit.h): c->out is new each time. The answer goes out after the sync.
 *
 * server_call_read() is the same on a read connection, at once and in the thread of the request.
 */
#ifndef CACHET_SERVER_CALL_H
#define CACHET_SERVER_CALL_H

#include "base/json.h"
#include "server/http.h"

struct call {
	struct request *r;
	struct json *in, *out;
	enum problem problem;
	const char *detail; /* static */
	char who[TOKENS_WHO_SIZE];
	int (*work)(struct call *c, struct store_db *db);
	/* If set: makes the answer from what `work` left in `own`, after the sync. */
	void (*answer)(struct call *c);
	void *own;
	void (*own_done)(void *own);
};

typedef int (*server_call_work)(struct call *c, struct store_db *db);

/* NULL when memory is short, and the request has its answer. Freed with the request. */
struct call *server_call_new(struct request *r, server_call_work work);
void server_call_run(struct call *c);
void server_call_submit(struct request *r, server_call_work work);
void server_call_read(struct request *r, server_call_work work);
void server_call_answer(struct request *r);

void server_call_refuse(struct call *c, enum problem p, const char *detail);
/* Members of c->in. Without `needed` an absent one leaves *out alone. False: it was refused. */
bool server_call_string(struct call *c, const char *key, bool needed, const char **out);
bool server_call_bool(struct call *c, const char *key, bool *out);
bool server_call_number(struct call *c, const char *key, int64_t *out);

#endif
