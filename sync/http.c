/*
 * Theory of operation. Each call is one easy handle of the one multi handle. libcurl's callbacks
 * fill the call's http_answer; what they object to is noted in `why` and ends the transfer, so that
 * http_finish() reports our reason and not libcurl's "write error". Easy handles are pooled:
 * connections live in the multi handle anyway.
 *
 * The authorisation line is built once in secret memory and shared by the header lists of all calls
 * (struct auth): a token that is replaced stays until the last call that was started with it has
 * ended.
 *
 * Rates. A transfer that may not send (or take) more now is paused and queues up; pieces are handed
 * out in that order, one each (release()). So whoever has little to send is through after a round or
 * two, whatever else is under way.
 */
#include "sync/http.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "sync/rate.h"

#define POOL_MAX 16
#define BUFFER_BYTES (512L << 10)

struct auth {
	unsigned refs;
	struct secret *line; /* "Authorization: Bearer …" with its NUL */
};

struct http {
	CURLM *multi;
	char *base;
	char *ca_file;
	bool plain;
	struct auth *auth;
	struct http_transfer *transfers;
	CURL *pool[POOL_MAX];
	size_t pooled;
	struct http_counts counts;
	struct rate rates[2]; /* by enum way */
	uint64_t tickets;
};

enum way { UP, DOWN };

/* One way of a transfer under a rate. */
struct lane {
	uint64_t ticket; /* of its place in the queue; 0 = it does not wait */
	size_t granted;
};

struct http_transfer {
	struct http *h;
	struct http_transfer *next, *prev;
	CURL *easy;
	struct auth *auth;
	struct curl_slist auth_node; /* first of the list: data borrowed from auth */
	struct curl_slist *headers;  /* the others */
	struct http_call call;
	struct http_answer answer;
	struct buffer body;
	size_t header_bytes;
	uint64_t sent;
	struct lane lanes[2];
	enum { BODY_NONE, BODY_SINK, BODY_BUFFER } body_to;
	int why;
	char why_text[HTTP_TEXT_MAX];
	char error[CURL_ERROR_SIZE];
};

/* --- URL --- */

static bool is_loopback(const char *host)
{
	unsigned a, b, c, d;
	char end;

	if (!strcasecmp(host, "localhost") || !strcmp(host, "[::1]"))
		return true;
	return sscanf(host, "%3u.%3u.%3u.%3u%c", &a, &b, &c, &d, &end) == 4 && a == 127 &&
	       b < 256 && c < 256 && d < 256;
}

static void url_cleanup(CURLU **u)
{
	curl_url_cleanup(*u);
}

static void curl_freep(char **p)
{
	curl_free(*p);
}

static bool has_part(CURLU *u, CURLUPart what)
{
	_cleanup_(curl_freep) char *part = NULL;

	return curl_url_get(u, what, &part, 0) == CURLUE_OK;
}

static const char *url_complaint(CURLU *u, const char *url)
{
	_cleanup_(curl_freep) char *scheme = NULL, *host = NULL;

	if (curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK ||
		curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
		curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK || !*host)
		return "the origin is not a URL; write https://HOST[:PORT][/PATH]";
	if (has_part(u, CURLUPART_USER) || has_part(u, CURLUPART_PASSWORD) ||
		has_part(u, CURLUPART_QUERY) || has_part(u, CURLUPART_FRAGMENT))
		return "the origin's URL may not have a user, a query or a fragment";
	if (!strcasecmp(scheme, "https"))
		return NULL;
	if (strcasecmp(scheme, "http"))
		return "the origin's URL must begin with https://";
	if (!is_loopback(host))
		return "plain http is for this machine (loopback) only; use https://";
	return NULL;
}

int http_check_url(const char *url, char **base, char **error)
{
	_cleanup_(url_cleanup) CURLU *u = curl_url();
	_cleanup_(curl_freep) char *whole = NULL;
	const char *complaint;
	char *copy;
	size_t len;

	if (!u)
		return -ENOMEM;
	complaint = url_complaint(u, url);
	if (complaint) {
		*error = strdup(complaint);
		return CE_USAGE;
	}
	if (curl_url_get(u, CURLUPART_URL, &whole, 0) != CURLUE_OK)
		return -ENOMEM;
	copy = strdup(whole);
	if (!copy)
		return -ENOMEM;
	for (len = strlen(copy); len && copy[len - 1] == '/'; len--)
		copy[len - 1] = 0;
	*base = copy;
	return 0;
}

