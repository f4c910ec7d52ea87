/*
 * The messages of enrolment: made here, believed here. An answer counts when its numbers have the
 * right sizes, its point is on the curve, its signature is that of the key pinned at enrolment over
 * this request's nonce and our dkid, and its tag is right; each failure names its stage.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "cache/enrolment_priv.h"
#include "crypto/kdf.h"

#define NONCE_LEN ENROLL_NONCE_MAX
#define PATH_MAX_LEN 512
#define PROBLEM_PREFIX "urn:cachet:"

struct talk {
	const struct device *d;
	const struct enrolment_link *link;
	char **error;
	int status;
	struct json *answer;
};

static void talk_done(struct talk *t)
{
	json_free(t->answer);
}
#define _cleanup_talk_ _cleanup_(talk_done)

static int fail(struct talk *t, int code, const char *stage, const char *fmt, ...)
	PRINTF_LIKE(4, 5);

static int fail(struct talk *t, int code, const char *stage, const char *fmt, ...)
{
	_cleanup_free_ char *why = NULL;
	va_list args;

	va_start(args, fmt);
	(void)!bytes_vprint(&why, fmt, args);
	va_end(args);
	free(steal_ptr(t->error));
	(void)!bytes_print(t->error, "enrolment failed at %s: %s", stage, why ? why : "no memory");
	return code;
}

static const char *problem_type(const struct json *answer)
{
	const char *type;

	if (json_get_string(answer, "type", &type))
		return "";
	return strncmp(type, PROBLEM_PREFIX, strlen(PROBLEM_PREFIX))
		       ? type
		       : type + strlen(PROBLEM_PREFIX);
}

static const char *problem_text(const struct json *answer)
{
	const char *text;

	if (!json_get_string(answer, "detail", &text) || !json_get_string(answer, "title", &text))
		return text;
	return problem_type(answer);
}

static int code_of_status(int status)
{
	if (status == 401 || status == 403)
		return CE_AUTH;
	if (status == 404 || status == 410)
		return CE_GONE;
	return status == 429 || status >= 500 ? -EAGAIN : CE_REFUSED;
}

/* Sends `o` (taken); 0 when the answer is a 2xx. */
static int post(struct talk *t, const char *stage, const char *path, struct json *o)
{
	_cleanup_json_ struct json *body = o;
	_cleanup_free_ char *text = NULL, *why = NULL;
	struct enrolment_post p = { .device_id = t->d->id, .token = t->d->token, .path = path };

	int r = json_print(body, false, &text);

	if (r)
		return r;
	p.body = text;
	/* With a lease nobody has to wait long. */
	p.deadline_ms = t->d->lease.held ? 4000 : 20000;
	r = t->link->post(t->link->arg, &p, &t->status, &t->answer, &why);
	if (r)
		return fail(t, r, stage, "%s", why ? why : error_text(r));
	if (t->status / 100 == 2)
		return 0;
	return fail(t, code_of_status(t->status), stage, "the server answers %d: %.200s", t->status,
		problem_text(t->answer));
}

/* Base64 of exactly `len` bytes; the sentence says what came instead. */
static int take_bytes(struct talk *t, const char *stage, const char *key, uint8_t *out, size_t len)
{
	const char *text;

	if (json_get_string(t->answer, key, &text))
		return fail(t, CE_FORMAT, stage, "'%s' is missing", key);
	if (json_get_bytes(t->answer, key, out, len))
		return fail(t, CE_FORMAT, stage,
			"'%s' is not %zu bytes in standard base64 (%zu characters came)", key, len,
			strlen(text));
	return 0;
}

static int take_name(
	struct talk *t, const char *stage, const char *key, char out[static ENROLL_NAME_MAX + 1])
{
	const char *text;
	size_t len = 0;

	if (json_get_string(t->answer, key, &text))
		return fail(t, CE_FORMAT, stage, "'%s' is missing", key);
	while (text[len] > ' ' && text[len] <= '~')
		len++;
	if (!len || len > ENROLL_NAME_MAX || text[len])
		return fail(t, CE_FORMAT, stage, "'%s' is not 1 to %d printable characters", key,
			ENROLL_NAME_MAX);
	memcpy(out, text, len + 1);
	return 0;
}

/* --- the device --- */

