#include "sync/backoff.h"

#include "base/clock.h"
#include "unit.h"

static void intervals_double_up_to_the_ceiling(void **state)
{
	assert_int_equal(backoff_ceiling_ms(0, 1000, 300000), 1000);
	assert_int_equal(backoff_ceiling_ms(1, 1000, 300000), 1000);
	assert_int_equal(backoff_ceiling_ms(2, 1000, 300000), 2000);
	assert_int_equal(backoff_ceiling_ms(9, 1000, 300000), 256000);
	assert_int_equal(backoff_ceiling_ms(10, 1000, 300000), 300000);
	assert_int_equal(backoff_ceiling_ms(UINT32_MAX, 1000, 300000), 300000);
}

static void jitter_takes_the_whole_interval_and_is_never_zero(void **state)
{
	assert_int_equal(backoff_jitter_ms(1000, 0), 1);
	assert_int_equal(backoff_jitter_ms(1000, 999), 1000);
	assert_int_equal(backoff_jitter_ms(1000, 1000), 1);
	for (int i = 0; i < 1000; i++) {
		uint64_t ms = backoff_ms(3, 1000, 300000);

		assert_in_range(ms, 1, 4000);
	}
}

static void retry_after_is_seconds_or_a_date(void **state)
{
	int64_t noon = INT64_C(1763812800) * NS_PER_SEC; /* Sat, 22 Nov 2025 12:00:00 GMT */

	assert_int_equal(backoff_retry_after_ms("7", noon), 7000);
	assert_int_equal(backoff_retry_after_ms("Sat, 22 Nov 2025 12:00:30 GMT", noon), 30000);
}

static void retry_after_is_bounded_and_nonsense_is_ignored(void **state)
{
	int64_t noon = INT64_C(1763812800) * NS_PER_SEC;

	assert_int_equal(backoff_retry_after_ms("99999999999999999999999", noon), 3600000);
	assert_int_equal(backoff_retry_after_ms("Fri, 01 Jan 2055 00:00:00 GMT", noon), 3600000);
	assert_int_equal(backoff_retry_after_ms("Sat, 22 Nov 2025 11:00:00 GMT", noon), 0);
	assert_int_equal(backoff_retry_after_ms("", noon), 0);
	assert_int_equal(backoff_retry_after_ms("soon", noon), 0);
	assert_int_equal(backoff_retry_after_ms("-5", noon), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(intervals_double_up_to_the_ceiling),
		cmocka_unit_test(jitter_takes_the_whole_interval_and_is_never_zero),
		cmocka_unit_test(retry_after_is_seconds_or_a_date),
		cmocka_unit_test(retry_after_is_bounded_and_nonsense_is_ignored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
