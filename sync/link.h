/*
 * The state of the link: which calls are worth making. Pure: it does no I/O and is told the time.
 *
 *                 link_good(probe)            link_fault, link_trouble
 *      OFFLINE ─────────────────▶ ONLINE ─────────────────────────────▶ DEGRADED
 *       ▲ ▲ ▲                      ▲ │ ▲                                   │ │
 *       │ │ └──────────────────────┼─┼─┼── link_fault: LINK_FAULTS_MAX ────┘ │
 *       │ │                        │ │ └────────────── link_good ────────────┘
 *       │ │   link_unauthorised: from any state but FORCED
 *       │ │                        │ ▼
 *       │ └── link_authorise, ── AUTH_NEEDED ── link_good(probe) ──▶ ONLINE
 *       │     link_fault
 *       └── link_force(false) ── FORCED ◀── link_force(true) from anywhere
 *
 * A fault is an answer that did not come or is not the origin's word; LINK_FAULTS_MAX in a row,
 * without a good answer between, are OFFLINE. Trouble is the origin's own word that it cannot serve
 * (5xx, 429): it degrades and never goes offline.
 *
 * In OFFLINE and AUTH_NEEDED only the probe (capabilities) is sent, at LINK_PROBE_FIRST_MS ..
 * probe_max_ms with jitter. The interval begins anew only after an answer to something else than
 * the probe: an origin of which only the probe works is not asked every two seconds.
 */
#ifndef CACHET_SYNC_LINK_H
#define CACHET_SYNC_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "sync/sync.h"

#define LINK_FAULTS_MAX 2
#define LINK_PROBE_FIRST_MS 2000
#define LINK_PROBE_MAX_MS 60000
#define LINK_TEXT_MAX 160

struct link {
	enum sync_state state;
	bool known;      /* OFFLINE because a probe failed, not because none was made yet */
	bool probing;    /* a probe is under way */
	unsigned faults; /* in a row */
	unsigned probes; /* failed or fruitless, in a row */
	uint64_t probe_max_ms, next_probe_ms;
	int64_t last_contact_ns;
	int last_error;
	char last_error_text[LINK_TEXT_MAX];
};

void link_init(struct link *l, uint64_t probe_max_ms, bool forced);

void link_good(struct link *l, bool probe, int64_t wall_ns);
/* True when this made the link unusable: calls under way are to be abandoned. */
bool link_fault(struct link *l, uint64_t now_ms, int code, const char *text);
void link_trouble(struct link *l, int code, const char *text);
bool link_unauthorised(struct link *l, uint64_t now_ms, const char *text);
void link_force(struct link *l, bool forced, uint64_t now_ms);
void link_authorise(struct link *l, uint64_t now_ms);
/* Somebody wants to know now. */
void link_poke(struct link *l, uint64_t now_ms);

/* ONLINE or DEGRADED. */
bool link_usable(const struct link *l);
/* 0, or what a caller that needs the network gets at once: CE_OFFLINE, CE_AUTH. Not yet known is 0:
 * wait. */
int link_verdict(const struct link *l);
/* When the next probe is due; UINT64_MAX = none. */
uint64_t link_probe_due_ms(const struct link *l);
void link_probe_begun(struct link *l);

#endif
