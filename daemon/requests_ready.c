/* What would be missing in a time without a network: looked at, not repaired, but for what one
 * round trip repairs (unsent work, the lease). */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/error.h"
#include "cache/enrolment.h"
#include "cache/outbox.h"
#include "cache/pin.h"
#include "cache/remote.h"
#include "cache/space.h"
#include "daemon/opening.h"
#include "daemon/report.h"
#include "daemon/requests_priv.h"
#include "sync/carry.h"

#define SETTLE_MS 10000
#define MS_PER_MINUTE 60000
#define S_PER_HOUR 3600
#define S_PER_MINUTE 60
/* What renewing it took is no reason to say no: leases and journeys are often of the same length.
 */
#define LEASE_SLACK_S 60

struct ready {
	struct request *q;
	struct json *problems;
	uint64_t for_ms;
	bool online;
	int error;
};

static void problem(struct ready *c, const char *kind, const char *fmt, ...) PRINTF_LIKE(3, 4);

static void problem(struct ready *c, const char *kind, const char *fmt, ...)
{
	struct json *o = json_append_object(c->problems);
	char text[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	json_set_string(o, "kind", kind);
	report_text(o, "text", text);
}

/* Sends and polls first: what is known after that is of now. */
static void look_at_link(struct ready *c)
{
	struct sync_status s;

	if (!c->q->d->sync) {
		problem(c, "offline", "the volume is not mounted: nothing is sent or fetched now");
		return;
	}
	sync_poke(c->q->d->sync);
	if (sync_wait_idle(c->q->d->sync, SETTLE_MS) == 0)
		c->online = true;
	sync_status(c->q->d->sync, &s);
	c->online = s.state == SYNC_ONLINE || s.state == SYNC_DEGRADED;
	if (s.state == SYNC_AUTH_NEEDED)
		problem(c, "token", "the origin refuses the token");
	else if (!c->online)
		problem(c, "offline",
			"the origin cannot be reached: whether all of this is current, and the "
			"token valid, is not known");
	if (s.deletes_held || s.restored_server || s.rolled_back_volume)
		problem(c, "held", "sync waits for a decision: `cachet status` says which");
}

static void look_at_unsent(struct ready *c)
{
	struct outbox_counts n;
	int r = outbox_counts(c->q->d->volume, &n);

	if (r) {
		c->error = r;
		return;
	}
	if (n.queued + n.inflight)
		problem(c, "unsent", "%" PRIu64 " changes are not at the origin yet",
			n.queued + n.inflight);
	if (n.refused + n.held)
		problem(c, "unsent", "%" PRIu64 " changes are refused or held: `cachet journal ls`",
			n.refused + n.held);
}

static int look_at_store(void *arg, const struct remote_store *s)
{
	struct ready *c = arg;
	struct sync_freshness fresh = { .strict = false };

	if (!s->listed && !s->local)
		problem(c, "store",
			"the store %s was never listed: what is in it is not known here", s->name);
	if (c->q->d->sync)
		sync_freshness(c->q->d->sync, s->id, &fresh);
	if (fresh.strict)
		problem(c, "freshness",
			"the store %s is strict: without the origin nothing in it opens", s->name);
	else if (fresh.max_stale_ms && fresh.max_stale_ms < c->for_ms)
		problem(c, "freshness",
			"nothing in the store %s opens when it was not validated for %" PRIu64
			" min (max-stale)",
			s->name, fresh.max_stale_ms / MS_PER_MINUTE);
	return 0;
}

static int look_at_pattern(void *arg, const char *set, const char *pattern)
{
	struct ready *c = arg;
	struct pin_state state;
	int r = *set ? 0 : pin_look(c->q->d->volume, set, pattern, &state);

	if (!r && !*set && state.idle)
		problem(c, "pin", "nothing is there that the pin %s means", pattern);
	return r;
}

static void look_at_pins(struct ready *c)
{
	struct volume *v = c->q->d->volume;
	struct pin_state state;
	int r = pin_look(v, NULL, NULL, &state);

	if (!r)
		r = pin_each(v, look_at_pattern, c);
	if (!r && state.missing_files)
		problem(c, "content", "%" PRIu64 " pinned files, %" PRIu64 " bytes, are not here%s",
			state.missing_files, state.missing_bytes,
			c->online ? " yet: they are being fetched" : "");
	if (!r && state.bytes > space_content_max(v))
		problem(c, "room", "what is pinned has grown beyond the bound of the volume");
	if (r)
		c->error = r;
	else
		json_set_u64(c->q->out, "pinned_files", state.files);
}

/* A lease that is too short is asked for anew: it then has its whole length. */
static void look_at_lease(struct ready *c)
{
	_cleanup_(carry_freep) struct carry *carry = NULL;
	_cleanup_free_ char *error = NULL;
	struct volume *v = c->q->d->volume;
	int64_t left_s = volume_lease_left_s(v),
		need_s = (int64_t)(c->for_ms / 1000) - LEASE_SLACK_S;

	if (left_s < need_s && c->online && !opening_carry(c->q->d->config, &carry, &error) &&
		carry && !volume_renew_keys(v, carry_link(carry), false, &error))
		left_s = volume_lease_left_s(v);
	if (left_s != INT64_MAX)
		json_set_i64(c->q->out, "lease_left_s", left_s);
	if (left_s < need_s || left_s <= 0)
		problem(c, "lease",
			"the lease of the key ends in %" PRId64 " h %" PRId64
			" min: without the server the volume opens no longer than that",
			MAX_OF(left_s, 0) / S_PER_HOUR,
			MAX_OF(left_s, 0) % S_PER_HOUR / S_PER_MINUTE);
}

int requests_ready(struct request *q)
{
	struct ready c = { .q = q, .problems = json_set_array(q->out, "problems") };
	int r;

	if (json_has(q->in, "for_ms") && json_get_u64(q->in, "for_ms", &c.for_ms))
		return say(q, CE_USAGE, "'for_ms' is a number");
	look_at_link(&c);
	look_at_unsent(&c);
	r = remote_stores(q->d->volume, look_at_store, &c);
	look_at_pins(&c);
	look_at_lease(&c);
	if (r || c.error)
		return r ? r : c.error;
	json_set_bool(q->out, "ready", !json_count(c.problems));
	return 0;
}
