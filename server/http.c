/*
 * Theory of operation.
 *
 * libmicrohttpd calls handle() for a request: once when the header is in, then with each piece of
 * the body, then with no data when the body is complete, and again after a resume. It takes an
 * answer only in the first call (and then closes the connection) or in the last ones. So a refusal
 * found early waits in r->answer while what is left of the body is read and dropped, when that is
 * little (DRAIN_MAX); when it is much, the answer goes out at once. In the middle of a chunked body
 * of unknown length neither is possible: there the answer is written to the socket directly, and
 * the connection closed.
 *
 * Time: libmicrohttpd ends connections that are silent for the header timeout (also those whose
 * client left in mid-body: the end of a stream that comes together with data is not always noticed
 * before). A client that sends a byte now and then is ended by server_http_tick() while in the
 * header, and by too_slow() while in the body.
 *
 * Connections that wait for the commit queue or the feed are suspended: they cost a descriptor and
 * no thread.
 */
#include "server/http.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/io.h"
#include "server/admit.h"
#include "server/listen.h"
#include "server/tasks.h"
#include "server/tls.h"

#define DRAIN_MAX (256u << 10)
#define CONNECTIONS_MAX 2000u
#define CONNECTION_MEMORY (64u << 10)
#define MIN_BYTES_PER_MS 8u        /* slower bodies are ended after the grace */
#define JSON_BUDGET (256ULL << 20) /* all JSON bodies in memory at one time */

struct connection {
	struct connection *prev, *next;
	struct http *http;
	int fd;
	bool busy;        /* has a request past its header */
	int64_t since_ms; /* not busy since */
};

struct http {
	struct MHD_Daemon *mhd;
	int listen_fd; /* the daemon's; what it is changes in server_http_quiesce() */
	bool quiesced;
	struct tls *tls;      /* or NULL */
	atomic_uint requests; /* under way */
	atomic_uint_fast64_t json_reserved;
	pthread_mutex_t lock;          /* guards the list and its members; a leaf */
	struct connection connections; /* head of the list */
};

void server_http_refuse(struct request *r, enum problem p, const char *detail)
{
	if (!r->answer.status)
		server_answer_problem(&r->answer, r->s->instance, p, detail, NULL);
}

void server_http_fail(struct request *r, int code)
{
	server_answer_error(&r->answer, r->s->instance, code);
}

/* ---- query parameters ---- */

struct wanted {
	const char *name, *value;
	unsigned times;
};

static enum MHD_Result find_parameter(
	void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct wanted *w = cls;

	(void)kind;
	if (!strcmp(name, w->name)) {
		w->value = value ? value : "";
		w->times++;
	}
	return MHD_YES;
}

const char *server_http_query(struct request *r, const char *name, char *out, size_t size)
{
	struct wanted w = { .name = name };
	size_t len;

	MHD_get_connection_values(r->conn, MHD_GET_ARGUMENT_KIND, find_parameter, &w);
	if (!w.times)
		return NULL;
	if (w.times == 1 && !server_wire_percent_decode(w.value, out, size, &len) &&
		strlen(out) == len)
		return out;
	server_http_refuse(r, PROBLEM_BAD_REQUEST, "a query parameter is not as it should be");
	return NULL;
}

/* ---- suspending ---- */

void server_http_suspend(struct request *r)
{
	r->suspended = true;
	MHD_suspend_connection(r->conn);
}

void server_http_resume(struct request *r)
{
	MHD_resume_connection(r->conn);
}

static void job_done(struct commit_job *job)
{
	server_http_resume(job->arg);
}

void server_http_submit(struct request *r)
{
	int rc;

	r->job.done = job_done;
	r->job.arg = r;
	/* Suspended first: the job may be done before submit returns. */
	server_http_suspend(r);
	rc = server_commit_submit(r->s->queue, &r->job);
	if (!rc)
		return;
	server_http_fail(r, -EBUSY);
	server_http_resume(r);
}

void server_http_run(struct request *r, struct tasks *tasks, struct task *task)
{
	server_http_suspend(r);
	if (!server_tasks_submit(tasks, task))
		return;
	server_http_fail(r, -EBUSY);
	server_http_resume(r);
}

void server_http_own(struct request *r, void *own, void (*free_own)(void *own))
{
	r->own = own;
	r->free_own = free_own;
}

void server_http_json(struct request *r, int rc)
{
	if (rc) {
		server_http_fail(r, rc);
		return;
	}
	r->answer.status = 200;
	r->answer.type = ANSWER_JSON;
}

/* ---- one request ---- */

static struct request *new_request(struct server *s, struct MHD_Connection *conn)
{
	struct request *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->s = s;
	r->conn = conn;
	r->started_ms = clock_boot_ms();
	server_answer_init(&r->answer);
	atomic_fetch_add(&s->http->requests, 1);
	return r;
}

