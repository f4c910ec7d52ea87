/*
 * Key sources: where the KEK comes from. A driver behind one call; a specification is text:
 *
 *     file:PATH        32 bytes as 64 hex digits, or raw; mode 0600 or stricter, owned by the
 *                      caller, else CE_USAGE. The weakest source: who reads it opens the volume.
 *     command:CMD      run by /bin/sh -c without a standard input; standard output as for file;
 *                      time limit 60 s, then it is killed with all it started
 *     passphrase:      asked on the terminal, or read from a file descriptor with passphrase:fd=N;
 *                      Argon2id with salt and cost in the keyring (source parameters)
 *     kernel:NAME      key "user" NAME of the kernel's user or session keyring, with no rights for
 *                      group and others. In memory only, gone at a restart: somebody puts it there
 *                      at each start; no key is made here
 *     systemd-creds:N  file N of $CREDENTIALS_DIRECTORY (LoadCredentialEncrypted=, thus a TPM); no
 *                      key is made here
 *     secret-service:N item N of the desktop's key ring, made on first use, by a helper program
 *                      (cli/secret_service_main.c) so that its libraries stay out of the daemon
 *     server:SPEC      the KEK is held by the origin's server, to which this machine is enrolled;
 *                      SPEC, one of the others, gives the device secret (crypto/device.h), and that
 *                      is what the calls below make and fetch
 *
 * Secrets are never taken from the command line or the environment.
 * *error is a sentence for the user (caller frees), set on failure. Threads: one at a time.
 */
#ifndef CACHET_CRYPTO_KEYSOURCE_H
#define CACHET_CRYPTO_KEYSOURCE_H

#include <stdbool.h>

#include "base/json.h"
#include "base/macros.h"
#include "base/secret.h"

/*
 * First use: makes the key where it can be made (file: a missing file is created 0600, fsynced;
 * passphrase: asked twice, new salt; secret-service: a missing item). *params is set to the public
 * parameters to keep in the keyring, NULL when there are none; `params` may be NULL.
 */
int keysource_create(
	const char *spec, struct secret **kek, struct json **params, char **error) MUST_CHECK;

/* Later: the KEK again, with the parameters of the keyring (may be NULL). */
int keysource_fetch(
	const char *spec, const struct json *params, struct secret **kek, char **error) MUST_CHECK;

/* True when the KEK comes from the server; *local is what stands behind "server:", else `spec`. */
bool keysource_is_server(const char *spec, const char **local);

/* CE_USAGE when `spec` names no driver. */
int keysource_check(const char *spec, char **error) MUST_CHECK;

#endif
