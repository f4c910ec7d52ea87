/*
 * Theory of operation.
 *
 * During a transaction the records whose journal rows change are noted (`touched`), and what a
 * commit of content changes in its map (`deltas`). At its end each noted record is read back from
 * the index and written down as it is: a frame says what is, not what was done, so a lost frame
 * costs only what it says. Content is the exception: of a map that is in the log only the change is
 * written, with the number of the frame it continues.
 *
 * `records` and `maps` say what the log has. They change while a frame is put together; if that or
 * the write fails, or the transaction is rolled back afterwards, they and the log no longer agree
 * with the index: `broken`, and the log is made anew by the next commit, in its transaction, or by
 * the keeper.
 *
 * Live bytes are estimated by what was last written of each record and map.
 */
#include "cache/unsent.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include <uthash.h>

#include "base/error.h"
#include "base/log.h"
#include "cache/chunkmap.h"
#include "cache/setup_priv.h"
#include "cache/tree_priv.h"
#include "cache/unsent_log.h"
#include "cache/unsent_model.h"
#include "cache/unsent_row.h"
#include "crypto/kdf.h"

#define TIDY_MIN_BYTES (UINT64_C(1) << 20)
#define FRAME_BYTES ((size_t)256 << 10) /* of one that is made of many records */
#define SETTING_MAX 8192

struct key {
	uint64_t store;
	struct row_rid rid;
};

struct touched {
	struct key key;
	UT_hash_handle hh;
};

/* A record the log has, with the maps its last frame speaks of. */
struct logged {
	struct key key;
	uint64_t bytes, maps[2];
	UT_hash_handle hh;
};

struct logged_map {
	uint64_t map, seq, bytes;
	UT_hash_handle hh;
};

struct delta {
	struct unsent_content c;
	struct delta *next;
};

struct unsent {
	struct secret *key; /* of the log */
	bool on;
	/* Index lock. */
	struct touched *touched;
	struct delta *deltas;
	bool appended, failed; /* in this transaction */
	struct logged *records;
	struct logged_map *maps;
	uint64_t stores[16]; /* told in this file; the others are told again */
	size_t n_stores;
	uint64_t live;
	uint64_t seq; /* of the frame that is put together */

	pthread_mutex_t sync_lock; /* leaf; held while the log is synced: before `lock` */
	pthread_mutex_t lock;      /* leaf: all below */
	struct unsent_log *log;
	bool broken;
	uint64_t beside; /* bytes of one that is being made */
	uint64_t op_seq; /* told to be durable */
};

int unsent_new(struct volume *v)
{
	struct unsent *u = calloc(1, sizeof(*u));

	if (!u)
		return -ENOMEM;
	pthread_mutex_init(&u->sync_lock, NULL);
	pthread_mutex_init(&u->lock, NULL);
	v->unsent = u;
	return 0;
}

static void forget_deltas(struct unsent *u)
{
	struct delta *d;

	while ((d = u->deltas)) {
		u->deltas = d->next;
		unsent_content_done(&d->c);
		free(d);
	}
}

static void forget_touched(struct unsent *u)
{
	struct touched *t, *next;

	HASH_ITER (hh, u->touched, t, next) {
		HASH_DEL(u->touched, t);
		free(t);
	}
}

static void forget_logged(struct unsent *u)
{
	struct logged *l, *next;
	struct logged_map *m, *next_map;

	HASH_ITER (hh, u->records, l, next) {
		HASH_DEL(u->records, l);
		free(l);
	}
	HASH_ITER (hh, u->maps, m, next_map) {
		HASH_DEL(u->maps, m);
		free(m);
	}
	u->n_stores = 0;
	u->live = 0;
}

void unsent_free(struct volume *v)
{
	struct unsent *u = v->unsent;

	if (!u)
		return;
	forget_deltas(u);
	forget_touched(u);
	forget_logged(u);
	unsent_log_free(u->log);
	secret_free(u->key);
	pthread_mutex_destroy(&u->sync_lock);
	pthread_mutex_destroy(&u->lock);
	free(u);
	v->unsent = NULL;
}

int unsent_set_key(struct volume *v, const struct secret *index_key)
{
	struct secret *key = NULL;
	int r = secret_new(KDF_KEY_LEN, &key);

	if (!r)
		r = kdf_blake2b(
			secret_cbytes(index_key), KDF_LABEL_UNSENT, NULL, 0, secret_bytes(key));
	if (r) {
		secret_free(key);
		return r;
	}
	secret_free(v->unsent->key);
	v->unsent->key = key;
	return 0;
}

