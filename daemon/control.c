/*
 * The server of the control socket. An acceptor thread hands each connection to a detached thread
 * of its own; `connections` counts them, and control_stop() shuts their sockets down and waits for
 * zero.
 */
#include "daemon/control.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/secret.h"
#include "daemon/control_priv.h"
#include "daemon/daemon_priv.h"
#include "daemon/requests.h"

#define REQUEST_TIMEOUT_MS 10000
#define STOP_GRACE_MS 500

struct control {
	struct daemon_state *d;
	char *path;
	int listen_fd, wake_fd;
	pthread_t acceptor;
	atomic_bool stopping;
	pthread_mutex_t lock;
	pthread_cond_t idle;          /* connections became 0 */
	int fds[CONTROL_CONNECTIONS]; /* lock; -1 = free */
	unsigned connections;         /* lock */
};

struct connection {
	struct control *c;
	int fd;
};

static bool peer_may(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return false;
	return peer.uid == geteuid() || peer.uid == 0;
}

static bool caller_gone(void *arg)
{
	struct connection *n = arg;
	struct pollfd p = { .fd = n->fd, .events = POLLRDHUP };

	if (atomic_load(&n->c->stopping))
		return true;
	return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLRDHUP | POLLERR));
}

static int send_reply(int fd, struct json *reply)
{
	_cleanup_free_ char *text = NULL;

	if (json_print(reply, false, &text))
		return control_write_line(fd, "{\"ok\":false,\"code\":\"failed\",\"error\":\"the "
					      "answer could not be put into words\"}");
	return control_write_line(fd, text);
}

/* False when the connection is to be closed. */
static bool serve_one(struct connection *n)
{
	const struct requests_caller caller = { .gone = caller_gone, .arg = n };
	struct buffer line = { .max = CONTROL_REQUEST_MAX_BYTES };
	_cleanup_json_ struct json *request = NULL, *reply = NULL;
	int r = control_read_line(n->fd, &line, clock_boot_ms() + REQUEST_TIMEOUT_MS);

	if (r == CE_TOO_LARGE)
		reply = requests_failure(EXIT_CODE_USAGE, "the request is too long");
	else if (r == 0 && json_parse(line.data ? line.data : "", line.len, &request))
		reply = requests_failure(EXIT_CODE_USAGE, "the request is not JSON");
	else if (r == 0)
		reply = requests_answer(n->c->d, request, &caller);
	buffer_done(&line);
	return reply && send_reply(n->fd, reply) == 0 && r == 0;
}

static void leave(struct control *c, int fd)
{
	pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < CONTROL_CONNECTIONS; i++)
		if (c->fds[i] == fd)
			c->fds[i] = -1;
	close(fd);
	if (--c->connections == 0)
		pthread_cond_broadcast(&c->idle);
	pthread_mutex_unlock(&c->lock);
}

static void *connection_main(void *arg)
{
	struct connection n = *(struct connection *)arg;

	free(arg);
	while (!atomic_load(&n.c->stopping) && serve_one(&n)) {
		/* the next request of this connection */
	}
	secret_wipe_stack();
	leave(n.c, n.fd);
	return NULL;
}

static bool enter(struct control *c, int fd)
{
	bool done = false;

	pthread_mutex_lock(&c->lock);
	for (size_t i = 0; !done && i < CONTROL_CONNECTIONS; i++) {
		if (c->fds[i] >= 0)
			continue;
		c->fds[i] = fd;
		c->connections++;
		done = true;
	}
	pthread_mutex_unlock(&c->lock);
	return done;
}

static void refuse(int fd, const char *sentence)
{
	_cleanup_json_ struct json *reply = requests_failure(EXIT_CODE_FAILED, sentence);

	if (send_reply(fd, reply))
		log_debug("a refused control connection was closed before its answer");
	close(fd);
}

/* Takes `fd`. */
static void start_connection(struct control *c, int fd)
{
	struct connection *n = malloc(sizeof(*n));
	pthread_attr_t attr;
	pthread_t thread;
	int err;

	if (!n || !enter(c, fd)) {
		free(n);
		refuse(fd, "the daemon has too many requests under way; try again");
		return;
	}
	*n = (struct connection){ c, fd };
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	err = pthread_create(&thread, &attr, connection_main, n);
	pthread_attr_destroy(&attr);
	if (err) {
		free(n);
		leave(c, fd);
	}
}

