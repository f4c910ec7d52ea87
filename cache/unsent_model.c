#include "cache/unsent_model.h"

#include <errno.h>
#include <string.h>

#include "base/array.h"
#include "base/error.h"
#include "cache/unsent_log.h"

void unsent_model_done(struct model *m)
{
	struct model_store *s;
	struct model_record *rec, *next_rec;
	struct model_map *map, *next_map;

	while ((s = m->stores)) {
		m->stores = s->next;
		free(s);
	}
	HASH_ITER (hh, m->records, rec, next_rec) {
		HASH_DEL(m->records, rec);
		free(rec->body);
		free(rec);
	}
	HASH_ITER (hh, m->maps, map, next_map) {
		HASH_DEL(m->maps, map);
		unsent_content_done(&map->c);
		free(map);
	}
	secret_free(m->settings);
}

struct model_store *unsent_model_store(const struct model *m, uint64_t number)
{
	struct model_store *s = m->stores;

	while (s && s->s.id != number)
		s = s->next;
	return s;
}

struct model_record *unsent_model_record(const struct model *m, const struct model_key *key)
{
	struct model_record *rec;

	HASH_FIND(hh, m->records, key, sizeof(*key), rec);
	return rec;
}

struct model_map *unsent_model_map(const struct model *m, uint64_t map)
{
	struct model_map *found;

	HASH_FIND(hh, m->maps, &map, sizeof(map), found);
	return found;
}

/* --- one record of the log at a time --- */

static int copy_setting(struct model *m, size_t *at, struct unsent_bytes *b)
{
	uint8_t *to = secret_bytes(m->settings) + *at;

	memcpy(to, b->p, b->len);
	b->p = to;
	*at += b->len;
	return 0;
}

static int take_volume(struct model *m, struct unsent_bytes body)
{
	size_t at = 0;
	int r = unsent_row_get_volume(body, &m->volume);

	if (r || m->settings)
		return r ? r : CE_CORRUPT;
	r = secret_new(body.len, &m->settings);
	if (!r)
		r = copy_setting(m, &at, &m->volume.device);
	if (!r)
		r = copy_setting(m, &at, &m->volume.origin);
	if (!r)
		r = copy_setting(m, &at, &m->volume.token);
	if (!r)
		r = copy_setting(m, &at, &m->volume.store);
	m->op_seq = MAX_OF(m->op_seq, m->volume.op_seq);
	return r;
}

static int take_store(struct model *m, struct unsent_bytes body)
{
	struct store_row row;
	struct model_store *s;
	int r = unsent_row_get_store(body, &row);

	if (r)
		return r;
	s = unsent_model_store(m, row.id);
	if (!s) {
		s = calloc(1, sizeof(*s));
		if (!s)
			return -ENOMEM;
		s->next = m->stores;
		m->stores = s;
	}
	s->s = row;
	return 0;
}

static int read_key(struct unsent_bytes body, struct model_key *key)
{
	memset(key, 0, sizeof(*key)); /* it is hashed with its padding */
	return unsent_row_get_key(body, &key->store, &key->rid);
}

static int take_gone(struct model *m, struct unsent_bytes body)
{
	struct model_record *rec;
	struct model_key key;
	int r = read_key(body, &key);

	rec = r ? NULL : unsent_model_record(m, &key);
	if (!rec)
		return r;
	HASH_DEL(m->records, rec);
	free(rec->body);
	free(rec);
	return 0;
}

static struct model_record *record_of(struct model *m, const struct model_key *key)
{
	struct model_record *rec = unsent_model_record(m, key);

	if (rec)
		return rec;
	rec = calloc(1, sizeof(*rec));
	if (!rec)
		return NULL;
	rec->key = *key;
	if (TABLE_ADD(hh, m->records, key, rec)) {
		free(rec);
		return NULL;
	}
	return rec;
}

static int take_record(struct model *m, struct unsent_bytes body)
{
	_cleanup_unsent_ struct unsent_record r = { 0 };
	struct model_record *rec;
	struct model_key key;
	uint8_t *copy;
	int code = unsent_row_get_record(body, &r);

	if (!code)
		code = read_key(body, &key);
	if (code)
		return code;
	copy = malloc(body.len);
	rec = copy ? record_of(m, &key) : NULL;
	if (!rec) {
		free(copy);
		return -ENOMEM;
	}
	memcpy(copy, body.p, body.len);
	free(rec->body);
	rec->body = copy;
	rec->len = body.len;
	rec->parent = (struct model_key){ .store = 0 };
	memset(&rec->parent, 0, sizeof(rec->parent));
	rec->parent.store = r.store;
	strcpy(rec->parent.rid.text, r.parent.text);
	for (size_t i = 0; i < r.n_ops; i++)
		m->op_seq = MAX_OF(m->op_seq, r.ops[i].seq);
	return 0;
}

/* --- chunk maps --- */

