#include "cache/about.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "cache/tree_priv.h"

static int count(void *arg, const struct op_row *op)
{
	(*(uint64_t *)arg)++;
	return 0;
}

static int take_etag(void *arg, const struct name_row *n, const struct object_row *o)
{
	struct about *a = arg;

	if (!n->etag.text[0])
		return 0;
	snprintf(a->etag, sizeof(a->etag), "%s", n->etag.text);
	return 1;
}

static int content_state(struct volume *v, const struct object_row *o, struct about *a)
{
	struct content_map m;
	uint64_t chunks = 0;
	int r;

	a->state = "full";
	if (!S_ISREG(o->mode) || !o->map)
		return 0;
	r = content_map_get(v->db, o->map, &m);
	if (!r && !m.whole)
		r = content_chunk_count(v->db, m.id, 1, &chunks);
	if (r)
		return r;
	a->pinned = m.pinned;
	if (!m.whole)
		a->state = chunks ? "partial" : "none";
	return 0;
}

/* Index lock held. The root above the stores has no store. */
static int look(struct volume *v, uint64_t object, struct about *a)
{
	struct store_row s = { .listed = true };
	struct object_row o;
	int r = object_get(v->db, object, &o);

	if (r)
		return r == -ENOENT ? CE_STALE : r;
	a->store = o.store;
	if (o.store)
		r = store_get(v->db, o.store, &s);
	if (!r)
		r = content_state(v, &o, a);
	if (!r)
		r = name_each_of(v->db, object, take_etag, a);
	if (r >= 0)
		r = op_each_of_object(v->db, object, count, &a->pending);
	if (r < 0)
		return r;
	if (S_ISDIR(o.mode))
		a->state = s.listed || s.mode == STORE_LOCAL ? "listed" : "unlisted";
	a->validated_ns = s.validated_ns;
	return 0;
}

int about_object(struct volume *v, uint64_t object, struct about *out)
{
	struct about a = { .store = 0 };
	int r;

	db_read(v->db);
	r = look(v, object, &a);
	db_unlock(v->db);
	if (!r)
		*out = a;
	return r;
}
