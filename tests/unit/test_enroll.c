#include "crypto/enroll.h"

#include <errno.h>

#include "base/error.h"
#include "crypto/kdf.h"
#include "unit.h"

/* NIST CAVS 14.1, ECC CDH primitive test, P-256, COUNT = 0. */
#define NIST_PRIV "7d7dc5f71eb29ddaf80d6214632eeae03d9058af1fb6d22ed80badb62bc1a534"
#define NIST_PUB                                                                                   \
	"04ead218590119e8876b29146ff89ca61770c4edbbf97d38ce385ed281d8a6b23028af61281fd35e2fa70025" \
	"23"                                                                                       \
	"acc85a429cb06ee6648325389f59edfce1405141"
#define NIST_PEER                                                                                  \
	"04700c48f77f56584c5cc632ca65640db91b6bacce3a4df6b42ce7cc838833d287db71e509e3fd9b060ddb20" \
	"ba"                                                                                       \
	"5c51dcc5948d46fbf640dfe0441782cab85fa4ac"
#define NIST_Z "46fc62106420ff012e54a434fbdd2d25ccc5852060561e68040dd7778997bd7b"
/* P-256's order (FIPS 186-4, D.1.2.3). */
#define ORDER "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"

/* RFC 8032 section 7.1, test 1. */
#define RFC_SEED "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
#define RFC_PUB "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
#define RFC_SIG                                                                                    \
	"e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e3970" \
	"1c"                                                                                       \
	"f9b46bd25bf5f0595bbe24655141438e7a100b"

/* Made with python3-cryptography from the specification: KEK 20 21 … 3f for NIST_PUB. */
#define WRAP_EPH                                                                                   \
	"049fad84aeae08bbef7f010014d82cef6a09de2b0cf871b5ce0c4f1d13a59a593407cb45769f1070e2c2470f" \
	"e5"                                                                                       \
	"b1bfe63133c0b0cdc64ea4bf3791a8ec2a07fd4f"
#define WRAP_IV "000102030405060708090a0b"
#define WRAP_SALT "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"
#define WRAP_CT                                                                                    \
	"c60fe9f07d5c491b1f7f19dc6c3c851b3ee016f1212389ad962461dcb591d4dc54d1c159d1e6edb38bca98f8" \
	"16"                                                                                       \
	"91512b"
#define WRAP_SIG                                                                                   \
	"2dbaa3cb2f590470b1cd351aff5ca2ad117c5f68262ae255b27967e85ac6073376ff5f41fdbf6d765ac364ef" \
	"f1"                                                                                       \
	"f1130db328928b4c03ced202e10cb0c8d29c0a"

static struct secret *secret_of(const char *hex)
{
	struct secret *s;
	uint8_t bytes[64];
	size_t len = unit_hex(hex, bytes);

	assert_int_equal(secret_new_copy(bytes, len, &s), 0);
	return s;
}

static void vector(struct enroll_wrapped *w)
{
	unit_hex(WRAP_EPH, w->eph_pub);
	unit_hex(WRAP_IV, w->iv);
	unit_hex(WRAP_SALT, w->salt);
	unit_hex(WRAP_CT, w->ct);
}

static void ecdh_vector_of_nist(void **state)
{
	_cleanup_secret_ struct secret *priv = secret_of(NIST_PRIV), *z = NULL;
	uint8_t pub[65], peer[65], expected[65];

	unit_hex(NIST_PUB, expected);
	assert_int_equal(enroll_device_public(priv, pub), 0);
	assert_memory_equal(pub, expected, 65);
	unit_hex(NIST_PEER, peer);
	unit_hex(NIST_Z, expected);
	assert_int_equal(enroll_ecdh(priv, peer, &z), 0);
	assert_int_equal(secret_len(z), 32);
	assert_memory_equal(secret_cbytes(z), expected, 32);
}

static void signature_vector_of_the_rfc(void **state)
{
	_cleanup_secret_ struct secret *seed = secret_of(RFC_SEED);
	const struct enroll_statement empty = { .label = "" };
	uint8_t pub[32], sig[64], expected[64];

	unit_hex(RFC_PUB, expected);
	assert_int_equal(enroll_sign_public(seed, pub), 0);
	assert_memory_equal(pub, expected, 32);
	unit_hex(RFC_SIG, expected);
	assert_int_equal(enroll_sign(seed, &empty, sig), 0);
	assert_memory_equal(sig, expected, 64);
	assert_int_equal(enroll_verify(pub, &empty, sig), 0);
}

