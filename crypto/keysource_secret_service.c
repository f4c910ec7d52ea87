/*
 * A key in the desktop's key ring, by a helper program: cli/secret_service_main.c says what its
 * exit status means.
 */
#include "crypto/keysource_priv.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"

#define HELPER "cachet-secret-service"

enum { HELPER_NONE = 2, HELPER_NO_SERVICE = 3, HELPER_REFUSED = 4 };

/* Beside this program (as it is built), or where it is installed. -ENOENT: built without it. */
static int find_helper(char path[static PATH_MAX])
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash = n > 0 ? memrchr(self, '/', (size_t)n) : NULL;

	if (slash) {
		int len = snprintf(path, PATH_MAX, "%.*s/%s", (int)(slash - self), self, HELPER);

		if (len < PATH_MAX && access(path, X_OK) == 0)
			return 0;
	}
	snprintf(path, PATH_MAX, "%s/%s", LIBEXEC_DIR, HELPER);
	return access(path, X_OK) < 0 ? -errno : 0;
}

static int judge(const char *name, int status, char **error)
{
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;

	if (code == 0)
		return 0;
	if (code == HELPER_NONE)
		return keysource_fail(error, -ENOENT,
			"there is no key '%s' in the desktop's key ring, or it was not unlocked",
			name);
	if (code == HELPER_NO_SERVICE)
		return keysource_fail(error, CE_USAGE,
			"no secret service answers on the session's bus (is this a desktop "
			"session, with a key ring running?)");
	if (code == HELPER_REFUSED)
		return keysource_fail(
			error, CE_USAGE, "the desktop's key ring does not take the key '%s'", name);
	return keysource_fail(error, CE_USAGE, "the program " HELPER " failed (status %d)", status);
}

static int ask(const char *verb, const char *name, struct secret **kek, char **error)
{
	_cleanup_secret_ struct secret *text = NULL;
	char path[PATH_MAX];
	const char *const argv[] = { path, verb, name, NULL };
	int status = 0, r = find_helper(path);
	size_t len = 0;

	if (r)
		return keysource_fail(error, CE_USAGE,
			"the program " HELPER " is not there: this cachet was built without the "
			"secret service");
	r = secret_new(KEYSOURCE_KEY_TEXT_MAX, &text);
	if (!r)
		r = keysource_command_run(argv, text, &len, &status);
	if (r == -ETIMEDOUT)
		return keysource_fail(error, r, "the desktop's key ring did not answer in time");
	if (r)
		return keysource_fail(
			error, r, "the desktop's key ring cannot be asked (%s)", error_text(r));
	r = judge(name, status, error);
	if (r)
		return r;
	r = keysource_decode(text, len, kek);
	if (r)
		return keysource_fail(error, r == CE_FORMAT ? CE_USAGE : r,
			"the item '%s' of the desktop's key ring is not a key of 64 hexadecimal "
			"digits",
			name);
	return 0;
}

int keysource_secret_service_create(
	const char *name, struct secret **kek, struct json **params, char **error)
{
	return ask("make", name, kek, error);
}

int keysource_secret_service_fetch(
	const char *name, const struct json *params, struct secret **kek, char **error)
{
	return ask("get", name, kek, error);
}
