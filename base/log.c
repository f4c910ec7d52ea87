#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024

static atomic_int max_level = LOG_LEVEL_INFO;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool to_journal;

/* systemd names the device and inode of the stream it reads: sd-daemon(3), systemd.exec(5). */
static void look_for_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	if (!stream || sscanf(stream, "%llu:%llu", &dev, &ino) != 2)
		return;
	if (fstat(STDERR_FILENO, &st) < 0)
		return;
	to_journal = st.st_dev == dev && st.st_ino == ino;
}

void log_set_level(enum log_level level)
{
	atomic_store(&max_level, (int)level);
}

static int line_prefix(enum log_level level, char *line, size_t size)
{
	static const char *const journal[] = { "<3>", "<4>", "<6>", "<7>" };
	static const char *const plain[] = {
		"cachet: error: ", "cachet: warning: ", "cachet: ", "cachet: debug: "
	};

	return snprintf(line, size, "%s", to_journal ? journal[level] : plain[level]);
}

void log_print(enum log_level level, const char *fmt, ...)
{
	char line[LINE_MAX_BYTES];
	int saved_errno = errno, n, len;
	va_list args;

	if ((int)level > atomic_load(&max_level))
		return;
	pthread_once(&once, look_for_journal);
	n = line_prefix(level, line, sizeof(line));
	va_start(args, fmt);
	len = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, args);
	va_end(args);
	if (len < 0)
		goto out;
	len = MIN_OF(n + len, LINE_MAX_BYTES - 2);
	/* One message is one line, whatever its arguments hold. */
	for (int i = n; i < len; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = ' ';
	line[len++] = '\n';
	if (write(STDERR_FILENO, line, (size_t)len) < 0) {
		/* Nobody is left to be told. */
	}
out:
	errno = saved_errno;
}
