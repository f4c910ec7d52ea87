/* The worked examples of docs/format.md are recomputed: page and program cannot drift apart. */
#include "base/bytes.h"
#include "base/error.h"
#include "base/io.h"
#include "crypto/aead.h"
#include "crypto/bundle.h"
#include "crypto/envelope.h"
#include "crypto/kdf.h"
#include "crypto/keyring.h"

#include "unit.h"

#define STORE "00112233445566778899aabbccddeeff"

static char *page;

static int read_page(void **state)
{
	const char *root = getenv("CACHET_SOURCE_ROOT");
	char path[4096];
	size_t len;

	snprintf(path, sizeof(path), "%s/docs/format.md", root ? root : ".");
	return io_read_file(AT_FDCWD, path, 1 << 20, &page, &len);
}

static int free_page(void **state)
{
	free(page);
	return 0;
}

/* The value in the row "| name | `hex` |". */
static size_t example(const char *name, uint8_t *out, size_t max)
{
	char row[100], hex[1024];
	const char *at;

	snprintf(row, sizeof(row), "\n| %s | `", name);
	at = strstr(page, row);
	if (!at)
		fail_msg("docs/format.md has no row %s", name);
	assert_int_equal(sscanf(at + strlen(row), "%1023[0-9a-f]`", hex), 1);
	assert_true(strlen(hex) / 2 <= max);
	return unit_hex(hex, out);
}

static void example_is(const char *name, const uint8_t *expected, size_t len)
{
	uint8_t value[512];

	assert_int_equal(example(name, value, sizeof(value)), len);
	assert_memory_equal(value, expected, len);
}

static size_t put(uint8_t *aad, size_t at, const char *field)
{
	store_le16(aad + at, (uint16_t)strlen(field));
	memcpy(aad + at + 2, field, strlen(field));
	return at + 2 + strlen(field);
}

static void the_wrapped_key_is_as_described(void **state)
{
	uint8_t kek[32], key[32], iv[12], aad[200] = "cachet/wrap/v1", ct[48];
	size_t n = 14;

	n = put(aad, n, "cek");
	n = put(aad, n, STORE);
	n = put(aad, n, "kek-1");
	n = put(aad, n, "1");
	n = put(aad, n, "1700000000");
	example_is("wrap-aad", aad, n);
	example("wrap-kek", kek, 32);
	example("wrap-key", key, 32);
	example("wrap-iv", iv, 12);
	assert_int_equal(aead_seal(AEAD_AES256GCM, kek, iv, aad, n, key, 32, ct, ct + 32), 0);
	example_is("wrap-ct", ct, 48);
}

/* The fenced block, written to a file as it stands. */
static void the_keyring_of_the_page_opens(void **state)
{
	const char *start = strstr(page, "```json\n"), *end;
	struct unit_dir dir;
	struct keyring *k;
	struct secret *kek, *key;
	uint8_t bytes[32];

	assert_non_null(start);
	start += strlen("```json\n");
	end = strstr(start, "```");
	unit_dir_init(&dir);
	assert_int_equal(io_publish(dir.fd, KEYRING_FILE, start, (size_t)(end - start), 0600), 0);
	assert_int_equal(keyring_load(dir.fd, &k), 0);
	example("wrap-kek", bytes, 32);
	assert_int_equal(secret_new_copy(bytes, 32, &kek), 0);
	assert_int_equal(keyring_unlock(k, kek), 0);
	assert_int_equal(keyring_get(k, KEYRING_PURPOSE_CEK, STORE, &key), 0);
	example_is("wrap-key", secret_cbytes(key), 32);
	secret_free(key);
	keyring_free(k);
	unit_dir_done(&dir);
}

