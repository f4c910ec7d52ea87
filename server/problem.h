/*
 * Problems: every refusal the server knows, in one table (problem.c) of status, type and title, and
 * their JSON (RFC 9457). Handlers name a problem and say in one sentence what was wrong; details
 * never repeat a client's text.
 */
#ifndef CACHET_SERVER_PROBLEM_H
#define CACHET_SERVER_PROBLEM_H

#include "base/bytes.h"
#include "server/records.h"

enum problem {
	PROBLEM_NONE,
	PROBLEM_BAD_REQUEST,
	PROBLEM_BAD_NAME,
	PROBLEM_BAD_POINT,
	PROBLEM_BAD_CURVE,
	PROBLEM_UNAUTHORIZED,
	PROBLEM_FORBIDDEN,
	PROBLEM_NOT_YOURS,
	PROBLEM_DEVICE_REVOKED,
	PROBLEM_DEVICE_UNTRUSTED,
	PROBLEM_NO_RESOURCE,
	PROBLEM_NO_RECORD,
	PROBLEM_NO_STORE,
	PROBLEM_NO_QUERY,
	PROBLEM_NO_JOB,
	PROBLEM_NO_SUCH,
	PROBLEM_NO_KID,
	PROBLEM_METHOD,
	PROBLEM_TIMEOUT,
	PROBLEM_PLACE_TAKEN,
	PROBLEM_NO_PARENT,
	PROBLEM_NO_UPLOAD,
	PROBLEM_NOT_EMPTY,
	PROBLEM_LOOP,
	PROBLEM_NOT_A_DIRECTORY,
	PROBLEM_JOB_PENDING,
	PROBLEM_DELETED,
	PROBLEM_JOB_GONE,
	PROBLEM_CURSOR_GONE,
	PROBLEM_CURSOR_AHEAD,
	PROBLEM_LENGTH_REQUIRED,
	PROBLEM_PRECONDITION,
	PROBLEM_TOO_LARGE,
	PROBLEM_URI_TOO_LONG,
	PROBLEM_MEDIA_TYPE,
	PROBLEM_RANGE,
	PROBLEM_KEY_REUSED,
	PROBLEM_QUERY_FAILED,
	PROBLEM_DEPENDENCY,
	PROBLEM_PRECONDITION_REQUIRED,
	PROBLEM_TOO_MANY,
	PROBLEM_HEADERS_TOO_LARGE,
	PROBLEM_INTERNAL,
	PROBLEM_BUSY,
	PROBLEM_NO_SPACE,
	PROBLEM_COUNT
};

unsigned server_problem_status(enum problem p);
/* The problem of an internal error: no space, busy, or the server's own fault. */
enum problem server_problem_of(int code);

/* {"type":…,"title":…,"status":…,"detail":…,"instance_id":…[,"record":…]}; `detail`, `record` may
 * be NULL. */
int server_problem_print(struct buffer *b, enum problem p, const char *detail, const char *instance,
	const struct record *record) MUST_CHECK;

#endif
