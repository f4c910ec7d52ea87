/*
 * The body of a sync and the calls between the files of sync/.
 *
 * Threads. `loop` runs http_run() and every state machine below; `index` and `fill` do disk work
 * for it (sync/worker.h): feeds, journal and settings on index, sealing of fetched content on fill,
 * so that neither starves the network. All fields belong to the loop thread unless their comment
 * names `lock`. A job owns what it works on until its `done`.
 *
 * The one lock is a leaf: nothing of cache/ and no network call runs under it.
 *
 * Each *_step() is called in every round of the loop, does what can be done now and returns when it
 * wants to be called again (boot time in ms, UINT64_MAX = when something happens). Calls are
 * abandoned at the head of a round only (sync_abandon), never inside a callback: a callback's own
 * objects stay valid until it returns.
 */
#ifndef CACHET_SYNC_SYNC_PRIV_H
#define CACHET_SYNC_SYNC_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "cache/jobs.h"
#include "cache/queries.h"
#include "cache/walk.h"
#include "sync/freshness.h"
#include "sync/http.h"
#include "sync/link.h"
#include "sync/origin.h"
#include "sync/sync.h"
#include "sync/window.h"
#include "sync/worker.h"

#define SYNC_NEVER UINT64_MAX

/* The feed of one store: feed.c. */
struct feed {
	struct feed *next;
	struct sync *s;
	uint64_t store;
	char name[256];
	char cursor[256];
	bool listed;   /* completely, once; written under lock */
	bool relist;   /* the next request starts from nothing */
	bool listing;  /* a listing from nothing is under way */
	bool end_held; /* only the end of the listing is missing: the brake holds it */
	bool held; /* the brake holds a page; with held_gen (asked_gen then) written under lock */
	uint64_t held_gen;
	bool allow; /* a person confirmed what is held: to the end of the feed as it is now */
	bool start_over; /* once the job under way has ended */
	bool caught_up;  /* the last page was the last */
	bool waiting;    /* the call is a long poll */
	unsigned failures;
	int error; /* why, while failures > 0 */
	char error_text[LINK_TEXT_MAX];
	uint64_t next_ms;
	uint64_t asked_ms, rest_ms;   /* when the page was asked for; how long to rest after it */
	uint64_t asked_gen, seen_gen; /* of sync.poke_gen; seen_gen written under lock */
	struct freshness_rule rule;
	bool live;                 /* lock: a long poll is open */
	uint64_t heard_ms;         /* as of when the page under way holds */
	uint64_t valid_ms;         /* lock: as of when what is here holds; 0 = not in this run */
	int64_t validated_ns;      /* the same of earlier runs, wall time */
	struct origin_call *call;
	struct origin_page page;
	size_t *asked; /* indexes of the symlinks whose targets were asked for */
	size_t asked_n;
	struct feed_job *job;
};

/* The outbox on its way: replay.c. */
struct replay_op;
struct replay_send;
struct replay {
	struct replay_op *ready, **ready_last; /* begun, not sent; the pick job's while it runs */
	struct replay_send *sends;
	unsigned uploads, batches;
	struct replay_pick *pick;
	bool hurry; /* there is a link again: whatever waits for a later try goes now */
	bool again; /* something changed since the last pick began */
	bool more;  /* the last pick left some that may go */
	uint64_t next_ms;
	uint64_t beside_ms;   /* while uploads wait: not looked beside them before */
	uint64_t batch_bytes; /* what a request may have; halved by 413 */
	uint64_t hurried_gen; /* the last poke_gen that was heeded */
	bool full;            /* the origin's latest word on room for content */
	uint64_t rate;        /* of uploads, bytes a second; 0 = no bound */
	uint64_t quiet_gen;   /* nothing left to send for this poke_gen; under lock */
};

