#include "crypto/aead.h"

#include <errno.h>
#include <pthread.h>

#include <sodium.h>

#include "base/error.h"
#include "unit.h"

struct vector {
	enum aead_alg alg;
	const char *key, *nonce, *aad, *plain, *cipher, *tag;
};

#define GCM_KEY "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"
#define GCM_PLAIN                                                                                  \
	"d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e24" \
	"49"                                                                                       \
	"a6b525b16aedf5aa0de657ba637b39"
#define GCM_CIPHER                                                                                 \
	"522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b10" \
	"56"                                                                                       \
	"828838c5f61e6393ba7a0abcc9f662"
#define ZERO32 "0000000000000000000000000000000000000000000000000000000000000000"

static const struct vector vectors[] = {
	/* McGrew, Viega: The Galois/Counter Mode of Operation, test cases 13 to 16. */
	{ AEAD_AES256GCM, ZERO32, "000000000000000000000000", "", "", "",
		"530f8afbc74536b9a963b4f1c4cb738b" },
	{ AEAD_AES256GCM, ZERO32, "000000000000000000000000", "",
		"00000000000000000000000000000000", "cea7403d4d606b6e074ec5d3baf39d18",
		"d0d1c8a799996bf0265b98b5d48ab919" },
	{ AEAD_AES256GCM, GCM_KEY, "cafebabefacedbaddecaf888", "", GCM_PLAIN "1aafd255",
		GCM_CIPHER "898015ad", "b094dac5d93471bdec1a502270e3cc6c" },
	{ AEAD_AES256GCM, GCM_KEY, "cafebabefacedbaddecaf888",
		"feedfacedeadbeeffeedfacedeadbeefabaddad2", GCM_PLAIN, GCM_CIPHER,
		"76fc6ece0f4e1768cddf8853bb2d551b" },
	/* draft-irtf-cfrg-xchacha-03, A.3.1. */
	{ AEAD_XCHACHA20POLY1305,
		"808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
		"404142434445464748494a4b4c4d4e4f5051525354555657", "50515253c0c1c2c3c4c5c6c7",
		"4c616469657320616e642047656e746c656d656e206f662074686520636c617373206f66202739393a"
		"2049"
		"66204920636f756c64206f6666657220796f75206f6e6c79206f6e652074697020666f722074686520"
		"6675"
		"747572652c2073756e73637265656e20776f756c642062652069742e",
		"bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440b"
		"f3a8"
		"2f4eda7e39ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2b"
		"c369"
		"488f76b2383565d3fff921f9664c97637da9768812f615c68b13b52e",
		"c0875924c1c7987947deafd8780acf49" },
};

struct message {
	uint8_t key[32], nonce[24], aad[64], plain[256], cipher[256], tag[16];
	size_t aad_len, len;
};

static void load(const struct vector *v, struct message *m)
{
	assert_int_equal(unit_hex(v->key, m->key), 32);
	assert_int_equal(unit_hex(v->nonce, m->nonce), aead_nonce_len(v->alg));
	m->aad_len = unit_hex(v->aad, m->aad);
	m->len = unit_hex(v->plain, m->plain);
	assert_int_equal(unit_hex(v->cipher, m->cipher), m->len);
	assert_int_equal(unit_hex(v->tag, m->tag), 16);
}

static void published_vectors_seal_and_open(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		enum aead_alg alg = vectors[i].alg;
		struct message m = { 0 };
		uint8_t out[256], tag[16];

		load(&vectors[i], &m);
		assert_int_equal(
			aead_seal(alg, m.key, m.nonce, m.aad, m.aad_len, m.plain, m.len, out, tag),
			0);
		assert_memory_equal(out, m.cipher, m.len);
		assert_memory_equal(tag, m.tag, 16);
		assert_int_equal(aead_open(alg, m.key, m.nonce, m.aad, m.aad_len, m.cipher, m.len,
					 m.tag, out),
			0);
		assert_memory_equal(out, m.plain, m.len);
	}
}