static void opens_what_another_implementation_wrapped(void **state)
{
	_cleanup_secret_ struct secret *priv = secret_of(NIST_PRIV), *kek = NULL;
	enum enroll_stage stage = ENROLL_TAG;
	struct enroll_wrapped w;

	vector(&w);
	assert_int_equal(enroll_unwrap(priv, &w, &kek, &stage), 0);
	assert_int_equal(stage, ENROLL_OK);
	for (size_t i = 0; i < 32; i++)
		assert_int_equal(secret_cbytes(kek)[i], 0x20 + i);
}

static void statement(struct enroll_statement *s, uint8_t nonce[16], uint8_t digest[32])
{
	struct enroll_wrapped w;

	vector(&w);
	for (size_t i = 0; i < 16; i++)
		nonce[i] = (uint8_t)i;
	assert_int_equal(kdf_sha256(w.ct, sizeof(w.ct), digest), 0);
	*s = (struct enroll_statement){ .label = ENROLL_LABEL_KEK,
		.dkid = "dk-7",
		.kid = "kek-1",
		.nonce = nonce,
		.nonce_len = 16,
		.ct_sha256 = digest };
}

static void signs_as_another_implementation(void **state)
{
	_cleanup_secret_ struct secret *seed = secret_of(RFC_SEED);
	uint8_t nonce[16], digest[32], sig[64], expected[64];
	struct enroll_statement s;

	statement(&s, nonce, digest);
	unit_hex(WRAP_SIG, expected);
	assert_int_equal(enroll_sign(seed, &s, sig), 0);
	assert_memory_equal(sig, expected, 64);
}

static void a_signature_holds_for_one_statement_only(void **state)
{
	uint8_t nonce[16], digest[32], pub[32], sig[64];
	struct enroll_statement s;

	unit_hex(RFC_PUB, pub);
	unit_hex(WRAP_SIG, sig);
	statement(&s, nonce, digest);
	assert_int_equal(enroll_verify(pub, &s, sig), 0);
	s.label = ENROLL_LABEL_REVOKED;
	assert_int_equal(enroll_verify(pub, &s, sig), CE_TAMPER);
	s.label = ENROLL_LABEL_KEK;
	s.dkid = "dk-8";
	assert_int_equal(enroll_verify(pub, &s, sig), CE_TAMPER);
	s.dkid = "dk-7";
	s.kid = "kek-2";
	assert_int_equal(enroll_verify(pub, &s, sig), CE_TAMPER);
	s.kid = "kek-1";
	nonce[15] ^= 1;
	assert_int_equal(enroll_verify(pub, &s, sig), CE_TAMPER);
	nonce[15] ^= 1;
	digest[0] ^= 0x80;
	assert_int_equal(enroll_verify(pub, &s, sig), CE_TAMPER);
	digest[0] ^= 0x80;
	sig[63] ^= 0x10;
	assert_int_equal(enroll_verify(pub, &s, sig), CE_TAMPER);
	sig[63] ^= 0x10;
	pub[0] ^= 1;
	assert_int_equal(enroll_verify(pub, &s, sig), CE_TAMPER);
}

/* "ab" ‖ "c" and "a" ‖ "bc" are two statements: the lengths are in. */
static void a_field_does_not_run_into_the_next(void **state)
{
	_cleanup_secret_ struct secret *seed = secret_of(RFC_SEED);
	const struct enroll_statement one = { .label = "x", .dkid = "ab", .kid = "c" };
	const struct enroll_statement other = { .label = "x", .dkid = "a", .kid = "bc" };
	uint8_t pub[32], sig[64];

	unit_hex(RFC_PUB, pub);
	assert_int_equal(enroll_sign(seed, &one, sig), 0);
	assert_int_equal(enroll_verify(pub, &other, sig), CE_TAMPER);
}