/* Content on its way here: fetch.c. */
struct check;
struct fetch_transfer;
/* Of a reader that waits: fetch_want.c. All but `file`, which the loop takes, under the lock. */
struct fetch_want {
	struct fetch_want *next;
	uint64_t object, version, size;
	uint64_t off;    /* of the missing byte that the reader waits for */
	uint64_t demand; /* how far it will read on for certain */
	bool frugal;     /* there was no room for more: a chunk at a time */
	struct file_range range;
	struct file *file; /* a reference for the transfer; NULL when taken */
	bool behind;       /* readers go before */
	bool done, seen;   /* seen: the loop has found its transfer */
	int code;
};
struct fetch_stream {
	uint64_t object, version;
	struct window window; /* of 0 bytes: free */
};
/* A reader that waits for nothing and has come as far as was asked (file_watch_reader). */
struct fetch_reader {
	uint64_t object, version, size, off;
};
#define FETCH_READERS 8
#define AHEAD_NEXT 8
struct fetch {
	struct fetch_want *wants; /* lock */
	struct fetch_transfer *transfers;
	unsigned active;
	uint64_t bytes;
	struct fetch_stream streams[32];
	unsigned stream_hand;
	struct fetch_reader readers[FETCH_READERS]; /* lock; that do not fit: only speed is lost */
	size_t readers_n;
	struct bulk *bulks; /* lock */
	unsigned active_bulks;
	uint64_t no_bulks_ms; /* they fail: none until then */
	struct ahead {
		uint64_t dir;
		int64_t last_ms;
		unsigned window, jumps; /* of the last lot; lots that were not where it went on */
		enum walk_order order;  /* of the reader, as far as is known */
		uint64_t lot[AHEAD_NEXT];     /* how the last lot begins */
		uint64_t next[2][AHEAD_NEXT]; /* what comes after it, in either order */
	} ahead[8]; /* lock */
	unsigned ahead_hand;
};

struct sync_keys; /* renew.c; NULL: the KEK is not the server's */

struct sync {
	struct volume *volume;
	struct sync_keys *keys;
	void (*on_keys)(void *arg, int code);
	void *on_keys_arg;
	struct http *http;
	struct origin *origin;
	struct worker *index, *fill;
	pthread_t thread;
	bool running;
	unsigned parallel, debounce_ms;
	struct freshness_rule *rules;
	size_t n_rules;
	bool has_rules, strict;
	uint64_t max_stale_ms;

	struct link link;
	struct origin_caps caps;
	char only_store[256];
	char instance[40], epoch[40]; /* remembered; "" before the first contact */
	struct origin_call *connect_call;
	bool check_identity; /* capabilities before anything else */
	bool went_back;      /* the origin's data are older than what it told; until a person accepts */
	bool want_stores;
	uint64_t connect_ms;
	unsigned connect_failures;
	uint64_t probing_gen,
		probe_over_gen; /* poke_gen when the latest, the last finished probe began */
	uint64_t stores_ms;
	uint64_t pause_ms;  /* Retry-After: for the whole origin */
	bool abandon;       /* the link became unusable */
	bool hurry_feeds;   /* poll at once: a call showed that there is news */
	uint64_t hurry_ms;
	struct {
		bool any; /* entries of a feed wait for an object to be free */
		struct deferred_run *run;
		uint64_t due_ms, left;
		bool quiet;        /* none is being tried; under lock */
		uint64_t calm_gen; /* as merge.calm_gen */
	} deferred;
	struct feed *feeds; /* written under lock, by the loop only */
	struct replay replay;
	struct fetch fetch;
	/* Content sent while it is written: early.c. */
	struct {
		struct early *now;
		struct origin_call *drop;
		uint64_t next_ms; /* it failed: not before */
		uint64_t vain_object, vain_ms; /* nor this one, until then */
		struct early_file {
			uint64_t store, object, version; /* object 0: none */
		} grown; /* lock */
	} early;
	struct check *checks; /* lock: check.c */
	struct question *questions; /* lock: question.c */
	struct job_ask *job_asks; /* lock: job.c */
	struct {
		struct origin_call *call;
		char key[JOBS_KEY_SIZE];
		bool none; /* nothing waits, as of the last look */
		uint64_t next_ms;
	} jobs;
	atomic_bool jobs_changed;
	struct {
		struct worker *worker;
		bool running, ran;
		bool quiet; /* all that was noted has been looked at; under lock */
		uint64_t seen; /* merge_noted() when the last run began; written under lock */
		/* Of poke_gen: all else was through, and what still waited has been tried since.
		 * Written under lock. */
		uint64_t calm_gen;
		bool later; /* the last run left some for another time */
		uint64_t due_ms;
		uint64_t *left; /* numbers of conflicts that stay two files; the run's while it runs */
		size_t n_left;
	} merge;

