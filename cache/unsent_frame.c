/* Frames of unsent.log: what the index says of a record, as bytes (unsent.h, unsent_row.h). */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "cache/setup_priv.h"
#include "cache/tree_priv.h"
#include "cache/unsent_priv.h"

#define SETTING_MAX 8192

void unsent_frame_forget_map(struct unsent *u, uint64_t map)
{
	struct unsent_logged_map *m;

	HASH_FIND(hh, u->maps, &map, sizeof(map), m);
	if (!m)
		return;
	u->live -= MIN_OF(u->live, m->bytes);
	HASH_DEL(u->maps, m);
	free(m);
}
static int put_content(struct volume *v, struct buffer *b, const struct unsent_content *c,
	const struct unsent_logged_map *old)
{
	struct unsent *u = v->unsent;
	struct unsent_logged_map *l;
	size_t before = b->len;
	int r = unsent_row_put_content(b, c);

	if (r)
		return r;
	HASH_FIND(hh, u->maps, &c->map, sizeof(c->map), l);
	if (!l) {
		l = calloc(1, sizeof(*l));
		if (!l)
			return -ENOMEM;
		l->map = c->map;
		if (TABLE_ADD(hh, u->maps, map, l)) {
			free(l);
			return -ENOMEM;
		}
	}
	l->seq = u->seq;
	l->bytes += b->len - before;
	u->live += b->len - before;
	return 0;
}

/* A chain of changes is alive only as far as the map is long. */
static void trim_live(struct unsent *u, struct unsent_logged_map *l, const struct unsent_content *c)
{
	uint64_t most = 256 + 72 * ((c->size >> (c->has_blob ? c->blob.shift : 12)) + 1);

	if (l->bytes > most) {
		u->live -= MIN_OF(u->live, l->bytes - most);
		l->bytes = most;
	}
}

static int describe(struct volume *v, const struct content_map *m, struct unsent_content *c)
{
	c->map = m->id;
	c->size = m->size;
	c->has_blob = m->blob != 0;
	return m->blob ? content_blob_get(v->db, m->blob, &c->blob) : 0;
}

static int put_deltas(struct volume *v, struct buffer *b, const struct content_map *m,
	struct unsent_logged_map *l)
{
	int r = 0;

	for (struct unsent_delta *d = v->unsent->deltas; d && !r; d = d->next) {
		if (d->c.map != m->id)
			continue;
		r = describe(v, m, &d->c);
		d->c.after = l->seq;
		if (!r)
			r = put_content(v, b, &d->c, l);
		if (!r)
			trim_live(v->unsent, l, &d->c);
		d->c.map = 0; /* told */
	}
	return r;
}

static int add_chunk(void *arg, const struct content_chunk *k)
{
	struct unsent_content *c = arg;

	if (!(c->n_puts & (c->n_puts - 1))) {
		void *p = reallocarray(c->puts, c->n_puts ? 2 * c->n_puts : 1, sizeof(*c->puts));

		if (!p)
			return -ENOMEM;
		c->puts = p;
	}
	c->puts[c->n_puts++] = *k;
	return 0;
}

static int put_whole(struct volume *v, struct buffer *b, const struct content_map *m)
{
	_cleanup_(unsent_content_done) struct unsent_content c = { .cut = 0 };
	int r = describe(v, m, &c);

	if (!r)
		r = content_chunk_each(v->db, m->id, 0, add_chunk, &c);
	return r < 0 ? r : put_content(v, b, &c, NULL);
}

/* Content that is not wholly here is the origin's. */
static int put_map(struct volume *v, struct buffer *b, uint64_t map)
{
	struct unsent_logged_map *l;
	struct content_map m;
	int r = content_map_get(v->db, map, &m);

	if (r || !m.whole)
		return r;
	HASH_FIND(hh, v->unsent->maps, &map, sizeof(map), l);
	return l ? put_deltas(v, b, &m, l) : put_whole(v, b, &m);
}

static int put_store(struct volume *v, struct buffer *b, uint64_t store)
{
	struct unsent *u = v->unsent;
	struct store_row s;
	int r;

	for (size_t i = 0; i < u->n_stores; i++)
		if (u->stores[i] == store)
			return 0;
	r = store_get(v->db, store, &s);
	if (!r)
		r = unsent_row_put_store(b, &s);
	if (!r && u->n_stores < ARRAY_SIZE(u->stores))
		u->stores[u->n_stores++] = store;
	return r;
}

static int add_op(void *arg, const struct op_row *op)
{
	struct unsent_record *r = arg;

	if (!(r->n_ops & (r->n_ops - 1))) {
		void *p = reallocarray(r->ops, r->n_ops ? 2 * r->n_ops : 1, sizeof(*r->ops));

		if (!p)
			return -ENOMEM;
		r->ops = p;
	}
	r->ops[r->n_ops++] = *op;
	return 0;
}

/* Name, object, target, and the id of the directory it stands in. */
static int fill_name(struct volume *v, struct unsent_record *rec)
{
	int r = object_get(v->db, rec->n.object, &rec->o);

	if (!r && S_ISLNK(rec->o.mode))
		r = object_target(v->db, rec->o.id, &rec->target, &rec->target_len);
	if (r || rec->n.parent == TREE_NOWHERE)
		return r;
	r = tree_row_rid(v, rec->store, rec->n.parent, &rec->parent);
	return r == -ENOENT ? 0 : r;
}

