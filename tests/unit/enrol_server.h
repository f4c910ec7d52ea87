/*
 * The enrolment side of a server in a few lines, for tests: `enrol_server_link`. A KEK follows from
 * its number. What is set in `enrol_server` makes it a hostile one.
 */
#ifndef CACHET_TESTS_UNIT_ENROL_SERVER_H
#define CACHET_TESTS_UNIT_ENROL_SERVER_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "base/macros.h"
#include "cache/enrolment.h"
#include "crypto/enroll.h"
#include "crypto/kdf.h"

#define ENROL_SERVER_DEVICES 65536

static struct {
	uint8_t pub[ENROL_SERVER_DEVICES][ENROLL_POINT_LEN];
	unsigned devices, kek;
	struct secret *seed;
	uint8_t key[ENROLL_SERVER_KEY_LEN];

	unsigned asked;                         /* messages that came */
	int silent;                             /* no answer but this code */
	int status;                             /* of the answers about keys; 0 = 200 */
	const char *type;                       /* of the problem */
	bool unsigned_refusal;                  /* else its signature is right */
	bool no_lease, raw;                     /* offline_ttl 0; rawKEK instead of wrappedKEK */
	bool forgot;                            /* all KEKs but the current one */
	bool other;                             /* the KEKs are others under the same names */
	const char *sign_as;                    /* the dkid in what is signed */
	bool sign_old;                          /* with the nonce of another request */
	void (*wrap)(struct enroll_wrapped *w); /* changes what is then signed */
	void (*spoil)(struct json **answer);    /* changes what is signed */
} enrol_server;

static inline int enrol_server_upsert(const struct json *in, struct json *out)
{
	unsigned n = enrol_server.devices++ % ENROL_SERVER_DEVICES;
	uint8_t digest[KDF_SHA256_LEN];
	char dkid[24], hex[2 * KDF_SHA256_LEN + 1];
	int r = json_get_bytes(in, "dk_pub", enrol_server.pub[n], ENROLL_POINT_LEN);

	if (!r)
		r = kdf_sha256(enrol_server.pub[n], ENROLL_POINT_LEN, digest);
	if (r)
		return r;
	bytes_to_hex(digest, sizeof(digest), hex);
	snprintf(dkid, sizeof(dkid), "dk-%u", n);
	json_set_string(out, "dkid", dkid);
	json_set_bytes(out, "serverKey", enrol_server.key, sizeof(enrol_server.key));
	json_set_string(out, "dk_pub_sha256", hex);
	return 0;
}

static inline void enrol_server_kek(unsigned number, uint8_t out[static ENROLL_KEK_LEN])
{
	memset(out, (int)(number % 251 + 1), ENROLL_KEK_LEN);
	out[0] ^= enrol_server.other;
}

static inline int enrol_server_wrap(unsigned device, unsigned number, struct enroll_wrapped *w)
{
	_cleanup_secret_ struct secret *kek = NULL;
	int r = secret_new(ENROLL_KEK_LEN, &kek);

	if (r)
		return r;
	enrol_server_kek(number, secret_bytes(kek));
	r = enroll_wrap(enrol_server.pub[device], kek, w);
	if (!r && enrol_server.wrap)
		enrol_server.wrap(w);
	return r;
}

/* The answer's words, signed: about the KEK of that number, or a refusal. */
static inline int enrol_server_say(
	const char *dkid, const uint8_t *nonce, unsigned number, struct json *out)
{
	uint8_t raw[ENROLL_KEK_LEN], digest[KDF_SHA256_LEN], signature[ENROLL_SIGNATURE_LEN];
	bool refuses = enrol_server.status >= 400;
	char kid[24], current[24];
	struct enroll_statement s = { .label = ENROLL_LABEL_KEK,
		.dkid = enrol_server.sign_as ? enrol_server.sign_as : dkid,
		.kid = kid,
		.nonce = nonce,
		.nonce_len = ENROLL_NONCE_MAX,
		.ct_sha256 = refuses ? NULL : digest };
	struct enroll_wrapped w;
	int r = enrol_server_wrap((unsigned)atoi(dkid + 3), number, &w);

	if (refuses)
		s.label = enrol_server.type && strstr(enrol_server.type, "untrusted")
				  ? ENROLL_LABEL_UNTRUSTED
				  : ENROLL_LABEL_REVOKED;
	snprintf(kid, sizeof(kid), "kek-%u", number);
	snprintf(current, sizeof(current), "kek-%u", enrol_server.kek);
	if (!r)
		r = kdf_sha256(w.ct, sizeof(w.ct), digest);
	if (!r)
		r = enroll_sign(enrol_server.seed, &s, signature);
	if (r)
		return r;
	json_set_string(out, "kid", kid);
	json_set_bytes(out, "signature", signature, sizeof(signature));
	if (refuses)
		return 0;
	json_set_string(out, "currentKid", current);
	enrol_server_kek(number, raw);
	if (enrol_server.raw)
		json_set_bytes(out, "rawKEK", raw, sizeof(raw));
	else
		enroll_wrapped_write(json_set_object(out, "wrappedKEK"), &w);
	json_set_i64(out, "offline_ttl", enrol_server.no_lease ? 0 : 3600);
	return 0;
}

static inline int enrol_server_about_keys(
	const char *dkid, const struct json *in, int *status, struct json *out)
{
	unsigned number = enrol_server.kek;
	uint8_t nonce[ENROLL_NONCE_MAX];
	const char *prefer;
	int r = json_get_bytes(in, "nonce", nonce, sizeof(nonce));

	if (r)
		return r;
	nonce[0] ^= enrol_server.sign_old;
	if (!json_get_string(in, "preferKid", &prefer))
		number = (unsigned)atoi(prefer + 4);
	if (enrol_server.forgot && number != enrol_server.kek) {
		*status = 404;
		json_set_string(out, "type", "urn:cachet:no-kid");
		return 0;
	}
	if (enrol_server.status)
		*status = enrol_server.status;
	if (enrol_server.type)
		json_set_string(out, "type", enrol_server.type);
	return *status >= 400 && enrol_server.unsigned_refusal
		       ? 0
		       : enrol_server_say(dkid, nonce, number, out);
}

static inline int enrol_server_post(
	void *arg, const struct enrolment_post *p, int *status, struct json **answer, char **error)
{
	_cleanup_json_ struct json *in = NULL, *out = json_new_object();
	char dkid[24] = "", verb[16] = "";
	int r = out ? json_parse(p->body, strlen(p->body), &in) : -ENOMEM;

	enrol_server.asked++;
	if (enrol_server.silent)
		return enrol_server.silent;
	*status = 200;
	if (!r && sscanf(p->path, "/v1/devices/%23[^/]/%15s", dkid, verb) == 2) {
		enrol_server.kek += !strcmp(verb, "rotate") && enrol_server.status < 400;
		r = enrol_server_about_keys(dkid, in, status, out);
	} else if (!r) {
		r = enrol_server_upsert(in, out);
	}
	if (r)
		return -EHOSTUNREACH;
	if (enrol_server.spoil)
		enrol_server.spoil(&out);
	*answer = steal_ptr(&out);
	return 0;
}

static const struct enrolment_link enrol_server_link = { .post = enrol_server_post };

/* The server's signing key, once. */
static inline void enrol_server_start(void)
{
	if (enrol_server.seed)
		return;
	assert_int_equal(enroll_sign_make(&enrol_server.seed), 0);
	assert_int_equal(enroll_sign_public(enrol_server.seed, enrol_server.key), 0);
}

#endif