	atomic_bool outbox_changed, stop;
	atomic_bool names_changed; /* the pins have to be looked at */
	pthread_t pinned;
	bool pinned_runs;
	atomic_uint_fast64_t changed_ms; /* the latest local change */
	uint64_t burst_ms;               /* the first one not looked at yet; 0 = none */

	pthread_mutex_t lock; /* leaf; guards what follows, and what says so above */
	pthread_cond_t changed;
	struct sync_status status;
	int verdict;         /* link_verdict() */
	uint64_t probed_gen; /* probe_over_gen, for this verdict */
	unsigned waiters;    /* callers inside sync_fetch, sync_wait_… */
	bool stores_known;
	struct {
		bool offline_set, offline, was_offline, token_set, poke, insist, allow_deletes, accept_restored, accept_old,
			rates_set;
		uint64_t upload_rate, download_rate;
		struct secret *token;
	} asked;
	atomic_uint_fast64_t poke_gen; /* counts sync_poke(); read anywhere */
	uint64_t heard_gen; /* poke_gen when `asked` was last taken: what was asked before it is known. Loop */
};

struct timespec;

/* --- sync.c --- */
static inline uint64_t sync_now_ms(void)
{
	return (uint64_t)clock_boot_ms();
}
/* What the answer says about the link. */
void sync_judge(struct sync *s, const struct origin_result *r);
/* Calls may be made: link usable, identity checked, no pause. */
bool sync_may_call(const struct sync *s, uint64_t now_ms);
void sync_note(struct sync *s, int code, const char *text);
/* Lock held: waits for a change, at most until the deadline (-ETIMEDOUT); CE_OFFLINE when stopping,
 * -EINTR. */
int sync_wait_change(struct sync *s, const struct timespec *deadline,
	const struct sync_cancel *cancel) MUST_CHECK;
/* A waiter is gone: sync_stop waits for the last. */
void sync_entered(struct sync *s);
void sync_left(struct sync *s);
void sync_deadline(unsigned ms, struct timespec *out);
/* Publishes the status and wakes whoever waits. */
void sync_publish(struct sync *s);

/* The latest poke_gen that all feeds and the journal have been through since. Loop, or lock held. */
uint64_t sync_through_gen(const struct sync *s);
/* What still waited has been tried since `gen` was through: *calm_gen, which is written under lock,
 * says so if that is still true. */
void sync_calm(struct sync *s, uint64_t *calm_gen, uint64_t gen);
/* Something that waited was done: whoever waits for quiet waits for what comes of it, too. */
void sync_moved_on(struct sync *s);

/* --- deferred.c: entries that wait for their object to be free --- */
uint64_t deferred_step(struct sync *s, uint64_t now_ms);
bool deferred_is_quiet(const struct sync *s);

/* --- connect.c: identity, stores --- */
int connect_load(struct sync *s) MUST_CHECK;
uint64_t connect_step(struct sync *s, uint64_t now_ms);
void connect_abandon(struct sync *s);
void connect_accept(struct sync *s);
/* A feed was asked to go on from where the origin's data do not reach. */
void connect_went_back(struct sync *s);

/* --- freshness.c --- */
int freshness_load(struct sync *s, const struct sync_options *o, char **error) MUST_CHECK;
struct freshness_rule freshness_rule_of(const struct sync *s, const char *store);

/* --- feed.c --- */
int feed_load(struct sync *s) MUST_CHECK;
int feed_add(struct sync *s, const struct remote_store *store) MUST_CHECK;
struct feed *feed_find(struct sync *s, uint64_t store);
uint64_t feed_step(struct sync *s, uint64_t now_ms);
void feed_abandon(struct sync *s);
void feed_relist_all(struct sync *s);
void feed_free_all(struct sync *s);
/* One that cannot follow its store, or NULL. */
const struct feed *feed_failing(const struct sync *s);
bool feed_any_held(const struct sync *s);
/* Long polls become polls that answer at once. */
void feed_hurry(struct sync *s);
void feed_allow_deletes(struct sync *s);
bool feed_all_live(const struct sync *s);

