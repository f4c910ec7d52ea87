/* The driver of commands is compiled here with a time limit that a test can wait for. */
#define LIMIT_MS 500
#include "crypto/keysource_command.c" /* NOLINT */
/* And that of the desktop's key ring, with its helper where a test puts one. */
static char helper_dir[256];
#define LIBEXEC_DIR helper_dir
#include "crypto/keysource_secret_service.c" /* NOLINT */

#include "crypto/keysource.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>

#include "base/bytes.h"
#include "base/error.h"
#include "unit.h"

#define HEX "000102030405060708090a0b0c0d0e0f101112131415161718191a1B1C1D1E1F"

static int setup(void **state)
{
	struct unit_dir *d = calloc(1, sizeof(*d));

	unit_dir_init(d);
	*state = d;
	return 0;
}

static int teardown(void **state)
{
	unit_dir_done(*state);
	free(*state);
	return 0;
}

static void put_file(struct unit_dir *d, const char *data, size_t len, mode_t mode)
{
	int fd = openat(d->fd, "key", O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), (int)len);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static const char *file_spec(struct unit_dir *d)
{
	static char spec[300];

	snprintf(spec, sizeof(spec), "file:%s/key", d->path);
	return spec;
}

/* Fetching gives the bytes 0, 1, 2 ... 31. */
static void assert_gives_count(const char *spec)
{
	struct secret *kek = NULL;
	char *error = NULL;

	assert_int_equal(keysource_fetch(spec, NULL, &kek, &error), 0);
	assert_int_equal(secret_len(kek), 32);
	for (int i = 0; i < 32; i++)
		assert_int_equal(secret_cbytes(kek)[i], i);
	secret_free(kek);
}

static void assert_refused(const char *spec, int code, const char *says)
{
	struct secret *kek = NULL;
	char *error = NULL;

	assert_int_equal(keysource_fetch(spec, NULL, &kek, &error), code);
	assert_null(kek);
	assert_non_null(error);
	if (!strstr(error, says))
		fail_msg("%s: %s", spec, error);
	assert_null(strstr(error, "0a0b0c")); /* nothing of the key */
	free(error);
}

static void a_key_file_may_be_hex_or_raw(void **state)
{
	struct unit_dir *d = *state;
	char raw[32];

	for (int i = 0; i < 32; i++)
		raw[i] = (char)i;
	put_file(d, HEX "\n", 65, 0600);
	assert_gives_count(file_spec(d));
	put_file(d, HEX, 64, 0400);
	assert_gives_count(file_spec(d));
	put_file(d, HEX "\r\n", 66, 0600);
	assert_gives_count(file_spec(d));
	put_file(d, raw, 32, 0600);
	assert_gives_count(file_spec(d));
}

static void a_key_file_others_may_read_is_refused(void **state)
{
	static const mode_t modes[] = { 0644, 0640, 0604, 0620, 0601, 0666 };
	struct unit_dir *d = *state;

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		put_file(d, HEX, 64, modes[i]);
		assert_refused(file_spec(d), CE_USAGE, "chmod 600");
	}
}

static void a_key_file_of_another_user_is_refused(void **state)
{
	struct unit_dir *d = *state;

	if (geteuid() != 0) {
		print_message("skipped: only root can give a file away\n");
		skip();
	}
	put_file(d, HEX, 64, 0600);
	assert_int_equal(fchownat(d->fd, "key", 65534, 65534, 0), 0);
	assert_refused(file_spec(d), CE_USAGE, "another user");
}

static void what_is_no_key_is_refused(void **state)
{
	static const char *const bad[] = { "", "x", "0102", HEX "00", HEX "\n\n", HEX " ",
		"g0"
		"0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f" };
	struct unit_dir *d = *state;
	char big[4096];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		put_file(d, bad[i], strlen(bad[i]), 0600);
		assert_refused(file_spec(d), CE_USAGE, "neither 32 bytes nor 64");
	}
	memset(big, 'a', sizeof(big));
	put_file(d, big, sizeof(big), 0600);
	assert_refused(file_spec(d), CE_USAGE, "neither");
}