/* The first chunk with an index >= idx. */
static size_t find_chunk(const struct unsent_content *c, uint64_t idx)
{
	size_t low = 0, high = c->n_puts;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (c->puts[mid].idx < idx)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static int put_chunk(struct model_map *m, const struct content_chunk *k)
{
	struct unsent_content *c = &m->c;
	size_t at = find_chunk(c, k->idx);

	if (at < c->n_puts && c->puts[at].idx == k->idx) {
		c->puts[at] = *k;
		return 0;
	}
	if (ARRAY_ROOM(c->puts, c->n_puts, m->room))
		return -ENOMEM;
	memmove(&c->puts[at + 1], &c->puts[at], (c->n_puts - at) * sizeof(*c->puts));
	c->puts[at] = *k;
	c->n_puts++;
	return 0;
}

static void drop_chunk(struct unsent_content *c, uint64_t idx)
{
	size_t at = find_chunk(c, idx);

	if (at == c->n_puts || c->puts[at].idx != idx)
		return;
	c->n_puts--;
	memmove(&c->puts[at], &c->puts[at + 1], (c->n_puts - at) * sizeof(*c->puts));
}

static int apply(struct model_map *m, const struct unsent_content *c)
{
	int r = 0;

	m->c.has_blob = c->has_blob;
	m->c.blob = c->blob;
	m->c.size = c->size;
	m->c.n_puts = find_chunk(&m->c, c->cut);
	for (size_t i = 0; i < c->n_drops; i++)
		drop_chunk(&m->c, c->drops[i]);
	for (size_t i = 0; i < c->n_puts && !r; i++)
		r = put_chunk(m, &c->puts[i]);
	return r;
}

static struct model_map *map_of(struct model *m, uint64_t map)
{
	struct model_map *found = unsent_model_map(m, map);

	if (found)
		return found;
	found = calloc(1, sizeof(*found));
	if (!found)
		return NULL;
	found->map = map;
	if (TABLE_ADD(hh, m->maps, map, found)) {
		free(found);
		return NULL;
	}
	return found;
}

static int take_content(struct model *m, uint64_t seq, struct unsent_bytes body)
{
	_cleanup_(unsent_content_done) struct unsent_content c = { 0 };
	struct model_map *map;
	int r = unsent_row_get_content(body, &c);

	if (r)
		return r;
	map = map_of(m, c.map);
	if (!map)
		return -ENOMEM;
	/* Several records of one frame may go on with each other. */
	if (!c.after)
		map->broken = false;
	else if (c.after != map->seq)
		map->broken = true;
	map->seq = seq;
	return apply(map, &c);
}

static int take_synced(struct model *m, struct unsent_bytes body)
{
	uint64_t seq;
	int r = unsent_row_get_synced(body, &seq);

	if (!r)
		m->op_seq = MAX_OF(m->op_seq, seq);
	return r;
}

static int take(void *arg, uint64_t seq, const uint8_t *data, size_t len)
{
	struct unsent_bytes frame = { data, len }, body;
	struct model *m = arg;
	enum unsent_kind kind;
	int r;

	while ((r = unsent_row_next(&frame, &kind, &body)) == 1) {
		switch (kind) {
		case UNSENT_VOLUME:
			r = take_volume(m, body);
			break;
		case UNSENT_STORE:
			r = take_store(m, body);
			break;
		case UNSENT_RECORD:
			r = take_record(m, body);
			break;
		case UNSENT_GONE:
			r = take_gone(m, body);
			break;
		case UNSENT_CONTENT:
			r = take_content(m, seq, body);
			break;
		case UNSENT_SYNCED:
			r = take_synced(m, body);
			break;
		default:
			r = CE_FORMAT;
		}
		if (r < 0)
			return r;
	}
	return r;
}

int unsent_model_load(int dirfd, const struct secret *key, const struct unsent_copies *copies,
	struct model *out)
{
	struct model m = { 0 };
	int r = unsent_log_read(dirfd, key, copies, take, &m, &m.damaged);

	/* Without its first frame there is no origin to send to. */
	if (!r && !m.settings)
		r = CE_TAMPER;
	if (r)
		unsent_model_done(&m);
	else
		*out = m;
	return r;
}

/* --- a glance --- */

struct peek {
	uint64_t opened, op_seq;
};

static int peek_frame(void *arg, uint64_t seq, const uint8_t *data, size_t len)
{
	struct unsent_bytes frame = { data, len }, body;
	struct unsent_volume v;
	struct peek *p = arg;
	enum unsent_kind kind;
	uint64_t op_seq;
	int r;

	while ((r = unsent_row_next(&frame, &kind, &body)) == 1) {
		if (kind == UNSENT_VOLUME && !unsent_row_get_volume(body, &v)) {
			p->opened = v.opened;
			p->op_seq = MAX_OF(p->op_seq, v.durable_seq);
		} else if (kind == UNSENT_SYNCED && !unsent_row_get_synced(body, &op_seq)) {
			p->op_seq = MAX_OF(p->op_seq, op_seq);
		}
	}
	return r;
}

int unsent_model_peek(int dirfd, const struct secret *key, uint64_t *opened, uint64_t *op_seq)
{
	struct peek p = { 0 };
	bool damaged;
	int r = unsent_log_read(dirfd, key, NULL, peek_frame, &p, &damaged);

	if (r)
		return r;
	*opened = p.opened;
	*op_seq = p.op_seq;
	return 0;
}
