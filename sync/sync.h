/*
 * Everything that talks to the origin: fetch, revalidate, replay, link state. No SQL, no keys.
 *
 *     sync_new → sync_start → sync_fetch / sync_wait_listed (from FUSE threads) ... → sync_stop →
 * sync_free
 *
 * One thread runs one curl multi loop (sync/http.h) and all state machines: the feed of each store,
 * the replay of the outbox, fetches. Other threads hand it requests and wait on a condition,
 * interruptibly and with a deadline; they never do network I/O and hold no lock of the cache while
 * they wait.
 *
 *              connected                 n failures, or slow
 *   OFFLINE ─────────────▶ ONLINE ───────────────────────────▶ DEGRADED
 *      ▲ ▲                   │  ▲            good answer          │
 *      │ └── 2 failures ─────┘  └─────────────────────────────────┘
 *      │    401, or 403 of a read, on any call ──▶ AUTH_NEEDED ── sync_set_token, probe ──▶ ONLINE
 *   FORCED (sync_set_offline) from anywhere, and back to OFFLINE, which probes at once
 *
 * When offline, forced or without authorisation, sync_fetch fails at once with CE_OFFLINE
 * (CE_AUTH): promise P6. A wrong answer (HTML, cut off, of another instance, invalid JSON) is
 * CE_PROTOCOL: never data, never absence (P3).
 *
 * Crash: everything that matters is in the volume; a new sync goes on from there.
 */
#ifndef CACHET_SYNC_SYNC_H
#define CACHET_SYNC_SYNC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "base/macros.h"
#include "base/secret.h"
#include "cache/file.h"
#include "cache/volume.h"

#define SYNC_FETCH_DEADLINE_MS 30000
#define SYNC_FETCH_UNIT_BYTES (1u << 20)
#define SYNC_DEBOUNCE_MS 300
#define SYNC_QUIET_MS 500      /* local changes are sent when there was none for so long */
#define SYNC_PATIENCE_MS 10000 /* or when the first of them is so old */
#define SYNC_STOP_MS 2000

struct sync;

enum sync_state { SYNC_OFFLINE, SYNC_ONLINE, SYNC_DEGRADED, SYNC_FORCED, SYNC_AUTH_NEEDED };

struct sync_options {
	struct volume *volume; /* borrowed */
	const char *origin;    /* https://…, or http:// on loopback; else CE_USAGE */
	struct secret *token;  /* taken; may be NULL */
	const char *ca_file;   /* NULL = the system's */
	bool offline;          /* start forced offline */
	bool allow_raw_kek;
	/* The server's signed word about this device: CE_REVOKED or CE_UNTRUSTED. On the loop's thread; must not
	 * block. May be NULL. */
	void (*on_keys)(void *arg, int code);
	void *on_keys_arg;
	const char *freshness; /* rules (sync/freshness.h), or NULL */
	bool strict;           /* for all stores, beyond the rules */
	uint64_t max_stale_ms; /* likewise, if lower than the rule's; 0 = none */
	unsigned parallel;     /* transfers at once; 0 = 8 */
	unsigned debounce_ms;  /* 0 = default */
	uint64_t probe_max_ms; /* ceiling of the reconnect interval; 0 = 60 s */
	uint64_t upload_rate, download_rate; /* bytes a second (sync/rate.h); 0 = no bound */
};

int sync_new(struct sync_options *o, struct sync **out, char **error) MUST_CHECK;
int sync_start(struct sync *s) MUST_CHECK;
/* Stops within SYNC_STOP_MS in every state; transfers are abandoned, waiting callers get
 * CE_OFFLINE. */
void sync_stop(struct sync *s);
void sync_free(struct sync *s);

/* Lets a waiting caller go: sync_cancel from any thread (a FUSE interrupt). */
struct sync_cancel {
	atomic_bool set;
};
void sync_cancel(struct sync *s, struct sync_cancel *c);

/*
 * Brings [off, off+len) of the file here. 0 when nothing is missing in the range; CE_OFFLINE (at
 * once when known to be offline, else at the deadline), -EINTR, CE_STALE (the origin has another
 * version now), CE_GONE, CE_AUTH, CE_PROTOCOL, -ENOSPC. Callers for the same range share one
 * transfer; a sequential reader's window grows up to 8 MiB and is fetched ahead. `cancel` may be
 * NULL.
 */
int sync_fetch(struct sync *s, struct file *f, uint64_t off, uint64_t len, unsigned deadline_ms,
	struct sync_cancel *cancel) MUST_CHECK;

/* A reader that finds what it wants has come to `off`, as far as was to be told (file_read_to): what follows is fetched ahead. */
void sync_read_on(struct sync *s, struct file *f, uint64_t off);

/* A file to bring here whole. `code`: what became of it. */
struct sync_item {
	uint64_t object, version, size;
	int code;
};
/*
 * Brings these files here, small ones many in a request, behind all readers. A file's own failure (CE_STALE, CE_GONE, …) is in its
 * code; the result is what ends all: CE_OFFLINE, CE_AUTH, -EINTR, -ENOSPC. `deadline_ms` is for each
 * request: it goes on as long as something comes.
 */
