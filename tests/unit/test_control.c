/* The control socket against clients that are wrong, slow, many or gone. A real volume is behind
 * it; nothing is mounted. */
#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/secret.h"
#include "cache/volume.h"
#include "daemon/control.h"
#include "daemon/daemon_priv.h"
#include "daemon/exit_code.h"
#include "daemon/requests.h"
#include "tests/unit/unit.h"

struct fixture {
	struct unit_dir dir;
	struct config config;
	struct daemon_state d;
	struct control *control;
	char socket[400], volume[300], key[320];
};

static void open_volume(struct fixture *f)
{
	_cleanup_free_ char *error = NULL;
	struct volume_create_options create = {
		.dir = f->volume,
		.key_source = f->key,
		.origin = "http://127.0.0.1:1",
	};
	struct volume_options open = {.dir = f->volume, .key_source = f->key, .host = "test"};
	struct sync_options s = {.origin = "http://127.0.0.1:1", .offline = true};

	snprintf(f->volume, sizeof(f->volume), "%s/v", f->dir.path);
	snprintf(f->key, sizeof(f->key), "file:%s/k", f->dir.path);
	assert_int_equal(volume_create(&create, &error), 0);
	assert_int_equal(volume_open(&open, &f->d.volume, &error), 0);
	s.volume = f->d.volume;
	assert_int_equal(sync_new(&s, &f->d.sync, &error), 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	unit_dir_init(&f->dir);
	f->config = (struct config){.name = "n", .id = "i", .origin = "http://127.0.0.1:1"};
	f->d.config = &f->config;
	f->d.mountpoint = "/mnt/\xff name";
	open_volume(f);
	snprintf(f->socket, sizeof(f->socket), "%s/s.sock", f->dir.path);
	assert_int_equal(control_start(&f->d, f->socket, &f->control), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	control_stop(f->control);
	sync_free(f->d.sync);
	volume_close(f->d.volume);
	unit_dir_done(&f->dir);
	free(f);
	return 0;
}

/* The answer to one request given as text; the caller frees. */
static struct json *ask(const struct fixture *f, const char *text)
{
	_cleanup_json_ struct json *request = NULL;
	struct json *reply;

	assert_int_equal(json_parse(text, strlen(text), &request), 0);
	assert_int_equal(control_call(f->socket, request, 20000, &reply), 0);
	return reply;
}

static void assert_code(const struct json *reply, const char *code)
{
	const char *got = NULL, *error = NULL;
	bool ok = true;

	assert_int_equal(json_get_bool(reply, "ok", &ok), 0);
	assert_false(ok);
	assert_int_equal(json_get_string(reply, "code", &got), 0);
	assert_int_equal(json_get_string(reply, "error", &error), 0);
	assert_string_equal(got, code);
	assert_true(strlen(error) > 5);
}

static void assert_ok(const struct json *reply)
{
	bool ok = false;

	assert_int_equal(json_get_bool(reply, "ok", &ok), 0);
	assert_true(ok);
}

static int raw_connect(const struct fixture *f)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0 && strlen(f->socket) < sizeof(a.sun_path));
	strcpy(a.sun_path, f->socket);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

/* What comes back for raw bytes, up to the end of the line. */
static void raw_ask(int fd, const void *data, size_t len, char *out, size_t size)
{
	size_t n = 0;

	for (size_t at = 0; at < len;) {
		ssize_t sent = send(fd, (const char *)data + at, len - at, MSG_NOSIGNAL);

		if (sent <= 0)
			break;
		at += (size_t)sent;
	}
	while (n + 1 < size) {
		ssize_t got = recv(fd, out + n, 1, 0);

		if (got <= 0 || out[n] == '\n')
			break;
		n++;
	}
	out[n] = '\0';
}

static void assert_alive(const struct fixture *f)
{
	_cleanup_json_ struct json *reply = ask(f, "{\"do\":\"ping\"}");

	assert_ok(reply);
}

static void ping_names_the_process(void **state)
{
	_cleanup_json_ struct json *reply = ask(*state, "{\"do\":\"ping\"}");
	uint64_t pid;

	assert_ok(reply);
	assert_int_equal(json_get_u64(reply, "pid", &pid), 0);
	assert_int_equal(pid, getpid());
}

static void status_is_valid_json_whatever_a_name_holds(void **state)
{
	_cleanup_json_ struct json *reply = ask(*state, "{\"do\":\"status\"}");
	const char *mountpoint, *link;
	uint64_t pending;

	assert_ok(reply);
	assert_int_equal(json_get_string(reply, "mountpoint", &mountpoint), 0);
	assert_string_equal(mountpoint, "/mnt/\xef\xbf\xbd name");
	assert_int_equal(json_get_string(reply, "state", &link), 0);
	assert_string_equal(link, sync_state_name(SYNC_FORCED));
	assert_int_equal(json_get_u64(reply, "pending", &pending), 0);
	assert_int_equal(pending, 0);
}

static void only_the_owner_can_reach_the_socket(void **state)
{
	const struct fixture *f = *state;
	struct stat st;

	assert_int_equal(stat(f->socket, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void wrong_requests_are_answered_and_the_daemon_lives(void **state)
{
	static const char *const texts[] = {"{", "", "[]", "7", "\"do\"", "{}", "{\"do\":1}",
		"{\"do\":\"format\"}", "{\"do\":\"sync\",\"wait\":1}", "{\"do\":\"retry\"}",
		"{\"do\":\"resolve\",\"id\":-1}", "{\"do\":\"stat\",\"path\":[]}",
		"{\"do\":\"a\",\"do\":\"ping\"}", "\xff\xfe"};
	char line[512], request[128];

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		_cleanup_json_ struct json *reply = NULL;
		int fd = raw_connect(*state);

		snprintf(request, sizeof(request), "%s\n", texts[i]);
		raw_ask(fd, request, strlen(request), line, sizeof(line));
		close(fd);
		assert_int_equal(json_parse(line, strlen(line), &reply), 0);
		assert_code(reply, "usage");
	}
	assert_alive(*state);
}

static void numbers_of_nothing_are_refused(void **state)
{
	_cleanup_json_ struct json *a = ask(*state, "{\"do\":\"retry\",\"seq\":12345}"),
				   *b = ask(*state, "{\"do\":\"drop\",\"seq\":12345}"),
				   *c = ask(*state, "{\"do\":\"resolve\",\"id\":12345}"),
				   *d = ask(*state, "{\"do\":\"stat\",\"path\":\"no/such\"}");

	assert_code(a, "failed");
	assert_code(b, "failed");
	assert_code(c, "failed");
	assert_int_equal(json_has(d, "error"), true);
}

static void a_request_without_an_end_is_cut_off(void **state)
{
	size_t len = CONTROL_REQUEST_MAX_BYTES + 100000;
	char line[512], *data = malloc(len);
	_cleanup_json_ struct json *reply = NULL;
	int fd = raw_connect(*state);

	assert_non_null(data);
	memset(data, 'x', len);
	raw_ask(fd, data, len, line, sizeof(line));
	close(fd);
	free(data);
	/* The answer may be lost with the connection, the daemon not. */
	if (line[0]) {
		assert_int_equal(json_parse(line, strlen(line), &reply), 0);
		assert_code(reply, "usage");
	}
	assert_alive(*state);
}

static void several_requests_go_over_one_connection(void **state)
{
	static const char ping[] = "{\"do\":\"ping\"}\n";
	int fd = raw_connect(*state);
	char line[512];

	for (int i = 0; i < 3; i++) {
		raw_ask(fd, ping, strlen(ping), line, sizeof(line));
		assert_non_null(strstr(line, "true"));
	}
	close(fd);
}

static void one_client_too_many_is_told_so(void **state)
{
	static const char ping[] = "{\"do\":\"ping\"}\n";
	int fds[CONTROL_CONNECTIONS];
	char line[512];
	int extra;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = raw_connect(*state);
		/* Answered: so its thread is running. */
		raw_ask(fds[i], ping, strlen(ping), line, sizeof(line));
		assert_non_null(strstr(line, "true"));
	}
	extra = raw_connect(*state);
	raw_ask(extra, "", 0, line, sizeof(line));
	assert_non_null(strstr(line, "try again"));
	close(extra);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	for (int i = 0; i < 100; i++) {
		int fd = raw_connect(*state);

		raw_ask(fd, ping, strlen(ping), line, sizeof(line));
		close(fd);
		if (strstr(line, "pid"))
			return;
		usleep(20000);
	}
	fail_msg("the places of clients that left are not free again");
}

static void silent_clients_do_not_hold_up_the_end(void **state)
{
	struct fixture *f = *state;
	int fds[CONTROL_CONNECTIONS];
	int64_t start_ms;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = raw_connect(f);
	assert_int_equal(send(fds[0], "{\"do\":", 6, MSG_NOSIGNAL), 6);
	start_ms = clock_boot_ms();
	control_stop(f->control);
	assert_true(clock_boot_ms() - start_ms < 5000);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	assert_int_equal(access(f->socket, F_OK), -1);
	assert_int_equal(control_start(&f->d, f->socket, &f->control), 0);
}

static void a_dead_daemons_socket_is_replaced(void **state)
{
	struct fixture *f = *state;
	_cleanup_json_ struct json *request = json_new_object(), *reply = NULL;
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct control *second;
	char path[400];
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(path, sizeof(path), "%s/dead", f->dir.path);
	assert_true(strlen(path) < sizeof(a.sun_path));
	strcpy(a.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	close(fd);
	json_set_string(request, "do", "ping");
	assert_int_equal(control_call(path, request, 1000, &reply), CE_OFFLINE);
	assert_int_equal(control_start(&f->d, path, &second), 0);
	assert_int_equal(control_call(path, request, 10000, &reply), 0);
	control_stop(second);
}

static void without_a_daemon_the_client_says_so(void **state)
{
	const struct fixture *f = *state;
	_cleanup_json_ struct json *request = json_new_object(), *reply = NULL;
	char path[600];

	snprintf(path, sizeof(path), "%s/nobody", f->dir.path);
	assert_int_equal(control_call(path, request, 1000, &reply), CE_OFFLINE);
	snprintf(path, sizeof(path), "%s/no/such/dir", f->dir.path);
	assert_int_equal(control_call(path, request, 1000, &reply), CE_OFFLINE);
	assert_null(reply);
}

static void a_long_path_is_no_obstacle(void **state)
{
	struct fixture *f = *state;
	_cleanup_json_ struct json *request = json_new_object(), *reply = NULL;
	struct control *second;
	char path[700], name[201];

	memset(name, 'd', 200);
	name[200] = '\0';
	snprintf(path, sizeof(path), "%s/%s", f->dir.path, name);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/%s/s", f->dir.path, name);
	json_set_string(request, "do", "ping");
	assert_int_equal(control_start(&f->d, path, &second), 0);
	assert_int_equal(control_call(path, request, 10000, &reply), 0);
	control_stop(second);
}

static void what_needs_the_daemon_says_so_without_one(void **state)
{
	struct fixture *f = *state;
	static const char *const verbs[] = {
		"ping", "sync", "online", "offline", "allow-deletes", "accept-restored", "umount"};
	struct daemon_state direct = {.config = &f->config, .volume = f->d.volume};

	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		_cleanup_json_ struct json *request = json_new_object(), *reply = NULL;

		json_set_string(request, "do", verbs[i]);
		reply = requests_answer(&direct, request, NULL);
		assert_code(reply, "not-mounted");
	}
}

static void every_exit_code_has_its_own_name(void **state)
{
	for (int i = 0; i < EXIT_CODE_END; i++)
		assert_int_equal(exit_code_by_name(exit_code_name((enum exit_code)i)), i);
	assert_int_equal(exit_code_by_name("nonsense"), EXIT_CODE_FAILED);
}

static void errors_that_scripts_must_tell_apart_have_exit_codes(void **state)
{
	assert_int_equal(exit_code_of(0), EXIT_CODE_OK);
	assert_int_equal(exit_code_of(CE_WRONG_KEY), EXIT_CODE_KEY);
	assert_int_equal(exit_code_of(CE_TAMPER), EXIT_CODE_DAMAGED);
	assert_int_equal(exit_code_of(CE_OFFLINE), EXIT_CODE_OFFLINE);
	assert_int_equal(exit_code_of(CE_AUTH), EXIT_CODE_AUTH);
	assert_int_equal(exit_code_of(CE_INUSE), EXIT_CODE_IN_USE);
	assert_int_equal(exit_code_of(CE_HELD), EXIT_CODE_PENDING);
	assert_int_equal(exit_code_of(-EIO), EXIT_CODE_FAILED);
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		EACH(ping_names_the_process),
		EACH(status_is_valid_json_whatever_a_name_holds),
		EACH(only_the_owner_can_reach_the_socket),
		EACH(wrong_requests_are_answered_and_the_daemon_lives),
		EACH(numbers_of_nothing_are_refused),
		EACH(a_request_without_an_end_is_cut_off),
		EACH(several_requests_go_over_one_connection),
		EACH(one_client_too_many_is_told_so),
		EACH(silent_clients_do_not_hold_up_the_end),
		EACH(a_dead_daemons_socket_is_replaced),
		EACH(without_a_daemon_the_client_says_so),
		EACH(a_long_path_is_no_obstacle),
		EACH(what_needs_the_daemon_says_so_without_one),
		cmocka_unit_test(every_exit_code_has_its_own_name),
		cmocka_unit_test(errors_that_scripts_must_tell_apart_have_exit_codes),
	};

	if (secret_init(false))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
