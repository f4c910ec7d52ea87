#include "server/admit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "server/devices.h"
#include "server/limiter.h"

#define HEADERS_MAX_BYTES 16384
#define HEADERS_MAX_COUNT 64
#define URI_MAX_BYTES 4096

static const char *const header_names[HEADER_COUNT] = {
	[HEADER_AUTHORIZATION] = "Authorization",
	[HEADER_CONTENT_ENCODING] = "Content-Encoding",
	[HEADER_CONTENT_LENGTH] = "Content-Length",
	[HEADER_EXPECT] = "Expect",
	[HEADER_HOST] = "Host",
	[HEADER_IDEMPOTENCY_KEY] = "Idempotency-Key",
	[HEADER_IF_MATCH] = "If-Match",
	[HEADER_IF_MODIFIED_SINCE] = "If-Modified-Since",
	[HEADER_IF_NONE_MATCH] = "If-None-Match",
	[HEADER_IF_RANGE] = "If-Range",
	[HEADER_IF_UNMODIFIED_SINCE] = "If-Unmodified-Since",
	[HEADER_RANGE] = "Range",
	[HEADER_TRANSFER_ENCODING] = "Transfer-Encoding",
	[HEADER_AHEAD] = "Cachet-Ahead",
	[HEADER_DEVICE] = "Cachet-Device",
	[HEADER_KIND] = "Cachet-Kind",
	[HEADER_MODE] = "Cachet-Mode",
	[HEADER_MTIME_NS] = "Cachet-Mtime-Ns",
	[HEADER_NAME] = "Cachet-Name",
	[HEADER_OFFSET] = "Cachet-Offset",
	[HEADER_PARENT] = "Cachet-Parent",
	[HEADER_REPLACES] = "Cachet-Replaces",
	[HEADER_SEQ] = "Cachet-Seq",
};

struct collected {
	struct request *r;
	size_t bytes, count;
	bool twice, odd;
};

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* RFC 9110 section 5.1: a name is a token. libmicrohttpd lets a blank before the colon be part of
 * it, and with it a second framing pass unseen. */
static bool is_token(const char *name, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!strchr("!#$%&'*+-.^_`|~", name[i]) && !is_alnum(name[i]))
			return false;
	return len && !memchr(name, 0, len);
}

/* RFC 9110 section 5.5. Of a value with a NUL in it libmicrohttpd shows the part before it. */
static bool is_value(const char *value, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (((unsigned char)value[i] < ' ' && value[i] != '\t') || value[i] == 0x7f)
			return false;
	return true;
}

static enum MHD_Result collect(void *cls, enum MHD_ValueKind kind, const char *name,
	size_t name_len, const char *value, size_t len)
{
	struct collected *c = cls;

	(void)kind;
	c->bytes += name_len + len + 4;
	c->count++;
	c->odd |= !is_token(name, name_len) || (value && !is_value(value, len));
	for (size_t i = 0; i < HEADER_COUNT; i++) {
		if (strcasecmp(name, header_names[i]) != 0)
			continue;
		c->twice |= c->r->headers[i] != NULL;
		c->r->headers[i] = value ? value : "";
	}
	return MHD_YES;
}

static void check_header(struct request *r, const char *url)
{
	struct collected c = { .r = r };

	MHD_get_connection_values_n(r->conn, MHD_HEADER_KIND, collect, &c);
	if (strlen(url) > URI_MAX_BYTES)
		server_http_refuse(r, PROBLEM_URI_TOO_LONG, "an address has at most 4096 bytes");
	if (c.bytes > HEADERS_MAX_BYTES || c.count > HEADERS_MAX_COUNT)
		server_http_refuse(r, PROBLEM_HEADERS_TOO_LARGE,
			"a header has at most 64 lines and 16384 bytes");
	if (c.odd)
		server_http_refuse(r, PROBLEM_BAD_REQUEST,
			"a header line has a character that it may not have");
	if (c.twice)
		server_http_refuse(
			r, PROBLEM_BAD_REQUEST, "a header line that stands alone came twice");
	if (!r->headers[HEADER_HOST])
		server_http_refuse(r, PROBLEM_BAD_REQUEST, "there is no Host line");
	if (r->headers[HEADER_CONTENT_ENCODING] &&
		strcasecmp(r->headers[HEADER_CONTENT_ENCODING], "identity") != 0)
		server_http_refuse(
			r, PROBLEM_MEDIA_TYPE, "bodies are taken without content coding");
}

/* Two framings in one request are how requests are smuggled past a proxy: refused, whoever would
 * win. */
