#include "base/log.h"

#include <errno.h>
#include <sys/stat.h>

#include "unit.h"

/* What `body` writes to standard error, in a child with its own log state. */
static void capture(void (*body)(void), bool journal, char *out, size_t size)
{
	int fds[2], status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		struct stat st;
		char id[64];

		dup2(fds[1], STDERR_FILENO);
		fstat(STDERR_FILENO, &st);
		snprintf(id, sizeof(id), "%llu:%llu", (unsigned long long)st.st_dev,
			(unsigned long long)st.st_ino + !journal);
		setenv("JOURNAL_STREAM", id, 1);
		body();
		_exit(0);
	}
	close(fds[1]);
	while ((n = read(fds[0], out + len, size - 1 - len)) > 0)
		len += (size_t)n;
	out[len] = '\0';
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void two_levels(void)
{
	log_debug("hidden");
	log_warning("inode %d", 7);
	log_set_level(LOG_LEVEL_ERROR);
	log_info("hidden");
}

static void only_what_the_level_admits_is_printed(void **state)
{
	char out[4096];

	capture(two_levels, false, out, sizeof(out));
	assert_string_equal(out, "cachet: warning: inode 7\n");
}

static void the_journal_gets_its_prefix(void **state)
{
	char out[4096];

	capture(two_levels, true, out, sizeof(out));
	assert_string_equal(out, "<4>inode 7\n");
}

static void nasty(void)
{
	char big[3000];

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	log_info("a\nb\x1b[31m%s", big);
}

static void a_message_is_one_line_of_bounded_length(void **state)
{
	char out[8192];

	capture(nasty, false, out, sizeof(out));
	assert_true(strlen(out) <= 1024);
	assert_ptr_equal(strchr(out, '\n'), out + strlen(out) - 1);
	assert_null(strchr(out, 0x1b));
	assert_int_equal(strncmp(out, "cachet: a b [31mxxx", 19), 0);
}

static void errno_survives_a_log_line(void **state)
{
	errno = EDOM;
	log_debug("%d", 1);
	assert_int_equal(errno, EDOM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_what_the_level_admits_is_printed),
		cmocka_unit_test(the_journal_gets_its_prefix),
		cmocka_unit_test(a_message_is_one_line_of_bounded_length),
		cmocka_unit_test(errno_survives_a_log_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
