/*
 * One secret line. On a terminal echo, line editing and signal characters are switched off and done
 * here: Ctrl-C then is a character that ends the question, and cannot leave a terminal without echo
 * behind.
 */
#include "crypto/keysource_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <termios.h>

#include "base/error.h"
#include "base/io.h"

#define LINE_MAX_LEN 1024
#define CTRL_C 0x03
#define CTRL_D 0x04
#define CTRL_U 0x15
#define DELETE 0x7f

static int read_byte(int fd, uint8_t *c)
{
	ssize_t n;

	do
		n = read(fd, c, 1);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : (int)n;
}

/* Removes the last character of `len` bytes, which may be several bytes of UTF-8. */
static size_t erase_last(uint8_t *line, size_t len)
{
	while (len && (line[len - 1] & 0xc0) == 0x80)
		line[--len] = 0;
	if (len)
		line[--len] = 0;
	return len;
}

/* One key stroke. 1: the line is complete. */
static int stroke(uint8_t c, uint8_t *line, size_t *len)
{
	if (c == '\n' || c == '\r')
		return 1;
	if (c == CTRL_C)
		return -EINTR;
	if (c == CTRL_D)
		return *len ? 1 : -EINTR;
	if (c == CTRL_U) {
		secret_wipe(line, *len);
		*len = 0;
	} else if (c == DELETE || c == '\b') {
		*len = erase_last(line, *len);
	} else {
		if (*len == LINE_MAX_LEN)
			return CE_TOO_LARGE;
		line[(*len)++] = c;
	}
	return 0;
}

static int read_strokes(int fd, uint8_t *line, size_t *len)
{
	int r = 0;

	*len = 0;
	while (!r) {
		uint8_t c;

		r = read_byte(fd, &c);
		if (r == 0)
			return -EINTR;
		if (r > 0)
			r = stroke(c, line, len);
	}
	return r < 0 ? r : 0;
}

static int ask_on(int tty, const char *prompt, uint8_t *line, size_t *len)
{
	struct termios normal, quiet;
	int r;

	if (tcgetattr(tty, &normal) < 0)
		return -errno;
	quiet = normal;
	quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | ISIG);
	quiet.c_cc[VMIN] = 1;
	quiet.c_cc[VTIME] = 0;
	if (tcsetattr(tty, TCSAFLUSH, &quiet) < 0)
		return -errno;
	r = io_write_full(tty, prompt, strlen(prompt));
	if (!r)
		r = read_strokes(tty, line, len);
	if (tcsetattr(tty, TCSAFLUSH, &normal) < 0 && !r)
		r = -errno;
	if (io_write_full(tty, "\n", 1) < 0 && !r)
		r = -EIO;
	return r;
}

int keysource_terminal_ask(const char *prompt, struct secret **out, size_t *len, char **error)
{
	_cleanup_fd_ int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	_cleanup_secret_ struct secret *line = NULL;
	int r;

	if (tty < 0)
		return keysource_fail(error, CE_USAGE,
			"there is no terminal to ask for the passphrase; use passphrase:fd=N");
	r = secret_new(LINE_MAX_LEN, &line);
	if (!r)
		r = ask_on(tty, prompt, secret_bytes(line), len);
	if (r == -EINTR)
		return keysource_fail(error, r, "no passphrase was given");
	if (r)
		return keysource_fail(
			error, r, "the passphrase cannot be read (%s)", error_text(r));
	*out = steal_ptr(&line);
	return 0;
}

/* Up to the first end of line, byte by byte: what follows belongs to somebody else. */
int keysource_terminal_read_fd(int fd, struct secret **out, size_t *len, char **error)
{
	_cleanup_secret_ struct secret *line = NULL;
	int r = secret_new(LINE_MAX_LEN, &line);
	size_t n = 0;

	while (r >= 0) {
		uint8_t c;

		r = read_byte(fd, &c);
		if (r <= 0 || c == '\n')
			break;
		if (n == LINE_MAX_LEN)
			r = CE_TOO_LARGE;
		else
			secret_bytes(line)[n++] = c;
	}
	if (r < 0)
		return keysource_fail(error, r,
			"the passphrase cannot be read from file descriptor %d (%s)", fd,
			error_text(r));
	*out = steal_ptr(&line);
	*len = n;
	return 0;
}
