/*
 * Private scalars are kept in struct secret between calls; libcrypto copies them into its own heap
 * for the length of one, and clears them when the EVP_PKEY goes (EC keys are cleared on free).
 * libcrypto's queue of errors is per thread and read by others (TLS): it is left empty.
 */
#include "crypto/enroll.h"

#include <errno.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/obj_mac.h>
#include <openssl/param_build.h>
#include <sodium.h>

#include "base/bytes.h"
#include "base/error.h"
#include "crypto/aead.h"
#include "crypto/kdf.h"

#define GROUP "P-256"
#define UNCOMPRESSED 4
#define X_LEN 32
#define FIELD_MAX 128
#define LABEL_MAX 64
#define STATEMENT_MAX (LABEL_MAX + 4 * (2 + FIELD_MAX))

static void pkey_freep(EVP_PKEY **key)
{
	EVP_PKEY_free(*key);
}

static void ctx_freep(EVP_PKEY_CTX **ctx)
{
	EVP_PKEY_CTX_free(*ctx);
}

#define _cleanup_pkey_ _cleanup_(pkey_freep)
#define _cleanup_ctx_ _cleanup_(ctx_freep)

const char *enroll_stage_name(enum enroll_stage stage)
{
	static const char *const names[] = {
		[ENROLL_OK] = "done",
		[ENROLL_POINT] = "point",
		[ENROLL_ECDH] = "ECDH",
		[ENROLL_HKDF] = "HKDF",
		[ENROLL_TAG] = "tag",
	};

	return names[stage];
}

/* A key of libcrypto from what `build` describes; it is the caller's. */
static EVP_PKEY *import(OSSL_PARAM_BLD *build, int selection)
{
	_cleanup_ctx_ EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
	OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
	EVP_PKEY *key = NULL;

	if (ctx && params && EVP_PKEY_fromdata_init(ctx) == 1)
		(void)EVP_PKEY_fromdata(ctx, &key, selection, params);
	OSSL_PARAM_free(params); /* clears what is secure; see import_private */
	return key;
}

static int import_point(const uint8_t *point, size_t len, EVP_PKEY **out)
{
	_cleanup_pkey_ EVP_PKEY *key = NULL;
	_cleanup_ctx_ EVP_PKEY_CTX *check = NULL;
	OSSL_PARAM_BLD *build;

	/* libcrypto would also take the compressed and the hybrid form. */
	if (len != ENROLL_POINT_LEN || point[0] != UNCOMPRESSED)
		return CE_FORMAT;
	build = OSSL_PARAM_BLD_new();
	if (build &&
		OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, GROUP, 0) == 1 &&
		OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, len) == 1)
		key = import(build, EVP_PKEY_PUBLIC_KEY);
	OSSL_PARAM_BLD_free(build);
	if (key)
		check = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
	if (check && EVP_PKEY_public_check(check) == 1) {
		*out = steal_ptr(&key);
		return 0;
	}
	ERR_clear_error();
	return CE_FORMAT;
}

int enroll_point_check(const uint8_t *point, size_t len)
{
	_cleanup_pkey_ EVP_PKEY *key = NULL;

	return import_point(point, len, &key);
}

/* The point of a scalar in range: libcrypto checks neither when it takes a pair in. */
static int scalar_point(const BIGNUM *scalar, uint8_t pub[static ENROLL_POINT_LEN])
{
	EC_GROUP *group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
	EC_POINT *point = group ? EC_POINT_new(group) : NULL;
	int r = CE_FORMAT;

	if (!point)
		r = -ENOMEM;
	else if (!BN_is_zero(scalar) && BN_cmp(scalar, EC_GROUP_get0_order(group)) < 0 &&
		 EC_POINT_mul(group, point, scalar, NULL, NULL, NULL) == 1 &&
		 EC_POINT_point2oct(group, point, POINT_CONVERSION_UNCOMPRESSED, pub,
			 ENROLL_POINT_LEN, NULL) == ENROLL_POINT_LEN)
		r = 0;
	EC_POINT_free(point);
	EC_GROUP_free(group);
	ERR_clear_error();
	return r;
}

