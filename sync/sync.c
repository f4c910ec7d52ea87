/* Life, the loop, what other threads ask for, and the status. See sync_priv.h for the division of
 * labour. */
#include "sync/sync.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "cache/merge.h"
#include "cache/outbox.h"
#include "cache/remote.h"
#include "sync/backoff.h"
#include "sync/rate.h"
#include "sync/sync_priv.h"

#define PARALLEL_DEFAULT 8
#define HURRY_EVERY_MS 500

static const char *const state_names[] = {
	[SYNC_OFFLINE] = "offline",
	[SYNC_ONLINE] = "online",
	[SYNC_DEGRADED] = "degraded",
	[SYNC_FORCED] = "forced-offline",
	[SYNC_AUTH_NEEDED] = "auth-needed",
};

const char *sync_state_name(enum sync_state state)
{
	return (size_t)state < ARRAY_SIZE(state_names) ? state_names[state] : "unknown";
}

/* --- for the state machines --- */

bool sync_may_call(const struct sync *s, uint64_t now_ms)
{
	return link_usable(&s->link) && !s->check_identity && s->pause_ms <= now_ms && !s->abandon;
}

void sync_note(struct sync *s, int code, const char *text)
{
	s->link.last_error = code;
	snprintf(s->link.last_error_text, sizeof(s->link.last_error_text), "%.*s",
		LINK_TEXT_MAX - 1, text);
}

static void pause_calls(struct sync *s, const struct origin_result *r)
{
	uint64_t until = sync_now_ms() + r->retry_after_ms;

	if (r->retry_after_ms && until > s->pause_ms)
		s->pause_ms = until;
}

void sync_judge(struct sync *s, const struct origin_result *r)
{
	bool lost = false;

	if (!strcmp(r->type, "device-revoked"))
		renew_ask(s);
	switch (r->code) {
	case CE_OFFLINE:
	case CE_PROTOCOL:
		s->check_identity = true;
		s->deferred.any = true; /* what the last process left */
		lost = link_fault(&s->link, sync_now_ms(), r->code, r->text);
		break;
	case CE_AUTH:
		lost = link_unauthorised(&s->link, sync_now_ms(), r->text);
		break;
	case -EBUSY:
	case -EAGAIN:
		pause_calls(s, r);
		if (r->status == 409)
			link_good(&s->link, false, clock_wall_ns());
		else
			link_trouble(&s->link, r->code, r->text);
		break;
	default:
		if (r->status)
			link_good(&s->link, false, clock_wall_ns());
	}
	s->abandon = s->abandon || lost;
}

/* Lock held. A link that works but a feed that does not is shown as degraded, with the feed's
 * reason. */
static void publish_link(struct sync *s)
{
	const struct feed *failing = feed_failing(s);
	int error = s->link.last_error;
	const char *text = s->link.last_error_text;

	if (failing && !error) {
		error = failing->error;
		text = failing->error_text;
	}
	s->status.last_contact_ns = s->link.last_contact_ns;
	s->status.last_error = error;
	snprintf(s->status.last_error_text, sizeof(s->status.last_error_text), "%s", text);
	if (s->asked.offline_set || s->asked.token_set)
		return; /* what was asked for counts already */
	s->verdict = link_verdict(&s->link);
	s->probed_gen = s->probe_over_gen;
	s->status.state = s->link.state == SYNC_ONLINE && failing ? SYNC_DEGRADED : s->link.state;
}

/* Only pinned.c waits without being counted, and for these alone: in every round it would be woken
 * for nothing. */
