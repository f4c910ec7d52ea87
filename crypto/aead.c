/*
 * A chunk of 4 KiB is sealed in little more than a microsecond, so nothing may be allocated,
 * fetched or asked of the kernel per call: the two EVP_CIPHER are fetched once per process, each
 * thread keeps one EVP_CIPHER_CTX per algorithm, keys it anew only for another key or direction
 * (0.3 us of the 2 that 4 KiB take), and takes its nonces from a page of random bytes. The page is
 * MADV_WIPEONFORK: a child sees zeros, which is "empty", so it can never use the nonces of its
 * parent. A context holds the key schedule of its last call until the
 * next one, or until the thread ends and the destructor wipes it.
 *
 * XChaCha20-Poly1305: the subkey is HChaCha20(key, first 16 bytes of the nonce); the rest is
 * ChaCha20-Poly1305 (RFC 8439) with four zero bytes and the last 8 bytes of the nonce.
 *
 * libcrypto's queue of errors is per thread and read by others (TLS): it is left empty.
 */
#include "crypto/aead.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <sodium.h>

#include "base/error.h"
#include "base/log.h"
#include "base/secret.h"

#define ALG_END (AEAD_XCHACHA20POLY1305 + 1)
#define XCHACHA_SUB_NONCE 16 /* how much of the nonce goes into the subkey */
#define POOL_SIZE 4096

struct pool {
	size_t left;
	uint8_t bytes[POOL_SIZE - sizeof(size_t)];
};

static_assert(sizeof(struct pool) == POOL_SIZE, "the pool fills its page");

/* What a context is keyed with. */
struct keyed {
	bool set, seal;
	uint8_t key[AEAD_KEY_LEN];
};

struct thread_state {
	EVP_CIPHER_CTX *ctx[ALG_END];
	struct keyed keyed[ALG_END];
	struct pool *pool;                 /* NULL when the kernel cannot wipe it on fork */
	struct thread_state *next, **link; /* states_lock */
};

static pthread_mutex_t states_lock = PTHREAD_MUTEX_INITIALIZER; /* leaf */
static struct thread_state *states;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t thread_key;
static EVP_CIPHER *ciphers[ALG_END]; /* NULL when libcrypto lacks it */
static bool have_key;
static __thread struct thread_state *mine;

/* NULL-safe; clears the key schedules. */
static void forget(struct thread_state *t)
{
	for (size_t i = 0; i < ARRAY_SIZE(t->ctx); i++) {
		EVP_CIPHER_CTX_free(t->ctx[i]);
		t->ctx[i] = NULL;
	}
	secret_wipe(t->keyed, sizeof(t->keyed));
}

void aead_forget(void)
{
	pthread_mutex_lock(&states_lock);
	for (struct thread_state *t = states; t; t = t->next)
		forget(t);
	pthread_mutex_unlock(&states_lock);
}

static void thread_state_free(void *p)
{
	struct thread_state *t = p;

	pthread_mutex_lock(&states_lock);
	*t->link = t->next;
	if (t->next)
		t->next->link = t->link;
	pthread_mutex_unlock(&states_lock);
	forget(t);
	if (t->pool)
		munmap(t->pool, sizeof(*t->pool));
	free(t);
}

static void process_init(void)
{
	have_key = pthread_key_create(&thread_key, thread_state_free) == 0;
	ciphers[AEAD_AES256GCM] = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	ciphers[AEAD_XCHACHA20POLY1305] = EVP_CIPHER_fetch(NULL, "ChaCha20-Poly1305", NULL);
	ERR_clear_error();
}

static struct pool *pool_new(void)
{
	void *page =
		mmap(NULL, POOL_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return NULL;
	if (madvise(page, POOL_SIZE, MADV_WIPEONFORK) < 0) {
		munmap(page, POOL_SIZE);
		return NULL;
	}
	return page;
}

/* This thread's state, made at first use; NULL when there is no memory for it. */
static struct thread_state *thread_state(void)
{
	struct thread_state *t;