static void xchacha_is_byte_for_byte_libsodiums(void **state)
{
	static uint8_t plain[70000], ours[70000], theirs[70000], back[70000];

	randombytes_buf(plain, sizeof(plain));
	for (size_t len = 0; len < sizeof(plain); len = len < 300 ? len + 1 : len * 5 / 4 + 1) {
		uint8_t key[32], nonce[24], aad[100], tag[16], their_tag[16];
		size_t aad_len = randombytes_uniform(sizeof(aad));

		randombytes_buf(key, sizeof(key));
		randombytes_buf(nonce, sizeof(nonce));
		randombytes_buf(aad, sizeof(aad));
		assert_int_equal(aead_seal(AEAD_XCHACHA20POLY1305, key, nonce, aad, aad_len, plain,
					 len, ours, tag),
			0);
		crypto_aead_xchacha20poly1305_ietf_encrypt_detached(
			theirs, their_tag, NULL, plain, len, aad, aad_len, NULL, nonce, key);
		assert_memory_equal(ours, theirs, len);
		assert_memory_equal(tag, their_tag, 16);
		assert_int_equal(aead_open(AEAD_XCHACHA20POLY1305, key, nonce, aad, aad_len, theirs,
					 len, their_tag, back),
			0);
		assert_memory_equal(back, plain, len);
	}
}

static void gcm_is_byte_for_byte_libsodiums(void **state)
{
	static uint8_t plain[70000], ours[70000], theirs[70000];

	if (sodium_init() < 0 || !crypto_aead_aes256gcm_is_available())
		skip(); /* libsodium has it on processors with AES instructions only */
	randombytes_buf(plain, sizeof(plain));
	for (size_t len = 0; len < sizeof(plain); len = len < 300 ? len + 1 : len * 5 / 4 + 1) {
		uint8_t key[32], nonce[12], tag[16], their_tag[16];

		randombytes_buf(key, sizeof(key));
		randombytes_buf(nonce, sizeof(nonce));
		assert_int_equal(
			aead_seal(AEAD_AES256GCM, key, nonce, "x", 1, plain, len, ours, tag), 0);
		crypto_aead_aes256gcm_encrypt_detached(theirs, their_tag, NULL, plain, len,
			(const uint8_t *)"x", 1, NULL, nonce, key);
		assert_memory_equal(ours, theirs, len);
		assert_memory_equal(tag, their_tag, 16);
	}
}