void sync_publish(struct sync *s)
{
	struct http_counts counts;
	enum sync_state state;
	int verdict;

	http_counts(s->http, &counts);
	pthread_mutex_lock(&s->lock);
	state = s->status.state;
	verdict = s->verdict;
	publish_link(s);
	for (struct feed *f = s->feeds; f; f = f->next)
		f->live = link_usable(&s->link) && f->call && f->waiting;
	s->status.feed_live = link_usable(&s->link) && feed_all_live(s);
	s->merge.quiet = merge_is_quiet(s);
	s->deferred.quiet = deferred_is_quiet(s);
	s->status.deletes_held = feed_any_held(s);
	s->status.paused_until_ms = s->pause_ms > sync_now_ms() ? s->pause_ms : 0;
	s->status.origin_full = s->replay.full && link_usable(&s->link);
	volume_set_origin_full(s->volume, s->status.origin_full);
	s->status.fetched_bytes = s->fetch.bytes;
	s->status.sent_bytes = counts.sent;
	s->status.requests = counts.requests;
	if (s->waiters || s->status.state != state || s->verdict != verdict ||
		atomic_load(&s->names_changed))
		pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

/* --- the loop --- */

static void abandon_all(struct sync *s)
{
	s->abandon = false;
	connect_abandon(s);
	feed_abandon(s);
	early_abandon(s);
	replay_abandon(s);
	fetch_abandon(s);
	bulk_abandon(s);
	check_abandon(s);
	question_abandon(s);
	job_abandon(s);
}

static void set_token(struct sync *s, struct secret *token)
{
	int r = http_set_token(s->http, token);

	secret_free(token);
	if (r)
		sync_note(s, r, "the token has bytes that a header cannot carry");
	link_authorise(&s->link, sync_now_ms());
	s->check_identity = true; /* at once: a person waits for the verdict */
	s->connect_ms = 0;
}

static void set_rates(struct sync *s, uint64_t upload, uint64_t download)
{
	s->replay.rate = upload;
	http_set_rates(s->http, upload, download);
}

static void poke(struct sync *s, bool insist)
{
	link_poke(&s->link, sync_now_ms());
	s->connect_ms = 0;
	if (insist)
		s->pause_ms = 0;
}

static void accept_old(struct sync *s)
{
	if (volume_accept_old(s->volume)) {
		sync_note(s, CE_HELD,
			"the old copy could not be accepted: the disk is full or broken");
		return;
	}
	pthread_mutex_lock(&s->lock);
	s->status.rolled_back_volume = false;
	pthread_mutex_unlock(&s->lock);
	s->replay.again = true;
}

/* What other threads asked for since the last round. */
static void take_asked(struct sync *s)
{
	__typeof__(s->asked) asked;

	pthread_mutex_lock(&s->lock);
	asked = s->asked;
	s->heard_gen = s->poke_gen;
	s->asked.token = NULL;
	s->asked.offline_set = s->asked.token_set = s->asked.poke = s->asked.insist = false;
	s->asked.was_offline = false;
	s->asked.allow_deletes = s->asked.accept_restored = s->asked.accept_old = false;
	s->asked.rates_set = false;
	pthread_mutex_unlock(&s->lock);
	if (asked.offline_set && asked.offline != (s->link.state == SYNC_FORCED)) {
		link_force(&s->link, asked.offline, sync_now_ms());
		abandon_all(s);
	} else if (asked.was_offline && !asked.offline) {
		abandon_all(s); /* offline and back before this thread looked: what hangs goes all
				   the same */
	}
	if (asked.token_set)
		set_token(s, asked.token);
	if (asked.rates_set)
		set_rates(s, asked.upload_rate, asked.download_rate);
	if (asked.poke)
		poke(s, asked.insist);
	if (asked.allow_deletes) {
		feed_allow_deletes(s);
		s->replay.again = true;
	}
	if (asked.accept_restored && s->status.restored_server)
		connect_accept(s);
	if (asked.accept_old)
		accept_old(s);
}

static uint64_t hurry_step(struct sync *s, uint64_t now_ms)
{
	if (!s->hurry_feeds)
		return SYNC_NEVER;
	if (s->hurry_ms > now_ms)
		return s->hurry_ms;
	s->hurry_feeds = false;
	s->hurry_ms = now_ms + HURRY_EVERY_MS;
	feed_hurry(s);
	return SYNC_NEVER;
}

static uint64_t steps(struct sync *s)
{
	static uint64_t (*const all[])(struct sync * s, uint64_t now_ms) = { connect_step,
		hurry_step, feed_step, replay_step, early_step, fetch_step, bulk_step, check_step, question_step, job_step,
		deferred_step, renew_step, merge_step };
	uint64_t now = sync_now_ms(), due = s->pause_ms > now ? s->pause_ms : SYNC_NEVER, one;

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		one = all[i](s, now);
		due = MIN_OF(due, one);
	}
	return due;
}

/*
 * Local changes are looked at when they pause for SYNC_QUIET_MS, and after SYNC_PATIENCE_MS at the
 * latest: a program that makes thousands of files has the machine for itself, and what it removes
 * again is never sent. Until then the flag stays, so that no further change wakes this thread.
 * Returns when to look again.
 */
