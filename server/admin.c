/* Administration of a data directory, with or without a server running on it. */
#include "server/admin.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/io.h"
#include "base/secret.h"
#include "server/server.h"
#include "server/audit.h"
#include "server/devices.h"
#include "server/tokens.h"
#include "server/wire.h"

int server_admin_explain(char **error, int code, const char *what)
{
	bool why = !strncmp(what, "cannot", 6);

	(void)!bytes_print(error, "%s%s%s", what, why ? ": " : "", why ? error_text(code) : "");
	return code;
}

int server_admin_open(const char *dir, struct store_db **out, char **error)
{
	int r = io_mkdir_p(dir, 0700);

	if (r)
		return server_admin_explain(error, r, "cannot open the data directory");
	r = server_store_open(dir, out);
	if (r == CE_FORMAT)
		return server_admin_explain(
			error, r, "the database is not one of this server, or of a newer version");
	return r ? server_admin_explain(error, r, "cannot open the database") : 0;
}

int server_admin_open_existing(const char *dir, struct store_db **out, char **error)
{
	_cleanup_free_ char *path = NULL;

	if (bytes_print(&path, "%s/" STORE_DB_NAME, dir))
		return -ENOMEM;
	if (access(path, F_OK) < 0)
		return server_admin_explain(error, -errno, "no server's data are there");
	return server_admin_open(dir, out, error);
}

int server_admin_transact(struct store_db *db, server_admin_fn fn, void *arg)
{
	char who[32];
	int r = server_store_run(db, SQL_BEGIN_WRITE);

	snprintf(who, sizeof(who), "local user %u", (unsigned)getuid());
	if (!r)
		r = fn(db, who, arg);
	if (!r)
		r = server_store_run(db, SQL_COMMIT);
	if (r)
		server_store_rollback(db);
	return r;
}

int server_admin_add_store(struct store_db *db, const char *store, char **error)
{
	sqlite3_stmt *q;
	int r;

	if (!server_wire_is_id(store))
		return server_admin_explain(error, CE_USAGE,
			"a store's name has 1 to 64 characters of A-Z a-z 0-9 _ -");
	q = server_store_statement(db, SQL_STORE_ADD);
	sqlite3_bind_text(q, 1, store, -1, SQLITE_STATIC);
	sqlite3_bind_int64(q, 2, clock_wall_ns());
	r = server_store_once(db, q);
	return r ? server_admin_explain(error, r, "cannot add the store") : 0;
}

int server_store_add(const char *dir, const char *store, char **error)
{
	_cleanup_store_ struct store_db *db = NULL;
	int r;

	*error = NULL;
	r = server_admin_open(dir, &db, error);
	return r ? r : server_admin_add_store(db, store, error);
}

/* ---- tokens and accounts ---- */

struct token_args {
	const struct server_token_options *o;
	char **token;
	int64_t n;
};

static int add_token(struct store_db *db, const char *who, void *arg)
{
	struct token_args *a = arg;

	return server_tokens_add(db, who, a->o, a->token, &a->n);
}

int server_token_add(
	const char *dir, const struct server_token_options *o, char **token, char **error)
{
	_cleanup_store_ struct store_db *db = NULL;
	char *made = NULL;
	struct token_args args = { .o = o, .token = &made };
	int r;

	*error = NULL;
	r = server_admin_open(dir, &db, error);
	if (r)
		return r;
	r = server_admin_transact(db, add_token, &args);
	if (r && made) {
		secret_wipe(made, strlen(made));
		free(made);
	}
	if (r == -ENOENT)
		return server_admin_explain(error, r, "there is no such store");
	if (r == CE_USAGE)
		return server_admin_explain(error, r,
			"an account's name has 1 to 255 bytes without control characters; an admin "
			"token opens no stores");
	if (r)
		return server_admin_explain(error, r, "cannot add the token");
	*token = made;
	return 0;
}

static int revoke_token(struct store_db *db, const char *who, void *arg)
{
	return server_tokens_revoke(db, who, *(int64_t *)arg);
}

int server_token_revoke(const char *dir, int64_t n, char **error)
{
	_cleanup_store_ struct store_db *db = NULL;
	int r;

	*error = NULL;
	r = server_admin_open_existing(dir, &db, error);
	if (r)
		return r;
	r = server_admin_transact(db, revoke_token, &n);
	return r ? server_admin_explain(error, r,
			   r == -ENOENT ? "there is no such token" : "cannot revoke the token")
		 : 0;
}

static int close_account(struct store_db *db, const char *who, void *arg)
{
	return server_tokens_account_close(db, who, arg);
}

int server_account_close(const char *dir, const char *name, char **error)
{
	_cleanup_store_ struct store_db *db = NULL;
	int r;

	*error = NULL;
	r = server_admin_open_existing(dir, &db, error);
	if (r)
		return r;
	r = server_admin_transact(db, close_account, (void *)name);
	return r ? server_admin_explain(error, r,
			   r == -ENOENT ? "there is no such account" : "cannot close the account")
		 : 0;
}

struct grant_args {
	const char *store, *account;
};

static int grant(struct store_db *db, const char *who, void *arg)
{
	const struct grant_args *a = arg;

	return server_tokens_grant(db, who, a->store, a->account);
}

int server_store_grant(const char *dir, const char *store, const char *account, char **error)
{
	_cleanup_store_ struct store_db *db = NULL;
	struct grant_args args = { store, account };
	int r;

	*error = NULL;
	r = server_admin_open_existing(dir, &db, error);
	if (r)
		return r;
	r = server_admin_transact(db, grant, &args);
	return r ? server_admin_explain(error, r, "cannot give the store to the account") : 0;
}

