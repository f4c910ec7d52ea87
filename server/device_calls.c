/*
 * Enrolment, keys and what becomes of devices, over HTTP.
 *
 * The rows are read and written in the writer's transaction; what costs (ECDH, signature) and what
 * handles a key that is not sealed happens after the sync, in the thread of the request. The one
 * exception is a new key, which is drawn and sealed where its row is written.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "crypto/kdf.h"
#include "server/audit.h"
#include "server/call.h"
#include "server/devices.h"
#include "server/handlers.h"

#define POINT_MAX 256 /* longer ones are as wrong as this one */
#define NAME_MAX_LEN 255

/* ---- POST /v1/devices ---- */

static bool take_point(struct call *c, uint8_t out[ENROLL_POINT_LEN])
{
	const char *text = NULL, *curve = NULL;
	uint8_t point[POINT_MAX];
	size_t len;

	if (!server_call_string(c, "curve", true, &curve) ||
		!server_call_string(c, "dk_pub", true, &text) || c->problem)
		return false;
	if (strcmp(curve, ENROLL_CURVE) != 0) {
		server_call_refuse(c, PROBLEM_BAD_CURVE, "the curve is p256");
		return false;
	}
	if (bytes_from_base64(text, point, sizeof(point), &len) || len != ENROLL_POINT_LEN ||
		enroll_point_check(point, len)) {
		server_call_refuse(
			c, PROBLEM_BAD_POINT, "dk_pub is base64 of 65 bytes 04, X, Y on the curve");
		return false;
	}
	memcpy(out, point, ENROLL_POINT_LEN);
	return true;
}

static bool is_device_name(const char *name)
{
	if (strlen(name) > NAME_MAX_LEN)
		return false;
	for (; *name; name++)
		if ((unsigned char)*name < ' ' || *name == 0x7f)
			return false;
	return true;
}

static int print_enrolled(struct call *c, const struct device *d)
{
	uint8_t digest[KDF_SHA256_LEN];
	char hex[2 * KDF_SHA256_LEN + 1];
	int rc = kdf_sha256(d->dk_pub, sizeof(d->dk_pub), digest);

	if (rc)
		return rc;
	bytes_to_hex(digest, sizeof(digest), hex);
	json_set_string(c->out, "dkid", d->dkid);
	json_set_bytes(
		c->out, "serverKey", server_vault_public(c->r->s->vault), ENROLL_SERVER_KEY_LEN);
	json_set_string(c->out, "dk_pub_sha256", hex);
	json_set_string(c->out, "kid", *d->kid ? d->kid : NULL);
	return 0;
}

static int enrol(struct call *c, struct store_db *db)
{
	uint8_t point[ENROLL_POINT_LEN];
	struct device_enrolment e = { c->r->access.account, c->r->access.token, NULL, NULL, point };
	struct device d;
	int rc;

	if (!take_point(c, point) || !server_call_string(c, "device_id", true, &e.id) ||
		!server_call_string(c, "name", false, &e.name) || c->problem)
		return 0;
	if (!server_devices_is_id(e.id) || (e.name && !is_device_name(e.name))) {
		server_call_refuse(c, PROBLEM_BAD_REQUEST,
			"device_id has 1 to 64 characters of A-Z a-z 0-9 . _ -, name at most 255 "
			"bytes");
		return 0;
	}
	rc = server_devices_enrol(db, c->who, &e, &d);
	return rc ? rc : print_enrolled(c, &d);
}

void server_device_enrol(struct request *r)
{
	server_call_submit(r, enrol);
}

/* ---- POST /v1/devices/{dkid}/kek, …/rotate ---- */

struct issue {
	bool rotate;
	struct device device;
	struct device_kek kek;
	char asked_kid[ENROLL_NAME_MAX + 1];
	uint8_t nonce[ENROLL_NONCE_MAX];
	size_t nonce_len;
};

static bool take_asked(struct call *c, struct issue *i)
{
	const char *nonce = NULL, *kid = "";

	if (!server_call_string(c, "nonce", true, &nonce) ||
		!server_call_string(c, "preferKid", false, &kid) || c->problem)
		return false;
	if (bytes_from_base64(nonce, i->nonce, sizeof(i->nonce), &i->nonce_len) ||
		i->nonce_len < ENROLL_NONCE_MIN) {
		server_call_refuse(
			c, PROBLEM_BAD_REQUEST, "nonce is base64 of 16 to 32 fresh bytes");
		return false;
	}
	if (strlen(kid) > ENROLL_NAME_MAX || (i->rotate && *kid)) {
		server_call_refuse(c, PROBLEM_BAD_REQUEST, "preferKid is a kid, and not of rotate");
		return false;
	}
	snprintf(i->asked_kid, sizeof(i->asked_kid), "%s", kid);
	return true;
}

