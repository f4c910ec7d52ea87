/*
 * The clock of a lease, and the lower bounds that the index keeps of keyring and clock.
 *
 * The index keeps the highest wall time seen (once a minute and at close). Effective time is that
 * mark, or the wall clock if it is later, plus the time the machine has run since the volume was
 * opened; a clock set back takes nothing away from it.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "cache/enrolment_priv.h"
#include "cache/setup_priv.h"
#include "cache/volume_priv.h"

#define SETTING_CLOCK "keys.clock"
#define SETTING_ROTATION "keys.rotation"
#define SETTING_KID "keys.kid"       /* of the KEK, and the device's public key: */
#define SETTING_DEVICE "keys.device" /* events tell when they change */

static int64_t wall_s(void)
{
	return clock_wall_ns() / NS_PER_SEC;
}

static int64_t boot_s(void)
{
	return clock_boot_ns() / NS_PER_SEC;
}

void enrolment_start_clock(struct enrolment *e)
{
	e->base_s = wall_s();
	e->base_boot_s = boot_s();
}

int64_t enrolment_now_s(const struct enrolment *e)
{
	return MAX_OF(wall_s(), e->base_s + boot_s() - e->base_boot_s);
}

bool enrolment_lease_holds(const struct enrolment *e)
{
	return e->device->lease.held && enrolment_now_s(e) < e->device->lease.until_s;
}

static int get_number(struct db *db, const char *key, uint64_t *out)
{
	int r = setting_get_u64(db, key, out);

	if (r == -ENOENT)
		*out = 0;
	return r == -ENOENT ? 0 : r;
}

static int note_change(struct volume *v, const char *setting, const void *now, size_t len,
	bool also_first, const char *kind, const char *detail)
{
	uint8_t before[ENROLL_POINT_LEN + ENROLL_NAME_MAX];
	size_t n = 0;
	int r = setting_get(v->db, setting, before, sizeof(before), &n);
	bool is_new = r == -ENOENT;

	if (!r && n == len && !memcmp(before, now, len))
		return 0;
	if (r && !is_new)
		return r;
	r = setting_set(v->db, setting, now, len);
	if (!r && (!is_new || also_first))
		r = event_append(v->db, clock_wall_ns(), kind, detail);
	return r;
}

/*
 * Inside a transaction, so that event and setting are one: also a rotation or an enrolment that
 * happened while the index was closed, or whose index part was cut off by a kill, is told once.
 */
static int note_identity(struct volume *v, const struct device *d)
{
	int r = note_change(v, SETTING_DEVICE, d->pub, sizeof(d->pub), true, "enrol", "{}");

	return r ? r
		 : note_change(v, SETTING_KID, d->kid, strlen(d->kid), false, "rotate",
			   "{\"result\":\"done\"}");
}

/* Inside a transaction. Both only ever grow. */
static int note_bounds(struct volume *v)
{
	struct enrolment *e = v->enrolment;
	uint64_t rotation, clock;
	int r = get_number(v->db, SETTING_ROTATION, &rotation);

	if (!r)
		r = get_number(v->db, SETTING_CLOCK, &clock);
	pthread_mutex_lock(&e->lock);
	if (!r && e->device->rotation > rotation)
		r = setting_set_u64(v->db, SETTING_ROTATION, e->device->rotation);
	if (!r && (uint64_t)enrolment_now_s(e) > clock)
		r = setting_set_u64(v->db, SETTING_CLOCK, (uint64_t)enrolment_now_s(e));
	if (!r && e->device->token)
		r = setting_set(v->db, SETUP_TOKEN, secret_cbytes(e->device->token),
			secret_len(e->device->token));
	if (!r && e->device->priv)
		r = note_identity(v, e->device);
	pthread_mutex_unlock(&e->lock);
	return r;
}

int enrolment_note(struct volume *v)
{
	int r = db_begin(v->db);

	if (r)
		return r;
	r = note_bounds(v);
	if (r)
		db_rollback(v->db);
	else
		r = db_commit(v->db);
	return r;
}

int enrolment_check(struct volume *v, char **error)
{
	struct enrolment *e = v->enrolment;
	uint64_t rotation = 0, clock = 0;
	int r;

	if (!e)
		return 0;
	db_read(v->db);
	r = get_number(v->db, SETTING_ROTATION, &rotation);
	if (!r)
		r = get_number(v->db, SETTING_CLOCK, &clock);
	db_unlock(v->db);
	if (r)
		return r;
	if (e->device->rotation < rotation)
		return setup_fail(error, CE_TAMPER,
			"keyring.json is an older copy than the index knows (rotation %" PRIu64
			", not %" PRIu64 "); nothing was changed: put the newest copy back",
			e->device->rotation, rotation);
	e->base_s = MAX_OF(e->base_s, (int64_t)MIN_OF(clock, (uint64_t)INT64_MAX / 2));
	if (e->from_lease && !enrolment_lease_holds(e))
		return setup_fail(error, CE_LOCKED,
			"the offline lease is over (the clock was set back): connect once to open "
			"the volume");
	return enrolment_note(v);
}

void enrolment_tick(struct volume *v)
{
	struct enrolment *e = v->enrolment;

	if (e && enrolment_note(v))
		log_debug("the clock's mark was not recorded");
}
