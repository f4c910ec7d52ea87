/* Goal: a change of the passphrase that fails anywhere leaves the keyring as it was, to the byte;
 * one that succeeds keeps the keys, and the lease, that the old one opened. */
#include "cache/passphrase.h"

#include <errno.h>

#include "base/error.h"
#include "base/io.h"
#include "cache/enrolment_priv.h"
#include "cache/setup_priv.h"
#include "crypto/keysource.h"
#include "unit.h"

#define TEXT_MAX 20000
/* Cheap: what costs is not tried here. */
#define PARAMS                                                                                     \
	"{\"driver\":\"passphrase\",\"kdf\":\"argon2id\",\"salt\":\"AAAAAAAAAAAAAAAAAAAAAA==\","   \
	"\"ops\":1,\"memKiB\":8}"

struct fixture {
	struct unit_dir dir;
	bool server;
	struct secret *old, *kek, *index_key; /* of the passphrase; of the keys */
	char text[TEXT_MAX];
	size_t len;
};

/* A specification whose descriptor gives `text`; the caller closes *fd. */
static const char *spec(const struct fixture *f, const char *text, int *fd)
{
	static char out[64];
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(write(fds[1], text, strlen(text)), (int)strlen(text));
	close(fds[1]);
	*fd = fds[0];
	snprintf(out, sizeof(out), "%spassphrase:fd=%d", f->server ? "server:" : "", fds[0]);
	return out;
}

static void derive(
	const struct fixture *f, const char *phrase, const struct json *params, struct secret **out)
{
	char *error = NULL;
	int fd;
	const char *s = spec(f, phrase, &fd);

	assert_int_equal(keysource_fetch(s, params, out, &error), 0);
	close(fd);
}

static size_t read_keyring(const struct fixture *f, char out[static TEXT_MAX])
{
	int fd = openat(f->dir.fd, KEYRING_FILE, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, out, TEXT_MAX);

	assert_in_range(n, 1, TEXT_MAX - 1);
	close(fd);
	return (size_t)n;
}

static struct secret *copy_of(const struct secret *s)
{
	struct secret *out;

	assert_int_equal(secret_new_copy(secret_cbytes(s), secret_len(s), &out), 0);
	return out;
}

static void enrolled(struct fixture *f, struct keyring *k)
{
	struct json *record;
	struct device *d;

	assert_int_equal(device_new("0123456789abcdef", &d), 0);
	strcpy(d->dkid, "dk-1");
	strcpy(d->kid, "kek-1");
	assert_int_equal(device_lease_seal(d, f->old, f->kek, 1000, 2000), 0);
	assert_int_equal(device_write(d, f->old, &record), 0);
	keyring_set_device(k, record);
	device_free(d);
}

static struct fixture *make(bool server)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct json *params;
	struct keyring *k;

	f->server = server;
	unit_dir_init(&f->dir);
	assert_int_equal(json_parse(PARAMS, strlen(PARAMS), &params), 0);
	derive(f, "old\n", params, &f->old);
	f->kek = copy_of(f->old);
	if (server) {
		secret_free(f->kek);
		assert_int_equal(secret_new_random(32, &f->kek), 0);
	}
	assert_int_equal(keyring_new("kek-1", &k), 0);
	assert_int_equal(keyring_unlock(k, copy_of(f->kek)), 0);
	assert_int_equal(keyring_make(k, KEYRING_PURPOSE_INDEX, "", &f->index_key), 0);
	keyring_set_source_params(k, params);
	if (server)
		enrolled(f, k);
	assert_int_equal(keyring_save(k, f->dir.fd), 0);
	keyring_free(k);
	f->len = read_keyring(f, f->text);
	return f;
}

static int setup(void **state)
{
	*state = make(false);
	return 0;
}

static int setup_server(void **state)
{
	*state = make(true);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	secret_free(f->old);
	secret_free(f->kek);
	secret_free(f->index_key);
	unit_dir_done(&f->dir);
	free(f);
	return 0;
}

static int change(const struct fixture *f, const char *typed, char **error)
{
	int fd, r;
	const char *s = spec(f, typed, &fd);

	*error = NULL;
	r = passphrase_change(f->dir.path, s, error);
	close(fd);
	return r;
}

static void says(int r, char **error, int code, const char *words)
{
	if (r != code || !*error || !strstr(*error, words))
		fail_msg("%d, not %d \"%s\": %s", r, code, words, *error ? *error : "no word");
	free(*error);
}

static void refused(const struct fixture *f, const char *typed, int code, const char *words)
{
	char now[TEXT_MAX], *error;
	int r = change(f, typed, &error);

	says(r, &error, code, words);
	assert_int_equal(read_keyring(f, now), f->len);
	assert_memory_equal(now, f->text, f->len);
}

static void what_is_not_the_passphrase_changes_nothing(void **state)
{
	const struct fixture *f = *state;

	refused(f, "wrong\nnew\n", CE_WRONG_KEY, "this is not the passphrase");
	refused(f, "\nnew\n", CE_USAGE, "empty");
	refused(f, "old\n\n", CE_USAGE, "empty");
}

