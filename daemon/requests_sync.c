/* The link as a person wants it, and waiting for it. */
#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "daemon/locking.h"
#include "daemon/requests_priv.h"

#define WAIT_SLICE_MIN_MS 2000
#define WAIT_SLICE_MAX_MS 30000
#define PROBE_PAUSE_MIN_MS 100
#define PROBE_PAUSE_MAX_MS 1000
#define PAUSE_LONG_MS 60000 /* of a Retry-After: not waited for unless a time was given */

/* What is not said stays. */
static int take_rate(struct request *q, const char *key, uint64_t *rate)
{
	if (!json_has(q->in, key))
		return 0;
	if (json_get_u64(q->in, key, rate) || !sync_rate_valid(*rate))
		return say(q, CE_USAGE, "a rate is " SYNC_RATE_WANTED);
	return 0;
}

int requests_sync_online(struct request *q)
{
	struct sync_status s;
	int r;

	sync_status(q->d->sync, &s);
	r = take_rate(q, "upload_rate", &s.upload_rate);
	if (!r)
		r = take_rate(q, "download_rate", &s.download_rate);
	if (r)
		return r;
	sync_set_rates(q->d->sync, s.upload_rate, s.download_rate);
	json_set_u64(q->out, "upload_rate", s.upload_rate);
	json_set_u64(q->out, "download_rate", s.download_rate);
	sync_set_offline(q->d->sync, false);
	sync_poke(q->d->sync);
	return 0;
}

int requests_sync_offline(struct request *q)
{
	sync_set_offline(q->d->sync, true);
	return 0;
}

int requests_sync_allow_deletes(struct request *q)
{
	int r = sync_allow_deletes(q->d->sync);

	sync_poke(q->d->sync);
	return r;
}

int requests_sync_accept_old(struct request *q)
{
	sync_accept_old(q->d->sync);
	sync_poke(q->d->sync);
	return 0;
}

int requests_sync_accept_restored(struct request *q)
{
	sync_accept_restored(q->d->sync);
	sync_poke(q->d->sync);
	return 0;
}

static int64_t paused_ms(const struct request *q)
{
	struct sync_status s;

	sync_status(q->d->sync, &s);
	return s.paused_until_ms ? (int64_t)s.paused_until_ms - clock_boot_ms() : 0;
}

int requests_sync_explain(struct request *q, int r)
{
	struct sync_status s;

	sync_status(q->d->sync, &s);
	if (s.state == SYNC_AUTH_NEEDED)
		return say(q, CE_AUTH,
			"the origin refuses the token; what is unsent stays here, sealed");
	if (s.state == SYNC_FORCED)
		return say(q, CE_OFFLINE,
			"the volume was told to be offline; `cachet online` ends that");
	if (r == CE_OFFLINE || s.state == SYNC_OFFLINE)
		return say(q, CE_OFFLINE,
			"the origin cannot be reached; what is unsent stays here, sealed, and is "
			"sent when it can");
	if (r == CE_HELD)
		return say(
			q, r, "some changes are refused or held: `cachet journal ls` shows them");
	if (r == -ETIMEDOUT && paused_ms(q) > PAUSE_LONG_MS)
		return say(q, r,
			"the origin wants not to be asked for a while (`cachet status`); what is "
			"unsent stays here, sealed, and is sent then");
	if (r == -ETIMEDOUT)
		return say(q, r,
			"not everything could be sent in that time; it goes on in the background");
	return r;
}

/* The volume is being locked: its network is stopped already. */
static bool is_wanted(const struct request *q)
{
	return q->d->locking && locking_is_wanted(q->d->locking);
}

/*
 * One wait, cut into longer and longer slices (each begins with a new poll of the origin, so short
 * ones would never end on a slow link), between which it is seen whether anybody still waits.
 */
static int wait_slices(struct request *q, int64_t end_ms)
{
	int64_t slice_ms = WAIT_SLICE_MIN_MS;
	int r;

	do {
		int64_t left = MAX_OF(end_ms - clock_boot_ms(), 1);

		if (q->caller->gone(q->caller->arg))
			return say(q, -EINTR, "the daemon is ending");
		r = sync_wait_idle(q->d->sync, (unsigned)MIN_OF(left, slice_ms));
		slice_ms = MIN_OF(2 * slice_ms, WAIT_SLICE_MAX_MS);
		if (end_ms == INT64_MAX && paused_ms(q) > PAUSE_LONG_MS)
			break;
	} while (r == -ETIMEDOUT && clock_boot_ms() < end_ms && !is_wanted(q));
	return r;
}

/* Offline is an answer (it was just tried), unless the caller gave a time: then it is tried until
 * that is over. */
static int wait_idle(struct request *q, uint64_t timeout_ms)
{
	int64_t end_ms = timeout_ms ? clock_boot_ms() + (int64_t)timeout_ms : INT64_MAX;
	int64_t pause_ms = PROBE_PAUSE_MIN_MS;
	struct sync_status s;
	int r;

	for (;;) {
		r = wait_slices(q, end_ms);
		sync_status(q->d->sync, &s);
		if (r != CE_OFFLINE || s.state == SYNC_FORCED || s.state == SYNC_AUTH_NEEDED)
			break;
		if (!timeout_ms || clock_boot_ms() + pause_ms > end_ms || is_wanted(q))
			break;
		usleep((useconds_t)(pause_ms * 1000));
		pause_ms = MIN_OF(2 * pause_ms, PROBE_PAUSE_MAX_MS);
	}
	return r ? requests_sync_explain(q, r) : 0;
}

int requests_sync(struct request *q)
{
	uint64_t timeout_ms = 0;
	bool wait = false;

	if ((json_has(q->in, "wait") && json_get_bool(q->in, "wait", &wait)) ||
		(json_has(q->in, "timeout_ms") && json_get_u64(q->in, "timeout_ms", &timeout_ms)))
		return say(q, CE_USAGE, "'wait' is true or false, 'timeout_ms' a number");
	sync_poke(q->d->sync);
	return wait ? wait_idle(q, MIN_OF(timeout_ms, (uint64_t)INT32_MAX)) : 0;
}