/* A device gets a new kid when it has none, when its key expired, or when it asks. */
static int rotate_if_due(struct call *c, struct store_db *db, struct issue *i)
{
	struct device *d = &i->device;
	struct device_kek k;
	int rc;

	if (i->rotate)
		return server_devices_rotate(db, c->who, d, "asked for");
	if (!*d->kid)
		return server_devices_rotate(db, c->who, d, "the first");
	rc = server_devices_kek(db, d->kid, &k);
	if (!rc && k.is_made && k.expires_at_ns <= clock_wall_ns())
		rc = server_devices_rotate(db, c->who, d, "expired");
	return rc;
}

static int make_key(struct call *c, struct store_db *db, struct device_kek *k)
{
	_cleanup_secret_ struct secret *kek = NULL;
	int rc = secret_new_random(ENROLL_KEK_LEN, &kek);

	if (!rc)
		rc = server_vault_seal(c->r->s->vault, k->kid, kek, k->wrapped);
	if (rc)
		return rc;
	k->is_made = true;
	k->expires_at_ns = clock_wall_ns() + c->r->s->kek_ttl_s * NS_PER_SEC;
	return server_devices_kek_made(db, k);
}

static int issue(struct call *c, struct store_db *db)
{
	struct issue *i = c->own;
	const char *kid;
	int rc = server_devices_by_dkid(db, c->r->id, &i->device);

	if (rc || !take_asked(c, i))
		return rc;
	rc = server_devices_seen(db, i->device.n);
	if (rc || i->device.state != DEVICE_OK)
		return rc;
	kid = i->asked_kid;
	if (*kid) {
		/* Looked at before anything is written: what follows does not refuse. */
		rc = server_devices_kek(db, kid, &i->kek);
		if (rc == -ENOENT ||
			(!rc && (i->kek.account != i->device.account ||
					(!i->kek.is_made && strcmp(kid, i->device.kid) != 0)))) {
			server_call_refuse(c, PROBLEM_NO_KID, NULL);
			return 0;
		}
	}
	if (!rc)
		rc = rotate_if_due(c, db, i);
	if (!rc && (!*kid || !i->kek.is_made))
		rc = server_devices_kek(db, *kid ? kid : i->device.kid, &i->kek);
	if (!rc && !i->kek.is_made)
		rc = make_key(c, db, &i->kek);
	return rc ? rc
		  : server_audit_add(db, c->who, "kek-issue", "kid %s to device %s", i->kek.kid,
			    i->device.dkid);
}

static int print_text(struct call *c, const struct json *o, unsigned status, const char *type)
{
	char *text;
	int rc = json_print(o, false, &text);

	if (rc)
		return rc;
	c->r->answer.text = (struct buffer){ .data = text, .len = strlen(text) };
	c->r->answer.status = status;
	c->r->answer.type = type;
	return 0;
}

/* The server's signed word that a device is revoked or untrusted. */
static int answer_state(struct call *c, const struct issue *i)
{
	bool revoked = i->device.state == DEVICE_REVOKED;
	enum problem p = revoked ? PROBLEM_DEVICE_REVOKED : PROBLEM_DEVICE_UNTRUSTED;
	const struct enroll_statement s = {
		.label = revoked ? ENROLL_LABEL_REVOKED : ENROLL_LABEL_UNTRUSTED,
		.dkid = i->device.dkid,
		.kid = *i->asked_kid ? i->asked_kid : i->device.kid,
		.nonce = i->nonce,
		.nonce_len = i->nonce_len,
	};
	_cleanup_json_ struct json *o = NULL;
	uint8_t signature[ENROLL_SIGNATURE_LEN];
	struct buffer *plain = &c->r->answer.text;
	int rc = server_vault_sign(c->r->s->vault, &s, signature);

	if (!rc)
		rc = server_problem_print(plain, p, NULL, c->r->s->instance, NULL);
	if (!rc)
		rc = json_parse(plain->data, plain->len, &o);
	buffer_done(plain);
	if (rc)
		return rc;
	json_set_string(o, "dkid", s.dkid);
	json_set_string(o, "kid", s.kid);
	json_set_bytes(o, "nonce", i->nonce, i->nonce_len);
	json_set_bytes(o, "signature", signature, sizeof(signature));
	return print_text(c, o, server_problem_status(p), ANSWER_PROBLEM);
}

static int wrap(struct call *c, const struct issue *i, struct enroll_wrapped *w)
{
	_cleanup_secret_ struct secret *kek = NULL;
	int rc = server_vault_unseal(c->r->s->vault, i->kek.kid, i->kek.wrapped, &kek);

	return rc ? rc : enroll_wrap(i->device.dk_pub, kek, w);
}

