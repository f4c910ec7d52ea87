/*
 * Who answers, and what it has. Capabilities are asked for when the link is down (the probe), and
 * before anything else after a fault: the server that answers after an outage may be one restored
 * from a backup.
 *
 * An instance or epoch that is not the remembered one stops everything: the link stays OFFLINE, the
 * probe goes on, and when the old server is back all goes on as if nothing had happened.
 * sync_accept_restored() is the other way out.
 */
#include "sync/sync_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "sync/backoff.h"

#define SETTING_INSTANCE "sync.instance"
#define SETTING_EPOCH "sync.epoch"
#define SETTING_RECORD_MAX "sync.max_record_bytes" /* so that it holds before the first contact, too */
#define STORES_EVERY_MS (5 * 60 * 1000)
#define RETRY_MAX_MS 60000

static int load_setting(struct sync *s, const char *key, char *out, size_t max)
{
	int r = volume_setting_get(s->volume, key, out, max);

	return r == -ENOENT ? 0 : r;
}

int connect_load(struct sync *s)
{
	_cleanup_free_ char *only = NULL;
	char record_max[24] = "";
	int r = load_setting(s, SETTING_INSTANCE, s->instance, sizeof(s->instance));

	if (!r)
		r = load_setting(s, SETTING_EPOCH, s->epoch, sizeof(s->epoch));
	if (!r)
		r = load_setting(s, SETTING_RECORD_MAX, record_max, sizeof(record_max));
	if (!r)
		r = volume_only_store(s->volume, &only);
	if (r)
		return r;
	volume_set_record_max(s->volume, strtoull(record_max, NULL, 10));
	if (only)
		snprintf(s->only_store, sizeof(s->only_store), "%s", only);
	s->origin->ops->expect(s->origin, s->instance);
	return 0;
}

/* First contact: from now on only this server counts. */
static int remember(struct sync *s, const struct origin_caps *caps)
{
	int r = volume_setting_set(s->volume, SETTING_INSTANCE, caps->instance);

	if (!r)
		r = volume_setting_set(s->volume, SETTING_EPOCH, caps->epoch);
	if (r)
		return r;
	snprintf(s->instance, sizeof(s->instance), "%s", caps->instance);
	snprintf(s->epoch, sizeof(s->epoch), "%s", caps->epoch);
	s->origin->ops->expect(s->origin, s->instance);
	return 0;
}

/* If it cannot be kept, this run knows it all the same. */
static void keep_record_max(struct sync *s, uint64_t bytes)
{
	char now[24], kept[24] = "";

	volume_set_record_max(s->volume, bytes);
	snprintf(now, sizeof(now), "%" PRIu64, bytes);
	if (load_setting(s, SETTING_RECORD_MAX, kept, sizeof(kept)) || !strcmp(now, kept))
		return;
	(void)!volume_setting_set(s->volume, SETTING_RECORD_MAX, now);
}

static void set_restored(struct sync *s, bool restored)
{
	pthread_mutex_lock(&s->lock);
	s->status.restored_server = restored;
	pthread_mutex_unlock(&s->lock);
}

/* The server saw operations of this device that this copy knows nothing of: the copy is an old one.
 */
static void check_rollback(struct sync *s, uint64_t last_seq)
{
	uint64_t ours;

	if (volume_last_seq(s->volume, &ours) || last_seq <= ours)
		return;
	if (volume_set_old(s->volume, last_seq))
		sync_note(s, CE_HELD, "that this is an old copy could not be written down");
	pthread_mutex_lock(&s->lock);
	s->status.rolled_back_volume = true;
	pthread_mutex_unlock(&s->lock);
	sync_note(s, CE_HELD,
		"this copy is older than what it sent once: nothing is sent and nothing can be "
		"changed until a person has looked");
}

static bool is_remembered(const struct sync *s, const struct origin_caps *caps)
{
	return !strcmp(s->instance, caps->instance) && !strcmp(s->epoch, caps->epoch);
}

static void back_off(struct sync *s)
{
	s->connect_ms =
		sync_now_ms() + backoff_ms(++s->connect_failures, BACKOFF_FIRST_MS, RETRY_MAX_MS);
}

static void refuse_identity(struct sync *s)
{
	set_restored(s, true);
	s->abandon = true;
	do
		(void)link_fault(&s->link, sync_now_ms(), CE_PROTOCOL,
			"the server's data were replaced or restored from a backup; "
			"nothing is sent or taken until a person has looked");
	while (link_usable(&s->link));
}

void connect_went_back(struct sync *s)
{
	s->went_back = true;
	refuse_identity(s);
}

static void judge_probe(struct sync *s, const struct origin_result *r)
{
	sync_judge(s, r);
	if (s->link.probing && !link_usable(&s->link))
		(void)link_fault(&s->link, sync_now_ms(), r->code,
			r->text); /* trouble: as good as nobody there */
	s->link.probing = false;
	back_off(s);
}

