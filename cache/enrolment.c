/*
 * What follows from the server's answers, for the keyring and for the clock. The bytes on disk
 * change in one place, adopt(), by one rename.
 *
 * The clock of a lease: the index keeps the highest wall time seen (once a minute and at close).
 * Effective time is that mark, or the wall clock if it is later, plus the time the machine has run
 * since the volume was opened; a clock set back takes nothing away from it.
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

#define SETTING_CLOCK "keys.clock"
#define SETTING_ROTATION "keys.rotation"
#define SETTING_KID "keys.kid"       /* of the KEK, and the device's public key: */
#define SETTING_DEVICE "keys.device" /* events tell when they change */
#define RETRY_S 60
#define RENEW_MAX_S (12 * 3600)
#define RENEW_MIN_S 5
#define CLOCK_EVERY_S 60
#define COMMIT_BATCH 64
#define ROTATE_BEGINS "{\"result\":\"begun\"}"

static int64_t wall_s(void)
{
	return clock_wall_ns() / NS_PER_SEC;
}

static int64_t boot_s(void)
{
	return clock_boot_ns() / NS_PER_SEC;
}

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
	e->base_s = wall_s();
	e->base_boot_s = boot_s();
	*out = e;
	return 0;
}

static int64_t effective_s(const struct enrolment *e)
{
	return MAX_OF(wall_s(), e->base_s + boot_s() - e->base_boot_s);
}

/* --- the server's word becomes the keyring's --- */

/* Asks with the dkid we have; enrols when the server does not know it (any more). */
static int ask_current(struct device *d, const struct enrolment_link *link,
	enum enrol_wire_verb verb, struct enrol_wire_kek *out, char **error)
{
	int r = *d->dkid ? enrol_wire_ask(d, link, verb, NULL, out, error) : CE_GONE;

	if (r != CE_GONE)
		return r;
	free(*error);
	*error = NULL;
	r = enrol_wire_upsert(d, link, error);
	return r ? r : enrol_wire_ask(d, link, verb, NULL, out, error);
}

static int set_lease(struct enrolment *e, const struct enrol_wire_kek *got)
{
	int64_t now = effective_s(e);

	device_lease_drop(e->device);
	if (!got->ttl_s)
		return 0;
	return device_lease_seal(e->device, e->local, got->kek, now, now + got->ttl_s);
}

static int put_record(struct enrolment *e, struct keyring *k)
{
	struct json *record;
	int r = device_write(e->device, e->local, &record);

	if (!r)
		keyring_set_device(k, record);
	return r;
}

/* The keyring is unlocked. Keyring, record and lease change in one rename. */
static int adopt(
	struct enrolment *e, struct keyring *k, const struct enrol_wire_kek *got, int dirfd)
{
	bool rotated = strcmp(keyring_kid(k), got->kid) != 0;
	_cleanup_secret_ struct secret *kek = NULL;
	int r = FAILPOINT("rotate-fetched");

	if (!r && rotated)
		r = secret_new_copy(secret_cbytes(got->kek), secret_len(got->kek), &kek);
	if (!r && rotated)
		r = keyring_rewrap(k, kek, got->kid);
	if (r)
		return r;
	if (rotated) {
		kek = NULL; /* the keyring's now */
		e->device->rotation++;
	}
	strcpy(e->device->kid, got->kid);
	e->device->expires_at_s = got->expires_at_s;
	r = set_lease(e, got);
	if (!r)
		r = put_record(e, k);
	if (!r)
		r = FAILPOINT("rotate-rewrapped");
	if (!r)
		r = keyring_save(k, dirfd);
	if (!r)
		r = FAILPOINT("rotate-saved");
	return r;
}

static int unlock_with(struct keyring *k, struct secret **kek)
{
	int r = keyring_unlock(k, *kek);

	if (!r)
		*kek = NULL;
	return r;
}

static bool lease_holds(const struct enrolment *e)
{
	return e->device->lease.held && effective_s(e) < e->device->lease.until_s;
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
	if (r != CE_GONE || !lease_holds(e) || strcmp(e->device->kid, keyring_kid(k)) != 0)
		return r;
	if (device_lease_open(e->device, e->local, &kek))
		return r;
	return unlock_with(k, &kek);
}

static int unlock_current(struct keyring *k, const struct enrol_wire_kek *got)
{
	_cleanup_secret_ struct secret *kek = NULL;
	int r = secret_new_copy(secret_cbytes(got->kek), secret_len(got->kek), &kek);

	return r ? r : unlock_with(k, &kek);
}

