#include "server/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/bytes.h"
#include "base/error.h"
#include "server/wire.h"

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static int fail(char **error, int code, const char *text)
{
	(void)!bytes_print(error, "%s", text);
	return code;
}

/* Splits "HOST:PORT" or "[HOST]:PORT". */
static bool split(const char *where, char *host, size_t size, uint16_t *port)
{
	const char *colon = strrchr(where, ':');
	size_t len = colon ? (size_t)(colon - where) : 0;
	uint64_t n;

	if (!colon || len >= size || server_wire_u64(colon + 1, &n) || n > UINT16_MAX)
		return false;
	if (*where == '[') {
		if (len < 2 || where[len - 1] != ']')
			return false;
		where++;
		len -= 2;
	}
	memcpy(host, where, len);
	host[len] = 0;
	*port = (uint16_t)n;
	return true;
}

static bool parse(const char *where, union address *out, socklen_t *len, bool *loopback)
{
	char host[INET6_ADDRSTRLEN];
	uint16_t port;

	memset(out, 0, sizeof(*out));
	if (!split(where, host, sizeof(host), &port))
		return false;
	if (inet_pton(AF_INET, host, &out->v4.sin_addr) == 1) {
		out->v4.sin_family = AF_INET;
		out->v4.sin_port = htons(port);
		*loopback = ntohl(out->v4.sin_addr.s_addr) >> 24 == 127;
		*len = sizeof(out->v4);
		return true;
	}
	if (inet_pton(AF_INET6, host, &out->v6.sin6_addr) != 1)
		return false;
	out->v6.sin6_family = AF_INET6;
	out->v6.sin6_port = htons(port);
	*loopback = IN6_IS_ADDR_LOOPBACK(&out->v6.sin6_addr);
	*len = sizeof(out->v6);
	return true;
}

static int open_socket(const union address *a, socklen_t len, int *out_fd)
{
	_cleanup_fd_ int fd =
		socket(a->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int on = 1;

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) || bind(fd, &a->any, len) ||
		listen(fd, 511))
		return -errno;
	*out_fd = steal_fd(&fd);
	return 0;
}

int server_listen_open(
	const char *where, bool loopback_only, int *out_fd, uint16_t *port, char **error)
{
	union address a;
	socklen_t len;
	bool loopback;
	int fd = -1, r;

	if (!parse(where, &a, &len, &loopback))
		return fail(error, CE_USAGE,
			"the address to listen on is not HOST:PORT with a numeric address");
	if (loopback_only && !loopback)
		return fail(error, CE_USAGE,
			"without a TLS certificate only loopback addresses (127.0.0.1, [::1]) are "
			"served");
	r = open_socket(&a, len, &fd);
	if (r) {
		(void)!bytes_print(error, "cannot listen there: %s", strerror(-r));
		return r;
	}
	len = sizeof(a);
	getsockname(fd, &a.any, &len);
	*port = ntohs(a.any.sa_family == AF_INET ? a.v4.sin_port : a.v6.sin6_port);
	*out_fd = fd;
	return 0;
}
