#include "server/call.h"
#include "server/handlers.h"

#define ADMIN "/v1/admin/"
#define DEVICE "/v1/devices/{id}/"
#define RECORD "/v1/stores/{s}/records/{id}"

/* The whole protocol. HEAD goes with GET. */
const struct route server_routes[] = {
	{ "GET", "/v1", ROUTE_REVOKED, BODY_NONE, NULL, server_read_capabilities, NULL },
	{ "GET", "/v1/stores", 0, BODY_NONE, NULL, server_read_stores, NULL },
	{ "GET", "/v1/stores/{s}/changes", ROUTE_STORE, BODY_NONE, server_feed_begin,
		server_feed_answer, server_feed_answer },
	{ "GET", RECORD, ROUTE_STORE, BODY_NONE, NULL, server_read_record, NULL },
	{ "PUT", RECORD, ROUTE_STORE | ROUTE_WRITE, BODY_CONTENT, server_write_begin,
		server_write_put, server_write_answer },
	{ "PATCH", RECORD, ROUTE_STORE | ROUTE_WRITE, BODY_JSON, server_write_begin,
		server_write_patch, server_write_answer },
	{ "DELETE", RECORD, ROUTE_STORE | ROUTE_WRITE, BODY_NONE, server_write_begin,
		server_write_delete, server_write_answer },
	{ "POST", "/v1/stores/{s}/batch", ROUTE_STORE | ROUTE_WRITE, BODY_JSON, NULL,
		server_batch_finish, server_batch_answer },
	{ "POST", "/v1/stores/{s}/get", ROUTE_STORE, BODY_JSON, NULL, server_read_many, NULL },
	{ "GET", "/v1/stores/{s}/queries", ROUTE_STORE, BODY_NONE, NULL, server_query_list, NULL },
	{ "GET", "/v1/stores/{s}/queries/{id}", ROUTE_STORE, BODY_NONE, NULL, server_query_get_one,
		server_query_answer },
	{ "GET", "/v1/devices", 0, BODY_NONE, NULL, server_device_list, NULL },
	{ "POST", "/v1/devices", ROUTE_OWN | ROUTE_REVOKED, BODY_JSON, NULL, server_device_enrol,
		server_call_answer },
	{ "POST", DEVICE "kek", ROUTE_DEVICE | ROUTE_OWN | ROUTE_REVOKED, BODY_JSON, NULL,
		server_device_kek, server_call_answer },
	{ "POST", DEVICE "rotate", ROUTE_DEVICE | ROUTE_OWN | ROUTE_WRITE | ROUTE_REVOKED,
		BODY_JSON, NULL, server_device_rotate, server_call_answer },
	{ "POST", DEVICE "revoke", ROUTE_DEVICE | ROUTE_WRITE, BODY_JSON, NULL,
		server_device_revoke, server_call_answer },
	{ "POST", DEVICE "trust", ROUTE_DEVICE | ROUTE_WRITE, BODY_JSON, NULL,
		server_device_trust, server_call_answer },
	{ "GET", "/v1/audit", ROUTE_ADMIN, BODY_NONE, NULL, server_admin_audit, NULL },
	{ "GET", ADMIN "accounts", ROUTE_ADMIN, BODY_NONE, NULL, server_admin_accounts, NULL },
	{ "POST", ADMIN "accounts", ROUTE_ADMIN, BODY_JSON, NULL, server_admin_account_add,
		server_call_answer },
	{ "POST", ADMIN "accounts/close", ROUTE_ADMIN, BODY_JSON, NULL,
		server_admin_account_close, server_call_answer },
	{ "POST", ADMIN "stores/{id}/grant", ROUTE_ADMIN, BODY_JSON, NULL, server_admin_grant,
		server_call_answer },
	{ "POST", ADMIN "rotate", ROUTE_ADMIN, BODY_JSON, NULL, server_admin_rotate,
		server_call_answer },
	{ "GET", ADMIN "tokens", ROUTE_ADMIN, BODY_NONE, NULL, server_admin_tokens, NULL },
	{ "POST", ADMIN "tokens", ROUTE_ADMIN, BODY_JSON, NULL, server_admin_token_add,
		server_call_answer },
	{ "DELETE", ADMIN "tokens/{id}", ROUTE_ADMIN, BODY_NONE, NULL, server_admin_token_revoke,
		server_call_answer },
	{ 0 },
};
