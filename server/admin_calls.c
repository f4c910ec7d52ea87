/* Administration over HTTP: accounts, tokens, the audit log. All need an admin token (ROUTE_ADMIN).
 */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/secret.h"
#include "server/audit.h"
#include "server/call.h"
#include "server/handlers.h"

#define AUDIT_PAGE 1000

/* Codes the operations give before they write anything: answers, not failures. */
static int refuse_code(struct call *c, int code, const char *missing)
{
	if (code == -ENOENT)
		server_call_refuse(c, PROBLEM_NO_SUCH, missing);
	else if (code == CE_USAGE)
		server_call_refuse(c, PROBLEM_BAD_REQUEST, "a member is not as it should be");
	else
		return code;
	return 0;
}

static int list_tokens(struct call *c, struct store_db *db)
{
	return server_tokens_list(db, c->out);
}

void server_admin_tokens(struct request *r)
{
	server_call_read(r, list_tokens);
}

static int add_token(struct call *c, struct store_db *db)
{
	struct server_token_options o = { 0 };
	char *token;
	int64_t n;
	int rc;

	if (!server_call_string(c, "account", true, &o.account) ||
		!server_call_string(c, "stores", false, &o.stores) ||
		!server_call_bool(c, "readOnly", &o.read_only) ||
		!server_call_bool(c, "admin", &o.admin) ||
		!server_call_number(c, "expiresAt", &o.expires_at))
		return 0;
	rc = server_tokens_add(db, c->who, &o, &token, &n);
	if (rc)
		return refuse_code(c, rc, "there is no such store");
	json_set_i64(c->out, "id", n);
	json_set_string(c->out, "token", token);
	secret_wipe(token, strlen(token));
	free(token);
	return 0;
}

void server_admin_token_add(struct request *r)
{
	server_call_submit(r, add_token);
}

static int revoke_token(struct call *c, struct store_db *db)
{
	uint64_t n;

	if (server_wire_u64(c->r->id, &n) || n > INT64_MAX) {
		server_call_refuse(c, PROBLEM_NO_SUCH, "there is no such token");
		return 0;
	}
	return refuse_code(
		c, server_tokens_revoke(db, c->who, (int64_t)n), "there is no such token");
}

void server_admin_token_revoke(struct request *r)
{
	server_call_submit(r, revoke_token);
}

static int list_accounts(struct call *c, struct store_db *db)
{
	return server_tokens_accounts(db, c->out);
}

void server_admin_accounts(struct request *r)
{
	server_call_read(r, list_accounts);
}

static int add_account(struct call *c, struct store_db *db)
{
	const char *name;
	int64_t n;

	if (!server_call_string(c, "name", true, &name))
		return 0;
	return refuse_code(c, server_tokens_account_add(db, c->who, name, &n), "");
}

void server_admin_account_add(struct request *r)
{
	server_call_submit(r, add_account);
}

static int close_account(struct call *c, struct store_db *db)
{
	const char *name;

	if (!server_call_string(c, "name", true, &name))
		return 0;
	return refuse_code(
		c, server_tokens_account_close(db, c->who, name), "there is no such account");
}

void server_admin_account_close(struct request *r)
{
	server_call_submit(r, close_account);
}

static int list_stores(struct call *c, struct store_db *db)
{
	return server_tokens_stores(db, c->out);
}

void server_admin_stores(struct request *r)
{
	server_call_read(r, list_stores);
}

static int grant(struct call *c, struct store_db *db)
{
	const char *account;

	if (!server_call_string(c, "account", true, &account))
		return 0;
	return refuse_code(
		c, server_tokens_grant(db, c->who, c->r->id, account), "there is no such store");
}

void server_admin_grant(struct request *r)
{
	server_call_submit(r, grant);
}

static int list_audit(struct call *c, struct store_db *db)
{
	char text[24];
	const char *value = server_http_query(c->r, "since", text, sizeof(text));
	uint64_t since = 0;

	if (value && (server_wire_u64(value, &since) || since > INT64_MAX)) {
		server_call_refuse(c, PROBLEM_BAD_REQUEST, "since is a decimal number");
		return 0;
	}
	return server_audit_list(db, since, AUDIT_PAGE, c->out);
}

void server_admin_audit(struct request *r)
{
	server_call_read(r, list_audit);
}
