#include "crypto/kdf.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <sodium.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/secret.h"

#define COMMIT_LABEL "cachet/commit/v1"
#define HMAC_LEN crypto_auth_hmacsha256_BYTES
#define HKDF_BLOCKS_MAX ((size_t)255)

static void blake2b_sized(crypto_generichash_blake2b_state *st, const void *data, size_t len)
{
	uint8_t size[2];

	store_le16(size, (uint16_t)len);
	crypto_generichash_blake2b_update(st, size, sizeof(size));
	crypto_generichash_blake2b_update(st, data, len);
}

int kdf_blake2b(const uint8_t parent[static KDF_KEY_LEN], const char *label,
	const struct kdf_field *fields, size_t n_fields, uint8_t out[static KDF_KEY_LEN])
{
	crypto_generichash_blake2b_state st;
	size_t label_len = strlen(label);
	uint8_t label_size = (uint8_t)label_len;

	if (label_len > UINT8_MAX)
		return -EINVAL;
	for (size_t i = 0; i < n_fields; i++)
		if (fields[i].len > UINT16_MAX)
			return -EINVAL;
	if (crypto_generichash_blake2b_init(&st, parent, KDF_KEY_LEN, KDF_KEY_LEN))
		return -EIO;
	crypto_generichash_blake2b_update(&st, &label_size, 1);
	crypto_generichash_blake2b_update(&st, (const uint8_t *)label, label_len);
	for (size_t i = 0; i < n_fields; i++)
		blake2b_sized(&st, fields[i].data, fields[i].len);
	crypto_generichash_blake2b_final(&st, out, KDF_KEY_LEN);
	secret_wipe(&st, sizeof(st));
	return 0;
}

int kdf_commit(const uint8_t key[static KDF_KEY_LEN], const void *context, size_t context_len,
	uint8_t out[static KDF_COMMIT_LEN])
{
	crypto_auth_hmacsha256_state st;
	uint8_t mac[HMAC_LEN], size[2];

	if (context_len > UINT16_MAX)
		return -EINVAL;
	store_le16(size, (uint16_t)context_len);
	crypto_auth_hmacsha256_init(&st, key, KDF_KEY_LEN);
	crypto_auth_hmacsha256_update(&st, (const uint8_t *)COMMIT_LABEL, strlen(COMMIT_LABEL));
	crypto_auth_hmacsha256_update(&st, size, sizeof(size));
	crypto_auth_hmacsha256_update(&st, context, context_len);
	crypto_auth_hmacsha256_final(&st, mac);
	memcpy(out, mac, KDF_COMMIT_LEN);
	secret_wipe(&st, sizeof(st));
	secret_wipe(mac, sizeof(mac));
	return 0;
}

/* RFC 5869 section 2.3: T(i) = HMAC(prk, T(i-1) ‖ info ‖ i). */
static void hkdf_expand(
	const uint8_t *prk, const uint8_t *info, size_t info_len, uint8_t *out, size_t out_len)
{
	crypto_auth_hmacsha256_state st;
	uint8_t t[HMAC_LEN], i = 1;
	size_t t_len = 0;

	while (out_len) {
		size_t n = MIN_OF(out_len, sizeof(t));

		crypto_auth_hmacsha256_init(&st, prk, HMAC_LEN);
		crypto_auth_hmacsha256_update(&st, t, t_len);
		crypto_auth_hmacsha256_update(&st, info, info_len);
		crypto_auth_hmacsha256_update(&st, &i, 1);
		crypto_auth_hmacsha256_final(&st, t);
		t_len = sizeof(t);
		memcpy(out, t, n);
		out += n;
		out_len -= n;
		i++;
	}
	secret_wipe(&st, sizeof(st));
	secret_wipe(t, sizeof(t));
}

int kdf_hkdf_sha256(const uint8_t *ikm, size_t ikm_len, const uint8_t *salt, size_t salt_len,
	const uint8_t *info, size_t info_len, uint8_t *out, size_t out_len)
{
	crypto_auth_hmacsha256_state st;
	uint8_t prk[HMAC_LEN];

	if (!out_len || out_len > HKDF_BLOCKS_MAX * HMAC_LEN)
		return -EINVAL;
	/* No salt is a salt of zeros, and HMAC pads a short key with zeros: the same thing. */
	crypto_auth_hmacsha256_init(&st, salt ? salt : (const uint8_t *)"", salt ? salt_len : 0);
	crypto_auth_hmacsha256_update(&st, ikm, ikm_len);
	crypto_auth_hmacsha256_final(&st, prk);
	hkdf_expand(prk, info, info_len, out, out_len);
	secret_wipe(&st, sizeof(st));
	secret_wipe(prk, sizeof(prk));
	return 0;
}