static int scalar_load(const struct secret *priv, BIGNUM **out)
{
	BIGNUM *scalar;

	if (secret_len(priv) != ENROLL_PRIV_LEN)
		return CE_FORMAT;
	scalar = BN_secure_new();
	if (!scalar || !BN_bin2bn(secret_cbytes(priv), ENROLL_PRIV_LEN, scalar)) {
		BN_clear_free(scalar);
		return -ENOMEM;
	}
	BN_set_flags(scalar, BN_FLG_CONSTTIME);
	*out = scalar;
	return 0;
}

int enroll_device_public(const struct secret *priv, uint8_t pub[static ENROLL_POINT_LEN])
{
	uint8_t point[ENROLL_POINT_LEN];
	BIGNUM *scalar = NULL;
	int r = scalar_load(priv, &scalar);

	if (!r)
		r = scalar_point(scalar, point);
	BN_clear_free(scalar);
	if (!r)
		memcpy(pub, point, sizeof(point));
	return r;
}

static int import_private(const struct secret *priv, EVP_PKEY **out)
{
	uint8_t point[ENROLL_POINT_LEN];
	BIGNUM *scalar = NULL;
	OSSL_PARAM_BLD *build = NULL;
	EVP_PKEY *key = NULL;
	int r = scalar_load(priv, &scalar);

	if (!r)
		r = scalar_point(scalar, point);
	if (!r)
		build = OSSL_PARAM_BLD_new();
	/* A secure BIGNUM goes into the cleared part of the parameters. */
	if (build &&
		OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, GROUP, 0) == 1 &&
		OSSL_PARAM_BLD_push_octet_string(
			build, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point)) == 1 &&
		OSSL_PARAM_BLD_push_BN_pad(
			build, OSSL_PKEY_PARAM_PRIV_KEY, scalar, ENROLL_PRIV_LEN) == 1)
		key = import(build, EVP_PKEY_KEYPAIR);
	OSSL_PARAM_BLD_free(build);
	BN_clear_free(scalar);
	ERR_clear_error();
	if (!r && !key)
		r = -EIO;
	if (!r)
		*out = key;
	return r;
}

int enroll_device_make(struct secret **priv, uint8_t pub[static ENROLL_POINT_LEN])
{
	_cleanup_secret_ struct secret *made = NULL;
	int r;

	/* A random scalar is out of range with a chance of 2^-32: drawn again. */
	do {
		secret_free(steal_ptr(&made));
		r = secret_new_random(ENROLL_PRIV_LEN, &made);
		if (!r)
			r = enroll_device_public(made, pub);
	} while (r == CE_FORMAT);
	if (!r)
		*priv = steal_ptr(&made);
	return r;
}

int enroll_ecdh(const struct secret *priv, const uint8_t point[static ENROLL_POINT_LEN],
	struct secret **out)
{
	_cleanup_pkey_ EVP_PKEY *own = NULL, *peer = NULL;
	_cleanup_ctx_ EVP_PKEY_CTX *ctx = NULL;
	_cleanup_secret_ struct secret *x = NULL;
	size_t len = X_LEN;
	int r = import_point(point, ENROLL_POINT_LEN, &peer);

	if (!r)
		r = import_private(priv, &own);
	if (!r)
		r = secret_new(X_LEN, &x);
	if (r)
		return r;
	ctx = EVP_PKEY_CTX_new_from_pkey(NULL, own, NULL);
	if (!ctx || EVP_PKEY_derive_init(ctx) != 1 || EVP_PKEY_derive_set_peer(ctx, peer) != 1 ||
		EVP_PKEY_derive(ctx, secret_bytes(x), &len) != 1 || len != X_LEN) {
		ERR_clear_error();
		return -EIO;
	}
	*out = steal_ptr(&x);
	return 0;
}