const struct secret *unsent_key(const struct volume *v)
{
	return v->unsent->key;
}

/* --- notes during a transaction --- */

static struct key key_of(uint64_t store, const char *rid)
{
	struct key k;

	memset(&k, 0, sizeof(k)); /* it is hashed with its padding */
	k.store = store;
	memcpy(k.rid.text, rid, strnlen(rid, ROW_RID_MAX));
	return k;
}

/* Without memory the whole log is made anew: nothing is left out. */
static void touch(struct unsent *u, uint64_t store, const char *rid)
{
	struct key k = key_of(store, rid);
	struct touched *t;

	HASH_FIND(hh, u->touched, &k, sizeof(k), t);
	if (t)
		return;
	t = malloc(sizeof(*t));
	if (!t) {
		u->failed = true;
		return;
	}
	t->key = k;
	HASH_ADD(hh, u->touched, key, sizeof(t->key), t);
}

void unsent_note(struct volume *v, uint64_t store, const char *rid)
{
	if (v->unsent->on && *rid)
		touch(v->unsent, store, rid);
}

void unsent_op_changed(void *arg, uint64_t store, const char *rid)
{
	unsent_note(arg, store, rid);
}

static int add_change(void *arg, struct chunk_entry *e)
{
	struct unsent_content *c = arg;

	if (e->state == CHUNK_SEALED)
		c->puts[c->n_puts++] = e->c;
	else
		c->drops[c->n_drops++] = e->c.idx;
	return 0;
}

void unsent_content(struct volume *v, const struct content_map *m, struct chunkmap *changes)
{
	struct unsent *u = v->unsent;
	struct delta *d;

	if (!u->on)
		return;
	d = calloc(1, sizeof(*d));
	if (d) {
		d->c = (struct unsent_content){ .map = m->id, .cut = changes->cut };
		d->c.puts = calloc(changes->n_pending + 1, sizeof(*d->c.puts));
		d->c.drops = calloc(changes->n_pending + 1, sizeof(*d->c.drops));
		d->next = u->deltas;
		u->deltas = d;
	}
	if (!d || !d->c.puts || !d->c.drops || chunkmap_each_pending(changes, add_change, &d->c))
		u->failed = true;
}

static int note_name(void *arg, const struct name_row *n, const struct object_row *o)
{
	unsent_note(arg, n->store, n->rid.text);
	return 0;
}

static void forget_map(struct unsent *u, uint64_t map)
{
	struct logged_map *m;

	HASH_FIND(hh, u->maps, &map, sizeof(map), m);
	if (!m)
		return;
	u->live -= MIN_OF(u->live, m->bytes);
	HASH_DEL(u->maps, m);
	free(m);
}

void unsent_moved(struct volume *v, uint64_t map)
{
	struct unsent *u = v->unsent;
	struct logged_map *l;
	struct content_map m;

	if (!u->on)
		return;
	HASH_FIND(hh, u->maps, &map, sizeof(map), l);
	if (!l)
		return;
	forget_map(u, map);
	if (content_map_get(v->db, map, &m) || name_each_of(v->db, m.object, note_name, v) < 0)
		u->failed = true;
}

/* --- a frame --- */

static int put_content(struct volume *v, struct buffer *b, const struct unsent_content *c,
	const struct logged_map *old)
{
	struct unsent *u = v->unsent;
	struct logged_map *l;
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
		HASH_ADD(hh, u->maps, map, sizeof(l->map), l);
	}
	l->seq = u->seq;
	l->bytes += b->len - before;
	u->live += b->len - before;
	return 0;
}

/* A chain of changes is alive only as far as the map is long. */
static void trim_live(struct unsent *u, struct logged_map *l, const struct unsent_content *c)
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

static int put_deltas(
	struct volume *v, struct buffer *b, const struct content_map *m, struct logged_map *l)
{
	int r = 0;

