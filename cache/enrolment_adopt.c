/*
 * What the server's answer makes of keyring and device. Both are changed as copies, which are on
 * the disk by one rename before they are in memory: a failure on the way leaves the old ones in
 * both places.
 */
#include <string.h>

#include "base/failpoint.h"
#include "cache/enrolment_priv.h"
#include "cache/volume_priv.h"

int enrolment_unlock(struct keyring *k, const struct enrol_wire_kek *got)
{
	_cleanup_secret_ struct secret *kek = NULL;
	int r = secret_new_copy(secret_cbytes(got->kek), secret_len(got->kek), &kek);

	if (!r)
		r = keyring_unlock(k, kek);
	if (!r)
		kek = NULL; /* the keyring's now */
	return r;
}

int enrolment_set_lease(
	const struct enrolment *e, struct device *d, const struct enrol_wire_kek *got)
{
	int64_t now = enrolment_now_s(e);

	device_lease_drop(d);
	if (!got->ttl_s)
		return 0;
	return device_lease_seal(d, e->local, got->kek, now, now + got->ttl_s);
}

int enrolment_put(const struct device *d, const struct secret *local, struct keyring *k)
{
	struct json *record;
	int r = device_write(d, local, &record);

	if (!r)
		keyring_set_device(k, record);
	return r;
}

static int rewrap(struct keyring *k, const struct enrol_wire_kek *got)
{
	_cleanup_secret_ struct secret *kek = NULL;
	int r = secret_new_copy(secret_cbytes(got->kek), secret_len(got->kek), &kek);

	if (!r)
		r = keyring_rewrap(k, kek, got->kid);
	if (!r)
		kek = NULL; /* the keyring's now */
	return r;
}

int enrolment_adopt(
	struct enrolment *e, struct keyring *k, const struct enrol_wire_kek *got, int dirfd)
{
	bool rotated = strcmp(keyring_kid(k), got->kid) != 0;
	_cleanup_(keyring_freep) struct keyring *next = NULL;
	struct device device = *e->device; /* its secrets are borrowed */
	int r = FAILPOINT("rotate-fetched");

	if (!r)
		r = keyring_copy(k, &next);
	if (!r)
		r = rotated ? rewrap(next, got) : enrolment_unlock(next, got);
	if (r)
		return r;
	strcpy(device.kid, got->kid);
	device.rotation += rotated;
	device.expires_at_s = got->expires_at_s;
	r = enrolment_set_lease(e, &device, got);
	if (!r)
		r = enrolment_put(&device, e->local, next);
	if (!r)
		r = FAILPOINT("rotate-rewrapped");
	if (!r)
		r = keyring_save(next, dirfd);
	if (r)
		return r;
	keyring_swap(k, next);
	*e->device = device;
	return FAILPOINT("rotate-saved");
}

/* keys_lock and e->lock are held. Takes the token on success. */
static int adopt_token(struct volume *v, struct secret *token)
{
	_cleanup_(keyring_freep) struct keyring *next = NULL;
	struct enrolment *e = v->enrolment;
	struct device device = *e->device;
	int r = keyring_copy(v->keyring, &next);

	device.token = token;
	if (!r)
		r = enrolment_put(&device, e->local, next);
	if (!r)
		r = keyring_save_erasing(next, v->dirfd);
	if (r)
		return r;
	keyring_swap(v->keyring, next);
	secret_free(e->device->token);
	e->device->token = token;
	return 0;
}

int enrolment_set_token(struct volume *v, const struct secret *token)
{
	_cleanup_secret_ struct secret *copy = NULL;
	_cleanup_free_ char *busy = NULL;
	struct enrolment *e = v->enrolment;
	int r;

	if (!e)
		return 0;
	r = secret_new_copy(secret_cbytes(token), secret_len(token), &copy);
	if (!r)
		r = enrolment_begin(e, &busy);
	if (r)
		return r;
	keys_lock(v);
	pthread_mutex_lock(&e->lock);
	r = adopt_token(v, copy);
	pthread_mutex_unlock(&e->lock);
	keys_unlock(v);
	enrolment_end(e);
	if (!r)
		copy = NULL; /* the device's now */
	return r;
}