/* The key of one wrap. */
static int wrap_key(const struct secret *priv, const uint8_t point[static ENROLL_POINT_LEN],
	const uint8_t salt[static ENROLL_SALT_LEN], struct secret **out, enum enroll_stage *stage)
{
	_cleanup_secret_ struct secret *x = NULL, *key = NULL;
	int r = enroll_point_check(point, ENROLL_POINT_LEN);

	*stage = ENROLL_POINT;
	if (r)
		return r;
	*stage = ENROLL_ECDH;
	r = enroll_ecdh(priv, point, &x);
	if (r)
		return r;
	*stage = ENROLL_HKDF;
	r = secret_new(AEAD_KEY_LEN, &key);
	if (!r)
		r = kdf_hkdf_sha256(secret_cbytes(x), X_LEN, salt, ENROLL_SALT_LEN, NULL, 0,
			secret_bytes(key), AEAD_KEY_LEN);
	if (!r)
		*out = steal_ptr(&key);
	return r;
}

int enroll_wrap(const uint8_t dk_pub[static ENROLL_POINT_LEN], const struct secret *kek,
	struct enroll_wrapped *out)
{
	_cleanup_secret_ struct secret *eph = NULL, *key = NULL;
	struct enroll_wrapped w;
	enum enroll_stage stage;
	int r;

	if (secret_len(kek) != ENROLL_KEK_LEN)
		return -EINVAL;
	secret_random(w.salt, sizeof(w.salt));
	secret_random(w.iv, sizeof(w.iv));
	r = enroll_device_make(&eph, w.eph_pub);
	if (!r)
		r = wrap_key(eph, dk_pub, w.salt, &key, &stage);
	if (!r)
		r = aead_seal(AEAD_AES256GCM, secret_cbytes(key), w.iv, NULL, 0, secret_cbytes(kek),
			ENROLL_KEK_LEN, w.ct, w.ct + ENROLL_KEK_LEN);
	aead_thread_done(); /* the context keeps its key */
	if (!r)
		*out = w;
	return r;
}

int enroll_unwrap(const struct secret *priv, const struct enroll_wrapped *w, struct secret **kek,
	enum enroll_stage *stage)
{
	_cleanup_secret_ struct secret *key = NULL, *plain = NULL;
	enum enroll_stage at = ENROLL_POINT;
	int r = wrap_key(priv, w->eph_pub, w->salt, &key, &at);

	if (!r) {
		at = ENROLL_TAG;
		r = secret_new(ENROLL_KEK_LEN, &plain);
	}
	if (!r)
		r = aead_open(AEAD_AES256GCM, secret_cbytes(key), w->iv, NULL, 0, w->ct,
			ENROLL_KEK_LEN, w->ct + ENROLL_KEK_LEN, secret_bytes(plain));
	aead_thread_done();
	if (!r) {
		*kek = steal_ptr(&plain);
		at = ENROLL_OK;
	}
	if (stage)
		*stage = at;
	return r;
}

void enroll_wrapped_write(struct json *obj, const struct enroll_wrapped *w)
{
	json_set_string(obj, "alg", ENROLL_ALG);
	json_set_bytes(obj, "eph_pub", w->eph_pub, sizeof(w->eph_pub));
	json_set_bytes(obj, "iv", w->iv, sizeof(w->iv));
	json_set_bytes(obj, "ct", w->ct, sizeof(w->ct));
	json_set_bytes(obj, "salt", w->salt, sizeof(w->salt));
}