static void what_is_no_file_is_refused_without_waiting(void **state)
{
	struct unit_dir *d = *state;
	char spec[300];

	assert_refused(file_spec(d), -ENOENT, "is not there");
	assert_int_equal(mkfifoat(d->fd, "key", 0600), 0);
	assert_refused(file_spec(d), CE_USAGE, "not a regular file");
	snprintf(spec, sizeof(spec), "file:%s", d->path);
	assert_refused(spec, CE_USAGE, "not a regular file");
}

static void create_makes_a_private_file_and_finds_it_again(void **state)
{
	struct unit_dir *d = *state;
	struct secret *made, *again, *fetched;
	struct json *params = NULL;
	char *error;
	struct stat st;

	assert_int_equal(keysource_create(file_spec(d), &made, &params, &error), 0);
	assert_null(params);
	assert_int_equal(fstatat(d->fd, "key", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, 65);
	assert_int_equal(keysource_create(file_spec(d), &again, NULL, &error), 0);
	assert_int_equal(keysource_fetch(file_spec(d), NULL, &fetched, &error), 0);
	assert_true(secret_equal(made, again) && secret_equal(made, fetched));
	secret_free(made);
	secret_free(again);
	secret_free(fetched);
}

static void create_where_nothing_can_be_made_says_so(void **state)
{
	struct secret *kek = NULL;
	char *error = NULL;

	assert_int_equal(
		keysource_create("file:/nonexistent/dir/key", &kek, NULL, &error), -ENOENT);
	assert_non_null(strstr(error, "cannot be made"));
	free(error);
}

static void a_command_prints_the_key(void **state)
{
	assert_gives_count("command:echo " HEX);
	assert_gives_count("command:printf %s " HEX);
	assert_gives_count("command:cat; echo " HEX); /* its standard input is empty */
}

static void a_command_that_fails_or_prints_no_key_is_refused(void **state)
{
	assert_refused("command:echo " HEX "; exit 3", CE_USAGE, "exit status 3");
	assert_refused("command:no-such-command-here 2>/dev/null", CE_USAGE, "exit status 127");
	assert_refused("command:kill -9 $$", CE_USAGE, "signal 9");
	assert_refused("command:true", CE_USAGE, "neither 32 bytes nor 64");
	assert_refused("command:echo " HEX HEX, CE_USAGE, "neither");
	assert_refused("command:yes 2>/dev/null", CE_USAGE, "");
}

/* The shell ends only when it is killed, and what it started must end with it. */
static void a_command_that_does_not_end_is_killed_with_its_children(void **state)
{
	struct unit_dir *d = *state;
	char spec[600], line[32] = "";
	int fd;

	snprintf(spec, sizeof(spec), "command:sleep 1000 & echo $! > %s/pid; wait", d->path);
	assert_refused(spec, -ETIMEDOUT, "did not end within");
	fd = openat(d->fd, "pid", O_RDONLY);
	assert_true(read(fd, line, sizeof(line) - 1) > 0);
	close(fd);
	for (int i = 0; i < 200 && kill((pid_t)atoi(line), 0) == 0; i++) {
		char path[64], stat_line[200] = "";

		/* Dead, but perhaps nobody has reaped it yet. */
		snprintf(path, sizeof(path), "/proc/%d/stat", atoi(line));
		fd = open(path, O_RDONLY);
		if (fd >= 0 && read(fd, stat_line, sizeof(stat_line) - 1) > 0 &&
			strstr(stat_line, ") Z"))
			i = 1000;
		if (fd >= 0)
			close(fd);
		assert_true(i != 199);
		usleep(10000);
	}
}

static void a_command_that_closes_its_output_and_stays_is_killed(void **state)
{
	assert_refused("command:exec >&-; sleep 1000", -ETIMEDOUT, "did not end within");
}

static void a_spec_that_names_no_driver_is_one_clear_sentence(void **state)
{
	static const char *const bad[] = { "", "file", "file:", "command:", "FILE:x", "keyfile:x",
		"passphrase", "passphrase:hunter2", "passphrase:fd=", "passphrase:fd=-1",
		"passphrase:fd=x", "kernel:", "systemd-creds:", "secret-service:", "server:kernel:",
		"passphrase:fd=3x", "passphrase:fd=99999999999", "/etc/key" };
	static const char *const good[] = { "file:x", "command:true", "kernel:x", "systemd-creds:x",
		"secret-service:x", "server:kernel:x", "server:systemd-creds:x",
		"passphrase:", "passphrase:fd=3" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char *error = NULL;

		assert_int_equal(keysource_check(bad[i], &error), CE_USAGE);
		assert_non_null(error);
		assert_null(strchr(error, '\n'));
		assert_null(
			strstr(error, "hunter2")); /* a passphrase given here is not shown again */
		free(error);
	}
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_int_equal(keysource_check(good[i], NULL), 0);
}

/* A specification for a pipe that holds `text`; the read end in *fd. */
static const char *pipe_spec(const char *text, int *fd)
{
	static char spec[64];
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(write(fds[1], text, strlen(text)), (int)strlen(text));
	close(fds[1]);
	*fd = fds[0];
	snprintf(spec, sizeof(spec), "passphrase:fd=%d", fds[0]);
	return spec;
}

static int fetch_phrase(
	const char *text, const struct json *params, struct secret **kek, char **error)
{
	int fd, r;
	const char *spec = pipe_spec(text, &fd);

	r = keysource_fetch(spec, params, kek, error);
	close(fd);
	return r;
}

static void a_passphrase_gives_its_key_again_and_only_it(void **state)
{
	struct secret *made, *same, *other;
	struct json *params;
	char *error, c;
	int fd;

	assert_int_equal(
		keysource_create(pipe_spec("correct horse\nrest", &fd), &made, &params, &error), 0);
	assert_int_equal(read(fd, &c, 1), 1); /* what follows the line is left alone */
	assert_int_equal(c, 'r');
	close(fd);
	assert_int_equal(fetch_phrase("correct horse", params, &same, &error), 0);
	assert_int_equal(fetch_phrase("correct horsf\n", params, &other, &error), 0);
	assert_true(secret_equal(made, same));
	assert_false(secret_equal(made, other));
	secret_free(made);
	secret_free(same);
	secret_free(other);
	json_free(params);
}

static void an_empty_or_endless_passphrase_is_refused(void **state)
{
	struct secret *kek = NULL;
	struct json *params = NULL;
	char *error = NULL, big[2000];
	int fd;

	assert_int_equal(keysource_create(pipe_spec("\n", &fd), &kek, &params, &error), CE_USAGE);
	assert_non_null(strstr(error, "empty"));
	free(error);
	close(fd);
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	assert_int_equal(
		keysource_create(pipe_spec(big, &fd), &kek, &params, &error), CE_TOO_LARGE);
	free(error);
	close(fd);
	assert_null(kek);
	assert_null(params);
}

static void parameters_that_are_not_ours_are_refused_before_any_work(void **state)
{
	static const char *const bad[] = { "{}",
		"{\"driver\":\"file\",\"kdf\":\"argon2id\",\"salt\":\"AAAAAAAAAAAAAAAAAAAAAA==\","
		"\"ops\":1,"
		"\"memKiB\":8192}",
		"{\"driver\":\"passphrase\",\"kdf\":\"scrypt\",\"salt\":\"AAAAAAAAAAAAAAAAAAAAAA=="
		"\",\"ops\":"
		"1,\"memKiB\":8192}",
		"{\"driver\":\"passphrase\",\"kdf\":\"argon2id\",\"salt\":\"AAAA\",\"ops\":1,"
		"\"memKiB\":8192}",
		"{\"driver\":\"passphrase\",\"kdf\":\"argon2id\",\"salt\":\"AAAAAAAAAAAAAAAAAAAAAA="
		"=\",\"ops\""
		":1,\"memKiB\":4294967295}",
		"{\"driver\":\"passphrase\",\"kdf\":\"argon2id\",\"salt\":\"AAAAAAAAAAAAAAAAAAAAAA="
		"=\",\"ops\""
		":1000000,\"memKiB\":8192}" };
	struct secret *kek = NULL;
	char *error = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_json_ struct json *params = NULL;

		assert_int_equal(json_parse(bad[i], strlen(bad[i]), &params), 0);
		assert_int_equal(fetch_phrase("x\n", params, &kek, &error), CE_FORMAT);
		assert_non_null(strstr(error, "no usable parameters"));
		free(error);
	}
	assert_int_equal(fetch_phrase("x\n", NULL, &kek, &error), CE_FORMAT);
	free(error);
	assert_null(kek);
}

