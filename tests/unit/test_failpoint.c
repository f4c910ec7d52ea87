/* Failpoints are compiled out of ordinary builds: this test compiles them for itself. */
#ifndef CACHET_FAILPOINTS
#define CACHET_FAILPOINTS 1
#endif
#include "base/failpoint.c" /* NOLINT */

#include "unit.h"

/* The list is read once per process: each case runs in a child, which returns the wait status. */
static int in_child(const char *list, const char *log, int (*body)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		setenv("CACHET_FAILPOINTS", list, 1);
		if (log)
			setenv("CACHET_FAILPOINTS_LOG", log, 1);
		if (freopen("/dev/null", "w", stderr) == NULL)
			_exit(99);
		_exit(body());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static int third_fails_with_enospc(void)
{
	int a = FAILPOINT("one"), b = FAILPOINT("one"), other = FAILPOINT("two");
	int c = FAILPOINT("one"), d = FAILPOINT("one");

	return !a && !b && !other && c == -ENOSPC && !d ? 0 : 1;
}

static void the_nth_time_it_fails_once_with_the_code(void **state)
{
	assert_int_equal(in_child("one=3:28", NULL, third_fails_with_enospc), 0);
}

static int reach_three(void)
{
	for (int i = 0; i < 3; i++)
		if (FAILPOINT(i == 2 ? "last" : "first"))
			return 1;
	return 0;
}

static void kill_dies_by_sigkill_at_the_point(void **state)
{
	int status = in_child("last=1:kill", NULL, reach_three);

	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void exit_ends_at_the_point(void **state)
{
	int status = in_child("first=2:exit", NULL, reach_three);

	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FIRED);
}

static void a_star_counts_all_points_and_the_log_names_the_one(void **state)
{
	struct unit_dir dir;
	char log[300], line[100] = "";
	FILE *f;

	unit_dir_init(&dir);
	snprintf(log, sizeof(log), "%s/log", dir.path);
	assert_int_equal(WEXITSTATUS(in_child("*=3:5", log, reach_three)), 1);
	f = fopen(log, "r");
	assert_non_null(f);
	assert_non_null(fgets(line, sizeof(line), f));
	assert_string_equal(line, "last\n");
	assert_null(fgets(line, sizeof(line), f));
	fclose(f);
	unit_dir_done(&dir);
}

static void a_list_that_cannot_be_read_ends_the_process(void **state)
{
	static const char *const bad[] = { "x", "x=", "=1:5", "x=0:5", "x=1:", "x=1:0", "x=1:dead",
		"x=1:5x", "x=1", "a=1:5,x=y" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(WEXITSTATUS(in_child(bad[i], NULL, reach_three)), EXIT_BAD_LIST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_nth_time_it_fails_once_with_the_code),
		cmocka_unit_test(kill_dies_by_sigkill_at_the_point),
		cmocka_unit_test(exit_ends_at_the_point),
		cmocka_unit_test(a_star_counts_all_points_and_the_log_names_the_one),
		cmocka_unit_test(a_list_that_cannot_be_read_ends_the_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