static int contact(
	const struct enrolment_setup *s, struct enrolment *e, struct keyring *k, char **error)
{
	_cleanup_(enrol_wire_kek_done) struct enrol_wire_kek got = { 0 };
	int r = ask_current(e->device, s->link, ENROL_WIRE_KEK, &got, error);

	if (r)
		return r;
	if (!strcmp(got.kid, keyring_kid(k)))
		r = unlock_current(k, &got);
	else
		r = unlock_old(e, s->link, k, error);
	if (r == CE_WRONG_KEY)
		return say(error, r,
			"enrolment failed at the CEK: the server's key does not open this keyring; "
			"nothing was changed");
	if (!r)
		r = adopt(e, k, &got, s->dirfd);
	if (!r)
		e->contact_s = effective_s(e);
	return r;
}

/* No answer that counts came. `why` says so. */
static int use_lease(struct enrolment *e, struct keyring *k, int code, char **error)
{
	_cleanup_secret_ struct secret *kek = NULL;
	_cleanup_free_ char *why = *error;
	int r;

	*error = NULL;
	if (!e->device->lease.held || !lease_holds(e)) {
		if (asprintf(error, "%s%s the offline lease %s: connect once to open the volume",
			    why ? why : "there is no contact with the server", why ? ";" : ", and",
			    e->device->lease.held ? "is over" : "does not exist") < 0)
			*error = NULL;
		return code ? code : CE_LOCKED;
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
	r = put_record(e, k);
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
	if (!s->link || (s->lease_first && lease_holds(e)))
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
		r = ask_current(e->device, s->link, ENROL_WIRE_KEK, &got, error);
	if (!r)
		r = keyring_new(got.kid, &k);
	if (!r && params)
		keyring_set_source_params(k, steal_ptr(&params));
	if (!r)
		r = unlock_current(k, &got);
	if (!r) {
		strcpy(e->device->kid, got.kid);
		e->device->expires_at_s = got.expires_at_s;
		r = set_lease(e, &got);
	}
	if (!r)
		r = put_record(e, k);
	json_free(params);
	if (r) {
		keyring_free(k);
		return r;
	}
	*out = k;
	*kek = steal_ptr(&got.kek);
	return 0;
}

/* --- with the index --- */

static int get_number(struct db *db, const char *key, uint64_t *out)
{
	int r = setting_get_u64(db, key, out);

	if (r == -ENOENT)
		*out = 0;
	return r == -ENOENT ? 0 : r;
}

static int in_txn(struct volume *v, int (*fn)(struct volume *v))
{
	int r = db_begin(v->db);

	if (r)
		return r;
	r = fn(v);
	if (r)
		db_rollback(v->db);
	else
		r = db_commit(v->db);
	return r;
}

static int note_change(struct volume *v, const char *setting, const void *now, size_t len,
	bool also_first, const char *kind, const char *detail)
{
	uint8_t before[ENROLL_POINT_LEN + ENROLL_NAME_MAX];
	size_t n = 0;
	int r = setting_get(v->db, setting, before, sizeof(before), &n);
	bool is_new = r == -ENOENT;

	if (!r && n == len && !memcmp(before, now, len))
		return 0;
	if (r && !is_new)
		return r;
	r = setting_set(v->db, setting, now, len);
	if (!r && (!is_new || also_first))
		r = event_append(v->db, clock_wall_ns(), kind, detail);
	return r;
}

/*
 * Inside a transaction, so that event and setting are one: also a rotation or an enrolment that
 * happened while the index was closed, or whose index part was cut off by a kill, is told once.
 */
static int note_identity(struct volume *v, const struct device *d)
{
	int r = note_change(v, SETTING_DEVICE, d->pub, sizeof(d->pub), true, "enrol", "{}");

	return r ? r
		 : note_change(v, SETTING_KID, d->kid, strlen(d->kid), false, "rotate",
			   "{\"result\":\"done\"}");
}

/* Inside a transaction. Both only ever grow. */
static int note_bounds(struct volume *v)
{
	struct enrolment *e = v->enrolment;
	uint64_t rotation, clock;
	int r = get_number(v->db, SETTING_ROTATION, &rotation);

	if (!r)
		r = get_number(v->db, SETTING_CLOCK, &clock);
	pthread_mutex_lock(&e->lock);
	if (!r && e->device->rotation > rotation)
		r = setting_set_u64(v->db, SETTING_ROTATION, e->device->rotation);
	if (!r && (uint64_t)effective_s(e) > clock)
		r = setting_set_u64(v->db, SETTING_CLOCK, (uint64_t)effective_s(e));
	if (!r && e->device->token)
		r = setting_set(v->db, SETUP_TOKEN, secret_cbytes(e->device->token),
			secret_len(e->device->token));
	if (!r && e->device->priv)
		r = note_identity(v, e->device);
	pthread_mutex_unlock(&e->lock);
	return r;
}

int enrolment_check(struct volume *v, char **error)
{
	struct enrolment *e = v->enrolment;
	uint64_t rotation = 0, clock = 0;
	int r;

	if (!e)
		return 0;
	db_read(v->db);
	r = get_number(v->db, SETTING_ROTATION, &rotation);
	if (!r)
		r = get_number(v->db, SETTING_CLOCK, &clock);
	db_unlock(v->db);
	if (r)
		return r;
	if (e->device->rotation < rotation)
		return setup_fail(error, CE_TAMPER,
			"keyring.json is an older copy than the index knows (rotation %" PRIu64
			", not %" PRIu64 "); nothing was changed: put the newest copy back",
			e->device->rotation, rotation);
	e->base_s = MAX_OF(e->base_s, (int64_t)MIN_OF(clock, (uint64_t)INT64_MAX / 2));
	if (e->from_lease && !lease_holds(e))
		return setup_fail(error, CE_LOCKED,
			"the offline lease is over (the clock was set back): connect once to open "
			"the volume");
	return in_txn(v, note_bounds);
}

void enrolment_tick(struct volume *v)
{
	struct enrolment *e = v->enrolment;

	if (e && in_txn(v, note_bounds))
		log_debug("the clock's mark was not recorded");
}

int enrolment_set_token(struct volume *v, const struct secret *token)
{
	struct enrolment *e = v->enrolment;
	struct secret *copy;
	int r;

	if (!e)
		return 0;
	r = secret_new_copy(secret_cbytes(token), secret_len(token), &copy);
	if (r)
		return r;
	keys_lock(v);
	pthread_mutex_lock(&e->lock);
	secret_free(e->device->token);
	e->device->token = copy;
	r = put_record(e, v->keyring);
	pthread_mutex_unlock(&e->lock);
	if (!r)
		r = keyring_save_erasing(v->keyring, v->dirfd);
	keys_unlock(v);
	return r;
}

/* --- mounted --- */

/* The volume is open, so the keyring is unlocked. */
static int adopt_open(struct volume *v, const struct enrol_wire_kek *got)
{
	struct enrolment *e = v->enrolment;
	uint64_t rotation = e->device->rotation;
	int r;

	keys_lock(v);
	pthread_mutex_lock(&e->lock);
	r = adopt(e, v->keyring, got, v->dirfd);
	pthread_mutex_unlock(&e->lock);
	keys_unlock(v);
	if (!r && e->device->rotation != rotation) {
		r = in_txn(v, note_bounds);
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
		r = put_record(e, v->keyring);
	pthread_mutex_unlock(&e->lock);
	if (!r)
		r = keyring_save_erasing(v->keyring, v->dirfd);
	keys_unlock(v);
	db_unlock(v->db);
	return r;
}

static int note_revocation(struct volume *v)
{
	return event_append(v->db, clock_wall_ns(), "revoke", "{}");
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
		r = ask_current(
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
		e->contact_s = effective_s(e);
		e->retry_s = 0;
		pthread_mutex_unlock(&e->lock);
		return 0;
	}
	if (r == CE_REVOKED) {
		int failed = erase_open(v);

		(void)!in_txn(v, note_revocation);
		if (failed)
			log_error("the keys of a revoked device could not be erased: %s",
				error_text(failed));
	}
	pthread_mutex_lock(&e->lock);
	e->retry_s = effective_s(e) + RETRY_S;
	pthread_mutex_unlock(&e->lock);
	return r;
}

int volume_renew_keys(
	struct volume *v, const struct enrolment_link *link, bool rotate, char **error)
{
	int r;

	if (!v->enrolment)
		return say(error, CE_USAGE, "the key of this volume is not one of the server's");
	if (atomic_flag_test_and_set(&v->enrolment->renewing))
		return say(
			error, -EBUSY, "the server is being asked for the key just now; try again");
	r = renew(v, link, rotate, error);
	atomic_flag_clear(&v->enrolment->renewing);
	return r;
}

int volume_check_device(struct volume *v, const struct enrolment_link *link, char **error)
{
	_cleanup_(enrol_wire_kek_done) struct enrol_wire_kek got = { 0 };
	struct enrolment *e = v->enrolment;
	struct device copy;
	int r;

	if (!e || !e->device->priv)
		return say(error, CE_REVOKED, "this device has no key of its own");
	/* First the question that changes nothing: an upsert would enrol a revoked device anew. */
	r = enrol_wire_ask(e->device, link, ENROL_WIRE_KEK, NULL, &got, error);
	copy = *e->device;
	return r ? r : enrol_wire_upsert(&copy, link, error);
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
		left = MAX_OF(e->device->lease.until_s - effective_s(e), 0);
	pthread_mutex_unlock(&e->lock);
	return left;
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
