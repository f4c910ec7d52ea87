/*
 * Maps and blobs that nobody needs. Inside the transaction rows go; what follows from that in
 * memory and on disk waits in a list of this thread until gc_run() hears whether the transaction
 * was committed: units of a blob that lives on, the file of one that does not, and the mark on an
 * open file that its map goes with it. Files and slots are then given to durable.c: a power cut can
 * still undo the transaction until the next sync.
 */
#include <errno.h>
#include <string.h>

#include "base/array.h"
#include "base/error.h"
#include "base/log.h"
#include "cache/blob.h"
#include "cache/file_priv.h"
#include "cache/volume_priv.h"

struct gc_slot {
	uint64_t slot;
	uint32_t len;
};

struct gc_item {
	struct gc_item *next;
	enum { GC_BLOB, GC_SLOTS, GC_SUPERSEDED } kind;
	struct blob *blob; /* owned */
	uint64_t map;
	struct gc_slot *slots;
	size_t n, cap;
};

static _Thread_local struct gc_item *pending;

static struct gc_item *item_new(int kind)
{
	struct gc_item *i = calloc(1, sizeof(*i));

	if (!i)
		return NULL;
	i->kind = kind;
	i->next = pending;
	pending = i;
	return i;
}

static void item_free(struct gc_item *i)
{
	blob_unref(i->blob);
	free(i->slots);
	free(i);
}

int gc_drop_blob(struct volume *v, uint64_t id)
{
	struct gc_item *i = item_new(GC_BLOB);
	int r = i ? blob_get(v, id, &i->blob) : -ENOMEM;

	return r ? r : content_blob_delete(v->db, id);
}

int gc_pinned(struct volume *v, const struct gc_sharers *s, uint64_t but,
	const struct content_chunk *c, bool *out)
{
	struct content_chunk other;

	*out = s->many;
	for (size_t i = 0; i < s->n && !*out; i++) {
		int r;

		if (s->maps[i] == but)
			continue;
		r = content_chunk_get(v->db, s->maps[i], c->idx, &other);
		if (r && r != -ENOENT)
			return r;
		*out = !r && other.slot == c->slot;
	}
	return 0;
}

int gc_sharers(struct volume *v, const struct content_map *m, struct gc_sharers *out)
{
	int r = content_map_sharing(
		v->db, m->blob, m->object, out->maps, ARRAY_SIZE(out->maps), &out->n);

	out->many = !r && out->n == ARRAY_SIZE(out->maps);
	return r;
}

struct collect {
	struct volume *v;
	struct gc_sharers sharers;
	struct gc_item *item;
	uint64_t map;
};

static int collect_slot(void *arg, const struct content_chunk *c)
{
	struct collect *k = arg;
	struct gc_item *i = k->item;
	bool pinned;
	int r = gc_pinned(k->v, &k->sharers, k->map, c, &pinned);

	if (r || pinned)
		return r;
	if (ARRAY_ROOM(i->slots, i->n, i->cap))
		return -ENOMEM;
	i->slots[i->n++] = (struct gc_slot){ c->slot, c->len };
	return 0;
}

int gc_drop_content(struct volume *v, const struct content_map *m)
{
	struct collect k = { .v = v, .map = m->id };
	int r;

	if (!m->blob)
		return 0;
	k.item = item_new(GC_SLOTS);
	r = k.item ? blob_get(v, m->blob, &k.item->blob) : -ENOMEM;
	if (!r)
		r = gc_sharers(v, m, &k.sharers);
	if (r)
		return r;
	if (k.sharers.n <= 1 && !k.item->blob->pack) {
		k.item->kind = GC_BLOB;
		return content_blob_delete(v->db, m->blob);
	}
	r = blob_units_derive(k.item->blob);
	return r ? r : content_chunk_each(v->db, m->id, 0, collect_slot, &k);
}

static int drop_closed(struct volume *v, const struct content_map *m)
{
	int r = gc_drop_content(v, m);

	return r ? r : content_map_delete(v->db, m->id);
}

int gc_drop_map(struct volume *v, uint64_t map)
{
	struct content_map m;
	struct gc_item *i;
	int r;

	db_assert_txn(v->db);
	r = content_map_get(v->db, map, &m);
	if (r)
		return r;
	if (!filetab_map_open(v, map))
		return drop_closed(v, &m);
	i = item_new(GC_SUPERSEDED);
	if (!i)
		return -ENOMEM;
	i->map = map;
	m.state = CONTENT_MAP_SUPERSEDED;
	return content_map_update(v->db, &m);
}

/* The file was closed between the commit and gc_run: nobody else will drop its map. */
static void drop_late(struct volume *v, uint64_t map)
{
	int r = db_begin(v->db);

	if (!r) {
		r = gc_drop_map(v, map);
		if (r)
			db_rollback(v->db);
		else
			r = db_commit(v->db);
	}
	/* Left behind it is a stray map, which the next open of the volume removes. */
	if (r)
		log_debug("map %llu could not be dropped: %s", (unsigned long long)map,
			error_text(r));
	gc_run(v, !r);
}

void gc_run(struct volume *v, bool committed)
{
	struct gc_item *list = steal_ptr(&pending), *i;
	uint64_t gen = atomic_load(&v->undo_gen);

	while ((i = list)) {
		list = i->next;
		if (committed && i->kind == GC_BLOB) {
			durable_doom(v, steal_ptr(&i->blob));
		} else if (committed && i->kind == GC_SLOTS) {
			for (size_t k = 0; k < i->n; k++)
				blob_units_release(
					i->blob, i->slots[k].slot, i->slots[k].len, gen);
			if (durable_note_blob(v, i->blob))
				log_debug("blob %llu: units stay until it is loaded again",
					(unsigned long long)i->blob->id);
		} else if (committed && i->kind == GC_SUPERSEDED && !filetab_supersede(v, i->map)) {
			drop_late(v, i->map);
		}
		item_free(i);
	}
}
