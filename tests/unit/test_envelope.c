#include "crypto/envelope.h"

#include <errno.h>

#include "base/error.h"
#include "unit.h"

static const uint8_t key[32] = { 1, 2, 3 };

/* The text of a sealed "hello" with the AAD "ctx". The caller frees it. */
static char *sealed(enum aead_alg alg, bool carry_aad)
{
	_cleanup_json_ struct json *env = NULL;
	char *text;

	assert_int_equal(envelope_seal(alg, key, "ctx", 3, carry_aad, "hello", 5, &env), 0);
	assert_int_equal(json_print(env, false, &text), 0);
	return text;
}

static int open_text(const char *text, const char *aad)
{
	_cleanup_json_ struct json *env = NULL;
	uint8_t *plain = NULL;
	size_t len = 0;
	int r = json_parse(text, strlen(text), &env);

	if (!r)
		r = envelope_open(env, key, aad, strlen(aad), &plain, &len);
	if (r) {
		assert_null(plain);
		return r;
	}
	assert_int_equal(len, 5);
	assert_memory_equal(plain, "hello", 5);
	free(plain);
	return 0;
}

static void what_was_sealed_opens_with_either_algorithm(void **state)
{
	for (int alg = AEAD_AES256GCM; alg <= AEAD_XCHACHA20POLY1305; alg++) {
		for (int carry = 0; carry < 2; carry++) {
			_cleanup_free_ char *text = sealed((enum aead_alg)alg, carry);

			assert_int_equal(strstr(text, "\"aad\":\"Y3R4\"") != NULL, carry);
			assert_null(strstr(text, "hello"));
			assert_int_equal(open_text(text, "ctx"), 0);
		}
	}
}

static void an_empty_and_a_large_plaintext_survive(void **state)
{
	static const size_t lens[] = { 0, 1, 15, 16, 17, 100000 };
	_cleanup_free_ uint8_t *plain = calloc(1, 100000);

	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		_cleanup_json_ struct json *env = NULL;
		_cleanup_free_ uint8_t *back = NULL;
		size_t len;

		assert_int_equal(
			envelope_seal(AEAD_AES256GCM, key, NULL, 0, true, plain, lens[i], &env), 0);
		assert_int_equal(envelope_open(env, key, NULL, 0, &back, &len), 0);
		assert_int_equal(len, lens[i]);
		assert_memory_equal(back, plain, len);
	}
}

static void two_envelopes_of_the_same_text_differ(void **state)
{
	_cleanup_free_ char *a = sealed(AEAD_AES256GCM, false), *b = sealed(AEAD_AES256GCM, false);

	assert_string_not_equal(a, b);
}

static void another_aad_than_expected_is_tampering(void **state)
{
	_cleanup_free_ char *with = sealed(AEAD_AES256GCM, true),
			    *without = sealed(AEAD_AES256GCM, false);

	assert_int_equal(open_text(with, "ctY"), CE_TAMPER);
	assert_int_equal(open_text(with, ""), CE_TAMPER);
	assert_int_equal(open_text(without, "ctY"), CE_TAMPER);
	assert_int_equal(open_text(without, ""), CE_TAMPER);
}

/* `text` with `from` exchanged for `to`, which must occur. */
static char *changed(const char *text, const char *from, const char *to)
{
	const char *at = strstr(text, from);
	char *out;

	assert_non_null(at);
	assert_true(asprintf(&out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from)) > 0);
	return out;
}

static void unknown_or_malformed_members_are_a_format_error(void **state)
{
	static const char *const changes[][2] = { { "\"v\":1", "\"v\":2" },
		{ "\"v\":1", "\"v\":0" }, { "\"v\":1", "\"v\":1.5" }, { "\"v\":1", "\"w\":1" },
		{ "A256GCM", "A128GCM" }, { "A256GCM", "" }, { "A256GCM", "XC20P" },
		{ "\"iv\":\"", "\"iv\":\"AAAA" }, { "\"tag\":\"", "\"tag\":\"AAAA" },
		{ "\"ct\":\"", "\"ct\":\"A" }, { "\"ct\":\"", "\"ct\":1,\"x\":\"" },
		{ "\"v\":1", "\"v\":1,\"extra\":0" }, { "\"aad\":\"", "\"aad\":\"!" },
		{ "\"tag\":", "\"tga\":" } };
	_cleanup_free_ char *text = sealed(AEAD_AES256GCM, true);

	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		_cleanup_free_ char *bad = changed(text, changes[i][0], changes[i][1]);

		if (open_text(bad, "ctx") != CE_FORMAT)
			fail_msg("accepted: %s", bad);
	}
}

static void any_changed_character_is_an_error(void **state)
{
	_cleanup_free_ char *text = sealed(AEAD_XCHACHA20POLY1305, true);

	for (size_t i = 0; i < strlen(text); i++) {
		for (int bit = 0; bit < 8; bit++) {
			char was = text[i];
			int r;

			text[i] = (char)(was ^ 1 << bit);
			r = open_text(text, "ctx");
			if (r != CE_FORMAT && r != CE_TAMPER)
				fail_msg("bit %d of byte %zu: %d", bit, i, r);
			text[i] = was;
		}
	}
}

static void a_wrong_key_opens_nothing(void **state)
{
	static const uint8_t other[32] = { 1, 2, 4 };
	_cleanup_json_ struct json *env = NULL;
	uint8_t *plain = NULL;
	size_t len;

	assert_int_equal(envelope_seal(AEAD_AES256GCM, key, NULL, 0, false, "hello", 5, &env), 0);
	assert_int_equal(envelope_open(env, other, NULL, 0, &plain, &len), CE_TAMPER);
	assert_null(plain);
}

static void limits_and_arguments_are_checked(void **state)
{
	_cleanup_json_ struct json *env = NULL;
	_cleanup_free_ uint8_t *big = calloc(1, ENVELOPE_PLAIN_MAX + 1);
	uint8_t *plain;
	size_t len;

	assert_int_equal(envelope_seal(AEAD_AES256GCM, key, NULL, 0, false, big,
				 ENVELOPE_PLAIN_MAX + 1, &env),
		CE_TOO_LARGE);
	assert_int_equal(
		envelope_seal((enum aead_alg)9, key, NULL, 0, false, "x", 1, &env), -EINVAL);
	assert_null(env);
	assert_int_equal(envelope_open(NULL, key, NULL, 0, &plain, &len), CE_FORMAT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_sealed_opens_with_either_algorithm),
		cmocka_unit_test(an_empty_and_a_large_plaintext_survive),
		cmocka_unit_test(two_envelopes_of_the_same_text_differ),
		cmocka_unit_test(another_aad_than_expected_is_tampering),
		cmocka_unit_test(unknown_or_malformed_members_are_a_format_error),
		cmocka_unit_test(any_changed_character_is_an_error),
		cmocka_unit_test(a_wrong_key_opens_nothing),
		cmocka_unit_test(limits_and_arguments_are_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