int http_escape(struct buffer *b, const char *text)
{
	static const char keep[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
	int r = 0;

	for (; *text && !r; text++) {
		if (strchr(keep, *text))
			r = buffer_append(b, text, 1);
		else
			r = buffer_printf(b, "%%%02X", (unsigned)(uint8_t)*text);
	}
	return r;
}

/* --- life --- */

static void auth_unref(struct auth *a)
{
	if (!a || --a->refs)
		return;
	secret_free(a->line);
	free(a);
}

int http_new(const char *base, const char *ca_file, struct http **out)
{
	struct http *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	curl_global_init(CURL_GLOBAL_DEFAULT);
	h->plain = !strncasecmp(base, "http:", 5);
	h->multi = curl_multi_init();
	h->base = strdup(base);
	h->ca_file = ca_file ? strdup(ca_file) : NULL;
	if (!h->multi || !h->base || (ca_file && !h->ca_file)) {
		http_free(h);
		return -ENOMEM;
	}
	curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, 32L);
	*out = h;
	return 0;
}

void http_free(struct http *h)
{
	if (!h)
		return;
	while (h->transfers)
		http_abort(h->transfers);
	while (h->pooled)
		curl_easy_cleanup(h->pool[--h->pooled]);
	if (h->multi)
		curl_multi_cleanup(h->multi);
	auth_unref(h->auth);
	free(h->base);
	free(h->ca_file);
	free(h);
}

int http_set_token(struct http *h, const struct secret *token)
{
	static const char prefix[] = "Authorization: Bearer ";
	size_t len = token ? secret_len(token) : 0, start = sizeof(prefix) - 1;
	struct auth *a;
	int r;

	for (size_t i = 0; i < len; i++)
		if (secret_cbytes(token)[i] <= ' ' || secret_cbytes(token)[i] >= 0x7f)
			return CE_USAGE;
	if (!len) {
		auth_unref(steal_ptr(&h->auth));
		return 0;
	}
	a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	r = secret_new(start + len + 1, &a->line);
	if (r) {
		free(a);
		return r;
	}
	memcpy(secret_bytes(a->line), prefix, start);
	memcpy(secret_bytes(a->line) + start, secret_cbytes(token), len);
	a->refs = 1;
	auth_unref(h->auth);
	h->auth = a;
	return 0;
}

/* --- libcurl's callbacks --- */

static void copy_value(char *out, size_t max, const char *value, size_t len)
{
	if (len >= max)
		len = max - 1;
	memcpy(out, value, len);
	out[len] = 0;
}

static void take_header(struct http_answer *a, const char *line, size_t len)
{
	const struct {
		const char *name;
		char *to;
		size_t max;
	} known[] = {
		{ "content-type", a->content_type, sizeof(a->content_type) },
		{ "etag", a->etag, sizeof(a->etag) },
		{ "cachet-instance", a->instance, sizeof(a->instance) },
		{ "content-range", a->content_range, sizeof(a->content_range) },
		{ "retry-after", a->retry_after, sizeof(a->retry_after) },
	};
	const char *colon = memchr(line, ':', len), *value;
	size_t name_len;

	if (!colon)
		return;
	name_len = (size_t)(colon - line);
	for (value = colon + 1; value < line + len && (*value == ' ' || *value == '\t'); value++)
		;
	while (line + len > value && strchr(" \t\r\n", line[len - 1]))
		len--;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strlen(known[i].name) == name_len &&
			!strncasecmp(line, known[i].name, name_len))
			copy_value(known[i].to, known[i].max, value, (size_t)(line + len - value));
	if (name_len == 15 && !strncasecmp(line, "cachet-replayed", 15))
		a->replayed = line + len - value == 4 && !memcmp(value, "true", 4);
}

static void clear_headers(struct http_answer *a)
{
	*a = (struct http_answer){ .content_length = -1 };
}