static void free_request(struct request *r)
{
	struct http *h = r->s->http;

	server_upload_done(r->s->uploads, &r->upload);
	if (r->has_change)
		server_change_done(&r->change);
	for (size_t i = 0; i < r->n_batch; i++)
		server_change_done(&r->batch[i]);
	free(r->batch);
	if (r->free_own)
		r->free_own(r->own);
	buffer_done(&r->json);
	server_answer_done(&r->answer);
	atomic_fetch_sub(&h->json_reserved, r->reserved);
	atomic_fetch_sub(&h->requests, 1);
	free(r);
}

static enum MHD_Result send_answer(struct request *r)
{
	struct MHD_Response *response;
	enum MHD_Result ok;

	server_answer_pack(&r->answer, MHD_lookup_connection_value(r->conn, MHD_HEADER_KIND,
					       MHD_HTTP_HEADER_ACCEPT_ENCODING));
	if (atomic_load(&r->s->stopping))
		server_answer_header(&r->answer, MHD_HTTP_HEADER_CONNECTION, "close");
	r->answer.large_records = r->s->tls_cert != NULL;
	response = server_answer_build(&r->answer, r->s->instance);
	if (!response)
		return MHD_NO;
	ok = MHD_queue_response(r->conn, r->answer.status, response);
	MHD_destroy_response(response);
	return ok;
}

/*
 * The answer to a body that will not end, past libmicrohttpd: it takes no answer in mid-body.
 * Nothing else is being written on this connection, which is closed after it. With TLS the client
 * sees the connection end.
 */
static enum MHD_Result last_words(struct request *r)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(r->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
	char head[512];
	int n;

	if (!info || r->s->tls_cert)
		return MHD_NO;
	n = snprintf(head, sizeof(head),
		"HTTP/1.1 %u Refused\r\nConnection: close\r\nContent-Type: " ANSWER_PROBLEM
		"\r\nContent-Length: %zu\r\nCachet-Instance: %s\r\n\r\n",
		r->answer.status, r->answer.text.len, r->s->instance);
	if (send(info->connect_fd, head, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT | MSG_MORE) == n)
		(void)!send(info->connect_fd, r->answer.text.data, r->answer.text.len,
			MSG_NOSIGNAL | MSG_DONTWAIT);
	shutdown(info->connect_fd, SHUT_WR);
	return MHD_NO;
}

/* JSON bodies of all requests together have a bound. */
static int reserve_json(struct request *r, uint64_t len)
{
	struct http *h = r->s->http;

	if (atomic_fetch_add(&h->json_reserved, len) + len > JSON_BUDGET) {
		atomic_fetch_sub(&h->json_reserved, len);
		return -EBUSY;
	}
	r->reserved += len;
	return 0;
}

static void take_json(struct request *r, const char *data, size_t len)
{
	int rc;

	if (r->json.len + len > r->s->max_request_bytes) {
		server_http_refuse(r, PROBLEM_TOO_LARGE, "max_request_bytes");
		return;
	}
	rc = reserve_json(r, len);
	if (!rc)
		rc = buffer_append(&r->json, data, len);
	if (rc)
		server_http_fail(r, rc);
}

static void take_content(struct request *r, const char *data, size_t len)
{
	int rc = r->upload.upload ? server_upload_write(&r->upload, data, len)
				  : server_body_write(&r->change.body, data, len);

	if (rc == CE_TOO_LARGE)
		server_http_refuse(r, PROBLEM_TOO_LARGE, "max_record_bytes");
	else if (rc == -ESTALE)
		server_http_refuse(r, PROBLEM_NO_UPLOAD, "another request goes on with it");
	else if (rc)
		server_http_fail(r, rc);
}

static bool too_slow(const struct request *r)
{
	int64_t spent = clock_boot_ms() - r->started_ms - r->s->body_grace_ms;

	return spent > 0 && r->received / MIN_BYTES_PER_MS < (uint64_t)spent;
}

static enum MHD_Result take_body(struct request *r, const char *data, size_t len)
{
	r->received += len;
	if (r->answer.status) {
		/* Refused: what is left is dropped, within reason. */
		r->dropped += len;
		return r->dropped > DRAIN_MAX || too_slow(r) ? last_words(r) : MHD_YES;
	}
	if (too_slow(r)) {
		server_http_refuse(r, PROBLEM_TIMEOUT, NULL);
		return last_words(r);
	}
	if (r->route->body == BODY_JSON)
		take_json(r, data, len);
	else if (r->route->body == BODY_OWN)
		r->take(r, data, len);
	else
		take_content(r, data, len);
	return MHD_YES;
}

