#include "sync/link.h"

#include <assert.h>
#include <stdio.h>

#include "base/error.h"
#include "sync/backoff.h"

/* The one place that says what holds in each state. */
static void link_check(const struct link *l)
{
	switch (l->state) {
	case SYNC_ONLINE:
		assert(l->faults == 0);
		break;
	case SYNC_DEGRADED:
		assert(l->faults < LINK_FAULTS_MAX);
		break;
	case SYNC_OFFLINE:
	case SYNC_AUTH_NEEDED:
		break;
	case SYNC_FORCED:
		assert(!l->probing);
		break;
	default:
		assert(!"a state of the link");
	}
	assert(l->probe_max_ms >= 1);
}

static void enter(struct link *l, enum sync_state state)
{
	l->state = state;
	if (state == SYNC_ONLINE)
		l->faults = 0;
	link_check(l);
}

static void note(struct link *l, int code, const char *text)
{
	l->last_error = code;
	snprintf(l->last_error_text, sizeof(l->last_error_text), "%s", text);
}

static void schedule(struct link *l, uint64_t now_ms)
{
	uint64_t ceiling = backoff_ceiling_ms(++l->probes, LINK_PROBE_FIRST_MS, l->probe_max_ms);

	/* Half of it always: a peer that refuses at once is not to be asked in a tight loop. */
	l->next_probe_ms = now_ms + ceiling / 2 + backoff_ms(1, ceiling / 2 + 1, ceiling / 2 + 1);
	l->probing = false;
}

void link_init(struct link *l, uint64_t probe_max_ms, bool forced)
{
	*l = (struct link){ .probe_max_ms = probe_max_ms ? probe_max_ms : LINK_PROBE_MAX_MS };
	enter(l, forced ? SYNC_FORCED : SYNC_OFFLINE);
}

void link_good(struct link *l, bool probe, int64_t wall_ns)
{
	if (l->state == SYNC_FORCED)
		return;
	if (!probe && !link_usable(l))
		return; /* it was under way when the state changed */
	l->last_contact_ns = wall_ns;
	l->known = true;
	if (probe) {
		l->probing = false;
		if (l->state == SYNC_DEGRADED)
			return; /* it is still the same server; what failed has yet to succeed */
	} else {
		l->probes = 0;
	}
	note(l, 0, "");
	enter(l, SYNC_ONLINE);
}

bool link_fault(struct link *l, uint64_t now_ms, int code, const char *text)
{
	bool was_usable = link_usable(l);

	if (l->state == SYNC_FORCED)
		return false;
	note(l, code, text);
	if (was_usable && ++l->faults < LINK_FAULTS_MAX) {
		l->probing = false;
		enter(l, SYNC_DEGRADED);
		return false;
	}
	l->known = true;
	schedule(l, now_ms);
	enter(l, SYNC_OFFLINE);
	return was_usable;
}

void link_trouble(struct link *l, int code, const char *text)
{
	if (l->state == SYNC_FORCED)
		return;
	note(l, code, text);
	if (!link_usable(l))
		return;
	l->faults = 0;
	enter(l, SYNC_DEGRADED);
}

bool link_unauthorised(struct link *l, uint64_t now_ms, const char *text)
{
	bool was_usable = link_usable(l);

	if (l->state == SYNC_FORCED)
		return false;
	note(l, CE_AUTH, text);
	l->known = true;
	schedule(l, now_ms);
	enter(l, SYNC_AUTH_NEEDED);
	return was_usable;
}

void link_force(struct link *l, bool forced, uint64_t now_ms)
{
	if (forced == (l->state == SYNC_FORCED))
		return;
	l->probing = false;
	l->known = false;
	l->faults = 0;
	l->probes = 0;
	l->next_probe_ms = now_ms;
	enter(l, forced ? SYNC_FORCED : SYNC_OFFLINE);
}

void link_authorise(struct link *l, uint64_t now_ms)
{
	if (l->state != SYNC_AUTH_NEEDED)
		return;
	note(l, 0, "");
	l->known = false;
	enter(l, SYNC_OFFLINE);
	link_poke(l, now_ms);
}

void link_poke(struct link *l, uint64_t now_ms)
{
	l->probes = 0;
	l->next_probe_ms = now_ms;
}

bool link_usable(const struct link *l)
{
	return l->state == SYNC_ONLINE || l->state == SYNC_DEGRADED;
}

int link_verdict(const struct link *l)
{
	switch (l->state) {
	case SYNC_FORCED:
		return CE_OFFLINE;
	case SYNC_OFFLINE:
		return l->known ? CE_OFFLINE : 0;
	case SYNC_AUTH_NEEDED:
		return CE_AUTH;
	default:
		return 0;
	}
}

uint64_t link_probe_due_ms(const struct link *l)
{
	if (l->probing || (l->state != SYNC_OFFLINE && l->state != SYNC_AUTH_NEEDED))
		return UINT64_MAX;
	return l->next_probe_ms;
}

void link_probe_begun(struct link *l)
{
	l->probing = true;
	link_check(l);
}
