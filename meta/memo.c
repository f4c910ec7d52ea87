#include "meta/memo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"

#define OBJECTS 64
#define NAMES 16
#define STORES 4
#define MAPS 16
#define BLOBS 4
#define OPS 8

/* By id (a name by its object's), each in the one place where it can be; id 0: empty. Journal rows
 * by their record, wherever; rid "": empty. */
struct rows {
	struct object_row objects[OBJECTS];
	struct name_row names[NAMES];
	bool only[NAMES]; /* its object has no other */
	struct store_row stores[STORES];
	struct content_map maps[MAPS];
	struct content_blob blobs[BLOBS];
	struct op_row ops[OPS];
	unsigned op_hand;
	uint64_t made; /* this object has no name; 0: none is known to have none */
};

struct memo {
	struct secret *memory;
	struct rows *rows; /* there */
};

int memo_new(struct memo **out)
{
	struct memo *m = calloc(1, sizeof(*m));
	int r = m ? secret_new(sizeof(struct rows), &m->memory) : -ENOMEM;

	if (r) {
		free(m);
		return r;
	}
	m->rows = (struct rows *)secret_bytes(m->memory);
	*out = m;
	memo_clear(m);
	return 0;
}

void memo_free(struct memo *m)
{
	if (m)
		secret_free(m->memory);
	free(m);
}

void memo_clear(struct memo *m)
{
	if (m)
		secret_wipe(m->rows, sizeof(*m->rows));
}

/* --- objects --- */

bool memo_object(const struct memo *m, uint64_t id, struct object_row *out)
{
	if (!m || !id || m->rows->objects[id % OBJECTS].id != id)
		return false;
	*out = m->rows->objects[id % OBJECTS];
	return true;
}

void memo_put_object(struct memo *m, const struct object_row *o)
{
	if (m)
		m->rows->objects[o->id % OBJECTS] = *o;
}

void memo_made_object(struct memo *m, const struct object_row *o)
{
	memo_put_object(m, o);
	if (m)
		m->rows->made = o->id;
}

void memo_update_object(struct memo *m, const struct object_row *o)
{
	struct object_row was;

	if (!memo_object(m, o->id, &was))
		return;
	m->rows->objects[o->id % OBJECTS] = *o;
	m->rows->objects[o->id % OBJECTS].store = was.store;
	m->rows->objects[o->id % OBJECTS].btime_ns = was.btime_ns;
}

void memo_drop_object(struct memo *m, uint64_t id)
{
	if (m && m->rows->objects[id % OBJECTS].id == id)
		m->rows->objects[id % OBJECTS].id = 0;
}

/* --- names --- */

bool memo_name_of(const struct memo *m, uint64_t object, struct name_row *out)
{
	const struct name_row *n = m ? &m->rows->names[object % NAMES] : NULL;

	if (!n || !n->id || n->object != object || !m->rows->only[object % NAMES])
		return false;
	*out = *n;
	return true;
}

bool memo_name_by_rid(const struct memo *m, uint64_t store, const char *rid, struct name_row *out)
{
	for (size_t i = 0; m && *rid && i < NAMES; i++) {
		const struct name_row *n = &m->rows->names[i];

		if (n->id && n->store == store && !strcmp(n->rid.text, rid)) {
			*out = *n;
			return true;
		}
	}
	return false;
}

bool memo_name_at(
	const struct memo *m, uint64_t parent, const void *name, size_t len, struct name_row *out)
{
	for (size_t i = 0; m && i < NAMES; i++) {
		const struct name_row *n = &m->rows->names[i];

		if (n->id && n->parent == parent && n->name.len == len &&
			!memcmp(n->name.bytes, name, len)) {
			*out = *n;
			return true;
		}
	}
	return false;
}

void memo_put_name(struct memo *m, const struct name_row *n, bool only)
{
	size_t at = n->object % NAMES;

	if (!m)
		return;
	m->rows->only[at] = only || (m->rows->names[at].id == n->id && m->rows->only[at]);
	m->rows->names[at] = *n;
}

void memo_add_name(struct memo *m, const struct name_row *n)
{
	bool only = m && n->object && m->rows->made == n->object;

	memo_drop_name(m, 0, n->object);
	if (only)
		memo_put_name(m, n, true);
}

void memo_update_name(struct memo *m, const struct name_row *n)
{
	const struct name_row *was = m ? &m->rows->names[n->object % NAMES] : NULL;

	if (was && was->id == n->id && was->object == n->object)
		memo_put_name(m, n, false);
	else
		memo_drop_name(m, n->id, n->object);
}

