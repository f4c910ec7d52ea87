/* The client's side of the control socket, and what both sides share: address and lines. */
#include "daemon/control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/error.h"
#include "daemon/control_priv.h"

int control_address(const char *path, struct sockaddr_un *out, int *dirfd, const char **name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *dir = NULL;
	int fd, n;

	if (!slash || slash == path)
		return -EINVAL;
	dir = strndup(path, (size_t)(slash - path));
	if (!dir)
		return -ENOMEM;
	fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = snprintf(
		address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", fd, slash + 1);
	if (n < 0 || (size_t)n >= sizeof(address.sun_path)) {
		close(fd);
		return -ENAMETOOLONG;
	}
	*out = address;
	*dirfd = fd;
	*name = slash + 1;
	return 0;
}

static int wait_readable(int fd, int64_t deadline_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	for (;;) {
		int64_t left = deadline_ms ? MAX_OF(deadline_ms - clock_boot_ms(), 0) : -1;
		int n = poll(&p, 1, (int)MIN_OF(left, 1000000000));

		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0 && left >= 0 && clock_boot_ms() >= deadline_ms)
			return -ETIMEDOUT;
	}
}

int control_read_line(int fd, struct buffer *line, int64_t deadline_ms)
{
	char chunk[16384];
	char *newline;
	ssize_t n;
	int r;

	do {
		r = wait_readable(fd, deadline_ms);
		if (r)
			return r;
		n = recv(fd, chunk, sizeof(chunk), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENODATA;
		newline = memchr(chunk, '\n', (size_t)n);
		/* One line at a time is on its way: nothing follows it before the answer. */
		r = buffer_append(line, chunk, newline ? (size_t)(newline - chunk) : (size_t)n);
		if (r)
			return r;
	} while (n < 0 || !newline);
	return 0;
}

static int send_full(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

int control_write_line(int fd, const char *text)
{
	int r = send_full(fd, text, strlen(text));

	return r ? r : send_full(fd, "\n", 1);
}

static int connect_to(const char *socket_path, int *out)
{
	struct sockaddr_un address;
	_cleanup_fd_ int dirfd = -1, fd = -1;
	const char *name;
	int r = control_address(socket_path, &address, &dirfd, &name);

	if (r)
		return r == -ENOENT ? CE_OFFLINE : r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return errno == ENOENT || errno == ECONNREFUSED ? CE_OFFLINE : -errno;
	*out = steal_fd(&fd);
	return 0;
}

static void free_buffer(struct buffer *b)
{
	buffer_done(b);
}

int control_call(const char *socket_path, const struct json *request, unsigned timeout_ms,
	struct json **reply)
{
	_cleanup_(free_buffer) struct buffer line = { .max = CONTROL_REPLY_MAX_BYTES };
	int64_t deadline_ms = timeout_ms ? clock_boot_ms() + timeout_ms : 0;
	_cleanup_free_ char *text = NULL;
	_cleanup_fd_ int fd = -1;
	int r = json_print(request, false, &text);

	if (!r)
		r = connect_to(socket_path, &fd);
	if (!r)
		r = control_write_line(fd, text);
	if (!r)
		r = control_read_line(fd, &line, deadline_ms);
	if (r == -ENODATA || r == -EPIPE || r == -ECONNRESET)
		return CE_PROTOCOL;
	if (r)
		return r;
	return json_parse(line.data, line.len, reply) ? CE_PROTOCOL : 0;
}
