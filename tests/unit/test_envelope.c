/* Record envelopes: a record opens in its place and version only. */
#include <errno.h>

#include "base/error.h"
#include "crypto/envelope.h"

#include "unit.h"

static const uint8_t key[32] = "a key of thirty-two bytes......";

#define META "{\"version\":3,\"table\":\"notes\",\"id\":\"r1\",\"user\":\"u\"}"

static struct json *parse(const char *text)
{
	struct json *v;

	assert_int_equal(json_parse(text, strlen(text), &v), 0);
	return v;
}

/* An envelope as text; the caller frees. */
static char *sealed(const char *meta_text, const void *plain, size_t len)
{
	_cleanup_json_ struct json *meta = parse(meta_text), *env = NULL;
	char *text;

	assert_int_equal(envelope_seal(key, meta, plain, len, &env), 0);
	assert_int_equal(json_print(env, false, &text), 0);
	return text;
}

static int opens(const char *text, const uint8_t *with, char *out, size_t max)
{
	_cleanup_json_ struct json *env = NULL;
	_cleanup_free_ uint8_t *plain = NULL;
	size_t len = 0;
	int r = json_parse(text, strlen(text), &env);

	if (!r)
		r = envelope_open(env, with, &plain, &len);
	if (r) {
		assert_null(plain);
		return r;
	}
	assert_true(len < max);
	memcpy(out, plain, len);
	out[len] = '\0';
	return 0;
}

static void what_was_sealed_opens(void **state)
{
	_cleanup_free_ char *text = sealed(META, "hello", 5), *again = sealed(META, "hello", 5);
	_cleanup_free_ char *empty = sealed(META, "", 0);
	char out[10];

	assert_int_equal(opens(text, key, out, sizeof(out)), 0);
	assert_string_equal(out, "hello");
	assert_int_equal(opens(empty, key, out, sizeof(out)), 0);
	assert_string_equal(out, "");
	assert_string_not_equal(text, again);
}

/* `from` in an envelope replaced by `to` of the same length. */
static int changed(const char *meta, const char *from, const char *to)
{
	_cleanup_free_ char *text = sealed(meta, "hello", 5);
	char out[10], *at = strstr(text, from);
	_cleanup_free_ char *other = NULL;

	if (!at)
		fail_msg("%s has no %s", text, from);
	assert_true(
		asprintf(&other, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from)) > 0);
	return opens(other, key, out, sizeof(out));
}

static void another_place_or_version_is_tampering(void **state)
{
	assert_int_equal(changed(META, "\"notes\"", "\"other\""), CE_TAMPER);
	assert_int_equal(changed(META, "\"r1\"", "\"r2\""), CE_TAMPER);
	assert_int_equal(changed(META, "\"version\":3", "\"version\":4"), CE_TAMPER);
	assert_int_equal(changed(META, "\"version\":3", "\"version\":\"3\""), CE_TAMPER);
	assert_int_equal(changed(META, ",\"user\":\"u\"", ""), CE_TAMPER);
	assert_int_equal(changed(META, "\"user\":\"u\"", "\"tenant\":\"u\""), CE_TAMPER);
	/* what is not one of the five is not bound, and not trusted */
	assert_int_equal(changed(META, "\"user\"", "\"made\":1,\"user\""), 0);
}

/* The additional data does not depend on the order of meta; enc.aad is a repetition only. */
static void the_order_of_meta_does_not_matter(void **state)
{
	assert_int_equal(changed(META, "\"version\":3,\"table\":\"notes\"",
				 "\"table\":\"notes\",\"version\":3"),
		0);
	assert_int_equal(
		changed("{\"table\":\"t\",\"id\":\"i\",\"version\":\"a\\\"\\u0001\\u20ac/\"}",
			"\"id\":\"i\"", "\"id\":\"i\""),
		0);
}

static void any_changed_character_is_an_error(void **state)
{
	_cleanup_free_ char *text = sealed(META, "hello", 5);
	char out[10], *end = strstr(text, ",\"meta\"");

	for (char *p = text; p < end; p++) {
		char c = *p;

		*p = c == 'A' ? 'B' : 'A';
		assert_int_not_equal(opens(text, key, out, sizeof(out)), 0);
		*p = c;
	}
	assert_int_equal(opens(text, key, out, sizeof(out)), 0);
}