static void a_field_beyond_the_maximum_is_refused(void **state)
{
	_cleanup_secret_ struct secret *seed = secret_of(RFC_SEED);
	char name[130] = { 0 };
	const struct enroll_statement s = { .label = "x", .dkid = name };
	uint8_t sig[64];

	memset(name, 'd', 128);
	assert_int_equal(enroll_sign(seed, &s, sig), 0);
	name[128] = 'd';
	assert_int_equal(enroll_sign(seed, &s, sig), -EINVAL);
}

static void wraps_differ_and_open(void **state)
{
	_cleanup_secret_ struct secret *kek = secret_of(ORDER);
	struct enroll_wrapped first, second;
	struct secret *priv;
	uint8_t pub[65];

	assert_int_equal(enroll_device_make(&priv, pub), 0);
	assert_int_equal(enroll_wrap(pub, kek, &first), 0);
	assert_int_equal(enroll_wrap(pub, kek, &second), 0);
	assert_memory_not_equal(first.eph_pub, second.eph_pub, 65);
	assert_memory_not_equal(first.salt, second.salt, 16);
	assert_memory_not_equal(first.ct, second.ct, 48);
	for (int i = 0; i < 2; i++) {
		_cleanup_secret_ struct secret *out = NULL;

		assert_int_equal(enroll_unwrap(priv, i ? &second : &first, &out, NULL), 0);
		assert_true(secret_equal(kek, out));
	}
	secret_free(priv);
}

static void another_device_does_not_open(void **state)
{
	_cleanup_secret_ struct secret *kek = secret_of(ORDER), *priv = NULL, *other = NULL;
	struct enroll_wrapped w;
	struct secret *out = NULL;
	enum enroll_stage stage;
	uint8_t pub[65], unused[65];

	assert_int_equal(enroll_device_make(&priv, pub), 0);
	assert_int_equal(enroll_device_make(&other, unused), 0);
	assert_int_equal(enroll_wrap(pub, kek, &w), 0);
	assert_int_equal(enroll_unwrap(other, &w, &out, &stage), CE_TAMPER);
	assert_int_equal(stage, ENROLL_TAG);
	assert_null(out);
}

