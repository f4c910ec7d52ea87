/* A rate is kept, over any pattern of calls; and what is left over is not lost. */
#include "sync/rate.h"

#include <stdlib.h>

#include "unit.h"

#define RATE 100000

static void no_more_than_the_rate_goes_in_any_second(void **state)
{
	struct rate r;
	uint64_t gone = 0, begun;

	srandom(7);
	for (int round = 0; round < 50; round++) {
		uint64_t now = (uint64_t)random();

		rate_set(&r, RATE, now);
		for (begun = now, gone = 0; now < begun + 10000; now += (uint64_t)(random() % 20))
			gone += rate_take(&r, (size_t)(random() % 9000), now);
		assert_in_range(gone, RATE * 9, RATE * 10 + RATE / 8);
	}
}

static void what_came_in_one_piece_is_paid_back(void **state)
{
	struct rate r;

	rate_set(&r, RATE, 0);
	rate_charge(&r, RATE / 8 + 2 * RATE, 0);
	assert_in_range(rate_wait_ms(&r, 0), 2000, 2040);
	assert_int_equal(rate_take(&r, 1, 1999), 0);
	assert_in_range(rate_wait_ms(&r, 0), 1, 41);
	assert_int_equal(rate_wait_ms(&r, 2040), 0);
	assert_int_equal(rate_take(&r, 1, 2040), 1);
}

static void a_long_silence_is_not_saved_up(void **state)
{
	struct rate r;
	size_t gone = 0, one;

	rate_set(&r, RATE, 0);
	while ((one = rate_take(&r, SIZE_MAX / 2000, UINT64_C(1) << 60)))
		gone += one;
	assert_int_equal(gone, RATE / 8);
}

static void waiting_as_long_as_it_says_is_enough(void **state)
{
	static const uint64_t rates[] = { RATE_MIN_BYTES, 1000003, UINT64_C(1) << 33,
		RATE_MAX_BYTES };
	struct rate r;

	for (size_t i = 0; i < 4; i++) {
		uint64_t now = 5;

		rate_set(&r, rates[i], now);
		for (int n = 0; n < 1000; n++) {
			while (rate_take(&r, 512 << 10, now))
				;
			now += rate_wait_ms(&r, now);
			assert_int_equal(rate_wait_ms(&r, now), 0);
			assert_true(rate_take(&r, 512 << 10, now) > 0);
		}
	}
}

static void without_a_rate_all_goes_at_once(void **state)
{
	struct rate r;

	rate_set(&r, 0, 1);
	rate_charge(&r, SIZE_MAX / 4, 1);
	assert_int_equal(rate_take(&r, 12345678, 1), 12345678);
	assert_int_equal(rate_wait_ms(&r, 1), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_more_than_the_rate_goes_in_any_second),
		cmocka_unit_test(what_came_in_one_piece_is_paid_back),
		cmocka_unit_test(a_long_silence_is_not_saved_up),
		cmocka_unit_test(waiting_as_long_as_it_says_is_enough),
		cmocka_unit_test(without_a_rate_all_goes_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