static void another_source_has_no_passphrase(void **state)
{
	static const char *const other[] = { "file:/x", "server:file:/x", "kernel:passphrase:" };
	const struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(other); i++) {
		char *error = NULL;
		int r = passphrase_change(f->dir.path, other[i], &error);

		assert_false(passphrase_is_asked(other[i]));
		says(r, &error, CE_USAGE, "does not come from a passphrase");
	}
	assert_true(passphrase_is_asked("passphrase:"));
	assert_true(passphrase_is_asked("server:passphrase:fd=3"));
}

static void a_volume_in_use_or_not_there_is_told_before_anything_is_asked(void **state)
{
	const struct fixture *f = *state;
	char *error = NULL;
	int lock;

	assert_int_equal(io_lock_file(f->dir.fd, SETUP_LOCK, &lock), 0);
	refused(f, "", CE_INUSE, "unmount it first");
	close(lock);
	says(passphrase_change("/nowhere", "passphrase:fd=9", &error), &error, -ENOENT, "was not");
}

static void a_damaged_keyring_is_left_as_it_is(void **state)
{
	struct fixture *f = *state;
	int fd = openat(f->dir.fd, KEYRING_FILE, O_RDWR | O_CLOEXEC);
	char *ct = strstr(f->text, "\"ct\":");

	assert_non_null(ct);
	ct = strchr(ct + 5, '"') + 8;
	*ct = *ct == 'A' ? 'B' : 'A';
	assert_int_equal(pwrite(fd, f->text, f->len, 0), (ssize_t)f->len);
	close(fd);
	refused(f, "old\nnew\n", CE_TAMPER, "was not changed");
	assert_int_equal(unlinkat(f->dir.fd, KEYRING_FILE, 0), 0);
	fd = openat(f->dir.fd, KEYRING_FILE, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, "{}", 2), 2);
	close(fd);
	strcpy(f->text, "{}");
	f->len = 2;
	refused(f, "old\nnew\n", CE_FORMAT, "was not changed");
}

static void a_volume_that_is_not_enrolled_has_nothing_behind_its_server(void **state)
{
	struct fixture *f = *state;

	f->server = true;
	refused(f, "old\nnew\n", CE_FORMAT, "was not changed");
}

static struct keyring *load(const struct fixture *f)
{
	struct keyring *k;

	assert_int_equal(keyring_load(f->dir.fd, &k), 0);
	return k;
}

static void the_new_passphrase_opens_the_same_keys(void **state)
{
	_cleanup_(keyring_freep) struct keyring *k = NULL;
	_cleanup_secret_ struct secret *key = NULL, *old = NULL;
	struct fixture *f = *state;
	struct secret *now;
	char *error;

	assert_int_equal(change(f, "old\nnew\n", &error), 0);
	assert_null(error);
	k = load(f);
	old = copy_of(f->old);
	assert_int_equal(keyring_unlock(k, old), CE_WRONG_KEY);
	derive(f, "new\n", keyring_source_params(k), &now);
	assert_int_equal(keyring_unlock(k, now), 0);
	assert_int_equal(keyring_get(k, KEYRING_PURPOSE_INDEX, "", &key), 0);
	assert_true(secret_equal(key, f->index_key));
}

static int change_on_a_full_disk(const struct fixture *f, char **error)
{
	const struct rlimit before = unit_disk_fill();
	int r = change(f, "old\nnew\n", error);

	unit_disk_free(before);
	return r;
}

/* On a full disk first. */
static void behind_a_server_the_lease_goes_over_and_an_older_copy_is_noticed(void **state)
{
	_cleanup_(keyring_freep) struct keyring *k = NULL;
	_cleanup_(device_freep) struct device *d = NULL;
	_cleanup_secret_ struct secret *now = NULL, *kek = NULL;
	struct fixture *f = *state;
	char *error, text[TEXT_MAX];
	int r;

	refused(f, "wrong\nnew\n", CE_WRONG_KEY, "this is not the passphrase");
	r = change_on_a_full_disk(f, &error);
	says(r, &error, -EFBIG, "was not changed");
	assert_int_equal(read_keyring(f, text), f->len);
	assert_memory_equal(text, f->text, f->len);
	assert_int_equal(change(f, "old\nnew\n", &error), 0);
	k = load(f);
	derive(f, "new\n", keyring_source_params(k), &now);
	assert_int_equal(device_read(keyring_device(k), f->old, &d), CE_WRONG_KEY);
	assert_int_equal(device_read(keyring_device(k), now, &d), 0);
	assert_int_equal(device_lease_open(d, now, &kek), 0);
	assert_true(secret_equal(kek, f->kek));
	assert_int_equal(d->lease.from_s, 1000);
	assert_int_equal(d->lease.until_s, 2000);
	assert_int_equal(d->rotation, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_not_the_passphrase_changes_nothing),
		TEST(another_source_has_no_passphrase),
		TEST(a_volume_in_use_or_not_there_is_told_before_anything_is_asked),
		TEST(a_damaged_keyring_is_left_as_it_is),
		TEST(a_volume_that_is_not_enrolled_has_nothing_behind_its_server),
		TEST(the_new_passphrase_opens_the_same_keys),
		cmocka_unit_test_setup_teardown(
			behind_a_server_the_lease_goes_over_and_an_older_copy_is_noticed,
			setup_server, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