/* A session of its own, with the other side of a pseudo terminal as its terminal. */
static void become_terminal_user(const char *slave)
{
	setsid();
	if (open(slave, O_RDWR) < 0)
		_exit(90);
}

/* Types `keys` at each prompt; what the terminal showed, and the exit status of `body`. */
static int on_terminal(int (*body)(void), const char *const *keys, char *shown, size_t size)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY), status;
	char slave[64];
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	assert_true(master >= 0);
	assert_int_equal(grantpt(master) | unlockpt(master), 0);
	assert_int_equal(ptsname_r(master, slave, sizeof(slave)), 0);
	pid = fork();
	if (pid == 0) {
		close(master);
		become_terminal_user(slave);
		unit_exit(body());
	}
	while (len < size - 1 && (n = read(master, shown + len, size - 1 - len)) > 0) {
		len += (size_t)n;
		shown[len] = '\0';
		if (*keys && len >= 2 && !strcmp(shown + len - 2, ": ")) {
			assert_int_equal(write(master, *keys, strlen(*keys)), (int)strlen(*keys));
			keys++;
		}
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(master);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 200;
}

static int echo_is_on(void)
{
	int tty = open("/dev/tty", O_RDWR);
	struct termios t;

	return tty >= 0 && tcgetattr(tty, &t) == 0 && t.c_lflag & ECHO && t.c_lflag & ICANON;
}