static uint64_t take_changes(struct sync *s, uint64_t now_ms)
{
	uint64_t due;

	if (!atomic_load(&s->outbox_changed))
		return SYNC_NEVER;
	if (!s->burst_ms)
		s->burst_ms = now_ms;
	due = MIN_OF(atomic_load(&s->changed_ms) + SYNC_QUIET_MS, s->burst_ms + SYNC_PATIENCE_MS);
	if (due > now_ms && !replay_awaited(s))
		return due;
	atomic_store(&s->outbox_changed, false);
	s->burst_ms = 0;
	s->replay.again = true;
	s->deferred.due_ms = 0;
	return SYNC_NEVER;
}

static void round_once(struct sync *s)
{
	uint64_t quiet, due, now;

	take_asked(s);
	worker_reap(s->index);
	worker_reap(s->fill);
	worker_reap(s->merge.worker);
	renew_reap(s);
	quiet = take_changes(s, sync_now_ms());
	if (s->abandon)
		abandon_all(s);
	due = MIN_OF(quiet, steps(s));
	sync_publish(s);
	now = sync_now_ms();
	http_run(s->http,
		s->abandon || due <= now ? 0 : (unsigned)MIN_OF(due - now, UINT64_C(60000)));
}

static void *sync_main(void *arg)
{
	struct sync *s = arg;

	while (!atomic_load(&s->stop))
		round_once(s);
	abandon_all(s);
	return NULL;
}

/* --- life --- */

static void wake(void *arg)
{
	struct sync *s = arg;

	http_wake(s->http);
}

static void on_outbox(void *arg)
{
	struct sync *s = arg;

	atomic_store(&s->changed_ms, sync_now_ms());
	atomic_store(&s->names_changed, true);
	if (!atomic_exchange(&s->outbox_changed, true))
		http_wake(s->http);
}

static void locks_init(struct sync *s)
{
	pthread_mutex_init(&s->lock, NULL);
	clock_cond_init(&s->changed);
}

static int open_origin(struct sync *s, const struct sync_options *o, char **error)
{
	struct origin_options options = { .device_id = volume_device_id(s->volume) };
	const struct origin_ops *ops = origin_driver(o->origin);
	_cleanup_free_ char *base = NULL;
	int r = http_check_url(o->origin, &base, error);

	if (r)
		return r;
	if (!ops) {
		*error = strdup("no driver for this kind of origin");
		return CE_USAGE;
	}
	r = http_new(base, o->ca_file, &s->http);
	if (r)
		return r;
	set_rates(s, o->upload_rate, o->download_rate);
	s->status.upload_rate = o->upload_rate;
	s->status.download_rate = o->download_rate;
	options.http = s->http;
	r = http_set_token(s->http, o->token);
	if (r == CE_USAGE)
		*error = strdup("the token has bytes that a header cannot carry (space, line end, "
				"not ASCII)");
	return r ? r : ops->open(&options, &s->origin);
}

int sync_new(struct sync_options *o, struct sync **out, char **error)
{
	struct sync *s = calloc(1, sizeof(*s));
	int r = s ? 0 : -ENOMEM;

	if (s) {
		locks_init(s);
		s->volume = o->volume;
		s->parallel = o->parallel ? o->parallel : PARALLEL_DEFAULT;
		s->debounce_ms = o->debounce_ms ? o->debounce_ms : SYNC_DEBOUNCE_MS;
		link_init(&s->link, o->probe_max_ms, o->offline);
		s->verdict = link_verdict(&s->link);
		s->probed_gen = s->probe_over_gen;
		s->status.state = s->link.state;
		s->status.rolled_back_volume = volume_is_old(o->volume);
		s->check_identity = true;
		s->deferred.any = true; /* what the last process left */
		replay_init(s);
		s->on_keys = o->on_keys;
		s->on_keys_arg = o->on_keys_arg;
		r = freshness_load(s, o, error);
	}
	if (!r) {
		r = open_origin(s, o, error);
		if (!r)
			r = renew_open(s, o, error);
	}
	secret_free(steal_ptr(&o->token));
	if (r) {
		sync_free(s);
		return r;
	}
	*out = s;
	return 0;
}

