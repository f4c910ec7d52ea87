#include "cli/sealed_key.h"

#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "cli/token.h"
#include "crypto/bundle.h"

/* Hexadecimal is read from a text with an end, which a token has not. */
static int decode(const struct secret *text, struct secret **out)
{
	_cleanup_secret_ struct secret *hex = NULL, *key = NULL;
	int r;

	if (secret_len(text) != (size_t)2 * BUNDLE_KEY_LEN)
		return CE_FORMAT;
	r = secret_new(secret_len(text) + 1, &hex);
	if (!r)
		r = secret_new(BUNDLE_KEY_LEN, &key);
	if (r)
		return r;
	memcpy(secret_bytes(hex), secret_cbytes(text), secret_len(text));
	r = bytes_from_hex((const char *)secret_cbytes(hex), secret_bytes(key), BUNDLE_KEY_LEN);
	if (!r)
		*out = steal_ptr(&key);
	return r;
}

int sealed_key_read(const struct command_common *common, const char *file, struct secret **out)
{
	_cleanup_secret_ struct secret *text = NULL;
	_cleanup_free_ char *error = NULL;
	int r = token_read("key", file, &text, &error);

	if (!r)
		r = decode(text, out);
	if (r == CE_FORMAT)
		return command_fail(common, EXIT_CODE_KEY,
			"that is not a key of an export: it has %u hexadecimal digits",
			2 * BUNDLE_KEY_LEN);
	if (r)
		return command_failed(common, r, error);
	return COMMAND_GO;
}
