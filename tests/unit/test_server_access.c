/*
 * Who may do what, on a running server, for every route of its own table: a route that is added
 * without its right is found here. A route with a placeholder that this file does not know fails:
 * say what stands for it, of account "anna", who has it all; "bert" must get none of it.
 */
#include "unit.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/bytes.h"
#include "base/secret.h"
#include "crypto/enroll.h"
#include "server/http.h"
#include "server/server.h"
#include "server/tokens.h"

#define MARK "annas-"
#define STORE MARK "store"
#define RECORD MARK "record"
#define DEVICE MARK "device"
#define ANSWER_MAX 65536

struct fixture {
	struct unit_dir dir;
	struct server *s;
	char *anna, *anna_read_only, *bert, *admin, *revoked, *expired;
	char dkid[33]; /* anna's */
};

static char *token(struct fixture *f, const struct server_token_options *o)
{
	char *text = NULL, *error = NULL;

	assert_int_equal(server_token_add(f->dir.path, o, &text, &error), 0);
	return text;
}

/* The status; the answer, header and all, in `out`. */
static int call(struct fixture *f, const char *auth, const char *method, const char *path,
	const char *headers, const char *body, char out[ANSWER_MAX])
{
	struct sockaddr_in a = {
		.sin_family = AF_INET,
		.sin_port = htons(server_port(f->s)),
		.sin_addr = { htonl(INADDR_LOOPBACK) },
	};
	_cleanup_fd_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	_cleanup_free_ char *request = NULL;
	size_t len = 0;
	ssize_t n;
	int status = 0;

	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_true(
		asprintf(&request,
			"%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s%s%s%sContent-Length: "
			"%zu\r\n\r\n%s",
			method, path, auth ? "Authorization: Bearer " : "", auth ? auth : "",
			auth ? "\r\n" : "", headers, strlen(body), body) > 0);
	assert_int_equal(write(fd, request, strlen(request)), (ssize_t)strlen(request));
	while (len < ANSWER_MAX - 1 && (n = read(fd, out + len, ANSWER_MAX - 1 - len)) > 0)
		len += (size_t)n;
	out[len] = 0;
	assert_int_equal(sscanf(out, "HTTP/1.1 %d", &status), 1);
	return status;
}

static void start(struct fixture *f)
{
	const struct server_options o = { .dir = f->dir.path, .listen = "127.0.0.1:0" };
	char *error = NULL;

	assert_int_equal(server_open(&o, &f->s, &error), 0);
	assert_int_equal(server_start(f->s, &error), 0);
}

/* A device of anna's; its public key is a point of the curve. */
static void enrol(struct fixture *f, const char *id, char dkid[33])
{
	uint8_t point[ENROLL_POINT_LEN];
	_cleanup_secret_ struct secret *private_key = NULL;
	_cleanup_free_ char *text = NULL, *body = NULL;
	char out[ANSWER_MAX];

	assert_int_equal(enroll_device_make(&private_key, point), 0);
	assert_int_equal(bytes_to_base64(point, sizeof(point), &text), 0);
	assert_true(asprintf(&body, "{\"dk_pub\":\"%s\",\"curve\":\"p256\",\"device_id\":\"%s\"}",
			    text, id) > 0);
	assert_int_equal(call(f, f->anna, "POST", "/v1/devices", "", body, out), 200);
	memcpy(dkid, strstr(out, "\"dkid\":\"") + 8, 32);
	dkid[32] = 0;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char out[ANSWER_MAX], *error = NULL;

	assert_int_equal(secret_init(false), 0);
	unit_dir_init(&f->dir);
	assert_int_equal(server_store_add(f->dir.path, STORE, &error), 0);
	assert_int_equal(server_store_grant(f->dir.path, STORE, "anna", &error), 0);
	assert_int_equal(server_store_add(f->dir.path, "berts", &error), 0);
	assert_int_equal(server_store_grant(f->dir.path, "berts", "bert", &error), 0);
	f->anna = token(f, &(struct server_token_options){ .account = "anna" });
	f->anna_read_only =
		token(f, &(struct server_token_options){ .account = "anna", .read_only = true });
	f->bert = token(f, &(struct server_token_options){ .account = "bert" });
	f->admin = token(f, &(struct server_token_options){ .account = "root", .admin = true });
	f->revoked = token(f, &(struct server_token_options){ .account = "anna", .admin = true });
	assert_int_equal(server_token_revoke(f->dir.path, 5, &error), 0);
	f->expired = token(f, &(struct server_token_options){ .account = "anna",
				      .expires_at = clock_wall_ns() / NS_PER_SEC - 1 });
	start(f);
	assert_int_equal(call(f, f->anna, "PUT", "/v1/stores/" STORE "/records/" RECORD,
				 "If-None-Match: *\r\nIdempotency-Key: "
				 "00112233445566778899aabbccddeeff\r\n"
				 "Cachet-Parent: root\r\nCachet-Name: a\r\n",
				 MARK "content", out),
		201);
	enrol(f, DEVICE, f->dkid);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	server_free(f->s);
	free(f->anna);
	free(f->anna_read_only);
	free(f->bert);
	free(f->admin);
	free(f->revoked);
	free(f->expired);
	unit_dir_done(&f->dir);
	free(f);
	return 0;
}

