/*
 * sodium_malloc() puts the bytes at the end of a page, with a canary before them and guard pages
 * around, marks the pages MADV_DONTDUMP, and tries to lock them: it does not say whether that
 * worked, so they are locked again here and the answer is taken seriously.
 */
#include "base/secret.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <sodium.h>

struct secret {
	size_t len;
	uint8_t *bytes; /* sodium_malloc */
};

static atomic_bool unlocked_allowed;

/* The leak checker of the sanitizer builds reads this process by ptrace, which needs it dumpable.
 */
static int forbid_dumps(void)
{
	const struct rlimit none = { 0, 0 };

	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return -errno;
#ifndef __SANITIZE_ADDRESS__
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return -errno;
#endif
	return 0;
}

int secret_init(bool may_mount)
{
	int r;

	if (sodium_init() < 0)
		return -EIO;
	r = forbid_dumps();
	if (r)
		return r;
	if (!may_mount && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return 0;
}

void secret_allow_unlocked(void)
{
	atomic_store(&unlocked_allowed, true);
}

int secret_new(size_t len, struct secret **out)
{
	struct secret *s;
	int r = -ENOMEM;

	if (!len)
		return -EINVAL;
	if (sodium_init() < 0)
		return -EIO;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->len = len;
	s->bytes = sodium_malloc(len);
	if (!s->bytes)
		goto fail;
	if (mlock(s->bytes, len) < 0 && !atomic_load(&unlocked_allowed)) {
		r = -errno;
		goto fail;
	}
	memset(s->bytes, 0, len);
	*out = s;
	return 0;
fail:
	secret_free(s);
	return r;
}

int secret_new_random(size_t len, struct secret **out)
{
	int r = secret_new(len, out);

	if (!r)
		secret_random((*out)->bytes, len);
	return r;
}

int secret_new_copy(const void *data, size_t len, struct secret **out)
{
	int r = secret_new(len, out);

	if (!r)
		memcpy((*out)->bytes, data, len);
	return r;
}

void secret_free(struct secret *s)
{
	if (!s)
		return;
	sodium_free(s->bytes); /* wipes */
	free(s);
}

void secret_freep(struct secret **s)
{
	secret_free(*s);
}

uint8_t *secret_bytes(struct secret *s)
{
	return s->bytes;
}

const uint8_t *secret_cbytes(const struct secret *s)
{
	return s->bytes;
}

size_t secret_len(const struct secret *s)
{
	return s->len;
}

bool secret_equal(const struct secret *a, const struct secret *b)
{
	return a->len == b->len && sodium_memcmp(a->bytes, b->bytes, a->len) == 0;
}

bool secret_equal_bytes(const void *a, const void *b, size_t len)
{
	return sodium_memcmp(a, b, len) == 0;
}

void secret_wipe(void *p, size_t len)
{
	sodium_memzero(p, len);
}

/* AVX-512 has sixteen registers more, of which the compiler knows nothing here. */
void secret_wipe_registers(void)
{
#ifdef __x86_64__
#define CLEAR(n) "vpxord %%zmm" #n ", %%zmm" #n ", %%zmm" #n "\n\t"
	if (__builtin_cpu_supports("avx512f"))
		__asm__ volatile(CLEAR(16) CLEAR(17) CLEAR(18) CLEAR(19) CLEAR(20) CLEAR(21)
					 CLEAR(22) CLEAR(23) CLEAR(24) CLEAR(25) CLEAR(26) CLEAR(27)
						 CLEAR(28) CLEAR(29) CLEAR(30) CLEAR(31)::
							 : "memory");
	if (__builtin_cpu_supports("avx"))
		__asm__ volatile("vzeroall" ::
					 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
				 "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13",
				 "xmm14", "xmm15", "memory");
#endif
}

#define STACK_WIPED (96 * 1024)

__attribute__((noinline)) void secret_wipe_stack(void)
{
	uint8_t below[STACK_WIPED];

	sodium_memzero(below, sizeof(below));
}

void secret_random(void *out, size_t len)
{
	randombytes_buf(out, len);
}