int kdf_argon2id(const char *passphrase, size_t len, const uint8_t salt[static 16],
	uint32_t opslimit, uint32_t memlimit_kib, uint8_t out[static KDF_KEY_LEN])
{
	uint8_t key[KDF_KEY_LEN];
	uint64_t memory = (uint64_t)memlimit_kib * 1024;
	int r = 0;

	static_assert(crypto_pwhash_argon2id_SALTBYTES == 16, "the salt of the header");
	if (opslimit < crypto_pwhash_argon2id_OPSLIMIT_MIN ||
		memory < crypto_pwhash_argon2id_MEMLIMIT_MIN ||
		memory > crypto_pwhash_argon2id_MEMLIMIT_MAX ||
		len > crypto_pwhash_argon2id_PASSWD_MAX)
		return CE_USAGE;
	if (crypto_pwhash_argon2id(key, sizeof(key), passphrase, len, salt, opslimit,
		    (size_t)memory, crypto_pwhash_argon2id_ALG_ARGON2ID13))
		r = -ENOMEM; /* its only other reason */
	else
		memcpy(out, key, sizeof(key));
	secret_wipe(key, sizeof(key));
	return r;
}

/* SHA-256 is libcrypto's: it uses the processor's instructions, libsodium's does not. */
static pthread_once_t sha256_once = PTHREAD_ONCE_INIT;
static EVP_MD *sha256;

static void sha256_fetch(void)
{
	sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	ERR_clear_error();
}

struct kdf_sha256 {
	EVP_MD_CTX *ctx;
};

int kdf_sha256_new(struct kdf_sha256 **out)
{
	struct kdf_sha256 *h = calloc(1, sizeof(*h));

	pthread_once(&sha256_once, sha256_fetch);
	if (!h || !sha256)
		goto fail;
	h->ctx = EVP_MD_CTX_new();
	if (!h->ctx || EVP_DigestInit_ex2(h->ctx, sha256, NULL) != 1)
		goto fail;
	*out = h;
	return 0;
fail:
	ERR_clear_error();
	kdf_sha256_free(h);
	return -ENOMEM;
}

int kdf_sha256_update(struct kdf_sha256 *h, const void *data, size_t len)
{
	if (EVP_DigestUpdate(h->ctx, data, len) == 1)
		return 0;
	ERR_clear_error();
	return -EIO;
}

int kdf_sha256_peek(const struct kdf_sha256 *h, uint8_t out[static KDF_SHA256_LEN])
{
	struct kdf_sha256 *copy;
	int r = kdf_sha256_new(&copy);

	if (r)
		return r;
	if (EVP_MD_CTX_copy_ex(copy->ctx, h->ctx) == 1)
		return kdf_sha256_final(copy, out);
	ERR_clear_error();
	kdf_sha256_free(copy);
	return -EIO;
}

int kdf_sha256_final(struct kdf_sha256 *h, uint8_t out[static KDF_SHA256_LEN])
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	int r = 0;

	if (EVP_DigestFinal_ex(h->ctx, digest, NULL) == 1)
		memcpy(out, digest, KDF_SHA256_LEN);
	else
		r = -EIO;
	ERR_clear_error();
	kdf_sha256_free(h);
	return r;
}

void kdf_sha256_free(struct kdf_sha256 *h)
{
	if (!h)
		return;
	EVP_MD_CTX_free(h->ctx);
	free(h);
}

int kdf_sha256(const void *data, size_t len, uint8_t out[static KDF_SHA256_LEN])
{
	struct kdf_sha256 *h;
	int r = kdf_sha256_new(&h);

	if (r)
		return r;
	r = kdf_sha256_update(h, data, len);
	if (!r)
		return kdf_sha256_final(h, out);
	kdf_sha256_free(h);
	return r;
}
