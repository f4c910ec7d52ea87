/*
 * Three seals under the device secret, each with a key and a label of its own (crypto/kdf.h), 12
 * random bytes of nonce and the tag behind the ciphertext. The number of seals is that of contacts
 * with the server.
 */
#include "crypto/device.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "crypto/aead.h"
#include "crypto/kdf.h"

#define LABEL_KEY "cachet/device/key/v1"
#define LABEL_TOKEN "cachet/device/token/v1"
#define LABEL_LEASE "cachet/device/lease/v1"
#define AAD_MAX 1024
#define IV_LEN ENROLL_IV_LEN

struct aad {
	size_t len;
	uint8_t bytes[AAD_MAX];
};

static void add(struct aad *a, const void *data, size_t len)
{
	store_le16(a->bytes + a->len, (uint16_t)len);
	memcpy(a->bytes + a->len + 2, data, len);
	a->len += 2 + len;
}

static void add_text(struct aad *a, const char *text)
{
	add(a, text, strlen(text));
}

static void add_number(struct aad *a, int64_t n)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRId64, n);
	add_text(a, text);
}

/* Names are bounded by their fields: AAD_MAX holds every case. */
static void key_aad(const struct device *d, struct aad *a)
{
	a->len = 0;
	add_text(a, d->id);
	add_text(a, d->dkid);
	add_text(a, d->kid);
	add_number(a, (int64_t)d->rotation);
	add_number(a, d->expires_at_s);
	add(a, d->pub, sizeof(d->pub));
	add(a, d->server_key, sizeof(d->server_key));
}

static void token_aad(const struct device *d, struct aad *a)
{
	a->len = 0;
	add_text(a, d->id);
}

static void lease_aad(const struct device *d, struct aad *a)
{
	a->len = 0;
	add_text(a, d->id);
	add_text(a, d->dkid);
	add_text(a, d->kid);
	add_number(a, d->lease.from_s);
	add_number(a, d->lease.until_s);
}

static int seal_key(const struct secret *local, const char *label, struct secret **out)
{
	_cleanup_secret_ struct secret *key = NULL;
	int r = secret_len(local) == KDF_KEY_LEN ? secret_new(KDF_KEY_LEN, &key) : -EINVAL;

	if (!r)
		r = kdf_blake2b(secret_cbytes(local), label, NULL, 0, secret_bytes(key));
	if (!r)
		*out = steal_ptr(&key);
	return r;
}

/* `ct` has room for the message and the tag. */
static int seal(const struct secret *local, const char *label, const struct aad *aad,
	const struct secret *in, uint8_t iv[static IV_LEN], uint8_t *ct)
{
	_cleanup_secret_ struct secret *key = NULL;
	uint8_t nonce[AEAD_NONCE_MAX];
	size_t len = secret_len(in);
	int r = seal_key(local, label, &key);

	if (r)
		return r;
	aead_nonce(AEAD_AES256GCM, nonce);
	memcpy(iv, nonce, IV_LEN);
	r = aead_seal(AEAD_AES256GCM, secret_cbytes(key), iv, aad->bytes, aad->len,
		secret_cbytes(in), len, ct, ct + len);
	aead_thread_done();
	return r;
}

static int unseal(const struct secret *local, const char *label, const struct aad *aad,
	const uint8_t iv[static IV_LEN], const uint8_t *ct, size_t len, struct secret **out)
{
	_cleanup_secret_ struct secret *key = NULL, *plain = NULL;
	int r = secret_new(len, &plain);

	if (!r)
		r = seal_key(local, label, &key);
	if (r)
		return r;
	r = aead_open(AEAD_AES256GCM, secret_cbytes(key), iv, aad->bytes, aad->len, ct, len,
		ct + len, secret_bytes(plain));
	aead_thread_done();
	if (!r)
		*out = steal_ptr(&plain);
	return r;
}

static int commit(const struct device *d, const struct secret *local, uint8_t out[static 16])
{
	return kdf_commit(secret_cbytes(local), d->id, strlen(d->id), out);
}

/* --- life --- */

int device_renew(struct device *d)
{
	uint8_t pub[ENROLL_POINT_LEN];
	struct secret *priv;
	int r = enroll_device_make(&priv, pub);

	if (r)
		return r;
	secret_free(d->priv);
	d->priv = priv;
	memcpy(d->pub, pub, sizeof(pub));
	d->dkid[0] = '\0';
	d->expires_at_s = 0;
	device_lease_drop(d);
	return 0;
}

int device_new(const char *id, struct device **out)
{
	_cleanup_(device_freep) struct device *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return -ENOMEM;
	if (!*id || strlen(id) > DEVICE_ID_MAX)
		return CE_FORMAT;
	strcpy(d->id, id);
	r = device_renew(d);
	if (!r)
		*out = steal_ptr(&d);
	return r;
}