static void on_caps(void *arg, const struct origin_result *r, const struct origin_caps *caps)
{
	struct sync *s = arg;
	bool first = !*s->instance;
	int e = 0;

	s->connect_call = NULL;
	s->probe_over_gen = s->probing_gen;
	if (r->code) {
		judge_probe(s, r);
		return;
	}
	if (first)
		e = remember(s, caps);
	if (e) {
		sync_note(s, e, "the identity of the server cannot be kept");
		back_off(s);
		return;
	}
	if (!is_remembered(s, caps) || s->went_back) {
		refuse_identity(s);
		back_off(s);
		return;
	}
	set_restored(s, false);
	s->replay.hurry = s->replay.hurry || !link_usable(&s->link);
	link_good(&s->link, true, clock_wall_ns());
	s->caps = *caps;
	keep_record_max(s, caps->max_record_bytes);
	s->replay.batch_bytes = caps->max_request_bytes;
	s->check_identity = false;
	s->want_stores = true;
	s->connect_failures = 0;
	s->replay.again = true;
	check_rollback(s, caps->last_seq);
	renew_judge(s, caps);
}

static int add_store(struct sync *s, const struct origin_store *o)
{
	struct remote_store store = { .read_only = o->read_only };
	int r = remote_store_add(s->volume, o->name, o->read_only, &store.id);

	if (r || feed_find(s, store.id))
		return r;
	memcpy(store.name, o->name, sizeof(store.name));
	return feed_add(s, &store);
}

/* Without them the store is as good as ever. */
static void set_queries(struct sync *s, const struct origin_store *o)
{
	int r = queries_set(s->volume, o->name, o->queries, o->n_queries);

	if (r)
		sync_note(s, r, "the queries of a store cannot be made known here");
}

static void on_stores(
	void *arg, const struct origin_result *r, const struct origin_store *stores, size_t n)
{
	struct sync *s = arg;
	bool found = !*s->only_store;
	int e = 0;

	s->connect_call = NULL;
	sync_judge(s, r);
	if (r->code) {
		back_off(s);
		return;
	}
	for (size_t i = 0; i < n && !e; i++) {
		if (*s->only_store && strcmp(s->only_store, stores[i].name))
			continue;
		found = true;
		e = add_store(s, &stores[i]);
		if (!e)
			set_queries(s, &stores[i]);
	}
	if (e) {
		sync_note(s, e, "a store cannot be made known here");
		back_off(s);
		return;
	}
	if (!found)
		sync_note(s, CE_GONE, "the origin has no store of the name that is mounted");
	s->want_stores = false;
	s->connect_failures = 0;
	s->stores_ms = sync_now_ms() + STORES_EVERY_MS;
	pthread_mutex_lock(&s->lock);
	s->stores_known = true;
	pthread_mutex_unlock(&s->lock);
}

static uint64_t ask_caps(struct sync *s)
{
	const struct origin_ops *ops = s->origin->ops;

	link_probe_begun(&s->link);
	s->probing_gen = s->poke_gen;
	if (ops->capabilities(s->origin, on_caps, s, &s->connect_call)) {
		s->link.probing = false;
		back_off(s);
		s->link.next_probe_ms = s->connect_ms;
	}
	return SYNC_NEVER;
}

static uint64_t ask_stores(struct sync *s)
{
	if (s->origin->ops->stores(s->origin, on_stores, s, &s->connect_call))
		back_off(s);
	return SYNC_NEVER;
}

uint64_t connect_step(struct sync *s, uint64_t now_ms)
{
	uint64_t due;

	if (s->connect_call)
		return SYNC_NEVER;
	if (!link_usable(&s->link)) {
		due = MAX_OF(link_probe_due_ms(&s->link), s->pause_ms);
		if (due != SYNC_NEVER && s->probing_gen < s->poke_gen)
			due = s->pause_ms; /* somebody asked since the last probe began */
		return due <= now_ms ? ask_caps(s) : due;
	}
	due = s->connect_ms > s->pause_ms ? s->connect_ms : s->pause_ms;
	if (!s->check_identity && !s->want_stores) {
		if (s->stores_ms > now_ms)
			return s->stores_ms;
		s->want_stores = true;
	}
	if (due > now_ms)
		return due;
	return s->check_identity ? ask_caps(s) : ask_stores(s);
}

void connect_abandon(struct sync *s)
{
	origin_abort(s->origin, &s->connect_call);
	s->link.probing = false;
	s->check_identity = true;
	s->connect_ms = 0;
	s->connect_failures = 0;
}

void connect_accept(struct sync *s)
{
	s->instance[0] = s->epoch[0] = 0;
	s->went_back = false;
	s->origin->ops->expect(s->origin, "");
	feed_relist_all(s);
	link_poke(&s->link, sync_now_ms());
}
