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
