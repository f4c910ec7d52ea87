/*
 * A credential of the service manager (systemd.exec(5), "CREDENTIALS"): a file in a directory of
 * memory that only the service sees. Sealed at rest to the machine's TPM with systemd-creds(1).
 */
#include "crypto/keysource_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"

#define DIRECTORY "CREDENTIALS_DIRECTORY"

int keysource_credential_fetch(
	const char *name, const struct json *params, struct secret **kek, char **error)
{
	const char *dir = getenv(DIRECTORY);
	_cleanup_free_ char *path = NULL;

	if (strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, ".."))
		return keysource_fail(error, CE_USAGE,
			"behind systemd-creds: there is the name of a credential, not a path");
	if (!dir || *dir != '/')
		return keysource_fail(error, CE_USAGE,
			"there is no $" DIRECTORY ": the service manager gives credentials to "
			"services only, by LoadCredentialEncrypted=%s:FILE in the unit",
			name);
	if (bytes_print(&path, "%s/%s", dir, name))
		return keysource_fail(error, -ENOMEM, "no memory");
	return keysource_file_fetch_given(path, kek, error);
}