void device_free(struct device *d)
{
	if (!d)
		return;
	secret_free(d->priv);
	secret_free(d->token);
	free(d);
}

void device_freep(struct device **d)
{
	device_free(*d);
}

void device_lease_drop(struct device *d)
{
	memset(&d->lease, 0, sizeof(d->lease));
}

void device_erase(struct device *d)
{
	secret_free(steal_ptr(&d->priv));
	secret_free(steal_ptr(&d->token));
	device_lease_drop(d);
}

/* --- the lease --- */

int device_lease_seal(struct device *d, const struct secret *local, const struct secret *kek,
	int64_t from_s, int64_t until_s)
{
	struct device next = *d;
	struct aad aad;
	int r;

	if (secret_len(kek) != ENROLL_KEK_LEN)
		return -EINVAL;
	next.lease = (struct device_lease){ .held = true, .from_s = from_s, .until_s = until_s };
	lease_aad(&next, &aad);
	r = seal(local, LABEL_LEASE, &aad, kek, next.lease.iv, next.lease.ct);
	if (!r)
		d->lease = next.lease;
	return r;
}

int device_lease_open(const struct device *d, const struct secret *local, struct secret **kek)
{
	struct aad aad;

	if (!d->lease.held)
		return -ENOENT;
	lease_aad(d, &aad);
	return unseal(local, LABEL_LEASE, &aad, d->lease.iv, d->lease.ct, ENROLL_KEK_LEN, kek);
}

/* --- its text form --- */

static bool is_name(const char *text, size_t max)
{
	size_t len = strlen(text);

	for (size_t i = 0; i < len; i++)
		if (text[i] <= ' ' || text[i] > '~')
			return false;
	return len <= max;
}

static int read_name(const struct json *o, const char *key, char *out, size_t max)
{
	const char *text;
	int r = json_get_string(o, key, &text);

	if (r)
		return r;
	if (!is_name(text, max))
		return CE_FORMAT;
	memcpy(out, text, strlen(text) + 1);
	return 0;
}

static int read_plain(const struct json *o, struct device *d)
{
	int r = read_name(o, "deviceId", d->id, DEVICE_ID_MAX);

	if (!r)
		r = read_name(o, "dkid", d->dkid, ENROLL_NAME_MAX);
	if (!r)
		r = read_name(o, "kid", d->kid, ENROLL_NAME_MAX);
	if (!r)
		r = json_get_u64(o, "rotation", &d->rotation);
	if (!r)
		r = json_get_i64(o, "expiresAt", &d->expires_at_s);
	if (!r)
		r = json_get_bytes(o, "serverKey", d->server_key, sizeof(d->server_key));
	return r ? r : d->rotation > INT64_MAX ? CE_FORMAT : 0;
}

static int check_secret(const struct json *o, const struct device *d, const struct secret *local)
{
	uint8_t want[KDF_COMMIT_LEN], have[KDF_COMMIT_LEN];
	int r = json_get_bytes(o, "commit", want, sizeof(want));

	if (!r)
		r = commit(d, local, have);
	if (r)
		return r;
	return secret_equal_bytes(want, have, sizeof(want)) ? 0 : CE_WRONG_KEY;
}

/* The member objects; *n counts those that are there. */
static int sub_object(
	const struct json *o, const char *key, size_t members, const struct json **out, size_t *n)
{
	if (!json_has(o, key)) {
		*out = NULL;
		return 0;
	}
	(*n)++;
	if (json_get(o, key, out) || !json_is_object(*out) || json_count(*out) != members)
		return CE_FORMAT;
	return 0;
}

static int read_keys(const struct json *keys, struct device *d, const struct secret *local)
{
	uint8_t iv[IV_LEN], ct[ENROLL_CT_LEN], pub[ENROLL_POINT_LEN];
	const struct json *wrapped;
	struct aad aad;
	size_t n = 0;
	int r = sub_object(keys, "privWrapped", 2, &wrapped, &n);

	if (r || !wrapped)
		return CE_FORMAT;
	if (json_get_bytes(keys, "pubRawB64", d->pub, sizeof(d->pub)) ||
		json_get_bytes(wrapped, "iv", iv, sizeof(iv)) ||
		json_get_bytes(wrapped, "ct", ct, sizeof(ct)))
		return CE_FORMAT;
	key_aad(d, &aad);
	r = unseal(local, LABEL_KEY, &aad, iv, ct, ENROLL_PRIV_LEN, &d->priv);
	if (!r)
		r = enroll_device_public(d->priv, pub);
	return r ? r : memcmp(pub, d->pub, sizeof(pub)) ? CE_CORRUPT : 0;
}

