/* Between the files enrolment*.c, enrol_wire.c (the messages), volume.c and volume_create.c. */
#ifndef CACHET_CACHE_ENROLMENT_PRIV_H
#define CACHET_CACHE_ENROLMENT_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "cache/enrolment.h"
#include "crypto/device.h"
#include "crypto/keyring.h"

struct enrolment {
	pthread_mutex_t lock; /* leaf: what follows, but for the one renewal under way */
	struct device *device;
	struct secret *local;        /* the device secret */
	bool from_lease;             /* no contact since the volume was opened */
	int64_t contact_s;           /* 0 = none since */
	int64_t base_s, base_boot_s; /* the clock that is never set back */
	int64_t retry_s;
	atomic_flag renewing; /* enrolment_begin: who talks to the server, or replaces the token */
};

/* --- enrolment_renew.c --- */

/* One at a time may use the device record without the lock, across a wait. -EBUSY. */
int enrolment_begin(struct enrolment *e, char **error) MUST_CHECK;
void enrolment_end(struct enrolment *e);

/* --- enrol_wire.c --- */

/* What the server said; `kek` is the caller's. */
struct enrol_wire_kek {
	struct secret *kek;
	char kid[ENROLL_NAME_MAX + 1], current[ENROLL_NAME_MAX + 1];
	int64_t expires_at_s, ttl_s;
};
void enrol_wire_kek_done(struct enrol_wire_kek *k);

/* POST /v1/devices: fills dkid and server_key, or compares server_key when it is pinned. */
int enrol_wire_upsert(struct device *d, const struct enrolment_link *link, char **error) MUST_CHECK;
/* POST …/kek, or …/rotate. prefer: NULL = the current one. CE_GONE: no such dkid (or kid). */
enum enrol_wire_verb { ENROL_WIRE_KEK, ENROL_WIRE_ROTATE };
int enrol_wire_ask(const struct device *d, const struct enrolment_link *link,
	enum enrol_wire_verb verb, const char *prefer, struct enrol_wire_kek *out,
	char **error) MUST_CHECK;

/* Of the current KEK, with the dkid we have; enrols when the server does not know it (any more). */
int enrol_wire_ask_current(struct device *d, const struct enrolment_link *link,
	enum enrol_wire_verb verb, struct enrol_wire_kek *out, char **error) MUST_CHECK;

/* --- enrolment_adopt.c --- */

/* With a copy of the KEK that the server gave; CE_WRONG_KEY. */
int enrolment_unlock(struct keyring *k, const struct enrol_wire_kek *got) MUST_CHECK;
int enrolment_set_lease(
	const struct enrolment *e, struct device *d, const struct enrol_wire_kek *got) MUST_CHECK;
int enrolment_put(const struct device *d, const struct secret *local, struct keyring *k) MUST_CHECK;
/* The keyring is unlocked. Keyring, record and lease change in one rename, or not at all. */
int enrolment_adopt(struct enrolment *e, struct keyring *k, const struct enrol_wire_kek *got,
	int dirfd) MUST_CHECK;

/* The token in the device record, if there is one. -EBUSY: it is in use just now. */
int enrolment_set_token(struct volume *v, const struct secret *token) MUST_CHECK;

/* --- enrolment_clock.c --- */

void enrolment_start_clock(struct enrolment *e);
/* Unix time that is never set back. */
int64_t enrolment_now_s(const struct enrolment *e);
bool enrolment_lease_holds(const struct enrolment *e);
/* The index remembers rotation, clock and who we are; they only grow. */
int enrolment_note(struct volume *v) MUST_CHECK;
/* The index is open: the keyring may not be older than it knows, the lease not be over. */
int enrolment_check(struct volume *v, char **error) MUST_CHECK;
/* Moves the clock's high-water mark; once a minute, and at close. */
void enrolment_tick(struct volume *v);

/* --- enrolment.c --- */

struct enrolment_setup {
	const char *key_source;
	const struct enrolment_link *link; /* NULL: the lease alone */
	int dirfd;
	bool lease_first;
	const struct secret *secret; /* of the device, if at hand */
};
/* A new keyring, unlocked, with its device record; saved by the caller. */
int enrolment_create(const struct enrolment_setup *s, const char *device_id,
	const struct secret *token, struct keyring **out, struct secret **kek,
	char **error) MUST_CHECK;
/* Unlocks the keyring, rotated if need be. */
int enrolment_open(const struct enrolment_setup *s, struct keyring *k, struct enrolment **out,
	char **error) MUST_CHECK;
void enrolment_free(struct enrolment *e);

#endif