static void object(struct http_transfer *t, int why, const char *text)
{
	if (t->why)
		return;
	t->why = why;
	snprintf(t->why_text, sizeof(t->why_text), "%s", text);
}

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
	struct http_transfer *t = arg;
	size_t len = size * n;

	t->header_bytes += len;
	if (t->header_bytes > HTTP_HEADER_MAX_BYTES) {
		object(t, CE_PROTOCOL, "the answer's header is too long");
		return 0;
	}
	if (t->body_to != BODY_NONE)
		return len; /* trailers say nothing to us */
	if (len > 5 && !memcmp(line, "HTTP/", 5))
		clear_headers(&t->answer); /* a new answer after an interim one */
	else
		take_header(&t->answer, line, len);
	return len;
}

static void take_status(struct http_transfer *t)
{
	curl_off_t length = -1;
	long status = 0;

	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	t->answer.status = (int)status;
	t->answer.content_length = length;
}

static int begin_body(struct http_transfer *t)
{
	int r = 1;

	take_status(t);
	if (t->call.sink)
		r = t->call.begin(t->call.arg, &t->answer);
	if (r < 0)
		return r;
	t->body_to = r ? BODY_BUFFER : BODY_SINK;
	t->body.max = t->answer.status / 100 == 2 && t->call.max_body ? t->call.max_body
								      : HTTP_ERROR_MAX_BYTES;
	return 0;
}

/* --- rates --- */

static struct http_transfer *first_waiting(const struct http *h, enum way way)
{
	struct http_transfer *found = NULL;

	for (struct http_transfer *t = h->transfers; t; t = t->next)
		if (t->lanes[way].ticket &&
			(!found || t->lanes[way].ticket < found->lanes[way].ticket))
			found = t;
	return found;
}

/* How much of `want` may go now; 0: it waits for its turn. */
static size_t take_turn(struct http_transfer *t, enum way way, size_t want)
{
	struct lane *lane = &t->lanes[way];

	if (!t->h->rates[way].per_s && !lane->ticket)
		return want;
	if (!lane->granted && !lane->ticket && !first_waiting(t->h, way))
		lane->granted = rate_take(&t->h->rates[way], want, (uint64_t)clock_boot_ms());
	if (!lane->granted && !lane->ticket)
		lane->ticket = ++t->h->tickets;
	return MIN_OF(want, lane->granted);
}

/* Lets go whose turn it is; ms until the next one's, UINT64_MAX = nobody waits. */
static uint64_t release(struct http *h, enum way way)
{
	struct rate *rate = &h->rates[way];
	struct http_transfer *t;
	uint64_t now = (uint64_t)clock_boot_ms();

	while ((t = first_waiting(h, way)) && !rate_wait_ms(rate, now)) {
		t->lanes[way] = (struct lane){ .granted = rate_take(rate, BUFFER_BYTES, now) };
		curl_easy_pause(t->easy, CURLPAUSE_CONT);
	}
	return t ? rate_wait_ms(rate, now) : UINT64_MAX;
}

void http_set_rates(struct http *h, uint64_t up, uint64_t down)
{
	rate_set(&h->rates[UP], up, (uint64_t)clock_boot_ms());
	rate_set(&h->rates[DOWN], down, (uint64_t)clock_boot_ms());
}

/* It has come in one piece: what is more than was granted is a debt. */
static void charge_received(struct http_transfer *t, size_t len)
{
	struct lane *lane = &t->lanes[DOWN];

	if (len > lane->granted)
		rate_charge(&t->h->rates[DOWN], len - lane->granted, (uint64_t)clock_boot_ms());
	lane->granted -= MIN_OF(len, lane->granted);
	t->h->counts.received += len;
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
	struct http_transfer *t = arg;
	size_t len = size * n;
	int r = 0;

	if (len && !take_turn(t, DOWN, len))
		return CURL_WRITEFUNC_PAUSE;
	if (t->body_to == BODY_NONE)
		r = begin_body(t);
	if (!r && t->body_to == BODY_SINK)
		r = t->call.sink(t->call.arg, data, len);
	else if (!r)
		r = buffer_append(&t->body, data, len);
	if (r == HTTP_PAUSE && t->body_to == BODY_SINK)
		return CURL_WRITEFUNC_PAUSE;
	if (r == CE_TOO_LARGE)
		object(t, CE_PROTOCOL, "the answer is longer than this call allows");
	else if (r)
		object(t, r, error_text(r));
	if (r)
		return 0;
	charge_received(t, len);
	return len;
}

/* A body that is sent under a rate goes through on_source like any other. */
static ssize_t body_source(void *arg, void *buf, size_t len, uint64_t off)
{
	const struct http_transfer *t = arg;

	memcpy(buf, t->call.body + off, len);
	return (ssize_t)len;
}

