#include "server/handlers.h"

#define RECORD "/v1/stores/{s}/records/{id}"

/* The whole protocol. HEAD goes with GET. */
const struct route server_routes[] = {
	{ "GET", "/v1", 0, BODY_NONE, NULL, server_read_capabilities, NULL },
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
	{ 0 },
};