static int check_digest(struct talk *t, const struct device *d)
{
	char hex[2 * KDF_SHA256_LEN + 1];
	uint8_t digest[KDF_SHA256_LEN];
	const char *theirs;
	int r = kdf_sha256(d->pub, sizeof(d->pub), digest);

	if (r)
		return r;
	bytes_to_hex(digest, sizeof(digest), hex);
	if (json_get_string(t->answer, "dk_pub_sha256", &theirs))
		return fail(t, CE_FORMAT, "the point", "'dk_pub_sha256' is missing");
	if (strcmp(theirs, hex) != 0)
		return fail(t, CE_TAMPER, "the point",
			"the server has another public key of this device (SHA-256 %.64s, here %s)",
			theirs, hex);
	return 0;
}

static bool is_pinned(const struct device *d)
{
	static const uint8_t none[ENROLL_SERVER_KEY_LEN];

	return memcmp(d->server_key, none, sizeof(none)) != 0;
}

int enrol_wire_upsert(struct device *d, const struct enrolment_link *link, char **error)
{
	_cleanup_talk_ struct talk t = { .d = d, .link = link, .error = error };
	struct json *o = json_new_object();
	char dkid[ENROLL_NAME_MAX + 1];
	uint8_t key[ENROLL_SERVER_KEY_LEN];
	int r;

	json_set_bytes(o, "dk_pub", d->pub, sizeof(d->pub));
	json_set_string(o, "curve", ENROLL_CURVE);
	json_set_string(o, "device_id", d->id);
	r = post(&t, "the device upsert", "/v1/devices", o);
	if (!r)
		r = take_name(&t, "the device upsert", "dkid", dkid);
	if (!r)
		r = take_bytes(&t, "the device upsert", "serverKey", key, sizeof(key));
	if (!r)
		r = check_digest(&t, d);
	if (r)
		return r;
	if (is_pinned(d) && memcmp(d->server_key, key, sizeof(key)) != 0)
		return fail(&t, CE_TAMPER, "the device upsert",
			"the server's signing key is not the one pinned at the first enrolment");
	memcpy(d->server_key, key, sizeof(key));
	strcpy(d->dkid, dkid);
	return 0;
}

/* --- the KEK --- */

void enrol_wire_kek_done(struct enrol_wire_kek *k)
{
	secret_free(k->kek);
	k->kek = NULL;
}

/* Both sides' words about the same request. `digest` NULL: a refusal. */
static int verify(struct talk *t, const char *label, const char *kid, const uint8_t *nonce,
	const uint8_t *digest)
{
	uint8_t signature[ENROLL_SIGNATURE_LEN];
	const struct enroll_statement s = { .label = label,
		.dkid = t->d->dkid,
		.kid = kid,
		.nonce = nonce,
		.nonce_len = NONCE_LEN,
		.ct_sha256 = digest };
	int r = take_bytes(t, "the signature", "signature", signature, sizeof(signature));

	if (!r && enroll_verify(t->d->server_key, &s, signature))
		r = fail(t, CE_TAMPER, "the signature",
			"the answer is not signed by the server's pinned key for this device and "
			"this request");
	return r;
}

/* A refusal that is signed becomes CE_REVOKED or CE_UNTRUSTED; any other stays what it is. */
static int judge_refusal(struct talk *t, const uint8_t *nonce, int r)
{
	const char *type = problem_type(t->answer), *label;
	char kid[ENROLL_NAME_MAX + 1];
	bool revoked = !strcmp(type, "device-revoked");

	if (!strcmp(type, "no-kid"))
		return fail(t, CE_GONE, "the CEK",
			"the server does not have the key this volume is wrapped under any more");
	if (t->status != 403 || (!revoked && strcmp(type, "device-untrusted") != 0))
		return r;
	label = revoked ? ENROLL_LABEL_REVOKED : ENROLL_LABEL_UNTRUSTED;
	if (take_name(t, "the signature", "kid", kid) || verify(t, label, kid, nonce, NULL))
		return CE_AUTH; /* anybody can say so: nothing follows but another try */
	return fail(t, revoked ? CE_REVOKED : CE_UNTRUSTED, "the KEK",
		revoked ? "the server revoked this device; `cachet enroll` enrols it anew, if its "
			  "owner may"
			: "the server says that this machine is not to be trusted now; the volume "
			  "stays locked and untouched");
}

static int unwrap(struct talk *t, const struct json *wrapped, const char *kid, const uint8_t *nonce,
	struct secret **kek)
{
	uint8_t digest[KDF_SHA256_LEN];
	struct enroll_wrapped w;
	enum enroll_stage stage;
	const char *what;
	int r = enroll_wrapped_read(wrapped, &w, &what);

