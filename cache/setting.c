#include "cache/volume.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "cache/setup_priv.h"
#include "cache/volume_priv.h"
#include "meta/db.h"
#include "meta/op.h"
#include "meta/store.h"

int volume_setting_get(struct volume *v, const char *key, char *out, size_t max)
{
	char value[VOLUME_SETTING_MAX];
	size_t len;
	int r;

	db_read(v->db);
	r = setting_get(v->db, key, value, sizeof(value), &len);
	db_unlock(v->db);
	if (r)
		return r;
	if (len >= max || memchr(value, 0, len))
		return CE_CORRUPT;
	memcpy(out, value, len);
	out[len] = 0;
	return 0;
}

int volume_setting_set(struct volume *v, const char *key, const char *value)
{
	size_t len = strlen(value);
	int r;

	if (len >= VOLUME_SETTING_MAX)
		return -EINVAL;
	r = db_begin(v->db);
	if (r)
		return r;
	r = setting_set(v->db, key, value, len);
	if (r) {
		db_rollback(v->db);
		return r;
	}
	return db_commit(v->db);
}

int volume_last_seq(struct volume *v, uint64_t *out)
{
	int r;

	db_read(v->db);
	r = op_last_seq(v->db, out);
	db_unlock(v->db);
	return r;
}

static int old_txn(struct volume *v, uint64_t seq, bool accept)
{
	struct op_row op = { .seq = seq, .kind = OP_ATTR };
	uint64_t last = 0;
	int r = setting_set_u64(v->db, SETUP_OLD, accept ? 0 : seq);

	if (!r)
		r = event_append(v->db, clock_wall_ns(), "rollback",
			accept ? "{\"accepted\":true}" : "{\"accepted\":false}");
	if (!r && accept)
		r = op_last_seq(v->db, &last);
	if (r || !accept || last >= seq)
		return r;
	r = op_restore(v->db, &op);
	return r ? r : op_delete(v->db, seq);
}

static int set_old(struct volume *v, uint64_t seq, bool accept)
{
	int r = db_begin(v->db);

	if (r)
		return r;
	r = old_txn(v, seq, accept);
	if (r) {
		db_rollback(v->db);
		return r;
	}
	r = db_commit(v->db);
	if (!r)
		atomic_store(&v->old_seq, accept ? 0 : seq);
	return r;
}

int volume_set_old(struct volume *v, uint64_t seq)
{
	return atomic_load(&v->old_seq) == seq ? 0 : set_old(v, seq, false);
}

bool volume_is_old(struct volume *v)
{
	return atomic_load(&v->old_seq) != 0;
}

int volume_accept_old(struct volume *v)
{
	uint64_t seq = atomic_load(&v->old_seq);

	return seq ? set_old(v, seq, true) : 0;
}

void volume_set_record_max(struct volume *v, uint64_t bytes)
{
	atomic_store(&v->record_max, bytes);
}

void volume_set_origin_full(struct volume *v, bool full)
{
	atomic_store(&v->origin_full, full);
}

int setting_may_grow(const struct volume *v, uint64_t size)
{
	uint64_t max = atomic_load(&v->record_max);

	if (max && size > max)
		return -EFBIG;
	return atomic_load(&v->origin_full) ? -EDQUOT : 0;
}
