/*
 * What is under way is a set: the screen locked, the machine asleep. The volume is locked when one
 * is added, and unlocked when none is left, if it was this thread that locked it.
 *
 * The screen is locked by the signal Lock of a session of this user's, or by its LockedHint, which
 * desktops set that lock by themselves; it is unlocked by Unlock, or the hint taken away. Sessions
 * are told apart by their user alone: a daemon started by the user's service manager has none.
 */
#include "daemon/session.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "daemon/config_priv.h"

int session_parse(const char *list, unsigned *out)
{
	static const struct {
		const char *word;
		unsigned flag;
	} words[] = { { "screen", SESSION_SCREEN }, { "sleep", SESSION_SLEEP } };
	unsigned flags = 0;

	for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
		size_t n = strcspn(at, ","), i = 0;

		while (i < ARRAY_SIZE(words) &&
			(strlen(words[i].word) != n || strncmp(at, words[i].word, n) != 0))
			i++;
		if (i == ARRAY_SIZE(words))
			return CE_USAGE;
		flags |= words[i].flag;
	}
	*out = flags;
	return 0;
}

#ifndef HAVE_SYSTEMD

int session_start(struct locking *l, const struct config *c, struct session **out, char **error)
{
	if (c->lock_on)
		return config_say(error, CE_USAGE,
			"this program was built without libsystemd and is not told of screen and "
			"sleep: remove lock_on from the configuration");
	*out = NULL;
	return 0;
}

void session_stop(struct session *s)
{
}

#else

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <systemd/sd-bus.h>

#include "base/io.h"
#include "base/log.h"
#include "cache/passphrase.h"

#define LOGIND "org.freedesktop.login1"
#define LOGIND_PATH "/org/freedesktop/login1"
#define MANAGER LOGIND ".Manager"
#define SESSION LOGIND ".Session"
#define OF_SESSIONS "path_namespace='" LOGIND_PATH "/session'"

#define CALL_MAX_US UINT64_C(1500000) /* the end of the daemon may have to wait for it */
#define AGAIN_MS 5000 /* a bus that is not there; an origin that is not there yet after sleep */
#define UNLOCK_TRIES 24

#define SCREEN_LOCKED "the screen was locked"
#define GOES_TO_SLEEP "the machine goes to sleep"

struct session {
	struct locking *locking;
	unsigned wanted, under_way; /* SESSION_* */
	bool needs_person;
	unsigned tries; /* to unlock, left */
	bool told;      /* that there is no bus */
	sd_bus *bus;
	int inhibitor, wake_fd;
	pthread_t thread;
};

/* --- what follows --- */

static bool is_ours(struct session *s)
{
	const char *why = locking_reason(s->locking);

	return why && (!strcmp(why, SCREEN_LOCKED) || !strcmp(why, GOES_TO_SLEEP));
}

static void begins(struct session *s, unsigned what)
{
	struct locking_result result;

	if (!(s->wanted & what))
		return;
	s->under_way |= what;
	s->tries = 0;
	/* Refused only at the end of the daemon, which takes the keys with it. */
	(void)!locking_lock(
		s->locking, what == SESSION_SCREEN ? SCREEN_LOCKED : GOES_TO_SLEEP, &result);
}

/* After sleep the network takes a while, and without a lease the key is the server's to give. */
static void try_unlock(struct session *s)
{
	_cleanup_free_ char *error = NULL;
	int r = 0;

	s->tries--;
	if (is_ours(s))
		r = locking_unlock(s->locking, NULL, &error);
	if (!r)
		s->tries = 0;
	else if (r != CE_OFFLINE || !s->tries) {
		s->tries = 0;
		log_warning("it stays locked until `cachet unlock`: %s", error_text(r));
	}
}

static void ends(struct session *s, unsigned what)
{
	s->under_way &= ~what;
	if (s->under_way || s->needs_person || !is_ours(s))
		return;
	s->tries = UNLOCK_TRIES;
	try_unlock(s);
}

/* --- what logind says --- */

static void inhibit(struct session *s)
{
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	int fd;
	int r = sd_bus_call_method(s->bus, LOGIND, LOGIND_PATH, MANAGER, "Inhibit", &error, &reply,
		"ssss", "sleep", "cachet", "locks its volume", "delay");

	if (r >= 0)
		r = sd_bus_message_read(reply, "h", &fd);
	if (r >= 0)
		s->inhibitor = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (r < 0 || s->inhibitor < 0)
		log_warning("sleep is not held up until the volume is locked");
}

static void let_sleep(struct session *s)
{
	if (s->inhibitor >= 0)
		close(s->inhibitor);
	s->inhibitor = -1;
}

static int on_sleep(sd_bus_message *m, void *arg, sd_bus_error *error)
{
	struct session *s = arg;
	int begin;

	if (sd_bus_message_read(m, "b", &begin) < 0)
		return 0;
	if (begin) {
		begins(s, SESSION_SLEEP);
		let_sleep(s);
	} else {
		if (s->inhibitor < 0)
			inhibit(s);
		ends(s, SESSION_SLEEP);
	}
	return 0;
}

static bool is_of_this_user(struct session *s, sd_bus_message *m)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	uint32_t uid;

	return sd_bus_get_property(s->bus, LOGIND, sd_bus_message_get_path(m), SESSION, "User",
		       NULL, &reply, "(uo)") >= 0 &&
	       sd_bus_message_enter_container(reply, 'r', "uo") >= 0 &&
	       sd_bus_message_read(reply, "u", &uid) >= 0 && uid == getuid();
}