static enum MHD_Result header_in(struct request *r, const char *method, const char *url)
{
	uint64_t length = 0;

	if (atomic_load(&r->s->stopping))
		server_http_refuse(r, PROBLEM_BUSY, "the server is stopping");
	server_admit(r, method, url, &length);
	if (!r->answer.status && r->route->begin)
		r->route->begin(r);
	if (r->answer.status && (length > DRAIN_MAX || r->headers[HEADER_EXPECT]))
		return send_answer(r);
	return MHD_YES;
}

static enum MHD_Result body_in(struct request *r)
{
	bool resumed = r->suspended;

	r->suspended = false;
	if (!r->answer.status && !r->finished) {
		r->finished = true;
		r->route->finish(r);
	} else if (!r->answer.status && resumed) {
		r->route->resumed(r);
	}
	/* A suspended request is answered when it is resumed, even if the answer is here already.
	 */
	if (r->suspended)
		return MHD_YES;
	if (!r->answer.status)
		server_http_fail(r, -EIO);
	return send_answer(r);
}

static struct connection *connection_of(struct MHD_Connection *conn)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info ? info->socket_context : NULL;
}

static void set_busy(struct http *h, struct MHD_Connection *conn, bool busy)
{
	struct connection *c = connection_of(conn);

	if (!c)
		return;
	pthread_mutex_lock(&h->lock);
	c->busy = busy;
	c->since_ms = clock_boot_ms();
	pthread_mutex_unlock(&h->lock);
}

static enum MHD_Result handle(void *cls, struct MHD_Connection *conn, const char *url,
	const char *method, const char *version, const char *data, size_t *len, void **state)
{
	struct server *s = cls;
	struct request *r = *state;
	enum MHD_Result ok;

	(void)version;
	if (!r) {
		r = new_request(s, conn);
		if (!r)
			return MHD_NO;
		*state = r;
		set_busy(s->http, conn, true);
		return header_in(r, method, url);
	}
	if (!*len)
		return body_in(r);
	ok = take_body(r, data, *len);
	*len = 0;
	return ok;
}

static void completed(
	void *cls, struct MHD_Connection *conn, void **state, enum MHD_RequestTerminationCode code)
{
	struct server *s = cls;

	(void)code;
	if (!*state)
		return;
	free_request(*state);
	*state = NULL;
	set_busy(s->http, conn, false);
}

/* ---- connections ---- */

static void opened(struct http *h, struct MHD_Connection *conn, void **context)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct connection *c = info ? calloc(1, sizeof(*c)) : NULL;

	if (!c)
		return;
	c->http = h;
	c->fd = info->connect_fd;
	c->since_ms = clock_boot_ms();
	pthread_mutex_lock(&h->lock);
	c->next = &h->connections;
	c->prev = h->connections.prev;
	c->prev->next = c->next->prev = c;
	pthread_mutex_unlock(&h->lock);
	*context = c;
}

static void closed(struct http *h, void **context)
{
	struct connection *c = *context;

	if (!c)
		return;
	pthread_mutex_lock(&h->lock);
	c->prev->next = c->next;
	c->next->prev = c->prev;
	pthread_mutex_unlock(&h->lock);
	free(c);
	*context = NULL;
}

static void connection_event(void *cls, struct MHD_Connection *conn, void **context,
	enum MHD_ConnectionNotificationCode code)
{
	struct server *s = cls;

	if (code == MHD_CONNECTION_NOTIFY_STARTED)
		opened(s->http, conn, context);
	else
		closed(s->http, context);
}

void server_http_tick(struct server *s)
{
	struct http *h = s->http;
	int64_t limit = clock_boot_ms() - s->header_timeout_ms;

	pthread_mutex_lock(&h->lock);
	/* The descriptor is open as long as the connection is in the list: `closed` comes before
	 * its close. */
	for (struct connection *c = h->connections.next; c != &h->connections; c = c->next)
		if (!c->busy && c->since_ms < limit)
			shutdown(c->fd, SHUT_RDWR);
	pthread_mutex_unlock(&h->lock);
}

/* ---- start and stop ---- */

/* The path stays as it was sent: it is decoded strictly where it is used (a NUL in it would end it
 * silently). */
static size_t keep_escapes(void *cls, struct MHD_Connection *conn, char *text)
{
	(void)cls;
	(void)conn;
	return strlen(text);
}

/* libmicrohttpd's messages may quote what a client sent: not for a log. */
static void no_log(void *cls, const char *fmt, va_list ap)
{
	(void)cls;
	(void)fmt;
	(void)ap;
}

static void raise_descriptor_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l))
		return;
	l.rlim_cur = MIN_OF(l.rlim_max, (rlim_t)65536);
	setrlimit(RLIMIT_NOFILE, &l);
}