static void *acceptor_main(void *arg)
{
	struct control *c = arg;
	struct pollfd p[] = { { .fd = c->listen_fd, .events = POLLIN },
		{ .fd = c->wake_fd, .events = POLLIN } };

	while (!atomic_load(&c->stopping)) {
		int fd;

		if (poll(p, ARRAY_SIZE(p), -1) < 0 || !(p[0].revents & POLLIN))
			continue;
		fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		if (peer_may(fd))
			start_connection(c, fd);
		else
			close(fd);
	}
	return NULL;
}

/*
 * The file is made under another name, restricted, and only then put in place: nobody finds it with
 * the permissions of the umask, and a dead daemon's socket is replaced in the same step.
 */
static int listen_at(const char *path, int *out)
{
	struct sockaddr_un address;
	_cleanup_fd_ int dirfd = -1, fd = -1;
	_cleanup_free_ char *temporary = NULL;
	const char *name, *temporary_name;
	int r = 0;

	if (bytes_print(&temporary, "%s.%d", path, (int)getpid()))
		return -ENOMEM;
	r = control_address(temporary, &address, &dirfd, &temporary_name);
	if (r)
		return r;
	name = strrchr(path, '/') + 1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	unlinkat(dirfd, temporary_name, 0);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	if (fchmodat(dirfd, temporary_name, 0600, 0) < 0 || listen(fd, CONTROL_CONNECTIONS) < 0 ||
		renameat(dirfd, temporary_name, dirfd, name) < 0) {
		r = -errno;
		unlinkat(dirfd, temporary_name, 0);
		return r;
	}
	*out = steal_fd(&fd);
	return 0;
}

static void control_free(struct control *c)
{
	if (c->listen_fd >= 0)
		close(c->listen_fd);
	if (c->wake_fd >= 0)
		close(c->wake_fd);
	pthread_cond_destroy(&c->idle);
	pthread_mutex_destroy(&c->lock);
	free(c->path);
	free(c);
}

int control_start(struct daemon_state *d, const char *socket_path, struct control **out)
{
	struct control *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	*c = (struct control){ .d = d, .listen_fd = -1, .wake_fd = -1 };
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->idle, NULL);
	for (size_t i = 0; i < CONTROL_CONNECTIONS; i++)
		c->fds[i] = -1;
	c->path = strdup(socket_path);
	c->wake_fd = eventfd(0, EFD_CLOEXEC);
	r = !c->path ? -ENOMEM : c->wake_fd < 0 ? -errno : listen_at(socket_path, &c->listen_fd);
	if (!r)
		r = -pthread_create(&c->acceptor, NULL, acceptor_main, c);
	if (r) {
		control_free(c);
		return r;
	}
	*out = c;
	return 0;
}

static void shut_down(struct control *c, int how)
{
	for (size_t i = 0; i < CONTROL_CONNECTIONS; i++)
		if (c->fds[i] >= 0)
			shutdown(c->fds[i], how);
}

/* Answers under way are still sent, for a moment; a client that does not read them is cut off. */
static void end_connections(struct control *c)
{
	struct timespec until;
	int err = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += STOP_GRACE_MS * NS_PER_MS;
	until.tv_sec += until.tv_nsec / NS_PER_SEC;
	until.tv_nsec %= NS_PER_SEC;
	pthread_mutex_lock(&c->lock);
	shut_down(c, SHUT_RD);
	while (c->connections && !err)
		err = pthread_cond_timedwait(&c->idle, &c->lock, &until);
	shut_down(c, SHUT_RDWR);
	while (c->connections)
		pthread_cond_wait(&c->idle, &c->lock);
	pthread_mutex_unlock(&c->lock);
}

void control_stop(struct control *c)
{
	const uint64_t one = 1;

	if (!c)
		return;
	atomic_store(&c->stopping, true);
	if (write(c->wake_fd, &one, sizeof(one)) < 0)
		log_warning("the control thread could not be woken");
	pthread_join(c->acceptor, NULL);
	unlink(c->path);
	end_connections(c);
	control_free(c);
}