static size_t on_source(char *buf, size_t size, size_t n, void *arg)
{
	struct http_transfer *t = arg;
	uint64_t left = (t->call.body ? t->call.body_len : t->call.source_len) - t->sent;
	size_t len;
	ssize_t got;

	if (!left)
		return 0;
	len = take_turn(t, UP, MIN_OF(left, size * n));
	if (!len)
		return CURL_READFUNC_PAUSE;
	got = t->call.body ? body_source(t, buf, len, t->sent)
			   : t->call.source(t->call.arg, buf, len, t->sent);
	if (!got)
		return CURL_READFUNC_PAUSE;
	if (got < 0) {
		object(t, (int)got, "the content to send cannot be read");
		return CURL_READFUNC_ABORT;
	}
	t->lanes[UP].granted -= MIN_OF((size_t)got, t->lanes[UP].granted);
	t->sent += (uint64_t)got;
	t->h->counts.sent += (uint64_t)got;
	return (size_t)got;
}

/* libcurl begins again, on another connection. */
static int on_seek(void *arg, curl_off_t off, int origin)
{
	struct http_transfer *t = arg;

	if (origin != SEEK_SET || off != 0)
		return CURL_SEEKFUNC_CANTSEEK;
	t->sent = 0;
	return CURL_SEEKFUNC_OK;
}

/* --- calls --- */

static CURL *easy_get(struct http *h)
{
	return h->pooled ? h->pool[--h->pooled] : curl_easy_init();
}

static void easy_put(struct http *h, CURL *easy)
{
	if (!easy)
		return;
	curl_easy_reset(easy);
	if (h->pooled < POOL_MAX)
		h->pool[h->pooled++] = easy;
	else
		curl_easy_cleanup(easy);
}

static void transfer_free(struct http_transfer *t)
{
	easy_put(t->h, t->easy);
	curl_slist_free_all(t->headers);
	auth_unref(t->auth);
	buffer_done(&t->body);
	free(t->call.body);
	free(t);
}

static void transfer_unlink(struct http_transfer *t)
{
	curl_multi_remove_handle(t->h->multi, t->easy);
	if (t->prev)
		t->prev->next = t->next;
	else
		t->h->transfers = t->next;
	if (t->next)
		t->next->prev = t->prev;
}

static void set_safety(struct http_transfer *t)
{
	unsigned idle_s = t->call.idle_s ? t->call.idle_s : HTTP_SLOW_S;
	CURL *e = t->easy;

	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, t->h->plain ? "http" : "https");
	curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_NOPROGRESS, 1L);
	curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (t->h->plain)
		curl_easy_setopt(e, CURLOPT_PROXY, "");
	if (t->h->ca_file)
		curl_easy_setopt(e, CURLOPT_CAINFO, t->h->ca_file);
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)HTTP_CONNECT_MS);
	curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, (long)HTTP_SLOW_BYTES);
	curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, (long)idle_s);
	curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(e, CURLOPT_USERAGENT, "cachet/" CACHET_VERSION);
	curl_easy_setopt(e, CURLOPT_BUFFERSIZE, BUFFER_BYTES);
	curl_easy_setopt(e, CURLOPT_UPLOAD_BUFFERSIZE, BUFFER_BYTES);
}

static void set_callbacks(struct http_transfer *t)
{
	CURL *e = t->easy;

	curl_easy_setopt(e, CURLOPT_PRIVATE, t);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->error);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
}

static void set_source(struct http_transfer *t, uint64_t len)
{
	CURL *e = t->easy;

	curl_easy_setopt(e, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(e, CURLOPT_READFUNCTION, on_source);
	curl_easy_setopt(e, CURLOPT_READDATA, t);
	curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, on_seek);
	curl_easy_setopt(e, CURLOPT_SEEKDATA, t);
	curl_easy_setopt(e, CURLOPT_INFILESIZE_LARGE, (curl_off_t)len);
}

static void set_request(struct http_transfer *t)
{
	const struct http_call *c = &t->call;
	CURL *e = t->easy;

	if (c->source || !strcmp(c->method, "PUT")) {
		set_source(t, c->source_len);
	} else if (c->body && t->h->rates[UP].per_s) {
		set_source(t, c->body_len);
	} else if (c->body) {
		curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->body_len);
		curl_easy_setopt(e, CURLOPT_POSTFIELDS, c->body);
	}
	if (strcmp(c->method, "GET"))
		curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, c->method);
}

