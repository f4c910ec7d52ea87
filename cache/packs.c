#include "cache/packs.h"

#include <errno.h>

#include "base/error.h"
#include "base/failpoint.h"
#include "cache/volume_priv.h"

#define KEPT 32

struct current {
	uint64_t store;
	struct blob *pack;
	struct current *next;
};

struct packs {
	pthread_mutex_t lock;
	struct current *stores;    /* lock */
	pthread_mutex_t kept_lock; /* leaf */
	struct blob *kept[KEPT];   /* kept_lock; by id */
};

int packs_new(struct volume *v)
{
	struct packs *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	pthread_mutex_init(&p->lock, NULL);
	pthread_mutex_init(&p->kept_lock, NULL);
	v->packs = p;
	return 0;
}

static void set_current(struct current *c, struct blob *pack)
{
	struct blob *was = c->pack;

	if (was) {
		pthread_mutex_lock(&was->lock);
		was->current = false;
		pthread_mutex_unlock(&was->lock);
		blob_park(was);
	}
	c->pack = pack;
	if (pack) {
		pthread_mutex_lock(&pack->lock);
		pack->current = true;
		pthread_mutex_unlock(&pack->lock);
	}
}

void packs_close(struct volume *v)
{
	struct packs *p = v->packs;
	struct current *c;

	if (!p)
		return;
	while ((c = p->stores)) {
		p->stores = c->next;
		set_current(c, NULL);
		free(c);
	}
	for (size_t i = 0; i < KEPT; i++)
		blob_park(steal_ptr(&p->kept[i]));
}

void packs_free(struct volume *v)
{
	if (!v->packs)
		return;
	packs_close(v);
	pthread_mutex_destroy(&v->packs->lock);
	pthread_mutex_destroy(&v->packs->kept_lock);
	free(v->packs);
	v->packs = NULL;
}

void packs_keep(struct blob *b)
{
	struct packs *p = b->v->packs;
	struct blob **place = &p->kept[b->id % KEPT], *was = NULL;

	pthread_mutex_lock(&p->kept_lock);
	if (*place != b) {
		was = *place;
		*place = blob_ref(b);
	}
	pthread_mutex_unlock(&p->kept_lock);
	blob_park(was);
}

static struct current *current_of(struct packs *p, uint64_t store)
{
	struct current *c;

	for (c = p->stores; c && c->store != store; c = c->next)
		;
	if (c)
		return c;
	c = calloc(1, sizeof(*c));
	if (c) {
		c->store = store;
		c->next = p->stores;
		p->stores = c;
	}
	return c;
}

static int find_pack(struct volume *v, uint64_t store, struct blob **out)
{
	struct content_blob row;
	int r;

	db_read(v->db);
	r = content_blob_pack(v->db, store, (BLOB_PACK_UNITS << BLOB_UNIT_SHIFT) / 4 * 3,
		BLOB_PACK_SEALS_MAX, &row);
	if (!r)
		r = blob_get(v, row.id, out);
	db_unlock(v->db);
	return r;
}

/* Its row is there before anything is put into it, in a transaction of its own. */
static int make_pack(struct volume *v, uint64_t store, struct blob **out)
{
	struct content_blob row;
	struct blob *b;
	int r = blob_new(v, store, true, &b);

	if (r)
		return r;
	r = db_begin(v->db);
	if (r)
		goto fail;
	blob_row(b, &row);
	r = FAILPOINT("pack-make");
	if (!r)
		r = content_blob_insert(v->db, &row);
	if (!r)
		r = blob_publish(b, row.id);
	if (r)
		db_rollback(v->db);
	else
		r = db_commit(v->db);
	if (!r) {
		*out = b;
		return 0;
	}
	blob_withdraw(b);
fail:
	blob_unref(b);
	return r;
}

/* From the current pack, from one found, or from a new one. */
static int take(struct volume *v, struct current *c, uint32_t len, uint64_t *slot)
{
	struct blob *b = NULL;
	int r = c->pack ? blob_units_take(c->pack, len, slot) : -ENOBUFS;

	if (r != -ENOBUFS)
		return r;
	r = find_pack(v, c->store, &b);
	if (!r) {
		set_current(c, b);
		r = blob_units_take(b, len, slot);
	}
	if (r != -ENOBUFS && r != -ENOENT)
		return r;
	r = make_pack(v, c->store, &b);
	if (r)
		return r;
	set_current(c, b);
	return blob_units_take(b, len, slot);
}

int packs_take(struct volume *v, uint64_t store, uint32_t len, struct blob **out, uint64_t *slot)
{
	struct current *c;
	int r;

	pthread_mutex_lock(&v->packs->lock);
	c = current_of(v->packs, store);
	r = c ? take(v, c, len, slot) : -ENOMEM;
	if (!r)
		*out = blob_ref(c->pack);
	pthread_mutex_unlock(&v->packs->lock);
	return r;
}
