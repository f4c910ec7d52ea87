#include "base/bytes.h"

#include "base/error.h"
#include "unit.h"

static void integers_are_little_endian(void **state)
{
	uint8_t b[8];

	store_le64(b, UINT64_C(0x0102030405060708));
	assert_memory_equal(b, "\x08\x07\x06\x05\x04\x03\x02\x01", 8);
	assert_true(load_le64(b) == UINT64_C(0x0102030405060708));
	store_le32(b, UINT32_MAX);
	assert_true(load_le32(b) == UINT32_MAX);
	store_le16(b, 0xfedc);
	assert_int_equal(load_le16(b), 0xfedc);
}

static void hex_goes_there_and_back(void **state)
{
	uint8_t all[256], back[256];
	char text[513];

	for (int i = 0; i < 256; i++)
		all[i] = (uint8_t)i;
	bytes_to_hex(all, sizeof(all), text);
	assert_int_equal(strlen(text), 512);
	assert_int_equal(bytes_from_hex(text, back, sizeof(back)), 0);
	assert_memory_equal(all, back, sizeof(all));
}

static void hex_of_another_length_or_alphabet_is_refused(void **state)
{
	static const char *const bad[] = { "", "0", "012", "01234", "012g", " 123", "0x12",
		"12 4" };
	uint8_t out[2] = { 0xaa, 0xbb };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(bytes_from_hex(bad[i], out, 2), CE_FORMAT);
	assert_memory_equal(out, "\xaa\xbb", 2);
	assert_int_equal(bytes_from_hex("AbCd", out, 2), 0);
	assert_memory_equal(out, "\xab\xcd", 2);
}

/* RFC 4648 section 10. */
static void base64_test_vectors_of_the_rfc(void **state)
{
	static const char *const plain[] = { "", "f", "fo", "foo", "foob", "fooba", "foobar" };
	static const char *const coded[] = { "", "Zg==", "Zm8=", "Zm9v",
		"Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy" };

	for (size_t i = 0; i < ARRAY_SIZE(plain); i++) {
		uint8_t back[16];
		size_t len;
		char *text;

		assert_int_equal(
			bytes_to_base64((const uint8_t *)plain[i], strlen(plain[i]), &text), 0);
		assert_string_equal(text, coded[i]);
		assert_int_equal(bytes_from_base64(text, back, sizeof(back), &len), 0);
		assert_int_equal(len, strlen(plain[i]));
		assert_memory_equal(back, plain[i], len);
		free(text);
	}
}

static void base64_that_is_not_canonical_is_refused(void **state)
{
	static const char *const bad[] = { "Z", "Zg",
		"Zg=", "Zh==", "Zm9=", "Zg==Zg==", "====", "=", "Z===", "Zm9v\n", "Zm 9v", "Zm9-",
		"Zm9_", "Zm9v=", "Zg=a", "\xc3\xa9Zg" };
	uint8_t out[16] = { 0x55 };
	size_t len = 99;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(bytes_from_base64(bad[i], out, sizeof(out), &len), CE_FORMAT);
	assert_int_equal(out[0], 0x55);
	assert_int_equal(len, 99);
}

static void base64_longer_than_the_room_is_refused(void **state)
{
	uint8_t out[4] = { 1, 2, 3, 4 };
	size_t len;

	assert_int_equal(bytes_from_base64("Zm9vYg==", out, 3, &len), CE_TOO_LARGE);
	assert_memory_equal(out, "\1\2\3\4", 4);
	assert_int_equal(bytes_from_base64("Zm9v", out, 3, &len), 0);
	assert_int_equal(out[3], 4);
}

static bool utf8(const char *text)
{
	return bytes_is_utf8((const uint8_t *)text, strlen(text));
}

static void utf8_takes_every_length_and_its_limits(void **state)
{
	assert_true(utf8(""));
	assert_true(utf8("a\xc2\x80\xdf\xbf"));
	assert_true(utf8("\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf"));
	assert_true(utf8("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"));
}

static void utf8_refuses_overlong_surrogate_cut_and_nul(void **state)
{
	static const char *const bad[] = { "\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2g",
		"\xe0\x9f\xbf", "\xe1\x80", "\xe1\x80g", "\xed\xa0\x80", "\xed\xbf\xbf",
		"\xf0\x8f\xbf\xbf", "\xf1\x80\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff",
		"\xfe" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(utf8(bad[i]));
	assert_false(bytes_is_utf8((const uint8_t *)"a\0b", 3));
}

static void buffer_grows_and_stays_terminated(void **state)
{
	struct buffer b = { 0 };

	for (int i = 0; i < 1000; i++)
		assert_int_equal(buffer_printf(&b, "%04d", i), 0);
	assert_int_equal(buffer_append(&b, NULL, 0), 0);
	assert_int_equal(b.len, 4000);
	assert_int_equal(strlen(b.data), 4000);
	assert_memory_equal(b.data + 3996, "0999", 5);
	buffer_done(&b);
	assert_null(b.data);
}

static void buffer_beyond_its_limit_keeps_what_it_had(void **state)
{
	struct buffer b = { .max = 4 };

	assert_int_equal(buffer_append(&b, "abcd", 4), 0);
	assert_int_equal(buffer_append(&b, "e", 1), CE_TOO_LARGE);
	assert_int_equal(buffer_printf(&b, "%s", "long text"), CE_TOO_LARGE);
	assert_int_equal(buffer_append(&b, "", SIZE_MAX), CE_TOO_LARGE);
	assert_string_equal(b.data, "abcd");
	buffer_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(integers_are_little_endian),
		cmocka_unit_test(hex_goes_there_and_back),
		cmocka_unit_test(hex_of_another_length_or_alphabet_is_refused),
		cmocka_unit_test(base64_test_vectors_of_the_rfc),
		cmocka_unit_test(base64_that_is_not_canonical_is_refused),
		cmocka_unit_test(base64_longer_than_the_room_is_refused),
		cmocka_unit_test(utf8_takes_every_length_and_its_limits),
		cmocka_unit_test(utf8_refuses_overlong_surrogate_cut_and_nul),
		cmocka_unit_test(buffer_grows_and_stays_terminated),
		cmocka_unit_test(buffer_beyond_its_limit_keeps_what_it_had),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