static uint64_t check_framing(struct request *r)
{
	const char *coding = r->headers[HEADER_TRANSFER_ENCODING],
		   *length = r->headers[HEADER_CONTENT_LENGTH];
	uint64_t n = 0;

	if (coding && length)
		server_http_refuse(r, PROBLEM_BAD_REQUEST, "the length of the body is said twice");
	if (coding && strcasecmp(coding, "chunked") != 0)
		server_http_refuse(
			r, PROBLEM_LENGTH_REQUIRED, "only chunked transfer coding is taken");
	if (coding)
		return ADMIT_LENGTH_UNKNOWN;
	if (length && server_wire_u64(length, &n))
		server_http_refuse(r, PROBLEM_BAD_REQUEST, "the length is not a number");
	return n;
}

static void refuse_token(struct request *r, const char *detail)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(r->conn, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	unsigned wait_s = server_limiter_note(
		r->s->limiter, info ? info->client_addr : NULL, clock_boot_ms());

	server_http_refuse(r, wait_s ? PROBLEM_TOO_MANY : PROBLEM_UNAUTHORIZED, detail);
	if (wait_s)
		server_answer_header(&r->answer, MHD_HTTP_HEADER_RETRY_AFTER, "%u", wait_s);
}

static void check_token(struct request *r, struct store_db *db)
{
	const char *value = r->headers[HEADER_AUTHORIZATION];
	int rc;

	if (!value || strncasecmp(value, "Bearer ", 7) != 0) {
		server_http_refuse(
			r, PROBLEM_UNAUTHORIZED, "send the token as authorization: bearer");
		return;
	}
	rc = server_tokens_check(db, value + 7 + strspn(value + 7, " "), &r->access);
	if (rc == CE_AUTH)
		refuse_token(r, "the token is unknown or no longer valid");
	else if (rc)
		server_http_fail(r, rc);
}

/* One segment of the path against one of the pattern; both end at '/' or NUL. */
static bool match_segment(
	const char *pattern, size_t plen, const char *path, size_t len, char *store, char *id)
{
	char raw[3 * WIRE_ID_MAX + 1], *out;
	size_t n;

	if (*pattern != '{')
		return plen == len && !memcmp(pattern, path, len);
	out = pattern[1] == 's' ? store : id;
	*out = 0; /* stays empty when it is not an id: then there is no such thing */
	if (len < sizeof(raw)) {
		memcpy(raw, path, len);
		raw[len] = 0;
		if (server_wire_percent_decode(raw, out, WIRE_ID_MAX + 1, &n) ||
			!server_wire_is_id(out) || strlen(out) != n)
			*out = 0;
	}
	return true;
}

static bool match_path(const char *pattern, const char *path, char *store, char *id)
{
	while (*pattern == '/' && *path == '/') {
		size_t plen = strcspn(++pattern, "/"), len = strcspn(++path, "/");

		if (!match_segment(pattern, plen, path, len, store, id))
			return false;
		pattern += plen;
		path += len;
	}
	return !*pattern && !*path;
}

/* No route: every address that has one, and * for all, says what it takes. */
static void answer_methods(
	struct request *r, const char *method, const char *url, const char *allowed)
{
	bool options = !strcmp(method, MHD_HTTP_METHOD_OPTIONS);

	if (options && !strcmp(url, "*"))
		allowed = "OPTIONS, GET, HEAD, PUT, PATCH, DELETE, POST";
	if (!*allowed)
		server_http_refuse(r, PROBLEM_NO_RESOURCE, NULL);
	else if (options)
		r->answer.status = MHD_HTTP_NO_CONTENT;
	else
		server_http_refuse(r, PROBLEM_METHOD, NULL);
	if (*allowed)
		server_answer_header(&r->answer, MHD_HTTP_HEADER_ALLOW, "%s", allowed);
}

/* Without a route `allowed` has the methods of the address; none: there is no such address. */
static void find_route(struct request *r, const char *method, const char *url, char *store,
	char allowed[static ANSWER_VALUE_SIZE])
{
	r->head = !strcmp(method, "HEAD");
	if (r->head)
		method = "GET";
	for (const struct route *route = server_routes; route->method; route++) {
		size_t used = strlen(allowed);

		if (!match_path(route->path, url, store, r->id))
			continue;
		if (!strcmp(route->method, method)) {
			r->route = route;
			return;
		}
		snprintf(allowed + used, ANSWER_VALUE_SIZE - used, "%s%s%s",
			used ? ", " : "OPTIONS, ", route->method,
			strcmp(route->method, "GET") != 0 ? "" : ", HEAD");
	}
}