static int create_on_terminal(void)
{
	struct secret *kek = NULL;
	struct json *params = NULL;
	char *error = NULL;
	int r = keysource_create("passphrase:", &kek, &params, &error);

	if (!echo_is_on())
		return 50;
	if (r)
		return r == CE_USAGE ? 1 : r == -EINTR ? 2 : 3;
	secret_free(kek);
	json_free(params);
	return 0;
}

static void the_terminal_asks_twice_and_shows_nothing(void **state)
{
	static const char *const keys[] = { "geheim\x7fM\n", "xx\x15geheiM\n", NULL };
	char shown[1000] = "";

	assert_int_equal(on_terminal(create_on_terminal, keys, shown, sizeof(shown)), 0);
	assert_non_null(strstr(shown, "New passphrase: "));
	assert_non_null(strstr(shown, "Again: "));
	assert_null(strstr(shown, "gehei"));
}

static void two_different_answers_are_refused(void **state)
{
	static const char *const keys[] = { "one\n", "two\n", NULL };
	char shown[1000] = "";

	assert_int_equal(on_terminal(create_on_terminal, keys, shown, sizeof(shown)), 1);
}

static void ctrl_c_ends_the_question_and_restores_the_terminal(void **state)
{
	static const char *const keys[] = { "abc\x03", NULL };
	char shown[1000] = "";

	assert_int_equal(on_terminal(create_on_terminal, keys, shown, sizeof(shown)), 2);
}

static void without_a_terminal_nothing_is_asked(void **state)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct secret *kek;
		struct json *params;
		char *error = NULL;

		setsid();
		unit_exit(keysource_create("passphrase:", &kek, &params, &error) == CE_USAGE &&
					  strstr(error, "fd=N")
				  ? 0
				  : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* --- kernel: in a session keyring of this process alone --- */

static long add_kernel_key(const char *name, const char *data, size_t len)
{
	long id = -1;

	if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL, 0, 0, 0) >= 0)
		id = syscall(SYS_add_key, "user", name, data, len, KEY_SPEC_SESSION_KEYRING);
	if (id < 0) {
		print_message(
			"skipped: this kernel or container has no keyrings: %s\n", strerror(errno));
		skip();
	}
	return id;
}

