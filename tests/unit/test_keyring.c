/* io.c is compiled here with its failpoints: a kill can be put into the middle of a save. */
#ifndef CACHET_FAILPOINTS
#define CACHET_FAILPOINTS 1
#endif
#include "base/failpoint.c" /* NOLINT */
#include "base/io.c"        /* NOLINT */

#include "crypto/keyring.h"

#include "unit.h"

#define STORE_A "00112233445566778899aabbccddeeff"
#define STORE_B "ffeeddccbbaa99887766554433221100"

static struct secret *kek_of(uint8_t fill)
{
	uint8_t bytes[32];
	struct secret *kek;

	memset(bytes, fill, sizeof(bytes));
	assert_int_equal(secret_new_copy(bytes, sizeof(bytes), &kek), 0);
	return kek;
}

/* A volume's keyring in a directory of its own, and the keys it holds. */
struct fixture {
	struct unit_dir dir;
	struct secret *index, *a, *b;
	char *text;
	size_t len;
};

static void read_text(struct fixture *f)
{
	free(f->text);
	assert_int_equal(io_read_file(f->dir.fd, KEYRING_FILE, 1 << 20, &f->text, &f->len), 0);
}

/* Replaces the file without the cost of a sync. */
static void write_text(struct fixture *f, const char *text, size_t len)
{
	int fd = openat(f->dir.fd, KEYRING_FILE, O_WRONLY | O_TRUNC);

	assert_true(fd >= 0);
	assert_int_equal(io_write_full(fd, text, len), 0);
	close(fd);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct json *params = json_new_object();
	struct keyring *k;

	unit_dir_init(&f->dir);
	assert_int_equal(keyring_new("kek-1", &k), 0);
	json_set_string(params, "driver", "passphrase");
	keyring_set_source_params(k, params);
	assert_int_equal(keyring_unlock(k, kek_of(1)), 0);
	assert_int_equal(keyring_make(k, KEYRING_PURPOSE_INDEX, "", &f->index), 0);
	assert_int_equal(keyring_make(k, KEYRING_PURPOSE_CEK, STORE_A, &f->a), 0);
	assert_int_equal(keyring_make(k, KEYRING_PURPOSE_CEK, STORE_B, &f->b), 0);
	assert_int_equal(keyring_save(k, f->dir.fd), 0);
	keyring_free(k);
	read_text(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	secret_free(f->index);
	secret_free(f->a);
	secret_free(f->b);
	free(f->text);
	unit_dir_done(&f->dir);
	free(f);
	return 0;
}

/* 0 when the key is there and is `expected`; 1 when it is another one; else the error. */
static int get_is(
	struct keyring *k, const char *purpose, const char *store, const struct secret *expected)
{
	struct secret *key;
	int r = keyring_get(k, purpose, store, &key);

	if (r)
		return r;
	r = secret_equal(key, expected) ? 0 : 1;
	secret_free(key);
	return r;
}

static int load_and_unlock(struct fixture *f, uint8_t kek_fill, struct keyring **k)
{
	struct secret *kek;
	int r = keyring_load(f->dir.fd, k);

	if (r)
		return r;
	kek = kek_of(kek_fill);
	r = keyring_unlock(*k, kek);
	if (r) {
		secret_free(kek);
		keyring_free(*k);
	}
	return r;
}

static void a_saved_keyring_gives_the_same_keys(void **state)
{
	struct fixture *f = *state;
	struct keyring_entry_info info;
	struct keyring *k;
	const char *driver;

	assert_int_equal(load_and_unlock(f, 1, &k), 0);
	assert_string_equal(keyring_kid(k), "kek-1");
	assert_int_equal(get_is(k, KEYRING_PURPOSE_INDEX, "", f->index), 0);
	assert_int_equal(get_is(k, KEYRING_PURPOSE_CEK, STORE_A, f->a), 0);
	assert_int_equal(get_is(k, KEYRING_PURPOSE_CEK, STORE_B, f->b), 0);
	assert_int_equal(keyring_entry(k, 2, &info), 0);
	assert_string_equal(info.store, STORE_B);
	assert_true(info.epoch == 1 && info.created_at_s > 1600000000);
	assert_int_equal(keyring_entry(k, 3, &info), -ENOENT);
	assert_int_equal(json_get_string(keyring_source_params(k), "driver", &driver), 0);
	assert_string_equal(driver, "passphrase");
	assert_false(secret_equal(f->a, f->b));
	keyring_free(k);
}

static void no_key_is_in_the_file(void **state)
{
	struct fixture *f = *state;

	assert_null(memmem(f->text, f->len, secret_cbytes(f->a), 32));
	assert_true(f->len > 500);
}

static void a_locked_keyring_gives_and_makes_nothing(void **state)
{
	struct fixture *f = *state;
	struct secret *key = NULL;
	struct keyring *k;

	assert_int_equal(load_and_unlock(f, 1, &k), 0);
	keyring_lock(k);
	assert_int_equal(keyring_get(k, KEYRING_PURPOSE_INDEX, "", &key), CE_LOCKED);
	assert_int_equal(keyring_make(k, KEYRING_PURPOSE_CEK, STORE_A, &key), CE_LOCKED);
	assert_null(key);
	assert_int_equal(keyring_unlock(k, kek_of(1)), 0);
	assert_int_equal(get_is(k, KEYRING_PURPOSE_INDEX, "", f->index), 0);
	keyring_free(k);
}

static void a_wrong_kek_is_told_from_damage(void **state)
{
	struct keyring *k;

	assert_int_equal(load_and_unlock(*state, 2, &k), CE_WRONG_KEY);
}

static void a_kek_of_another_length_is_refused(void **state)
{
	struct fixture *f = *state;
	struct secret *kek;
	struct keyring *k;

	assert_int_equal(secret_new(16, &kek), 0);
	assert_int_equal(keyring_load(f->dir.fd, &k), 0);
	assert_int_equal(keyring_unlock(k, kek), -EINVAL);
	secret_free(kek);
	keyring_free(k);
}

static void an_entry_is_made_once_and_absent_is_said(void **state)
{
	struct secret *key = NULL;
	struct keyring *k;

	assert_int_equal(load_and_unlock(*state, 1, &k), 0);
	assert_int_equal(keyring_make(k, KEYRING_PURPOSE_INDEX, "", &key), -EEXIST);
	assert_int_equal(
		keyring_get(k, KEYRING_PURPOSE_CEK, "0123456789abcdef0123456789abcdef", &key),
		-ENOENT);
	assert_int_equal(keyring_make(k, KEYRING_PURPOSE_CEK, "short", &key), CE_FORMAT);
	assert_int_equal(keyring_make(k, "UPPER", "", &key), CE_FORMAT);
	assert_null(key);
	keyring_free(k);
}

static void a_kid_that_is_not_plain_is_refused(void **state)
{
	char longest[130];
	struct keyring *k = NULL;

	memset(longest, 'k', 129);
	longest[129] = '\0';
	assert_int_equal(keyring_new(longest, &k), CE_FORMAT);
	assert_int_equal(keyring_new("", &k), CE_FORMAT);
	assert_int_equal(keyring_new("a b", &k), CE_FORMAT);
	assert_int_equal(keyring_new("k\xc3\xa9", &k), CE_FORMAT);
	assert_null(k);
	assert_int_equal(keyring_new(longest + 1, &k), 0);
	keyring_free(k);
}

/* What a changed file means: an error anywhere, or exactly what it meant before. */
static bool harmless(struct fixture *f)
{
	struct keyring_entry_info info;
	struct keyring *k;
	bool ok;
	int r;

	r = load_and_unlock(f, 1, &k);
	if (r)
		return r == CE_FORMAT || r == CE_TAMPER || r == CE_WRONG_KEY;
	/* The parameters of the source are not looked at: the KEK made from other ones is another.
	 */
	ok = !strcmp(keyring_kid(k), "kek-1") && keyring_source_params(k);
	for (size_t i = 0; i < 3 && ok; i++) {
		const struct secret *keys[] = { f->index, f->a, f->b };
		static const char *const stores[] = { "", STORE_A, STORE_B };

		ok = keyring_entry(k, i, &info) == 0;
		r = ok ? get_is(k, info.purpose, info.store, keys[i]) : 0;
		/* Another place, another time or another name never opens. */
		ok = ok &&
		     (r == CE_TAMPER || (r == 0 && !strcmp(info.store, stores[i]) &&
						info.epoch == 1 && !strcmp(info.kid, "kek-1")));
	}
	keyring_free(k);
	return ok;
}

static void every_flipped_bit_is_an_error_or_means_nothing(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *text = malloc(f->len);

	assert_true(harmless(f));
	memcpy(text, f->text, f->len);
	for (size_t i = 0; i < f->len; i++) {
		for (int bit = 0; bit < 8; bit++) {
			text[i] = (char)(f->text[i] ^ 1 << bit);
			write_text(f, text, f->len);
			if (!harmless(f))
				fail_msg("bit %d of byte %zu:\n%.*s", bit, i, (int)f->len, text);
		}
		text[i] = f->text[i];
	}
}

static void a_file_cut_anywhere_is_not_a_keyring(void **state)
{
	struct fixture *f = *state;
	struct keyring *k;

	for (size_t len = 0; len < f->len; len++) {
		write_text(f, f->text, len);
		assert_int_equal(keyring_load(f->dir.fd, &k), CE_FORMAT);
	}
}

/* The file with the first `from` behind `anchor` exchanged for `to`. */
static void edit(struct fixture *f, const char *anchor, const char *from, const char *to)
{
	const char *start = strstr(f->text, anchor), *at = start ? strstr(start, from) : NULL;
	_cleanup_free_ char *text = NULL;
	int n;

	assert_non_null(at);
	n = asprintf(&text, "%.*s%s%s", (int)(at - f->text), f->text, to, at + strlen(from));
	assert_true(n > 0);
	write_text(f, text, (size_t)n);
}

static void assert_only_b_is_damaged(struct fixture *f, const char *store)
{
	struct keyring *k;

	assert_int_equal(load_and_unlock(f, 1, &k), 0);
	assert_int_equal(get_is(k, KEYRING_PURPOSE_CEK, store, f->b), CE_TAMPER);
	assert_int_equal(get_is(k, KEYRING_PURPOSE_CEK, STORE_A, f->a), 0);
	assert_int_equal(get_is(k, KEYRING_PURPOSE_INDEX, "", f->index), 0);
	keyring_free(k);
}

static void another_kid_epoch_purpose_store_or_time_is_tampering(void **state)
{
	static const char other[] = "0123456789abcdef0123456789abcdef";
	struct fixture *f = *state;
	struct keyring *k;

	edit(f, STORE_B, "kek-1", "kek-2");
	assert_only_b_is_damaged(f, STORE_B);
	edit(f, STORE_B, "\"epoch\":\t1", "\"epoch\":\t2");
	assert_only_b_is_damaged(f, STORE_B);
	edit(f, STORE_B, "\"createdAt\":\t1", "\"createdAt\":\t2");
	assert_only_b_is_damaged(f, STORE_B);
	edit(f, STORE_B, STORE_B, other);
	assert_only_b_is_damaged(f, other);
	edit(f, "\"cek\"", "\"cek\"", "\"kec\"");
	assert_int_equal(load_and_unlock(f, 1, &k), 0);
	assert_int_equal(get_is(k, "kec", STORE_A, f->a), CE_TAMPER);
	assert_int_equal(get_is(k, "cek", STORE_A, f->a), -ENOENT);
	keyring_free(k);
}

static void the_name_at_the_top_cannot_be_changed_alone(void **state)
{
	struct keyring *k;

	edit(*state, "\"kid\"", "kek-1", "kek-9");
	assert_int_equal(load_and_unlock(*state, 1, &k), CE_TAMPER);
}

/* Both entries are authentic, each in the place of the other. */
static void two_entries_that_changed_places_do_not_open(void **state)
{
	struct fixture *f = *state;
	char *a = strstr(f->text, STORE_A), *b = strstr(f->text, STORE_B), swap[32];
	struct keyring *k;

	memcpy(swap, a, 32);
	memcpy(a, b, 32);
	memcpy(b, swap, 32);
	write_text(f, f->text, f->len);
	assert_int_equal(load_and_unlock(f, 1, &k), 0);
	assert_int_equal(get_is(k, KEYRING_PURPOSE_CEK, STORE_A, f->a), CE_TAMPER);
	assert_int_equal(get_is(k, KEYRING_PURPOSE_CEK, STORE_B, f->b), CE_TAMPER);
	keyring_free(k);
}

static void what_is_not_a_keyring_is_a_format_error(void **state)
{
	struct fixture *f = *state;
	struct keyring *k;

	edit(f, "\"v\"", "1", "2");
	assert_int_equal(keyring_load(f->dir.fd, &k), CE_FORMAT);
	edit(f, "\"format\"", "cachet-keyring", "other");
	assert_int_equal(keyring_load(f->dir.fd, &k), CE_FORMAT);
	edit(f, STORE_B, STORE_B, STORE_A); /* twice the same place */
	assert_int_equal(keyring_load(f->dir.fd, &k), CE_FORMAT);
	edit(f, "\"v\"", "1", "1,\"more\":2");
	assert_int_equal(keyring_load(f->dir.fd, &k), CE_FORMAT);
	write_text(f, "[]", 2);
	assert_int_equal(keyring_load(f->dir.fd, &k), CE_FORMAT);
	assert_int_equal(unlinkat(f->dir.fd, KEYRING_FILE, 0), 0);
	assert_int_equal(keyring_load(f->dir.fd, &k), -ENOENT);
}

static void rewrap_changes_the_kek_and_no_key(void **state)
{
	struct fixture *f = *state;
	struct keyring *k;

	assert_int_equal(load_and_unlock(f, 1, &k), 0);
	assert_int_equal(keyring_rewrap(k, kek_of(2), "kek-2"), 0);
	assert_int_equal(get_is(k, KEYRING_PURPOSE_CEK, STORE_A, f->a), 0);
	assert_int_equal(keyring_save(k, f->dir.fd), 0);
	keyring_free(k);
	assert_int_equal(load_and_unlock(f, 1, &k), CE_WRONG_KEY);
	assert_int_equal(load_and_unlock(f, 2, &k), 0);
	assert_string_equal(keyring_kid(k), "kek-2");
	assert_int_equal(get_is(k, KEYRING_PURPOSE_INDEX, "", f->index), 0);
	assert_int_equal(get_is(k, KEYRING_PURPOSE_CEK, STORE_B, f->b), 0);
	keyring_free(k);
}

static void rewrap_over_a_damaged_entry_changes_nothing(void **state)
{
	struct fixture *f = *state;
	struct secret *kek = kek_of(2);
	struct keyring *k;

	edit(f, STORE_B, "\"epoch\":\t1", "\"epoch\":\t2");
	assert_int_equal(load_and_unlock(f, 1, &k), 0);
	assert_int_equal(keyring_rewrap(k, kek, "kek-2"), CE_TAMPER);
	assert_string_equal(keyring_kid(k), "kek-1");
	assert_int_equal(get_is(k, KEYRING_PURPOSE_INDEX, "", f->index), 0);
	secret_free(kek);
	keyring_free(k);
}

static void rewrap_and_save(struct fixture *f)
{
	struct keyring *k;

	if (load_and_unlock(f, 1, &k) || keyring_rewrap(k, kek_of(2), "kek-2") ||
		keyring_save(k, f->dir.fd))
		unit_exit(1);
	unit_exit(0);
}

static void a_kill_in_the_middle_of_a_save_leaves_old_or_new(void **state)
{
	static const struct {
		const char *at;
		uint8_t opens, does_not;
	} steps[] = {
		{ "publish-write=1:kill", 1, 2 },
		{ "publish-fsync=1:kill", 1, 2 },
		{ "publish-rename=1:kill", 1, 2 },
		{ "publish-dirsync=1:kill", 2, 1 },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		struct keyring *k;
		int status;
		pid_t pid;

		write_text(f, f->text, f->len);
		pid = fork();
		if (pid == 0) {
			setenv("CACHET_FAILPOINTS", steps[i].at, 1);
			once = PTHREAD_ONCE_INIT; /* the parent has read its list: read ours */
			rewrap_and_save(f);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(load_and_unlock(f, steps[i].does_not, &k), CE_WRONG_KEY);
		assert_int_equal(load_and_unlock(f, steps[i].opens, &k), 0);
		assert_int_equal(get_is(k, KEYRING_PURPOSE_CEK, STORE_A, f->a), 0);
		assert_int_equal(get_is(k, KEYRING_PURPOSE_INDEX, "", f->index), 0);
		keyring_free(k);
	}
}

static void the_file_is_for_its_owner_only(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	assert_int_equal(fstatat(f->dir.fd, KEYRING_FILE, &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_saved_keyring_gives_the_same_keys),
		TEST(no_key_is_in_the_file),
		TEST(a_locked_keyring_gives_and_makes_nothing),
		TEST(a_wrong_kek_is_told_from_damage),
		TEST(a_kek_of_another_length_is_refused),
		TEST(an_entry_is_made_once_and_absent_is_said),
		cmocka_unit_test(a_kid_that_is_not_plain_is_refused),
		TEST(every_flipped_bit_is_an_error_or_means_nothing),
		TEST(a_file_cut_anywhere_is_not_a_keyring),
		TEST(another_kid_epoch_purpose_store_or_time_is_tampering),
		TEST(the_name_at_the_top_cannot_be_changed_alone),
		TEST(two_entries_that_changed_places_do_not_open),
		TEST(what_is_not_a_keyring_is_a_format_error),
		TEST(rewrap_changes_the_kek_and_no_key),
		TEST(rewrap_over_a_damaged_entry_changes_nothing),
		TEST(a_kill_in_the_middle_of_a_save_leaves_old_or_new),
		TEST(the_file_is_for_its_owner_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
