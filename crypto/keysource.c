#include "crypto/keysource.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "crypto/keysource_priv.h"

enum driver { DRIVER_FILE, DRIVER_COMMAND, DRIVER_PASSPHRASE, DRIVER_END };

static const char *const prefixes[DRIVER_END] = {
	[DRIVER_FILE] = "file:",
	[DRIVER_COMMAND] = "command:",
	[DRIVER_PASSPHRASE] = "passphrase:",
};

int keysource_fail(char **error, int code, const char *fmt, ...)
{
	va_list args;
	char *text;
	int n;

	va_start(args, fmt);
	n = vasprintf(&text, fmt, args);
	va_end(args);
	if (n < 0)
		return -ENOMEM;
	*error = text;
	return code;
}

int keysource_decode(const struct secret *text, size_t len, struct secret **kek)
{
	_cleanup_secret_ struct secret *copy = NULL, *key = NULL;
	const uint8_t *bytes = secret_cbytes(text);
	int r;

	if (len == KEYSOURCE_KEY_LEN)
		return secret_new_copy(bytes, len, kek);
	if (len && bytes[len - 1] == '\n')
		len--;
	if (len && bytes[len - 1] == '\r')
		len--;
	if (len != 2 * KEYSOURCE_KEY_LEN)
		return CE_FORMAT;
	r = secret_new(len + 1, &copy);
	if (!r)
		r = secret_new(KEYSOURCE_KEY_LEN, &key);
	if (r)
		return r;
	memcpy(secret_bytes(copy), bytes, len);
	r = bytes_from_hex((const char *)secret_cbytes(copy), secret_bytes(key), KEYSOURCE_KEY_LEN);
	if (!r)
		*kek = steal_ptr(&key);
	return r;
}

#define SERVER_PREFIX "server:"

bool keysource_is_server(const char *spec, const char **local)
{
	bool server = !strncmp(spec, SERVER_PREFIX, strlen(SERVER_PREFIX));

	*local = spec + (server ? strlen(SERVER_PREFIX) : 0);
	return server;
}

/* Which driver, and what stands behind its prefix. */
static int parse(const char *spec, enum driver *driver, const char **arg, char **error)
{
	(void)keysource_is_server(spec, &spec);
	for (int i = 0; i < DRIVER_END; i++) {
		size_t n = strlen(prefixes[i]);

		if (strncmp(spec, prefixes[i], n) != 0)
			continue;
		if (i == DRIVER_PASSPHRASE && keysource_passphrase_check(spec + n, error))
			return CE_USAGE;
		if (i != DRIVER_PASSPHRASE && !spec[n])
			return keysource_fail(error, CE_USAGE,
				"the key source %s needs something "
				"behind the colon",
				prefixes[i]);
		*driver = (enum driver)i;
		*arg = spec + n;
		return 0;
	}
	return keysource_fail(error, CE_USAGE,
		"there is no such key source; use file:PATH, command:COMMAND or passphrase:, or "
		"one "
		"of them behind server:");
}

int keysource_check(const char *spec, char **error)
{
	enum driver driver;
	const char *arg = NULL;

	return parse(spec, &driver, &arg, error);
}

int keysource_create(const char *spec, struct secret **kek, struct json **params, char **error)
{
	enum driver driver = DRIVER_END;
	struct json *made = NULL;
	const char *arg = NULL;
	int r = parse(spec, &driver, &arg, error);

	if (r)
		return r;
	if (driver == DRIVER_FILE)
		r = keysource_file_create(arg, kek, error);
	else if (driver == DRIVER_COMMAND)
		r = keysource_command_fetch(arg, kek, error);
	else
		r = keysource_passphrase_create(arg, kek, &made, error);
	if (r)
		return r;
	if (params)
		*params = made;
	else
		json_free(made);
	return 0;
}

int keysource_fetch(const char *spec, const struct json *params, struct secret **kek, char **error)
{
	enum driver driver = DRIVER_END;
	const char *arg = NULL;
	int r = parse(spec, &driver, &arg, error);

	if (r)
		return r;
	if (driver == DRIVER_FILE)
		return keysource_file_fetch(arg, kek, error);
	if (driver == DRIVER_COMMAND)
		return keysource_command_fetch(arg, kek, error);
	return keysource_passphrase_fetch(arg, params, kek, error);
}
