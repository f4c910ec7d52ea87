/*
 * An answer being put together: status, headers, and a body that is a text or a part of an open
 * file. Setting a problem throws away what was there. Out of memory ends in status 500 without a
 * body.
 */
#ifndef CACHET_SERVER_ANSWER_H
#define CACHET_SERVER_ANSWER_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "server/problem.h"

#define ANSWER_HEADERS_MAX 8
#define ANSWER_VALUE_SIZE 96

#define ANSWER_JSON "application/json"
#define ANSWER_PROBLEM "application/problem+json"
#define ANSWER_BYTES "application/octet-stream"

struct answer {
	unsigned status; /* 0: none yet */
	const char *type;
	const char *policy; /* of a page: Content-Security-Policy and what goes with it */
	struct buffer text;
	struct buffer record; /* value of Cachet-Record */
	int fd;               /* or -1 */
	bool large_records;   /* over TLS: a file goes out in pieces of a record's size and more */
	const void *lent;     /* lent_len bytes of somebody who is told when they were sent */
	size_t lent_len;
	ssize_t (*read)(void *lender, uint64_t at, char *out, size_t max); /* instead of `lent` */
	size_t block;
	void *lender;
	void (*give_back)(void *lender);
	uint64_t first, len;  /* of the file; in a 304, len of the content not sent */
	struct {
		const char *name;
		char value[ANSWER_VALUE_SIZE];
	} headers[ANSWER_HEADERS_MAX];
	unsigned n_headers;
};

void server_answer_init(struct answer *a);
void server_answer_done(struct answer *a);
void server_answer_header(struct answer *a, const char *name, const char *fmt, ...)
	PRINTF_LIKE(3, 4);
/* The body is `data`, read until give_back(lender) is called. */
void server_answer_lend(struct answer *a, const void *data, size_t len, void *lender,
	void (*give_back)(void *lender));
/* The body is `len` bytes that `read` gives, as libmicrohttpd asks, in blocks. */
void server_answer_stream(struct answer *a, uint64_t len, size_t block,
	ssize_t (*read)(void *lender, uint64_t at, char *out, size_t max), void *lender,
	void (*give_back)(void *lender));
/* `detail`, `record` may be NULL. */
void server_answer_problem(struct answer *a, const char *instance, enum problem p,
	const char *detail, const struct record *record);
/* For an internal error code. */
void server_answer_error(struct answer *a, const char *instance, int code);
/* Codes a larger JSON text with gzip if the client takes it; `accept_encoding` may be NULL. An
 * answer with an ETag stays as it is: that names these bytes, and ranges count them. */
void server_answer_pack(struct answer *a, const char *accept_encoding);
/* Takes the text and the descriptor out of the answer; NULL when memory is short. */
struct MHD_Response *server_answer_build(struct answer *a, const char *instance);

#endif