/*
 * GnuTLS asks at each handshake. What it hands over of ours is the session's pointer, which is
 * libmicrohttpd's connection.
 */
static int retrieve(gnutls_session_t session, const gnutls_datum_t *names, int n_names,
	const gnutls_pk_algorithm_t *algorithms, int n_algorithms, gnutls_pcert_st **chain,
	unsigned *length, gnutls_privkey_t *key)
{
	struct MHD_Connection *conn = gnutls_session_get_ptr(session);
	struct connection *c = conn ? connection_of(conn) : NULL;
	const struct tls_pair *pair = c ? server_tls_now(c->http->tls) : NULL;

	(void)names;
	(void)n_names;
	(void)algorithms;
	(void)n_algorithms;
	if (!pair)
		return -1;
	/* It only reads them, and they live as long as the server. */
	*chain = (gnutls_pcert_st *)(uintptr_t)pair->chain;
	*length = pair->length;
	*key = pair->key;
	return 0;
}

int server_http_reload(struct server *s, char **error)
{
	if (!s->tls_cert)
		return 0;
	if (!MHD_is_feature_supported(MHD_FEATURE_SSL))
		return -EOPNOTSUPP;
	return server_tls_load(&s->http->tls, s->tls_cert, s->tls_key, error);
}

static struct MHD_Daemon *start_daemon(struct server *s, int fd)
{
	unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME |
			 MHD_USE_ERROR_LOG | MHD_USE_TURBO;
	struct MHD_OptionItem tls[] = {
		{ MHD_OPTION_HTTPS_CERT_CALLBACK, 0, (void *)retrieve },
		{ MHD_OPTION_HTTPS_PRIORITIES, 0, "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2" },
		{ MHD_OPTION_END, 0, NULL },
	};

	if (!s->tls_cert)
		tls[0].option = MHD_OPTION_END;
	else
		flags |= MHD_USE_TLS;
	/* The logger is first, so that it is in place for whatever the others say. */
	return MHD_start_daemon(flags, 0, NULL, NULL, handle, s, MHD_OPTION_EXTERNAL_LOGGER, no_log,
		NULL, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_THREAD_POOL_SIZE, s->threads,
		MHD_OPTION_CONNECTION_LIMIT, MAX_OF(CONNECTIONS_MAX, s->threads),
		MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)(s->header_timeout_ms / 1000),
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
		MHD_OPTION_NOTIFY_COMPLETED, completed, s, MHD_OPTION_NOTIFY_CONNECTION,
		connection_event, s, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
		MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
}

static int new_http(struct server *s)
{
	struct http *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	h->connections.prev = h->connections.next = &h->connections;
	pthread_mutex_init(&h->lock, NULL);
	s->http = h;
	return 0;
}

int server_http_start(struct server *s, uint16_t *port, char **error)
{
	_cleanup_fd_ int fd = -1;
	int r = new_http(s);

	if (r)
		return r;
	raise_descriptor_limit();
	r = server_http_reload(s, error);
	if (!r)
		r = server_listen_open(s->listen, s->tls_cert == NULL, &fd, port, error);
	if (r)
		return r;
	s->http->mhd = start_daemon(s, fd);
	if (!s->http->mhd) {
		(void)!bytes_print(error, "cannot start serving");
		return -EINVAL;
	}
	s->http->listen_fd = steal_fd(&fd); /* the daemon's now */
	return 0;
}

/*
 * MHD_quiesce_daemon() (0.9.75) takes the socket out of the epoll sets of threads that, once told,
 * do so themselves; whoever comes second ends the process. So the socket goes from under them: its
 * last descriptor is replaced by one on which nothing ever happens, and with it the socket leaves
 * all epoll sets. Nobody can connect any more.
 */
void server_http_quiesce(struct server *s)
{
	struct http *h = s->http;
	_cleanup_fd_ int silent = -1;

	if (!h || !h->mhd || h->quiesced)
		return;
	h->quiesced = true;
	silent = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (silent < 0 || dup3(silent, h->listen_fd, O_CLOEXEC) < 0)
		shutdown(h->listen_fd, SHUT_RDWR); /* its threads will find out, again and again */
}

void server_http_drain(struct server *s, unsigned grace_ms)
{
	int64_t until = clock_boot_ms() + grace_ms;

	while (s->http && atomic_load(&s->http->requests) && clock_boot_ms() < until)
		usleep(5000);
}

void server_http_stop(struct server *s)
{
	struct http *h = s->http;

	if (!h)
		return;
	if (h->mhd)
		MHD_stop_daemon(h->mhd);
	server_tls_free(h->tls);
	pthread_mutex_destroy(&h->lock);
	free(h);
	s->http = NULL;
}
