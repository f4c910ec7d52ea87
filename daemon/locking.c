#include "daemon/locking.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/secret.h"
#include "cache/enrolment.h"
#include "daemon/opening.h"

#define LOOK_S 1
#define IDLE "nobody used it"
#define LEASE_OVER "the offline lease is over"

struct locking {
	struct daemon_state *d;
	bool offline, watching;
	pthread_t thread;
	pthread_mutex_t turn;   /* one lock or unlock at a time; taken first */
	pthread_rwlock_t users; /* requests, shared; who replaces what they use, alone */
	atomic_bool wanted;
	pthread_mutex_t lock; /* leaf: what follows */
	pthread_cond_t wake;
	bool stop, never;
	int keys_code; /* of locking_on_keys, not yet acted upon */
	const char *reason;
};

int locking_new(struct daemon_state *d, bool offline, struct locking **out)
{
	struct locking *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->d = d;
	l->offline = offline;
	pthread_mutex_init(&l->turn, NULL);
	pthread_rwlock_init(&l->users, NULL);
	pthread_mutex_init(&l->lock, NULL);
	clock_cond_init(&l->wake);
	*out = l;
	return 0;
}

void locking_free(struct locking *l)
{
	if (!l)
		return;
	pthread_cond_destroy(&l->wake);
	pthread_mutex_destroy(&l->lock);
	pthread_rwlock_destroy(&l->users);
	pthread_mutex_destroy(&l->turn);
	free(l);
}

const char *locking_reason(struct locking *l)
{
	const char *reason;

	pthread_mutex_lock(&l->lock);
	reason = l->reason;
	pthread_mutex_unlock(&l->lock);
	return reason;
}

static void set_reason(struct locking *l, const char *reason)
{
	pthread_mutex_lock(&l->lock);
	l->reason = reason;
	pthread_mutex_unlock(&l->lock);
}

bool locking_enter(struct locking *l)
{
	if (atomic_load(&l->wanted))
		return false;
	pthread_rwlock_rdlock(&l->users);
	if (!locking_reason(l))
		return true;
	pthread_rwlock_unlock(&l->users);
	return false;
}

void locking_leave(struct locking *l)
{
	pthread_rwlock_unlock(&l->users);
}

bool locking_is_wanted(const struct locking *l)
{
	return atomic_load(&l->wanted);
}

int locking_sync(struct locking *l, struct sync **out, char **error)
{
	const struct opening_sync_options o = { l->offline, locking_on_keys, l };

	return opening_sync(l->d->config, l->d->volume, &o, out, error);
}

/* --- lock --- */

struct lock_step {
	struct locking *l;
	const char *reason;
	int code;
};

/* Whoever locks or unlocks does so all the same. `why`: one of a few fixed texts. */
static void note(struct locking *l, const char *kind, const char *why)
{
	char detail[160] = "{}";

	if (why)
		snprintf(detail, sizeof(detail), "{\"why\":\"%s\"}", why);
	if (volume_event(l->d->volume, kind, detail))
		log_warning("the event log does not have the %s", kind);
}

/* Nobody is inside the mount or a request any more. */
static void take_keys(void *arg)
{
	struct lock_step *s = arg;

	sync_free(steal_ptr(&s->l->d->sync));
	note(s->l, "lock", s->reason);
	s->code = volume_lock(s->l->d->volume);
	volume_forget();
}

static bool may(struct locking *l)
{
	bool yes;

	pthread_mutex_lock(&l->lock);
	yes = !l->never;
	pthread_mutex_unlock(&l->lock);
	return yes && l->d->fs;
}

static void lock_now(struct locking *l, const char *reason, struct locking_result *out)
{
	struct lock_step s = { .l = l, .reason = reason };

	atomic_store(&l->wanted, true);
	out->kept = fs_lock_begin(l->d->fs);
	sync_stop(l->d->sync);
	pthread_rwlock_wrlock(&l->users);
	fs_lock(l->d->fs, take_keys, &s);
	set_reason(l, reason);
	pthread_rwlock_unlock(&l->users);
	out->code = s.code;
	log_info("locked: %s", reason);
	if (s.code)
		log_error("what was written last is not committed; it stays in memory: %s",
			error_text(s.code));
	if (out->kept)
		log_warning("of %u files the kernel kept pages", out->kept);
}

