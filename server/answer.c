#include "server/answer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/gzip.h"

#define FILE_BLOCK (64u << 10)
#define PACK_MIN 1024 /* less fits into a packet or two as it is */

void server_answer_init(struct answer *a)
{
	*a = (struct answer){ .fd = -1 };
}

void server_answer_done(struct answer *a)
{
	buffer_done(&a->text);
	buffer_done(&a->record);
	cleanup_fd(&a->fd);
	if (a->give_back)
		a->give_back(a->lender);
	server_answer_init(a);
}

void server_answer_lend(struct answer *a, const void *data, size_t len, void *lender,
	void (*give_back)(void *lender))
{
	a->lent = data;
	a->lent_len = len;
	a->lender = lender;
	a->give_back = give_back;
}

void server_answer_stream(struct answer *a, uint64_t len, size_t block,
	ssize_t (*read)(void *lender, uint64_t at, char *out, size_t max), void *lender,
	void (*give_back)(void *lender))
{
	a->len = len;
	a->block = block;
	a->read = read;
	a->lender = lender;
	a->give_back = give_back;
}

void server_answer_header(struct answer *a, const char *name, const char *fmt, ...)
{
	va_list ap;

	if (a->n_headers == ANSWER_HEADERS_MAX)
		return;
	a->headers[a->n_headers].name = name;
	va_start(ap, fmt);
	vsnprintf(a->headers[a->n_headers].value, ANSWER_VALUE_SIZE, fmt, ap);
	va_end(ap);
	a->n_headers++;
}

void server_answer_problem(struct answer *a, const char *instance, enum problem p,
	const char *detail, const struct record *record)
{
	server_answer_done(a);
	a->status = server_problem_status(p);
	a->type = ANSWER_PROBLEM;
	if (server_problem_print(&a->text, p, detail, instance, record))
		a->text.len = 0;
	if (p == PROBLEM_UNAUTHORIZED)
		server_answer_header(
			a, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer realm=\"cachet\"");
	if (p == PROBLEM_BUSY)
		server_answer_header(a, MHD_HTTP_HEADER_RETRY_AFTER, "1");
}

void server_answer_error(struct answer *a, const char *instance, int code)
{
	server_answer_problem(a, instance, server_problem_of(code), NULL, NULL);
}

static bool has_etag(const struct answer *a)
{
	for (unsigned i = 0; i < a->n_headers; i++)
		if (!strcmp(a->headers[i].name, MHD_HTTP_HEADER_ETAG))
			return true;
	return false;
}

void server_answer_pack(struct answer *a, const char *accept_encoding)
{
	if (a->status != MHD_HTTP_OK || !a->type || strcmp(a->type, ANSWER_JSON) != 0 ||
		a->text.len < PACK_MIN || has_etag(a))
		return;
	server_answer_header(a, MHD_HTTP_HEADER_VARY, MHD_HTTP_HEADER_ACCEPT_ENCODING);
	/* What cannot be coded goes out as it is. */
	if (server_gzip_accepted(accept_encoding) && !server_gzip_pack(&a->text))
		server_answer_header(a, MHD_HTTP_HEADER_CONTENT_ENCODING, "gzip");
}

/* Never asked for anything: there is no body in a 304. */
static ssize_t no_body(void *cls, uint64_t at, char *buf, size_t max)
{
	(void)cls;
	(void)at;
	(void)buf;
	(void)max;
	return MHD_CONTENT_READER_END_WITH_ERROR;
}

struct file {
	int fd;
	uint64_t first;
};

static ssize_t read_file(void *cls, uint64_t at, char *buf, size_t max)
{
	const struct file *f = cls;
	ssize_t n = pread(f->fd, buf, max, (off_t)(f->first + at));

	return n > 0 ? n : MHD_CONTENT_READER_END_WITH_ERROR;
}

static void close_file(void *cls)
{
	struct file *f = cls;

	cleanup_fd(&f->fd);
	free(f);
}

/* libmicrohttpd hands a file to the kernel, or to TLS in pieces of 4 KiB, each a record of its own. */
static struct MHD_Response *build_file(struct answer *a)
{
	struct MHD_Response *response;
	struct file *f;

	if (!a->large_records || a->len <= FILE_BLOCK)
		return MHD_create_response_from_fd_at_offset64(a->len, a->fd, a->first);
	f = malloc(sizeof(*f));
	if (!f)
		return NULL;
	*f = (struct file){ a->fd, a->first };
	response = MHD_create_response_from_callback(a->len, FILE_BLOCK, read_file, f, close_file);
	if (!response)
		free(f);
	return response;
}

static struct MHD_Response *build_lent(struct answer *a)
{
	struct MHD_Response *response;

	if (a->read)
		response = MHD_create_response_from_callback(
			a->len, a->block, a->read, a->lender, a->give_back);
	else
		response = MHD_create_response_from_buffer_with_free_callback_cls(a->lent_len,
			(void *)(uintptr_t)(a->lent_len ? a->lent : ""), a->give_back, a->lender);
	if (response)
		a->give_back = NULL;
	return response;
}

static struct MHD_Response *build_body(struct answer *a)
{
	struct MHD_Response *response;

	/* RFC 9110 section 8.6: the length a 304 names is that of the 200 it stands for. */
	if (a->status == MHD_HTTP_NOT_MODIFIED)
		return MHD_create_response_from_callback(a->len, 1, no_body, NULL, NULL);
	if (a->fd >= 0) {
		response = build_file(a);
		if (response)
			a->fd = -1;
		return response;
	}
	if (a->give_back)
		return build_lent(a);
	if (!a->text.data)
		return MHD_create_response_from_buffer(0, "", MHD_RESPMEM_PERSISTENT);
	response =
		MHD_create_response_from_buffer(a->text.len, a->text.data, MHD_RESPMEM_MUST_FREE);
	if (response)
		a->text = (struct buffer){ 0 };
	return response;
}

/* A page runs nothing but its own script, in no frame, and tells other sites nothing. */
static void add_policy(struct MHD_Response *response, const char *policy)
{
	MHD_add_response_header(response, "Content-Security-Policy", policy);
	MHD_add_response_header(response, "X-Frame-Options", "DENY");
	MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
	MHD_add_response_header(response, "Cross-Origin-Opener-Policy", "same-origin");
}

struct MHD_Response *server_answer_build(struct answer *a, const char *instance)
{
	struct MHD_Response *response = build_body(a);

	if (!response)
		return NULL;
	MHD_add_response_header(response, "Cachet-Instance", instance);
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "private, no-cache");
	if (a->type)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, a->type);
	if (a->policy)
		add_policy(response, a->policy);
	if (a->record.len)
		MHD_add_response_header(response, "Cachet-Record", a->record.data);
	for (unsigned i = 0; i < a->n_headers; i++)
		MHD_add_response_header(response, a->headers[i].name, a->headers[i].value);
	return response;
}
