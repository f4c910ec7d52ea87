#include "cache/volume.h"

#include "base/clock.h"
#include "cache/volume_priv.h"
#include "meta/db.h"
#include "meta/store.h"

int volume_event(struct volume *v, const char *kind, const char *detail)
{
	int r = db_begin(v->db);

	if (r)
		return r;
	r = event_append(v->db, clock_wall_ns(), kind, detail);
	if (r) {
		db_rollback(v->db);
		return r;
	}
	return db_commit(v->db);
}

int volume_event_each(struct volume *v, uint64_t after, volume_event_fn *fn, void *arg)
{
	int r;

	db_read(v->db);
	r = event_each(v->db, after, fn, arg);
	db_unlock(v->db);
	return r;
}

int volume_event_verify(struct volume *v, uint64_t *bad_id)
{
	int r;

	db_read(v->db);
	r = event_verify(v->db, bad_id);
	db_unlock(v->db);
	return r;
}
