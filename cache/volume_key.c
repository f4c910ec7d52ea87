/* Questions about the key of a volume that is not open, and its token. */
#include <errno.h>
#include <fcntl.h>

#include "base/error.h"
#include "base/failpoint.h"
#include "cache/setup_priv.h"
#include "cache/volume_priv.h"
#include "crypto/device.h"
#include "crypto/keysource.h"

static int try_device(struct keyring *k, const struct secret *local)
{
	struct device *d = NULL;
	int r = keyring_device(k) ? device_read(keyring_device(k), local, &d) : CE_FORMAT;

	device_free(d);
	return r;
}

static int try_kek(struct keyring *k, struct secret **kek)
{
	int r = keyring_unlock(k, *kek);

	if (!r)
		*kek = NULL; /* the keyring's now */
	return r;
}

bool volume_key_is_lost(const char *dir, const char *key_source)
{
	_cleanup_fd_ int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_secret_ struct secret *key = NULL;
	_cleanup_free_ char *why = NULL;
	struct keyring *k = NULL;
	const char *local;
	int r;

	if (dirfd < 0 || !faccessat(dirfd, SETUP_MARKER, F_OK, 0))
		return false;
	r = keyring_load(dirfd, &k);
	if (r)
		return r == -ENOENT || r == CE_FORMAT;
	r = keysource_fetch(key_source, keyring_source_params(k), &key, &why);
	if (!r)
		r = keysource_is_server(key_source, &local) ? try_device(k, key) : try_kek(k, &key);
	keyring_free(k);
	return r == -ENOENT || r == CE_USAGE || r == CE_WRONG_KEY || r == CE_TAMPER ||
	       r == CE_FORMAT;
}

static int put_token(struct volume *v, const struct secret *token)
{
	int r = db_begin(v->db);

	if (r)
		return r;
	r = setting_set(v->db, SETUP_TOKEN, secret_cbytes(token), secret_len(token));
	if (r)
		db_rollback(v->db);
	else
		r = db_commit(v->db);
	return r;
}

int volume_set_token(struct volume *v, const struct secret *token)
{
	int r = enrolment_set_token(v, token);

	if (!r)
		r = FAILPOINT("token-keyring");
	if (!r)
		r = put_token(v, token);
	return r ? r : durable_sync(v);
}