static int answer_key(struct call *c, const struct issue *i)
{
	uint8_t digest[KDF_SHA256_LEN], signature[ENROLL_SIGNATURE_LEN];
	const struct enroll_statement s = {
		.label = ENROLL_LABEL_KEK,
		.dkid = i->device.dkid,
		.kid = i->kek.kid,
		.nonce = i->nonce,
		.nonce_len = i->nonce_len,
		.ct_sha256 = digest,
	};
	struct enroll_wrapped w;
	int rc = wrap(c, i, &w);

	if (!rc)
		rc = kdf_sha256(w.ct, sizeof(w.ct), digest);
	if (!rc)
		rc = server_vault_sign(c->r->s->vault, &s, signature);
	if (rc)
		return rc;
	json_set_string(c->out, "kid", i->kek.kid);
	json_set_string(c->out, "currentKid", i->device.kid);
	enroll_wrapped_write(json_set_object(c->out, "wrappedKEK"), &w);
	json_set_i64(c->out, "expiresAt", i->kek.expires_at_ns / NS_PER_SEC);
	json_set_i64(c->out, "offline_ttl", c->r->s->offline_ttl_s);
	json_set_bytes(c->out, "nonce", i->nonce, i->nonce_len);
	json_set_bytes(c->out, "signature", signature, sizeof(signature));
	return print_text(c, c->out, 200, ANSWER_JSON);
}

static void answer_issue(struct call *c)
{
	const struct issue *i = c->own;
	int rc = i->device.state == DEVICE_OK ? answer_key(c, i) : answer_state(c, i);

	if (rc)
		server_http_fail(c->r, rc);
}

static void submit_issue(struct request *r, bool rotate)
{
	struct call *c = server_call_new(r, issue);
	struct issue *i = c ? calloc(1, sizeof(*i)) : NULL;

	if (!c)
		return;
	if (!i) {
		server_http_fail(r, -ENOMEM);
		return;
	}
	i->rotate = rotate;
	c->own = i;
	c->own_done = free;
	c->answer = answer_issue;
	server_call_run(c);
}

void server_device_kek(struct request *r)
{
	submit_issue(r, false);
}

void server_device_rotate(struct request *r)
{
	submit_issue(r, true);
}

/* ---- state and list ---- */

static int set_state(struct call *c, struct store_db *db, enum device_state state)
{
	struct device d;
	int rc = server_devices_by_dkid(db, c->r->id, &d);

	if (rc)
		return rc;
	if (d.state == DEVICE_REVOKED && state != DEVICE_REVOKED) {
		server_call_refuse(
			c, PROBLEM_DEVICE_REVOKED, "it has to enrol again, as a new device");
		return 0;
	}
	if (d.state != state)
		rc = server_devices_set_state(db, c->who, &d, state);
	json_set_string(c->out, "dkid", d.dkid);
	json_set_string(c->out, "state", server_devices_state_name(state));
	return rc;
}

static int set_revoked(struct call *c, struct store_db *db)
{
	return set_state(c, db, DEVICE_REVOKED);
}

void server_device_revoke(struct request *r)
{
	server_call_submit(r, set_revoked);
}

static int trust(struct call *c, struct store_db *db)
{
	bool untrusted;

	if (json_get_bool(c->in, "untrusted", &untrusted)) {
		server_call_refuse(c, PROBLEM_BAD_REQUEST, "untrusted is true or false");
		return 0;
	}
	return set_state(c, db, untrusted ? DEVICE_UNTRUSTED : DEVICE_OK);
}

void server_device_trust(struct request *r)
{
	server_call_submit(r, trust);
}

static int list(struct call *c, struct store_db *db)
{
	return server_devices_list(db, c->r->access.admin ? 0 : c->r->access.account, c->out);
}

void server_device_list(struct request *r)
{
	server_call_read(r, list);
}

/* ---- POST /v1/admin/rotate ---- */

static int rotate_many(struct call *c, struct store_db *db)
{
	const char *account = NULL, *dkid = NULL;
	struct device d;
	bool all = false;
	uint64_t n = 1;
	int rc;

	if (!server_call_string(c, "account", false, &account) ||
		!server_call_string(c, "dkid", false, &dkid) || !server_call_bool(c, "all", &all) ||
		c->problem)
		return 0;
	if ((account != NULL) + (dkid != NULL) + all != 1) {
		server_call_refuse(c, PROBLEM_BAD_REQUEST, "one of account, dkid and all");
		return 0;
	}
	if (!dkid) {
		rc = server_devices_rotate_all(db, c->who, account, &n);
	} else {
		rc = server_devices_by_dkid(db, dkid, &d);
		if (!rc)
			rc = d.state == DEVICE_REVOKED
				     ? -ENOENT
				     : server_devices_rotate(db, c->who, &d, "asked for");
	}
	if (rc == -ENOENT) {
		server_call_refuse(c, PROBLEM_NO_SUCH, "there is no such account or device");
		return 0;
	}
	json_set_u64(c->out, "rotated", n);
	return rc;
}

void server_admin_rotate(struct request *r)
{
	server_call_submit(r, rotate_many);
}
