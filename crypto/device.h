/*
 * The device record: what a machine keeps, in the keyring, about its enrolment at the server that
 * holds the KEK. Sealed under the device secret, 32 bytes of a local key source: the private key,
 * the token, and the lease (the KEK itself, for use without a network).
 *
 *     device_new → (enrolment fills dkid, kid, server_key …) → device_write → keyring
 *     device_read → device_lease_open / device_lease_seal → device_write → device_free
 *
 * Identity fields are bound to the private key's wrap as AAD, and those of the lease to its own, so
 * no byte of the record can be changed and still be used. `rotation` grows with every rewrap of the
 * keyring: the index remembers the highest one it saw. Exact bytes: docs/format.md.
 *
 * device_erase() is the crypto-erase of a revocation: private key, token and lease go, the names
 * stay (the server's kid is needed to ask for the old KEK after re-enrolment).
 * Errors: CE_WRONG_KEY (another device secret), CE_TAMPER, CE_FORMAT. Threads: one at a time.
 */
#ifndef CACHET_CRYPTO_DEVICE_H
#define CACHET_CRYPTO_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "base/macros.h"
#include "base/secret.h"
#include "crypto/enroll.h"

#define DEVICE_ID_MAX 64
#define DEVICE_TOKEN_MAX 4096

struct device {
	char id[DEVICE_ID_MAX + 1];     /* Cachet-Device; the server's device_id */
	char dkid[ENROLL_NAME_MAX + 1]; /* the server's name for it; "" = not enrolled */
	char kid[ENROLL_NAME_MAX + 1];  /* of the KEK the keyring is wrapped under */
	uint64_t rotation;
	int64_t expires_at_s; /* of the KEK; 0 = the server did not say */
	uint8_t pub[ENROLL_POINT_LEN];
	uint8_t server_key[ENROLL_SERVER_KEY_LEN]; /* pinned at enrolment */
	struct secret *priv;                       /* NULL: erased */
	struct secret *token;                      /* or NULL */
	struct device_lease {
		bool held;
		int64_t from_s, until_s; /* Unix time */
		uint8_t iv[ENROLL_IV_LEN], ct[ENROLL_CT_LEN];
	} lease;
};

/* A fresh key pair; not enrolled. */
int device_new(const char *id, struct device **out) MUST_CHECK;
/* A new key pair for an erased one: dkid, lease and expiry are forgotten. */
int device_renew(struct device *d) MUST_CHECK;
int device_read(
	const struct json *record, const struct secret *local, struct device **out) MUST_CHECK;
int device_write(const struct device *d, const struct secret *local, struct json **out) MUST_CHECK;
void device_free(struct device *d);
void device_freep(struct device **d);

/* Seals the KEK of d->kid from `from_s` until `until_s`. */
int device_lease_seal(struct device *d, const struct secret *local, const struct secret *kek,
	int64_t from_s, int64_t until_s) MUST_CHECK;
void device_lease_drop(struct device *d);
/* -ENOENT when there is none. Whether it is still valid is the caller's to judge. */
int device_lease_open(
	const struct device *d, const struct secret *local, struct secret **kek) MUST_CHECK;

void device_erase(struct device *d);

#endif
