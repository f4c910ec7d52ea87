/* The bound of bad tokens: per address, per network, for all together, and in time. */
#include "unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "base/secret.h"
#include "server/limiter.h"

#define NOW 1000000

static int setup(void **state)
{
	struct limiter *l = NULL;

	assert_int_equal(secret_init(false), 0);
	assert_int_equal(server_limiter_new(&l), 0);
	*state = l;
	return 0;
}

static int teardown(void **state)
{
	server_limiter_free(*state);
	return 0;
}

static unsigned note(struct limiter *l, const char *address, int64_t now_ms)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };

	if (inet_pton(AF_INET, address, &v4.sin_addr) == 1)
		return server_limiter_note(l, (struct sockaddr *)&v4, now_ms);
	assert_int_equal(inet_pton(AF_INET6, address, &v6.sin6_addr), 1);
	return server_limiter_note(l, (struct sockaddr *)&v6, now_ms);
}

/* How many more it takes. */
static unsigned room(struct limiter *l, const char *address, int64_t now_ms)
{
	unsigned n = 0;

	while (n < 10000 && !note(l, address, now_ms))
		n++;
	return n;
}

static void an_address_has_a_burst_then_one_a_second(void **state)
{
	struct limiter *l = *state;

	assert_int_equal(room(l, "192.0.2.1", NOW), LIMITER_BURST);
	assert_int_equal(note(l, "192.0.2.1", NOW), 1);
	assert_int_equal(note(l, "192.0.2.1", NOW + 1000), 0);
	assert_int_equal(note(l, "192.0.2.1", NOW + 1001), 1);
	assert_int_equal(room(l, "192.0.2.1", NOW + 3600000), LIMITER_BURST);
	/* What was refused is not counted: waiting as told is enough. */
	for (int i = 0; i < 1000; i++)
		assert_true(note(l, "192.0.2.1", NOW + 3600000) == 1);
}

static void another_address_is_not_touched(void **state)
{
	struct limiter *l = *state;

	room(l, "192.0.2.1", NOW);
	assert_int_equal(room(l, "192.0.2.2", NOW), LIMITER_BURST);
}

static void a_network_of_ipv6_is_one(void **state)
{
	struct limiter *l = *state;

	assert_int_equal(room(l, "2001:db8:1:2::1", NOW), LIMITER_BURST);
	assert_int_equal(room(l, "2001:db8:1:2:ffff::7", NOW), 0);
	assert_int_equal(room(l, "2001:db8:1:3::1", NOW), LIMITER_BURST);
}

static void an_ipv4_address_in_ipv6_is_the_same(void **state)
{
	struct limiter *l = *state;

	assert_int_equal(room(l, "192.0.2.1", NOW), LIMITER_BURST);
	assert_int_equal(room(l, "::ffff:192.0.2.1", NOW), 0);
	assert_int_equal(room(l, "::ffff:192.0.2.9", NOW), LIMITER_BURST);
}

/* However many addresses somebody has, and although only so many are remembered. */
static void all_together_have_a_bound(void **state)
{
	struct limiter *l = *state;
	unsigned taken = 0;

	for (unsigned i = 0; i < 20 * LIMITER_SLOTS; i++) {
		char address[64];

		snprintf(address, sizeof(address), "2001:db8:%x:%x::1", i >> 16, i & 0xffff);
		taken += !note(l, address, NOW);
	}
	assert_int_equal(taken, LIMITER_BURST_ALL);
	assert_int_equal(note(l, "192.0.2.1", NOW + LIMITER_INTERVAL_ALL_MS), 0);
	assert_true(note(l, "192.0.2.1", NOW + LIMITER_INTERVAL_ALL_MS) > 0);
}

static void no_address_is_an_address(void **state)
{
	struct limiter *l = *state;
	unsigned n = 0;

	while (n < 1000 && !server_limiter_note(l, NULL, NOW))
		n++;
	assert_int_equal(n, LIMITER_BURST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			an_address_has_a_burst_then_one_a_second, setup, teardown),
		cmocka_unit_test_setup_teardown(another_address_is_not_touched, setup, teardown),
		cmocka_unit_test_setup_teardown(a_network_of_ipv6_is_one, setup, teardown),
		cmocka_unit_test_setup_teardown(
			an_ipv4_address_in_ipv6_is_the_same, setup, teardown),
		cmocka_unit_test_setup_teardown(all_together_have_a_bound, setup, teardown),
		cmocka_unit_test_setup_teardown(no_address_is_an_address, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