static void a_key_of_the_kernel_is_found_by_its_name(void **state)
{
	(void)add_kernel_key("cachet-test-a", HEX "\n", 65);
	assert_gives_count("kernel:cachet-test-a");
	assert_gives_count("server:kernel:cachet-test-a");
	assert_refused("kernel:cachet-test-none", -ENOENT, "keyctl padd");
}

static void a_key_of_the_kernel_open_to_others_is_refused(void **state)
{
	static const unsigned int open_to[] = { 0x3f010200, 0x3f010002, 0x3f010808 };

	for (size_t i = 0; i < ARRAY_SIZE(open_to); i++) {
		long id = add_kernel_key("cachet-test-b", HEX, 64);

		assert_int_equal(syscall(SYS_keyctl, KEYCTL_SETPERM, id, open_to[i], 0, 0), 0);
		assert_refused("kernel:cachet-test-b", CE_USAGE, "open to others");
	}
}

static void what_is_no_key_in_the_kernel_is_refused(void **state)
{
	static char big[200];
	long id;

	memset(big, 'a', sizeof(big));
	(void)add_kernel_key("cachet-test-c", HEX, 63);
	assert_refused("kernel:cachet-test-c", CE_USAGE, "neither");
	(void)add_kernel_key("cachet-test-c", big, sizeof(big));
	assert_refused("kernel:cachet-test-c", CE_USAGE, "neither");
	id = add_kernel_key("cachet-test-c", HEX, 64);
	assert_int_equal(syscall(SYS_keyctl, KEYCTL_REVOKE, id, 0, 0, 0), 0);
	assert_refused("kernel:cachet-test-c", -ENOENT, "revoked");
}

static void a_source_that_makes_no_key_makes_none(void **state)
{
	struct secret *kek = NULL;
	struct json *params = NULL;
	char *error = NULL;

	(void)add_kernel_key("cachet-test-d", HEX, 64);
	assert_int_equal(keysource_create("kernel:cachet-test-e", &kek, &params, &error), -ENOENT);
	assert_null(kek);
	free(error);
	assert_int_equal(keysource_create("kernel:cachet-test-d", &kek, &params, &error), 0);
	assert_null(params);
	secret_free(kek);
}

/* --- systemd-creds --- */

static void a_credential_is_a_private_file_of_the_directory(void **state)
{
	struct unit_dir *d = *state;

	put_file(d, HEX "\n", 65, 0400);
	assert_int_equal(setenv("CREDENTIALS_DIRECTORY", d->path, 1), 0);
	assert_gives_count("systemd-creds:key");
	put_file(d, HEX "\n", 65, 0440); /* the mask of an access list */
	assert_gives_count("systemd-creds:key");
	put_file(d, HEX "\n", 65, 0404);
	assert_refused("systemd-creds:key", CE_USAGE, "read by others");
	assert_refused("systemd-creds:none", -ENOENT, "not there");
	unsetenv("CREDENTIALS_DIRECTORY");
}

static void a_credential_is_never_outside_the_directory(void **state)
{
	struct unit_dir *d = *state;

	put_file(d, HEX, 64, 0400);
	assert_int_equal(setenv("CREDENTIALS_DIRECTORY", d->path, 1), 0);
	assert_refused("systemd-creds:../key", CE_USAGE, "not a path");
	assert_refused("systemd-creds:..", CE_USAGE, "not a path");
	assert_int_equal(setenv("CREDENTIALS_DIRECTORY", ".", 1), 0);
	assert_refused("systemd-creds:key", CE_USAGE, "LoadCredentialEncrypted=key");
	unsetenv("CREDENTIALS_DIRECTORY");
	assert_refused("systemd-creds:key", CE_USAGE, "LoadCredentialEncrypted=key");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* --- the desktop's key ring --- */

/* A helper that is the shell: asked to `verb`, it runs the file of that name. (A temporary
 * directory may not let programs run.) */
static void put_helper(struct unit_dir *d, const char *verb, const char *does)
{
	int fd;

	strcpy(helper_dir, d->path);
	(void)unlinkat(d->fd, HELPER, 0);
	assert_int_equal(symlinkat("/bin/sh", d->fd, HELPER), 0);
	assert_int_equal(chdir(d->path), 0);
	fd = openat(d->fd, verb, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, does, strlen(does)), (int)strlen(does));
	close(fd);
}