static void the_envelope_of_the_page_opens(void **state)
{
	const char *start = strstr(page, "    {\"enc\":"), *end;
	_cleanup_json_ struct json *env = NULL;
	_cleanup_free_ uint8_t *plain = NULL;
	uint8_t key[32], iv[12], ct[5], aad[200], tag[16];
	const struct json *enc;
	size_t len;

	assert_non_null(start);
	end = strchr(start, '\n');
	assert_int_equal(json_parse(start, (size_t)(end - start), &env), 0);
	example("wrap-kek", key, 32);
	assert_int_equal(envelope_open(env, key, &plain, &len), 0);
	assert_int_equal(len, 5);
	assert_memory_equal(plain, "hello", 5);
	assert_int_equal(json_get(env, "enc", &enc), 0);
	assert_int_equal(json_get_bytes(enc, "iv", iv, 12), 0);
	assert_int_equal(json_get_bytes(enc, "ct", ct, 5), 0);
	assert_int_equal(json_get_bytes(enc, "tag", tag, 16), 0);
	len = example("envelope-aad", aad, sizeof(aad));
	assert_int_equal(json_get_bytes(enc, "aad", aad, len), 0);
	example_is("envelope-aad", aad, len);
	example_is("envelope-iv", iv, 12);
	example_is("envelope-ct", ct, 5);
	example_is("envelope-tag", tag, 16);
}

struct bytes {
	uint8_t data[512];
	size_t len, at;
};

static ssize_t bytes_read(void *arg, void *buf, size_t len)
{
	struct bytes *b = arg;
	size_t n = MIN_OF(len, b->len - b->at);

	memcpy(buf, b->data + b->at, n);
	b->at += n;
	return (ssize_t)n;
}

static void the_bundle_of_the_page_opens(void **state)
{
	struct bytes b = { .at = 0 };
	const struct bundle_source source = { bytes_read, &b };
	struct bundle_reader *reader;
	uint8_t key[32], okm[64];
	char text[10];
	size_t n;

	b.len = example("bundle-header", b.data, sizeof(b.data));
	example("wrap-kek", key, 32);
	assert_int_equal(kdf_hkdf_sha256(key, 32, b.data + 16, 32,
				 (const uint8_t *)"cachet/bundle/v1", 16, okm, 64),
		0);
	example_is("bundle-chunk-key", okm, 32);
	assert_memory_equal(b.data + 56, okm + 32, 32);
	b.len += example("bundle-chunk", b.data + b.len, sizeof(b.data) - b.len);
	assert_int_equal(bundle_reader_new(key, &source, &reader), 0);
	assert_int_equal(bundle_read(reader, text, sizeof(text), &n), 0);
	assert_int_equal(n, 5);
	assert_memory_equal(text, "hello", 5);
	assert_int_equal(bundle_read(reader, text, sizeof(text), &n), 0);
	assert_int_equal(n, 0);
	bundle_reader_free(reader);
}

static void the_derived_keys_are_as_described(void **state)
{
	uint8_t kek[32], key[32], id[16], out[32], epoch[8];
	const struct kdf_field fields[] = { { id, 16 }, { epoch, 8 } };

	example("wrap-kek", kek, 32);
	example("wrap-key", key, 32);
	unit_hex(STORE, id);
	store_le64(epoch, 1);
	assert_int_equal(kdf_blake2b(key, KDF_LABEL_INDEX_PAGE, NULL, 0, out), 0);
	example_is("kdf-page", out, 32);
	assert_int_equal(kdf_blake2b(key, KDF_LABEL_BLOB, fields, 2, out), 0);
	example_is("kdf-blob", out, 32);
	assert_int_equal(kdf_commit(kek, "kek-1", 5, out), 0);
	example_is("commit", out, 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_wrapped_key_is_as_described),
		cmocka_unit_test(the_keyring_of_the_page_opens),
		cmocka_unit_test(the_envelope_of_the_page_opens),
		cmocka_unit_test(the_bundle_of_the_page_opens),
		cmocka_unit_test(the_derived_keys_are_as_described),
	};

	return cmocka_run_group_tests(tests, read_page, free_page);
}