int sync_start(struct sync *s)
{
	int r = connect_load(s);

	if (!r)
		r = feed_load(s);
	if (!r)
		r = worker_new(wake, s, &s->index);
	if (!r)
		r = worker_new(wake, s, &s->fill);
	if (!r)
		r = worker_new(wake, s, &s->merge.worker);
	if (!r)
		r = renew_start(s, wake);
	if (!r)
		r = worker_thread(&s->thread, sync_main, s);
	if (r) {
		worker_free(steal_ptr(&s->index));
		worker_free(steal_ptr(&s->fill));
		worker_free(steal_ptr(&s->merge.worker));
		renew_stop(s);
		return r;
	}
	s->running = true;
	volume_on_outbox(s->volume, on_outbox, s);
	volume_on_growth(s->volume, early_grown, s);
	on_outbox(s);
	r = pinned_start(s);
	if (r)
		sync_stop(s);
	return r;
}

void sync_stop(struct sync *s)
{
	if (!s->running)
		return;
	volume_on_outbox(s->volume, NULL, NULL);
	volume_on_growth(s->volume, NULL, NULL);
	atomic_store(&s->stop, true);
	http_wake(s->http);
	pthread_mutex_lock(&s->lock);
	s->verdict = CE_OFFLINE;
	pthread_cond_broadcast(&s->changed);
	while (s->waiters)
		pthread_cond_wait(&s->changed, &s->lock);
	pthread_mutex_unlock(&s->lock);
	pinned_stop(s);
	pthread_join(s->thread, NULL);
	renew_stop(s);
	worker_free(steal_ptr(&s->merge.worker));
	worker_free(s->index);
	worker_free(s->fill); /* a piece that ends may still hand it the end of its transfer */
	s->index = s->fill = NULL;
	s->running = false;
}

