#include "crypto/keysource.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "crypto/keysource_priv.h"

/* create NULL: this source makes no key, it is fetched the first time as well. */
static const struct driver {
	const char *prefix;
	int (*create)(const char *arg, struct secret **kek, struct json **params, char **error);
	int (*fetch)(const char *arg, const struct json *params, struct secret **kek, char **error);
} drivers[] = {
	{ "file:", keysource_file_create, keysource_file_fetch },
	{ "command:", NULL, keysource_command_fetch },
	{ "passphrase:", keysource_passphrase_create, keysource_passphrase_fetch },
	{ "kernel:", NULL, keysource_kernel_fetch },
	{ "systemd-creds:", NULL, keysource_credential_fetch },
	{ "secret-service:", keysource_secret_service_create, keysource_secret_service_fetch },
};

int keysource_fail(char **error, int code, const char *fmt, ...)
{
	va_list args;
	int r;

	va_start(args, fmt);
	r = bytes_vprint(error, fmt, args);
	va_end(args);
	return r ? r : code;
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
static int parse(const char *spec, const struct driver **driver, const char **arg, char **error)
{
	(void)keysource_is_server(spec, &spec);
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
		const struct driver *d = &drivers[i];
		size_t n = strlen(d->prefix);

		if (strncmp(spec, d->prefix, n) != 0)
			continue;
		if (d->fetch == keysource_passphrase_fetch) {
			if (keysource_passphrase_check(spec + n, error))
				return CE_USAGE;
		} else if (!spec[n]) {
			return keysource_fail(error, CE_USAGE,
				"the key source %s needs something behind the colon", d->prefix);
		}
		*driver = d;
		*arg = spec + n;
		return 0;
	}
	return keysource_fail(error, CE_USAGE,
		"there is no such key source; use file:PATH, command:COMMAND, passphrase:, "
		"kernel:NAME, systemd-creds:NAME or secret-service:NAME, or one of them behind "
		"server:");
}

int keysource_check(const char *spec, char **error)
{
	const struct driver *driver;
	const char *arg;

	return parse(spec, &driver, &arg, error);
}

int keysource_create(const char *spec, struct secret **kek, struct json **params, char **error)
{
	const struct driver *driver = NULL;
	struct json *made = NULL;
	const char *arg = NULL;
	int r = parse(spec, &driver, &arg, error);

	if (!r)
		r = driver->create ? driver->create(arg, kek, &made, error)
				   : driver->fetch(arg, NULL, kek, error);
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
	const struct driver *driver = NULL;
	const char *arg = NULL;
	int r = parse(spec, &driver, &arg, error);

	return r ? r : driver->fetch(arg, params, kek, error);
}