	if (mine)
		return mine;
	pthread_once(&once, process_init);
	if (!have_key)
		return NULL;
	t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	if (pthread_setspecific(thread_key, t)) {
		free(t);
		return NULL;
	}
	t->pool = pool_new();
	pthread_mutex_lock(&states_lock);
	t->next = states;
	t->link = &states;
	if (states)
		states->link = &t->next;
	states = t;
	pthread_mutex_unlock(&states_lock);
	mine = t;
	return t;
}

void aead_thread_done(void)
{
	if (!mine)
		return;
	pthread_setspecific(thread_key, NULL);
	thread_state_free(mine);
	mine = NULL;
}

size_t aead_nonce_len(enum aead_alg alg)
{
	switch (alg) {
	case AEAD_AES256GCM:
		return 12;
	case AEAD_XCHACHA20POLY1305:
		return 24;
	}
	return 0;
}

enum aead_alg aead_default(void)
{
#if defined(__x86_64__) || defined(__i386__)
	bool aes = __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__)
	bool aes = getauxval(AT_HWCAP) & (1 << 3); /* HWCAP_AES */
#else
	bool aes = false;
#endif

	return aes ? AEAD_AES256GCM : AEAD_XCHACHA20POLY1305;
}

const char *aead_name(enum aead_alg alg)
{
	switch (alg) {
	case AEAD_AES256GCM:
		return "A256GCM";
	case AEAD_XCHACHA20POLY1305:
		return "XC20P";
	}
	return NULL;
}

enum aead_alg aead_by_name(const char *name)
{
	for (int alg = AEAD_AES256GCM; alg < ALG_END; alg++)
		if (!strcmp(name, aead_name((enum aead_alg)alg)))
			return (enum aead_alg)alg;
	return 0;
}

void aead_nonce(enum aead_alg alg, uint8_t nonce[AEAD_NONCE_MAX])
{
	struct thread_state *t = thread_state();
	size_t len = aead_nonce_len(alg);
	struct pool *pool = t ? t->pool : NULL;

	if (!pool) {
		secret_random(nonce, len);
		return;
	}
	if (pool->left < len) {
		secret_random(pool->bytes, sizeof(pool->bytes));
		pool->left = sizeof(pool->bytes);
	}
	pool->left -= len;
	memcpy(nonce, pool->bytes + pool->left, len);
}

#ifdef CACHET_UNSEALED

static void warn_unsealed(void)
{
	static atomic_flag warned = ATOMIC_FLAG_INIT;

	if (!atomic_flag_test_and_set(&warned))
		log_error(
			"THIS BUILD DOES NOT ENCRYPT. It exists for one test. Everything it writes "
			"is in the clear.");
}

int aead_seal(enum aead_alg alg, const uint8_t key[static AEAD_KEY_LEN], const uint8_t *nonce,
	const void *aad, size_t aad_len, const void *in, size_t len, void *out,
	uint8_t tag[static AEAD_TAG_LEN])
{
	warn_unsealed();
	if (len)
		memmove(out, in, len);
	memset(tag, 0, AEAD_TAG_LEN);
	return 0;
}

int aead_open(enum aead_alg alg, const uint8_t key[static AEAD_KEY_LEN], const uint8_t *nonce,
	const void *aad, size_t aad_len, const void *in, size_t len,
	const uint8_t tag[static AEAD_TAG_LEN], void *out)
{
	warn_unsealed();
	if (len)
		memmove(out, in, len);
	return 0;
}

#else

static bool is_keyed(const struct keyed *k, const uint8_t *key, bool seal)
{
	return k->set && k->seal == seal && !CRYPTO_memcmp(k->key, key, AEAD_KEY_LEN);
}

/* A context that failed is keyed anew. */
static int failed(enum aead_alg alg, int r)
{
	mine->keyed[alg].set = false;
	ERR_clear_error();
	return r;
}

