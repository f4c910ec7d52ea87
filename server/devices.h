/*
 * Enrolled devices and which key-encryption key each has: the rows. The keys themselves are the
 * vault's.
 *
 * A device is an account's, named by the id the client chose; its dkid is the server's name for it.
 * Revoked is for ever: the same id that enrols again is a new device. Rotating gives the device a
 * new kid without a key behind it; the key is made when the device first asks for it, so that who
 * rotates needs no master key, and cannot have it. Old keys stay: an account asks for them by kid.
 *
 * What writes needs the caller's write transaction and leaves an audit row. -ENOENT: no such device
 * or key. Threads: one per connection.
 */
#ifndef CACHET_SERVER_DEVICES_H
#define CACHET_SERVER_DEVICES_H

#include "base/json.h"
#include "crypto/enroll.h"
#include "server/store.h"
#include "server/vault.h"

#define DEVICES_ID_MAX 64
#define DEVICES_KID_SIZE 33 /* 32 hex digits; dkid likewise */

enum device_state { DEVICE_OK, DEVICE_UNTRUSTED, DEVICE_REVOKED };

struct device {
	int64_t n, account, seen_at_ns;
	char dkid[DEVICES_KID_SIZE];
	char kid[DEVICES_KID_SIZE]; /* empty: none yet */
	char id[DEVICES_ID_MAX + 1];
	enum device_state state;
	uint8_t dk_pub[ENROLL_POINT_LEN];
};

const char *server_devices_state_name(enum device_state state);
/* 1 to 64 of [A-Za-z0-9._-] */
bool server_devices_is_id(const char *text);

int server_devices_by_dkid(struct store_db *db, const char *dkid, struct device *out) MUST_CHECK;
/* The newest of this id, revoked or not. */
int server_devices_by_id(
	struct store_db *db, int64_t account, const char *id, struct device *out) MUST_CHECK;

struct device_enrolment {
	int64_t account, token;
	const char *id, *name; /* name may be NULL */
	const uint8_t *dk_pub; /* a checked point */
};
int server_devices_enrol(struct store_db *db, const char *who, const struct device_enrolment *e,
	struct device *out) MUST_CHECK;
int server_devices_set_state(struct store_db *db, const char *who, const struct device *d,
	enum device_state state) MUST_CHECK;
int server_devices_seen(struct store_db *db, int64_t n) MUST_CHECK;

/* A new current kid. `why` is for the audit. */
int server_devices_rotate(
	struct store_db *db, const char *who, struct device *d, const char *why) MUST_CHECK;
/* All that are not revoked: of an account, or (NULL) everybody's. */
int server_devices_rotate_all(
	struct store_db *db, const char *who, const char *account, uint64_t *n) MUST_CHECK;

struct device_kek {
	char kid[DEVICES_KID_SIZE];
	int64_t account, expires_at_ns; /* 0: not issued yet */
	bool is_made;
	uint8_t wrapped[VAULT_SEALED_LEN];
};
int server_devices_kek(struct store_db *db, const char *kid, struct device_kek *out) MUST_CHECK;
/* Puts the key behind a kid that has none. */
int server_devices_kek_made(struct store_db *db, const struct device_kek *k) MUST_CHECK;

/* `devices` in `out`: of an account, or (0) all. */
int server_devices_list(struct store_db *db, int64_t account, struct json *out) MUST_CHECK;

#endif
