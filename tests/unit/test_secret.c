#include "base/secret.h"

#include <signal.h>
#include <errno.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "unit.h"

static void a_new_secret_is_zero_and_its_own_length(void **state)
{
	static const uint8_t zero[100];
	struct secret *s;

	assert_int_equal(secret_new(100, &s), 0);
	assert_int_equal(secret_len(s), 100);
	assert_memory_equal(secret_cbytes(s), zero, 100);
	secret_free(s);
	secret_free(NULL);
	assert_int_equal(secret_new(0, &s), -EINVAL);
}

static void random_secrets_differ_and_copies_are_equal(void **state)
{
	struct secret *a, *b, *c, *d;

	assert_int_equal(secret_new_random(32, &a), 0);
	assert_int_equal(secret_new_random(32, &b), 0);
	assert_int_equal(secret_new_copy(secret_cbytes(a), 32, &c), 0);
	assert_int_equal(secret_new_copy(secret_cbytes(a), 31, &d), 0);
	assert_false(secret_equal(a, b));
	assert_true(secret_equal(a, c));
	assert_false(secret_equal(a, d));
	secret_free(a);
	secret_free(b);
	secret_free(c);
	secret_free(d);
}

static int overrun_by_one(void)
{
	struct secret *s;

	signal(SIGSEGV, SIG_DFL);
	if (secret_new(4096, &s))
		return 1;
	((volatile uint8_t *)secret_bytes(s))[4096] = 1;
	return 0;
}

static void a_write_behind_a_secret_hits_the_guard_page(void **state)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(overrun_by_one());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

/* Without CAP_IPC_LOCK the limit counts. 1: not lockable and refused, 2: allowed afterwards. */
static int without_lockable_memory(void)
{
	const struct rlimit none = { 0, 0 };
	struct secret *s = NULL;

	if (setrlimit(RLIMIT_MEMLOCK, &none) < 0 || (geteuid() == 0 && setuid(65534) < 0))
		return 1;
	if (secret_new(32, &s) == 0 || s)
		return 2;
	secret_allow_unlocked();
	if (secret_new(32, &s) != 0)
		return 3;
	secret_free(s);
	return 0;
}

static void memory_that_cannot_be_locked_is_refused_until_allowed(void **state)
{
#ifdef __SANITIZE_ADDRESS__
	print_message("skipped: the address sanitizer turns mlock() into nothing\n");
	skip();
#endif
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(without_lockable_memory());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static int after_init(void)
{
	struct rlimit core;

	if (secret_init(false) || getrlimit(RLIMIT_CORE, &core) || core.rlim_max)
		return 1;
#ifndef __SANITIZE_ADDRESS__
	if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0))
		return 2;
#endif
	return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : 3;
}

static void init_forbids_dumps_and_new_privileges(void **state)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(after_init());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void wipe_leaves_zeros(void **state)
{
	uint8_t b[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };

	secret_wipe(b, 7);
	assert_memory_equal(b, "\0\0\0\0\0\0\0\x08", 8);
	assert_true(secret_equal_bytes("abc", "abd", 2));
	assert_false(secret_equal_bytes("abc", "abd", 3));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_new_secret_is_zero_and_its_own_length),
		cmocka_unit_test(random_secrets_differ_and_copies_are_equal),
		cmocka_unit_test(a_write_behind_a_secret_hits_the_guard_page),
		cmocka_unit_test(memory_that_cannot_be_locked_is_refused_until_allowed),
		cmocka_unit_test(init_forbids_dumps_and_new_privileges),
		cmocka_unit_test(wipe_leaves_zeros),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