/* Flips each bit of `bytes` in turn; opening must fail and leave zeros. */
static void attack(struct message *m, enum aead_alg alg, uint8_t *bytes, size_t len)
{
	static const uint8_t zero[256];

	for (size_t bit = 0; bit < 8 * len; bit++) {
		uint8_t out[256];

		memset(out, 0x5a, sizeof(out));
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(aead_open(alg, m->key, m->nonce, m->aad, m->aad_len, m->cipher,
					 m->len, m->tag, out),
			CE_TAMPER);
		assert_memory_equal(out, zero, m->len);
		assert_int_equal(out[m->len], 0x5a);
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

static void every_flipped_bit_is_seen_and_nothing_comes_out(void **state)
{
	for (size_t i = 3; i < ARRAY_SIZE(vectors); i++) {
		enum aead_alg alg = vectors[i].alg;
		struct message m = { 0 };

		load(&vectors[i], &m);
		attack(&m, alg, m.cipher, m.len);
		attack(&m, alg, m.tag, 16);
		attack(&m, alg, m.aad, m.aad_len);
		attack(&m, alg, m.nonce, aead_nonce_len(alg));
		attack(&m, alg, m.key, 32);
	}
}

static void a_shortened_or_lengthened_message_is_seen(void **state)
{
	struct message m = { 0 };
	uint8_t out[256];

	load(&vectors[3], &m);
	for (size_t len = 0; len < m.len + 10; len++)
		if (len != m.len)
			assert_int_equal(aead_open(AEAD_AES256GCM, m.key, m.nonce, m.aad, m.aad_len,
						 m.cipher, len, m.tag, out),
				CE_TAMPER);
	assert_int_equal(aead_open(AEAD_AES256GCM, m.key, m.nonce, m.aad, m.aad_len - 1, m.cipher,
				 m.len, m.tag, out),
		CE_TAMPER);
}

static void sealing_and_opening_in_place(void **state)
{
	for (int alg = AEAD_AES256GCM; alg <= AEAD_XCHACHA20POLY1305; alg++) {
		uint8_t key[32] = { 1 }, nonce[24] = { 2 }, buf[5000], copy[5000], tag[16];

		randombytes_buf(buf, sizeof(buf));
		memcpy(copy, buf, sizeof(buf));
		assert_int_equal(aead_seal((enum aead_alg)alg, key, nonce, NULL, 0, buf,
					 sizeof(buf), buf, tag),
			0);
		assert_memory_not_equal(buf, copy, sizeof(buf));
		assert_int_equal(aead_open((enum aead_alg)alg, key, nonce, NULL, 0, buf,
					 sizeof(buf), tag, buf),
			0);
		assert_memory_equal(buf, copy, sizeof(buf));
	}
}

/* The contexts are kept and keyed anew: nothing of one call may be left for the next. */
static void calls_that_alternate_do_not_disturb_each_other(void **state)
{
	struct message m = { 0 };
	uint8_t other[32] = { 9 }, out[256], tag[16];

	load(&vectors[3], &m);
	for (int i = 0; i < 50; i++) {
		enum aead_alg alg = i % 2 ? AEAD_AES256GCM : AEAD_XCHACHA20POLY1305;

		assert_int_equal(
			aead_seal(alg, other, m.nonce, "long aad", 8, m.plain, m.len, out, tag), 0);
		assert_int_equal(aead_open(alg, other, m.nonce, "other", 5, out, m.len, tag, out),
			CE_TAMPER);
		assert_int_equal(aead_seal(AEAD_AES256GCM, m.key, m.nonce, m.aad, m.aad_len,
					 m.plain, m.len, out, tag),
			0);
		assert_memory_equal(out, m.cipher, m.len);
		assert_memory_equal(tag, m.tag, 16);
		if (i == 25)
			aead_thread_done();
	}
}

/* A context stays keyed for the next call with its key: whatever came before, the result is that of a
 * new one. */
static void what_came_before_does_not_matter(void **state)
{
	uint8_t keys[3][32] = { { 1 }, { 2 } }, nonce[24] = { 0 }, plain[4096 + 77], out[sizeof(plain)];
	uint8_t want[sizeof(plain)], tag[16], want_tag[16], bad[16];

	memset(keys[2], 0xff, sizeof(keys[2]));
	memset(plain, 0x5a, sizeof(plain));
	srand(7);
	for (int i = 0; i < 3000; i++) {
		enum aead_alg alg = rand() % 2 ? AEAD_AES256GCM : AEAD_XCHACHA20POLY1305;
		const uint8_t *key = keys[rand() % 3];
		size_t len = (size_t)rand() % sizeof(plain), aad_len = (size_t)rand() % 80;

		nonce[rand() % 24] = (uint8_t)rand();
		assert_int_equal(aead_seal(alg, key, nonce, plain, aad_len, plain, len, out, tag), 0);
		if (rand() % 4 == 0) {
			aead_forget();
			assert_int_equal(aead_seal(alg, key, nonce, plain, aad_len, plain, len,
						 want, want_tag),
				0);
			assert_memory_equal(out, want, len);
			assert_memory_equal(tag, want_tag, sizeof(tag));
		}
		memcpy(bad, tag, sizeof(bad));
		bad[rand() % 16] ^= 0x10;
		if (rand() % 3 == 0)
			assert_int_equal(aead_open(alg, key, nonce, plain, aad_len, out, len, bad,
						 want),
				CE_TAMPER);
		if (rand() % 3)
			assert_int_equal(aead_open(alg, key == keys[0] ? keys[1] : keys[0], nonce,
						 plain, aad_len, out, len, tag, want),
				CE_TAMPER);
		assert_int_equal(
			aead_open(alg, key, nonce, plain, aad_len, out, len, tag, want), 0);
		assert_memory_equal(want, plain, len);
	}
}

static void *seal_many(void *result)
{
	struct message m = { 0 };
	uint8_t out[256];

	load(&vectors[3], &m);
	for (int i = 0; i < 2000; i++)
		if (aead_open(AEAD_AES256GCM, m.key, m.nonce, m.aad, m.aad_len, m.cipher, m.len,
			    m.tag, out) ||
			memcmp(out, m.plain, m.len) != 0)
			return result;
	return NULL;
}

static void threads_have_contexts_of_their_own(void **state)
{
	pthread_t threads[4];
	void *result;

	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, seal_many, threads), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		assert_int_equal(pthread_join(threads[i], &result), 0);
		assert_null(result);
	}
}