/* Every bit of the wrap but those of the point, which have a test of their own. */
static void every_changed_bit_is_seen(void **state)
{
	_cleanup_secret_ struct secret *priv = secret_of(NIST_PRIV);
	struct enroll_wrapped w;
	uint8_t *const parts[] = { w.iv, w.ct, w.salt };
	const size_t sizes[] = { sizeof(w.iv), sizeof(w.ct), sizeof(w.salt) };
	struct secret *out = NULL;
	enum enroll_stage stage;

	vector(&w);
	for (size_t p = 0; p < ARRAY_SIZE(parts); p++)
		for (size_t bit = 0; bit < 8 * sizes[p]; bit++) {
			parts[p][bit / 8] ^= (uint8_t)(1 << bit % 8);
			assert_int_equal(enroll_unwrap(priv, &w, &out, &stage), CE_TAMPER);
			assert_int_equal(stage, ENROLL_TAG);
			parts[p][bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
	assert_null(out);
}

static void refused_point(const uint8_t *point, size_t len)
{
	_cleanup_secret_ struct secret *priv = secret_of(NIST_PRIV), *kek = secret_of(ORDER);
	struct secret *out = NULL;
	enum enroll_stage stage;
	struct enroll_wrapped w;

	assert_int_equal(enroll_point_check(point, len), CE_FORMAT);
	if (len != 65)
		return;
	vector(&w);
	memcpy(w.eph_pub, point, 65);
	assert_int_equal(enroll_unwrap(priv, &w, &out, &stage), CE_FORMAT);
	assert_int_equal(stage, ENROLL_POINT);
	assert_int_equal(enroll_ecdh(priv, point, &out), CE_FORMAT);
	assert_null(out);
	assert_int_equal(enroll_wrap(point, kek, &w), CE_FORMAT);
}

static void hostile_points_are_refused(void **state)
{
	uint8_t p[66], good[65];

	unit_hex(NIST_PUB, good);
	assert_int_equal(enroll_point_check(good, 65), 0);
	memcpy(p, good, 65);
	p[64] ^= 1; /* not on the curve */
	refused_point(p, 65);
	memset(p, 0, sizeof(p)); /* infinity, padded */
	refused_point(p, 65);
	refused_point(p, 1); /* infinity as SEC 1 has it */
	p[0] = 4;            /* (0, 0) */
	refused_point(p, 65);
	memset(p + 1, 0xff, 64); /* coordinates beyond the prime */
	refused_point(p, 65);
	memcpy(p, good, 65);
	p[0] = (uint8_t)(6 | (good[64] & 1)); /* hybrid form of the right point */
	refused_point(p, 65);
	p[0] = (uint8_t)(2 | (good[64] & 1)); /* compressed */
	refused_point(p, 33);
	refused_point(p, 65);
	p[0] = 4;
	refused_point(p, 64);
	p[65] = 0;
	refused_point(p, 66);
	refused_point(p, 0);
}

static void scalars_out_of_range_are_refused(void **state)
{
	static const char *const bad[] = {
		"0000000000000000000000000000000000000000000000000000000000000000",
		ORDER,
		"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
		"01",
		"000000000000000000000000000000000000000000000000000000000000000001",
	};
	uint8_t pub[65], peer[65];

	unit_hex(NIST_PEER, peer);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_secret_ struct secret *priv = secret_of(bad[i]);
		struct secret *out = NULL;

		assert_int_equal(enroll_device_public(priv, pub), CE_FORMAT);
		assert_int_equal(enroll_ecdh(priv, peer, &out), CE_FORMAT);
		assert_null(out);
	}
}

static void a_message_is_read_back(void **state)
{
	struct enroll_wrapped w, back;
	_cleanup_json_ struct json *obj = json_new_object();
	_cleanup_free_ char *text = NULL;
	_cleanup_json_ struct json *parsed = NULL;
	const char *what;

	vector(&w);
	enroll_wrapped_write(obj, &w);
	assert_int_equal(json_print(obj, false, &text), 0);
	assert_int_equal(json_parse(text, strlen(text), &parsed), 0);
	assert_int_equal(enroll_wrapped_read(parsed, &back, &what), 0);
	assert_memory_equal(&w, &back, sizeof(w));
}

/* One member missing, of another size or another algorithm: the sentence names it. */
static void a_wrong_message_is_named(void **state)
{
	static const char *const members[] = { "alg", "eph_pub", "iv", "ct", "salt" };

	for (size_t bad = 0; bad < ARRAY_SIZE(members); bad++)
		for (int shape = 0; shape < 3; shape++) {
			_cleanup_json_ struct json *obj = json_new_object();
			static const size_t sizes[] = { 0, 65, 12, 48, 16 };
			uint8_t bytes[66] = { 4 };
			struct enroll_wrapped w;
			const char *what = NULL;

			for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
				if (i == bad && shape == 0)
					continue;
				if (!i)
					json_set_string(
						obj, "alg", i == bad ? "P384+AESGCM" : ENROLL_ALG);
				else
					json_set_bytes(obj, members[i], bytes,
						sizes[i] + (i != bad            ? 0
								   : shape == 1 ? 1
										: -1UL));
			}
			assert_int_equal(enroll_wrapped_read(obj, &w, &what), CE_FORMAT);
			assert_memory_equal(what, members[bad], strlen(members[bad]));
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ecdh_vector_of_nist),
		cmocka_unit_test(signature_vector_of_the_rfc),
		cmocka_unit_test(opens_what_another_implementation_wrapped),
		cmocka_unit_test(signs_as_another_implementation),
		cmocka_unit_test(a_signature_holds_for_one_statement_only),
		cmocka_unit_test(a_field_does_not_run_into_the_next),
		cmocka_unit_test(a_field_beyond_the_maximum_is_refused),
		cmocka_unit_test(wraps_differ_and_open),
		cmocka_unit_test(another_device_does_not_open),
		cmocka_unit_test(every_changed_bit_is_seen),
		cmocka_unit_test(hostile_points_are_refused),
		cmocka_unit_test(scalars_out_of_range_are_refused),
		cmocka_unit_test(a_message_is_read_back),
		cmocka_unit_test(a_wrong_message_is_named),
	};

	if (secret_init(false))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