static int on_lock(sd_bus_message *m, void *arg, sd_bus_error *error)
{
	struct session *s = arg;

	if (is_of_this_user(s, m))
		begins(s, SESSION_SCREEN);
	return 0;
}

static int on_unlock(sd_bus_message *m, void *arg, sd_bus_error *error)
{
	struct session *s = arg;

	if (is_of_this_user(s, m))
		ends(s, SESSION_SCREEN);
	return 0;
}

/* True when the message tells the LockedHint. */
static bool read_hint(sd_bus_message *m, int *out)
{
	const char *name;

	if (sd_bus_message_skip(m, "s") < 0 || sd_bus_message_enter_container(m, 'a', "{sv}") < 0)
		return false;
	while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
		if (sd_bus_message_read(m, "s", &name) < 0)
			return false;
		if (!strcmp(name, "LockedHint"))
			return sd_bus_message_read(m, "v", "b", out) > 0;
		if (sd_bus_message_skip(m, "v") < 0 || sd_bus_message_exit_container(m) < 0)
			return false;
	}
	return false;
}

static int on_properties(sd_bus_message *m, void *arg, sd_bus_error *error)
{
	int locked;

	if (!read_hint(m, &locked))
		return 0;
	return locked ? on_lock(m, arg, error) : on_unlock(m, arg, error);
}

/* --- the bus --- */

static int listen_to(struct session *s)
{
#define FROM_LOGIND(interface, member)                                                             \
	"type='signal',sender='" LOGIND "',interface='" interface "',member='" member "',"
	static const struct {
		const char *rule;
		sd_bus_message_handler_t handler;
	} matches[] = {
		{ FROM_LOGIND(MANAGER, "PrepareForSleep") "path='" LOGIND_PATH "'", on_sleep },
		{ FROM_LOGIND(SESSION, "Lock") OF_SESSIONS, on_lock },
		{ FROM_LOGIND(SESSION, "Unlock") OF_SESSIONS, on_unlock },
		{ FROM_LOGIND("org.freedesktop.DBus.Properties", "PropertiesChanged") OF_SESSIONS
			",arg0='" SESSION "'",
			on_properties },
	};
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(matches); i++)
		r = sd_bus_add_match(s->bus, NULL, matches[i].rule, matches[i].handler, s);
	return r;
}

static int connect_bus(struct session *s)
{
	int r = sd_bus_open_system(&s->bus);

	if (r >= 0)
		r = sd_bus_set_method_call_timeout(s->bus, CALL_MAX_US);
	if (r >= 0)
		r = listen_to(s);
	if (r >= 0 && (s->wanted & SESSION_SLEEP))
		inhibit(s);
	return r;
}

static void disconnect(struct session *s)
{
	let_sleep(s);
	s->bus = sd_bus_close_unref(s->bus);
}

/* False when the daemon ends. No call of ours is ever under way here. */
static bool wait_for_news(const struct session *s)
{
	struct pollfd p[] = { { .fd = s->wake_fd, .events = POLLIN },
		{ .fd = s->bus ? sd_bus_get_fd(s->bus) : -1,
			.events = s->bus ? (short)sd_bus_get_events(s->bus) : 0 } };

	(void)!poll(p, ARRAY_SIZE(p), !s->bus || s->tries ? AGAIN_MS : -1);
	return !p[0].revents;
}

/* Everything that lies there. */
static void serve(struct session *s)
{
	int r;

	do
		r = sd_bus_process(s->bus, NULL);
	while (r > 0);
	if (r < 0)
		disconnect(s);
}

static void *session_main(void *arg)
{
	struct session *s = arg;

	do {
		if (!s->bus && connect_bus(s) < 0) {
			disconnect(s);
			if (!s->told)
				log_warning(
					"there is no system bus that tells of screen and sleep");
			s->told = true;
		}
		if (s->bus)
			serve(s);
		if (s->tries)
			try_unlock(s);
	} while (wait_for_news(s));
	disconnect(s);
	return NULL;
}

static void session_free(struct session *s)
{
	if (s->wake_fd >= 0)
		close(s->wake_fd);
	free(s);
}

int session_start(struct locking *l, const struct config *c, struct session **out, char **error)
{
	struct session *s;
	sigset_t all, old;
	unsigned wanted;
	int r = session_parse(c->lock_on, &wanted);

	if (r || !wanted) {
		*out = NULL;
		return r;
	}
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->locking = l;
	s->wanted = wanted;
	s->needs_person = passphrase_is_asked(c->key_source);
	s->inhibitor = -1;
	s->wake_fd = eventfd(0, EFD_CLOEXEC);
	r = s->wake_fd < 0 ? -errno : 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (!r)
		r = -pthread_create(&s->thread, NULL, session_main, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r) {
		session_free(s);
		return config_say(
			error, r, "screen and sleep cannot be listened for: %s", error_text(r));
	}
	*out = s;
	return 0;
}

void session_stop(struct session *s)
{
	const uint64_t one = 1;

	if (!s)
		return;
	if (write(s->wake_fd, &one, sizeof(one)) < 0)
		log_warning("the thread that listens for screen and sleep could not be woken");
	pthread_join(s->thread, NULL);
	session_free(s);
}

#endif