/* --- replay.c --- */
void replay_init(struct sync *s);
uint64_t replay_step(struct sync *s, uint64_t now_ms);
/* Somebody asked for the journal to be sent, and it was not empty since: no quiet moment is waited
 * for. */
bool replay_awaited(const struct sync *s);
void replay_abandon(struct sync *s);

/* --- early.c --- */
/* A volume_growth_fn. */
void early_grown(void *arg, uint64_t store, uint64_t object, uint64_t version);
uint64_t early_step(struct sync *s, uint64_t now_ms);
/* Before replay_abandon, which frees what waits for it. */
void early_abandon(struct sync *s);

/* --- fetch.c --- */
uint64_t fetch_step(struct sync *s, uint64_t now_ms);
void fetch_abandon(struct sync *s);
void fetch_fail_all(struct sync *s, int code);
/* All that is wanted of this version is here. */
void fetch_answer(struct sync *s, uint64_t object, uint64_t version);
/* sync_fetch for nobody in particular: readers go before. */
int fetch_behind(struct sync *s, struct file *f, uint64_t off, uint64_t len, unsigned deadline_ms,
	struct sync_cancel *cancel) MUST_CHECK;

/* --- bulk.c: many small files in one request --- */
#define BULK_FILES_MAX 256
#define BULK_BYTES_MAX (UINT64_C(1) << 20)
#define BULK_FILE_BYTES_MAX (UINT64_C(64) << 10)
struct bulk *bulk_make(struct sync *s);
bool bulk_has_room(const struct bulk *b, uint64_t size);
size_t bulk_count(const struct bulk *b);
/* 0: added; 1: nothing is missing; CE_REFUSED: it has to be fetched alone; as file_open. `item` lives until bulk_wait returns; unused when left. */
int bulk_add(struct bulk *b, struct sync_item *item) MUST_CHECK;
/* Takes it; on failure it is gone. `leave`: nobody will wait for it. */
int bulk_submit(struct bulk *b, bool leave) MUST_CHECK;
void bulk_drop(struct bulk *b);
/* Takes it. 0: each item's code says what became of it. */
int bulk_wait(struct bulk *b, const struct timespec *deadline,
	const struct sync_cancel *cancel) MUST_CHECK;
uint64_t bulk_step(struct sync *s, uint64_t now_ms);
void bulk_abandon(struct sync *s);
void bulk_free_all(struct sync *s);
/* Lock held: it is on its way (not `started`: or will be). */
bool bulk_covers(const struct sync *s, uint64_t object, uint64_t version, bool started);

/* --- ahead.c: readers that go through a directory --- */
void ahead_missed(struct sync *s, const struct file *f);

/* --- pinned.c --- */
int pinned_start(struct sync *s) MUST_CHECK;
void pinned_stop(struct sync *s);

/* --- renew.c: the lease, another KEK, revocation --- */
int renew_open(struct sync *s, const struct sync_options *o, char **error) MUST_CHECK;
int renew_start(struct sync *s, void (*wake)(void *arg)) MUST_CHECK;
void renew_reap(struct sync *s);
uint64_t renew_step(struct sync *s, uint64_t now_ms);
/* Soon: an answer says that something is different. */
void renew_ask(struct sync *s);
void renew_judge(struct sync *s, const struct origin_caps *caps);
/* After the loop ended; ends what is under way. */
void renew_stop(struct sync *s);
void renew_free(struct sync *s);

/* --- check.c: is our version the current one --- */
uint64_t check_step(struct sync *s, uint64_t now_ms);
void check_abandon(struct sync *s);
void check_free_all(struct sync *s);

/* --- job.c --- */
uint64_t job_step(struct sync *s, uint64_t now_ms);
void job_abandon(struct sync *s);
void job_free_all(struct sync *s);

/* --- merge.c: conflicts that a rule settles --- */
uint64_t merge_step(struct sync *s, uint64_t now_ms);
bool merge_is_quiet(const struct sync *s);
void merge_free_all(struct sync *s);

/* --- question.c: answers of queries --- */
uint64_t question_step(struct sync *s, uint64_t now_ms);
void question_abandon(struct sync *s);
void question_free_all(struct sync *s);

#endif