static int set_headers(struct http_transfer *t)
{
	struct curl_slist *grown;

	for (size_t i = 0; i < ARRAY_SIZE(t->call.headers) && t->call.headers[i]; i++) {
		grown = curl_slist_append(t->headers, t->call.headers[i]);
		if (!grown)
			return -ENOMEM;
		t->headers = grown;
	}
	if (t->h->auth) {
		t->auth = t->h->auth;
		t->auth->refs++;
		t->auth_node.data = (char *)secret_bytes(t->auth->line);
		t->auth_node.next = t->headers;
	}
	curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->auth ? &t->auth_node : t->headers);
	return 0;
}

static int set_url(struct http_transfer *t)
{
	_cleanup_(buffer_done) struct buffer url = { .max = 64 << 10 };
	int r = buffer_printf(&url, "%s%s", t->h->base, t->call.path);

	if (!r && curl_easy_setopt(t->easy, CURLOPT_URL, url.data) != CURLE_OK)
		r = -ENOMEM;
	return r;
}

int http_start(struct http *h, struct http_call *c, struct http_transfer **out)
{
	struct http_transfer *t = calloc(1, sizeof(*t));
	int r;

	if (!t) {
		free(c->body);
		return -ENOMEM;
	}
	t->h = h;
	t->call = *c;
	clear_headers(&t->answer);
	t->easy = easy_get(h);
	r = t->easy ? set_url(t) : -ENOMEM;
	if (!r)
		r = set_headers(t);
	if (!r) {
		set_safety(t);
		set_callbacks(t);
		set_request(t);
		r = curl_multi_add_handle(h->multi, t->easy) == CURLM_OK ? 0 : -ENOMEM;
	}
	if (r) {
		transfer_free(t);
		return r;
	}
	t->next = h->transfers;
	if (t->next)
		t->next->prev = t;
	h->transfers = t;
	h->counts.requests++;
	if (c->body && !h->rates[UP].per_s)
		h->counts.sent += c->body_len;
	*out = t;
	return 0;
}

void http_abort(struct http_transfer *t)
{
	transfer_unlink(t);
	transfer_free(t);
}

void http_resume(struct http_transfer *t)
{
	curl_easy_pause(t->easy, CURLPAUSE_CONT);
}

/* --- ends --- */

static int code_of(CURLcode c)
{
	switch (c) {
	case CURLE_OK:
		return 0;
	case CURLE_OUT_OF_MEMORY: /* also libcurl's word for a header line beyond its own limit */
	case CURLE_PARTIAL_FILE:
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_BAD_CONTENT_ENCODING:
	case CURLE_BAD_FUNCTION_ARGUMENT:
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
		return CE_PROTOCOL;
	default:
		return CE_OFFLINE;
	}
}

static void finish(struct http_transfer *t, CURLcode c)
{
	struct http_answer *a = &t->answer;

	take_status(t);
	a->body = t->body.data ? t->body.data : "";
	a->body_len = t->body.len;
	a->code = t->why ? t->why : code_of(c);
	if (t->why)
		snprintf(a->text, sizeof(a->text), "%s", t->why_text);
	else if (c != CURLE_OK)
		snprintf(a->text, sizeof(a->text), "%.*s", HTTP_TEXT_MAX - 1,
			*t->error ? t->error : curl_easy_strerror(c));
	transfer_unlink(t);
	t->call.done(t->call.arg, a);
	transfer_free(t);
}

void http_run(struct http *h, unsigned timeout_ms)
{
	struct http_transfer *t;
	CURLMsg *message;
	int running, left;
	uint64_t up = release(h, UP), down = release(h, DOWN), turn = MIN_OF(up, down);

	turn = MIN_OF(turn, MIN_OF(timeout_ms, 60000u));
	curl_multi_poll(h->multi, NULL, 0, (int)turn, NULL);
	curl_multi_perform(h->multi, &running);
	while ((message = curl_multi_info_read(h->multi, &left))) {
		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&t);
		finish(t, message->data.result);
	}
}

void http_wake(struct http *h)
{
	curl_multi_wakeup(h->multi);
}

void http_counts(const struct http *h, struct http_counts *out)
{
	*out = h->counts;
}
