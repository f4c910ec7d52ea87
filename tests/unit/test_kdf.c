#include "crypto/kdf.h"

#include <errno.h>

#include <sodium.h>

#include "base/error.h"
#include "unit.h"

/* RFC 5869, appendix A.1 to A.3. */
static void hkdf_vectors_of_the_rfc(void **state)
{
	static const struct {
		const char *ikm, *salt, *info, *okm;
	} v[] = {
		{ "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "000102030405060708090a0b0c",
			"f0f1f2f3f4f5f6f7f8f9",
			"3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5"
			"b887185865" },
		{ "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f2021222324252627"
		  "28292a2b"
		  "2c2d2e2f303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f",
			"606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f8081828384"
			"85868788898a"
			"8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaea"
			"f",
			"b0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4"
			"d5d6d7d8d9da"
			"dbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfef"
			"f",
			"b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99ca"
			"c7827271cb41"
			"c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f"
			"1d87" },
		{ "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "", "",
			"8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395fa"
			"a4b61a96c8" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
		uint8_t ikm[80], salt[80], info[80], okm[82], out[82];
		size_t ikm_len = unit_hex(v[i].ikm, ikm), salt_len = unit_hex(v[i].salt, salt);
		size_t info_len = unit_hex(v[i].info, info), len = unit_hex(v[i].okm, okm);

		assert_int_equal(
			kdf_hkdf_sha256(ikm, ikm_len, salt, salt_len, info, info_len, out, len), 0);
		assert_memory_equal(out, okm, len);
		if (!salt_len)
			assert_int_equal(
				kdf_hkdf_sha256(ikm, ikm_len, NULL, 0, NULL, 0, out, len), 0);
		assert_memory_equal(out, okm, len);
	}
}

static void hkdf_refuses_more_than_255_blocks(void **state)
{
	static uint8_t out[255 * 32 + 1];

	assert_int_equal(kdf_hkdf_sha256(out, 1, NULL, 0, NULL, 0, out, 255 * 32), 0);
	assert_int_equal(kdf_hkdf_sha256(out, 1, NULL, 0, NULL, 0, out, 255 * 32 + 1), -EINVAL);
	assert_int_equal(kdf_hkdf_sha256(out, 1, NULL, 0, NULL, 0, out, 0), -EINVAL);
}

/* FIPS 180-4 examples. */
static void sha256_vectors(void **state)
{
	static const struct {
		const char *text, *digest;
	} v[] = {
		{ "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
		{ "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
		{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
			"248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
	};
	uint8_t expected[32], out[32];

	for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
		unit_hex(v[i].digest, expected);
		assert_int_equal(kdf_sha256(v[i].text, strlen(v[i].text), out), 0);
		assert_memory_equal(out, expected, 32);
	}
}

static void sha256_in_pieces_of_a_million_a(void **state)
{
	struct kdf_sha256 *h;
	uint8_t expected[32], out[32];
	char piece[997];

	memset(piece, 'a', sizeof(piece));
	assert_int_equal(kdf_sha256_new(&h), 0);
	for (size_t left = 1000000; left;) {
		size_t n = MIN_OF(left, sizeof(piece));

		assert_int_equal(kdf_sha256_update(h, piece, n), 0);
		left -= n;
	}
	assert_int_equal(kdf_sha256_final(h, out), 0);
	unit_hex("cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", expected);
	assert_memory_equal(out, expected, 32);
	kdf_sha256_free(NULL);
	assert_int_equal(kdf_sha256_new(&h), 0);
	kdf_sha256_free(h);
}

/* From another implementation: Python's hashlib.blake2b. */
static void blake2b_of_label_and_fields(void **state)
{
	uint8_t parent[32], id[16], out[32], expected[32];
	const struct kdf_field fields[] = { { id, 16 }, { "\1\0\0\0", 4 } };

	for (int i = 0; i < 32; i++)
		parent[i] = (uint8_t)(0x40 + i);
	unit_hex("00112233445566778899aabbccddeeff", id);
	assert_int_equal(kdf_blake2b(parent, "cachet/blob/v1", fields, 2, out), 0);
	unit_hex("5da067a97ba47e0d7f9ed829dd55b0e849c8886493058f1211d56c4f599c9e0b", expected);
	assert_memory_equal(out, expected, 32);
	assert_int_equal(kdf_blake2b(parent, KDF_LABEL_UNSENT, NULL, 0, out), 0);
	unit_hex("648d50e65842a7d0ca3b3209e66d071cb6eafa7a7cfe2a049178a851e504bb78", expected);
	assert_memory_equal(out, expected, 32);
}

/* Moving a byte over a border must change the key: that is what the lengths are for. */
static void blake2b_fields_do_not_run_into_each_other(void **state)
{
	static const uint8_t parent[32];
	const struct kdf_field splits[][2] = { { { "ab", 2 }, { "c", 1 } },
		{ { "a", 1 }, { "bc", 2 } }, { { "abc", 3 }, { "", 0 } },
		{ { "", 0 }, { "abc", 3 } } };
	uint8_t out[6][32];

	for (size_t i = 0; i < 4; i++)
		assert_int_equal(kdf_blake2b(parent, "l", splits[i], 2, out[i]), 0);
	assert_int_equal(kdf_blake2b(parent, "l", splits[2], 1, out[4]), 0);
	assert_int_equal(kdf_blake2b(parent, "labc", NULL, 0, out[5]), 0);
	for (size_t i = 0; i < 6; i++)
		for (size_t j = 0; j < i; j++)
			assert_memory_not_equal(out[i], out[j], 32);
}

static void blake2b_refuses_what_its_lengths_cannot_say(void **state)
{
	static const uint8_t parent[32];
	static char label[257], big[65536];
	const struct kdf_field field = { big, sizeof(big) };
	uint8_t out[32];

	memset(label, 'l', 256);
	assert_int_equal(kdf_blake2b(parent, label, NULL, 0, out), -EINVAL);
	assert_int_equal(kdf_blake2b(parent, "l", &field, 1, out), -EINVAL);
	assert_int_equal(kdf_commit(parent, big, sizeof(big), out), -EINVAL);
}

static void commitment_of_another_implementation(void **state)
{
	uint8_t key[32], out[16], expected[16];

	for (int i = 0; i < 32; i++)
		key[i] = (uint8_t)i;
	assert_int_equal(kdf_commit(key, "kek-1", 5, out), 0);
	unit_hex("2da5c3140d58771be689271c8bd615d1", expected);
	assert_memory_equal(out, expected, 16);
	assert_int_equal(kdf_commit(key, "kek-2", 5, out), 0);
	assert_memory_not_equal(out, expected, 16);
}

/* The constant is from a third implementation: OpenSSL's, by Python's cryptography. */
static void argon2id_is_libsodiums(void **state)
{
	static const uint8_t salt[] = "0123456789abcdef";
	uint8_t ours[32], theirs[32], third[32];

	assert_int_equal(kdf_argon2id("pass\xc3\xa9", 6, salt, 2, 8192, ours), 0);
	assert_int_equal(crypto_pwhash(theirs, 32, "pass\xc3\xa9", 6, salt, 2, 8192 * 1024,
				 crypto_pwhash_ALG_ARGON2ID13),
		0);
	assert_memory_equal(ours, theirs, 32);
	unit_hex("44c4061627b86506b3f183119b84519153c58e8862593757c395dc3d3450d559", third);
	assert_memory_equal(ours, third, 32);
	assert_int_equal(kdf_argon2id("pass", 4, salt, 2, 8192, theirs), 0);
	assert_memory_not_equal(ours, theirs, 32);
}

static void argon2id_cost_out_of_range_is_refused(void **state)
{
	static const uint8_t salt[16];
	uint8_t out[32] = { 0x77 };

	assert_int_equal(kdf_argon2id("p", 1, salt, 0, 8192, out), CE_USAGE);
	assert_int_equal(kdf_argon2id("p", 1, salt, 1, 7, out), CE_USAGE);
	assert_int_equal(out[0], 0x77);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hkdf_vectors_of_the_rfc),
		cmocka_unit_test(hkdf_refuses_more_than_255_blocks),
		cmocka_unit_test(sha256_vectors),
		cmocka_unit_test(sha256_in_pieces_of_a_million_a),
		cmocka_unit_test(blake2b_of_label_and_fields),
		cmocka_unit_test(blake2b_fields_do_not_run_into_each_other),
		cmocka_unit_test(blake2b_refuses_what_its_lengths_cannot_say),
		cmocka_unit_test(commitment_of_another_implementation),
		cmocka_unit_test(argon2id_is_libsodiums),
		cmocka_unit_test(argon2id_cost_out_of_range_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