/* This thread's context for `alg`, keyed. `seal` is the direction. */
static int keyed_ctx(enum aead_alg alg, const uint8_t *key, const uint8_t *nonce, bool seal,
	EVP_CIPHER_CTX **out)
{
	struct thread_state *t = thread_state();
	EVP_CIPHER *first = NULL;
	struct keyed *k;

	if (!aead_nonce_len(alg))
		return -EINVAL;
	if (!t)
		return -ENOMEM;
	k = &t->keyed[alg];
	if (!t->ctx[alg]) {
		t->ctx[alg] = EVP_CIPHER_CTX_new();
		first = ciphers[alg];
		if (!t->ctx[alg] || !first)
			goto fail;
	}
	if (is_keyed(k, key, seal))
		key = NULL;
	if (EVP_CipherInit_ex2(t->ctx[alg], first, key, nonce, seal, NULL) != 1)
		goto fail;
	if (key) {
		memcpy(k->key, key, sizeof(k->key));
		k->seal = seal;
		k->set = true;
	}
	*out = t->ctx[alg];
	return 0;
fail:
	EVP_CIPHER_CTX_free(t->ctx[alg]);
	t->ctx[alg] = NULL;
	return failed(alg, ciphers[alg] ? -ENOMEM : -ENOSYS);
}

static int start(enum aead_alg alg, const uint8_t *key, const uint8_t *nonce, bool seal,
	EVP_CIPHER_CTX **out)
{
	uint8_t subkey[AEAD_KEY_LEN], sub_nonce[12] = { 0 };
	int r;

	if (alg != AEAD_XCHACHA20POLY1305)
		return keyed_ctx(alg, key, nonce, seal, out);
	if (crypto_core_hchacha20(subkey, nonce, key, NULL))
		return -EIO;
	memcpy(sub_nonce + 4, nonce + XCHACHA_SUB_NONCE, 8);
	r = keyed_ctx(alg, subkey, sub_nonce, seal, out);
	secret_wipe(subkey, sizeof(subkey));
	return r;
}

/* AAD, then the message; lengths are below INT_MAX. */
static bool run(
	EVP_CIPHER_CTX *ctx, const void *aad, size_t aad_len, const void *in, size_t len, void *out)
{
	int n;

	if (aad_len && EVP_CipherUpdate(ctx, NULL, &n, aad, (int)aad_len) != 1)
		return false;
	return !len || EVP_CipherUpdate(ctx, out, &n, in, (int)len) == 1;
}

int aead_seal(enum aead_alg alg, const uint8_t key[static AEAD_KEY_LEN], const uint8_t *nonce,
	const void *aad, size_t aad_len, const void *in, size_t len, void *out,
	uint8_t tag[static AEAD_TAG_LEN])
{
	uint8_t rest[EVP_MAX_BLOCK_LENGTH];
	EVP_CIPHER_CTX *ctx;
	int n, r;

	if (len > INT_MAX || aad_len > INT_MAX)
		return CE_TOO_LARGE;
	r = start(alg, key, nonce, true, &ctx);
	if (r)
		return r;
	if (run(ctx, aad, aad_len, in, len, out) && EVP_EncryptFinal_ex(ctx, rest, &n) == 1 &&
		EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, AEAD_TAG_LEN, tag) == 1)
		return 0;
	return failed(alg, -EIO);
}

int aead_open(enum aead_alg alg, const uint8_t key[static AEAD_KEY_LEN], const uint8_t *nonce,
	const void *aad, size_t aad_len, const void *in, size_t len,
	const uint8_t tag[static AEAD_TAG_LEN], void *out)
{
	uint8_t rest[EVP_MAX_BLOCK_LENGTH], expected[AEAD_TAG_LEN];
	EVP_CIPHER_CTX *ctx;
	int n, r;

	if (len > INT_MAX || aad_len > INT_MAX)
		return CE_TOO_LARGE;
	memcpy(expected, tag, sizeof(expected)); /* the tag may lie in `out` */
	r = start(alg, key, nonce, false, &ctx);
	if (r)
		return r;
	/* Only the last step judges the message: what fails before says nothing about it, nor about the
	 * disk (-EIO makes a recovery fall back to an older state). */
	r = -ENOMEM;
	if (run(ctx, aad, aad_len, in, len, out) &&
		EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, AEAD_TAG_LEN, expected) == 1)
		r = EVP_DecryptFinal_ex(ctx, rest, &n) == 1 ? 0 : CE_TAMPER;
	if (!r)
		return 0;
	if (len)
		secret_wipe(out, len);
	return failed(alg, r);
}

#endif