static void the_key_ring_is_asked_by_the_name_of_the_key(void **state)
{
	struct unit_dir *d = *state;
	struct secret *made;
	struct json *params;
	char *error;

	put_helper(d, "get", "[ \"$1\" = 'a b' ] && printf %s " HEX);
	assert_gives_count("secret-service:a b");
	put_helper(d, "make", "[ \"$1\" = 'c d' ] && printf %s " HEX);
	assert_int_equal(keysource_create("secret-service:c d", &made, &params, &error), 0);
	assert_int_equal(secret_len(made), 32);
	assert_null(params);
	secret_free(made);
	assert_int_equal(chdir("/"), 0);
}

static void a_key_ring_that_gives_no_key_is_one_clear_sentence(void **state)
{
	static const struct {
		const char *does;
		int code;
		const char *says;
	} rows[] = {
		{ "exit 2", -ENOENT, "there is no key 'x'" },
		{ "exit 3", CE_USAGE, "no secret service" },
		{ "exit 4", CE_USAGE, "does not take the key 'x'" },
		{ "exit 9", CE_USAGE, "failed (status" },
		{ "kill -9 $$", CE_USAGE, "failed (status" },
		{ "echo nothing", CE_USAGE, "64 hexadecimal" },
		{ "printf %s " HEX "00", CE_USAGE, "64 hexadecimal" },
		{ "printf %2000s x; exit 0", CE_USAGE, "64 hexadecimal" },
		{ "printf %s " HEX "; exit 2", -ENOENT, "there is no key 'x'" },
		{ "sleep 1000", -ETIMEDOUT, "in time" },
	};
	struct unit_dir *d = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		put_helper(d, "get", rows[i].does);
		assert_refused("secret-service:x", rows[i].code, rows[i].says);
	}
	unlinkat(d->fd, HELPER, 0);
	assert_refused("secret-service:x", CE_USAGE, "built without");
	assert_int_equal(chdir("/"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_key_file_may_be_hex_or_raw),
		TEST(a_key_file_others_may_read_is_refused),
		TEST(a_key_file_of_another_user_is_refused),
		TEST(what_is_no_key_is_refused),
		TEST(what_is_no_file_is_refused_without_waiting),
		TEST(create_makes_a_private_file_and_finds_it_again),
		cmocka_unit_test(create_where_nothing_can_be_made_says_so),
		cmocka_unit_test(a_command_prints_the_key),
		cmocka_unit_test(a_command_that_fails_or_prints_no_key_is_refused),
		TEST(a_command_that_does_not_end_is_killed_with_its_children),
		cmocka_unit_test(a_command_that_closes_its_output_and_stays_is_killed),
		cmocka_unit_test(a_spec_that_names_no_driver_is_one_clear_sentence),
		cmocka_unit_test(a_passphrase_gives_its_key_again_and_only_it),
		cmocka_unit_test(an_empty_or_endless_passphrase_is_refused),
		cmocka_unit_test(parameters_that_are_not_ours_are_refused_before_any_work),
		cmocka_unit_test(the_terminal_asks_twice_and_shows_nothing),
		cmocka_unit_test(two_different_answers_are_refused),
		cmocka_unit_test(ctrl_c_ends_the_question_and_restores_the_terminal),
		cmocka_unit_test(without_a_terminal_nothing_is_asked),
		cmocka_unit_test(a_key_of_the_kernel_is_found_by_its_name),
		cmocka_unit_test(a_key_of_the_kernel_open_to_others_is_refused),
		cmocka_unit_test(what_is_no_key_in_the_kernel_is_refused),
		cmocka_unit_test(a_source_that_makes_no_key_makes_none),
		TEST(a_credential_is_a_private_file_of_the_directory),
		TEST(a_credential_is_never_outside_the_directory),
		TEST(the_key_ring_is_asked_by_the_name_of_the_key),
		TEST(a_key_ring_that_gives_no_key_is_one_clear_sentence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