/* What stands for a placeholder: things of anna's. */
static const struct {
	const char *name, *value;
} samples[] = {
	{ "{s}", STORE },
	{ "{id}", RECORD },
};

static void path_of(struct fixture *f, const struct route *route, char out[256])
{
	const char *p = route->path;
	size_t len = 0, i;

	while (*p) {
		if (*p != '{') {
			out[len++] = *p++;
			continue;
		}
		for (i = 0; i < ARRAY_SIZE(samples); i++)
			if (!strncmp(p, samples[i].name, strlen(samples[i].name)))
				break;
		if (i == ARRAY_SIZE(samples))
			fail_msg("%s: this test does not know what stands for %s", route->path, p);
		len += (size_t)sprintf(
			out + len, "%s", route->flags & ROUTE_DEVICE ? f->dkid : samples[i].value);
		p += strlen(samples[i].name);
	}
	out[len] = 0;
}

/* The route with a token, as a request that would otherwise do. */
static int call_route_as(struct fixture *f, const char *auth, const char *device,
	const struct route *route, char out[ANSWER_MAX])
{
	char headers[256];
	char path[256];

	path_of(f, route, path);
	snprintf(headers, sizeof(headers),
		"If-Match: \"x\"\r\nIdempotency-Key: 00112233445566778899aabbccddeef0\r\n%s%s%s",
		device ? "Cachet-Device: " : "", device ? device : "", device ? "\r\n" : "");
	return call(
		f, auth, route->method, path, headers, route->body == BODY_NONE ? "" : "{}", out);
}

static int call_route(
	struct fixture *f, const char *auth, const struct route *route, char out[ANSWER_MAX])
{
	return call_route_as(f, auth, NULL, route, out);
}

#define FOR_ROUTES for (const struct route *route = server_routes; route->method; route++)

static void another_account_gets_nothing(void **state)
{
	struct fixture *f = *state;
	char out[ANSWER_MAX];

	FOR_ROUTES
	{
		int status = call_route(f, f->bert, route, out);

		/* What names a thing of anna's, or administers, is refused; the rest does not
		 * speak of her. */
		if (strchr(route->path, '{') || (route->flags & ROUTE_ADMIN)) {
			/* A job of another account is as if it were not there. */
			int expected = strncmp(route->path, "/v1/jobs/", 9) ? 403 : 404;

			if (status != expected)
				fail_msg("%s %s: %d", route->method, route->path, status);
		}
		if (strstr(out, MARK))
			fail_msg("%s %s: %s", route->method, route->path, out);
	}
}

static void a_token_that_is_no_more_gets_nothing(void **state)
{
	struct fixture *f = *state;
	char out[ANSWER_MAX];

	FOR_ROUTES
	{
		if (route->flags & ROUTE_PUBLIC)
			continue;
		assert_int_equal(call_route(f, NULL, route, out), 401);
		assert_non_null(strstr(out, "WWW-Authenticate: Bearer"));
	}
	FOR_ROUTES
	{
		int status;

		if (route->flags & ROUTE_PUBLIC)
			continue;
		status = call_route(f, f->revoked, route, out);
		assert_true(status == 401 || status == 429);
		status = call_route(f, f->expired, route, out);
		assert_true(status == 401 || status == 429);
		assert_null(strstr(out, MARK));
	}
}

