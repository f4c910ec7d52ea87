#include "cli/token.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>

#include "base/bytes.h"
#include "base/error.h"

static int say(char **error, const char *fmt, ...) PRINTF_LIKE(2, 3);

static int say(char **error, const char *fmt, ...)
{
	va_list args;
	int n;

	va_start(args, fmt);
	n = bytes_vprint(error, fmt, args);
	va_end(args);
	return n ? n : CE_USAGE;
}

/* Up to `max` bytes or the first line; a secret passes through no stdio buffer. */
static int read_line(int fd, char *buf, size_t max, size_t *len)
{
	size_t n = 0;

	while (n < max) {
		ssize_t got = read(fd, buf + n, max - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		n += (size_t)got;
		if (memchr(buf + n - got, '\n', (size_t)got))
			break;
	}
	*len = n;
	return 0;
}

static int ask(const char *what, char *buf, size_t max, size_t *len, char **error)
{
	_cleanup_fd_ int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	struct termios old, quiet;
	int r;

	if (tty < 0 || tcgetattr(tty, &old) < 0)
		return say(error,
			"there is no terminal to ask for the %s; give --%s-file FILE, or "
			"--%s-file - to read it from standard input",
			what, what, what);
	quiet = old;
	quiet.c_lflag &= ~(tcflag_t)ECHO;
	dprintf(tty, "%c%s: ", toupper(what[0]), what + 1);
	if (tcsetattr(tty, TCSAFLUSH, &quiet) < 0)
		return say(error, "the terminal cannot be made silent; give --%s-file FILE", what);
	r = read_line(tty, buf, max, len);
	if (tcsetattr(tty, TCSAFLUSH, &old) < 0)
		dprintf(tty, "\n(the terminal stays silent: type `stty echo`)");
	dprintf(tty, "\n");
	return r ? say(error, "the %s cannot be read: %s", what, error_text(r)) : 0;
}

static int from_file(
	const char *what, const char *file, char *buf, size_t max, size_t *len, char **error)
{
	bool standard_input = !strcmp(file, "-");
	_cleanup_fd_ int opened = -1;
	int r;

	if (!standard_input) {
		opened = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
		if (opened < 0)
			return say(error, "the %s file %s cannot be opened: %s", what, file,
				strerror(errno));
	}
	r = read_line(standard_input ? STDIN_FILENO : opened, buf, max, len);
	return r ? say(error, "the %s cannot be read: %s", what, error_text(r)) : 0;
}

static int check(const char *what, const char *buf, size_t len, struct secret **out, char **error)
{
	const char *newline = memchr(buf, '\n', len);
	size_t begin = 0, end = newline ? (size_t)(newline - buf) : len;

	while (begin < end && (buf[begin] == ' ' || buf[begin] == '\t'))
		begin++;
	while (end > begin && strchr(" \t\r", buf[end - 1]))
		end--;
	if (begin == end)
		return say(error, "the %s is empty", what);
	for (size_t i = begin; i < end; i++)
		if (buf[i] <= ' ' || buf[i] > '~')
			return say(error, "that is not a %s: it has characters that no %s has",
				what, what);
	return secret_new_copy(buf + begin, end - begin, out);
}

int token_read(const char *what, const char *file, struct secret **out, char **error)
{
	_cleanup_secret_ struct secret *line = NULL;
	char *buf;
	size_t len = 0;
	int r = secret_new(TOKEN_MAX, &line);

	if (r)
		return r;
	buf = (char *)secret_bytes(line);
	r = file ? from_file(what, file, buf, TOKEN_MAX, &len, error)
		 : ask(what, buf, TOKEN_MAX, &len, error);
	return r ? r : check(what, buf, len, out, error);
}
