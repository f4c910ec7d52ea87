/* What the origin is known to have of an object. */
#include <errno.h>
#include <stdio.h>

#include "cache/remote.h"
#include "cache/volume_priv.h"

static int first_sent(void *arg, const struct name_row *n, const struct object_row *o)
{
	struct name_row *out = arg;

	if (!n->rid.text[0] || !n->etag.text[0])
		return 0;
	*out = *n;
	return 1;
}

int remote_known(struct volume *v, uint64_t object, struct remote_known *out)
{
	struct store_row s;
	struct name_row n = { .id = 0 };
	int r;

	db_read(v->db);
	r = name_each_of(v->db, object, first_sent, &n);
	if (r >= 0)
		r = n.id ? store_get(v->db, n.store, &s) : -ENODATA;
	db_unlock(v->db);
	if (r)
		return r;
	snprintf(out->store, sizeof(out->store), "%s", s.name);
	snprintf(out->rid, sizeof(out->rid), "%s", n.rid.text);
	snprintf(out->etag, sizeof(out->etag), "%s", n.etag.text);
	return 0;
}
