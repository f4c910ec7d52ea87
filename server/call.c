#include "server/call.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"

static void free_call(void *arg)
{
	struct call *c = arg;

	if (c->own_done && c->own)
		c->own_done(c->own);
	json_free(c->in);
	json_free(c->out);
	free(c);
}

/* No body counts as {}. */
static bool parse_body(struct call *c)
{
	const struct buffer *b = &c->r->json;
	int rc = json_parse(b->len ? b->data : "{}", b->len ? b->len : 2, &c->in);

	if (rc == -ENOMEM)
		server_http_fail(c->r, rc);
	else if (rc || !json_is_object(c->in))
		server_http_refuse(c->r, PROBLEM_BAD_REQUEST, "the body is a JSON object");
	return !c->r->answer.status;
}

struct call *server_call_new(struct request *r, server_call_work work)
{
	struct call *c = calloc(1, sizeof(*c));

	if (!c) {
		server_http_fail(r, -ENOMEM);
		return NULL;
	}
	c->r = r;
	c->work = work;
	server_http_own(r, c, free_call);
	return parse_body(c) ? c : NULL;
}

static int work(struct call *c, struct store_db *db)
{
	json_free(steal_ptr(&c->out));
	c->out = json_new_object();
	c->problem = PROBLEM_NONE;
	return c->work(c, db);
}

static int run(struct tx *tx, void *arg)
{
	struct request *r = arg;
	struct call *c = r->own;
	int rc = server_tokens_who(tx->db, &r->access, c->who);

	return rc ? rc : work(c, tx->db);
}

void server_call_run(struct call *c)
{
	c->r->job.run = run;
	server_http_submit(c->r);
}

void server_call_submit(struct request *r, server_call_work fn)
{
	struct call *c = server_call_new(r, fn);

	if (c)
		server_call_run(c);
}

void server_call_read(struct request *r, server_call_work fn)
{
	struct call *c = server_call_new(r, fn);
	struct store_db *db;
	int rc;

	if (!c)
		return;
	rc = server_pool_take(r->s->pool, &db);
	if (!rc) {
		rc = server_store_run(db, SQL_BEGIN_READ);
		if (!rc)
			rc = work(c, db);
		server_store_rollback(db);
		server_pool_give(r->s->pool, db);
	}
	r->job.result = rc;
	server_call_answer(r);
}

void server_call_answer(struct request *r)
{
	struct call *c = r->own;
	char *text;
	int rc = r->job.result;

	if (!rc && !c->problem && c->answer)
		c->answer(c);
	if (r->answer.status)
		return;
	if (!rc && c->problem) {
		server_http_refuse(r, c->problem, c->detail);
		return;
	}
	if (!rc)
		rc = json_print(c->out, false, &text);
	if (rc) {
		server_http_fail(r, rc);
		return;
	}
	r->answer.text = (struct buffer){ .data = text, .len = strlen(text) };
	r->answer.status = 200;
	r->answer.type = ANSWER_JSON;
}

void server_call_refuse(struct call *c, enum problem p, const char *detail)
{
	if (c->problem)
		return;
	c->problem = p;
	c->detail = detail;
}

bool server_call_string(struct call *c, const char *key, bool needed, const char **out)
{
	if (!json_has(c->in, key) && !needed)
		return true;
	if (!json_get_string(c->in, key, out))
		return true;
	server_call_refuse(c, PROBLEM_BAD_REQUEST, "a member is missing or not a text");
	return false;
}

bool server_call_bool(struct call *c, const char *key, bool *out)
{
	if (!json_has(c->in, key) || !json_get_bool(c->in, key, out))
		return true;
	server_call_refuse(c, PROBLEM_BAD_REQUEST, "a member is not true or false");
	return false;
}

bool server_call_number(struct call *c, const char *key, int64_t *out)
{
	if (!json_has(c->in, key) || !json_get_i64(c->in, key, out))
		return true;
	server_call_refuse(c, PROBLEM_BAD_REQUEST, "a member is not a number");
	return false;
}
