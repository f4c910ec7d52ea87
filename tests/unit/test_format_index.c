/*
 * The worked examples of the page on the format of the index are recomputed with libsodium alone,
 * and what that gives is opened by the program: page and program cannot drift apart.
 */
#include <fcntl.h>
#include <sodium.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/io.h"
#include "base/secret.h"
#include "meta/page.h"
#include "meta/redo.h"

#include "unit.h"

static char *page;

static int read_page(void **state)
{
	const char *root = getenv("CACHET_SOURCE_ROOT");
	static const char *const names[] = { "format-index.md", "format.md" };
	char path[4096];
	size_t len;
	int r = sodium_init() < 0 ? -1 : 0;

	for (size_t i = 0; i < ARRAY_SIZE(names) && r == 0 && !page; i++) {
		snprintf(path, sizeof(path), "%s/docs/%s", root ? root : ".", names[i]);
		if (io_read_file(AT_FDCWD, path, 1 << 20, &page, &len) == 0 &&
			!strstr(page, "\n| index-page-key |")) {
			free(page);
			page = NULL;
		}
	}
	return page ? r : -1;
}

static int free_page(void **state)
{
	free(page);
	return 0;
}

static size_t example(const char *name, uint8_t *out)
{
	char row[100], hex[1024];
	const char *at;

	snprintf(row, sizeof(row), "\n| %s | `", name);
	at = strstr(page, row);
	if (!at)
		fail_msg("the page has no row %s", name);
	assert_int_equal(sscanf(at + strlen(row), "%1023[0-9a-f]`", hex), 1);
	return unit_hex(hex, out);
}

static void example_is(const char *name, const uint8_t *expected, size_t len)
{
	uint8_t value[512];

	if (example(name, value) != len || memcmp(value, expected, len) != 0) {
		char hex[1025];

		bytes_to_hex(expected, len, hex);
		fail_msg("%s is %s", name, hex);
	}
}

static void derive(const char *label, uint8_t key[static 32])
{
	uint8_t index_key[32], input[64];
	size_t len = strlen(label);

	assert_int_equal(example("index-key", index_key), 32);
	input[0] = (uint8_t)len;
	memcpy(input + 1, label, len);
	crypto_generichash(key, 32, input, len + 1, index_key, 32);
}

static struct page_keys keys(void)
{
	struct page_keys k = { 0 };
	struct secret *s;

	assert_int_equal(secret_new(32, &s), 0);
	assert_int_equal(example("index-key", secret_bytes(s)), 32);
	assert_int_equal(page_keys_init(&k, s), 0);
	secret_free(s);
	return k;
}

static void test_keys_are_those_of_the_page(void **state)
{
	uint8_t key[32];
	struct page_keys k = keys();

	derive("cachet/index/page/v1", key);
	example_is("index-page-key", key, 32);
	assert_memory_equal(secret_cbytes(k.page), key, 32);
	derive("cachet/index/wal/v1", key);
	example_is("index-wal-key", key, 32);
	assert_memory_equal(secret_cbytes(k.wal), key, 32);
	page_keys_done(&k);
}

static void test_a_page_sealed_by_the_description_opens(void **state)
{
	uint8_t key[32], aad[8] = "cIP1", sealed[4096], plain[4096];
	struct page_keys k = keys();

	derive("cachet/index/page/v1", key);
	aad[4] = 3;
	example_is("index-page-aad", aad, sizeof(aad));
	memset(plain, 'a', 4056);
	assert_int_equal(example("index-page-nonce", sealed + 4056), 24);
	crypto_aead_xchacha20poly1305_ietf_encrypt_detached(sealed, sealed + 4080, NULL, plain,
		4056, aad, sizeof(aad), NULL, sealed + 4056, key);
	example_is("index-page-first", sealed, 16);
	example_is("index-page-tag", sealed + 4080, 16);
	memset(plain, 0, sizeof(plain));
	assert_int_equal(page_open(&k, 3, sealed, plain), 0);
	for (int i = 0; i < 4096; i++)
		assert_int_equal(plain[i], i < 4056 ? 'a' : 0);
	page_keys_done(&k);
}

