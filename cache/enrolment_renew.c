/*
 * A mounted volume and the server: the lease renewed, rotations followed, a revocation obeyed.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "cache/enrolment_priv.h"
#include "cache/file_priv.h"
#include "cache/outbox.h"
#include "cache/setup_priv.h"
#include "cache/volume_priv.h"

#define RETRY_S 60
#define RENEW_MAX_S (12 * 3600)
#define RENEW_MIN_S 5
#define COMMIT_BATCH 64
#define ROTATE_BEGINS "{\"result\":\"begun\"}"

static int say(char **error, int code, const char *text)
{
	if (!*error)
		*error = strdup(text);
	return code;
}

int enrolment_begin(struct enrolment *e, char **error)
{
	if (atomic_flag_test_and_set(&e->renewing))
		return say(
			error, -EBUSY, "the server is being asked for the key just now; try again");
	return 0;
}

void enrolment_end(struct enrolment *e)
{
	atomic_flag_clear(&e->renewing);
}

/* The volume is open, so the keyring is unlocked. */
static int adopt_open(struct volume *v, const struct enrol_wire_kek *got)
{
	struct enrolment *e = v->enrolment;
	uint64_t rotation = e->device->rotation;
	int r;

	keys_lock(v);
	pthread_mutex_lock(&e->lock);
	r = enrolment_adopt(e, v->keyring, got, v->dirfd);
	pthread_mutex_unlock(&e->lock);
	keys_unlock(v);
	if (!r && e->device->rotation != rotation) {
		r = enrolment_note(v);
		if (!r)
			r = FAILPOINT("rotate-indexed");
	}
	return r;
}

static int commit_files(struct volume *v)
{
	struct file *files[COMMIT_BATCH];
	size_t n = filetab_dirty(v, INT64_MAX, INT64_MAX, files, COMMIT_BATCH);
	int r = 0;

	for (size_t i = 0; i < n; i++) {
		int one = file_commit(files[i]);

		r = r ? r : one;
		file_unref(files[i], false);
	}
	return r;
}

struct unsent {
	struct keyring *keyring;
	uint64_t store[256]; /* of the journal, ascending by first sight */
	size_t n;
	bool all; /* more than fit, or not to be known: every wrap stays */
};

static int note_unsent(void *arg, const struct outbox_op *op, const char *path)
{
	struct unsent *u = arg;

	for (size_t i = 0; i < u->n; i++)
		if (u->store[i] == op->store)
			return 0;
	if (u->n == ARRAY_SIZE(u->store))
		u->all = true;
	else
		u->store[u->n++] = op->store;
	return 0;
}

static bool keeps_wraps(const struct unsent *u, const struct store_row *s)
{
	bool found = u->all || s->mode == STORE_LOCAL;

	for (size_t i = 0; i < u->n; i++)
		found = found || u->store[i] == s->id;
	return found;
}

static int drop_store(void *arg, const struct store_row *s)
{
	struct unsent *u = arg;
	int r;

	if (keeps_wraps(u, s)) {
		u->n = MAX_OF(u->n, 1u);
		return 0;
	}
	r = keyring_drop(u->keyring, KEYRING_PURPOSE_CEK, s->ref);
	return r == -ENOENT ? 0 : r;
}

/* Signed revocation of an open volume. What is in memory goes when the caller locks or closes it.
 */
static int erase_open(struct volume *v)
{
	struct unsent u = { .keyring = v->keyring };
	struct enrolment *e = v->enrolment;
	int r = commit_files(v);

	if (r || outbox_each(v, note_unsent, &u) < 0)
		u.all = true;
	db_read(v->db);
	keys_lock(v);
	r = store_each(v->db, drop_store, &u);
	if (!r && !u.n && !u.all)
		r = keyring_drop(v->keyring, KEYRING_PURPOSE_INDEX, "");
	pthread_mutex_lock(&e->lock);
	device_erase(e->device);
	if (!r)
		r = enrolment_put(e->device, e->local, v->keyring);
	pthread_mutex_unlock(&e->lock);
	if (!r)
		r = keyring_save_erasing(v->keyring, v->dirfd);
	keys_unlock(v);
	db_unlock(v->db);
	return r;
}

static void note_failure(struct volume *v, int code)
{
	char detail[160];

	snprintf(detail, sizeof(detail), "{\"result\":\"failed\",\"error\":\"%s\"}",
		error_text(code));
	if (volume_event(v, "rotate", detail))
		log_warning("a failed rotation is not in the event log");
}

