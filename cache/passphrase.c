#include "cache/passphrase.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/io.h"
#include "cache/setup_priv.h"
#include "crypto/device.h"
#include "crypto/keyring.h"
#include "crypto/keysource.h"

#define KID_BYTES 8

struct change {
	const char *key_source;
	bool server;
	struct keyring *keyring;
	struct secret *old, *new;
	struct json *params;
	struct device *device; /* behind server: */
};

static void change_done(struct change *c)
{
	keyring_free(c->keyring);
	device_free(c->device);
	json_free(c->params);
	secret_free(c->old);
	secret_free(c->new);
}

/* The keyring as it stands, opened by the old passphrase. */
static int open_old(struct change *c, char **error)
{
	_cleanup_secret_ struct secret *kek = NULL;
	int r = keysource_fetch(c->key_source, keyring_source_params(c->keyring), &c->old, error);

	if (r)
		return r;
	if (c->server && !keyring_device(c->keyring))
		return CE_FORMAT;
	if (c->server)
		return device_read(keyring_device(c->keyring), c->old, &c->device);
	r = secret_new_copy(secret_cbytes(c->old), secret_len(c->old), &kek);
	if (!r)
		r = keyring_unlock(c->keyring, kek);
	if (!r)
		kek = NULL;
	return r;
}

static int rewrap_keys(struct change *c)
{
	_cleanup_secret_ struct secret *kek = NULL;
	uint8_t random[KID_BYTES];
	char kid[2 * KID_BYTES + 1];
	int r = secret_new_copy(secret_cbytes(c->new), secret_len(c->new), &kek);

	secret_random(random, sizeof(random));
	bytes_to_hex(random, sizeof(random), kid);
	if (!r)
		r = keyring_rewrap(c->keyring, kek, kid);
	if (!r)
		kek = NULL;
	return r;
}

/* The lease is the KEK under the device secret: it goes over with the same end. */
static int reseal_device(struct change *c)
{
	_cleanup_secret_ struct secret *kek = NULL;
	struct device *d = c->device;
	struct json *record;
	int r = device_lease_open(d, c->old, &kek);

	d->rotation++; /* an older keyring than the index knows is refused */
	if (!r)
		r = device_lease_seal(d, c->new, kek, d->lease.from_s, d->lease.until_s);
	if (r == -ENOENT)
		r = 0;
	if (!r)
		r = device_write(d, c->new, &record);
	if (!r)
		keyring_set_device(c->keyring, record);
	return r;
}

static int verify_device(const struct change *c, const struct keyring *again)
{
	_cleanup_secret_ struct secret *kek = NULL;
	struct device *d = NULL;
	int r = device_read(keyring_device(again), c->new, &d);

	if (!r && d->lease.held)
		r = device_lease_open(d, c->new, &kek);
	device_free(d);
	return r;
}

static int verify_keys(const struct change *c, struct keyring *again)
{
	_cleanup_secret_ struct secret *kek = NULL, *before = NULL, *after = NULL;
	int r = secret_new_copy(secret_cbytes(c->new), secret_len(c->new), &kek);

	if (!r)
		r = keyring_unlock(again, kek);
	if (!r) {
		kek = NULL;
		r = keyring_get(again, KEYRING_PURPOSE_INDEX, "", &after);
	}
	if (!r)
		r = keyring_get(c->keyring, KEYRING_PURPOSE_INDEX, "", &before);
	return !r && !secret_equal(before, after) ? CE_TAMPER : r;
}

/* What the file will say opens with the new key, and gives what the old one gave. */
static int verify(const struct change *c)
{
	struct keyring *again = NULL;
	int r = keyring_reread(c->keyring, &again);

	if (!r)
		r = c->server ? verify_device(c, again) : verify_keys(c, again);
	keyring_free(again);
	return r;
}

static int change(struct change *c, int dirfd, char **error)
{
	int r = keyring_load(dirfd, &c->keyring);

	if (!r)
		r = open_old(c, error);
	if (r == CE_WRONG_KEY)
		return setup_fail(error, r, "this is not the passphrase; nothing was changed");
	if (!r)
		r = keysource_create(c->key_source, &c->new, &c->params, error);
	if (!r)
		r = c->server ? reseal_device(c) : rewrap_keys(c);
	if (r)
		return r;
	keyring_set_source_params(c->keyring, steal_ptr(&c->params));
	r = verify(c);
	if (r)
		return setup_fail(error, r,
			"the new passphrase would not open the volume (%s); nothing was changed",
			error_text(r));
	return keyring_save_erasing(c->keyring, dirfd);
}

bool passphrase_is_asked(const char *key_source)
{
	const char *local;

	(void)keysource_is_server(key_source, &local);
	return !strncmp(local, "passphrase:", strlen("passphrase:"));
}

int passphrase_change(const char *dir, const char *key_source, char **error)
{
	_cleanup_fd_ int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), lock = -1;
	struct change c = { .key_source = key_source };
	const char *local;
	int r;

	c.server = keysource_is_server(key_source, &local);
	if (!passphrase_is_asked(key_source))
		return setup_fail(error, CE_USAGE,
			"the key of this volume does not come from a passphrase but from %s",
			local);
	r = dirfd < 0 ? -errno : io_lock_file(dirfd, SETUP_LOCK, &lock);
	if (r == CE_INUSE)
		return setup_fail(error, r, "the volume is mounted or in use; unmount it first");
	if (!r)
		r = change(&c, dirfd, error);
	change_done(&c);
	return r ? setup_fail(error, r, "the passphrase was not changed: %s", error_text(r)) : 0;
}