/* A token that is scoped does not learn which other stores there are. */
static void check_store(struct request *r, struct store_db *db, const char *store)
{
	int rc = *store ? server_records_store_by_id(db, store, &r->store) : -ENOENT;

	if (rc == -ENOENT && !r->access.scoped && !r->access.admin) {
		server_http_refuse(r, PROBLEM_NO_STORE, NULL);
		return;
	}
	if (!rc)
		rc = server_tokens_opens(db, &r->access, r->store.n);
	if (rc < 0 && rc != -ENOENT)
		server_http_fail(r, rc);
	else if (rc != 1)
		server_http_refuse(r, PROBLEM_FORBIDDEN, "the token is not for this store");
}

/* A key is only its account's: said here, so that no handler can forget it. */
static void check_owner(struct request *r, struct store_db *db)
{
	struct device d;
	int rc = server_devices_by_dkid(db, r->id, &d);

	if (rc == -ENOENT)
		server_http_refuse(r, PROBLEM_NO_SUCH, "there is no such device");
	else if (rc)
		server_http_fail(r, rc);
	else if (d.account != r->access.account && !r->access.admin)
		server_http_refuse(r, PROBLEM_NOT_YOURS, NULL);
}

/* Not a lock, since a client can leave its header out: it tells an honest one to ask for the signed
 * word. What locks is the revoked token. */
static void check_revoked(struct request *r, struct store_db *db)
{
	const char *id = r->headers[HEADER_DEVICE];
	struct device d;
	int rc;

	if (!id || r->access.admin || !server_devices_is_id(id))
		return;
	rc = server_devices_by_id(db, r->access.account, id, &d);
	if (!rc && d.state == DEVICE_REVOKED)
		server_http_refuse(r, PROBLEM_DEVICE_REVOKED, NULL);
	else if (rc && rc != -ENOENT)
		server_http_fail(r, rc);
}

static void check_length(struct request *r, uint64_t length)
{
	struct server *s = r->s;

	if (r->route->body == BODY_NONE && length)
		server_http_refuse(r, PROBLEM_BAD_REQUEST, "this request has no body");
	if (length == ADMIT_LENGTH_UNKNOWN)
		return;
	if (r->route->body == BODY_JSON && length > s->max_request_bytes)
		server_http_refuse(r, PROBLEM_TOO_LARGE, "max_request_bytes");
	if (r->route->body == BODY_CONTENT && length > s->max_record_bytes)
		server_http_refuse(r, PROBLEM_TOO_LARGE, "max_record_bytes");
}

static void check_rights(
	struct request *r, struct store_db *db, const char *method, const char *url)
{
	char store[WIRE_ID_MAX + 1] = "", allowed[ANSWER_VALUE_SIZE] = "";

	find_route(r, method, url, store, allowed);
	if (!r->route || !(r->route->flags & ROUTE_PUBLIC))
		check_token(r, db);
	if (!r->answer.status && !r->route)
		answer_methods(r, method, url, allowed);
	if (!r->answer.status && strstr(r->route->path, "{id}") && !r->id[0])
		server_http_refuse(r, PROBLEM_BAD_REQUEST,
			"a record id has 1 to 64 characters of A-Z a-z 0-9 _ -");
	if (!r->answer.status && (r->route->flags & ROUTE_ADMIN) && !r->access.admin)
		server_http_refuse(r, PROBLEM_FORBIDDEN, "this needs an admin token");
	if (!r->answer.status && (r->route->flags & ROUTE_OWN) && r->access.admin)
		server_http_refuse(r, PROBLEM_FORBIDDEN, "this is not for an admin token");
	if (!r->answer.status && (r->route->flags & ROUTE_DEVICE))
		check_owner(r, db);
	if (!r->answer.status && !(r->route->flags & ROUTE_REVOKED))
		check_revoked(r, db);
	if (!r->answer.status && (r->route->flags & ROUTE_STORE))
		check_store(r, db, store);
	if (!r->answer.status && (r->route->flags & ROUTE_WRITE) && r->access.read_only)
		server_http_refuse(r, PROBLEM_FORBIDDEN, "the token is read-only");
}

void server_admit(struct request *r, const char *method, const char *url, uint64_t *length)
{
	struct store_db *db;
	int rc;

	check_header(r, url);
	*length = check_framing(r);
	if (r->answer.status) {
		/* Where the request ends is in doubt: nothing more of it is read. */
		*length = ADMIT_LENGTH_UNKNOWN;
		return;
	}
	rc = server_pool_take(r->s->pool, &db);
	if (rc) {
		server_http_fail(r, rc);
		return;
	}
	check_rights(r, db, method, url);
	server_pool_give(r->s->pool, db);
	if (!r->answer.status)
		check_length(r, *length);
}
