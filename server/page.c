/*
 * The administration page: one document, the same for everybody, that knows nothing. What it shows
 * and does goes through the calls of the protocol with the token that is typed into it.
 */
#include "server/page.h"

#include <string.h>

#include "server/handlers.h"

void server_page_get(struct request *r)
{
	int rc = buffer_append(&r->answer.text, server_page_html, strlen(server_page_html));

	if (rc) {
		server_http_fail(r, rc);
		return;
	}
	r->answer.status = 200;
	r->answer.type = "text/html; charset=utf-8";
	r->answer.policy = server_page_policy;
}