static int renew(struct volume *v, const struct enrolment_link *link, bool rotate, char **error)
{
	_cleanup_(enrol_wire_kek_done) struct enrol_wire_kek got = { 0 };
	struct enrolment *e = v->enrolment;
	bool rotates = rotate;
	int r;

	if (!e->device->priv)
		return say(error, CE_REVOKED, "the server revoked this device");
	r = rotate ? volume_event(v, "rotate", ROTATE_BEGINS) : 0;
	if (!r)
		r = enrol_wire_ask_current(
			e->device, link, rotate ? ENROL_WIRE_ROTATE : ENROL_WIRE_KEK, &got, error);
	if (!r && !rotate && strcmp(got.kid, e->device->kid) != 0) {
		rotates = true; /* the server's owner did */
		r = volume_event(v, "rotate", ROTATE_BEGINS);
	}
	if (!r)
		r = adopt_open(v, &got);
	if (r && rotates)
		note_failure(v, r);
	if (!r) {
		pthread_mutex_lock(&e->lock);
		e->from_lease = false;
		e->contact_s = enrolment_now_s(e);
		e->retry_s = 0;
		pthread_mutex_unlock(&e->lock);
		return 0;
	}
	if (r == CE_REVOKED) {
		int failed = erase_open(v);

		if (volume_event(v, "revoke", "{}"))
			log_warning("a revocation is not in the event log");
		if (failed)
			log_error("the keys of a revoked device could not be erased: %s",
				error_text(failed));
	}
	pthread_mutex_lock(&e->lock);
	e->retry_s = enrolment_now_s(e) + RETRY_S;
	pthread_mutex_unlock(&e->lock);
	return r;
}

int volume_renew_keys(
	struct volume *v, const struct enrolment_link *link, bool rotate, char **error)
{
	int r;

	if (!v->enrolment)
		return say(error, CE_USAGE, "the key of this volume is not one of the server's");
	r = enrolment_begin(v->enrolment, error);
	if (r)
		return r;
	r = renew(v, link, rotate, error);
	enrolment_end(v->enrolment);
	return r;
}

static int check_device(struct enrolment *e, const struct enrolment_link *link, char **error)
{
	_cleanup_(enrol_wire_kek_done) struct enrol_wire_kek got = { 0 };
	struct device copy;
	int r;

	if (!e->device->priv)
		return say(error, CE_REVOKED, "this device has no key of its own");
	/* First the question that changes nothing: an upsert would enrol a revoked device anew. */
	r = enrol_wire_ask(e->device, link, ENROL_WIRE_KEK, NULL, &got, error);
	copy = *e->device;
	return r ? r : enrol_wire_upsert(&copy, link, error);
}

int volume_check_device(struct volume *v, const struct enrolment_link *link, char **error)
{
	int r;

	if (!v->enrolment)
		return say(error, CE_REVOKED, "this device has no key of its own");
	r = enrolment_begin(v->enrolment, error);
	if (r)
		return r;
	r = check_device(v->enrolment, link, error);
	enrolment_end(v->enrolment);
	return r;
}

int64_t volume_renew_keys_at_s(struct volume *v)
{
	struct enrolment *e = v->enrolment;
	int64_t half, at;

	if (!e)
		return INT64_MAX;
	pthread_mutex_lock(&e->lock);
	half = (e->device->lease.until_s - e->device->lease.from_s) / 2;
	at = e->contact_s + (e->device->lease.held ? MIN_OF(half, RENEW_MAX_S) : RENEW_MAX_S);
	if (e->device->expires_at_s && e->device->expires_at_s < at)
		at = MAX_OF(e->device->expires_at_s, e->contact_s + RENEW_MIN_S);
	if (!e->contact_s)
		at = 0;
	at = !e->device->priv ? INT64_MAX : MAX_OF(at, e->retry_s);
	pthread_mutex_unlock(&e->lock);
	return at;
}

int64_t volume_lease_left_s(struct volume *v)
{
	struct enrolment *e = v->enrolment;
	int64_t left = INT64_MAX;

	if (!e)
		return left;
	pthread_mutex_lock(&e->lock);
	if (e->device->lease.held)
		left = MAX_OF(e->device->lease.until_s - enrolment_now_s(e), 0);
	pthread_mutex_unlock(&e->lock);
	return left;
}
