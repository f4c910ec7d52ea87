#include "cache/volume.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
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
