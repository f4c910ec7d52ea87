#include "daemon/rekeying.h"

#include <errno.h>

#include "base/clock.h"
#include "base/error.h"
#include "cache/rekey.h"
#include "daemon/config_priv.h"
#include "daemon/daemon_priv.h"
#include "daemon/locking.h"

#define SLICE_MS 250
#define WAIT_MAX_MS 60000

static void add(struct json *o, const struct rekey_status *s)
{
	json_set_bool(o, "active", s->active);
	json_set_u64(o, "epoch", s->epoch);
	json_set_i64(o, "last_rotated_at", s->made_at_s);
	json_set_u64(o, "done_bytes", s->done_bytes);
	json_set_u64(o, "total_bytes", s->total_bytes);
	json_set_u64(o, "damaged", s->damaged);
	json_set_string(o, "error", s->code && s->code != -EAGAIN ? error_text(s->code) : NULL);
}

void rekeying_report(struct volume *v, struct json *out)
{
	struct rekey_status s;

	rekey_status(v, &s);
	add(json_set_object(out, "rekey"), &s);
}

static void tell(const struct requests_caller *caller, const struct rekey_status *s)
{
	_cleanup_json_ struct json *o = caller->progress ? json_new_object() : NULL;

	if (!o)
		return;
	add(o, s);
	caller->progress(o);
}

/* Something that time alone does not repair. */
static bool is_stuck(const struct rekey_status *s)
{
	return s->damaged || (s->code && s->code != -EAGAIN);
}

static int wait(struct daemon_state *d, const struct requests_caller *caller, uint64_t wait_ms,
	struct rekey_status *s)
{
	int64_t end_ms = clock_boot_ms() + (int64_t)MIN_OF(wait_ms, (uint64_t)WAIT_MAX_MS);
	bool direct = !d->fs;

	rekey_status(d->volume, s);
	while (s->active && (direct || clock_boot_ms() < end_ms)) {
		if (caller->gone(caller->arg))
			return -EINTR;
		if (is_stuck(s) || (d->locking && locking_is_wanted(d->locking)))
			break;
		rekey_wait(d->volume, SLICE_MS);
		rekey_status(d->volume, s);
		if (s->active)
			tell(caller, s);
	}
	tell(caller, s); /* it may have been over before anybody looked */
	return 0;
}

static int stuck(const struct rekey_status *s, char **error)
{
	if (s->damaged)
		return config_say(error, CE_TAMPER,
			"%llu pieces of unsent content are damaged and cannot be sealed anew "
			"(`cachet verify`); the old keys stay until they are gone",
			(unsigned long long)s->damaged);
	return config_say(error, s->code,
		"the rekey is not finished: %s; it goes on by itself when the volume is mounted",
		error_text(s->code));
}

int rekeying_answer(struct daemon_state *d, const struct json *in,
	const struct requests_caller *caller, struct json *out, char **error)
{
	bool start = false, force = false;
	struct rekey_status s;
	uint64_t wait_ms = 0;
	int r = 0;

	if ((json_has(in, "start") && json_get_bool(in, "start", &start)) ||
		(json_has(in, "force") && json_get_bool(in, "force", &force)) ||
		(json_has(in, "wait_ms") && json_get_u64(in, "wait_ms", &wait_ms)))
		return config_say(error, CE_USAGE,
			"'start' and 'force' are true or false, 'wait_ms' a number");
	if (d->config->volume_dir)
		return config_say(error, -ENOTSUP, "a memory-only mount has no keys to change");
	if (start)
		r = rekey_start(d->volume, force, error);
	if (r && r != -EALREADY)
		return r;
	rekey_status(d->volume, &s);
	if (start || wait_ms)
		r = wait(d, caller, wait_ms, &s);
	if (r < 0 && r != -EALREADY)
		return r;
	if (!d->fs && start && s.active && is_stuck(&s))
		return stuck(&s, error);
	add(out, &s);
	return 0;
}
