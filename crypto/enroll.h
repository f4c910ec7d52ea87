/*
 * The arithmetic of device enrolment, for both sides: the client unwraps and verifies, the server
 * (server/) wraps and signs. No I/O, no state. The messages are in docs/protocol.md.
 *
 *     device                                     server
 *     enroll_device_make -> priv, dk_pub
 *                          ── dk_pub ──▶         enroll_point_check
 *                                                enroll_wrap(dk_pub, KEK)
 *                     ◀── wrappedKEK, signature  enroll_sign
 *     enroll_verify, enroll_unwrap -> KEK
 *
 * P-256 points travel raw: 65 bytes 04 ‖ X ‖ Y; a private key is the scalar, 32 bytes big-endian.
 * ECDH x-coordinate (SP 800-56A) -> HKDF-SHA256 (RFC 5869; salt 16 bytes, info empty, 32 bytes)
 * -> AES-256-GCM (iv 12 bytes, no AAD), ct = 32 bytes of KEK and the 16-byte tag.
 * Signatures: Ed25519 (RFC 8032) over enc(label, fields…) = label ‖ (u16 big-endian length ‖
 * field)…; a private key is its 32-byte seed.
 *
 * A wrap has a fresh key pair, salt and iv each time. Nothing authenticates the wrapping party but
 * the signature, which therefore names the SHA-256 of ct.
 * Threads: any.
 */
#ifndef CACHET_CRYPTO_ENROLL_H
#define CACHET_CRYPTO_ENROLL_H

#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "base/macros.h"
#include "base/secret.h"

#define ENROLL_CURVE "p256"
#define ENROLL_ALG "P256+AESGCM"
#define ENROLL_POINT_LEN 65
#define ENROLL_PRIV_LEN 32
#define ENROLL_KEK_LEN 32
#define ENROLL_SALT_LEN 16
#define ENROLL_IV_LEN 12
#define ENROLL_CT_LEN (ENROLL_KEK_LEN + 16)
#define ENROLL_NONCE_MIN 16
#define ENROLL_NONCE_MAX 32
#define ENROLL_NAME_MAX 128 /* dkid and kid, as text */
#define ENROLL_SEED_LEN 32
#define ENROLL_SERVER_KEY_LEN 32
#define ENROLL_SIGNATURE_LEN 64

#define ENROLL_LABEL_KEK "cachet kek v1"
#define ENROLL_LABEL_REVOKED "cachet device-revoked v1"
#define ENROLL_LABEL_UNTRUSTED "cachet device-untrusted v1"

/* Where an unwrap failed. */
enum enroll_stage { ENROLL_OK, ENROLL_POINT, ENROLL_ECDH, ENROLL_HKDF, ENROLL_TAG };
const char *enroll_stage_name(enum enroll_stage stage);

struct enroll_wrapped {
	uint8_t eph_pub[ENROLL_POINT_LEN];
	uint8_t iv[ENROLL_IV_LEN];
	uint8_t ct[ENROLL_CT_LEN];
	uint8_t salt[ENROLL_SALT_LEN];
};

int enroll_device_make(struct secret **priv, uint8_t pub[static ENROLL_POINT_LEN]) MUST_CHECK;
/* The point of a scalar; CE_FORMAT when it is not 1 … order - 1. */
int enroll_device_public(
	const struct secret *priv, uint8_t pub[static ENROLL_POINT_LEN]) MUST_CHECK;

/* 0, or CE_FORMAT: another length or form, not on the curve, infinity. */
int enroll_point_check(const uint8_t *point, size_t len) MUST_CHECK;

/* The shared x-coordinate, 32 bytes. CE_FORMAT for a point as above. */
int enroll_ecdh(const struct secret *priv, const uint8_t point[static ENROLL_POINT_LEN],
	struct secret **out) MUST_CHECK;

int enroll_wrap(const uint8_t dk_pub[static ENROLL_POINT_LEN], const struct secret *kek,
	struct enroll_wrapped *out) MUST_CHECK;
/* CE_FORMAT (point), CE_TAMPER (tag); *stage says where, and may be NULL. */
int enroll_unwrap(const struct secret *priv, const struct enroll_wrapped *w, struct secret **kek,
	enum enroll_stage *stage) MUST_CHECK;

/* The members of "wrappedKEK" in `obj`, and back. *what names the member that is wrong, with the
 * size it must have (static storage). */
void enroll_wrapped_write(struct json *obj, const struct enroll_wrapped *w);
int enroll_wrapped_read(
	const struct json *obj, struct enroll_wrapped *out, const char **what) MUST_CHECK;

/* What is signed. A field that is NULL is not in it. */
struct enroll_statement {
	const char *label; /* ENROLL_LABEL_… */
	const char *dkid, *kid;
	const uint8_t *nonce; /* of the request, raw */
	size_t nonce_len;
	const uint8_t *ct_sha256; /* 32 bytes: of wrappedKEK.ct, ENROLL_LABEL_KEK only */
};

int enroll_sign_make(struct secret **seed) MUST_CHECK;
int enroll_sign_public(
	const struct secret *seed, uint8_t pub[static ENROLL_SERVER_KEY_LEN]) MUST_CHECK;
int enroll_sign(const struct secret *seed, const struct enroll_statement *s,
	uint8_t signature[static ENROLL_SIGNATURE_LEN]) MUST_CHECK;
/* 0, or CE_TAMPER. */
int enroll_verify(const uint8_t pub[static ENROLL_SERVER_KEY_LEN], const struct enroll_statement *s,
	const uint8_t signature[static ENROLL_SIGNATURE_LEN]) MUST_CHECK;

#endif