static int read_token(const struct json *o, struct device *d, const struct secret *local)
{
	uint8_t iv[IV_LEN], ct[DEVICE_TOKEN_MAX + AEAD_TAG_LEN];
	const char *text;
	struct aad aad;
	size_t len = 0;

	if (json_get_bytes(o, "iv", iv, sizeof(iv)) || json_get_string(o, "ct", &text) ||
		bytes_from_base64(text, ct, sizeof(ct), &len) || len <= AEAD_TAG_LEN)
		return CE_FORMAT;
	token_aad(d, &aad);
	return unseal(local, LABEL_TOKEN, &aad, iv, ct, len - AEAD_TAG_LEN, &d->token);
}

static int read_lease(const struct json *o, struct device *d)
{
	struct device_lease *l = &d->lease;

	l->held = true;
	if (json_get_i64(o, "from", &l->from_s) || json_get_i64(o, "until", &l->until_s) ||
		json_get_bytes(o, "iv", l->iv, sizeof(l->iv)) ||
		json_get_bytes(o, "ct", l->ct, sizeof(l->ct)))
		return CE_FORMAT;
	return 0;
}

int device_read(const struct json *o, const struct secret *local, struct device **out)
{
	_cleanup_(device_freep) struct device *d = calloc(1, sizeof(*d));
	const struct json *keys = NULL, *token = NULL, *lease = NULL;
	size_t members = 7; /* those of read_plain, and commit */
	int r = d ? read_plain(o, d) : -ENOMEM;

	if (!r)
		r = sub_object(o, "deviceKeys", 2, &keys, &members);
	if (!r)
		r = sub_object(o, "token", 2, &token, &members);
	if (!r)
		r = sub_object(o, "lease", 4, &lease, &members);
	if (!r && json_count(o) != members)
		r = CE_FORMAT;
	if (!r)
		r = check_secret(o, d, local);
	if (!r && keys)
		r = read_keys(keys, d, local);
	if (!r && token)
		r = read_token(token, d, local);
	if (!r && lease)
		r = read_lease(lease, d);
	if (!r)
		*out = steal_ptr(&d);
	return r;
}

static int write_keys(struct json *o, const struct device *d, const struct secret *local)
{
	uint8_t iv[IV_LEN], ct[ENROLL_CT_LEN];
	struct json *keys, *wrapped;
	struct aad aad;
	int r;

	key_aad(d, &aad);
	r = seal(local, LABEL_KEY, &aad, d->priv, iv, ct);
	if (r)
		return r;
	keys = json_set_object(o, "deviceKeys");
	wrapped = json_set_object(keys, "privWrapped");
	json_set_bytes(wrapped, "iv", iv, sizeof(iv));
	json_set_bytes(wrapped, "ct", ct, sizeof(ct));
	json_set_bytes(keys, "pubRawB64", d->pub, sizeof(d->pub));
	return 0;
}

static int write_token(struct json *o, const struct device *d, const struct secret *local)
{
	uint8_t iv[IV_LEN], ct[DEVICE_TOKEN_MAX + AEAD_TAG_LEN];
	struct json *token;
	struct aad aad;
	int r;

	if (secret_len(d->token) > DEVICE_TOKEN_MAX)
		return CE_TOO_LARGE;
	token_aad(d, &aad);
	r = seal(local, LABEL_TOKEN, &aad, d->token, iv, ct);
	if (r)
		return r;
	token = json_set_object(o, "token");
	json_set_bytes(token, "iv", iv, sizeof(iv));
	json_set_bytes(token, "ct", ct, secret_len(d->token) + AEAD_TAG_LEN);
	return 0;
}

int device_write(const struct device *d, const struct secret *local, struct json **out)
{
	_cleanup_json_ struct json *o = json_new_object();
	uint8_t mark[KDF_COMMIT_LEN];
	struct json *lease;
	int r;

	if (!o) /* a keyring with no record would be a whole one that nobody can open */
		return -ENOMEM;
	r = commit(d, local, mark);
	json_set_string(o, "deviceId", d->id);
	json_set_string(o, "dkid", d->dkid);
	json_set_string(o, "kid", d->kid);
	json_set_u64(o, "rotation", d->rotation);
	json_set_i64(o, "expiresAt", d->expires_at_s);
	json_set_bytes(o, "serverKey", d->server_key, sizeof(d->server_key));
	json_set_bytes(o, "commit", mark, sizeof(mark));
	if (!r && d->priv)
		r = write_keys(o, d, local);
	if (!r && d->token)
		r = write_token(o, d, local);
	if (r)
		return r;
	if (d->lease.held) {
		lease = json_set_object(o, "lease");
		json_set_i64(lease, "from", d->lease.from_s);
		json_set_i64(lease, "until", d->lease.until_s);
		json_set_bytes(lease, "iv", d->lease.iv, sizeof(d->lease.iv));
		json_set_bytes(lease, "ct", d->lease.ct, sizeof(d->lease.ct));
	}
	*out = steal_ptr(&o);
	return 0;
}
