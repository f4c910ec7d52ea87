/* GET …/queries and …/queries/{name}: a query runs in a thread of the pool, its request waits
 * suspended. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "crypto/kdf.h"
#include "server/handlers.h"
#include "server/query.h"
#include "server/range.h"
#include "server/tasks.h"

#define ETAG_HEX 32

struct query_run {
	struct task task;
	struct request *r;
	struct query query;
	struct query_param params[QUERY_PARAMS_MAX];
	size_t n;
	bool bad; /* a parameter that cannot be one */
	struct buffer text;
	const char *why;
	int code;
};

/* ---- the list ---- */

struct listing {
	struct buffer *b;
	bool some;
};

static int print_query(void *arg, const struct query *q)
{
	struct listing *l = arg;
	int r = buffer_printf(
		l->b, "%s{\"name\":\"%s\",\"params\":%s}", l->some ? "," : "", q->name, q->params);

	l->some = true;
	return r;
}

void server_query_list(struct request *r)
{
	struct listing l = { .b = &r->answer.text };
	struct store_db *db;
	int rc = server_pool_take(r->s->pool, &db);

	if (!rc) {
		rc = buffer_printf(l.b, "{\"queries\":[");
		if (!rc)
			rc = server_query_each(db, r->store.n, print_query, &l);
		if (!rc)
			rc = buffer_append(l.b, "]}", 2);
		server_pool_give(r->s->pool, db);
	}
	server_http_json(r, rc);
}

/* ---- one ---- */

static void free_run(void *own)
{
	struct query_run *run = own;

	server_query_done(&run->query);
	buffer_done(&run->text);
	free(run);
}

static enum MHD_Result take_param(
	void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct query_run *run = cls;
	struct query_param *p;
	size_t len;

	(void)kind;
	if (run->n == QUERY_PARAMS_MAX || !value || !server_wire_is_id(name)) {
		run->bad = true;
		return MHD_NO;
	}
	p = &run->params[run->n++];
	snprintf(p->name, sizeof(p->name), "%s", name);
	run->bad |= server_wire_percent_decode(value, p->value, sizeof(p->value), &len) ||
		    strlen(p->value) != len || !bytes_is_utf8((const uint8_t *)p->value, len);
	return MHD_YES;
}

static int find(struct request *r, struct query *out)
{
	struct store_db *db;
	int rc = server_pool_take(r->s->pool, &db);

	if (rc)
		return rc;
	rc = server_query_get(db, r->store.n, r->id, out);
	server_pool_give(r->s->pool, db);
	return rc;
}

static void run_query(struct task *t, int code)
{
	struct query_run *run = (struct query_run *)t;
	const struct server *s = run->r->s;
	const struct query_place place = { s->dir, &s->dirs, run->r->store.n };

	run->code = code;
	if (!code)
		run->code = server_query_run(
			&place, run->query.sql, run->params, run->n, &run->text, &run->why);
	server_http_resume(run->r);
}

void server_query_get_one(struct request *r)
{
	struct query_run *run = calloc(1, sizeof(*run));
	int rc;

	if (!run) {
		server_http_fail(r, -ENOMEM);
		return;
	}
	server_http_own(r, run, free_run);
	run->r = r;
	run->task.run = run_query;
	rc = find(r, &run->query);
	if (rc == -ENOENT) {
		server_http_refuse(r, PROBLEM_NO_QUERY, NULL);
		return;
	}
	if (rc) {
		server_http_fail(r, rc);
		return;
	}
	MHD_get_connection_values(r->conn, MHD_GET_ARGUMENT_KIND, take_param, run);
	if (run->bad)
		server_http_refuse(r, PROBLEM_BAD_REQUEST, "a parameter is not as it should be");
	else
		server_http_run(r, r->s->tasks, &run->task);
}

static void refuse(struct request *r, const struct query_run *run)
{
	if (run->code == CE_USAGE)
		server_http_refuse(
			r, PROBLEM_BAD_REQUEST, "a query takes its own parameters, each once");
	else if (run->code == CE_TOO_LARGE)
		server_http_refuse(r, PROBLEM_TOO_LARGE, run->why);
	else if (run->code == CE_REFUSED)
		server_http_refuse(r, PROBLEM_QUERY_FAILED, run->why);
	else
		server_http_fail(r, run->code);
}

/* The ETag is of the answer: a change that does not touch it is none. */
static int etag_of(const struct buffer *text, char out[static ETAG_HEX + 5])
{
	uint8_t hash[KDF_SHA256_LEN];
	int rc = kdf_sha256(text->data, text->len, hash);

	if (rc)
		return rc;
	memcpy(out, "\"q-", 3);
	bytes_to_hex(hash, ETAG_HEX / 2, out + 3);
	memcpy(out + 3 + ETAG_HEX, "\"", 2);
	return 0;
}

void server_query_answer(struct request *r)
{
	struct query_run *run = r->own;
	char etag[ETAG_HEX + 5];

	if (!run->code)
		run->code = etag_of(&run->text, etag);
	if (run->code)
		refuse(r, run);
	else
		server_read_text(r, &run->text, etag);
}
