#include "base/error.h"

#include <ctype.h>
#include <errno.h>

#include "unit.h"

static void every_own_code_has_a_parent_and_a_text(void **state)
{
	for (int code = CE_FIRST; code < CE_LAST; code++) {
		assert_true(error_errno(code) > 0 && error_errno(code) < 134);
		assert_non_null(error_text(code));
		assert_true(strlen(error_text(code)) > 4);
	}
	assert_int_equal(error_errno(CE_TAMPER), EIO);
	assert_int_equal(error_errno(CE_OFFLINE), EHOSTUNREACH);
	assert_int_equal(error_errno(CE_USAGE), EINVAL);
	assert_int_equal(error_errno(CE_HELD), EBUSY);
}

static void an_errno_stays_itself(void **state)
{
	for (int e = 1; e < 134; e++)
		assert_int_equal(error_errno(-e), e);
	assert_int_equal(error_errno(0), 0);
	assert_int_equal(error_errno(17), 0); /* a count */
}

static void a_code_nobody_knows_is_an_io_error(void **state)
{
	assert_int_equal(error_errno(CE_LAST), EIO);
	assert_int_equal(error_errno(CE_FIRST - 1), EIO);
	assert_int_equal(error_errno(-5000), EIO);
	assert_string_equal(error_text(-5000), "unknown error");
	assert_string_equal(error_text(CE_LAST), "unknown error");
}

static void texts_begin_in_lower_case(void **state)
{
	assert_string_equal(error_text(-ENOENT), "no such file or directory");
	assert_string_equal(error_text(CE_TAMPER), "authentication failed");
	for (int code = CE_FIRST; code < CE_LAST; code++)
		assert_true(islower((unsigned char)error_text(code)[0]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_own_code_has_a_parent_and_a_text),
		cmocka_unit_test(an_errno_stays_itself),
		cmocka_unit_test(a_code_nobody_knows_is_an_io_error),
		cmocka_unit_test(texts_begin_in_lower_case),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