static void an_admin_token_opens_no_store(void **state)
{
	struct fixture *f = *state;
	char out[ANSWER_MAX];

	FOR_ROUTES
	{
		if (!(route->flags & ROUTE_STORE))
			continue;
		assert_int_equal(call_route(f, f->admin, route, out), 403);
		assert_null(strstr(out, MARK));
	}
	assert_int_equal(call(f, f->admin, "GET", "/v1/stores", "", "", out), 200);
	assert_non_null(strstr(out, "{\"stores\":[]}"));
}

/* It is refused where it is not told more; enrolled again it is another device and let in. */
static void a_revoked_device_is_told_so_everywhere(void **state)
{
	static const char id[] = "0123456789abcdef0123456789abcdef";
	struct fixture *f = *state;
	char out[ANSWER_MAX], dkid[33], again[33], *error = NULL;

	enrol(f, id, dkid);
	FOR_ROUTES
	{
		(void)call_route_as(f, f->anna, id, route, out);
		assert_null(strstr(out, "device-revoked"));
	}
	assert_int_equal(server_device_do(f->dir.path, SERVER_DEVICE_REVOKE, dkid, &error), 0);
	FOR_ROUTES
	{
		int status = call_route_as(f, f->anna, id, route, out);

		if (route->flags & ROUTE_REVOKED)
			assert_null(strstr(out, "urn:cachet:device-revoked"));
		else if (!(route->flags & ROUTE_ADMIN) &&
			 (status != 403 || !strstr(out, "urn:cachet:device-revoked")))
			fail_msg("%s %s: %d", route->method, route->path, status);
	}
	enrol(f, id, again);
	assert_string_not_equal(dkid, again);
	assert_int_equal(call(f, f->anna, "GET", "/v1/stores",
				 "Cachet-Device: 0123456789abcdef0123456789abcdef\r\n", "", out),
		200);
}

static void a_read_only_token_changes_nothing(void **state)
{
	struct fixture *f = *state;
	char out[ANSWER_MAX];

	FOR_ROUTES if (route->flags & ROUTE_WRITE)
		assert_int_equal(call_route(f, f->anna_read_only, route, out), 403);
}

/* The right token still comes in while its address is over the bound. */
static void bad_tokens_are_limited(void **state)
{
	struct fixture *f = *state;
	char out[ANSWER_MAX], bad[72];
	int refused = 0;

	memset(bad, '0', 71);
	bad[71] = 0;
	memcpy(bad, "cachet_", 7);
	for (int i = 0; i < 45; i++)
		refused += call(f, bad, "GET", "/v1", "", "", out) == 429;
	assert_true(refused > 5);
	assert_non_null(strstr(out, "Retry-After: "));
	assert_non_null(strstr(out, "urn:cachet:too-many"));
	assert_int_equal(call(f, f->anna, "GET", "/v1", "", "", out), 200);
}

/* The database has no token, nor half of one. */
static void tokens_are_stored_hashed(void **state)
{
	struct fixture *f = *state;
	const char *files[] = { "records.db", "records.db-wal" };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		char path[512];
		static char data[1 << 20];
		_cleanup_fd_ int fd = -1;
		ssize_t n;

		snprintf(path, sizeof(path), "%s/%s", f->dir.path, files[i]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		assert_true(fd >= 0);
		n = read(fd, data, sizeof(data));
		assert_true(n > 0);
		assert_null(memmem(data, (size_t)n, f->anna + 7, 32));
		assert_null(memmem(data, (size_t)n, f->anna + 39, 32));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(another_account_gets_nothing),
		cmocka_unit_test(a_token_that_is_no_more_gets_nothing),
		cmocka_unit_test(an_admin_token_opens_no_store),
		cmocka_unit_test(a_revoked_device_is_told_so_everywhere),
		cmocka_unit_test(a_read_only_token_changes_nothing),
		cmocka_unit_test(bad_tokens_are_limited),
		cmocka_unit_test(tokens_are_stored_hashed),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