static int fill(struct volume *v, const struct unsent_id *k, struct unsent_record *rec)
{
	int r = op_each_of_rid(v->db, k->store, k->rid.text, add_op, rec);

	rec->store = k->store;
	rec->rid = k->rid;
	if (r >= 0)
		r = name_by_rid(v->db, k->store, k->rid.text, &rec->n);
	if (r == -ENOENT)
		return 0;
	rec->has_name = true;
	return r ? r : fill_name(v, rec);
}

static struct unsent_logged *find_logged(struct unsent *u, const struct unsent_id *k)
{
	struct unsent_logged *l;

	HASH_FIND(hh, u->records, k, sizeof(*k), l);
	return l;
}

/* The maps whose content the rows of the record need. */
static void maps_of(const struct unsent_record *rec, uint64_t maps[static 2])
{
	maps[0] = maps[1] = 0;
	for (size_t i = 0; i < rec->n_ops; i++) {
		if (rec->ops[i].kind != OP_PUT)
			continue;
		if (rec->has_name && S_ISREG(rec->o.mode))
			maps[0] = rec->o.map;
		if (rec->ops[i].map)
			maps[1] = rec->ops[i].map;
	}
}

static int note_logged(
	struct unsent *u, const struct unsent_id *k, uint64_t bytes, const uint64_t maps[static 2])
{
	struct unsent_logged *l = find_logged(u, k);

	if (!l) {
		l = calloc(1, sizeof(*l));
		if (!l)
			return -ENOMEM;
		l->key = *k;
		if (TABLE_ADD(hh, u->records, key, l)) {
			free(l);
			return -ENOMEM;
		}
	}
	for (size_t i = 0; i < 2; i++)
		if (l->maps[i] && l->maps[i] != maps[0] && l->maps[i] != maps[1])
			unsent_frame_forget_map(u, l->maps[i]);
	memcpy(l->maps, maps, sizeof(l->maps));
	u->live += bytes - MIN_OF(u->live, l->bytes);
	l->bytes = bytes;
	return 0;
}

static int put_gone(struct unsent *u, struct buffer *b, const struct unsent_id *k)
{
	static const uint64_t none[2];
	struct unsent_logged *l = find_logged(u, k);
	int r;

	if (!l)
		return 0;
	r = unsent_row_put_gone(b, k->store, k->rid.text);
	if (!r)
		r = note_logged(u, k, 0, none);
	HASH_DEL(u->records, l);
	free(l);
	return r;
}

static int put_rows(struct volume *v, struct buffer *b, const struct unsent_id *k,
	const struct unsent_record *rec)
{
	uint64_t maps[2];
	size_t before;
	int r = put_store(v, b, k->store);

	maps_of(rec, maps);
	for (size_t i = 0; i < 2 && !r; i++)
		if (maps[i])
			r = put_map(v, b, maps[i]);
	before = b->len;
	if (!r)
		r = unsent_row_put_record(b, rec);
	if (!r)
		r = note_logged(v->unsent, k, b->len - before, maps);
	return r;
}

/* A directory without journal rows of its own may have been told for what is inside. *dir: where it
 * stands. */
static int put_one(
	struct volume *v, struct buffer *b, const struct unsent_id *k, bool always, uint64_t *dir)
{
	_cleanup_unsent_ struct unsent_record rec = { 0 };
	int r = fill(v, k, &rec);

	if (r)
		return r;
	if (!rec.n_ops && !always &&
		!(rec.has_name && S_ISDIR(rec.o.mode) && find_logged(v->unsent, k)))
		return put_gone(v->unsent, b, k);
	*dir = rec.has_name ? rec.n.parent : TREE_NOWHERE;
	return put_rows(v, b, k, &rec);
}

int unsent_frame_record(struct volume *v, struct buffer *b, const struct unsent_id *record)
{
	uint64_t dir = TREE_NOWHERE;
	int r = put_one(v, b, record, false, &dir);

	while (!r && dir != TREE_NOWHERE && dir != OBJECT_ROOT) {
		struct name_row n;
		struct unsent_id k;

		r = tree_row_name_of(v, dir, &n);
		if (r || !n.rid.text[0])
			return r == -ENOENT ? 0 : r;
		k = unsent_id_of(n.store, n.rid.text);
		if (find_logged(v->unsent, &k))
			return 0;
		r = put_one(v, b, &k, true, &dir);
	}
	return r;
}
static int get_setting(struct volume *v, const char *key, uint8_t *buf, struct unsent_bytes *out)
{
	int r = setting_get(v->db, key, buf, SETTING_MAX, &out->len);

	out->p = buf;
	if (r == -ENOENT)
		out->len = 0;
	return r == -ENOENT ? 0 : r;
}

int unsent_frame_volume(struct volume *v, struct buffer *b)
{
	_cleanup_secret_ struct secret *s = NULL;
	struct unsent_volume vol = { 0 };
	uint8_t *p;
	int r = secret_new(4 * SETTING_MAX, &s);

	if (r)
		return r;
	p = secret_bytes(s);
	r = setting_get_u64(v->db, SETUP_OPENED, &vol.opened);
	if (!r || r == -ENOENT)
		r = op_last_seq(v->db, &vol.op_seq);
	vol.durable_seq = v->unsent->op_seq;
	if (!r)
		r = get_setting(v, SETUP_DEVICE, p, &vol.device);
	if (!r)
		r = get_setting(v, SETUP_ORIGIN, p + SETTING_MAX, &vol.origin);
	if (!r)
		r = get_setting(v, SETUP_TOKEN, p + 2 * SETTING_MAX, &vol.token);
	if (!r)
		r = get_setting(v, SETUP_STORE, p + 3 * SETTING_MAX, &vol.store);
	return r ? r : unsent_row_put_volume(b, &vol);
}
