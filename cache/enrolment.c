/*
 * A closed volume and the server: made, opened, enrolled anew. What an answer changes on the disk
 * changes in one place (enrolment_adopt.c), by one rename.
 */
#include "cache/enrolment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "base/log.h"
#include "cache/enrolment_priv.h"
#include "cache/file_priv.h"
#include "cache/setup_priv.h"
#include "cache/volume_priv.h"
#include "crypto/kdf.h"
#include "crypto/keysource.h"

static int say(char **error, int code, const char *text)
{
	if (!*error)
		*error = strdup(text);
	return code;
}

void enrolment_free(struct enrolment *e)
{
	if (!e)
		return;
	device_free(e->device);
	secret_free(e->local);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

static void enrolment_freep(struct enrolment **e)
{
	enrolment_free(*e);
}
#define _cleanup_enrolment_ _cleanup_(enrolment_freep)

static int enrolment_new(struct enrolment **out)
{
	struct enrolment *e = calloc(1, sizeof(*e));

	if (!e)
		return -ENOMEM;
	pthread_mutex_init(&e->lock, NULL);
	enrolment_start_clock(e);
	*out = e;
	return 0;
}

static int unlock_with(struct keyring *k, struct secret **kek)
{
	int r = keyring_unlock(k, *kek);

	if (!r)
		*kek = NULL;
	return r;
}

/* Opens a keyring wrapped under another KEK than the current one. */
static int unlock_old(
	struct enrolment *e, const struct enrolment_link *link, struct keyring *k, char **error)
{
	_cleanup_(enrol_wire_kek_done) struct enrol_wire_kek old = { 0 };
	_cleanup_secret_ struct secret *kek = NULL;
	int r = enrol_wire_ask(e->device, link, ENROL_WIRE_KEK, keyring_kid(k), &old, error);

	if (!r)
		return unlock_with(k, &old.kek);
	if (r != CE_GONE || !enrolment_lease_holds(e) ||
		strcmp(e->device->kid, keyring_kid(k)) != 0)
		return r;
	if (device_lease_open(e->device, e->local, &kek))
		return r;
	return unlock_with(k, &kek);
}

static int contact(
	const struct enrolment_setup *s, struct enrolment *e, struct keyring *k, char **error)
{
	_cleanup_(enrol_wire_kek_done) struct enrol_wire_kek got = { 0 };
	int r = enrol_wire_ask_current(e->device, s->link, ENROL_WIRE_KEK, &got, error);

	if (r)
		return r;
	if (!strcmp(got.kid, keyring_kid(k)))
		r = enrolment_unlock(k, &got);
	else
		r = unlock_old(e, s->link, k, error);
	if (r == CE_WRONG_KEY)
		return say(error, r,
			"enrolment failed at the CEK: the server's key does not open this keyring; "
			"nothing was changed");
	if (!r)
		r = enrolment_adopt(e, k, &got, s->dirfd);
	if (!r)
		e->contact_s = enrolment_now_s(e);
	return r;
}

/* No answer that counts came. `why` says so. */
static int use_lease(struct enrolment *e, struct keyring *k, int code, char **error)
{
	_cleanup_secret_ struct secret *kek = NULL;
	_cleanup_free_ char *why = *error;
	int r;

	*error = NULL;
	if (!e->device->lease.held || !enrolment_lease_holds(e)) {
		(void)!bytes_print(error,
			"%s%s the offline lease %s: connect once to open the volume",
			why ? why : "there is no contact with the server", why ? ";" : ", and",
			e->device->lease.held ? "is over" : "does not exist");
		return code;
	}
	r = device_lease_open(e->device, e->local, &kek);
	if (!r)
		r = unlock_with(k, &kek);
	if (r)
		return say(error, r, "the lease in the keyring is damaged; connect once");
	e->from_lease = true;
	return 0;
}

/* Signed: what no unsent work needs goes. The index cannot be asked, so the wraps stay: only the
 * server-held KEK opens them, and it does not give it to this device. */
static int erase_unopened(struct enrolment *e, struct keyring *k, int dirfd)
{
	int r;

	device_erase(e->device);
	r = enrolment_put(e->device, e->local, k);
	return r ? r : keyring_save_erasing(k, dirfd);
}

static int load(
	const struct enrolment_setup *s, struct keyring *k, struct enrolment **out, char **error)
{
	_cleanup_enrolment_ struct enrolment *e = NULL;
	int r = enrolment_new(&e);

	if (!r && !keyring_device(k))
		return say(error, CE_USAGE,
			"this volume was not made with a key of the server: give the key source it "
			"was made with");
	if (!r && s->secret)
		r = secret_new_copy(secret_cbytes(s->secret), secret_len(s->secret), &e->local);
	else if (!r)
		r = keysource_fetch(s->key_source, keyring_source_params(k), &e->local, error);
	if (!r)
		r = device_read(keyring_device(k), e->local, &e->device);
	if (!r && strcmp(e->device->kid, keyring_kid(k)) != 0)
		r = CE_TAMPER;
	if (r == CE_WRONG_KEY)
		return say(error, r,
			"the device secret is not the one this volume was enrolled "
			"with; nothing was changed");
	if (r)
		return say(error, r,
			"the device record in the keyring is damaged; nothing was "
			"changed: put a copy of keyring.json back");
	*out = steal_ptr(&e);
	return 0;
}

static bool is_silence(int r)
{
	return r == CE_OFFLINE || r == CE_PROTOCOL || r == CE_AUTH || r == -EAGAIN ||
	       r == -ETIMEDOUT;
}

int enrolment_open(
	const struct enrolment_setup *s, struct keyring *k, struct enrolment **out, char **error)
{
	_cleanup_enrolment_ struct enrolment *e = NULL;
	int r = load(s, k, &e, error);

	if (r)
		return r;
	if (!e->device->priv)
		return say(error, CE_REVOKED,
			"the server revoked this device and its keys were erased; `cachet enroll` "
			"enrols it anew");
	if (!s->link || (s->lease_first && enrolment_lease_holds(e)))
		r = CE_OFFLINE;
	else
		r = contact(s, e, k, error);
	if (is_silence(r))
		r = use_lease(e, k, s->link ? r : CE_LOCKED, error);
	if (r == CE_REVOKED) {
		int failed = erase_unopened(e, k, s->dirfd);

		return failed ? failed : r;
	}
	if (!r)
		*out = steal_ptr(&e);
	return r;
}

int enrolment_create(const struct enrolment_setup *s, const char *device_id,
	const struct secret *token, struct keyring **out, struct secret **kek, char **error)
{
	_cleanup_(enrol_wire_kek_done) struct enrol_wire_kek got = { 0 };
	_cleanup_enrolment_ struct enrolment *e = NULL;
	struct json *params = NULL;
	struct keyring *k = NULL;
	int r = enrolment_new(&e);

	if (!s->link)
		return say(error, CE_OFFLINE, "a key of the server needs the server");
	if (!r)
		r = keysource_create(s->key_source, &e->local, &params, error);
	if (!r)
		r = device_new(device_id, &e->device);
	if (!r && token)
		r = secret_new_copy(secret_cbytes(token), secret_len(token), &e->device->token);
	if (!r)
		r = enrol_wire_ask_current(e->device, s->link, ENROL_WIRE_KEK, &got, error);
	if (!r)
		r = keyring_new(got.kid, &k);
	if (!r && params)
		keyring_set_source_params(k, steal_ptr(&params));
	if (!r)
		r = enrolment_unlock(k, &got);
	if (!r) {
		strcpy(e->device->kid, got.kid);
		e->device->expires_at_s = got.expires_at_s;
		r = enrolment_set_lease(e, e->device, &got);
	}
	if (!r)
		r = enrolment_put(e->device, e->local, k);
	json_free(params);
	if (r) {
		keyring_free(k);
		return r;
	}
	*out = k;
	*kek = steal_ptr(&got.kek);
	return 0;
}

/* --- enrolling anew --- */

static int enrol_again(const struct volume_enrol_options *o, const struct enrolment_setup *s,
	struct keyring *k, char **error)
{
	_cleanup_enrolment_ struct enrolment *e = NULL;
	struct keyring_entry_info info;
	int r = load(s, k, &e, error);

	if (r)
		return r;
	if (keyring_entry(k, 0, &info))
		return say(error, CE_GONE,
			"nothing of this volume was kept when the device was revoked, and nothing "
			"unsent was in it: remove it with `cachet wipe` and make it anew");
	if (o->token) {
		secret_free(steal_ptr(&e->device->token));
		r = secret_new_copy(
			secret_cbytes(o->token), secret_len(o->token), &e->device->token);
	}
	if (!r && !e->device->priv)
		r = device_renew(e->device);
	if (!r)
		r = enrol_wire_upsert(e->device, o->link, error);
	return r ? r : contact(s, e, k, error);
}

int volume_enrol(const struct volume_enrol_options *o, char **error)
{
	_cleanup_fd_ int dirfd = open(o->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), lock = -1;
	struct enrolment_setup s = { .key_source = o->key_source, .link = o->link, .dirfd = dirfd };
	struct keyring *k = NULL;
	int r = dirfd < 0 ? -errno : io_lock_file(dirfd, SETUP_LOCK, &lock);

	if (r == CE_INUSE)
		return say(error, r, "the volume is mounted or in use; unmount it first");
	if (!r)
		r = keyring_load(dirfd, &k);
	if (!r)
		r = enrol_again(o, &s, k, error);
	keyring_free(k);
	return r;
}