	for (struct delta *d = v->unsent->deltas; d && !r; d = d->next) {
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
	struct logged_map *l;
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

static int fill(struct volume *v, const struct key *k, struct unsent_record *rec)
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

static struct logged *find_logged(struct unsent *u, const struct key *k)
{
	struct logged *l;

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
	struct unsent *u, const struct key *k, uint64_t bytes, const uint64_t maps[static 2])
{
	struct logged *l = find_logged(u, k);

	if (!l) {
		l = calloc(1, sizeof(*l));
		if (!l)
			return -ENOMEM;
		l->key = *k;
		HASH_ADD(hh, u->records, key, sizeof(l->key), l);
	}
	for (size_t i = 0; i < 2; i++)
		if (l->maps[i] && l->maps[i] != maps[0] && l->maps[i] != maps[1])
			forget_map(u, l->maps[i]);
	memcpy(l->maps, maps, sizeof(l->maps));
	u->live += bytes - MIN_OF(u->live, l->bytes);
	l->bytes = bytes;
	return 0;
}

static int put_gone(struct unsent *u, struct buffer *b, const struct key *k)
{
	static const uint64_t none[2];
	struct logged *l = find_logged(u, k);
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

static int put_rows(
	struct volume *v, struct buffer *b, const struct key *k, const struct unsent_record *rec)
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
	struct volume *v, struct buffer *b, const struct key *k, bool always, uint64_t *dir)
{
	_cleanup_record_ struct unsent_record rec = { 0 };
	int r = fill(v, k, &rec);

	if (r)
		return r;
	if (!rec.n_ops && !always &&
		!(rec.has_name && S_ISDIR(rec.o.mode) && find_logged(v->unsent, k)))
		return put_gone(v->unsent, b, k);
	*dir = rec.has_name ? rec.n.parent : TREE_NOWHERE;
	return put_rows(v, b, k, &rec);
}

/* The record, and each directory above it that the log does not have. */
static int put_record(struct volume *v, struct buffer *b, const struct key *record)
{
	uint64_t dir = TREE_NOWHERE;
	int r = put_one(v, b, record, false, &dir);

	while (!r && dir != TREE_NOWHERE && dir != OBJECT_ROOT) {
		struct name_row n;
		struct key k;

		r = tree_row_name_of(v, dir, &n);
		if (r || !n.rid.text[0])
			return r == -ENOENT ? 0 : r;
		k = key_of(n.store, n.rid.text);
		if (find_logged(v->unsent, &k))
			return 0;
		r = put_one(v, b, &k, true, &dir);
	}
	return r;
}

static int append(struct unsent *u, struct unsent_log *log, struct buffer *b)
{
	uint64_t seq;
	int r = b->len ? unsent_log_append(log, b->data, b->len, &seq) : 0;

	if (b->len && !r)
		u->seq = seq + 1;
	if (b->data)
		secret_wipe(b->data, b->len);
	b->len = 0;
	return r;
}

static int put_touched(struct volume *v, struct unsent_log *log, struct buffer *b, size_t most)
{
	struct unsent *u = v->unsent;
	struct touched *t, *next;
	int r = 0;

	HASH_ITER (hh, u->touched, t, next) {
		if (!r)
			r = put_record(v, b, &t->key);
		if (!r && b->len > most)
			r = append(u, log, b);
	}
	return r ? r : append(u, log, b);
}

/* --- the log made anew --- */

static int get_setting(struct volume *v, const char *key, uint8_t *buf, struct unsent_bytes *out)
{
	int r = setting_get(v->db, key, buf, SETTING_MAX, &out->len);

	out->p = buf;
	if (r == -ENOENT)
		out->len = 0;
	return r == -ENOENT ? 0 : r;
}

static int put_volume(struct volume *v, struct buffer *b)
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

static int touch_op(void *arg, const struct op_row *op)
{
	touch(arg, op->store, op->rid.text);
	return 0;
}

static int fill_log(struct volume *v, struct unsent_log *log)
{
	struct unsent *u = v->unsent;
	struct buffer b = { 0 };
	int r;

	forget_logged(u);
	forget_deltas(u); /* the rows have them */
	u->failed = false;
	u->seq = 1;
	r = put_volume(v, &b);
	if (!r)
		r = op_each(v->db, 0, touch_op, u);
	if (!r && u->failed)
		r = -ENOMEM;
	if (r >= 0)
		r = put_touched(v, log, &b, FRAME_BYTES);
	buffer_done(&b);
	return r;
}

static void set_beside(struct unsent *u, uint64_t bytes)
{
	pthread_mutex_lock(&u->lock);
	u->beside = bytes;
	pthread_mutex_unlock(&u->lock);
}

static void use(struct unsent *u, struct unsent_log *log)
{
	struct unsent_log *old;

	pthread_mutex_lock(&u->sync_lock);
	pthread_mutex_lock(&u->lock);
	old = u->log;
	u->log = log;
	u->broken = false;
	u->beside = 0;
	pthread_mutex_unlock(&u->lock);
	pthread_mutex_unlock(&u->sync_lock);
	unsent_log_free(old);
}

/* From what the index says now; its lock is held. */
static int make_anew(struct volume *v)
{
	struct unsent *u = v->unsent;
	struct unsent_log *log = NULL;
	int r;

	set_beside(u, u->live);
	r = unsent_log_make(v->dirfd, u->key, &log);
	if (!r)
		r = fill_log(v, log);
	if (!r)
		r = unsent_log_publish(log, v->dirfd);
	if (!r) {
		use(u, log);
		return 0;
	}
	unsent_log_free(log);
	unlinkat(v->dirfd, UNSENT_NEW_FILE, 0);
	set_beside(u, 0);
	return r;
}

/* --- hooks --- */

static void set_broken(struct unsent *u)
{
	pthread_mutex_lock(&u->lock);
	u->broken = true;
	pthread_mutex_unlock(&u->lock);
}

static bool is_broken(struct unsent *u)
{
	bool broken;

	pthread_mutex_lock(&u->lock);
	broken = u->broken;
	pthread_mutex_unlock(&u->lock);
	return broken;
}

static int append_touched(struct volume *v)
{
	struct unsent *u = v->unsent;
	struct buffer b = { 0 };
	int r = put_touched(v, u->log, &b, SIZE_MAX);

	buffer_done(&b);
	return r;
}

int unsent_before_commit(void *arg)
{
	struct volume *v = arg;
	struct unsent *u = v->unsent;
	int r;

	if (!u->on || (!u->touched && !u->failed))
		return 0;
	u->appended = true;
	if (is_broken(u) || u->failed)
		r = make_anew(v);
	else
		r = append_touched(v);
	if (r)
		set_broken(u);
	return r;
}

void unsent_ended(void *arg, bool committed)
{
	struct volume *v = arg;
	struct unsent *u = v->unsent;

	if (!committed && u->appended)
		set_broken(u);
	u->appended = u->failed = false;
	forget_touched(u);
	forget_deltas(u);
}

/* --- the rest --- */

int unsent_ahead(struct volume *v, bool *ahead)
{
	uint64_t opened = 0, op_seq = 0, logged_opened, logged_seq;
	int r = unsent_model_peek(v->dirfd, v->unsent->key, &logged_opened, &logged_seq);

	if (r)
		return r;
	db_read(v->db);
	r = setting_get_u64(v->db, SETUP_OPENED, &opened);
	if (!r || r == -ENOENT)
		r = op_last_seq(v->db, &op_seq);
	db_unlock(v->db);
	if (!r)
		*ahead = logged_opened > opened || logged_seq > op_seq;
	return r;
}

int unsent_start(struct volume *v)
{
	struct unsent *u = v->unsent;
	int r;

	db_read(v->db);
	r = op_last_seq(v->db, &u->op_seq);
	if (!r)
		r = make_anew(v);
	forget_touched(u);
	u->on = !r;
	db_unlock(v->db);
	return r;
}

int unsent_sync(struct volume *v)
{
	struct unsent *u = v->unsent;
	int r = 0;

	pthread_mutex_lock(&u->sync_lock);
	if (u->log)
		r = unsent_log_sync(u->log);
	pthread_mutex_unlock(&u->sync_lock);
	if (r)
		set_broken(u);
	return r;
}

void unsent_synced(struct volume *v, uint64_t op_seq)
{
	struct unsent *u = v->unsent;
	struct buffer b = { 0 };
	uint64_t seq;

	db_read(v->db);
	if (u->on && !is_broken(u) && op_seq > u->op_seq) {
		if (unsent_row_put_synced(&b, op_seq) ||
			unsent_log_append(u->log, b.data, b.len, &seq))
			set_broken(u);
		else
			u->seq = seq + 1;
		u->op_seq = op_seq;
	}
	db_unlock(v->db);
	buffer_done(&b);
}

void unsent_tidy(struct volume *v)
{
	struct unsent *u = v->unsent;
	uint64_t bytes = unsent_bytes(v);
	int r = 0;

	if (!is_broken(u) && bytes < TIDY_MIN_BYTES)
		return;
	db_read(v->db);
	if (u->on && (is_broken(u) || u->live < bytes / 2))
		r = make_anew(v);
	forget_touched(u);
	db_unlock(v->db);
	if (r)
		log_debug("unsent.log was not made anew: %s", error_text(r));
}

uint64_t unsent_bytes(struct volume *v)
{
	struct unsent *u = v->unsent;
	uint64_t bytes;

	pthread_mutex_lock(&u->lock);
	bytes = u->beside + (u->log ? unsent_log_bytes(u->log) : 0);
	pthread_mutex_unlock(&u->lock);
	return bytes;
}