/* ---- devices ---- */

struct device_args {
	enum device_state state;
	const char *dkid, *account;
	uint64_t n;
};

static int set_device_state(struct store_db *db, const char *who, void *arg)
{
	const struct device_args *a = arg;
	struct device d;
	int r = server_devices_by_dkid(db, a->dkid, &d);

	if (r || d.state == a->state)
		return r;
	if (d.state == DEVICE_REVOKED)
		return -EBUSY;
	return server_devices_set_state(db, who, &d, a->state);
}

int server_device_do(const char *dir, enum server_device_verb verb, const char *dkid, char **error)
{
	static const enum device_state states[] = {
		[SERVER_DEVICE_REVOKE] = DEVICE_REVOKED,
		[SERVER_DEVICE_TRUST] = DEVICE_OK,
		[SERVER_DEVICE_UNTRUST] = DEVICE_UNTRUSTED,
	};
	_cleanup_store_ struct store_db *db = NULL;
	struct device_args args = { .state = states[verb], .dkid = dkid };
	int r;

	*error = NULL;
	r = server_admin_open_existing(dir, &db, error);
	if (r)
		return r;
	r = server_admin_transact(db, set_device_state, &args);
	return r ? server_admin_explain(error, r,
			   r == -ENOENT  ? "there is no such device"
			   : r == -EBUSY ? "a revoked device stays revoked; it has to enrol again"
					 : "cannot change the device")
		 : 0;
}

static int rotate(struct store_db *db, const char *who, void *arg)
{
	struct device_args *a = arg;
	struct device d;
	int r;

	if (!a->dkid)
		return server_devices_rotate_all(db, who, a->account, &a->n);
	r = server_devices_by_dkid(db, a->dkid, &d);
	if (!r && d.state == DEVICE_REVOKED)
		r = -ENOENT;
	a->n = 1;
	return r ? r : server_devices_rotate(db, who, &d, "asked for");
}

int server_rotate(const char *dir, const char *dkid, const char *account, uint64_t *n, char **error)
{
	_cleanup_store_ struct store_db *db = NULL;
	struct device_args args = { .dkid = dkid, .account = account };
	int r;

	*error = NULL;
	r = server_admin_open_existing(dir, &db, error);
	if (r)
		return r;
	r = server_admin_transact(db, rotate, &args);
	if (r)
		return server_admin_explain(error, r,
			r == -ENOENT ? "there is no such account or device" : "cannot rotate");
	*n = args.n;
	return 0;
}

/* ---- what there is ---- */

static int list_devices(struct store_db *db, struct json *out)
{
	return server_devices_list(db, 0, out);
}

int server_list(const char *dir, enum server_list what, struct json **out, char **error)
{
	static int (*const lists[])(struct store_db *, struct json *) = {
		[SERVER_LIST_TOKENS] = server_tokens_list,
		[SERVER_LIST_ACCOUNTS] = server_tokens_accounts,
		[SERVER_LIST_DEVICES] = list_devices,
		[SERVER_LIST_STORES] = server_tokens_stores,
	};
	_cleanup_store_ struct store_db *db = NULL;
	_cleanup_json_ struct json *o = NULL;
	int r;

	*error = NULL;
	r = server_admin_open_existing(dir, &db, error);
	if (r)
		return r;
	o = json_new_object();
	r = lists[what](db, o);
	if (r)
		return server_admin_explain(error, r, "cannot read the database");
	*out = steal_ptr(&o);
	return 0;
}

int server_audit_page(
	const char *dir, uint64_t since, uint64_t limit, struct json **out, char **error)
{
	_cleanup_store_ struct store_db *db = NULL;
	_cleanup_json_ struct json *o = NULL;
	int r;

	*error = NULL;
	r = server_admin_open_existing(dir, &db, error);
	if (r)
		return r;
	o = json_new_object();
	r = server_audit_list(db, since, limit, o);
	if (r)
		return server_admin_explain(error, r, "cannot read the audit log");
	*out = steal_ptr(&o);
	return 0;
}

/* "N:64 hex digits" */
int server_admin_parse_head(const char *text, struct audit_head *out)
{
	char number[24];
	size_t len = strcspn(text, ":");

	if (len >= sizeof(number) || !text[len])
		return CE_USAGE;
	memcpy(number, text, len);
	number[len] = 0;
	if (server_wire_u64(number, &out->n) ||
		bytes_from_hex(text + len + 1, out->hash, sizeof(out->hash)))
		return CE_USAGE;
	return 0;
}

int server_audit_check(
	const char *dir, const char *noted, struct server_audit_report *report, char **error)
{
	_cleanup_store_ struct store_db *db = NULL;
	struct audit_head before, base, head;
	uint64_t bad = 0;
	int r;

	*error = NULL;
	if (noted && server_admin_parse_head(noted, &before))
		return server_admin_explain(
			error, CE_USAGE, "a head of the audit log is NUMBER:64 hex digits");
	r = server_admin_open_existing(dir, &db, error);
	if (r)
		return r;
	r = server_audit_verify(db, noted ? &before : NULL, &head, &bad);
	if (r == -ENOENT)
		return server_admin_explain(
			error, r, "that head is in an archive: verify the archive with it");
	if (r == CE_TAMPER)
		(void)!bytes_print(
			error, "the audit log was changed at entry %llu", (unsigned long long)bad);
	if (r)
		return r == CE_TAMPER ? r
				      : server_admin_explain(error, r, "cannot read the audit log");
	r = server_audit_base(db, &base);
	if (r)
		return server_admin_explain(error, r, "cannot read the audit log");
	report->entries = head.n - base.n;
	server_audit_print_head(&head, report->head);
	return 0;
}