void sync_free(struct sync *s)
{
	if (!s)
		return;
	sync_stop(s);
	feed_free_all(s);
	bulk_free_all(s);
	check_free_all(s);
	question_free_all(s);
	job_free_all(s);
	merge_free_all(s);
	renew_free(s);
	if (s->origin)
		s->origin->ops->close(s->origin);
	http_free(s->http);
	free(s->rules);
	secret_free(s->asked.token);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* --- waiting --- */

void sync_deadline(unsigned ms, struct timespec *out)
{
	*out = clock_cond_in(ms * NS_PER_MS);
}

int sync_wait_change(
	struct sync *s, const struct timespec *deadline, const struct sync_cancel *cancel)
{
	if (atomic_load(&s->stop))
		return CE_OFFLINE;
	if (cancel && atomic_load(&cancel->set))
		return -EINTR;
	return pthread_cond_timedwait(&s->changed, &s->lock, deadline) == ETIMEDOUT ? -ETIMEDOUT
										    : 0;
}

void sync_entered(struct sync *s)
{
	pthread_mutex_lock(&s->lock);
	s->waiters++;
	pthread_mutex_unlock(&s->lock);
}

void sync_left(struct sync *s)
{
	pthread_mutex_lock(&s->lock);
	s->waiters--;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

void sync_cancel(struct sync *s, struct sync_cancel *c)
{
	atomic_store(&c->set, true);
	pthread_mutex_lock(&s->lock);
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

static bool is_listed(const struct sync *s)
{
	const struct feed *f = s->feeds;

	while (f && f->listed)
		f = f->next;
	return s->stores_known && !f;
}

int sync_wait_listed(struct sync *s, unsigned deadline_ms, struct sync_cancel *cancel)
{
	struct timespec deadline;
	int r = 0;

	sync_deadline(deadline_ms, &deadline);
	pthread_mutex_lock(&s->lock);
	s->waiters++;
	while (!r && !is_listed(s)) {
		r = s->verdict;
		if (!r)
			r = sync_wait_change(s, &deadline, cancel);
	}
	pthread_mutex_unlock(&s->lock);
	sync_left(s);
	return r == -ETIMEDOUT ? CE_OFFLINE : r;
}

uint64_t sync_through_gen(const struct sync *s)
{
	uint64_t gen = s->stores_known ? s->replay.quiet_gen : 0;

	for (const struct feed *f = s->feeds; f; f = f->next)
		gen = MIN_OF(gen, f->seen_gen);
	return gen;
}

void sync_calm(struct sync *s, uint64_t *calm_gen, uint64_t gen)
{
	if (*calm_gen == gen)
		return;
	pthread_mutex_lock(&s->lock);
	*calm_gen = sync_through_gen(s) >= gen ? gen : 0;
	pthread_mutex_unlock(&s->lock);
}

void sync_moved_on(struct sync *s)
{
	pthread_mutex_lock(&s->lock);
	s->replay.quiet_gen = s->deferred.calm_gen = s->merge.calm_gen = 0;
	pthread_mutex_unlock(&s->lock);
	s->replay.again = true;
}

/* Lock held: is nothing left to do of what was there when `gen` was asked for? */
static bool is_idle(const struct sync *s, uint64_t gen)
{
	return sync_through_gen(s) >= gen && s->deferred.quiet && s->deferred.calm_gen >= gen &&
	       s->merge.quiet && s->merge.calm_gen >= gen &&
	       merge_noted(s->volume) == s->merge.seen;
}

/* Lock held: does the brake hold what was asked for since `gen`? */
static bool is_held(const struct sync *s, uint64_t gen)
{
	const struct feed *f = s->feeds;

	while (f && !(f->held && f->held_gen >= gen))
		f = f->next;
	return f || s->status.rolled_back_volume;
}

static int judge_idle(struct sync *s)
{
	struct outbox_counts c;
	int r = outbox_counts(s->volume, &c);

	if (r)
		return r;
	return c.queued + c.inflight + c.refused + c.held ? CE_HELD : 0;
}

static void ask_again(struct sync *s, bool insist)
{
	pthread_mutex_lock(&s->lock);
	s->poke_gen++;
	s->asked.poke = true;
	s->asked.insist |= insist;
	pthread_mutex_unlock(&s->lock);
	http_wake(s->http);
}

int sync_wait_idle(struct sync *s, unsigned timeout_ms)
{
	struct timespec deadline;
	uint64_t gen;
	int r = 0;

	sync_deadline(timeout_ms, &deadline);
	ask_again(s, false);
	pthread_mutex_lock(&s->lock);
	gen = s->poke_gen;
	s->waiters++;
	while (!r && !is_idle(s, gen)) {
		if (s->verdict && (s->status.state == SYNC_FORCED || s->probed_gen >= gen))
			r = s->verdict; /* found out after the call was made */
		else if (is_held(s, gen))
			r = CE_HELD;
		else
			r = sync_wait_change(s, &deadline, NULL);
	}
	pthread_mutex_unlock(&s->lock);
	sync_left(s);
	return r ? r : judge_idle(s);
}

/* --- requests --- */

void sync_set_offline(struct sync *s, bool offline)
{
	pthread_mutex_lock(&s->lock);
	s->asked.offline_set = true;
	s->asked.offline = offline;
	s->asked.was_offline |= offline;
	if (offline || s->status.state == SYNC_FORCED) {
		s->verdict = offline ? CE_OFFLINE : 0;
		s->status.state = offline ? SYNC_FORCED : SYNC_OFFLINE;
	}
	pthread_mutex_unlock(&s->lock);
	http_wake(s->http);
}

void sync_set_token(struct sync *s, struct secret *token)
{
	pthread_mutex_lock(&s->lock);
	secret_free(s->asked.token);
	s->asked.token = token;
	s->asked.token_set = true;
	if (s->verdict == CE_AUTH)
		s->verdict = 0;
	pthread_mutex_unlock(&s->lock);
	http_wake(s->http);
}

bool sync_rate_valid(uint64_t rate)
{
	return !rate || (rate >= RATE_MIN_BYTES && rate <= RATE_MAX_BYTES);
}

void sync_set_rates(struct sync *s, uint64_t upload, uint64_t download)
{
	pthread_mutex_lock(&s->lock);
	s->status.upload_rate = s->asked.upload_rate = upload;
	s->status.download_rate = s->asked.download_rate = download;
	s->asked.rates_set = true;
	pthread_mutex_unlock(&s->lock);
	http_wake(s->http);
}

void sync_poke(struct sync *s)
{
	ask_again(s, true);
}

int sync_allow_deletes(struct sync *s)
{
	int r = outbox_allow_deletes(s->volume);

	if (r)
		return r;
	pthread_mutex_lock(&s->lock);
	s->asked.allow_deletes = true;
	pthread_mutex_unlock(&s->lock);
	http_wake(s->http);
	return 0;
}

void sync_accept_old(struct sync *s)
{
	pthread_mutex_lock(&s->lock);
	s->asked.accept_old = true;
	pthread_mutex_unlock(&s->lock);
	http_wake(s->http);
}

void sync_accept_restored(struct sync *s)
{
	pthread_mutex_lock(&s->lock);
	s->asked.accept_restored = true;
	pthread_mutex_unlock(&s->lock);
	http_wake(s->http);
}

void sync_status(struct sync *s, struct sync_status *out)
{
	pthread_mutex_lock(&s->lock);
	*out = s->status;
	pthread_mutex_unlock(&s->lock);
}
