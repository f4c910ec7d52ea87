/*
 * When the server is asked for the KEK again: at half of the lease, when the KEK expires, and at
 * once when capabilities or a refusal say that something changed. The asking itself is the cache's
 * (volume_renew_keys), on a thread of its own with a connection of its own, so that the loop never
 * waits for it. Every KEYS_LOOK_MS capabilities are asked for, to see whether there is another key.
 */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "sync/carry.h"
#include "sync/sync_priv.h"

#define KEYS_LOOK_MS (5 * 60 * 1000)
#define KEYS_PAUSE_MS 5000 /* between two askings for one reason */

struct sync_keys {
	struct worker_job job;
	struct sync *s;
	struct worker *worker;
	struct carry *carry;
	bool running, asked;
	uint64_t next_ms, look_ms;
	int code;
	char *error;
};

int renew_open(struct sync *s, const struct sync_options *o, char **error)
{
	struct volume_keys_status status;
	struct sync_keys *k;
	int r;

	volume_keys_status(s->volume, &status);
	if (!status.server)
		return 0;
	k = calloc(1, sizeof(*k));
	if (!k)
		return -ENOMEM;
	k->s = s;
	s->keys = k;
	r = carry_new(o->origin, o->ca_file, o->allow_raw_kek, &k->carry, error);
	if (r)
		renew_free(s);
	return r;
}

int renew_start(struct sync *s, void (*wake)(void *arg))
{
	return s->keys ? worker_new(wake, s, &s->keys->worker) : 0;
}

void renew_stop(struct sync *s)
{
	if (!s->keys)
		return;
	carry_stop(s->keys->carry);
	worker_free(steal_ptr(&s->keys->worker));
}

void renew_free(struct sync *s)
{
	struct sync_keys *k = steal_ptr(&s->keys);

	if (!k)
		return;
	carry_free(k->carry);
	free(k->error);
	free(k);
}

void renew_ask(struct sync *s)
{
	if (s->keys)
		s->keys->asked = true;
}

/* What capabilities say about this device. */
void renew_judge(struct sync *s, const struct origin_caps *caps)
{
	struct volume_keys_status status;

	if (!s->keys || !*caps->device_state)
		return;
	volume_keys_status(s->volume, &status);
	if (strcmp(caps->device_state, "ok") != 0 || strcmp(caps->device_kid, status.kid) != 0)
		s->keys->asked = true;
}

void renew_reap(struct sync *s)
{
	if (s->keys)
		worker_reap(s->keys->worker);
}

static void work(struct worker_job *j)
{
	struct sync_keys *k = (struct sync_keys *)j;

	k->code = volume_renew_keys(k->s->volume, carry_link(k->carry), false, &k->error);
}

static void done(struct worker_job *j, bool dropped)
{
	struct sync_keys *k = (struct sync_keys *)j;
	struct sync *s = k->s;

	k->running = false;
	k->next_ms = sync_now_ms() + KEYS_PAUSE_MS;
	if (dropped)
		return;
	if (k->code == CE_REVOKED || k->code == CE_UNTRUSTED) {
		log_warning("%s", error_text(k->code));
		if (s->on_keys)
			s->on_keys(s->on_keys_arg, k->code);
	} else if (k->code) {
		log_debug(
			"the lease was not renewed: %s", k->error ? k->error : error_text(k->code));
	}
	free(steal_ptr(&k->error));
}

static bool may_ask(const struct sync *s)
{
	return link_usable(&s->link) || s->link.state == SYNC_AUTH_NEEDED;
}

uint64_t renew_step(struct sync *s, uint64_t now_ms)
{
	struct sync_keys *k = s->keys;
	int64_t at_s, wall_s = clock_wall_ns() / NS_PER_SEC;

	if (!k || k->running || !may_ask(s))
		return SYNC_NEVER;
	if (k->look_ms <= now_ms) {
		if (k->look_ms)
			s->check_identity = true;
		k->look_ms = now_ms + KEYS_LOOK_MS;
	}
	if (k->next_ms > now_ms)
		return k->next_ms;
	at_s = volume_renew_keys_at_s(s->volume);
	if (!k->asked && at_s > wall_s) {
		uint64_t left_ms = (uint64_t)MIN_OF(at_s - wall_s, 3600) * 1000;

		return MIN_OF(now_ms + left_ms, k->look_ms);
	}
	k->asked = false;
	k->running = true;
	k->job = (struct worker_job){ .work = work, .done = done };
	worker_run(k->worker, &k->job);
	return SYNC_NEVER;
}