void memo_drop_name(struct memo *m, uint64_t id, uint64_t object)
{
	if (m && m->rows->made == object)
		m->rows->made = 0;
	for (size_t i = 0; m && i < NAMES; i++)
		if (m->rows->names[i].id == id || m->rows->names[i].object == object)
			m->rows->names[i].id = 0;
}

/* --- stores --- */

bool memo_store(const struct memo *m, uint64_t id, struct store_row *out)
{
	if (!m || !id || m->rows->stores[id % STORES].id != id)
		return false;
	*out = m->rows->stores[id % STORES];
	return true;
}

void memo_put_store(struct memo *m, const struct store_row *s)
{
	if (m)
		m->rows->stores[s->id % STORES] = *s;
}

void memo_drop_stores(struct memo *m)
{
	for (size_t i = 0; m && i < STORES; i++)
		m->rows->stores[i].id = 0;
}

/* --- content --- */

bool memo_map(const struct memo *m, uint64_t id, struct content_map *out)
{
	if (!m || !id || m->rows->maps[id % MAPS].id != id)
		return false;
	*out = m->rows->maps[id % MAPS];
	return true;
}

void memo_put_map(struct memo *m, const struct content_map *c)
{
	if (!m)
		return;
	m->rows->maps[c->id % MAPS] = *c;
	m->rows->maps[c->id % MAPS].whole = content_map_is_whole(c);
}

void memo_update_map(struct memo *m, const struct content_map *c)
{
	struct content_map is = *c, was;

	if (!memo_map(m, c->id, &was))
		return;
	is.pinned = was.pinned;
	memo_put_map(m, &is);
}

void memo_drop_map(struct memo *m, uint64_t id)
{
	if (m && m->rows->maps[id % MAPS].id == id)
		m->rows->maps[id % MAPS].id = 0;
}

bool memo_blob(const struct memo *m, uint64_t id, struct content_blob *out)
{
	if (!m || !id || m->rows->blobs[id % BLOBS].id != id)
		return false;
	*out = m->rows->blobs[id % BLOBS];
	return true;
}

void memo_put_blob(struct memo *m, const struct content_blob *b)
{
	if (m)
		m->rows->blobs[b->id % BLOBS] = *b;
}

void memo_drop_blob(struct memo *m, uint64_t id)
{
	if (m && m->rows->blobs[id % BLOBS].id == id)
		m->rows->blobs[id % BLOBS].id = 0;
}

/* --- the journal --- */

static struct op_row *op_of(const struct memo *m, uint64_t store, const char *rid)
{
	for (size_t i = 0; m && *rid && i < OPS; i++)
		if (m->rows->ops[i].store == store && !strcmp(m->rows->ops[i].rid.text, rid))
			return &m->rows->ops[i];
	return NULL;
}

bool memo_op_of(const struct memo *m, uint64_t store, const char *rid, struct op_row *out)
{
	const struct op_row *op = op_of(m, store, rid);

	if (op)
		*out = *op;
	return op;
}

bool memo_op(const struct memo *m, uint64_t seq, struct op_row *out)
{
	for (size_t i = 0; m && seq && i < OPS; i++)
		if (m->rows->ops[i].seq == seq) {
			*out = m->rows->ops[i];
			return true;
		}
	return false;
}

void memo_put_op(struct memo *m, const struct op_row *op)
{
	struct op_row *at = op_of(m, op->store, op->rid.text);

	if (m && !at)
		at = &m->rows->ops[m->rows->op_hand++ % OPS];
	if (at)
		*at = *op;
}

void memo_add_op(struct memo *m, const struct op_row *op)
{
	struct op_row *at = op_of(m, op->store, op->rid.text);

	if (at && !at->seq)
		*at = *op;
	else
		memo_drop_op(m, op->seq, op->store, op->rid.text);
}

void memo_update_op(struct memo *m, const struct op_row *op)
{
	struct op_row *at = op_of(m, op->store, op->rid.text);

	if (at && at->seq == op->seq)
		*at = *op;
	else
		memo_drop_op(m, op->seq, op->store, op->rid.text);
}

void memo_drop_op(struct memo *m, uint64_t seq, uint64_t store, const char *rid)
{
	for (size_t i = 0; m && i < OPS; i++) {
		struct op_row *op = &m->rows->ops[i];

		if (op->seq == seq || (op->store == store && !strcmp(op->rid.text, rid)))
			*op = (struct op_row){ 0 };
	}
}
