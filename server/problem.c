#include "server/problem.h"

#include <errno.h>

#include "base/error.h"

static const struct {
	unsigned status;
	const char *type, *title;
} problems[PROBLEM_COUNT] = {
	[PROBLEM_BAD_REQUEST] = { 400, "bad-request", "The request is not one of the protocol" },
	[PROBLEM_BAD_NAME] = { 400, "bad-name", "The name is not allowed" },
	[PROBLEM_BAD_POINT] = { 400, "bad-point", "The public key is not a point of the curve" },
	[PROBLEM_BAD_CURVE] = { 400, "bad-curve", "The curve is not one the server knows" },
	[PROBLEM_UNAUTHORIZED] = { 401, "unauthorized", "A valid token is needed" },
	[PROBLEM_FORBIDDEN] = { 403, "forbidden", "The token does not allow this" },
	[PROBLEM_NOT_YOURS] = { 403, "not-yours", "The device is of another account" },
	[PROBLEM_DEVICE_REVOKED] = { 403, "device-revoked", "The device is revoked" },
	[PROBLEM_DEVICE_UNTRUSTED] = { 403, "device-untrusted", "The device is not trusted" },
	[PROBLEM_NO_RESOURCE] = { 404, "no-resource", "The protocol has no such address" },
	[PROBLEM_NO_RECORD] = { 404, "no-record", "There is no such record" },
	[PROBLEM_NO_STORE] = { 404, "no-store", "There is no such store" },
	[PROBLEM_NO_QUERY] = { 404, "no-query", "There is no such query" },
	[PROBLEM_NO_SUCH] = { 404, "no-such", "What the request names is not there" },
	[PROBLEM_NO_KID] = { 404, "no-kid", "There is no such key of this account" },
	[PROBLEM_NO_JOB] = { 404, "no-job", "There is no such job" },
	[PROBLEM_METHOD] = { 405, "method", "The address does not take this method" },
	[PROBLEM_TIMEOUT] = { 408, "timeout", "The request came too slowly" },
	[PROBLEM_PLACE_TAKEN] = { 409, "place-taken", "Another record stands there" },
	[PROBLEM_NO_PARENT] = { 409, "no-parent", "There is no such parent directory" },
	[PROBLEM_NO_UPLOAD] = { 409, "no-upload", "The body that is here does not end at this offset" },
	[PROBLEM_NOT_EMPTY] = { 409, "not-empty", "The directory is not empty" },
	[PROBLEM_LOOP] = { 409, "loop", "A directory cannot move below itself" },
	[PROBLEM_NOT_A_DIRECTORY] = { 409, "not-a-directory", "The record is not a directory" },
	[PROBLEM_JOB_PENDING] = { 409, "job-pending", "The job has no result yet" },
	[PROBLEM_JOB_GONE] = { 410, "job-gone", "The job has no result any more" },
	[PROBLEM_DELETED] = { 410, "deleted", "The record was deleted" },
	[PROBLEM_CURSOR_GONE] = { 410, "cursor-gone",
		"The cursor is no longer valid; start from nothing" },
	[PROBLEM_CURSOR_AHEAD] = { 410, "cursor-ahead",
		"The server's data are older than what it told already: a copy was put back" },
	[PROBLEM_LENGTH_REQUIRED] = { 411, "length-required",
		"The length of the body is not said" },
	[PROBLEM_PRECONDITION] = { 412, "precondition", "The record is not in the state named" },
	[PROBLEM_TOO_LARGE] = { 413, "too-large", "The request is beyond a limit" },
	[PROBLEM_URI_TOO_LONG] = { 414, "uri-too-long", "The address is too long" },
	[PROBLEM_MEDIA_TYPE] = { 415, "media-type", "The body has a coding that is not taken" },
	[PROBLEM_RANGE] = { 416, "range", "The range is not within the content" },
	[PROBLEM_KEY_REUSED] = { 422, "key-reused",
		"The idempotency key was used for another request" },
	[PROBLEM_QUERY_FAILED] = { 422, "query-failed", "The query has no answer" },
	[PROBLEM_DEPENDENCY] = { 424, "dependency", "An operation this one comes after failed" },
	[PROBLEM_PRECONDITION_REQUIRED] = { 428, "precondition-required",
		"A change needs If-Match or If-None-Match" },
	[PROBLEM_TOO_MANY] = { 429, "too-many", "Too many requests with a token that is not valid" },
	[PROBLEM_HEADERS_TOO_LARGE] = { 431, "headers-too-large", "The header is too large" },
	[PROBLEM_INTERNAL] = { 500, "internal", "The server failed; nothing was stored" },
	[PROBLEM_BUSY] = { 503, "busy", "The server is busy; try again" },
	[PROBLEM_NO_SPACE] = { 507, "no-space",
		"The server has no space left; nothing was stored" },
};

unsigned server_problem_status(enum problem p)
{
	return problems[p].status;
}

enum problem server_problem_of(int code)
{
	switch (code) {
	case -ENOSPC:
	case -EDQUOT:
		return PROBLEM_NO_SPACE;
	case -EBUSY:
	case -EMFILE:
	case -ENFILE:
	case -ENOMEM:
		return PROBLEM_BUSY;
	case CE_TOO_LARGE:
	case -EFBIG:
		return PROBLEM_TOO_LARGE;
	default:
		return PROBLEM_INTERNAL;
	}
}

int server_problem_print(struct buffer *b, enum problem p, const char *detail, const char *instance,
	const struct record *record)
{
	int r = buffer_printf(b, "{\"type\":\"urn:cachet:%s\",\"title\":\"%s\",\"status\":%u",
		problems[p].type, problems[p].title, problems[p].status);

	if (!r && detail)
		r = buffer_printf(b, ",\"detail\":");
	if (!r && detail)
		r = server_records_print_string(b, detail);
	if (!r)
		r = buffer_printf(b, ",\"instance_id\":\"%s\"", instance);
	if (!r && record)
		r = buffer_printf(b, ",\"record\":");
	if (!r && record)
		r = server_records_print(b, record, false);
	return r ? r : buffer_append(b, "}", 1);
}