int sync_warm(struct sync *s, struct sync_item *items, size_t n, unsigned deadline_ms,
	struct sync_cancel *cancel) MUST_CHECK;
/* Pins were changed (cache/pin.h): what is missing is fetched in the background. */
void sync_pins_changed(struct sync *s);

/* Waits until every store known has been listed once (and the stores are known). As sync_fetch. */
int sync_wait_listed(struct sync *s, unsigned deadline_ms, struct sync_cancel *cancel) MUST_CHECK;

/*
 * Asks the origin about one record with a conditional GET: 0 = the version with `etag` is still the current one (304), CE_STALE = another is
 * there (the feed is asked to bring it), CE_GONE; otherwise as sync_fetch.
 */
int sync_check(struct sync *s, const char *store, const char *rid, const char *etag, unsigned deadline_ms,
	struct sync_cancel *cancel) MUST_CHECK;

/*
 * May this version be served by the rules of its store (sync/freshness.h)? 0, also after it was validated for that; CE_STALE: look it up
 * again, there is another now; CE_OFFLINE and the like: it may not. Without rules it costs nothing.
 */
int sync_may_serve(struct sync *s, uint64_t object, uint64_t version, unsigned deadline_ms,
	struct sync_cancel *cancel) MUST_CHECK;
struct sync_freshness {
	bool live, strict;
	uint64_t age_ms;       /* since the store was validated; UINT64_MAX = never */
	uint64_t max_stale_ms; /* 0 = no bound */
};
void sync_freshness(struct sync *s, uint64_t store, struct sync_freshness *out);
bool sync_has_rules(const struct sync *s);

/*
 * Asks the origin for the answer `name` in a query's directory (cache/queries.h): 0 when it is here, -ENOENT when there can be none by
 * this name; otherwise as sync_fetch. With `wait` false it is asked for in the background: 0 or -ENOENT at once.
 */
int sync_query(struct sync *s, uint64_t dir, const char *name, bool wait, unsigned deadline_ms, struct sync_cancel *cancel) MUST_CHECK;

/* A job was added to the volume (cache/jobs.h): it is sent when there is a link. */
void sync_jobs_changed(struct sync *s);
/* The result of a job by the origin's id; the caller frees. -EAGAIN: there is none yet; CE_GONE: there will be none; otherwise as sync_fetch. */
int sync_job_result(struct sync *s, const char *job_id, unsigned deadline_ms, void **data, size_t *len) MUST_CHECK;

void sync_set_offline(struct sync *s, bool offline);
/* Takes `token`: leaves AUTH_NEEDED. */
void sync_set_token(struct sync *s, struct secret *token);
#define SYNC_RATE_WANTED "0 (no bound), or 32768 to 1000000000000 bytes a second"
bool sync_rate_valid(uint64_t rate);
/* As in the options, from now on. */
void sync_set_rates(struct sync *s, uint64_t upload, uint64_t download);
/* Probe, poll and replay now, whatever the timers say, and the origin's Retry-After: a person asks. */
void sync_poke(struct sync *s);
/* Probes, polls and replays, but not before the time of a Retry-After. 0 when nothing is queued or
 * in flight, the feeds are caught up, and entries and conflicts that had to wait were tried once
 * more after that; -ETIMEDOUT; CE_OFFLINE; CE_HELD when only refused or held operations are left. */
int sync_wait_idle(struct sync *s, unsigned timeout_ms) MUST_CHECK;
/* A person confirms the deletions the brake holds, those of the feed and those on their way out; what a person holds stays. */
int sync_allow_deletes(struct sync *s) MUST_CHECK;
/* A person says that the restored (or replaced) server is the one to go on with: its identity is
 * remembered, every store is listed anew and compared; what was not sent yet is sent, conditionally
 * as always. */
void sync_accept_restored(struct sync *s);
/* A person says that this old copy of the volume is the one to go on with (volume_accept_old). */
void sync_accept_old(struct sync *s);

struct sync_status {
	enum sync_state state;
	int64_t last_contact_ns; /* wall time of the last good answer; 0 = never */
	int last_error;          /* code, 0 */
	char last_error_text[160];
	bool feed_live; /* a long poll is open on every store */
	bool deletes_held;
	bool restored_server;    /* instance or epoch changed: replay stopped, a person must look */
	bool rolled_back_volume; /* last_seq of the server is higher than ours: this is an old copy
				  */
	uint64_t fetched_bytes, sent_bytes, requests;
	uint64_t upload_rate, download_rate;
	uint64_t paused_until_ms; /* boot clock: the origin asked not to be asked before; 0 */
	bool origin_full; /* it has no room (507): writes get EDQUOT until something could be sent */
};
void sync_status(struct sync *s, struct sync_status *out);
const char *sync_state_name(enum sync_state state); /* "online", ... */

#endif