static void a_wrong_key_opens_nothing(void **state)
{
	_cleanup_free_ char *text = sealed(META, "hello", 5);
	uint8_t other[32] = { 0 };
	char out[10];

	assert_int_equal(opens(text, other, out, sizeof(out)), CE_TAMPER);
}

/* Of AES-256-GCM with key 00..1f, iv 00..0b, no additional data, "hello". */
static void the_bare_form_opens(void **state)
{
	static const char bare[] = "{\"v\":1,\"iv\":\"AAECAwQFBgcICQoL\",\"ct\":"
				   "\"L2e6d6onl/81O4oEbSgjbc2dBXu7\"}";
	uint8_t count[32];
	char out[10];

	for (size_t i = 0; i < sizeof(count); i++)
		count[i] = (uint8_t)i;
	assert_int_equal(opens(bare, count, out, sizeof(out)), 0);
	assert_string_equal(out, "hello");
	assert_int_equal(opens(bare, key, out, sizeof(out)), CE_TAMPER);
}

static void other_objects_are_a_format_error(void **state)
{
	static const char *const bad[] = { "[]", "{}", "1", "{\"enc\":{}}",
		"{\"enc\":{},\"meta\":{}}",
		"{\"v\":2,\"iv\":\"AAECAwQFBgcICQoL\",\"ct\":\"L2e6d6onl/81O4oEbSgjbc2dBXu7\"}",
		"{\"v\":1,\"iv\":\"AAECAwQFBgcICQo=\",\"ct\":\"L2e6d6onl/81O4oEbSgjbc2dBXu7\"}",
		"{\"v\":1,\"iv\":\"AAECAwQFBgcICQoL\",\"ct\":\"L2e6d6o=\"}",
		"{\"v\":1,\"iv\":\"AAECAwQFBgcICQoL\",\"ct\":\"?\"}",
		"{\"v\":1,\"iv\":\"AAECAwQFBgcICQoL\"}" };
	static const char *const metas[] = { "{}", "[]", "{\"table\":\"t\",\"id\":\"i\"}",
		"{\"table\":1,\"id\":\"i\",\"version\":1}",
		"{\"table\":\"t\",\"id\":\"i\",\"version\":1.5}",
		"{\"table\":\"t\",\"id\":\"i\",\"version\":1,\"user\":null}" };
	char out[10];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(opens(bad[i], key, out, sizeof(out)), CE_FORMAT);
	for (size_t i = 0; i < ARRAY_SIZE(metas); i++) {
		_cleanup_json_ struct json *meta = parse(metas[i]), *env = NULL;

		assert_int_equal(envelope_seal(key, meta, "x", 1, &env), CE_FORMAT);
		assert_null(env);
	}
	assert_int_equal(changed(META, "A256GCM", "XC20P"), CE_FORMAT);
	assert_int_equal(changed(META, "\"alg\"", "\"x\":1,\"alg\""), CE_FORMAT);
}

static void a_plaintext_beyond_the_limit_is_refused(void **state)
{
	_cleanup_free_ uint8_t *big = calloc(1, ENVELOPE_PLAIN_MAX + 1);
	_cleanup_json_ struct json *meta = parse(META), *env = NULL;

	assert_int_equal(envelope_seal(key, meta, big, ENVELOPE_PLAIN_MAX + 1, &env), CE_TOO_LARGE);
	assert_int_equal(envelope_seal(key, meta, big, ENVELOPE_PLAIN_MAX, &env), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_sealed_opens),
		cmocka_unit_test(another_place_or_version_is_tampering),
		cmocka_unit_test(the_order_of_meta_does_not_matter),
		cmocka_unit_test(any_changed_character_is_an_error),
		cmocka_unit_test(a_wrong_key_opens_nothing),
		cmocka_unit_test(the_bare_form_opens),
		cmocka_unit_test(other_objects_are_a_format_error),
		cmocka_unit_test(a_plaintext_beyond_the_limit_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