static int compare12(const void *a, const void *b)
{
	return memcmp(a, b, 12);
}

static void nonces_do_not_repeat(void **state)
{
	static uint8_t nonces[20000][12];

	for (size_t i = 0; i < ARRAY_SIZE(nonces); i++) {
		uint8_t n[AEAD_NONCE_MAX];

		aead_nonce(AEAD_AES256GCM, n);
		memcpy(nonces[i], n, 12);
	}
	qsort(nonces, ARRAY_SIZE(nonces), 12, compare12);
	for (size_t i = 1; i < ARRAY_SIZE(nonces); i++)
		assert_true(memcmp(nonces[i - 1], nonces[i], 12) < 0);
}

static void a_nonce_fills_its_length_only(void **state)
{
	uint8_t n[AEAD_NONCE_MAX] = { 0 };

	aead_nonce(AEAD_AES256GCM, n);
	assert_memory_equal(n + 12, "\0\0\0\0\0\0\0\0\0\0\0", 12);
	assert_memory_not_equal(n, "\0\0\0\0\0\0\0\0\0\0\0", 12);
}

static void a_child_does_not_use_the_nonces_of_its_parent(void **state)
{
	uint8_t n[AEAD_NONCE_MAX], child[24], parent[24];
	int fds[2], status;
	pid_t pid;

	aead_nonce(AEAD_XCHACHA20POLY1305, n); /* the pool is filled now */
	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		aead_nonce(AEAD_XCHACHA20POLY1305, n);
		unit_exit(write(fds[1], n, 24) == 24 ? 0 : 1);
	}
	aead_nonce(AEAD_XCHACHA20POLY1305, parent);
	assert_int_equal(read(fds[0], child, 24), 24);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_memory_not_equal(child, parent, 24);
	close(fds[0]);
	close(fds[1]);
}

static void names_are_one_to_one_and_unknown_is_refused(void **state)
{
	uint8_t key[32] = { 0 }, nonce[24] = { 0 }, tag[16];

	assert_int_equal(aead_by_name("A256GCM"), AEAD_AES256GCM);
	assert_int_equal(aead_by_name("XC20P"), AEAD_XCHACHA20POLY1305);
	assert_string_equal(aead_name(AEAD_XCHACHA20POLY1305), "XC20P");
	assert_int_equal(aead_by_name("a256gcm"), 0);
	assert_int_equal(aead_by_name(""), 0);
	assert_null(aead_name((enum aead_alg)3));
	assert_int_equal(aead_nonce_len((enum aead_alg)0), 0);
	assert_int_equal(
		aead_seal((enum aead_alg)7, key, nonce, NULL, 0, NULL, 0, NULL, tag), -EINVAL);
	assert_non_null(aead_name(aead_default()));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(published_vectors_seal_and_open),
		cmocka_unit_test(xchacha_is_byte_for_byte_libsodiums),
		cmocka_unit_test(gcm_is_byte_for_byte_libsodiums),
		cmocka_unit_test(every_flipped_bit_is_seen_and_nothing_comes_out),
		cmocka_unit_test(a_shortened_or_lengthened_message_is_seen),
		cmocka_unit_test(sealing_and_opening_in_place),
		cmocka_unit_test(calls_that_alternate_do_not_disturb_each_other),
		cmocka_unit_test(what_came_before_does_not_matter),
		cmocka_unit_test(threads_have_contexts_of_their_own),
		cmocka_unit_test(nonces_do_not_repeat),
		cmocka_unit_test(a_nonce_fills_its_length_only),
		cmocka_unit_test(a_child_does_not_use_the_nonces_of_its_parent),
		cmocka_unit_test(names_are_one_to_one_and_unknown_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