	if (r)
		return fail(t, r, "the wrapped KEK", "%s", what);
	r = kdf_sha256(w.ct, sizeof(w.ct), digest);
	if (!r)
		r = verify(t, ENROLL_LABEL_KEK, kid, nonce, digest);
	if (r)
		return r;
	r = enroll_unwrap(t->d->priv, &w, kek, &stage);
	if (r)
		return fail(t, r, enroll_stage_name(stage),
			"%s (point %d bytes, salt %d, iv %d, ct %d)", error_text(r),
			ENROLL_POINT_LEN, ENROLL_SALT_LEN, ENROLL_IV_LEN, ENROLL_CT_LEN);
	return 0;
}

static int take_raw(struct talk *t, struct secret **kek)
{
	_cleanup_secret_ struct secret *raw = NULL;
	int r;

	if (!t->link->allow_raw)
		return fail(t, CE_REFUSED, "the KEK",
			"the server sent an unwrapped key (rawKEK); that is refused unless the "
			"configuration has \"allow_raw_kek\": true");
	r = secret_new(ENROLL_KEK_LEN, &raw);
	if (!r)
		r = take_bytes(t, "the KEK", "rawKEK", secret_bytes(raw), ENROLL_KEK_LEN);
	if (!r)
		*kek = steal_ptr(&raw);
	return r;
}

/* The server's word on the lease is final; its silence is the default. */
static int take_times(struct talk *t, struct enrol_wire_kek *k)
{
	k->ttl_s = ENROLMENT_TTL_DEFAULT_S;
	k->expires_at_s = 0;
	if (json_has(t->answer, "offline_ttl") &&
		(json_get_i64(t->answer, "offline_ttl", &k->ttl_s) || k->ttl_s < 0))
		return fail(t, CE_FORMAT, "the KEK", "'offline_ttl' is not a number of seconds");
	if (json_has(t->answer, "expiresAt") &&
		json_get_i64(t->answer, "expiresAt", &k->expires_at_s))
		return fail(t, CE_FORMAT, "the KEK", "'expiresAt' is not a Unix time");
	k->ttl_s = MIN_OF(k->ttl_s, (int64_t)ENROLMENT_TTL_MAX_S);
	return 0;
}

static int take_kek(struct talk *t, const uint8_t *nonce, struct enrol_wire_kek *out)
{
	_cleanup_(enrol_wire_kek_done) struct enrol_wire_kek k = { 0 };
	const struct json *wrapped;
	int r = take_name(t, "the KEK", "kid", k.kid);

	if (!r && json_has(t->answer, "currentKid"))
		r = take_name(t, "the KEK", "currentKid", k.current);
	else if (!r)
		strcpy(k.current, k.kid);
	if (!r)
		r = take_times(t, &k);
	if (r)
		return r;
	if (!json_get(t->answer, "wrappedKEK", &wrapped))
		r = unwrap(t, wrapped, k.kid, nonce, &k.kek);
	else if (json_has(t->answer, "rawKEK"))
		r = take_raw(t, &k.kek);
	else
		r = fail(t, CE_FORMAT, "the KEK", "'wrappedKEK' is missing");
	if (r)
		return r;
	*out = k;
	k.kek = NULL;
	return 0;
}

int enrol_wire_ask(const struct device *d, const struct enrolment_link *link,
	enum enrol_wire_verb verb, const char *prefer, struct enrol_wire_kek *out, char **error)
{
	_cleanup_talk_ struct talk t = { .d = d, .link = link, .error = error };
	struct json *o = json_new_object();
	uint8_t nonce[NONCE_LEN];
	char path[PATH_MAX_LEN];
	int r;

	secret_random(nonce, sizeof(nonce));
	json_set_bytes(o, "nonce", nonce, sizeof(nonce));
	if (prefer)
		json_set_string(o, "preferKid", prefer);
	snprintf(path, sizeof(path), "/v1/devices/%s/%s", d->dkid,
		verb == ENROL_WIRE_ROTATE ? "rotate" : "kek");
	r = post(&t, "the KEK", path, o);
	if (r && t.answer)
		return judge_refusal(&t, nonce, r);
	if (!r)
		r = take_kek(&t, nonce, out);
	if (!r && prefer && strcmp(out->kid, prefer) != 0) {
		enrol_wire_kek_done(out);
		r = fail(&t, CE_TAMPER, "the KEK",
			"the server gave another key than the one asked for");
	}
	return r;
}

int enrol_wire_ask_current(struct device *d, const struct enrolment_link *link,
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
