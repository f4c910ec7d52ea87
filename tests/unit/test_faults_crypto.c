/*
 * Goal: libcrypto, or the password hash, fails at the first call, the second, ... of every story
 * (faults/faults.h): never is anything on the disk unsealed, never is anything believed that was
 * not opened.
 */
#include "faults/faults.h"

#include <stdio.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <sodium.h>

#define WRAP(type, name, params, args, bad)                                                        \
	type __real_##name params;                                                                 \
	type __wrap_##name params;                                                                 \
	type __wrap_##name params                                                                  \
	{                                                                                          \
		return fault_due(#name) ? (bad) : __real_##name args;                              \
	}
#define C EVP_CIPHER_CTX *c
#define M EVP_MD_CTX *m
#define P EVP_PKEY_CTX *p
#define B OSSL_PARAM_BLD *b
#define OUT unsigned char *out

WRAP(EVP_CIPHER_CTX *, EVP_CIPHER_CTX_new, (void), (), NULL)
WRAP(int, EVP_CIPHER_CTX_ctrl, (C, int type, int arg, void *ptr), (c, type, arg, ptr), 0)
WRAP(int, EVP_CipherInit_ex2,
	(C, const EVP_CIPHER *x, const unsigned char *key, const unsigned char *iv, int enc,
		const OSSL_PARAM params[]),
	(c, x, key, iv, enc, params), 0)
WRAP(int, EVP_CipherUpdate, (C, OUT, int *len, const unsigned char *in, int n),
	(c, out, len, in, n), 0)
WRAP(int, EVP_EncryptFinal_ex, (C, OUT, int *len), (c, out, len), 0)
WRAP(EVP_MD_CTX *, EVP_MD_CTX_new, (void), (), NULL)
WRAP(int, EVP_DigestInit_ex2, (M, const EVP_MD *md, const OSSL_PARAM params[]), (m, md, params), 0)
WRAP(int, EVP_DigestUpdate, (M, const void *in, size_t n), (m, in, n), 0)
WRAP(int, EVP_DigestFinal_ex, (M, OUT, unsigned *len), (m, out, len), 0)
WRAP(EVP_PKEY_CTX *, EVP_PKEY_CTX_new_from_name,
	(OSSL_LIB_CTX * l, const char *name, const char *query), (l, name, query), NULL)
WRAP(EVP_PKEY_CTX *, EVP_PKEY_CTX_new_from_pkey,
	(OSSL_LIB_CTX * l, EVP_PKEY *key, const char *query), (l, key, query), NULL)
WRAP(int, EVP_PKEY_fromdata_init, (P), (p), 0)
WRAP(int, EVP_PKEY_fromdata, (P, EVP_PKEY **key, int what, OSSL_PARAM params[]),
	(p, key, what, params), 0)
WRAP(int, EVP_PKEY_derive_init, (P), (p), 0)
WRAP(int, EVP_PKEY_derive_set_peer, (P, EVP_PKEY *peer), (p, peer), 0)
WRAP(int, EVP_PKEY_derive, (P, OUT, size_t *len), (p, out, len), 0)
WRAP(int, EVP_PKEY_public_check, (P), (p), 0)
WRAP(OSSL_PARAM_BLD *, OSSL_PARAM_BLD_new, (void), (), NULL)
WRAP(int, OSSL_PARAM_BLD_push_BN_pad, (B, const char *key, const BIGNUM *n, size_t size),
	(b, key, n, size), 0)
WRAP(int, OSSL_PARAM_BLD_push_octet_string, (B, const char *key, const void *v, size_t n),
	(b, key, v, n), 0)
WRAP(int, OSSL_PARAM_BLD_push_utf8_string, (B, const char *key, const char *v, size_t n),
	(b, key, v, n), 0)
WRAP(OSSL_PARAM *, OSSL_PARAM_BLD_to_param, (B), (b), NULL)
WRAP(BIGNUM *, BN_secure_new, (void), (), NULL)
WRAP(BIGNUM *, BN_bin2bn, (const unsigned char *in, int n, BIGNUM *to), (in, n, to), NULL)
WRAP(EC_GROUP *, EC_GROUP_new_by_curve_name, (int curve), (curve), NULL)
WRAP(EC_POINT *, EC_POINT_new, (const EC_GROUP *g), (g), NULL)
WRAP(int, EC_POINT_mul,
	(const EC_GROUP *g, EC_POINT *r, const BIGNUM *n, const EC_POINT *q, const BIGNUM *m,
		BN_CTX *c),
	(g, r, n, q, m, c), 0)
WRAP(size_t, EC_POINT_point2oct,
	(const EC_GROUP *g, const EC_POINT *q, point_conversion_form_t form, OUT, size_t len,
		BN_CTX *c),
	(g, q, form, out, len, c), 0)
WRAP(int, crypto_pwhash_argon2id,
	(unsigned char *const out, unsigned long long len, const char *const in,
		unsigned long long in_len, const unsigned char *const salt, unsigned long long ops,
		size_t mem, int alg),
	(out, len, in, in_len, salt, ops, mem, alg), -1)
WRAP(int, crypto_sign_seed_keypair,
	(unsigned char *pk, unsigned char *sk, const unsigned char *seed), (pk, sk, seed), -1)
WRAP(int, crypto_sign_detached,
	(OUT, unsigned long long *len, const unsigned char *m, unsigned long long n,
		const unsigned char *sk),
	(out, len, m, n, sk), -1)

/* The only ones that say "not authentic": believed, as they must be, they cost what a damaged byte
 * costs. */
#define WRAP_LIE(name, params, args, bad)                                                          \
	int __real_##name params;                                                                  \
	int __wrap_##name params;                                                                  \
	int __wrap_##name params                                                                   \
	{                                                                                          \
		return fault_kind() && fault_kind()->lies && fault_due(#name)                      \
			       ? (bad)                                                             \
			       : __real_##name args;                                               \
	}
WRAP_LIE(EVP_DecryptFinal_ex, (C, OUT, int *len), (c, out, len), 0)
WRAP_LIE(crypto_sign_verify_detached,
	(const unsigned char *s, const unsigned char *m, unsigned long long n,
		const unsigned char *pk),
	(s, m, n, pk), -1)

int main(void)
{
	static const struct fault_kind kinds[] = { { .name = "fails" }, { 0 } };

	return faults_run("crypto", kinds);
}
