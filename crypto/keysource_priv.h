/* The drivers behind crypto/keysource.h. `arg` is what stands behind "NAME:". */
#ifndef CACHET_CRYPTO_KEYSOURCE_PRIV_H
#define CACHET_CRYPTO_KEYSOURCE_PRIV_H

#include <stddef.h>

#include "base/json.h"
#include "base/macros.h"
#include "base/secret.h"

#define KEYSOURCE_KEY_LEN ((size_t)32)
#define KEYSOURCE_KEY_TEXT_MAX                                                                     \
	80 /* 64 hex digits, an end of line, and one more to see too much                          \
	    */

/* Sets *error and returns `code`. */
int keysource_fail(char **error, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* A key as it stands in a file: 32 raw bytes, or 64 hex digits with or without an end of line. */
int keysource_decode(const struct secret *text, size_t len, struct secret **kek) MUST_CHECK;

int keysource_file_create(
	const char *path, struct secret **kek, struct json **params, char **error) MUST_CHECK;
int keysource_file_fetch(
	const char *path, const struct json *params, struct secret **kek, char **error) MUST_CHECK;
/* Of the service manager: root may own it, and its mode may show the mask of an access list. */
int keysource_file_fetch_given(const char *path, struct secret **kek, char **error) MUST_CHECK;

int keysource_command_fetch(const char *command, const struct json *params, struct secret **kek,
	char **error) MUST_CHECK;
/* The standard output of argv[0] (a path) into `text`, with its wait status; -ETIMEDOUT: killed. */
int keysource_command_run(
	const char *const *argv, struct secret *text, size_t *len, int *status) MUST_CHECK;

int keysource_kernel_fetch(
	const char *name, const struct json *params, struct secret **kek, char **error) MUST_CHECK;

int keysource_credential_fetch(
	const char *name, const struct json *params, struct secret **kek, char **error) MUST_CHECK;

int keysource_secret_service_create(
	const char *name, struct secret **kek, struct json **params, char **error) MUST_CHECK;
int keysource_secret_service_fetch(
	const char *name, const struct json *params, struct secret **kek, char **error) MUST_CHECK;

int keysource_passphrase_check(const char *arg, char **error) MUST_CHECK;
int keysource_passphrase_create(
	const char *arg, struct secret **kek, struct json **params, char **error) MUST_CHECK;
int keysource_passphrase_fetch(
	const char *arg, const struct json *params, struct secret **kek, char **error) MUST_CHECK;

/* One line into *out (its length in *len): from the terminal without echo, or from `fd`. */
int keysource_terminal_ask(
	const char *prompt, struct secret **out, size_t *len, char **error) MUST_CHECK;
int keysource_terminal_read_fd(int fd, struct secret **out, size_t *len, char **error) MUST_CHECK;

#endif