static void test_a_frame_sealed_by_the_description_opens(void **state)
{
	uint8_t key[32], header[24], aad[28], plain[4064], frame[4120], out[4120];
	struct page_keys k = keys();

	derive("cachet/index/wal/v1", key);
	assert_int_equal(example("index-frame-header", header), 24);
	memcpy(aad, "cIW1", 4);
	memcpy(aad + 4, header, 16);
	store_le64(aad + 20, 32 + 1 * 4120);
	example_is("index-frame-aad", aad, sizeof(aad));
	memcpy(plain, header + 16, 8);
	memset(plain + 8, 'a', 4056);
	memcpy(frame, header, 16);
	assert_int_equal(example("index-frame-nonce", frame + 4080), 24);
	crypto_aead_xchacha20poly1305_ietf_encrypt_detached(frame + 16, frame + 4104, NULL, plain,
		sizeof(plain), aad, sizeof(aad), NULL, frame + 4080, key);
	example_is("index-frame-first", frame + 16, 16);
	example_is("index-frame-tag", frame + 4104, 16);
	assert_int_equal(page_frame_open(&k, 4152, frame, out), 0);
	assert_memory_equal(out, header, 24);
	assert_int_equal(out[24], 'a');
	assert_int_equal(page_frame_durable(frame), 1);
	page_keys_done(&k);
}

static void test_a_record_sealed_by_the_description_opens(void **state)
{
	static const uint8_t salt[] = { 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8 };
	char dir[] = "/tmp/cachet-format-XXXXXX", path[64];
	uint8_t key[32], aad[44], plain[512], file[4096 + 128] = { 0 };
	uint8_t *record = file + 4096;
	size_t len = example("index-redo-payload", plain), got = 0;
	struct redo_mark mark = { .number = 4, .at = 4096 };
	struct redo_options o = { .dir = mkdtemp(dir) };
	const uint8_t *payload;
	struct redo_place place;
	struct secret *s;
	struct redo *r;
	int fd;

	derive("cachet/index/redo/v1", key);
	example_is("index-redo-key", key, 32);
	memcpy(mark.salt, salt, 8);
	memcpy(record, salt, 8);
	store_le64(record + 8, 5);
	store_le64(record + 16, 4);
	store_le32(record + 24, (uint32_t)len);
	memcpy(aad, "cIR1", 4);
	memcpy(aad + 4, record, 32);
	store_le64(aad + 36, 4096);
	example_is("index-redo-aad", aad, sizeof(aad));
	assert_int_equal(example("index-redo-nonce", record + 32), 24);
	crypto_aead_xchacha20poly1305_ietf_encrypt_detached(record + 72, record + 56, NULL, plain,
		len, aad, sizeof(aad), NULL, record + 32, key);
	example_is("index-redo-first", record + 72, 16);
	example_is("index-redo-tag", record + 56, 16);

	assert_int_equal(secret_new(32, &s), 0);
	assert_int_equal(example("index-key", secret_bytes(s)), 32);
	o.key = s;
	o.dirfd = open(dir, O_RDONLY | O_DIRECTORY);
	fd = openat(o.dirfd, REDO_FILE, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, file, sizeof(file)), sizeof(file));
	close(fd);
	assert_int_equal(redo_open(&o, &r), 0);
	assert_int_equal(redo_locate(r, &mark, &place), 0);
	assert_true(redo_next(r, &place, &payload, &got));
	assert_int_equal(got, len);
	assert_memory_equal(payload, plain, len);
	assert_int_equal(place.number, 5);
	assert_int_equal(place.at, 4096 + 120);
	assert_false(redo_next(r, &place, &payload, &got));
	redo_free(r);
	secret_free(s);
	close(o.dirfd);
	snprintf(path, sizeof(path), "%s/" REDO_FILE, dir);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys_are_those_of_the_page),
		cmocka_unit_test(test_a_page_sealed_by_the_description_opens),
		cmocka_unit_test(test_a_frame_sealed_by_the_description_opens),
		cmocka_unit_test(test_a_record_sealed_by_the_description_opens),
	};

	return cmocka_run_group_tests(tests, read_page, free_page);
}