int enroll_wrapped_read(const struct json *obj, struct enroll_wrapped *out, const char **what)
{
	struct enroll_wrapped w;
	const char *alg;

	*what = "alg is not " ENROLL_ALG;
	if (json_get_string(obj, "alg", &alg) || strcmp(alg, ENROLL_ALG) != 0)
		return CE_FORMAT;
	*what = "eph_pub is not 65 bytes in base64";
	if (json_get_bytes(obj, "eph_pub", w.eph_pub, sizeof(w.eph_pub)))
		return CE_FORMAT;
	*what = "iv is not 12 bytes in base64";
	if (json_get_bytes(obj, "iv", w.iv, sizeof(w.iv)))
		return CE_FORMAT;
	*what = "ct is not 48 bytes in base64";
	if (json_get_bytes(obj, "ct", w.ct, sizeof(w.ct)))
		return CE_FORMAT;
	*what = "salt is not 16 bytes in base64";
	if (json_get_bytes(obj, "salt", w.salt, sizeof(w.salt)))
		return CE_FORMAT;
	*out = w;
	return 0;
}

struct statement {
	size_t len;
	uint8_t bytes[STATEMENT_MAX];
};

static int add_field(struct statement *out, const void *data, size_t len)
{
	if (!data)
		return 0;
	if (len > FIELD_MAX)
		return -EINVAL;
	out->bytes[out->len++] = (uint8_t)(len >> 8);
	out->bytes[out->len++] = (uint8_t)len;
	memcpy(out->bytes + out->len, data, len);
	out->len += len;
	return 0;
}

static int encode(const struct enroll_statement *s, struct statement *out)
{
	int r;

	out->len = strlen(s->label);
	if (out->len > LABEL_MAX)
		return -EINVAL;
	memcpy(out->bytes, s->label, out->len);
	r = add_field(out, s->dkid, s->dkid ? strlen(s->dkid) : 0);
	if (!r)
		r = add_field(out, s->kid, s->kid ? strlen(s->kid) : 0);
	if (!r)
		r = add_field(out, s->nonce, s->nonce_len);
	return r ? r : add_field(out, s->ct_sha256, KDF_SHA256_LEN);
}

int enroll_sign_make(struct secret **seed)
{
	return secret_new_random(ENROLL_SEED_LEN, seed);
}

/* libsodium's private key: seed and public key. */
static int expand(
	const struct secret *seed, uint8_t pub[static ENROLL_SERVER_KEY_LEN], struct secret **out)
{
	_cleanup_secret_ struct secret *key = NULL;
	int r = secret_len(seed) == ENROLL_SEED_LEN ? 0 : -EINVAL;

	if (!r)
		r = secret_new(crypto_sign_SECRETKEYBYTES, &key);
	if (r)
		return r;
	if (crypto_sign_seed_keypair(pub, secret_bytes(key), secret_cbytes(seed)))
		return -EIO;
	*out = steal_ptr(&key);
	return 0;
}

int enroll_sign_public(const struct secret *seed, uint8_t pub[static ENROLL_SERVER_KEY_LEN])
{
	_cleanup_secret_ struct secret *key = NULL;

	return expand(seed, pub, &key);
}

int enroll_sign(const struct secret *seed, const struct enroll_statement *s,
	uint8_t signature[static ENROLL_SIGNATURE_LEN])
{
	_cleanup_secret_ struct secret *key = NULL;
	uint8_t pub[ENROLL_SERVER_KEY_LEN];
	struct statement text;
	int r = encode(s, &text);

	if (!r)
		r = expand(seed, pub, &key);
	if (!r && crypto_sign_detached(signature, NULL, text.bytes, text.len, secret_cbytes(key)))
		r = -EIO;
	return r;
}

int enroll_verify(const uint8_t pub[static ENROLL_SERVER_KEY_LEN], const struct enroll_statement *s,
	const uint8_t signature[static ENROLL_SIGNATURE_LEN])
{
	struct statement text;
	int r = encode(s, &text);

	if (r)
		return r;
	return crypto_sign_verify_detached(signature, text.bytes, text.len, pub) ? CE_TAMPER : 0;
}