int locking_lock(struct locking *l, const char *reason, struct locking_result *out)
{
	int r = 0;

	*out = (struct locking_result){ 0 };
	pthread_mutex_lock(&l->turn);
	if (!may(l))
		r = -ESHUTDOWN;
	else if (!locking_reason(l))
		lock_now(l, reason, out);
	secret_wipe_stack(); /* what was written last was committed by this thread */
	pthread_mutex_unlock(&l->turn);
	return r;
}

/* --- unlock --- */

struct unlock_step {
	struct locking *l;
	const struct secret *secret;
	char **error;
};

static int give_keys(void *arg, struct sync **sync)
{
	struct unlock_step *s = arg;
	struct daemon_state *d = s->l->d;
	int r = opening_unlock(d->config, s->secret, s->l->offline, d->volume, s->error);

	if (r)
		return r;
	r = locking_sync(s->l, &d->sync, s->error);
	if (!r)
		r = sync_start(d->sync);
	if (!r) {
		note(s->l, "unlock", NULL);
		*sync = d->sync;
		return 0;
	}
	sync_free(steal_ptr(&d->sync));
	(void)!volume_lock(d->volume);
	return r;
}

int locking_unlock(struct locking *l, const struct secret *secret, char **error)
{
	struct unlock_step s = { l, secret, error };
	int r = 0;

	pthread_mutex_lock(&l->turn);
	if (!may(l))
		r = -ESHUTDOWN;
	if (!r && locking_reason(l)) {
		pthread_rwlock_wrlock(&l->users);
		r = fs_unlock(l->d->fs, give_keys, &s);
		if (!r) {
			set_reason(l, NULL);
			atomic_store(&l->wanted, false);
			log_info("unlocked");
		}
		pthread_rwlock_unlock(&l->users);
	}
	pthread_mutex_unlock(&l->turn);
	return r;
}

/* --- by itself --- */

void locking_on_keys(void *arg, int code)
{
	struct locking *l = arg;

	pthread_mutex_lock(&l->lock);
	l->keys_code = code;
	pthread_cond_signal(&l->wake);
	pthread_mutex_unlock(&l->lock);
}

/* Why it is to be locked now, or NULL. */
static const char *look(struct locking *l)
{
	uint64_t idle_ms = l->d->config->lock_idle_ms;
	const char *why = NULL;
	int code;

	pthread_mutex_lock(&l->lock);
	code = l->keys_code;
	l->keys_code = 0;
	pthread_mutex_unlock(&l->lock);
	if (code)
		return error_text(code);
	if (!locking_enter(l))
		return NULL;
	if (idle_ms && l->d->fs && fs_idle_ms(l->d->fs) > (int64_t)idle_ms)
		why = IDLE;
	else if (!volume_lease_left_s(l->d->volume))
		why = LEASE_OVER;
	locking_leave(l);
	return why;
}

static bool wait_look(struct locking *l)
{
	const struct timespec until = clock_cond_in(LOOK_S * NS_PER_SEC);
	bool go;

	pthread_mutex_lock(&l->lock);
	if (!l->stop && !l->keys_code)
		pthread_cond_timedwait(&l->wake, &l->lock, &until);
	go = !l->stop;
	pthread_mutex_unlock(&l->lock);
	return go;
}

static void *watch(void *arg)
{
	struct locking *l = arg;
	struct locking_result result;
	const char *why;

	while (wait_look(l)) {
		why = look(l);
		if (why && locking_lock(l, why, &result))
			break;
	}
	return NULL;
}

int locking_watch(struct locking *l)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = -pthread_create(&l->thread, NULL, watch, l);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	l->watching = !r;
	return r;
}

void locking_stop(struct locking *l)
{
	if (!l)
		return;
	pthread_mutex_lock(&l->lock);
	l->stop = l->never = true;
	pthread_cond_signal(&l->wake);
	pthread_mutex_unlock(&l->lock);
	if (l->watching)
		pthread_join(l->thread, NULL);
	l->watching = false;
	pthread_mutex_lock(&l->turn); /* one that is under way ends first */
	pthread_mutex_unlock(&l->turn);
}
