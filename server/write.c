/* PUT, PATCH, DELETE: a request's headers and body become one change, and its outcome the answer.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "server/change_json.h"
#include "server/handlers.h"

static void bad(struct request *r, const char *detail)
{
	server_http_refuse(r, PROBLEM_BAD_REQUEST, detail);
}

static void take_precondition(struct request *r, struct change *c)
{
	const char *match = r->headers[HEADER_IF_MATCH], *none = r->headers[HEADER_IF_NONE_MATCH];

	if (none && strcmp(none, "*") != 0)
		bad(r, "a change takes if-none-match: * only");
	c->create = none != NULL;
	if (!match)
		return;
	if (strlen(match) >= sizeof(c->if_match) || !server_wire_is_etag_list(match))
		bad(r, "if-match is not a list of entity tags");
	else
		memcpy(c->if_match, match, strlen(match) + 1);
}

static void take_identity(struct request *r, struct change *c)
{
	const char *key = r->headers[HEADER_IDEMPOTENCY_KEY], *device = r->headers[HEADER_DEVICE];
	const char *seq = r->headers[HEADER_SEQ];

	c->has_key = key != NULL;
	if (key && bytes_from_hex(key, c->key, sizeof(c->key)))
		bad(r, "idempotency-key is 32 hex digits");
	c->has_device = device && seq;
	if (device && bytes_from_hex(device, c->device, sizeof(c->device)))
		bad(r, "cachet-device is 32 hex digits");
	if (seq && (server_wire_u64(seq, &c->seq) || c->seq > (uint64_t)INT64_MAX))
		bad(r, "cachet-seq is a decimal number");
	if (seq && !device)
		bad(r, "cachet-seq needs cachet-device");
}

static void take_name(struct request *r, struct change *c)
{
	const char *name = r->headers[HEADER_NAME];
	size_t len = 0;
	int rc;

	if (!name)
		return;
	c->has_name = true;
	rc = server_wire_percent_decode(name, c->name, sizeof(c->name), &len);
	if (rc || !server_wire_is_name(c->name, len))
		server_http_refuse(r, PROBLEM_BAD_NAME,
			"a name is 1 to 255 bytes of UTF-8 without / and NUL, not . or .., "
			"percent-encoded");
}

/* "ID ETAG" */
static void take_replaces(struct request *r, struct change *c)
{
	const char *text = r->headers[HEADER_REPLACES], *blank = text ? strchr(text, ' ') : NULL;
	struct change_other *o = &c->replaces;

	if (!text)
		return;
	o->set = true;
	if (!blank || (size_t)(blank - text) >= sizeof(o->id) ||
		strlen(blank + 1) >= sizeof(o->etag)) {
		bad(r, "cachet-replaces is an id and an entity tag");
		return;
	}
	memcpy(o->id, text, (size_t)(blank - text));
	memcpy(o->etag, blank + 1, strlen(blank + 1) + 1);
	if (!server_wire_is_id(o->id) || !server_wire_is_etag_list(o->etag))
		bad(r, "cachet-replaces is an id and an entity tag");
}

static void take_attributes(struct request *r, struct change *c)
{
	const char *parent = r->headers[HEADER_PARENT], *kind = r->headers[HEADER_KIND];
	const char *mode = r->headers[HEADER_MODE], *mtime = r->headers[HEADER_MTIME_NS];
	uint64_t n = 0;

	c->has_parent = parent != NULL;
	if (parent && !server_wire_is_id(parent))
		bad(r, "cachet-parent is not a record id");
	else if (parent)
		memcpy(c->parent, parent, strlen(parent) + 1);
	if (kind)
		c->kind = server_records_kind(kind);
	if (kind && !c->kind)
		bad(r, "cachet-kind is file, dir or symlink");
	c->has_mode = mode != NULL;
	if (mode && (server_wire_u64(mode, &n) || n > WIRE_MODE_MAX))
		bad(r, "cachet-mode is 0 to 4095, decimal");
	c->mode = (unsigned)n;
	c->has_mtime = mtime != NULL;
	if (mtime && server_wire_i64(mtime, &c->mtime_ns))
		bad(r, "cachet-mtime-ns is a decimal number");
}

void server_write_begin(struct request *r)
{
	struct change *c = &r->change;

	server_change_init(c, &r->s->dirs, r->s->max_record_bytes);
	r->has_change = true;
	c->account = r->access.account;
	c->store = r->store.n;
	memcpy(c->id, r->id, sizeof(c->id));
	take_precondition(r, c);
	take_identity(r, c);
	if (r->route->body != BODY_CONTENT)
		return;
	c->op = CHANGE_PUT;
	take_name(r, c);
	take_attributes(r, c);
	take_replaces(r, c);
	/* What the header shows already is said before the body is read. */
	server_change_check(c);
	if (c->refused)
		server_http_refuse(r, c->refused, c->detail);
	server_upload_accept(r, c);
}

static void submit(struct request *r)
{
	int rc = server_change_seal(&r->change);

	if (rc) {
		server_http_fail(r, rc);
		return;
	}
	if (r->change.refused) {
		server_http_refuse(r, r->change.refused, r->change.detail);
		return;
	}
	r->job.changes = &r->change;
	r->job.n_changes = 1;
	server_http_submit(r);
}

void server_write_put(struct request *r)
{
	int rc = 0;

	if (r->upload.upload)
		rc = server_upload_take(r->s->uploads, &r->upload, &r->change.body);
	if (!rc)
		rc = server_body_finish(&r->change.body);
	if (rc == -ESTALE)
		server_http_refuse(r, PROBLEM_NO_UPLOAD, "another request goes on with it");
	else if (rc)
		server_http_fail(r, rc);
	else
		submit(r);
}

void server_write_patch(struct request *r)
{
	_cleanup_json_ struct json *root = NULL;

	r->change.op = CHANGE_PATCH;
	if (json_parse(r->json.data ? r->json.data : "", r->json.len, &root) ||
		!json_is_object(root)) {
		bad(r, "the body is not a JSON object");
		return;
	}
	server_change_json_attributes(&r->change, root);
	submit(r);
}

void server_write_delete(struct request *r)
{
	r->change.op = CHANGE_DELETE;
	submit(r);
}

void server_write_answer(struct request *r)
{
	struct outcome *out = &r->change.out;
	struct answer *a = &r->answer;

	if (r->job.result) {
		server_http_fail(r, r->job.result);
		return;
	}
	a->status = out->status;
	a->type = out->status < 300 ? ANSWER_JSON : ANSWER_PROBLEM;
	a->text = out->text;
	out->text = (struct buffer){ 0 };
	if (out->etag[0])
		server_answer_header(a, MHD_HTTP_HEADER_ETAG, "%s", out->etag);
	if (out->replayed)
		server_answer_header(a, "Cachet-Replayed", "true");
}
